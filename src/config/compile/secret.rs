//! Secrets: `{ env: NAME }` or `{ file: PATH }`, never a literal. What is missing, empty or obviously no
//! secret is refused; no message ever repeats a value (I9).

use std::os::unix::ffi::OsStringExt;

use zeroize::Zeroizing;

use super::Compiler;
use crate::config::fields::SECRET;
use crate::config::limits::{SECRET_BYTES_MAX, SECRET_BYTES_SHORT};
use crate::config::resolve::{described, join, nearest};
use crate::config::scalar;
use crate::config::units::shown;
use crate::config::wrong::Wrong;
use crate::document::{Node, Value};
use crate::model::{Secret, Timestamp};
use crate::signature::{KeyMaterial, SecretSource};

/// What people leave in a template; none of them is ever meant.
const PLACEHOLDERS: [&str; 14] = [
    "changeme",
    "change-me",
    "change_me",
    "replace-me",
    "replace_me",
    "replaceme",
    "development_secret",
    "your-secret",
    "your_secret",
    "nil",
    "null",
    "none",
    "undefined",
    "todo",
];

/// A secret that can't be had, and whether `--allow-missing-secrets` lets that pass.
struct Unusable {
    wrong: Wrong,
    missing: bool,
}

impl SecretSource for Compiler<'_> {
    fn secret(&mut self, node: &Node, path: &str) -> Option<KeyMaterial> {
        let not_after = self.secret_keys(node, path)?;
        let bytes = match self.secret_bytes(node) {
            Ok(bytes) => bytes,
            Err(Unusable { wrong, missing: true }) if self.options.allow_missing_secrets => {
                self.report.warn(wrong.hint("a made-up one stands in (--allow-missing-secrets)"), node.span, path);
                made_up()?
            }
            Err(Unusable { wrong, .. }) => {
                self.report.error(wrong, node.span, path);
                return None;
            }
        };
        if let (Some(end), Some(now)) = (not_after, self.options.now)
            && end <= now
        {
            self.report.warn(Wrong::new(format!("has not counted since {end}")).hint("remove it"), node.span, path);
        }
        Some(KeyMaterial { secret: Secret::new(bytes.to_vec()), not_after })
    }
}

impl Compiler<'_> {
    /// The secret alone, where a time of expiry has no meaning.
    pub(super) fn plain_secret(&mut self, node: &Node, path: &str) -> Option<Secret> {
        let material = self.secret(node, path)?;
        if material.not_after.is_some() {
            self.report.error(Wrong::new("`not_after` has no meaning here"), node.span, path);
            return None;
        }
        Some(material.secret)
    }

    /// A text, or a secret.
    pub(super) fn text_or_secret(&mut self, node: &Node, path: &str) -> Option<Secret> {
        match &node.value {
            Value::Scalar { text, .. } if !text.trim().is_empty() => match scalar::placeholder(text) {
                None => Some(Secret::new(text.clone().into_bytes())),
                Some(wrong) => {
                    self.report.error(wrong, node.span, path);
                    None
                }
            },
            Value::Scalar { .. } => {
                self.report.error(Wrong::new("the text is empty"), node.span, path);
                None
            }
            Value::Null | Value::Sequence(_) | Value::Mapping(_) => self.plain_secret(node, path),
        }
    }

    /// Warns when a secret of our own making could have been longer.
    pub(super) fn warn_if_short(&mut self, secret: &Secret, node: &Node, path: &str) {
        if secret.expose().len() < SECRET_BYTES_SHORT {
            let wrong = Wrong::new(format!("is shorter than {SECRET_BYTES_SHORT} bytes and may be guessed"))
                .hint("make one with `kurier secret new`");
            self.report.warn(wrong, node.span, path);
        }
    }

    /// Checks the keys and gives `not_after`; `None` when the node is no secret, which has been reported.
    fn secret_keys(&mut self, node: &Node, path: &str) -> Option<Option<Timestamp>> {
        let Value::Mapping(entries) = &node.value else {
            self.report.error(not_a_secret(node), node.span, path);
            return None;
        };
        let errors_before = self.report.errors.len();
        let known = || SECRET.fields.iter().map(|field| field.name);
        for entry in entries.iter().filter(|entry| !known().any(|name| name == entry.key)) {
            let hint = nearest(&entry.key, known().collect::<Vec<_>>()).unwrap_or_else(|| "known here: env, file, not_after".to_owned());
            self.report.error(
                Wrong::new(format!("unknown key \"{}\"", shown(&entry.key))).hint(hint),
                entry.key_span,
                join(path, &entry.key),
            );
        }
        match (node.get("env"), node.get("file")) {
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(_)) => self.report.error(Wrong::new("has both `env` and `file`").hint("one of them"), node.span, path),
            (None, None) => self.report.error(Wrong::new("names no secret").hint("`{ env: NAME }` or `{ file: PATH }`"), node.span, path),
        }
        let not_after = node.get("not_after").and_then(|time| match time.as_str().unwrap_or_default().parse() {
            Ok(time) => Some(time),
            Err(error) => {
                self.report.error(Wrong::new(error_text(&error)), time.span, join(path, "not_after"));
                None
            }
        });
        (self.report.errors.len() == errors_before).then_some(not_after)
    }

    fn secret_bytes(&mut self, node: &Node) -> Result<Zeroizing<Vec<u8>>, Unusable> {
        let refused = |wrong| Unusable { wrong, missing: false };
        let (bytes, what) = if let Some(name) = node.get("env") {
            let name = name.as_str().unwrap_or_default();
            scalar::variable_name(name).map_err(refused)?;
            let hint = format!("export {name}=… with the secret that the other side has, or make one with `kurier secret new`");
            let missing =
                || Unusable { wrong: Wrong::new(format!("the environment variable {name} is not set")).hint(hint), missing: true };
            let value = self.env.var(name).ok_or_else(missing)?;
            (Zeroizing::new(value.into_vec()), format!("the environment variable {name}"))
        } else {
            let text = node.get("file").and_then(Node::as_str).unwrap_or_default();
            if text.is_empty() || text.contains('\0') {
                return Err(refused(Wrong::new("names no file").hint("`{ file: PATH }`")));
            }
            let mut bytes = self.content(text, SECRET_BYTES_MAX).map_err(|wrong| Unusable { wrong, missing: true })?;
            trim_newline(&mut bytes);
            (bytes, format!("the file {}", self.located(text).display()))
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            let state = if bytes.is_empty() { "is empty" } else { "holds nothing but blanks" };
            let wrong = Wrong::new(format!("{what} {state}")).hint("make a secret with `kurier secret new`");
            return Err(Unusable { wrong, missing: true });
        }
        if is_placeholder(&bytes) {
            return Err(refused(
                Wrong::new(format!("{what} holds a placeholder, not a secret")).hint("make a secret with `kurier secret new`"),
            ));
        }
        if bytes.len() as u64 > SECRET_BYTES_MAX {
            return Err(refused(Wrong::new(format!("{what} is longer than {SECRET_BYTES_MAX} bytes"))));
        }
        Ok(bytes)
    }
}

fn error_text(error: &dyn std::error::Error) -> String {
    error.to_string()
}

/// One line end is the editor's, not the secret's.
fn trim_newline(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
}

fn is_placeholder(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let text = text.trim();
    text.contains("${")
        || text.starts_with("env:")
        || text.starts_with("file:")
        || (text.starts_with('<') && text.ends_with('>'))
        || (text.starts_with("{{") && text.ends_with("}}"))
        || text.chars().all(|c| matches!(c, '*' | 'x' | 'X' | '.' | '…'))
        || PLACEHOLDERS.iter().any(|placeholder| placeholder.eq_ignore_ascii_case(text))
}

fn not_a_secret(node: &Node) -> Wrong {
    match &node.value {
        Value::Scalar { text, .. } => {
            let wrong = Wrong::new("a secret can't stand in this file");
            let name = text.strip_prefix("env:").map(str::trim).or_else(|| text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')));
            match name.or_else(|| text.strip_prefix('$')).filter(|name| scalar::variable_name(name).is_ok()) {
                Some(name) => wrong.hint(format!("write `{{ env: {name} }}`")),
                None => wrong.hint("put it in an environment variable or a file: `{ env: NAME }` or `{ file: PATH }`"),
            }
        }
        Value::Null => Wrong::new("is empty").hint("`{ env: NAME }` or `{ file: PATH }`"),
        Value::Sequence(_) | Value::Mapping(_) => {
            Wrong::new(format!("expected `{{ env: NAME }}` or `{{ file: PATH }}`, found {}", described(node)))
        }
    }
}

/// 64 hex digits: readable as plain text, as hex, and as base64 of the length that Standard Webhooks wants.
/// Random, so that it can't become a known key even if somebody should serve with it.
fn made_up() -> Option<Zeroizing<Vec<u8>>> {
    let mut random = Zeroizing::new([0_u8; 32]);
    getrandom::fill(random.as_mut_slice()).ok()?;
    Some(Zeroizing::new(hex::encode(random.as_slice()).into_bytes()))
}
