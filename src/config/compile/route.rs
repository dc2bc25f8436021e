//! `routes`: each becomes a draft that knows its places in the file, so that `link` can speak of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::systems::{Acknowledging, Pulling};
use super::{Compiler, shared};
use crate::config::limits::{BODY_BYTES_MAX, DEDUPE_WINDOW_DEFAULT, QUARANTINE_AGE_DEFAULT, QUARANTINE_KEEP_DEFAULT};
use crate::config::path::{SECRET_SEGMENT, is_plain_segment, parse};
use crate::config::section::{Section, in_memory};
use crate::config::within::within;
use crate::config::wrong::Wrong;
use crate::config::{DeliverTo, Destination, Failing, Jq, OrderBy, PathPattern, Quarantine, Route, Server, Wait};
use crate::connectors::inpasy;
use crate::document::{Node, Span};
use crate::jq;
use crate::model::{Answer, Name, Rate, Secret};
use crate::signature::{KeyMaterial, SecretSource, Template, Verifier};

/// What a callback of InPaSy is answered, unless the route says otherwise: what is asked for is not published.
fn taken() -> Answer {
    Answer { status: 200, content_type: Some("text/plain".into()), body: Bytes::from_static(b"OK") }
}

/// What belongs to requests only.
const SENT_ONLY: [&str; 8] = ["path", "path_secret", "methods", "verify", "limits", "respond", "inpasy", "quarantine"];

/// A route whose connections to the rest are not yet checked.
pub(super) struct Draft {
    pub(super) name: Name,
    pub(super) pattern: Option<PathPattern>,
    pub(super) path: Place,
    pub(super) methods: Vec<Method>,
    pub(super) verifier: Option<Verifier>,
    pub(super) verify: Place,
    pub(super) dedupe_key: Option<Template>,
    pub(super) dedupe_window: Duration,
    pub(super) window: Place,
    pub(super) order_by: Option<OrderBy>,
    pub(super) body_limit: usize,
    pub(super) body: Place,
    pub(super) rate: Option<Rate>,
    pub(super) respond: Option<Answer>,
    pub(super) wait: Option<Wait>,
    pub(super) deliver: Vec<(DeliverTo, Place)>,
    pub(super) acknowledge: Option<Acknowledging>,
    pub(super) confirm: Option<(Destination, Place)>,
    pub(super) quarantine: Option<(Quarantine, Place)>,
    pub(super) inpasy: Option<Arc<inpasy::Settings>>,
    pub(super) pull: Option<Pulling>,
    /// Whether its events are fetched, however well that is described.
    pub(super) is_pulled: bool,
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) span: Span,
    pub(super) path: String,
}

impl Place {
    pub(super) fn of(section: &Section<'_>, key: &str) -> Self {
        Self { span: section.span(key), path: section.path(key) }
    }
}

impl Draft {
    /// The route, and the destinations that stand for its acknowledgements and for what it fetches, when nothing of it was wrong.
    pub(super) fn finish(self) -> Option<(Route, Vec<Destination>)> {
        let mut destinations = Vec::new();
        let acknowledge = self.acknowledge.map(|acknowledging| {
            destinations.push(acknowledging.destination);
            acknowledging.settings
        });
        let pull = self.pull.map(|pulling| {
            destinations.push(pulling.destination);
            pulling.settings
        });
        let confirm = self.confirm.map(|(destination, _)| {
            let name = destination.name.clone();
            destinations.push(destination);
            name
        });
        if self.is_pulled && pull.is_none() {
            return None;
        }
        let route = Route {
            name: self.name,
            path: if self.is_pulled { None } else { Some(self.pattern?) },
            methods: self.methods,
            verifier: self.verifier?,
            dedupe_key: self.dedupe_key,
            dedupe_window: self.dedupe_window,
            order_by: self.order_by,
            body_limit: self.body_limit,
            rate: self.rate,
            respond: self.respond,
            wait: self.wait,
            deliver: self.deliver.into_iter().map(|(deliver, _)| deliver).collect(),
            quarantine: self.quarantine.map(|(quarantine, _)| quarantine),
            inpasy: self.inpasy,
            pull,
            acknowledge,
            confirm,
        };
        Some((route, destinations))
    }
}

/// Secrets as a route's `verify` asks for them, to find one that is listed twice.
struct Listed<'l, 'c> {
    of: &'l mut Compiler<'c>,
    /// The lists' paths, and what stands in them.
    seen: Vec<(String, Secret)>,
    twice: Vec<(Span, String)>,
}

impl SecretSource for Listed<'_, '_> {
    fn secret(&mut self, node: &Node, path: &str) -> Option<KeyMaterial> {
        let material = self.of.secret(node, path)?;
        if let Some((list, _)) = path.rsplit_once('[').filter(|(list, _)| list.ends_with(".secrets")) {
            if self.seen.iter().any(|(other, secret)| other == list && secret.expose() == material.secret.expose()) {
                self.twice.push((node.span, path.to_owned()));
            }
            self.seen.push((list.to_owned(), Secret::new(material.secret.expose().to_vec())));
        }
        Some(material)
    }
}

fn quarantine(route: &Section<'_>) -> Option<(Quarantine, Place)> {
    let section = route.section("quarantine");
    section.exists().then(|| {
        let keep = section.integer("keep").and_then(|keep| usize::try_from(keep).ok()).unwrap_or(QUARANTINE_KEEP_DEFAULT);
        let max_age = section.duration("max_age").unwrap_or(QUARANTINE_AGE_DEFAULT);
        (Quarantine { keep, max_age }, Place::of(route, "quarantine"))
    })
}

impl Compiler<'_> {
    pub(super) fn routes(&mut self, section: &Section<'_>, server: &Server) -> Vec<Draft> {
        section
            .entries()
            .iter()
            .map(|entry| self.route(&entry.key, &Section::new(&entry.value, section.path(&entry.key)), server))
            .collect()
    }

    fn route(&mut self, name: &str, section: &Section<'_>, server: &Server) -> Draft {
        let dedupe = section.section("dedupe");
        let limits = section.section("limits");
        let is_pulled = section.get("pull").is_some();
        self.check_way_in(section, is_pulled);
        let pattern = self.pattern(section);
        let verifier = match section.get("verify") {
            // What is fetched comes from whoever was asked.
            None if is_pulled => Some(Verifier::none()),
            node => node.and_then(|node| self.verifier(node, &section.path("verify"))),
        };
        let preset_limit = verifier.as_ref().and_then(Verifier::body_limit);
        let body_limit = limits.size("body").map(in_memory).or(preset_limit).unwrap_or(server.limits.body);
        Draft {
            name: shared(name),
            pattern,
            path: Place::of(section, "path"),
            methods: self.methods(section, verifier.as_ref()),
            verifier,
            verify: Place::of(section, "verify"),
            dedupe_key: self.template(&dedupe, "key"),
            dedupe_window: dedupe.duration("window").unwrap_or(DEDUPE_WINDOW_DEFAULT),
            window: Place::of(&dedupe, "window"),
            order_by: self.order_by(section),
            body_limit: body_limit.min(in_memory(BODY_BYTES_MAX)),
            body: if limits.get("body").is_some() { Place::of(&limits, "body") } else { Place::of(section, "path") },
            rate: limits.rate("rate"),
            respond: self.answer(&section.section("respond")).or_else(|| section.get("inpasy").map(|_| taken())),
            wait: self.wait(&section.section("respond")),
            deliver: self.deliver(section),
            quarantine: quarantine(section),
            inpasy: self.inpasy(&section.section("inpasy")),
            pull: self.pull(name, &section.section("pull")),
            is_pulled,
            acknowledge: self.acknowledge(name, &section.section("acknowledge").section("dvelop")),
            confirm: self
                .confirm(name, &section.section("acknowledge").section("sns"))
                .map(|destination| (destination, Place::of(section, "acknowledge"))),
        }
    }

    /// Events are sent or fetched: what belongs to the one has no meaning for the other.
    fn check_way_in(&mut self, section: &Section<'_>, is_pulled: bool) {
        for key in SENT_ONLY.into_iter().filter(|key| is_pulled && section.get(key).is_some()) {
            let wrong = Wrong::new(format!("`{key}` has no meaning beside `pull`")).hint("make two routes of it");
            self.report.error(wrong, section.span(key), section.path(key));
        }
        for key in ["path", "verify"].into_iter().filter(|_| !is_pulled) {
            let (span, path) = section.here();
            let of_key = section.path(key);
            // What was written wrong has been reported, and was left out; so has an empty `pull`.
            let is_reported = |at: &str| self.report.errors.iter().any(|problem| problem.path.starts_with(at));
            if section.get(key).is_none() && !is_reported(&of_key) && !is_reported(&section.path("pull")) {
                let doc = if key == "path" {
                    "Matched exactly, byte for byte; `{name}` stands for one segment"
                } else {
                    "Who is believed: a preset, a scheme, or the word `none`"
                };
                self.report.error(Wrong::new(format!("`{key}` is missing")).hint(doc), span, path);
            }
        }
    }

    fn pattern(&mut self, section: &Section<'_>) -> Option<PathPattern> {
        let mut pattern = section.text("path").and_then(|text| parse(text).ok());
        let Some(node) = section.get("path_secret") else {
            if pattern.as_ref().is_some_and(PathPattern::wants_secret) {
                let wrong = Wrong::new(format!("nothing fills the segment `{{{SECRET_SEGMENT}}}`"))
                    .hint("add `path_secret: { env: NAME }`, or give the segment another name");
                self.report.error(wrong, section.span("path"), section.path("path"));
                return None;
            }
            return pattern;
        };
        let path = section.path("path_secret");
        let secret = self.plain_secret(node, &path);
        if pattern.as_ref().is_some_and(|pattern| !pattern.wants_secret()) {
            let wrong = Wrong::new(format!("the path has no segment `{{{SECRET_SEGMENT}}}` to fill")).hint("such as `/callbacks/{secret}`");
            self.report.error(wrong, node.span, &path);
            return None;
        }
        let secret = secret?;
        if !is_plain_segment(secret.expose()) {
            let wrong =
                Wrong::new("the secret can't stand in a path").hint("letters, digits and `-._~` only; make one with `kurier secret new`");
            self.report.error(wrong, node.span, &path);
            return None;
        }
        self.warn_if_short(&secret, node, &path);
        pattern.as_mut()?.fill(&secret);
        pattern
    }

    fn verifier(&mut self, node: &Node, path: &str) -> Option<Verifier> {
        let mut problems = Vec::new();
        let mut listed = Listed { of: self, seen: Vec::new(), twice: Vec::new() };
        let verifier = Verifier::compile(node, path, &mut listed, &mut problems);
        let (clean, twice) = (problems.is_empty(), listed.twice);
        for (span, path) in twice {
            let wrong = Wrong::new("is the same secret as one before it in this list: one of them is probably meant to be another");
            self.report.warn(wrong, span, path);
        }
        self.report.errors.extend(problems);
        verifier.filter(|_| clean)
    }

    fn methods(&mut self, section: &Section<'_>, verifier: Option<&Verifier>) -> Vec<Method> {
        let mut methods: Vec<Method> = Vec::new();
        for (node, path) in section.items("methods") {
            let Ok(method) = node.as_str().unwrap_or_default().parse::<Method>() else { continue };
            if methods.contains(&method) {
                self.report.error(Wrong::new(format!("the method {method} occurs twice")), node.span, path);
            } else {
                methods.push(method);
            }
        }
        if methods.is_empty() {
            methods = verifier.and_then(Verifier::methods).map_or_else(|| vec![Method::POST], <[Method]>::to_vec);
        }
        methods
    }

    fn template(&mut self, section: &Section<'_>, key: &str) -> Option<Template> {
        let text = section.text(key)?;
        match Template::compile(text) {
            Ok(template) => Some(template),
            Err(wrong) => {
                self.report.error(Wrong::new(wrong), section.span(key), section.path(key));
                None
            }
        }
    }

    fn order_by(&mut self, section: &Section<'_>) -> Option<OrderBy> {
        let long = section.section("order_by");
        if long.get("key").is_none() {
            return Some(OrderBy { key: self.template(section, "order_by")?, failing: Failing::default() });
        }
        let after = long.section("failing").section("park").integer("after").and_then(|after| u32::try_from(after).ok());
        let failing = match (long.text("failing"), after) {
            (Some("skip"), _) => Failing::Skip,
            (_, Some(after)) => Failing::Park { after },
            (_, None) => Failing::Block,
        };
        Some(OrderBy { key: self.template(&long, "key")?, failing })
    }

    fn wait(&mut self, section: &Section<'_>) -> Option<Wait> {
        let answers = ["delivered", "dead", "otherwise"];
        let Some(time) = section.duration("wait") else {
            for key in answers.into_iter().filter(|key| section.get(key).is_some()) {
                let wrong = Wrong::new("nothing waits for the outcome").hint("add `wait: 2s` beside it");
                self.report.error(wrong, section.span(key), section.path(key));
            }
            return None;
        };
        let [delivered, dead, otherwise] = answers.map(|key| {
            // An empty mapping says as much as none.
            let answer = section.section(key);
            self.answer(&answer)
        });
        Some(Wait { time, delivered, dead, otherwise })
    }

    fn answer(&mut self, section: &Section<'_>) -> Option<Answer> {
        if !["status", "content_type", "body"].iter().any(|key| section.get(key).is_some()) {
            return None;
        }
        let status = section.integer("status").and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
        let body = section.text("body").unwrap_or_default();
        if body.len() > Answer::BODY_BYTES_MAX {
            let wrong = Wrong::new(format!("the answer's body is longer than {} bytes", Answer::BODY_BYTES_MAX))
                .hint("it is kept with every dedupe key");
            self.report.error(wrong, section.span("body"), section.path("body"));
        }
        if !body.is_empty() && matches!(status, 204 | 205) {
            self.report.error(
                Wrong::new(format!("an answer with status {status} has no body")),
                section.span("body"),
                section.path("body"),
            );
        }
        if body.is_empty() && section.get("content_type").is_some() {
            let wrong = Wrong::new("an answer without a body has no content type");
            self.report.error(wrong, section.span("content_type"), section.path("content_type"));
        }
        Some(Answer { status, content_type: section.text("content_type").map(Box::from), body: Bytes::copy_from_slice(body.as_bytes()) })
    }

    /// A program, compiled once here so that its mistakes are told at their own places.
    fn program(&mut self, section: &Section<'_>, key: &str) -> Option<Jq> {
        let source = section.text(key)?;
        let start = section.span(key);
        let Err(mistakes) = jq::check(source) else { return Some(Jq { id: self.programs.add(source), line: start.line }) };
        for mistake in mistakes {
            let wrong = Wrong::new(mistake.text);
            let wrong = if let Some(hint) = mistake.hint { wrong.hint(hint) } else { wrong };
            self.report.error(wrong, within(self.text, start, source, mistake.offset), section.path(key));
        }
        None
    }

    fn deliver(&mut self, section: &Section<'_>) -> Vec<(DeliverTo, Place)> {
        let mut deliver: Vec<(DeliverTo, Place)> = Vec::new();
        let mut known = BTreeSet::new();
        for (node, path) in section.items("deliver") {
            let long = Section::new(node, path.clone());
            let (to, place) = match node.as_str() {
                Some(to) => (Some(to), Place { span: node.span, path }),
                None => (long.text("to"), Place::of(&long, "to")),
            };
            let Some(to) = to else { continue };
            if !known.insert(to) {
                // One delivery per destination (I4): a second would be the same one.
                self.report.error(Wrong::new(format!("the destination \"{to}\" occurs twice")), place.span, &place.path);
                continue;
            }
            let (when, transform) = (self.program(&long, "when"), self.program(&long, "transform"));
            deliver.push((DeliverTo { to: shared(to), when, transform }, place));
        }
        deliver
    }
}
