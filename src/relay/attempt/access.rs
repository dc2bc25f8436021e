//! Credentials: put in at send time, and made anew once where the destination refuses them.

use std::future::ready;

use futures_util::FutureExt as _;
use futures_util::future::Either;
use http::StatusCode;
use http::header::AUTHORIZATION;

use super::{Exchanged, Tools, unsendable};
use crate::config::{Auth, Destination};
use crate::connectors::{self, bearer};
use crate::egress::{Fault, Outbound, Reply};
use crate::model::Secret;
use crate::tokens::{NoToken, Remedy, Who};

/// Makes a request with the destination's own `auth`. What it returns holds nothing of the request, which is in the
/// transport's hands by then.
pub(super) fn send<'t>(
    tools: &'t Tools,
    destination: &'t Destination,
    mut request: Outbound,
) -> impl Future<Output = Exchanged> + Send + 't {
    let headers = match &destination.auth {
        None => Ok(Vec::new()),
        Some(Auth::OAuth2(client)) => {
            let who = Who { name: &destination.name, client, by_client: true, refresh: None };
            let with_token = with_token(tools, who, move |access| {
                let mut request = request.clone();
                let bearer = bearer(access).map_err(|_error| unsendable("the access token can't stand in a header"))?;
                request.headers.insert(AUTHORIZATION, bearer);
                Ok(request)
            });
            return Either::Left(Box::pin(with_token));
        }
        Some(auth) => auth.headers(),
    };
    let sending = match headers {
        Ok(headers) => {
            for (name, value) in headers {
                request.headers.insert(name, value);
            }
            tools.transport.send(request)
        }
        Err(_invalid) => Box::pin(ready(Err(unsendable("a secret of `auth` holds bytes that no header can carry")))),
    };
    Either::Right(sending.map(Exchanged::plain))
}

/// Makes a request with an access token; a 401 is asked again at once with a fresh one.
pub(super) async fn with_token(tools: &Tools, who: Who<'_>, request: impl Fn(&Secret) -> Result<Outbound, Fault>) -> Exchanged {
    let mut refused: Option<Result<Reply, Fault>> = None;
    for _ in 0..2 {
        let access = match tools.tokens.access(who).await {
            Ok(access) => access,
            Err(no_token) => return denied(no_token),
        };
        let request = match request(&access) {
            Ok(request) => request,
            Err(fault) => return Exchanged::plain(Err(fault)),
        };
        let result = tools.transport.send(request).await;
        if !matches!(&result, Ok(reply) if reply.status == StatusCode::UNAUTHORIZED) {
            return Exchanged::plain(result);
        }
        tools.tokens.refused(who, &access).await;
        refused = Some(result);
    }
    Exchanged::plain(refused.unwrap_or_else(|| Err(unsendable("no request was made"))))
}

/// There is no token: no request is made.
fn denied(NoToken { remedy, reason }: NoToken) -> Exchanged {
    let verdict = match remedy {
        Remedy::Wait(after) => connectors::Verdict::Retry { after },
        Remedy::Settings | Remedy::Authorize => connectors::Verdict::Pause,
    };
    let outcome = connectors::Outcome { verdict, reason: reason.clone() };
    Exchanged { must_authorize: remedy == Remedy::Authorize, judged: Some(outcome), ..Exchanged::plain(Err(unsendable(reason))) }
}
