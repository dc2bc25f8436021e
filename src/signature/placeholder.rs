//! Stand-ins for what is built in the signature room.

use base64::Engine as _;

use super::Verifier;
use crate::model::{Inbound, Timestamp};

impl Verifier {
    /// The draft, completed so that this verifier takes it.
    ///
    /// # Errors
    /// Why this scheme can't be signed for.
    pub fn sample(&self, draft: Inbound, now: Timestamp) -> Result<Inbound, String> {
        let _ = now;
        Ok(draft)
    }
}

/// A fresh signing secret.
///
/// # Errors
/// The system's random numbers can't be had.
pub fn new_signing_secret() -> Result<String, String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(bytes)))
}
