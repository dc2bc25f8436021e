//! `key`: how a key is written, and where it comes from.

use super::super::algorithm::Algorithm;
use super::super::key::{KeyEncoding, Keys};
use super::super::limits::MEMBERS_MAX;
use super::super::remote::{Host, Place, Remote, checked};
use super::super::source::Source;
use super::super::template::{self, Allowed};
use super::builder::{Builder, known_keys};
use super::secrets::Secrets;
use crate::document::{Node, Value};

/// Whether the scheme's keys are fetched.
pub(super) fn is_fetched(scheme: &Node) -> bool {
    scheme.get("key").and_then(|key| key.get("source")).and_then(Node::as_str).is_some_and(|source| source != "static")
}

/// A preset whose keys the route brings itself: nothing is fetched for it. Keys without ids are tried whatever
/// the request names.
pub(super) fn kept_here(preset: &Node, with_ids: bool) -> Node {
    if !is_fetched(preset) {
        return preset.clone();
    }
    let Some(key) = preset.get("key") else { return preset.clone() };
    let moot: &[&str] = if with_ids { &["source", "allow_hosts"] } else { &["source", "allow_hosts", "by"] };
    let entries = key.as_mapping().unwrap_or_default().iter().filter(|entry| !moot.contains(&entry.key.as_str()));
    let key = Node { span: key.span, value: Value::Mapping(entries.cloned().collect()) };
    let mut entries = preset.as_mapping().unwrap_or_default().to_vec();
    entries.iter_mut().filter(|entry| entry.key == "key").for_each(|entry| entry.value = key.clone());
    Node { span: preset.span, value: Value::Mapping(entries) }
}

impl Builder<'_> {
    pub(super) fn keys(&mut self, node: &Node, path: &str, algorithm: Algorithm, secrets: &Secrets, skip: bool) -> Option<Keys> {
        let path = format!("{path}.key");
        let empty = Node { span: node.span, value: Value::Mapping(Vec::new()) };
        let key = node.get("key").unwrap_or(&empty);
        known_keys(self.problems, key, &path, &["encoding", "by", "source", "allow_hosts"]);
        let encoding = match (self.text(key, &path, "encoding"), algorithm) {
            (Some(word), _) => KeyEncoding::parse(word).map_err(|message| self.problem(key, &format!("{path}.encoding"), message)).ok()?,
            (None, Algorithm::Public(_)) => {
                self.problem(key, &path, "`encoding` is missing: pem, spki, x509, jwk, whpk, hex or base64");
                return None;
            }
            (None, Algorithm::Hmac(_) | Algorithm::Digest(_) | Algorithm::Token | Algorithm::Basic) => KeyEncoding::Utf8,
        };
        let by = match self.text(key, &path, "by") {
            Some(by) => Some(self.single(key, &format!("{path}.by"), by)?.0),
            None => None,
        };
        match self.text(key, &path, "source") {
            None | Some("static") if key.get("allow_hosts").is_some() => {
                self.problem(key, &format!("{path}.allow_hosts"), "has no meaning without a `source` that is fetched");
                None
            }
            None | Some("static") => secrets.keys(algorithm, encoding, by, skip, self.problems),
            Some(source) => {
                let path = format!("{path}.source");
                if !secrets.is_empty() {
                    self.problem(key, &path, "there are `secrets` already: the key is fetched or configured, not both");
                }
                if !matches!(algorithm, Algorithm::Public(_)) {
                    self.problem(key, &path, "only a public key can be fetched: a shared one would be none");
                }
                let place = self.place(key, &path, source, encoding, by)?;
                Some(Keys::Remote(Box::new(Remote { place, algorithm, encoding })))
            }
        }
    }

    fn place(&mut self, key: &Node, path: &str, source: &str, encoding: KeyEncoding, by: Option<Source>) -> Option<Place> {
        let (kind, rest) = source.split_once(':').unwrap_or((source, ""));
        let set = encoding == KeyEncoding::Jwk;
        match (kind, by) {
            ("jwks", by) if set => {
                let Some(by) = by else {
                    self.problem(key, path, "`by` is missing: where a request names its key, such as `jwt:kid`");
                    return None;
                };
                let hosts: Vec<Host> = rest
                    .strip_prefix("https://")
                    .and_then(|rest| rest.split('/').next())
                    .and_then(|host| Host::parse(host).ok())
                    .into_iter()
                    .collect();
                if key.get("allow_hosts").is_some() {
                    self.problem(key, path, "`allow_hosts` has no meaning for a fixed url");
                }
                if checked(rest.as_bytes(), &hosts).is_none() {
                    self.problem(key, path, format!("`{rest}` is no plain url such as https://sender.example/jwks.json"));
                    return None;
                }
                Some(Place::Url { url: template::literal(rest), hosts, by: Some(by) })
            }
            ("url", by) if by.is_some() == set => {
                let url = self.template(&Node::text(rest), path, Allowed::PLAIN)?;
                let hosts = self.allow_hosts(key, path)?;
                Some(Place::Url { url, hosts, by })
            }
            ("remote", Some(by)) if !rest.is_empty() => Some(Place::Named { source: rest.into(), by }),
            ("remote", None) => {
                self.problem(key, path, "`by` is missing: where a request names its key");
                None
            }
            ("jwks", _) => {
                self.problem(key, path, "a set of keys goes with `encoding: jwk`");
                None
            }
            ("url", _) => {
                self.problem(key, path, "at a url there is one key without `by`, or with `by` a set of them (`encoding: jwk`)");
                None
            }
            _ => {
                self.problem(key, path, format!("unknown source `{source}`; static, url:TEMPLATE, jwks:URL and remote:NAME are known"));
                None
            }
        }
    }

    fn allow_hosts(&mut self, key: &Node, path: &str) -> Option<Vec<Host>> {
        let texts = self.texts(key, path, "allow_hosts");
        if !(1..=MEMBERS_MAX).contains(&texts.len()) {
            self.problem(key, path, "`allow_hosts` is missing: without it a request could name any host");
            return None;
        }
        let mut hosts = Vec::with_capacity(texts.len());
        for text in &texts {
            match Host::parse(text) {
                Ok(host) => hosts.push(host),
                Err(message) => self.problem(key, &format!("{path}.allow_hosts"), message),
            }
        }
        (hosts.len() == texts.len()).then_some(hosts)
    }
}
