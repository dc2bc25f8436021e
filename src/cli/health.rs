//! `kurier health`: for a container's HEALTHCHECK and for scripts that wait.

use http::Method;

use super::Context;
use super::client::{Client, Remote};
use super::exit::{Exit, Failure};
use super::table::printable;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    // Readiness needs no token, so none is sent that wasn't given.
    let client = Client::new(args.remote, context, None)?;
    let (status, body) = client.call(Method::GET, &["readyz"], &[], None).await?;
    let line = printable(String::from_utf8_lossy(&body).trim(), false);
    if status.is_success() {
        context.out.line(line)?;
        return Ok(Exit::Done);
    }
    let reason: String = line.chars().take(200).collect();
    Err(Failure::failed(format!("not ready: {}", if reason.is_empty() { status.to_string() } else { reason })))
}
