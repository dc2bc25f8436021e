//! The two charsets in which InPaSy may speak.

use std::borrow::Cow;

/// A charset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charset {
    /// UTF-8.
    #[default]
    Utf8,
    /// ISO-8859-1. Read as windows-1252, as everybody does who says so.
    Latin1,
}

impl Charset {
    /// The charset of this name.
    pub fn named(name: &str) -> Option<Self> {
        let encoding = encoding_rs::Encoding::for_label(name.trim().trim_matches('"').as_bytes())?;
        if encoding == encoding_rs::UTF_8 {
            Some(Self::Utf8)
        } else if encoding == encoding_rs::WINDOWS_1252 {
            Some(Self::Latin1)
        } else {
            None
        }
    }

    /// The text of these bytes. Bytes that are not UTF-8 where that was expected are ISO-8859-1: then somebody has set the
    /// wrong charset, and an umlaut is better than none.
    pub fn decode(self, bytes: &[u8]) -> String {
        match self {
            Self::Utf8 => std::str::from_utf8(bytes).map_or_else(|_error| Self::Latin1.decode(bytes), str::to_owned),
            Self::Latin1 => encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned(),
        }
    }

    /// The bytes of this text; the first character that the charset does not have otherwise.
    pub(super) fn encode(self, text: &str) -> Result<Cow<'_, [u8]>, char> {
        match self {
            Self::Utf8 => Ok(Cow::Borrowed(text.as_bytes())),
            // What lies between ISO-8859-1 and windows-1252 (the euro sign) is read differently by different systems.
            Self::Latin1 => match text.chars().find(|c| u32::from(*c) > 0xff) {
                Some(foreign) => Err(foreign),
                None => Ok(encoding_rs::mem::encode_latin1_lossy(text)),
            },
        }
    }
}
