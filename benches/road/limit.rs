//! The limits: the same server with less behind it. (a) answers at once; (b) checks one HMAC and waits for one
//! raw append + fdatasync, which it shares with whoever came meanwhile.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;

use anyhow::Context;
use arc_swap::ArcSwap;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use kurier::server::{self, ServeOptions};
use sha2::Sha256;
use tokio::sync::oneshot;

use crate::load::{SECRET, SIGNATURE_HEADER};

/// The file (b) appends to, over and over.
const FILE_BYTES: usize = 256 * 1024 * 1024;
const PAGE: usize = 4096;

/// Serves `bare` or `raw` until the process is ended, and says on standard output where.
pub(crate) async fn serve(kind: &str) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let mut out = std::io::stdout();
    let appender = match kind {
        "raw" => Some(Appender::start(std::env::var_os("BENCH_FOLDER").context("BENCH_FOLDER")?.into())?),
        _ => None,
    };
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    let service = tower::service_fn(move |request| {
        let appender = appender.clone();
        async move { Ok::<_, Infallible>(answer(request, appender).await) }
    });
    server::serve(listener, service, Arc::new(ArcSwap::from_pointee(ServeOptions::default())), std::future::pending()).await;
    Ok(())
}

async fn answer(request: Request<Incoming>, appender: Option<Appender>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return status(StatusCode::BAD_REQUEST) };
    let body = body.to_bytes();
    if let Some(appender) = appender {
        let signature = head.headers.get(SIGNATURE_HEADER).map(|value| value.as_bytes()).unwrap_or_default();
        if !is_genuine(signature, &body) {
            return status(StatusCode::UNAUTHORIZED);
        }
        if appender.append(body).await.is_none() {
            return status(StatusCode::SERVICE_UNAVAILABLE);
        }
    }
    status(StatusCode::OK)
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// `t=…,v1=…` by hand: the least that any server must do.
fn is_genuine(header: &[u8], body: &[u8]) -> bool {
    let Some(at) = header.windows(4).position(|four| four == b",v1=") else { return false };
    let mut given = [0; 32];
    let (time, hexed) = (&header[2..at], &header[at + 4..]);
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(SECRET) else { return false };
    mac.update(time);
    mac.update(b".");
    mac.update(body);
    hex::decode_to_slice(hexed, &mut given).is_ok() && mac.verify_slice(&given).is_ok()
}

/// One thread that writes and syncs whatever has queued up, then wakes everybody it was for.
#[derive(Clone)]
struct Appender(mpsc::Sender<(Bytes, oneshot::Sender<()>)>);

impl Appender {
    fn start(folder: PathBuf) -> anyhow::Result<Self> {
        let file = File::options().write(true).create(true).truncate(true).open(folder.join("raw"))?;
        let zeros = vec![0; 1024 * 1024];
        for at in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, at as u64)?;
        }
        file.sync_all()?;
        let (sender, queue) = mpsc::channel::<(Bytes, oneshot::Sender<()>)>();
        std::thread::spawn(move || {
            let (mut at, mut buffer, mut waiting) = (0, Vec::new(), Vec::new());
            while let Ok((body, waiter)) = queue.recv() {
                buffer.clear();
                buffer.extend_from_slice(&body);
                waiting.push(waiter);
                while let Ok((body, waiter)) = queue.try_recv() {
                    buffer.extend_from_slice(&body);
                    waiting.push(waiter);
                }
                buffer.resize(buffer.len().next_multiple_of(PAGE), 0);
                if at + buffer.len() > FILE_BYTES {
                    at = 0;
                }
                if file.write_all_at(&buffer, at as u64).and_then(|()| file.sync_data()).is_err() {
                    waiting.clear();
                    continue;
                }
                at += buffer.len();
                for waiter in waiting.drain(..) {
                    // Whoever does not wait any more needs no answer.
                    let _gone = waiter.send(());
                }
            }
        });
        Ok(Self(sender))
    }

    async fn append(&self, body: Bytes) -> Option<()> {
        let (waiter, done) = oneshot::channel();
        self.0.send((body, waiter)).ok()?;
        done.await.ok()
    }
}
