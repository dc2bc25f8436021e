//! The headers that configured credentials become.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, InvalidHeaderValue};
use http::{HeaderName, HeaderValue};

use super::Auth;
use crate::model::Secret;

impl Auth {
    /// The headers, marked as sensitive; none for `oauth2`, whose token is asked for when it is needed.
    ///
    /// # Errors
    /// When a secret holds bytes that no header can carry; the check of the configuration refuses such.
    pub fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidHeaderValue> {
        let secret = |bytes: &[u8]| {
            let mut value = HeaderValue::from_bytes(bytes)?;
            value.set_sensitive(true);
            Ok(value)
        };
        match self {
            Self::Bearer(token) => Ok(vec![(AUTHORIZATION, secret(&[b"Bearer ", token.expose()].concat())?)]),
            Self::Basic { user, password } => {
                let credentials = Secret::new([user.expose(), b":", password.expose()].concat());
                Ok(vec![(AUTHORIZATION, secret(format!("Basic {}", STANDARD.encode(credentials.expose())).as_bytes())?)])
            }
            Self::Headers(pairs) => pairs.iter().map(|(name, value)| Ok((name.clone(), secret(value.expose())?))).collect(),
            Self::OAuth2(_) => Ok(Vec::new()),
        }
    }
}
