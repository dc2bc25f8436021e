//! OAuth2 as pure pieces: requests for tokens, what their answers mean, when to renew, and the authorization of a person
//! with state and PKCE.
//!
//! A refresh token may be used once only, and its successor comes in the answer. So the order is always: commit
//! [`Session::begun`], make the request, commit [`Session::obtained`], and only then use the access token. One refresher
//! at a time; the bytes that are stored are sealed by the store.

mod authorize;
mod session;

use std::cell::RefCell;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method};
use oauth2::basic::{BasicClient, BasicErrorResponse, BasicErrorResponseType, BasicTokenResponse};
use oauth2::{
    AuthType, AuthorizationCode, ClientId, ClientSecret, HttpRequest, HttpResponse, PkceCodeVerifier, RedirectUrl, RefreshToken,
    RequestTokenError, Scope, TokenResponse as _, TokenUrl,
};
use url::{Url, form_urlencoded};

pub use authorize::{AuthorizeError, PENDING_FOR, Pending};
pub use session::{LIFETIME_DEFAULT, Next, SESSION_BYTES_MAX, Session, Tokens};

use crate::connectors::{JSON, Reply, Request, text};
use crate::model::{Secret, Timestamp};

/// Longest token.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// How the body of a token request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenFormat {
    /// As the standard has it.
    #[default]
    Form,
    /// As some vendors have it.
    Json,
}

/// How the client shows who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// Id and secret stand in the body.
    #[default]
    Body,
    /// They stand in `Authorization: Basic`.
    Basic,
}

/// A client registered with an authorization server.
#[derive(Clone)]
pub struct Client {
    /// Where tokens are had.
    pub token_url: Url,
    /// Where a person authorizes; for that grant only.
    pub authorize_url: Option<Url>,
    /// Where that person comes back to.
    pub redirect_url: Option<Url>,
    /// The client's id.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
    /// What it asks for.
    pub scopes: Vec<String>,
    /// How the body of a token request is written.
    pub format: TokenFormat,
    /// How the client shows who it is.
    pub auth: ClientAuth,
    /// Whether codes are bound to us by PKCE; a server that does not know it ignores it.
    pub pkce: bool,
}

/// What is traded for tokens.
#[derive(Clone)]
pub enum Grant {
    /// The client's own credentials.
    ClientCredentials,
    /// A code that a person's authorization brought.
    Code {
        /// The code.
        code: Secret,
        /// The PKCE verifier.
        verifier: Option<Secret>,
    },
    /// A refresh token.
    Refresh(Secret),
}

/// Why there are no tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFailure {
    /// To be tried again. A refresh token may have been used up all the same; the next attempt will tell.
    Later {
        /// How long to wait at least.
        after: Option<Duration>,
        /// One line for the operator.
        reason: String,
    },
    /// A person must authorize again.
    Renew {
        /// One line for the operator.
        reason: String,
    },
    /// The settings are wrong.
    Refused {
        /// One line for the operator.
        reason: String,
    },
}

/// Stands in for the network while the library builds a request.
#[derive(Debug, thiserror::Error)]
#[error("the request is built, not sent")]
struct Unsent;

type Answer = Result<BasicTokenResponse, RequestTokenError<Unsent, BasicErrorResponse>>;

impl Client {
    /// The request for tokens. It holds credentials.
    ///
    /// # Errors
    /// Why there is none.
    pub fn request(&self, grant: &Grant) -> Result<Request, String> {
        let built = RefCell::new(None);
        // The library only offers to send: it is given a network that keeps what it should send.
        let kept = self.exchange(grant, &|request: HttpRequest| {
            built.replace(Some(request));
            Err(Unsent)
        });
        let request = built.into_inner().ok_or_else(|| match kept {
            Some(_) => "the token request can't be built".to_owned(),
            None => "the client's id, secret or token is not text".to_owned(),
        })?;
        let (head, body) = request.into_parts();
        let mut headers: HeaderMap = head.headers;
        for (name, value) in &mut headers {
            value.set_sensitive(name == http::header::AUTHORIZATION);
        }
        let body = match self.format {
            TokenFormat::Form => body,
            TokenFormat::Json => {
                headers.insert(CONTENT_TYPE, JSON);
                let pairs = form_urlencoded::parse(&body).map(|(name, value)| (name.into_owned(), value.into_owned().into()));
                serde_json::Value::Object(pairs.collect()).to_string().into_bytes()
            }
        };
        Ok(Request { method: Method::POST, url: self.token_url.clone(), headers, body: body.into() })
    }

    /// The tokens in the answer to [`request`](Self::request), received at `now`.
    ///
    /// # Errors
    /// Why there are none.
    pub fn tokens(&self, grant: &Grant, reply: &Reply<'_>, now: Timestamp) -> Result<Tokens, TokenFailure> {
        let status = reply.status.as_u16();
        let answer = self.exchange(grant, &|_request| {
            let mut response = HttpResponse::new(reply.body.to_vec());
            // Some vendors answer 201, and the library wants 200.
            *response.status_mut() = if status == 201 { http::StatusCode::OK } else { reply.status };
            Ok(response)
        });
        let failed = |what: &str| format!("the authorization server {what} ({status})");
        let error = match answer {
            Some(Ok(tokens)) => return self.read(&tokens, grant, now),
            Some(Err(error)) => error,
            None => return Err(TokenFailure::Refused { reason: "the client's id, secret or token is not text".to_owned() }),
        };
        let personal = match grant {
            Grant::ClientCredentials => false,
            Grant::Code { .. } | Grant::Refresh(_) => true,
        };
        if let RequestTokenError::ServerResponse(said) = &error
            && !(500..=599).contains(&status)
        {
            let detail = said.error_description().map(|detail| format!(": {}", text::quoted(detail))).unwrap_or_default();
            let reason =
                text::line(&format!("{}{}", failed(&format!("says `{}`", text::quoted(said.error().as_ref()))), self.clean(&detail)));
            return Err(match said.error() {
                BasicErrorResponseType::InvalidGrant if personal => TokenFailure::Renew { reason },
                BasicErrorResponseType::Extension(word)
                    if ["temporarily_unavailable", "server_error", "slow_down"].contains(&word.as_str()) =>
                {
                    TokenFailure::Later { after: None, reason }
                }
                BasicErrorResponseType::InvalidGrant
                | BasicErrorResponseType::InvalidClient
                | BasicErrorResponseType::InvalidRequest
                | BasicErrorResponseType::InvalidScope
                | BasicErrorResponseType::UnauthorizedClient
                | BasicErrorResponseType::UnsupportedGrantType
                | BasicErrorResponseType::Extension(_) => TokenFailure::Refused { reason },
            });
        }
        Err(match status {
            400 | 401 | 403 if personal => TokenFailure::Renew { reason: failed("refuses the grant") },
            400 | 401 | 403 | 422 => TokenFailure::Refused { reason: failed("refuses the client: check its id, secret and scopes") },
            _ => TokenFailure::Later { after: wait(reply.headers), reason: failed("gives no tokens") },
        })
    }

    fn read(&self, said: &BasicTokenResponse, grant: &Grant, now: Timestamp) -> Result<Tokens, TokenFailure> {
        let later = |reason: &str| TokenFailure::Later { after: None, reason: reason.to_owned() };
        if said.token_type().as_ref() != "bearer" {
            return Err(TokenFailure::Refused { reason: "the authorization server gives tokens of another type than Bearer".to_owned() });
        }
        let fits = |token: &str| !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
        let access = said.access_token().secret();
        if !fits(access) {
            return Err(later("the authorization server gives an empty or endless token"));
        }
        let fresh = said.refresh_token().map(|token| token.secret()).filter(|token| fits(token));
        let refresh = match (fresh, grant) {
            (Some(token), _) => Some(Secret::new(token.clone().into_bytes())),
            // A server that gives no new one lets the old one count on.
            (None, Grant::Refresh(old)) => Some(old.clone()),
            (None, Grant::ClientCredentials | Grant::Code { .. }) => None,
        };
        Ok(Tokens::new(Secret::new(access.clone().into_bytes()), refresh, now, said.expires_in()))
    }

    /// Runs one exchange of the library over this network. `None` when a credential is not UTF-8.
    fn exchange(&self, grant: &Grant, network: &dyn Fn(HttpRequest) -> Result<HttpResponse, Unsent>) -> Option<Answer> {
        let text = |secret: &Secret| String::from_utf8(secret.expose().to_vec()).ok();
        let client = BasicClient::new(ClientId::new(self.id.clone()))
            .set_client_secret(ClientSecret::new(text(&self.secret)?))
            .set_auth_type(match self.auth {
                ClientAuth::Body => AuthType::RequestBody,
                ClientAuth::Basic => AuthType::BasicAuth,
            })
            .set_token_uri(TokenUrl::from_url(self.token_url.clone()));
        let scopes = || self.scopes.iter().cloned().map(Scope::new);
        let network = &network;
        Some(match grant {
            Grant::ClientCredentials => client.exchange_client_credentials().add_scopes(scopes()).request(network),
            Grant::Refresh(token) => client.exchange_refresh_token(&RefreshToken::new(text(token)?)).request(network),
            Grant::Code { code, verifier } => {
                let client = match &self.redirect_url {
                    Some(url) => client.set_redirect_uri(RedirectUrl::from_url(url.clone())),
                    None => client,
                };
                let mut exchange = client.exchange_code(AuthorizationCode::new(text(code)?));
                if let Some(verifier) = verifier {
                    exchange = exchange.set_pkce_verifier(PkceCodeVerifier::new(text(verifier)?));
                }
                exchange.request(network)
            }
        })
    }

    fn clean(&self, detail: &str) -> String {
        String::from_utf8_lossy(&text::scrub(detail.as_bytes(), &[&self.secret])).into_owned()
    }
}

/// `Retry-After` in whole seconds.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
