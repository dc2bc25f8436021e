//! `secrets` and `config`: resolved once, before the variants are compiled.

use super::super::KeyMaterial;
use super::super::SecretSource;
use super::super::algorithm::Algorithm;
use super::super::key::{Key, KeyEncoding, Keys};
use super::super::limits::{KEY_IDS_MAX, KEYS_MAX};
use super::super::source::Source;
use crate::document::{Node, Problem, Span};
use crate::model::Secret;

/// Secrets as configured, with where they stand.
pub(super) struct Secrets {
    span: Span,
    path: String,
    named: bool,
    list: Vec<Resolved>,
    /// One could not be had, which its source has reported where that is an error.
    missing: bool,
}

struct Resolved {
    id: Box<str>,
    span: Span,
    path: String,
    material: KeyMaterial,
}

/// Resolves secrets and remembers whether one could not be had.
pub(super) struct Resolver<'r> {
    pub(super) secrets: &'r mut dyn SecretSource,
    pub(super) missing: bool,
}

impl Resolver<'_> {
    fn secret(&mut self, node: &Node, path: &str) -> Option<KeyMaterial> {
        let material = self.secrets.secret(node, path);
        self.missing |= material.is_none();
        material
    }

    /// `secrets: [...]`, `secrets: {id: ...}` or one secret.
    pub(super) fn secrets(&mut self, scheme: &Node, path: &str, problems: &mut Vec<Problem>) -> Secrets {
        let key = if scheme.get("secrets").is_none() && scheme.get("secret").is_some() { "secret" } else { "secrets" };
        let path = format!("{path}.{key}");
        let mut secrets = Secrets { span: scheme.span, path, named: false, list: Vec::new(), missing: false };
        let Some(node) = scheme.get(key) else {
            problems.push(Problem::new(scheme.span, &secrets.path, "there are no secrets").with_hint("write `secrets: [{ env: NAME }]`"));
            return secrets;
        };
        secrets.span = node.span;
        let entries: Vec<(Box<str>, &Node, String)> = if let Some(items) = node.as_sequence() {
            items.iter().enumerate().map(|(index, item)| ("".into(), item, format!("{}[{index}]", secrets.path))).collect()
        } else if let Some(ids) = node.as_mapping().filter(|_| !is_secret(node)) {
            secrets.named = true;
            ids.iter().map(|entry| (entry.key.as_str().into(), &entry.value, format!("{}.{}", secrets.path, entry.key))).collect()
        } else {
            vec![("".into(), node, secrets.path.clone())]
        };
        let limit = if secrets.named { KEY_IDS_MAX } else { KEYS_MAX };
        if entries.len() > limit {
            problems.push(Problem::new(node.span, &secrets.path, format!("{} keys, and at most {limit} are tried", entries.len())));
        }
        for (id, node, path) in entries.into_iter().take(limit) {
            match self.secret(node, &path) {
                Some(material) => secrets.list.push(Resolved { id, span: node.span, path, material }),
                None => secrets.missing = true,
            }
        }
        secrets
    }

    /// `config: {k: text or secret}`
    pub(super) fn config(&mut self, scheme: &Node, path: &str, problems: &mut Vec<Problem>) -> Vec<(String, Secret)> {
        let Some(node) = scheme.get("config") else { return Vec::new() };
        let path = format!("{path}.config");
        let Some(entries) = node.as_mapping() else {
            problems.push(Problem::new(node.span, path, format!("a mapping is expected, not {}", node.describe())));
            return Vec::new();
        };
        let mut config = Vec::with_capacity(entries.len());
        for entry in entries {
            let path = format!("{path}.{}", entry.key);
            let value = match entry.value.as_str() {
                Some(text) => Some(Secret::new(text.as_bytes().to_vec())),
                None => self.secret(&entry.value, &path).map(|material| material.secret),
            };
            match value {
                Some(value) if value.expose().trim_ascii().is_empty() => {
                    problems.push(Problem::new(entry.value.span, path, "is empty"));
                }
                Some(value) => config.push((entry.key.clone(), value)),
                None => {}
            }
        }
        config
    }

    /// One secret, or a literal text where `literal` allows it.
    pub(super) fn one(&mut self, node: &Node, path: &str, literal: bool) -> Option<Secret> {
        match node.as_str() {
            Some(text) if literal => Some(Secret::new(text.as_bytes().to_vec())),
            Some(_) | None => self.secret(node, path).map(|material| material.secret),
        }
    }
}

/// Whether these are secrets by key id.
pub(super) fn is_map(node: &Node) -> bool {
    node.as_mapping().is_some() && !is_secret(node)
}

/// Whether a mapping is one secret, not a map of them by key id.
fn is_secret(node: &Node) -> bool {
    let keys: Vec<&str> = node.as_mapping().unwrap_or_default().iter().map(|entry| entry.key.as_str()).collect();
    (keys.contains(&"env") || keys.contains(&"file")) && keys.iter().all(|key| ["env", "file", "not_after"].contains(key))
}

impl Secrets {
    /// Of a scheme whose keys are fetched.
    pub(super) fn none(scheme: &Node, path: &str) -> Self {
        Self { span: scheme.span, path: format!("{path}.secrets"), named: false, list: Vec::new(), missing: false }
    }

    /// Whether there are any, or should be.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty() && !self.missing
    }

    /// The keys of one variant. With `skip`, keys that can't be used are left out instead of reported: that is
    /// how recorded vectors of other implementations are read, never a configuration.
    pub(super) fn keys(
        &self,
        algorithm: Algorithm,
        encoding: KeyEncoding,
        by: Option<Source>,
        skip: bool,
        problems: &mut Vec<Problem>,
    ) -> Option<Keys> {
        if self.list.is_empty() && !skip {
            let reported = self.missing || problems.iter().any(|problem| problem.path.starts_with(&self.path));
            if !reported {
                problems.push(Problem::new(self.span, &self.path, "there are no secrets"));
            }
            return None;
        }
        let mut keys = Vec::with_capacity(self.list.len());
        for resolved in &self.list {
            match Key::new(&resolved.material.secret, resolved.material.not_after, algorithm, encoding) {
                Ok(key) => keys.push((resolved.id.clone(), key)),
                Err(_) if skip => {}
                Err(message) => {
                    let problem = Problem::new(resolved.span, &resolved.path, format!("this key {message}"));
                    if !problems.contains(&problem) {
                        problems.push(problem);
                    }
                }
            }
        }
        match (by, self.named) {
            (Some(by), true) => Some(Keys::ById { by, keys }),
            (None, false) => Some(Keys::Any(keys.into_iter().map(|(_, key)| key).collect())),
            (Some(_), false) => {
                let hint = "write `secrets: { ID: { env: NAME } }`";
                problems.push(
                    Problem::new(self.span, &self.path, "this scheme's requests name their key: the secrets must be a map by key id")
                        .with_hint(hint),
                );
                None
            }
            (None, true) => {
                problems.push(Problem::new(
                    self.span,
                    &self.path,
                    "a map by key id, but `key.by` does not say where a request names its key",
                ));
                None
            }
        }
    }
}
