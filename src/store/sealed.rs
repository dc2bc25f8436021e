//! Sealed states: small secrets that Kurier obtains (tokens) and must not forget, encrypted before they are committed.
//!
//! A value is used only once it is durable: [`SealedStates::put`] returns then. Whoever trades a secret in for the next
//! one (a refresh token that counts once) commits the intent first ([`SealedStates::begin`]): after a crash in between
//! [`SealedStates::get`] tells it along with the old value. Intent and value are one state, so one never outlives the
//! other.
//!
//! It never removes what it can't open: with another key the values stay, and every error says what to do.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use bytes::{Buf, Bytes};
use zeroize::Zeroizing;

use super::{CommitError, ReadError, Store};
use crate::model::{Secret, Timestamp};

/// Longest secret that is sealed.
pub const SEALED_BYTES_MAX: usize = 64 * 1024;

/// Sealed states in the store are named so.
const PREFIX: &str = "sealed/";

/// The first byte of a value.
const VERSION: u8 = 1;

/// Version, mark of the key, intent.
const HEAD: usize = 1 + 8 + 8;

/// What is held under a name.
#[derive(Clone, Default)]
pub struct Sealed {
    /// The secret that was put last.
    pub secret: Option<Secret>,
    /// Since when somebody is about to replace it; none: nobody was. Found after a start, it says that the process
    /// ended in between: the secret may be used up.
    pub intent: Option<Timestamp>,
}

/// Why a sealed state can't be had or put.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SealedError {
    /// There is no key.
    #[error("`{name}` can't be kept without a key: set `store.key` in routes.yaml; `kurier secret new` makes one")]
    NoKey {
        /// The state's name.
        name: String,
    },
    /// It was sealed with another key.
    #[error(
        "`{name}` was sealed with another key than `store.key`: put the former key back, or authorize anew, which replaces the value; it \
         was left as it is"
    )]
    OtherKey {
        /// The state's name.
        name: String,
    },
    /// It can't be opened although the key is the right one.
    #[error("`{name}` can't be opened: it is damaged, of another store or of a newer version; authorize anew, which replaces the value")]
    Unreadable {
        /// The state's name.
        name: String,
    },
    /// It is too long.
    #[error("`{name}` is longer than {SEALED_BYTES_MAX} bytes")]
    TooLong {
        /// The state's name.
        name: String,
    },
    /// The library refused, which no input can make it do.
    #[error("`{name}` can't be sealed: the random source or the cipher failed")]
    Cipher {
        /// The state's name.
        name: String,
    },
    /// The store could not commit it. [`CommitError::Unknown`]: look again before anything follows from it.
    #[error("`{name}` is not stored: {error}")]
    Commit {
        /// The state's name.
        name: String,
        /// Why.
        error: CommitError,
    },
    /// The store could not be read.
    #[error("`{name}`: {error}")]
    Read {
        /// The state's name.
        name: String,
        /// Why.
        error: ReadError,
    },
}

/// What a key seals with, and what tells it from others.
struct Key {
    cipher: RandomizedNonceKey,
    mark: [u8; 8],
}

/// Lengths for the key derivation.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    /// Two values that say nothing about each other nor about the setting.
    fn new(setting: &Secret) -> Option<Self> {
        let (mut cipher, mut mark) = (Zeroizing::new([0; 32]), [0; 8]);
        let random = Salt::new(HKDF_SHA256, b"kurier sealed states").extract(setting.expose());
        random.expand(&[b"cipher"], Length(32)).ok()?.fill(cipher.as_mut_slice()).ok()?;
        random.expand(&[b"mark"], Length(8)).ok()?.fill(&mut mark).ok()?;
        Some(Self { cipher: RandomizedNonceKey::new(&AES_256_GCM, cipher.as_slice()).ok()?, mark })
    }
}

/// See the module. One handle per store: it lets one change of a state follow the other.
pub struct SealedStates {
    store: Arc<dyn Store>,
    key: Option<Key>,
    changing: tokio::sync::Mutex<()>,
}

impl SealedStates {
    /// Sealed states of this store. Without a key (`store.key`) nothing can be put or read.
    pub fn new(store: Arc<dyn Store>, key: Option<&Secret>) -> Self {
        Self { store, key: key.and_then(Key::new), changing: tokio::sync::Mutex::default() }
    }

    /// What is held under this name; nothing of a name that was never put.
    ///
    /// # Errors
    /// It can't be opened or read. Nothing is changed then.
    pub async fn get(&self, name: &str) -> Result<Sealed, SealedError> {
        let Some(value) = self.value(name).await? else { return Ok(Sealed::default()) };
        self.open(name, &value)
    }

    /// Replaces the secret and ends the intent. It counts once this returns.
    ///
    /// # Errors
    /// It is not durable, or that can't be known: the secret must not be used yet.
    pub async fn put(&self, name: &str, secret: &Secret) -> Result<(), SealedError> {
        let _changing = self.changing.lock().await;
        let value = self.seal(name, &Sealed { secret: Some(secret.clone()), intent: None })?;
        self.commit(name, Some(value)).await
    }

    /// Says that the secret is about to be replaced, durably. An earlier intent stays: it is the one whose outcome is not
    /// known.
    ///
    /// # Errors
    /// It is not durable: the secret must not be traded in.
    pub async fn begin(&self, name: &str, now: Timestamp) -> Result<(), SealedError> {
        let _changing = self.changing.lock().await;
        let held = self.get(name).await?;
        let value = self.seal(name, &Sealed { intent: held.intent.or(Some(now)), ..held })?;
        self.commit(name, Some(value)).await
    }

    /// Says that the replacement came to nothing and the secret still counts.
    ///
    /// # Errors
    /// It is not durable: the intent still stands.
    pub async fn withdraw(&self, name: &str) -> Result<(), SealedError> {
        let _changing = self.changing.lock().await;
        let held = self.get(name).await?;
        if held.intent.is_none() {
            return Ok(());
        }
        let value = self.seal(name, &Sealed { intent: None, ..held })?;
        self.commit(name, Some(value)).await
    }

    /// Removes what is held under this name.
    ///
    /// # Errors
    /// It is not durable.
    pub async fn remove(&self, name: &str) -> Result<(), SealedError> {
        let _changing = self.changing.lock().await;
        self.commit(name, None).await
    }

    async fn value(&self, name: &str) -> Result<Option<Bytes>, SealedError> {
        let full = format!("{PREFIX}{name}");
        let found = self.store.states(&full).await.map_err(|error| SealedError::Read { name: name.to_owned(), error })?;
        Ok(found.get(&full).cloned())
    }

    async fn commit(&self, name: &str, value: Option<Vec<u8>>) -> Result<(), SealedError> {
        let ticket = self.store.set_state(format!("{PREFIX}{name}"), value.map(Bytes::from));
        ticket.await.map_err(|error| SealedError::Commit { name: name.to_owned(), error })
    }

    fn key(&self, name: &str) -> Result<&Key, SealedError> {
        self.key.as_ref().ok_or_else(|| SealedError::NoKey { name: name.to_owned() })
    }

    /// What a sealed value belongs to: it opens under its own name, in its own store and with its own head only.
    fn belongs(&self, name: &str, head: &[u8]) -> Vec<u8> {
        [head, self.store.id().to_le_bytes().as_slice(), name.as_bytes()].concat()
    }

    /// Version, mark of the key and intent in the clear; behind them the nonce, and sealed whether there is a secret, and
    /// the secret.
    fn seal(&self, name: &str, held: &Sealed) -> Result<Vec<u8>, SealedError> {
        let key = self.key(name)?;
        let mut value = vec![VERSION];
        value.extend_from_slice(&key.mark);
        value.extend_from_slice(&held.intent.map_or(i64::MIN, Timestamp::millis).to_le_bytes());
        let secret = held.secret.as_ref().map_or(&[][..], Secret::expose);
        if secret.len() > SEALED_BYTES_MAX {
            return Err(SealedError::TooLong { name: name.to_owned() });
        }
        let mut text = Zeroizing::new(Vec::with_capacity(1 + secret.len() + AES_256_GCM.tag_len()));
        text.push(u8::from(held.secret.is_some()));
        text.extend_from_slice(secret);
        let aad = Aad::from(self.belongs(name, &value));
        let nonce =
            key.cipher.seal_in_place_append_tag(aad, &mut *text).map_err(|_failed| SealedError::Cipher { name: name.to_owned() })?;
        value.extend_from_slice(nonce.as_ref());
        value.extend_from_slice(&text);
        Ok(value)
    }

    fn open(&self, name: &str, value: &[u8]) -> Result<Sealed, SealedError> {
        let key = self.key(name)?;
        let unreadable = || SealedError::Unreadable { name: name.to_owned() };
        let (head, rest) = value.split_at_checked(HEAD).filter(|(head, _)| head[0] == VERSION).ok_or_else(unreadable)?;
        if head[1..9] != key.mark {
            return Err(SealedError::OtherKey { name: name.to_owned() });
        }
        let intent = Some((&head[9..]).get_i64_le()).filter(|millis| *millis != i64::MIN).map(Timestamp::from_millis);
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or_else(unreadable)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_length| unreadable())?;
        let mut text = Zeroizing::new(sealed.to_vec());
        let aad = Aad::from(self.belongs(name, head));
        let opened = key.cipher.open_in_place(nonce, aad, &mut text).map_err(|_failed| unreadable())?;
        let (has_secret, secret) = opened.split_first().ok_or_else(unreadable)?;
        Ok(Sealed { secret: (*has_secret == 1).then(|| Secret::new(secret.to_vec())), intent })
    }
}
