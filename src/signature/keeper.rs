//! Keys that a scheme does not hold itself: which one a request wants, and who keeps them.
//!
//! This room does no IO. It asks a [`KeyKeeper`] for what it has; whoever keeps the keys fetches them before,
//! outside of any lock of the way in.

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::Timestamp;

/// Which key a request asks for. A url in it has been checked: `https`, a host that the scheme allows, no port,
/// no user, nothing that would be read as another url by another parser.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WantedKey {
    /// What stands at this url.
    Url(Box<str>),
    /// The key of this id in the JSON Web Key Set at this url.
    InSet {
        /// Where the set is.
        url: Box<str>,
        /// The key's id: printable ASCII, at most 256 bytes.
        id: Box<str>,
    },
    /// The key of this id from a source of the configuration.
    Named {
        /// The source's name in `key_sources`.
        source: Box<str>,
        /// The key's id: printable ASCII, at most 256 bytes.
        id: Box<str>,
    },
}

impl WantedKey {
    /// Whether the fetched text has the key: a set may not know it yet.
    pub fn is_in(&self, text: &[u8]) -> bool {
        match self {
            Self::Url(_) | Self::Named { .. } => true,
            Self::InSet { id, .. } => super::jwk::Jwk::of_set(text, id.as_bytes()).is_some(),
        }
    }
}

/// What is known of a key now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyState {
    /// Its text: a certificate, a key, or the set that it is looked for in.
    Known(Bytes),
    /// Its source says that there is no such key.
    Unknown,
    /// It has not been fetched, or can't be just now.
    Unavailable,
}

/// Keeps fetched keys. Looking never waits; fetching may.
#[async_trait]
pub trait KeyKeeper: Send + Sync + 'static {
    /// What is known of this key.
    fn look(&self, wanted: &WantedKey) -> KeyState;

    /// Sees to it that what can be known of this key is known, within the keeper's own time limit.
    async fn fetch(&self, wanted: &WantedKey);
}

/// Keeps no keys: for schemes that hold their own.
pub struct NoKeys;

#[async_trait]
impl KeyKeeper for NoKeys {
    fn look(&self, _wanted: &WantedKey) -> KeyState {
        KeyState::Unavailable
    }

    async fn fetch(&self, _wanted: &WantedKey) {}
}

/// What a verdict depends on beside the request.
#[derive(Clone, Copy)]
pub(super) struct Context<'k> {
    /// Without a time, neither the age of a signature nor that of a key is looked at.
    pub(super) now: Option<Timestamp>,
    pub(super) keys: &'k dyn KeyKeeper,
}
