//! Reading a scheme's nodes, collecting every problem.

use super::super::json::Pointers;
use super::super::source::{Names, Source};
use super::super::template::{self, Allowed, Program};
use crate::document::{Node, Problem, Value, did_you_mean};
use crate::model::Secret;

/// What is needed to compile the parts of one scheme.
pub(super) struct Builder<'b> {
    pub(super) problems: &'b mut Vec<Problem>,
    pub(super) pointers: &'b mut Pointers,
    pub(super) config: &'b [(String, Secret)],
    /// Whether there is a signature whose parts `sig:` can name.
    pub(super) fields: bool,
    /// Whether it is a token, whose parts `jwt:` and `claim:` can name.
    pub(super) token: bool,
}

/// Reports keys that are not known here.
pub(super) fn known_keys(problems: &mut Vec<Problem>, node: &Node, path: &str, known: &[&str]) {
    let Some(entries) = node.as_mapping() else {
        problems.push(Problem::new(node.span, path, format!("a mapping is expected, not {}", node.describe())));
        return;
    };
    for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
        let path = format!("{path}.{}", entry.key);
        let mut problem = Problem::new(entry.key_span, path, format!("unknown key `{}`", entry.key));
        problem.hint = did_you_mean(&entry.key, known.iter().copied());
        problems.push(problem);
    }
}

impl Builder<'_> {
    pub(super) fn problem(&mut self, node: &Node, path: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(node.span, path, message));
    }

    /// The text under a key, where there is one.
    pub(super) fn text<'n>(&mut self, node: &'n Node, path: &str, key: &str) -> Option<&'n str> {
        let value = node.get(key)?;
        let text = value.as_str();
        if text.is_none() {
            self.problem(value, &format!("{path}.{key}"), format!("a text is expected, not {}", value.describe()));
        }
        text
    }

    /// The same, where it must not be empty: separators.
    pub(super) fn separator(&mut self, node: &Node, path: &str, key: &str) -> Option<Box<str>> {
        match self.text(node, path, key) {
            Some("") => {
                self.problem(node, &format!("{path}.{key}"), "is empty");
                None
            }
            Some(text) => Some(text.into()),
            None => {
                if node.get(key).is_none() {
                    self.problem(node, path, format!("`{key}` is missing"));
                }
                None
            }
        }
    }

    /// A truth value; false where it is not said.
    pub(super) fn flag(&mut self, node: &Node, path: &str, key: &str) -> bool {
        let Some(value) = node.get(key) else { return false };
        if value.as_bool().is_none() {
            self.problem(value, &format!("{path}.{key}"), format!("`true` or `false` is expected, not {}", value.describe()));
        }
        value.as_bool().unwrap_or(false)
    }

    /// A list of texts, or one text.
    pub(super) fn texts(&mut self, node: &Node, path: &str, key: &str) -> Vec<Box<str>> {
        let Some(value) = node.get(key) else { return Vec::new() };
        let items = value.as_sequence().unwrap_or(std::slice::from_ref(value));
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.as_str() {
                Some(text) => texts.push(text.into()),
                None => self.problem(item, &format!("{path}.{key}"), format!("a text is expected, not {}", item.describe())),
            }
        }
        texts
    }

    fn names(&mut self) -> Names<'_> {
        Names { pointers: self.pointers, config: self.config, fields: self.fields, token: self.token && self.fields }
    }

    /// A source by its text.
    pub(super) fn source(&mut self, node: &Node, path: &str, text: &str) -> Option<(Source, Box<str>)> {
        let parsed = Source::parse(text, &mut self.names());
        parsed.map_err(|message| self.problem(node, path, message)).ok()
    }

    /// A source that stands for one value.
    pub(super) fn single(&mut self, node: &Node, path: &str, text: &str) -> Option<(Source, Box<str>)> {
        let (source, name) = self.source(node, path, text)?;
        if source.is_many() {
            self.problem(node, path, format!("`{text}` can stand for several values"));
            return None;
        }
        Some((source, name))
    }

    /// The sources under a key: one, or a list.
    pub(super) fn sources(&mut self, node: &Node, path: &str, key: &str) -> Vec<Source> {
        let Some(value) = node.get(key) else { return Vec::new() };
        let texts = self.texts(node, path, key);
        let path = format!("{path}.{key}");
        texts.iter().filter_map(|text| self.source(value, &path, text)).map(|(source, _)| source).collect()
    }

    /// A template.
    pub(super) fn template(&mut self, node: &Node, path: &str, allowed: Allowed<'_>) -> Option<Program> {
        let Some(text) = node.as_str() else {
            self.problem(node, path, format!("a template is expected, not {}", node.describe()));
            return None;
        };
        template::compile(text, allowed, &mut self.names()).map_err(|message| self.problem(node, path, message)).ok()
    }

    /// A mapping from sources to templates.
    pub(super) fn pairs(&mut self, node: &Node, path: &str, key: &str) -> Vec<(Source, Program)> {
        let Some(value) = node.get(key) else { return Vec::new() };
        let path = format!("{path}.{key}");
        let Value::Mapping(entries) = &value.value else {
            self.problem(value, &path, format!("a mapping from sources to values is expected, not {}", value.describe()));
            return Vec::new();
        };
        let mut pairs = Vec::with_capacity(entries.len());
        for entry in entries {
            let source = self.single(&entry.value, &path, &entry.key);
            let wanted = self.template(&entry.value, &format!("{path}.{}", entry.key), Allowed::PLAIN);
            if let (Some((source, _)), Some(wanted)) = (source, wanted) {
                pairs.push((source, wanted));
            }
        }
        pairs
    }
}
