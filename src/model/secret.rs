//! Secrets that no log, dump or answer can show.

use zeroize::Zeroizing;

/// Secret bytes. It has no `Debug`, no `Display` and no `Serialize`, so it can't slip into an output (I9);
/// its memory is cleared when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes these bytes into safe keeping.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for whoever computes with them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Trust and identity of a destination, as PEM bytes that were read and checked with the configuration.
#[derive(Clone)]
pub struct ClientTls {
    /// Certificates of the authorities trusted instead of the system's.
    pub ca: Option<Vec<u8>>,
    /// Our certificate chain and key, one after the other.
    pub identity: Option<Secret>,
}
