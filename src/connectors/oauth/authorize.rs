//! The authorization of a person: where to send a browser, and what it brings back.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oauth2::basic::BasicClient;
use oauth2::{AuthUrl, ClientId, CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope};
use url::{Url, form_urlencoded};

use super::{Client, Grant};
use crate::connectors::text;
use crate::model::{Secret, Timestamp};
use crate::signature::same;

/// How long a person has to authorize.
pub const PENDING_FOR: Duration = Duration::from_secs(600);

/// Longest query that is read of a browser that comes back.
const QUERY_BYTES_MAX: usize = 16 * 1024;

/// An authorization that was begun. Stored (sealed) until the browser comes back.
#[derive(Clone)]
pub struct Pending {
    /// What ties the browser that comes back to the one that left.
    pub state: Secret,
    /// The PKCE verifier.
    pub verifier: Option<Secret>,
    /// Until when it counts.
    pub until: Timestamp,
}

/// Why a browser that comes back brings no authorization.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizeError {
    /// It belongs to no authorization that was begun here.
    #[error(
        "this answer belongs to no authorization that is under way: it was used already, another one was begun since, or Kurier was \
         started anew meanwhile. Begin again: POST /api/v1/destinations/NAME/authorize gives a new address for the browser"
    )]
    Foreign,
    /// It comes too late.
    #[error(
        "the authorization took longer than ten minutes. Begin again: POST /api/v1/destinations/NAME/authorize gives a new address for the \
         browser"
    )]
    Late,
    /// The person, or the server, said no.
    #[error("the authorization was refused: {0}")]
    Refused(String),
    /// There is no code.
    #[error("the authorization server sent no code")]
    NoCode,
}

impl Client {
    /// Where to send the browser of the person who authorizes, and what to remember until it comes back. `random` is used
    /// for nothing else.
    ///
    /// # Errors
    /// When the settings name no address for it.
    pub fn authorize(&self, random: &[u8; 64], now: Timestamp) -> Result<(Url, Pending), &'static str> {
        let url = self.authorize_url.clone().ok_or("the settings name no address where a person authorizes")?;
        let redirect = self.redirect_url.clone().ok_or("the settings name no `redirect_path`")?;
        let (state, verifier) = random.split_at(32);
        let (state, verifier) = (URL_SAFE_NO_PAD.encode(state), URL_SAFE_NO_PAD.encode(verifier));
        let client = BasicClient::new(ClientId::new(self.id.clone()))
            .set_auth_uri(AuthUrl::from_url(url))
            .set_redirect_uri(RedirectUrl::from_url(redirect));
        let mut request = client.authorize_url(|| CsrfToken::new(state.clone())).add_scopes(self.scopes.iter().cloned().map(Scope::new));
        let mut kept = None;
        if self.pkce {
            // 32 bytes are 43 characters, the fewest that the standard allows.
            let secret = PkceCodeVerifier::new(verifier.clone());
            request = request.set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&secret));
            kept = Some(Secret::new(verifier.into_bytes()));
        }
        let (url, _state) = request.url();
        Ok((url, Pending { state: Secret::new(state.into_bytes()), verifier: kept, until: now.saturating_add(PENDING_FOR) }))
    }
}

impl Pending {
    /// The grant that the browser's query brings. The caller forgets the authorization first: it counts once.
    ///
    /// # Errors
    /// Why there is none.
    pub fn complete(&self, query: &[u8], now: Timestamp) -> Result<Grant, AuthorizeError> {
        if query.len() > QUERY_BYTES_MAX {
            return Err(AuthorizeError::Foreign);
        }
        let value = |name: &str| {
            let mut values = form_urlencoded::parse(query).filter(|(known, _)| known == name).map(|(_, value)| value.into_owned());
            values.next().filter(|_| values.next().is_none())
        };
        // The state first: what anybody may send says nothing about this authorization.
        if !value("state").is_some_and(|state| same(self.state.expose(), state.as_bytes())) {
            return Err(AuthorizeError::Foreign);
        }
        if now > self.until {
            return Err(AuthorizeError::Late);
        }
        if let Some(error) = value("error") {
            let detail = value("error_description").map(|detail| format!(", {}", text::quoted(&detail))).unwrap_or_default();
            return Err(AuthorizeError::Refused(format!("{}{detail}", text::quoted(&error))));
        }
        let code = value("code").filter(|code| !code.is_empty()).ok_or(AuthorizeError::NoCode)?;
        Ok(Grant::Code { code: Secret::new(code.into_bytes()), verifier: self.verifier.clone() })
    }
}
