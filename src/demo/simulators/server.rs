//! A small HTTP server that remembers what it was asked, with a script of troubles.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

/// A request as received.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// What stands behind the `?`.
    pub query: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Call {
    /// A header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The values of a query or a form in UTF-8.
    pub fn value(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.query.as_bytes()).find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }

    /// The body, where it is JSON.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Nothing but a status.
    pub fn status(status: u16) -> Self {
        Self { status, headers: vec![], body: vec![] }
    }

    /// A JSON text.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self { status, headers: vec![("content-type", "application/json".to_owned())], body: body.to_string().into_bytes() }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// This is answered; nothing happens.
    Instead(Answer),
    /// It happens, and this is answered all the same.
    Lie(Answer),
    /// It happens, and the answer is lost.
    LoseAnswer,
    /// Nothing happens, and nobody answers.
    Hang,
}

/// Most calls that are remembered; a demo may run for days.
const CALLS_MAX: usize = 10_000;

/// A server that is asked without its port, for simulations whose clock is not the machine's. Clones ask the same one.
#[derive(Clone)]
pub struct Direct(Arc<Shared>);

impl Direct {
    /// What is answered; none where the answer is lost. Where nobody answers this never returns.
    pub async fn ask(&self, call: Call) -> Option<Answer> {
        self.0.take(call).await
    }
}

/// A running server. It ends with this value.
pub struct Simulator {
    base: Url,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    troubles: Mutex<VecDeque<Trouble>>,
    /// The last [`CALLS_MAX`], and what each was answered; none: nobody answered it.
    calls: Mutex<VecDeque<(Call, Option<u16>)>>,
    handle: Box<dyn Fn(&Call) -> Answer + Send + Sync>,
}

impl Simulator {
    /// Answers on a free port of loopback as `handle` says.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start(handle: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("opening a simulator's port")?;
        let base = Url::parse(&format!("http://{}", listener.local_addr().context("a simulator's address")?))?;
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
        Ok(Self { base, shared, task })
    }

    /// The address of one of its paths.
    pub fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    /// The same server without its port.
    pub fn direct(&self) -> Direct {
        Direct(self.shared.clone())
    }

    /// The next requests meet these troubles, one each.
    pub fn trouble(&self, troubles: impl IntoIterator<Item = Trouble>) {
        self.shared.troubles.lock().extend(troubles);
    }

    /// No trouble is left.
    pub fn calm(&self) {
        self.shared.troubles.lock().clear();
    }

    /// What it was asked.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().iter().map(|(call, _)| call.clone()).collect()
    }

    /// What it was asked, with the status that was answered, and forgets it.
    pub fn take_answered(&self) -> Vec<(Call, u16)> {
        let mut calls = self.shared.calls.lock();
        let answered = calls.iter().filter_map(|(call, status)| Some((call.clone(), (*status)?))).collect();
        calls.retain(|(_, status)| status.is_none());
        answered
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
        let answer = self.take(call).await.ok_or("the answer is lost")?;
        let mut response = Response::builder().status(answer.status);
        for (name, value) in answer.headers {
            response = response.header(name, value);
        }
        response.body(Full::new(answer.body.into())).map_err(|_error| "what is to be answered is no answer")
    }

    /// One request, with the trouble that it meets; none: its answer is lost.
    async fn take(&self, call: Call) -> Option<Answer> {
        let trouble = self.troubles.lock().pop_front();
        let hangs = matches!(trouble, Some(Trouble::Hang));
        let answer = match trouble {
            None => Some((self.handle)(&call)),
            Some(Trouble::Instead(answer)) => Some(answer),
            Some(Trouble::Lie(answer)) => {
                (self.handle)(&call);
                Some(answer)
            }
            Some(Trouble::LoseAnswer) => {
                (self.handle)(&call);
                None
            }
            Some(Trouble::Hang) => None,
        };
        {
            let mut calls = self.calls.lock();
            let surplus = (calls.len() + 1).saturating_sub(CALLS_MAX);
            calls.drain(..surplus);
            calls.push_back((call, answer.as_ref().map(|answer| answer.status)));
        }
        if hangs {
            std::future::pending::<()>().await;
        }
        answer
    }
}
