//! The connectors' wire functions against the simulated systems, over real sockets.

mod bankintegration;
mod dvelop;
mod inpasy;
mod payjoe;
mod smartbusiness;

use std::time::Duration;

use kurier::connectors::{Reply, Request};
use kurier::egress::{Fault, HttpTransport, Outbound, Transport as _};
use kurier::model::{EventId, Secret};

/// Long enough for a busy machine, short enough for a hanging system.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Makes the request as an attempt does.
async fn send(request: Request) -> Result<kurier::egress::Reply, Fault> {
    send_within(request, TIMEOUT).await
}

async fn send_within(request: Request, timeout: Duration) -> Result<kurier::egress::Reply, Fault> {
    let Request { method, url, headers, body } = request;
    HttpTransport::new().unwrap().send(Outbound { method, url, headers, body, timeout, tls: None }).await
}

/// A reply as the connectors see it.
fn seen(reply: &kurier::egress::Reply) -> Reply<'_> {
    Reply { status: reply.status, headers: &reply.headers, body: &reply.body, truncated: reply.truncated }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn event() -> EventId {
    "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
}
