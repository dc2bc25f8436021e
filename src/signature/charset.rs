//! `charset`: what the bytes of a form's or query's values mean, where that is not UTF-8.
//!
//! Signatures are over bytes, so nothing is ever decoded on the way to one unless the scheme says so (`|utf8`).

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8};

/// A charset by one of its names on the web.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Charset(&'static Encoding);

impl Default for Charset {
    fn default() -> Self {
        Self(UTF_8)
    }
}

impl Charset {
    pub(super) fn parse(label: &str) -> Option<Self> {
        Encoding::for_label_no_replacement(label.as_bytes()).map(Self)
    }

    /// The charset of a `Content-Type`, when it names one that is known.
    pub(super) fn of_content_type(content_type: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content_type).ok()?;
        let (_, label) =
            text.split(';').filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
        Self::parse(label.trim().trim_matches('"'))
    }

    /// The same text in UTF-8; what is no text of this charset stays as it is.
    pub(super) fn utf8(self, bytes: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
        if self.0 == UTF_8 || bytes.is_ascii() {
            return bytes;
        }
        match self.0.decode_without_bom_handling_and_without_replacement(&bytes) {
            Some(text) => Cow::Owned(text.into_owned().into_bytes()),
            None => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_bytes_become_utf8_and_others_stay() {
        let utf8 = |label: &str, bytes: &[u8]| Charset::parse(label).unwrap().utf8(Cow::Borrowed(bytes)).into_owned();
        assert_eq!(utf8("iso-8859-1", b"Z\xfcrich"), "Zürich".as_bytes());
        assert_eq!(utf8("ISO-8859-15", b"\xa4"), "€".as_bytes());
        assert_eq!(utf8("utf-8", b"\xfc"), b"\xfc");
        assert_eq!(utf8("shift_jis", b"\xff\xff"), b"\xff\xff");
        assert_eq!(Charset::parse("latin-17"), None);
        assert_eq!(Charset::of_content_type(b"text/xml; Charset=\"Windows-1252\""), Charset::parse("iso-8859-1"));
        assert_eq!(Charset::of_content_type(b"text/xml"), None);
    }
}
