//! A small HTTP server with a script of troubles.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request as received.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The values of a query or a form in UTF-8.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.query.as_bytes()).find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }

    pub(crate) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: vec![], body: vec![] }
    }

    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self { status, headers: vec![("content-type", "application/json".to_owned())], body: body.to_string().into_bytes() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// This is answered; nothing happens.
    Instead(Answer),
    /// It happens, and this is answered all the same.
    Lie(Answer),
    /// It happens, and the answer is lost.
    LoseAnswer,
    /// Nothing happens, and nobody answers.
    Hang,
}

/// A running server. It ends with this value.
pub(crate) struct Simulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    troubles: Mutex<VecDeque<Trouble>>,
    calls: Mutex<Vec<Call>>,
    handle: Box<dyn Fn(&Call) -> Answer + Send + Sync>,
}

impl Simulator {
    pub(crate) async fn start(handle: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { troubles: Mutex::default(), calls: Mutex::default(), handle: Box::new(handle) });
        let served = shared.clone();
        let task = tokio::spawn(async move {
            // With the server its connections end too.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = served.clone();
                connections.spawn(async move {
                    let service = service_fn(|request| shared.answer(request));
                    // A connection that breaks is part of the game.
                    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { address, shared, task }
    }

    pub(crate) fn url(&self, path: &str) -> url::Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }

    /// The next requests meet these troubles, one each.
    pub(crate) fn trouble(&self, troubles: impl IntoIterator<Item = Trouble>) {
        self.shared.troubles.lock().extend(troubles);
    }

    /// No trouble is left.
    pub(crate) fn calm(&self) {
        self.shared.troubles.lock().clear();
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().clone()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, &'static str> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_error| "the request broke off")?.to_bytes();
        let call = Call {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers,
            body,
        };
        self.calls.lock().push(call.clone());
        let trouble = self.troubles.lock().pop_front();
        let answer = match trouble {
            None => (self.handle)(&call),
            Some(Trouble::Instead(answer)) => answer,
            Some(Trouble::Lie(answer)) => {
                (self.handle)(&call);
                answer
            }
            Some(Trouble::LoseAnswer) => {
                (self.handle)(&call);
                return Err("the answer is lost");
            }
            Some(Trouble::Hang) => std::future::pending().await,
        };
        let mut response = Response::builder().status(answer.status);
        for (name, value) in answer.headers {
            response = response.header(name, value);
        }
        Ok(response.body(Full::new(answer.body.into())).unwrap())
    }
}
