//! Reading stored bytes: every length is checked against what is there, so arbitrary bytes give an error and
//! never a panic or an allocation larger than themselves. All numbers are little-endian.

use bytes::{Buf, BufMut};

/// Bytes that can't be what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed("length"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_short| Malformed("end"))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.0.try_get_u16_le().map_err(|_short| Malformed("end"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32_le().map_err(|_short| Malformed("end"))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64_le().map_err(|_short| Malformed("end"))
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        self.0.try_get_i64_le().map_err(|_short| Malformed("end"))
    }

    pub(super) fn u128(&mut self) -> Result<u128, Malformed> {
        self.0.try_get_u128_le().map_err(|_short| Malformed("end"))
    }

    /// Bytes behind their length.
    pub(super) fn long(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_large| Malformed("length"))?)
    }

    /// Text behind its length.
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.long()?).map_err(|_utf8| Malformed("text"))
    }

    /// How many items follow, each of which takes at least `least` bytes.
    pub(super) fn count(&mut self, least: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u32()?).map_err(|_large| Malformed("count"))?;
        if count.saturating_mul(least) > self.0.len() { Err(Malformed("count")) } else { Ok(count) }
    }

    /// All that is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// There must be nothing left.
    pub(super) fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("end")) }
    }
}

/// Appends bytes behind their length. Nothing that is stored comes near 4 GiB: segments are smaller.
pub(super) fn put_long(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.put_u32_le(len32(bytes));
    buffer.extend_from_slice(bytes);
}

/// A length as stored. Whoever encodes has checked that the whole is smaller than a segment.
pub(super) fn len32<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}
