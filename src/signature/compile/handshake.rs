//! `challenge`: the rules of a scheme for what is no event.

use http::HeaderName;
use regex::bytes::Regex;

use super::super::handshake::Rule;
use super::super::limits::HANDSHAKES_MAX;
use super::super::source::Source;
use super::super::template::{self, Allowed, Program};
use super::builder::{Builder, known_keys};
use crate::document::Node;

/// Content types of replies: none that a browser would run.
const CONTENT_TYPES: [&str; 2] = ["text/plain", "application/json"];

impl Builder<'_> {
    pub(super) fn handshakes(&mut self, scheme: &Node, path: &str) -> Vec<Rule> {
        let Some(node) = scheme.get("challenge") else { return Vec::new() };
        let path = format!("{path}.challenge");
        let items = match node.as_sequence() {
            Some(items) if items.len() <= HANDSHAKES_MAX => items,
            Some(_) | None => {
                self.problem(node, &path, format!("a list of at most {HANDSHAKES_MAX} rules is expected"));
                return Vec::new();
            }
        };
        items.iter().enumerate().filter_map(|(index, item)| self.handshake(item, &format!("{path}[{index}]"))).collect()
    }

    fn handshake(&mut self, node: &Node, path: &str) -> Option<Rule> {
        let before = self.problems.len();
        known_keys(self.problems, node, path, &["when", "require", "limit", "digest", "verified", "keep", "reply"]);
        let verified = self.flag(node, path, "verified");
        let keep = self.flag(node, path, "keep");
        if node.get("when").is_none() {
            self.problem(node, path, "`when` is missing: without it every request would be answered and none kept");
        }
        if keep && !verified {
            self.problem(node, path, "only what is `verified` can be kept");
        }
        let digest = match node.get("digest") {
            Some(digest) => Some(self.template(digest, &format!("{path}.digest"), Allowed::PLAIN)?),
            None => None,
        };
        let limits = self.limits(node, path);
        let reply_path = format!("{path}.reply");
        let empty = Node { span: node.span, value: crate::document::Value::Mapping(Vec::new()) };
        let reply = node.get("reply").unwrap_or(&empty);
        known_keys(self.problems, reply, &reply_path, &["status", "content_type", "headers", "body"]);
        let allowed = Allowed { secret: false, hmac: true, digest: digest.as_ref() };
        let body = match reply.get("body") {
            Some(body) => self.template(body, &format!("{reply_path}.body"), allowed)?,
            None => template::literal(""),
        };
        for name in body.signed_for_others() {
            if !verified && !limits.iter().any(|(limited, _, _)| **limited == *name) {
                let message = format!("would sign `{name}` for anybody: it needs a `limit`, or `verified: true`");
                self.problem(reply, &format!("{reply_path}.body"), message);
            }
        }
        let rule = Rule {
            when: self.when(node, path),
            require: self.pairs(node, path, "require"),
            limit: limits.into_iter().map(|(_, source, limit)| (source, limit)).collect(),
            verified,
            keep,
            status: self.reply_status(reply, &reply_path),
            content_type: self.reply_type(reply, &reply_path),
            headers: self.reply_headers(reply, &reply_path),
            body,
        };
        (self.problems.len() == before).then_some(rule)
    }

    /// `limit`: whole values only.
    pub(super) fn limits(&mut self, node: &Node, path: &str) -> Vec<(Box<str>, Source, Regex)> {
        let Some(limit) = node.get("limit") else { return Vec::new() };
        let path = format!("{path}.limit");
        let mut limits = Vec::new();
        for entry in limit.as_mapping().unwrap_or_default() {
            let pattern = entry.value.as_str().unwrap_or_default();
            let anchored = pattern.starts_with('^') && pattern.ends_with('$') && !pattern.ends_with("\\$");
            match (self.single(&entry.value, &path, &entry.key), Regex::new(pattern)) {
                (Some((source, name)), Ok(regex)) if anchored => limits.push((name, source, regex)),
                (Some(_), _) => self.problem(&entry.value, &path, "a regular expression from `^` to `$` is expected"),
                (None, _) => {}
            }
        }
        if limit.as_mapping().is_none() {
            self.problem(limit, &path, "a mapping from sources to regular expressions is expected");
        }
        limits
    }

    fn reply_status(&mut self, reply: &Node, path: &str) -> u16 {
        let Some(status) = reply.get("status") else { return 200 };
        match status.as_u64().and_then(|status| u16::try_from(status).ok()) {
            Some(status @ 200..=299) => status,
            Some(_) | None => {
                self.problem(status, &format!("{path}.status"), "a 2xx status is expected");
                200
            }
        }
    }

    fn reply_type(&mut self, reply: &Node, path: &str) -> Option<Box<str>> {
        match self.text(reply, path, "content_type") {
            None if reply.get("body").is_some() => Some("text/plain".into()),
            None => None,
            Some(known) if CONTENT_TYPES.contains(&known) => Some(known.into()),
            Some(other) => {
                let message = format!("`{other}` is not among {}: a reply repeats a stranger's words", CONTENT_TYPES.join(", "));
                self.problem(reply, &format!("{path}.content_type"), message);
                None
            }
        }
    }

    fn reply_headers(&mut self, reply: &Node, path: &str) -> Vec<(HeaderName, Program)> {
        let Some(node) = reply.get("headers") else { return Vec::new() };
        let path = format!("{path}.headers");
        let entries = node.as_mapping().unwrap_or_default();
        if !(1..=HANDSHAKES_MAX).contains(&entries.len()) {
            self.problem(node, &path, format!("a mapping of 1 to {HANDSHAKES_MAX} headers is expected"));
        }
        let mut headers = Vec::new();
        for entry in entries {
            let name = HeaderName::try_from(&*entry.key).ok().filter(|name| {
                let framing = ["connection", "content-length", "transfer-encoding", "set-cookie", "location", "content-type", "upgrade"];
                !framing.contains(&name.as_str())
            });
            let value = self.template(&entry.value, &format!("{path}.{}", entry.key), Allowed::PLAIN);
            match (name, value) {
                (Some(name), Some(value)) => headers.push((name, value)),
                (None, _) => self.problem(&entry.value, &path, format!("`{}` is no header that a reply may have", entry.key)),
                (Some(_), None) => {}
            }
        }
        headers
    }
}
