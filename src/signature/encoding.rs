//! Text forms of bytes: strict for signatures, lenient for secrets.
//!
//! A signature has one accepted spelling per encoding (hex in either case), so that two texts never stand
//! for one signature. Secrets are typed by people and cut by providers' dashboards: padding may be missing
//! and trailing bits may be set.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use smallvec::{SmallVec, smallvec};

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true);
const SECRET: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
const SECRET_URL: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);
const STRICT: GeneralPurpose = base64::engine::general_purpose::STANDARD;
const STRICT_URL: GeneralPurpose = base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A signature's bytes. Most are few enough to need no memory of their own.
pub(super) type Candidate = SmallVec<[u8; 64]>;

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Hex,
    Base64,
    Base64Url,
    /// The bytes themselves: tokens.
    Raw,
}

impl Encoding {
    /// The bytes of a received text; none when it is empty or not in canonical form.
    pub(super) fn decode(self, text: &[u8]) -> Option<Candidate> {
        let bytes: Candidate = match self {
            Self::Hex => {
                // Into a slice it goes in a fourth of the instructions.
                let mut bytes = smallvec![0; text.len() / 2];
                hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)?
            }
            Self::Base64 => STRICT.decode(text).ok()?.into(),
            Self::Base64Url => STRICT_URL.decode(text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text)).ok()?.into(),
            Self::Raw => text.into(),
        };
        (!bytes.is_empty()).then_some(bytes)
    }

    /// The text of these bytes.
    pub(super) fn encode(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Hex => hex::encode(bytes).into_bytes(),
            Self::Base64 => STRICT.encode(bytes).into_bytes(),
            Self::Base64Url => STRICT_URL.encode(bytes).into_bytes(),
            Self::Raw => bytes.to_vec(),
        }
    }
}

/// Base64 in either alphabet, padding and trailing bits as they come.
pub(super) fn lenient_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    SECRET.decode(text).or_else(|_error| SECRET_URL.decode(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_has_one_spelling_and_a_secret_has_many() {
        assert_eq!(Encoding::Base64.decode(b"QQ=="), Some(smallvec![0x41]));
        assert_eq!(Encoding::Base64.decode(b"QQ"), None);
        assert_eq!(Encoding::Base64.decode(b"QR=="), None);
        assert_eq!(Encoding::Base64Url.decode(b"QR"), None);
        assert_eq!(Encoding::Hex.decode(b"aBcD"), Some(smallvec![0xab, 0xcd]));
        assert_eq!(Encoding::Hex.decode(b"abc"), None);
        assert_eq!(Encoding::Hex.decode(b""), None);
        assert_eq!(lenient_base64(b"QR "), Some(vec![0x41]));
        assert_eq!(lenient_base64(b"-_-_"), lenient_base64(b"+/+/"));
    }
}
