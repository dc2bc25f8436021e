//! `key_sources`: where keys are fetched that a scheme names as `remote:NAME`.

use std::collections::BTreeMap;

use super::destination::is_open;
use super::route::Draft;
use super::{Compiler, shared};
use crate::config::KeySource;
use crate::config::resolve::nearest;
use crate::config::scalar;
use crate::config::section::Section;
use crate::config::units::shown;
use crate::config::wrong::Wrong;
use crate::document::{Entry, Node};
use crate::model::Name;
use crate::signature::Verifier;

/// What stands for the key's id.
const ID: &str = "{id}";

impl Compiler<'_> {
    pub(super) fn key_sources(&mut self, section: &Section<'_>) -> BTreeMap<Name, KeySource> {
        let mut sources = BTreeMap::new();
        for entry in section.entries() {
            let source = self.key_source(&Section::new(&entry.value, section.path(&entry.key)));
            if let Some(source) = source {
                sources.insert(shared(&entry.key), source);
            }
        }
        sources
    }

    fn key_source(&mut self, section: &Section<'_>) -> Option<KeySource> {
        let url = section.text("url")?;
        let body = section.section("body");
        let auth = self.auth(&section.section("auth"));
        let mut members = Vec::new();
        for entry in body.entries() {
            let secret = self.text_or_secret(&entry.value, &body.path(&entry.key))?;
            if std::str::from_utf8(secret.expose()).is_err() {
                self.report.error(Wrong::new("is no text that JSON can hold"), entry.value.span, body.path(&entry.key));
            }
            members.push((entry.key.as_str().into(), secret));
        }
        let place = |key| (section.span(key), section.path(key));
        let (span, path) = place("url");
        let named = url.contains(ID) || body.entries().iter().any(|entry| entry.value.as_str() == Some(ID));
        if !named {
            let wrong = Wrong::new("nothing says which key is asked for").hint("put `{id}` into the url, or into `body`");
            self.report.error(wrong, span, &path);
        }
        // The id may stand in path or query only: never may a request choose the host.
        let sample = url.replace(ID, "id");
        match scalar::url(&sample) {
            Ok(parsed)
                if parsed
                    .host_str()
                    .is_some_and(|host| scalar::url(&url.replace(ID, "x")).is_ok_and(|other| other.host_str() == Some(host))) =>
            {
                if is_open(&parsed) {
                    self.report.error(Wrong::new("keys are fetched over https only").hint("whoever is on the way could sign"), span, &path);
                }
            }
            Ok(_) => self.report.error(Wrong::new("`{id}` can't stand in the host"), span, &path),
            Err(wrong) => self.report.error(wrong, span, &path),
        }
        let pointer = section.text("pointer");
        if pointer.is_some_and(|pointer| !pointer.starts_with('/')) {
            let (span, path) = place("pointer");
            self.report.error(Wrong::new("is no JSON pointer").hint("such as `/key`"), span, path);
        }
        Some(KeySource { url: url.into(), auth, body: body.exists().then_some(members), pointer: pointer.map(Into::into) })
    }

    /// Every source that a scheme names has to be there, and every one that is there should be named.
    pub(super) fn link_keys(&mut self, document: &Node, drafts: &[Draft]) {
        let written: &[Entry] = document.get("key_sources").and_then(Node::as_mapping).unwrap_or_default();
        let known = || written.iter().map(|entry| entry.key.as_str());
        let mut used: Vec<&str> = Vec::new();
        for draft in drafts {
            for source in draft.verifier.as_ref().map(Verifier::key_sources).unwrap_or_default() {
                used.push(source);
                if !known().any(|name| name == source) {
                    let hint = nearest(source, known().collect::<Vec<_>>());
                    let hint = hint.unwrap_or_else(|| {
                        format!("add `key_sources: {{ {}: {{ url: …, auth: … }} }}`, or give `secrets` by key id", shown(source))
                    });
                    let wrong =
                        Wrong::new(format!("its keys come from the key source \"{}\", which is not there", shown(source))).hint(hint);
                    self.report.error(wrong, draft.verify.span, &draft.verify.path);
                }
            }
        }
        for entry in written.iter().filter(|entry| !used.contains(&entry.key.as_str())) {
            let wrong = Wrong::new(format!("no route's keys come from \"{}\"", shown(&entry.key)));
            self.report.warn(wrong, entry.key_span, format!("key_sources.{}", entry.key));
        }
    }
}
