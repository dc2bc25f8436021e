//! The second pass: the checked tree becomes a [`Config`]. It never stops at a problem: every part is looked
//! at, so that one run of `check` says everything.

mod destination;
mod key_source;
mod link;
mod route;
mod secret;
mod server;
mod systems;
mod tls;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;
use zeroize::Zeroizing;

use super::environment::Environment;
use super::fields::ROOT;
use super::fingerprint::Fingerprints;
use super::section::Section;
use super::table::Shape;
use super::wrong::{Report, Wrong};
use super::{Config, LoadOptions, RouteIndex};
use crate::document::{Node, Span};
use crate::jq::Programs;
use crate::model::Name;
use route::Place;

/// One load in progress.
pub(super) struct Compiler<'a> {
    /// Variables and files.
    pub(super) env: &'a dyn Environment,
    /// The file's text.
    pub(super) text: &'a str,
    /// Where relative paths start.
    pub(super) folder: &'a Path,
    /// How strict to be.
    pub(super) options: &'a LoadOptions,
    /// What `server.public_url` says.
    pub(super) public_url: Option<Arc<str>>,
    /// Whether there is a `store.key`.
    pub(super) has_store_key: bool,
    /// Where each address is written at which browsers come back.
    pub(super) redirect_places: BTreeMap<Url, (Span, String)>,
    /// The programs of `when` and `transform`.
    pub(super) programs: Programs,
    /// What was found.
    pub(super) report: Report,
    /// What was read.
    pub(super) read: Fingerprints,
}

impl<'a> Compiler<'a> {
    /// A load that has read nothing yet.
    pub(super) fn new(env: &'a dyn Environment, text: &'a str, folder: &'a Path, options: &'a LoadOptions) -> Self {
        Self {
            env,
            text,
            folder,
            options,
            public_url: None,
            has_store_key: false,
            redirect_places: BTreeMap::new(),
            programs: Programs::default(),
            report: Report::default(),
            read: Fingerprints::default(),
        }
    }

    /// The configuration of this document; `None` when there are errors in the report.
    pub(super) fn config(&mut self, document: &Node) -> Option<Config> {
        let tree = self.resolve(document, &Shape::Object(&ROOT), "")?;
        let root = Section::new(&tree, "");
        let server = self.server(&root.section("server"));
        let admin = self.admin(&root.section("admin"), &server);
        let store = self.store(&root.section("store"));
        self.public_url.clone_from(&server.public_url);
        self.has_store_key = root.section("store").get("key").is_some();
        let mut destinations = self.destinations(&root.section("destinations"));
        let key_sources = self.key_sources(&root.section("key_sources"));
        let drafts = self.routes(&root.section("routes"), &server);
        if document.get("routes").and_then(Node::as_mapping).is_some_and(<[_]>::is_empty) {
            self.report.error(Wrong::new("there is no route"), root.span("routes"), "routes");
        }
        self.link_keys(document, &drafts);
        let notify = root.text("notify").map(|name| (shared(name), Place::of(&root, "notify")));
        self.link(document, &drafts, &destinations, notify.as_ref(), &server, &store);
        let mut routes = Vec::with_capacity(drafts.len());
        let mut complete = true;
        for draft in drafts {
            match draft.finish() {
                Some((route, own)) => {
                    routes.push(Arc::new(route));
                    destinations.extend(own.into_iter().map(|destination| (destination.name.clone(), destination)));
                }
                None => complete = false,
            }
        }
        if self.report.errors.is_empty() && !complete {
            // Fail closed (S19): a scheme that can't be compiled must never leave a route, or its absence.
            self.report.error(Wrong::new("a route could not be built"), root.span("routes"), "routes");
        }
        if !self.report.errors.is_empty() {
            return None;
        }
        let destinations: BTreeMap<_, _> = destinations.into_iter().map(|(name, destination)| (name, Arc::new(destination))).collect();
        let files = self.read.paths().map(Path::to_owned).collect();
        let programs = Arc::new(std::mem::take(&mut self.programs));
        let (index, notify) = (RouteIndex::new(&routes), notify.map(|(name, _)| name));
        let redirects = self.redirects(&destinations, &index, &routes)?;
        Some(Config { server, admin, store, index, routes, destinations, programs, notify, redirects, key_sources, files })
    }

    /// A path of the file, from the file's folder on.
    fn located(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }

    /// Reads a file that the configuration names, and remembers what was in it.
    fn content(&mut self, text: &str, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, Wrong> {
        let path = self.located(text);
        let content = self.env.read(&path, bytes_max);
        self.read.note(&path, content.as_ref().ok().map(|content| content.as_slice()));
        content.map_err(|error| {
            let wrong = Wrong::new(format!("the file {} can't be read: {error}", path.display()));
            if Path::new(text).is_relative() { wrong.hint("relative paths start at the configuration's folder") } else { wrong }
        })
    }
}

fn shared(name: &str) -> Name {
    Name::from(name)
}
