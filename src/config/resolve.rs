//! The first pass: a node against its shape. What comes out holds known keys and readable values only, with
//! every `{ env }` text resolved, so the second pass (`compile`) reads it without a word about syntax.
//!
//! A value that is wrong is reported once, here, and left out. Secrets pass through untouched: they are
//! resolved where they are used, by whoever knows what they are for.

use super::compile::Compiler;
use super::limits::{ITEMS_MAX, NAME_BYTES_MAX};
use super::scalar;
use super::table::{Keys, Shape, Table};
use super::units::shown;
use super::wrong::Wrong;
use crate::document::{self, Entry, Node, Problem, Span, Value, did_you_mean};

/// The path of a key below another.
pub(super) fn join(path: &str, key: &str) -> String {
    document::key_path(path, key)
}

/// The hint for a word that is none of the known ones.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    let same_but_for_case = known.clone().into_iter().find(|candidate| candidate.eq_ignore_ascii_case(word));
    match same_but_for_case {
        Some(candidate) => Some(format!("did you mean \"{candidate}\"?")),
        None => did_you_mean(word, known),
    }
}

impl Compiler<'_> {
    /// The node as the shape wants it; `None` when it can't be used, which has then been reported.
    pub(super) fn resolve(&mut self, node: &Node, shape: &Shape, path: &str) -> Option<Node> {
        match shape {
            Shape::Later(why) => {
                self.report.error(Wrong::new(format!("`{}` {why}", path.rsplit('.').next().unwrap_or(path))), node.span, path);
                None
            }
            Shape::Secret | Shape::TextOrSecret if matches!(node.value, Value::Null) => {
                self.report.error(Wrong::new("is empty").hint("`{ env: NAME }` or `{ file: PATH }`"), node.span, path);
                None
            }
            Shape::Secret | Shape::TextOrSecret => Some(node.clone()),
            Shape::Verify => self.resolve_verify(node, path),
            Shape::List { of, min } => self.resolve_list(node, of, *min, path),
            Shape::Map { of, keys } => self.resolve_map(node, of, *keys, path),
            Shape::Object(table) => self.resolve_object(node, table, path),
            Shape::System(table) => self.resolve_object(node, table, path),
            Shape::Short { short, long } => match node.value {
                Value::Mapping(_) if node.get("env").is_none() => self.resolve_object(node, long, path),
                Value::Mapping(_) | Value::Scalar { .. } | Value::Null | Value::Sequence(_) => self.resolve(node, short, path),
            },
            Shape::Text
            | Shape::Body
            | Shape::Template
            | Shape::Word(_)
            | Shape::Integer { .. }
            | Shape::Factor { .. }
            | Shape::Duration { .. }
            | Shape::Size { .. }
            | Shape::Rate
            | Shape::Socket
            | Shape::Net
            | Shape::Url
            | Shape::Path
            | Shape::MediaType
            | Shape::HeaderValue
            | Shape::File
            | Shape::Folder
            | Shape::Flag
            | Shape::Date
            | Shape::Destination => self.resolve_scalar(node, shape, path),
        }
    }

    fn resolve_scalar(&mut self, node: &Node, shape: &Shape, path: &str) -> Option<Node> {
        let node = match node.value {
            Value::Mapping(_) => self.text_from_env(node, shape, path)?,
            Value::Scalar { .. } => {
                if let Some(wrong) = scalar::placeholder(node.as_str().unwrap_or_default()) {
                    self.report.error(wrong, node.span, path);
                    return None;
                }
                node.clone()
            }
            Value::Null | Value::Sequence(_) => {
                self.report.error(scalar::expected(shape, node), node.span, path);
                return None;
            }
        };
        match scalar::check(shape, &node) {
            Ok(()) => Some(node),
            Err(wrong) => {
                self.report.error(wrong, node.span, path);
                None
            }
        }
    }

    /// The text that `{ env: NAME }` stands for.
    fn text_from_env(&mut self, node: &Node, shape: &Shape, path: &str) -> Option<Node> {
        let entries = node.as_mapping().unwrap_or_default();
        let name = match entries {
            [entry] if entry.key == "env" => entry.value.as_str(),
            _ => None,
        };
        let Some(name) = name else {
            self.report.error(scalar::expected(shape, node), node.span, path);
            return None;
        };
        let text = match self.variable(name) {
            Ok(text) => text,
            Err(wrong) if self.options.allow_missing_secrets => {
                self.report.warn(wrong.hint("left out (--allow-missing-secrets)"), node.span, path);
                return scalar::stand_in(shape)
                    .map(|text| Node { span: node.span, value: Value::Scalar { text: text.to_owned(), quoted: false } });
            }
            Err(wrong) => {
                self.report.error(wrong, node.span, path);
                return None;
            }
        };
        Some(Node { span: node.span, value: Value::Scalar { text, quoted: false } })
    }

    fn variable(&self, name: &str) -> Result<String, Wrong> {
        scalar::variable_name(name)?;
        let value = self.env.var(name).ok_or_else(|| {
            Wrong::new(format!("the environment variable {name} is not set")).hint(format!("set it before the start: export {name}=…"))
        })?;
        let text = value.into_string().map_err(|_bytes| Wrong::new(format!("the environment variable {name} is not valid UTF-8")))?;
        if text.trim().is_empty() {
            return Err(Wrong::new(format!("the environment variable {name} is empty")));
        }
        match scalar::placeholder(&text) {
            Some(_) => Err(Wrong::new(format!("the environment variable {name} holds an unexpanded placeholder"))),
            None => Ok(text),
        }
    }

    /// An empty `verify` must never come to mean "no authentication" (S2).
    fn resolve_verify(&mut self, node: &Node, path: &str) -> Option<Node> {
        let empty = match &node.value {
            Value::Null => true,
            Value::Scalar { text, .. } => text.trim().is_empty(),
            Value::Sequence(items) => items.is_empty(),
            Value::Mapping(entries) => entries.is_empty(),
        };
        if empty {
            let wrong = Wrong::new("is empty")
                .hint("name a scheme such as `{ preset: github, secrets: [{ env: GITHUB_SECRET }] }`, or write `none`");
            self.report.error(wrong, node.span, path);
            return None;
        }
        Some(node.clone())
    }

    fn resolve_list(&mut self, node: &Node, of: &Shape, min: usize, path: &str) -> Option<Node> {
        let Value::Sequence(items) = &node.value else {
            let wrong = Wrong::new(format!("expected a list, found {}", described(node)));
            let wrong = if matches!(node.value, Value::Scalar { .. } | Value::Mapping(_)) {
                wrong.hint("put it in brackets: `[…]`")
            } else {
                wrong
            };
            self.report.error(wrong, node.span, path);
            return None;
        };
        if items.len() < min {
            self.report.error(Wrong::new("the list is empty"), node.span, path);
            return None;
        }
        if items.len() > ITEMS_MAX {
            self.report.error(Wrong::new(format!("the list has more than {ITEMS_MAX} items")), node.span, path);
            return None;
        }
        // A wrong item leaves a null behind, so that the others keep their numbers.
        let resolved = items.iter().enumerate().map(|(index, item)| {
            let value = self.resolve(item, of, &format!("{path}[{index}]"));
            value.unwrap_or(Node { span: item.span, value: Value::Null })
        });
        Some(Node { span: node.span, value: Value::Sequence(resolved.collect()) })
    }

    fn resolve_map(&mut self, node: &Node, of: &Shape, keys: Keys, path: &str) -> Option<Node> {
        let entries = self.mapping(node, path)?;
        if entries.len() > ITEMS_MAX {
            self.report.error(Wrong::new(format!("the mapping has more than {ITEMS_MAX} keys")), node.span, path);
            return None;
        }
        let mut resolved = Vec::with_capacity(entries.len());
        for entry in entries {
            let path = join(path, &entry.key);
            let wrong_key = match keys {
                Keys::Names => name(&entry.key).err(),
                Keys::Headers => scalar::header_name(&entry.key).err(),
            };
            let usable = wrong_key.is_none();
            if let Some(wrong) = wrong_key {
                self.report.error(wrong, entry.key_span, &path);
            }
            if let Some(value) = self.resolve(&entry.value, of, &path)
                && usable
            {
                resolved.push(Entry { key: entry.key.clone(), key_span: entry.key_span, value });
            }
        }
        Some(Node { span: node.span, value: Value::Mapping(resolved) })
    }

    fn resolve_object(&mut self, node: &Node, table: &Table, path: &str) -> Option<Node> {
        let entries = self.mapping(node, path)?;
        if table.one && entries.len() != 1 {
            let known: Vec<&str> = table.fields.iter().map(|field| field.name).collect();
            let wrong = Wrong::new(format!("holds {} kinds", entries.len())).hint(format!("exactly one of {}", known.join(", ")));
            self.report.error(wrong, node.span, path);
        }
        let mut resolved = Vec::with_capacity(entries.len());
        let mut postponed = false;
        for entry in entries {
            let path = join(path, &entry.key);
            let Some(field) = table.fields.iter().find(|field| field.name == entry.key) else {
                self.report.errors.push(unknown_key(&entry.key, table, entry.key_span, path));
                continue;
            };
            postponed |= matches!(field.shape, Shape::Later(_));
            if let Some(value) = self.resolve(&entry.value, &field.shape, &path) {
                resolved.push(Entry { key: entry.key.clone(), key_span: entry.key_span, value });
            }
        }
        // Whoever writes a key of a later version needs other fields with it: one message says enough.
        let missing = table.fields.iter().filter(|field| field.required && !postponed && node.get(field.name).is_none());
        for field in missing {
            self.report.error(Wrong::new(format!("`{}` is missing", field.name)).hint(field.doc.trim_end_matches('.')), node.span, path);
        }
        Some(Node { span: node.span, value: Value::Mapping(resolved) })
    }

    fn mapping<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n [Entry]> {
        let entries = node.as_mapping();
        if entries.is_none() {
            self.report.error(Wrong::new(format!("expected a mapping, found {}", described(node))), node.span, path);
        }
        entries
    }
}

fn unknown_key(key: &str, table: &Table, span: Span, path: String) -> Problem {
    let wrong = Wrong::new(format!("unknown key \"{}\"", shown(key)));
    let known = table.fields.iter().map(|field| field.name);
    match nearest(key, known.clone()) {
        Some(hint) => wrong.hint(hint),
        None => wrong.hint(format!("known here: {}", known.collect::<Vec<_>>().join(", "))),
    }
    .at(span, path)
}

/// What a node is, in words; never the text itself, which may be a secret in the wrong place.
pub(super) fn described(node: &Node) -> &'static str {
    match &node.value {
        Value::Null => "nothing",
        Value::Scalar { .. } => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
    }
}

/// Names are labels of metrics and parts of the API's paths, so they are plain.
pub(super) fn name(text: &str) -> Result<(), Wrong> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let valid =
        text.len() <= NAME_BYTES_MAX && text.bytes().all(plain) && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    if valid {
        return Ok(());
    }
    Err(Wrong::new(format!("`{}` is not a name", shown(text)))
        .hint(format!("letters, digits, `-`, `_` and `.`, a letter or digit first, at most {NAME_BYTES_MAX}")))
}
