//! Keyed and plain digests that are fed in pieces.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// Whatever takes the signed bytes piece by piece, so that no message is put together.
pub(super) trait Sink {
    fn put(&mut self, piece: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, piece: &[u8]) {
        self.extend_from_slice(piece);
    }
}

impl Sink for aws_lc_rs::digest::Context {
    fn put(&mut self, piece: &[u8]) {
        self.update(piece);
    }
}

/// A digest function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Md5,
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// A digest of at most 64 bytes, without an allocation.
pub(super) struct Tag {
    bytes: [u8; 64],
    length: usize,
}

impl Tag {
    fn new(digest: &[u8]) -> Self {
        let mut bytes = [0; 64];
        let length = digest.len().min(bytes.len());
        bytes[..length].copy_from_slice(&digest[..length]);
        Self { bytes, length }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// An HMAC whose key has been taken in already: cloned for each use.
#[derive(Clone)]
pub(super) enum Keyed {
    Md5(Hmac<Md5>),
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Box<Hmac<Sha384>>),
    Sha512(Box<Hmac<Sha512>>),
}

impl Keyed {
    /// None when the library takes no such key, which HMAC itself never refuses.
    pub(super) fn new(hash: Hash, key: &[u8]) -> Option<Self> {
        match hash {
            Hash::Md5 => Hmac::new_from_slice(key).ok().map(Self::Md5),
            Hash::Sha1 => Hmac::new_from_slice(key).ok().map(Self::Sha1),
            Hash::Sha256 => Hmac::new_from_slice(key).ok().map(Self::Sha256),
            Hash::Sha384 => Hmac::new_from_slice(key).ok().map(|state| Self::Sha384(Box::new(state))),
            Hash::Sha512 => Hmac::new_from_slice(key).ok().map(|state| Self::Sha512(Box::new(state))),
        }
    }

    pub(super) fn finish(self) -> Tag {
        match self {
            Self::Md5(state) => Tag::new(&state.finalize().into_bytes()),
            Self::Sha1(state) => Tag::new(&state.finalize().into_bytes()),
            Self::Sha256(state) => Tag::new(&state.finalize().into_bytes()),
            Self::Sha384(state) => Tag::new(&state.finalize().into_bytes()),
            Self::Sha512(state) => Tag::new(&state.finalize().into_bytes()),
        }
    }
}

impl Sink for Keyed {
    fn put(&mut self, piece: &[u8]) {
        match self {
            Self::Md5(state) => state.update(piece),
            Self::Sha1(state) => state.update(piece),
            Self::Sha256(state) => state.update(piece),
            Self::Sha384(state) => state.update(piece),
            Self::Sha512(state) => state.update(piece),
        }
    }
}

/// A plain digest in the making.
pub(super) enum Plain {
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Plain {
    pub(super) fn new(hash: Hash) -> Self {
        match hash {
            Hash::Md5 => Self::Md5(Md5::new()),
            Hash::Sha1 => Self::Sha1(Sha1::new()),
            Hash::Sha256 => Self::Sha256(Sha256::new()),
            Hash::Sha384 => Self::Sha384(Sha384::new()),
            Hash::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    pub(super) fn finish(self) -> Tag {
        match self {
            Self::Md5(state) => Tag::new(&state.finalize()),
            Self::Sha1(state) => Tag::new(&state.finalize()),
            Self::Sha256(state) => Tag::new(&state.finalize()),
            Self::Sha384(state) => Tag::new(&state.finalize()),
            Self::Sha512(state) => Tag::new(&state.finalize()),
        }
    }
}

impl Sink for Plain {
    fn put(&mut self, piece: &[u8]) {
        match self {
            Self::Md5(state) => state.update(piece),
            Self::Sha1(state) => state.update(piece),
            Self::Sha256(state) => state.update(piece),
            Self::Sha384(state) => state.update(piece),
            Self::Sha512(state) => state.update(piece),
        }
    }
}

/// CRC-32 as of zip and Ethernet; PayPal signs it instead of the body.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_of_the_check_text() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn feeding_in_pieces_is_feeding_at_once() {
        for hash in [Hash::Md5, Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            let mut pieces = Keyed::new(hash, b"key").unwrap();
            let mut whole = pieces.clone();
            pieces.put(b"The quick brown ");
            pieces.put(b"fox");
            whole.put(b"The quick brown fox");
            assert_eq!(pieces.finish().as_bytes(), whole.finish().as_bytes());
        }
        let mut rfc2202 = Keyed::new(Hash::Md5, b"Jefe").unwrap();
        rfc2202.put(b"what do ya want for nothing?");
        assert_eq!(hex::encode(rfc2202.finish().as_bytes()), "750c783e6ab0b503eaa86e310a5db738");
    }
}
