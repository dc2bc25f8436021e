//! Why a request does not verify: each step with what was seen, and the one change that would make it pass.
//!
//! For the operator, never on the way in. It shows lengths, names and times, never a secret and never a
//! signature that would be right: of the signed text it tells the length only, as its digest is a signature in
//! schemes that are plain digests.

mod rewritten;
mod trials;

use std::borrow::Cow;

use super::Verifier;
use super::extract::Format;
use super::keeper::{Context, KeyKeeper, KeyState, NoKeys};
use super::key::{Key, Keys};
use super::request::{Document, Request, Scope};
use super::scheme::{Plan, Scheme};
use super::source::Source;
use super::tree::Check;
use crate::model::{Inbound, Timestamp};

/// What came of one request.
#[derive(Debug, Clone, Default)]
pub struct Diagnosis {
    /// Whether it verifies as it is.
    pub accepted: bool,
    /// The verdict's word: `accepted`, `handshake`, or why it is refused.
    pub verdict: Cow<'static, str>,
    /// Each step in the order of the evaluation.
    pub steps: Vec<Step>,
    /// Single changes under which it verifies, each as a sentence.
    pub findings: Vec<String>,
}

impl Diagnosis {
    /// As the command line prints it with `--json`, and the admin API answers it.
    pub fn to_json(&self) -> serde_json::Value {
        let steps = self.steps.iter().map(|step| serde_json::json!({ "name": step.name, "good": step.good, "seen": step.seen }));
        serde_json::json!({
            "accepted": self.accepted,
            "verdict": self.verdict,
            "steps": steps.collect::<Vec<_>>(),
            "findings": self.findings,
        })
    }
}

/// One step of the evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was looked at.
    pub name: Cow<'static, str>,
    /// Whether it was as it has to be.
    pub good: bool,
    /// What was seen, without secrets.
    pub seen: String,
}

impl Verifier {
    /// Explains what this verifier makes of a request as of `now`, and tries what usually is wrong. `others` are
    /// verifiers of other routes, with their names.
    pub fn diagnose(&self, inbound: &Inbound, now: Timestamp, others: &[(&str, &Self)]) -> Diagnosis {
        self.diagnose_with(inbound, now, others, &NoKeys)
    }

    /// The same with the keys that somebody keeps.
    pub fn diagnose_with(&self, inbound: &Inbound, now: Timestamp, others: &[(&str, &Self)], keys: &dyn KeyKeeper) -> Diagnosis {
        let context = Context { now: Some(now), keys };
        let verdict = match self.judge_in(inbound.clone(), context) {
            Ok(super::Judged::Event(_)) => "accepted",
            Ok(super::Judged::Handshake(_)) => "handshake",
            Err(refusal) => refusal.as_str(),
        };
        let accepted = matches!(verdict, "accepted" | "handshake");
        let mut diagnosis = Diagnosis { accepted, verdict: verdict.into(), ..Diagnosis::default() };
        self.walk(self.check(), inbound, context, &mut diagnosis.steps);
        if !accepted {
            diagnosis.findings = trials::findings(self, inbound, now);
            for (name, other) in others {
                if other.verify_timeless(inbound) && !matches!(other.check(), Check::Open) {
                    diagnosis
                        .findings
                        .push(format!("it verifies under the route `{name}`: it came to the wrong address, or has that one's secret"));
                }
            }
        }
        diagnosis
    }

    /// Whether the signature is right, whatever its age and its key's.
    fn verify_timeless(&self, inbound: &Inbound) -> bool {
        self.judge_in(inbound.clone(), Context { now: None, keys: &NoKeys }).is_ok()
    }

    fn walk(&self, check: &Check, inbound: &Inbound, context: Context<'_>, steps: &mut Vec<Step>) {
        match check {
            Check::Open => steps.push(Step { name: "scheme".into(), good: true, seen: "none: everything passes".to_owned() }),
            Check::Address(networks) => {
                let good = networks.iter().any(|network| network.contains(&inbound.peer.to_canonical()));
                steps.push(Step { name: "address".into(), good, seen: inbound.peer.to_string() });
            }
            Check::Scheme(scheme) => self.scheme_steps(scheme, inbound, context, steps),
            Check::Any(members) | Check::All(members) => {
                let kind = if matches!(check, Check::Any(_)) { "any of" } else { "all of" };
                for (index, member) in members.iter().enumerate() {
                    steps.push(Step { name: "member".into(), good: true, seen: format!("{kind} {}, number {}", members.len(), index + 1) });
                    self.walk(member, inbound, context, steps);
                }
            }
        }
    }

    fn scheme_steps(&self, scheme: &Scheme, inbound: &Inbound, context: Context<'_>, steps: &mut Vec<Step>) {
        let request = Request::of_inbound(inbound);
        let json = Document::new(&inbound.body, self.pointers());
        let mut push = |name: &'static str, good, seen: String| steps.push(Step { name: name.into(), good, seen });
        if !scheme.handshakes.is_empty() {
            match scheme.unverified(&request, &json, context) {
                Some(Ok(answer)) => push("handshake", true, format!("answered with {} and {} bytes", answer.status, answer.body.len())),
                Some(Err(refusal)) => push("handshake", false, format!("asked for, and refused: {}", refusal.as_str())),
                None => push("handshake", true, "none that needs no signature".to_owned()),
            }
        }
        if scheme.each.is_some() {
            push("items", true, "each item of the body is verified for itself".to_owned());
            return;
        }
        let bare = Scope::new(&request, &json);
        match scheme.choose(&bare) {
            Ok((plan, extracted)) => {
                let number = scheme.plans.iter().position(|other| std::ptr::eq(other, plan)).unwrap_or_default() + 1;
                let variant =
                    if scheme.plans.len() == 1 { "the only one".to_owned() } else { format!("number {number} of {}", scheme.plans.len()) };
                push("variant", true, variant);
                let scope = bare.with_tags(&extracted.tags);
                Walk { verifier: self, plan, scope, context, steps }.all(&extracted);
            }
            Err(refusal) => {
                push("variant", false, format!("none fits, or its signature can't be read: {}", refusal.as_str()));
                for plan in &scheme.plans {
                    for source in &plan.carrier.from {
                        let there = bare.is_present(source);
                        let seen = if there { "is there and can't be read" } else { "is not there" };
                        steps.push(Step { name: "signature".into(), good: false, seen: format!("{} {seen}", self.named(source)) });
                    }
                }
            }
        }
    }

    /// A source as the language writes it.
    fn named(&self, source: &Source) -> String {
        match source {
            Source::Header(name) => format!("header:{name}"),
            Source::Headers(stem) => format!("header:{stem}*"),
            Source::Query(name) => format!("query:{name}"),
            Source::Form(name) => format!("form:{name}"),
            Source::Json { slot, .. } => format!("json:{}", self.pointers().text(*slot)),
            Source::Xml(path) => format!("xml:{path}"),
            Source::Field(tag) if tag.contains(':') => tag.to_string(),
            Source::Field(tag) => format!("sig:{tag}"),
            Source::Config(_) => "config".to_owned(),
        }
    }
}

/// The steps of one plan.
struct Walk<'w, 's, 'r, 'd, 'k> {
    verifier: &'w Verifier,
    plan: &'w Plan,
    scope: Scope<'s, 'r, 'd>,
    context: Context<'k>,
    steps: &'w mut Vec<Step>,
}

impl<'s> Walk<'s, 's, '_, '_, '_> {
    fn push(&mut self, name: &'static str, good: bool, seen: String) {
        self.steps.push(Step { name: name.into(), good, seen });
    }

    fn all(&mut self, extracted: &super::extract::Extracted) {
        let plan = self.plan;
        let candidates = extracted.candidates(plan.carrier.all);
        let sources: Vec<String> = plan.carrier.from.iter().map(|source| self.verifier.named(source)).collect();
        let place = if matches!(plan.carrier.format, Format::Message(_)) { "header:signature".to_owned() } else { sources.join(", ") };
        let tags: Vec<&str> = extracted.tags.iter().map(|(tag, _)| tag).collect();
        let tags = if tags.is_empty() { String::new() } else { format!("; parts: {}", tags.join(", ")) };
        match candidates {
            Ok(found) => {
                let lengths: Vec<String> = found.iter().map(|candidate| candidate.len().to_string()).collect();
                self.push("signature", true, format!("{place}: {} found, of {} bytes{tags}", found.len(), lengths.join(", ")));
            }
            Err(refusal) => self.push("signature", false, format!("{place}: {}{tags}", refusal.as_str())),
        }
        for (source, wanted) in &plan.require {
            let seen = self.scope.look(source);
            let good = matches!((&seen, wanted.bytes(&self.scope)), (Ok(Some(seen)), Ok(wanted)) if **seen == *wanted);
            let there = if matches!(seen, Ok(Some(_))) { "is there" } else { "is not there" };
            let verdict = if good { "as required" } else { "not as required" };
            self.push("require", good, format!("{} {there}: {verdict}", self.verifier.named(source)));
        }
        self.keys();
        match plan.signed.bytes(&self.scope) {
            Ok(signed) => self.push("signed text", true, format!("{} bytes", signed.len())),
            Err(super::Refusal::MissingHeader) if plan.signed.names("secret") => {}
            Err(refusal) => self.push("signed text", false, format!("can't be put together: {}", refusal.as_str())),
        }
        if let (Ok(candidates), Ok(keys)) = (candidates, plan.keys.select(&self.scope, self.context)) {
            let keys: Vec<&Key> = keys.iter().map(|key| &**key).collect();
            let good = plan.matches(&self.scope, candidates, &keys).unwrap_or(false);
            self.push("match", good, if good { "the signature is right".to_owned() } else { "no key makes this signature".to_owned() });
        }
        self.after();
    }

    fn keys(&mut self) {
        let own = self.plan.keys.own();
        let counting = own.iter().filter(|(_, key)| key.counts(self.context.now)).count();
        match &self.plan.keys {
            Keys::Any(_) => self.push("keys", counting > 0, format!("{} configured, {counting} of them count now", own.len())),
            Keys::ById { by, .. } => {
                let id = self.scope.look(by).ok().flatten().map(|id| String::from_utf8_lossy(&id).into_owned());
                let known = id.as_ref().is_some_and(|id| own.iter().any(|(known, _)| *known == Some(id)));
                let shown = id.map_or_else(|| "is not there".to_owned(), |id| format!("names `{}`", id.escape_default()));
                self.push("keys", known, format!("{} {shown}; {} configured", self.verifier.named(by), own.len()));
            }
            Keys::Remote(remote) => match remote.wanted(&self.scope) {
                Ok(wanted) => match self.context.keys.look(&wanted) {
                    KeyState::Known(_) => self.push("keys", true, format!("fetched: {wanted:?}")),
                    KeyState::Unknown => self.push("keys", false, format!("its source says that there is no {wanted:?}")),
                    KeyState::Unavailable => self.push("keys", true, format!("would be fetched: {wanted:?}; it is not at hand here")),
                },
                Err(refusal) => self.push("keys", false, format!("none would be fetched: {}", refusal.as_str())),
            },
        }
    }

    /// What is looked at once the signature is right.
    fn after(&mut self) {
        let plan = self.plan;
        for (index, (left, right)) in plan.checks.iter().enumerate() {
            let good = matches!((left.bytes(&self.scope), right.bytes(&self.scope)), (Ok(left), Ok(right)) if left == right);
            let verdict = if good { "both sides are the same" } else { "the two sides differ, or one is not there" };
            self.push("check", good, format!("number {}: {verdict}", index + 1));
        }
        if let Some(claims) = &plan.claims {
            let verdict = claims.check(&self.scope, self.context.now);
            let seen = verdict.map_or_else(|refusal| refusal.as_str().to_owned(), |()| "as they have to be".to_owned());
            self.push("claims", verdict.is_ok(), seen);
        }
        let Some(freshness) = &plan.freshness else { return };
        let place = self.verifier.named(&freshness.from);
        let text = self.scope.look(&freshness.from).ok().flatten().map(|text| String::from_utf8_lossy(&text).escape_default().to_string());
        let (text, verdict) = (text.unwrap_or_else(|| "nothing".to_owned()), freshness.check(&self.scope, self.context.now));
        let age = freshness.age(&self.scope, self.context.now).map(|age| format!(", {age}")).unwrap_or_default();
        self.push("time", verdict.is_ok(), format!("{place} says {text}{age}; {} s allowed", freshness.tolerance.as_secs()));
    }
}
