//! `event`, `ack` and what else a scheme says of its route.

use bytes::Bytes;
use http::Method;

use super::super::charset::Charset;
use super::super::facts::{PlannedAnswer, Telling};
use super::super::limits::MEMBERS_MAX;
use super::super::template::{self, Allowed, Program};
use super::builder::{Builder, known_keys};
use crate::document::Node;
use crate::model::Answer;

impl Builder<'_> {
    pub(super) fn telling(&mut self, scheme: &Node, path: &str) -> Telling {
        let mut telling =
            Telling { unique: true, answers: self.answers(scheme, path), charset: self.charset(scheme, path), ..Telling::default() };
        let Some(event) = scheme.get("event") else { return telling };
        let path = format!("{path}.event");
        known_keys(self.problems, event, &path, &["id", "type", "idem", "unique"]);
        telling.id = self.sources(event, &path, "id");
        telling.kind = self.sources(event, &path, "type");
        telling.unique = event.get("unique").is_none() || self.flag(event, &path, "unique");
        if let Some(idem) = event.get("idem") {
            let items = idem.as_sequence().unwrap_or(std::slice::from_ref(idem));
            telling.idem = items.iter().filter_map(|item| self.template(item, &format!("{path}.idem"), Allowed::PLAIN)).collect();
        }
        telling
    }

    fn charset(&mut self, scheme: &Node, path: &str) -> Charset {
        let Some(label) = self.text(scheme, path, "charset") else { return Charset::default() };
        Charset::parse(label).unwrap_or_else(|| {
            self.problem(scheme, &format!("{path}.charset"), format!("unknown charset `{label}`, such as iso-8859-1"));
            Charset::default()
        })
    }

    fn answers(&mut self, scheme: &Node, path: &str) -> Vec<PlannedAnswer> {
        let Some(ack) = scheme.get("ack") else { return Vec::new() };
        let path = format!("{path}.ack");
        let items = ack.as_sequence().unwrap_or(std::slice::from_ref(ack));
        if items.len() > MEMBERS_MAX {
            self.problem(ack, &path, format!("more than {MEMBERS_MAX} answers"));
        }
        items.iter().filter_map(|item| self.answer(item, &path)).collect()
    }

    fn answer(&mut self, node: &Node, path: &str) -> Option<PlannedAnswer> {
        known_keys(self.problems, node, path, &["when", "status", "content_type", "body"]);
        let status = match node.get("status") {
            None => 200,
            Some(status) => match status.as_u64().and_then(|status| u16::try_from(status).ok()) {
                Some(status @ 200..=299) => status,
                Some(_) | None => {
                    self.problem(status, &format!("{path}.status"), "a 2xx status is expected");
                    return None;
                }
            },
        };
        let body = match node.get("body") {
            None => template::literal(""),
            Some(body) => self.answer_body(body, &format!("{path}.body"))?,
        };
        let content_type = self.text(node, path, "content_type").map(Into::into);
        let fixed = body.fixed().map(Bytes::copy_from_slice);
        Some(PlannedAnswer { when: self.when(node, path), status, content_type, body, fixed })
    }

    /// An answer is often a JSON text, whose braces are no placeholders: a text without a placeholder or a
    /// doubled brace is taken as it stands.
    fn answer_body(&mut self, node: &Node, path: &str) -> Option<Program> {
        let text = node.as_str().unwrap_or_default();
        if text.len() > Answer::BODY_BYTES_MAX {
            self.problem(node, path, format!("longer than {} bytes", Answer::BODY_BYTES_MAX));
            return None;
        }
        let placeholder = text.split('{').skip(1).any(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase()));
        if node.as_str().is_some() && !placeholder && !text.contains("{{") {
            return Some(template::literal(text));
        }
        self.template(node, path, Allowed::PLAIN)
    }

    pub(super) fn methods(&mut self, scheme: &Node, path: &str) -> Option<Vec<Method>> {
        scheme.get("methods")?;
        let mut methods = Vec::new();
        for word in self.texts(scheme, path, "methods") {
            match Method::from_bytes(word.as_bytes()) {
                Ok(method) if word.bytes().all(|byte| byte.is_ascii_uppercase()) => methods.push(method),
                Ok(_) | Err(_) => self.problem(scheme, &format!("{path}.methods"), format!("`{word}` is no method such as POST")),
            }
        }
        if methods.is_empty() {
            self.problem(scheme, &format!("{path}.methods"), "no method is left");
        }
        Some(methods)
    }

    pub(super) fn body_limit(&mut self, scheme: &Node, path: &str) -> Option<usize> {
        let node = scheme.get("body_limit")?;
        let size = node.as_str().and_then(parse_size);
        if size.is_none() {
            self.problem(node, &format!("{path}.body_limit"), "a size such as `64KiB` or `25MiB` is expected");
        }
        size
    }

    pub(super) fn on_invalid(&mut self, scheme: &Node, path: &str) -> Option<u16> {
        let node = scheme.get("on_invalid")?;
        match node.as_u64().and_then(|status| u16::try_from(status).ok()) {
            Some(status @ 400..=499) => Some(status),
            Some(_) | None => {
                self.problem(node, &format!("{path}.on_invalid"), "a 4xx status is expected");
                None
            }
        }
    }

    /// `body_unsigned` is a word for readers: what is bound is computed.
    pub(super) fn body_unsigned(&mut self, scheme: &Node, path: &str) {
        if let Some(node) = scheme.get("body_unsigned")
            && !matches!(node.as_str(), Some("all" | "fields" | "true" | "false"))
        {
            self.problem(node, &format!("{path}.body_unsigned"), "`all` or `fields` is expected");
        }
    }
}

fn parse_size(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|last: char| !last.is_ascii_digit());
    let unit: usize = match &text[digits.len()..] {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked_for_overflow_and_unit() {
        assert_eq!(parse_size("25MiB"), Some(25 << 20));
        for bad in ["25", "25MB", "-1KiB", "99999999999999999999MiB", "17592186044416MiB", "1.5MiB", ""] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
