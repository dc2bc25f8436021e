//! The sample downstream: an application as a user would write it. It checks the Standard Webhooks signature of
//! every delivery, knows an event that it has seen, and refuses the first attempt of each invoice, so that a
//! retry is to be seen.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::journey::Printer;
use super::samples::Secrets;
use crate::clock::{Clock, SystemClock};
use crate::document;
use crate::model::{Inbound, Secret};
use crate::server;
use crate::signature::{KeyMaterial, SecretSource, Verifier};

/// The largest delivery it takes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A running downstream.
pub(super) struct Downstream {
    address: SocketAddr,
    application: Arc<Application>,
    stop: watch::Sender<bool>,
    task: JoinHandle<server::Stopped>,
}

struct Application {
    verifier: Verifier,
    printer: Arc<Printer>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    refused_once: BTreeSet<String>,
    accepted: BTreeSet<String>,
}

struct OneSecret<'a>(&'a str);

impl SecretSource for OneSecret<'_> {
    fn secret(&mut self, _node: &document::Node, _path: &str) -> Option<KeyMaterial> {
        Some(KeyMaterial { secret: Secret::new(self.0.as_bytes().to_vec()), not_after: None })
    }
}

impl Downstream {
    pub(super) async fn start(secrets: &Secrets, printer: Arc<Printer>) -> anyhow::Result<Self> {
        let scheme =
            document::parse("{ preset: standard-webhooks, secrets: [{ env: SIGNING }] }").map_err(|problems| anyhow!("{problems:?}"))?;
        let mut problems = Vec::new();
        let verifier = Verifier::compile(&scheme, "downstream", &mut OneSecret(&secrets.signing), &mut problems)
            .with_context(|| format!("compiling the downstream's scheme: {problems:?}"))?;
        let application = Arc::new(Application { verifier, printer, seen: Mutex::default() });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("opening the downstream's port")?;
        let address = listener.local_addr().context("the downstream's address")?;
        let (stop, mut stopped) = watch::channel(false);
        let stopped = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
        let service = tower::service_fn({
            let application = application.clone();
            move |request| {
                let application = application.clone();
                async move { Ok::<_, Infallible>(application.handle(request).await) }
            }
        });
        let task =
            tokio::spawn(server::serve(listener, service, Arc::new(ArcSwap::from_pointee(server::ServeOptions::default())), stopped));
        Ok(Self { address, application, stop, task })
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How many distinct events it has accepted.
    pub(super) fn accepted(&self) -> usize {
        self.application.seen.lock().accepted.len()
    }

    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        // A connection that lingers must not keep the demo from ending.
        drop(tokio::time::timeout(Duration::from_secs(2), self.task).await);
    }
}

impl Application {
    async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let status = match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => self.receive(&head, body.to_bytes()).await,
            Err(_) => StatusCode::BAD_REQUEST,
        };
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        response
    }

    async fn receive(&self, head: &http::request::Parts, body: Bytes) -> StatusCode {
        let path = head.uri.path();
        let id = head.headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        let now = SystemClock.now();
        let inbound = Inbound {
            method: head.method.clone(),
            target: Bytes::copy_from_slice(path.as_bytes()),
            base: Arc::from("http://downstream"),
            headers: head.headers.clone(),
            body,
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            received_at: now,
        };
        let (status, meaning) = if self.verifier.verify(inbound, now).is_err() {
            (StatusCode::UNAUTHORIZED, "the signature is wrong")
        } else {
            let mut seen = self.seen.lock();
            let invoice = head.headers.get("kurier-route").is_some_and(|route| route == "invoices");
            if invoice && seen.refused_once.insert(id.clone()) {
                (StatusCode::SERVICE_UNAVAILABLE, "out of order just now: to be tried again")
            } else if seen.accepted.insert(id) {
                (StatusCode::OK, "delivered, signature checked")
            } else {
                (StatusCode::OK, "delivered again, known by its webhook-id")
            }
        };
        self.printer.turn().await.attempted(path, &head.headers, status.as_u16(), meaning);
        status
    }
}
