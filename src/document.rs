//! A YAML document as a tree whose every node knows its line and column, and the problems found in one.
//!
//! It reads the text only: what a scalar means is decided by whoever expects a value, so `no`, `0777` and
//! `1_000` are texts until somebody asks for a number, and then they are errors. Anchors, aliases and merge
//! keys (`<<`) are expanded here, under a limit on the nodes that come of it.

mod parse;
mod problem;

pub use parse::{DEPTH_MAX, NODES_MAX, parse, read};
pub use problem::{Problem, did_you_mean, key_path};

/// A place in the text, both counted from 1. Nodes that came of no text have line 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it starts.
    pub span: Span,
    /// The value.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`, `~` or nothing at all.
    Null,
    /// A scalar, as text.
    Scalar {
        /// The text, quotes and escapes resolved.
        text: String,
        /// Whether it was quoted or a block scalar: then it is never a number, a truth value or null.
        quoted: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping in the order of the text; its keys are distinct.
    Mapping(Vec<Entry>),
}

/// One key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

impl Node {
    /// A text node that came of no text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { span: Span::default(), value: Value::Scalar { text: text.into(), quoted: true } }
    }

    /// The scalar's text, when this is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    /// The plain scalar `true` or `false`, when this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match &self.value {
            Value::Scalar { text, quoted: false } => text.parse().ok(),
            Value::Scalar { .. } | Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    /// The plain decimal number, digits only, when this is one and fits.
    pub fn as_u64(&self) -> Option<u64> {
        match &self.value {
            Value::Scalar { text, quoted: false } if text.bytes().all(|b| b.is_ascii_digit()) => {
                // `0777` is octal to some readers and decimal to others: it is no number here.
                if text.len() > 1 && text.starts_with('0') { None } else { text.parse().ok() }
            }
            Value::Scalar { .. } | Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    /// The list's items, when this is one.
    pub fn as_sequence(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Sequence(items) => Some(items),
            Value::Scalar { .. } | Value::Null | Value::Mapping(_) => None,
        }
    }

    /// The mapping's entries, when this is one.
    pub fn as_mapping(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Mapping(entries) => Some(entries),
            Value::Scalar { .. } | Value::Null | Value::Sequence(_) => None,
        }
    }

    /// The value under this key, when this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_mapping()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// What this is, in words for a message: "a list", "the text `abc`".
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Scalar { text, .. } if text.chars().count() > 40 => {
                format!("the text `{}…`", text.chars().take(40).collect::<String>())
            }
            Value::Scalar { text, .. } => format!("the text `{text}`"),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
        }
    }

    /// This node with `over` laid on top: mappings are merged key by key, anything else is replaced.
    #[must_use]
    pub fn merged(&self, over: &Self) -> Self {
        let (Value::Mapping(base), Value::Mapping(top)) = (&self.value, &over.value) else {
            return over.clone();
        };
        let mut entries = base.clone();
        for entry in top {
            match entries.iter_mut().find(|existing| existing.key == entry.key) {
                Some(existing) => {
                    existing.value = existing.value.merged(&entry.value);
                    existing.key_span = entry.key_span;
                }
                None => entries.push(entry.clone()),
            }
        }
        Self { span: over.span, value: Value::Mapping(entries) }
    }
}

impl From<&serde_json::Value> for Node {
    fn from(json: &serde_json::Value) -> Self {
        let value = match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(truth) => Value::Scalar { text: truth.to_string(), quoted: false },
            serde_json::Value::Number(number) => Value::Scalar { text: number.to_string(), quoted: false },
            serde_json::Value::String(text) => Value::Scalar { text: text.clone(), quoted: true },
            serde_json::Value::Array(items) => Value::Sequence(items.iter().map(Self::from).collect()),
            serde_json::Value::Object(fields) => Value::Mapping(
                fields.iter().map(|(key, value)| Entry { key: key.clone(), key_span: Span::default(), value: Self::from(value) }).collect(),
            ),
        };
        Self { span: Span::default(), value }
    }
}
