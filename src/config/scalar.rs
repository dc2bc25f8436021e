//! What one text may be: the check of every scalar shape, as pure functions.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use url::Url;

use super::limits::TEXT_BYTES_MAX;
use super::path;
use super::resolve::{described, nearest};
use super::table::Shape;
use super::units::{self, show_duration, show_size, shown};
use super::wrong::Wrong;
use crate::document::{Node, Value};

/// Whether the node, a scalar, is what the shape wants.
pub(super) fn check(shape: &Shape, node: &Node) -> Result<(), Wrong> {
    let text = node.as_str().unwrap_or_default();
    if text.len() > TEXT_BYTES_MAX {
        return Err(Wrong::new(format!("the text is longer than {TEXT_BYTES_MAX} bytes")));
    }
    if text.is_empty() && !matches!(shape, Shape::Body) {
        return Err(Wrong::new("the text is empty"));
    }
    match shape {
        Shape::Word(words) => word(text, words),
        Shape::Integer { min, max } => integer(node, *min, *max),
        Shape::Factor { min, max } => factor(node, *min, *max).map(|_| ()),
        Shape::Duration { min, max } => {
            let ms = units::duration_ms(text)?;
            within(ms, *min, *max, show_duration)
        }
        Shape::Size { min, max } => {
            let bytes = units::size(text)?;
            within(bytes, *min, *max, show_size)
        }
        Shape::Rate => units::rate(text).map(|_| ()),
        Shape::Socket => socket(text).map(|_| ()),
        Shape::Net => net(text).map(|_| ()),
        Shape::Url => url(text).map(|_| ()),
        Shape::Path => path::parse(text).map(|_| ()),
        Shape::MediaType => media_type(text),
        Shape::HeaderValue => header_value(text).map(|_| ()),
        Shape::Flag => flag(node).map(|_| ()),
        Shape::Date => date(text).map(|_| ()),
        Shape::File | Shape::Folder if text.contains('\0') => Err(Wrong::new("a path can't hold a NUL")),
        Shape::Text
        | Shape::Body
        | Shape::Template
        | Shape::File
        | Shape::Folder
        | Shape::Destination
        | Shape::Secret
        | Shape::TextOrSecret
        | Shape::Verify
        | Shape::List { .. }
        | Shape::Map { .. }
        | Shape::Object(_)
        | Shape::System(_)
        | Shape::Short { .. }
        | Shape::Later(_) => Ok(()),
    }
}

/// What was expected instead of this node.
pub(super) fn expected(shape: &Shape, node: &Node) -> Wrong {
    if matches!(node.value, Value::Null) {
        return Wrong::new("is empty").hint("give it a value or remove the key");
    }
    let wanted = if matches!(shape, Shape::Integer { .. } | Shape::Factor { .. }) {
        "a number"
    } else if matches!(shape, Shape::Duration { .. }) {
        "a duration such as `15s`"
    } else if matches!(shape, Shape::Size { .. }) {
        "a size such as `64KiB`"
    } else if matches!(shape, Shape::Rate) {
        "a rate such as `50/s`"
    } else if matches!(shape, Shape::Flag) {
        "`true` or `false`"
    } else if matches!(shape, Shape::Date) {
        "a day such as `2026-11-24`"
    } else {
        "a text or `{ env: NAME }`"
    };
    Wrong::new(format!("expected {wanted}, found {}", described(node)))
}

/// What stands in for a text whose variable is missing, where something must.
pub(super) fn stand_in(shape: &Shape) -> Option<&'static str> {
    if matches!(shape, Shape::Url) {
        Some("https://left-out.invalid")
    } else if matches!(shape, Shape::Path) {
        Some("/left-out")
    } else if matches!(shape, Shape::Text | Shape::Template) {
        Some("left-out")
    } else {
        None
    }
}

/// What is wrong with a text that other programs would have expanded.
pub(super) fn placeholder(text: &str) -> Option<Wrong> {
    text.contains("${").then(|| {
        Wrong::new(format!("`{}` is not expanded: there is no `${{…}}` here", shown(text)))
            .hint("write `{ env: NAME }` for the whole value")
    })
}

/// Whether this can be the name of a variable.
pub(super) fn variable_name(name: &str) -> Result<(), Wrong> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !name.is_empty() && name.bytes().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(());
    }
    Err(Wrong::new(format!("`{}` is not the name of an environment variable", shown(name)))
        .hint("write the bare name, such as `{ env: ERP_TOKEN }`"))
}

/// Yes or no; the words of YAML 1.1 (`yes`, `on`) are texts, as in YAML 1.2.
pub(super) fn flag(node: &Node) -> Result<bool, Wrong> {
    match node.as_str() {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) | None => Err(Wrong::new(format!("`{}` is neither true nor false", shown(node.as_str().unwrap_or_default())))),
    }
}

/// A day.
pub(super) fn date(text: &str) -> Result<jiff::civil::Date, Wrong> {
    text.parse().map_err(|_error| Wrong::new(format!("`{}` is not a day", shown(text))).hint("such as `2026-11-24`"))
}

fn word(text: &str, words: &[&str]) -> Result<(), Wrong> {
    if words.contains(&text) {
        return Ok(());
    }
    let wrong = Wrong::new(format!("unknown value \"{}\"", shown(text)));
    Err(match nearest(text, words.iter().copied()) {
        Some(hint) => wrong.hint(hint),
        None => wrong.hint(format!("one of {}", words.join(", "))),
    })
}

fn within(value: u64, min: u64, max: u64, show: fn(u64) -> String) -> Result<(), Wrong> {
    if value < min {
        return Err(Wrong::new(format!("{} is too small", show(value))).hint(format!("at least {}", show(min))));
    }
    if value > max {
        return Err(Wrong::new(format!("{} is too large", show(value))).hint(format!("at most {}", show(max))));
    }
    Ok(())
}

fn integer(node: &Node, min: u64, max: u64) -> Result<(), Wrong> {
    let number = node.as_u64().ok_or_else(|| {
        Wrong::new(format!("`{}` is not a whole number", shown(node.as_str().unwrap_or_default())))
            .hint("digits only, no quotes, no leading zero")
    })?;
    within(number, min, max, |number| number.to_string())
}

/// A plain decimal number within bounds.
pub(super) fn factor(node: &Node, min: f64, max: f64) -> Result<f64, Wrong> {
    let text = node.as_str().unwrap_or_default();
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && text.starts_with(|c: char| c.is_ascii_digit());
    let number = if plain { text.parse::<f64>().ok() } else { None };
    let number = number.ok_or_else(|| Wrong::new(format!("`{}` is not a number", shown(text))).hint("such as `2` or `1.5`"))?;
    if number < min || number > max {
        return Err(Wrong::new(format!("{number} is out of range")).hint(format!("from {min} to {max}")));
    }
    Ok(number)
}

/// Where to listen.
pub(super) fn socket(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_error| {
        let wrong = Wrong::new(format!("`{}` is not an address and port", shown(text)));
        match text.rsplit_once(':').map_or(text, |(_, port)| port).parse::<u16>() {
            Ok(port) => wrong.hint(format!("write `0.0.0.0:{port}` for all addresses, `127.0.0.1:{port}` for this machine only")),
            Err(_) => wrong.hint("such as `0.0.0.0:8080` or `[::]:8080`"),
        }
    })
}

/// A range of addresses, or one.
pub(super) fn net(text: &str) -> Result<IpNet, Wrong> {
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let net = parsed
        .map_err(|_error| Wrong::new(format!("`{}` is not an address range", shown(text))).hint("such as `10.0.0.0/8` or `192.0.2.7`"))?;
    if net.trunc() != net {
        return Err(Wrong::new(format!("`{text}` has bits beyond its prefix")).hint(format!("did you mean `{}`?", net.trunc())));
    }
    Ok(net)
}

/// An absolute http or https URL without credentials and fragment. Messages never repeat it: it may hold a
/// password.
pub(super) fn url(text: &str) -> Result<Url, Wrong> {
    let url: Url =
        text.parse().map_err(|error| Wrong::new(format!("is not a URL: {error}")).hint("such as `https://erp.example.ch/hooks`"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Wrong::new(format!("the scheme `{}` can't be used", url.scheme())).hint("http or https"));
    }
    if url.host().is_none() {
        return Err(Wrong::new("the URL has no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Wrong::new("the URL holds credentials").hint("put them under `auth`, by env or file"));
    }
    if url.fragment().is_some() {
        return Err(Wrong::new("the URL has a fragment, which is never sent").hint("remove everything from the `#` on"));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Wrong::new("the URL has blanks or control characters in it"));
    }
    Ok(url)
}

fn media_type(text: &str) -> Result<(), Wrong> {
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let token = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte));
    let valid = essence.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype)) && is_printable(text);
    if valid { Ok(()) } else { Err(Wrong::new(format!("`{}` is not a content type", shown(text))).hint("such as `application/json`")) }
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// A header's value.
pub(super) fn header_value(text: &str) -> Result<HeaderValue, Wrong> {
    if text.contains(['\r', '\n']) {
        return Err(Wrong::new("a header's value can't hold a line break"));
    }
    if !is_printable(text) {
        return Err(Wrong::new("a header's value can hold printable ASCII only"));
    }
    HeaderValue::from_str(text).map_err(|_error| Wrong::new("is not a header's value"))
}

/// A header's name.
pub(super) fn header_name(text: &str) -> Result<HeaderName, Wrong> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_error| Wrong::new(format!("`{}` is not a header's name", shown(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_http_without_credentials_or_fragment() {
        assert!(url("https://erp.example.ch:8443/hooks?x=1").is_ok());
        for (text, part) in [
            ("erp.example.ch", "not a URL"),
            ("ftp://erp.example.ch", "scheme"),
            ("https://user:geheim@erp.example.ch", "credentials"),
            ("https://erp.example.ch/#x", "fragment"),
            ("https://erp.example.ch/a b", "blanks"),
            ("http://", "not a URL"),
        ] {
            let problem = url(text).unwrap_err().at(crate::document::Span::default(), "");
            assert!(problem.message.contains(part), "{text}: {}", problem.message);
            assert!(!problem.message.contains("geheim"));
        }
    }

    #[test]
    fn an_address_range_has_no_bits_beyond_its_prefix() {
        assert_eq!(net("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert!(net("10.0.0.0/8").is_ok() && net("10.1.0.0/8").is_err() && net("10.0.0.0/33").is_err());
    }

    #[test]
    fn content_types_and_header_values_are_plain() {
        assert!(media_type("application/json; charset=utf-8").is_ok());
        for text in ["json", "text/", "/plain", "text/pl ain", "text/plain\r\nx: y"] {
            assert!(media_type(text).is_err(), "{text}");
        }
        assert!(header_value("a b").is_ok() && header_value("a\nb").is_err() && header_value("ä").is_err());
    }
}
