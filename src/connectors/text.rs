//! Texts for people: short, on one line, without credentials.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::model::{Attempt, Secret};

/// Most characters of a foreign text that a reason quotes.
const QUOTED_CHARS_MAX: usize = 120;

/// What stands where a secret stood.
const HIDDEN: &[u8] = b"***";

/// Shorter secrets are not looked for: they would blank out whatever happens to contain them.
const SCRUBBED_BYTES_MIN: usize = 4;

/// The text on one line, at most as long as what an attempt keeps.
pub(super) fn line(text: &str) -> String {
    clip(text, Attempt::DETAIL_BYTES_MAX)
}

/// The start of a foreign text, for a reason: one line, shortened visibly.
pub(super) fn quoted(text: &str) -> String {
    let start: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    let words: Vec<&str> = start.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    format!("{}{more}", words.join(" "))
}

/// The start of a reply's body, for a reason; empty where it is no text.
pub(super) fn excerpt(body: &[u8]) -> String {
    let start = &body[..body.len().min(4 * QUOTED_CHARS_MAX)];
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        // Cut in the middle of a character, or no UTF-8 from there on.
        Err(error) => std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default(),
    };
    quoted(text)
}

/// `what`, followed by a colon and the start of the body where there is one.
pub(super) fn with_excerpt(what: &str, body: &[u8]) -> String {
    match excerpt(body) {
        empty if empty.is_empty() => what.to_owned(),
        said => format!("{what}: {said}"),
    }
}

/// At most so many bytes of the text, ended between two characters; control characters become blanks.
pub(super) fn clip(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The bytes with every secret in them replaced, plain, in JSON escapes, in base64 and percent-encoded: systems repeat in
/// an error what they were sent, and what they answer is kept with the attempt.
pub fn scrub(bytes: &[u8], secrets: &[&Secret]) -> Vec<u8> {
    let mut clean = bytes.to_vec();
    for secret in secrets {
        let plain = secret.expose();
        let escaped = std::str::from_utf8(plain).ok().and_then(|text| serde_json::to_string(text).ok());
        let escaped = escaped.as_deref().map(|text| text.trim_matches('"').as_bytes().to_vec());
        let percent = percent_encoding::percent_encode(plain, percent_encoding::NON_ALPHANUMERIC).to_string().into_bytes();
        for form in [Some(plain.to_vec()), escaped, Some(STANDARD.encode(plain).into_bytes()), Some(percent)].into_iter().flatten() {
            if form.len() >= SCRUBBED_BYTES_MIN {
                clean = replaced(&clean, &form);
            }
        }
    }
    clean
}

fn replaced(bytes: &[u8], secret: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(secret.len()).position(|window| window == secret) {
        clean.extend_from_slice(&rest[..at]);
        clean.extend_from_slice(HIDDEN);
        rest = &rest[at + secret.len()..];
    }
    clean.extend_from_slice(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_in_every_form_in_which_a_system_repeats_it() {
        let secret = Secret::new(br#"3k5"TStP?=k(!w"#.to_vec());
        let encoded = STANDARD.encode(secret.expose());
        let text = format!(r#"key 3k5"TStP?=k(!w, json 3k5\"TStP?=k(!w, basic {encoded}, url 3k5%22TStP%3F%3Dk%28%21w."#);
        assert_eq!(scrub(text.as_bytes(), &[&secret]), b"key ***, json ***, basic ***, url ***.");
        assert_eq!(scrub(b"a1a", &[&Secret::new(b"a".to_vec())]), b"a1a");
    }

    #[test]
    fn foreign_texts_are_short_and_on_one_line() {
        assert_eq!(excerpt(b"  a\r\n\tb \x00c"), "a b c");
        assert_eq!(quoted(&"x".repeat(500)).chars().count(), QUOTED_CHARS_MAX + 1);
        assert_eq!(excerpt(b"\xff\xfe"), "");
        assert_eq!(excerpt("ü".repeat(1000).as_bytes()).chars().filter(|c| *c == 'ü').count(), QUOTED_CHARS_MAX);
        assert!(line(&"ä".repeat(1000)).len() <= Attempt::DETAIL_BYTES_MAX);
    }
}
