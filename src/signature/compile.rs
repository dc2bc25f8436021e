//! From the `verify` node of a route to a tree of compiled schemes, collecting every problem.
//!
//! Whatever could leave a route open is an error here: an empty `verify`, an unknown preset, a key that is
//! empty or can't be decoded, a part of the language that this version lacks.

mod builder;
mod handshake;
mod key;
mod message;
mod plan;
mod secrets;
mod telling;

use http::{HeaderName, Method};
use ipnet::IpNet;

use self::builder::{Builder, known_keys};
use self::secrets::Resolver;
use super::algorithm::Algorithm;
use super::extract::{Carrier, Format};
use super::facts::Telling;
use super::json::Pointers;
use super::key::{Key, KeyEncoding, Keys};
use super::limits::{MEMBERS_MAX, NESTING_MAX, VARIANTS_MAX};
use super::scheme::{Each, Plan, Scheme, When};
use super::source::Source;
use super::tree::Check;
use super::{Binding, SecretSource, Verifier, presets, template};
use crate::document::{Entry, Node, Problem, Value, did_you_mean};
use crate::model::Secret;

const SCHEME_KEYS: [&str; 30] = [
    "preset",
    "secrets",
    "secret",
    "algorithm",
    "key",
    "signature",
    "signed",
    "prehash",
    "checks",
    "each",
    "require",
    "limit",
    "must_sign",
    "reject_signed_matching",
    "timestamp",
    "variants",
    "jwt",
    "claims",
    "challenge",
    "charset",
    "event",
    "methods",
    "body_limit",
    "body_unsigned",
    "ack",
    "on_invalid",
    "head_ok",
    "config",
    "conf",
    "source",
];

/// What may differ from one variant to the next; the rest belongs to the scheme.
const VARIANT_KEYS: [&str; 12] = [
    "when",
    "algorithm",
    "key",
    "signature",
    "signed",
    "prehash",
    "checks",
    "require",
    "limit",
    "must_sign",
    "reject_signed_matching",
    "timestamp",
];

/// The forms of `verify` that are no scheme.
const FORMS: [&str; 5] = ["any", "all", "allow_from", "basic", "token"];

/// What a recorded request is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorded {
    Event,
    Handshake,
}

/// Compiles a `verify` node; `recorded` is for recorded vectors only: they hold bad keys on purpose, which are
/// skipped, and they are not answered, so what an answer needs may be missing (unless they are handshakes).
pub(super) fn verifier(
    node: &Node,
    path: &str,
    secrets: &mut dyn SecretSource,
    problems: &mut Vec<Problem>,
    recorded: Option<Recorded>,
) -> Option<Verifier> {
    let before = problems.len();
    let mut compiler = Compiler { resolver: Resolver { secrets, missing: false }, problems, pointers: Pointers::new(), recorded };
    let check = compiler.check(node, path, 0);
    let (missing, pointers) = (compiler.resolver.missing, compiler.pointers);
    if missing || problems.len() > before {
        return None;
    }
    Some(Verifier::new(check?, pointers))
}

struct Compiler<'c> {
    resolver: Resolver<'c>,
    problems: &'c mut Vec<Problem>,
    pointers: Pointers,
    recorded: Option<Recorded>,
}

impl Compiler<'_> {
    fn problem<T>(&mut self, node: &Node, path: &str, message: impl Into<String>) -> Option<T> {
        self.problems.push(Problem::new(node.span, path, message));
        None
    }

    fn check(&mut self, node: &Node, path: &str, depth: usize) -> Option<Check> {
        if depth > NESTING_MAX {
            return self.problem(node, path, format!("nested deeper than {NESTING_MAX} levels"));
        }
        let entries = match &node.value {
            Value::Scalar { text, .. } if text == "none" && depth == 0 => return Some(Check::Open),
            Value::Scalar { text, .. } if text == "none" => {
                return self.problem(node, path, "`none` beside other checks would make them void");
            }
            Value::Mapping(entries) if !entries.is_empty() => entries,
            Value::Mapping(_) | Value::Null => {
                let problem = Problem::new(node.span, path, "is empty, which could mean anything");
                self.problems.push(problem.with_hint("write `verify: none` if this route really has no authentication"));
                return None;
            }
            Value::Scalar { .. } | Value::Sequence(_) => {
                let problem = Problem::new(node.span, path, format!("a scheme is expected, not {}", node.describe()));
                self.problems.push(problem.with_hint("write `{ preset: NAME, secrets: [{ env: NAME }] }`"));
                return None;
            }
        };
        let Some(form) = entries.iter().find(|entry| FORMS.contains(&entry.key.as_str())) else {
            return self.scheme(node, path).map(|scheme| Check::Scheme(Box::new(scheme)));
        };
        if let Some(other) = entries.iter().find(|entry| entry.key != form.key) {
            let message = format!("`{}` and `{}` can't stand side by side", form.key, other.key);
            self.problems
                .push(Problem::new(other.key_span, path, message).with_hint("combine them in a list: `all: [...]` or `any: [...]`"));
        }
        let path = format!("{path}.{}", form.key);
        match form.key.as_str() {
            "any" => self.members(&form.value, &path, depth).map(Check::Any),
            "all" => self.members(&form.value, &path, depth).map(Check::All),
            "allow_from" => self.networks(&form.value, &path).map(Check::Address),
            "basic" => self.basic(&form.value, &path).map(|scheme| Check::Scheme(Box::new(scheme))),
            _ => self.token(&form.value, &path).map(|scheme| Check::Scheme(Box::new(scheme))),
        }
    }

    fn members(&mut self, node: &Node, path: &str, depth: usize) -> Option<Vec<Check>> {
        match node.as_sequence() {
            Some(items) if items.len() > MEMBERS_MAX => self.problem(node, path, format!("more than {MEMBERS_MAX} members")),
            Some(items) if !items.is_empty() => {
                let members = items.iter().enumerate().map(|(index, item)| self.check(item, &format!("{path}[{index}]"), depth + 1));
                let members: Vec<_> = members.collect();
                members.into_iter().collect()
            }
            Some(_) | None => self.problem(node, path, "a list of at least one check is expected"),
        }
    }

    fn networks(&mut self, node: &Node, path: &str) -> Option<Vec<IpNet>> {
        let items = match node.as_sequence() {
            Some(items) if (1..=MEMBERS_MAX).contains(&items.len()) => items,
            Some(_) | None => return self.problem(node, path, format!("a list of 1 to {MEMBERS_MAX} networks is expected")),
        };
        let mut networks = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let text = item.as_str().unwrap_or_default();
            match text.parse::<IpNet>().or_else(|_error| text.parse::<std::net::IpAddr>().map(IpNet::from)) {
                Ok(network) => networks.push(network),
                Err(_) => {
                    let path = format!("{path}[{index}]");
                    self.problem::<()>(item, &path, format!("a network such as 192.0.2.0/24 is expected, not {}", item.describe()));
                }
            }
        }
        Some(networks)
    }

    fn basic(&mut self, node: &Node, path: &str) -> Option<Scheme> {
        known_keys(self.problems, node, path, &["user", "password"]);
        let (Some(user), Some(password)) = (node.get("user"), node.get("password")) else {
            return self.problem(node, path, "a `user` and a `password` are expected");
        };
        let user_secret = self.resolver.one(user, &format!("{path}.user"), true)?;
        let password_path = format!("{path}.password");
        let secret = self.resolver.one(password, &password_path, false)?;
        if secret.expose().trim_ascii().is_empty() {
            return self.problem(password, &password_path, "this key is empty");
        }
        if user_secret.expose().is_empty() || user_secret.expose().contains(&b':') {
            return self.problem(user, &format!("{path}.user"), "a user name is neither empty nor has a colon in it");
        }
        let both = Secret::new([user_secret.expose(), b":", secret.expose()].concat());
        match Key::new(&both, None, Algorithm::Basic, KeyEncoding::Utf8) {
            Ok(key) => Some(credential(Algorithm::Basic, Carrier::basic(), Keys::Any(vec![key]))),
            Err(message) => self.problem(password, &password_path, format!("this key {message}")),
        }
    }

    fn token(&mut self, node: &Node, path: &str) -> Option<Scheme> {
        known_keys(self.problems, node, path, &["header", "prefix", "secret", "secrets"]);
        let Some(header) = node.get("header").and_then(Node::as_str) else {
            return self.problem(node, path, "`header` is missing: the header that carries the token");
        };
        let Ok(header) = HeaderName::try_from(header) else {
            return self.problem(node, &format!("{path}.header"), format!("`{header}` is no header name"));
        };
        let prefix = node.get("prefix").and_then(Node::as_str).unwrap_or_default().to_owned();
        let secrets = self.resolver.secrets(node, path, self.problems);
        let keys = secrets.keys(Algorithm::Token, KeyEncoding::Utf8, None, self.recorded.is_some(), self.problems)?;
        Some(credential(Algorithm::Token, Carrier::token(header, &prefix), keys))
    }

    fn scheme(&mut self, node: &Node, path: &str) -> Option<Scheme> {
        known_keys(self.problems, node, path, &SCHEME_KEYS);
        let base = match node.get("preset") {
            None => Node { span: node.span, value: Value::Mapping(Vec::new()) },
            Some(name) => self.preset(name, &format!("{path}.preset"))?,
        };
        let over = without(node, &["preset"]);
        let base = match over.get("secrets") {
            Some(secrets) => key::kept_here(&base, secrets::is_map(secrets)),
            None => base,
        };
        let merged = base.merged(&over);
        let merged = match self.recorded {
            None => merged,
            Some(Recorded::Event) => without(&merged, &["ack", "challenge"]),
            Some(Recorded::Handshake) => without(&merged, &["ack"]),
        };
        let config = self.resolver.config(&merged, path, self.problems);
        if self.recorded.is_none() {
            self.unused_settings(&merged, path);
        }
        let secrets = if key::is_fetched(&merged) && merged.get("secrets").is_none() {
            secrets::Secrets::none(&merged, path)
        } else {
            self.resolver.secrets(&merged, path, self.problems)
        };
        let mut item = Pointers::new();
        let each_slot = match merged.get("each") {
            None => None,
            Some(each) => Some(self.each(each, path)?),
        };
        let pointers = if each_slot.is_some() { &mut item } else { &mut self.pointers };
        let token = merged.get("algorithm").and_then(Node::as_str) == Some("jwt");
        let mut builder = Builder { problems: self.problems, pointers, config: &config, fields: true, token };
        let mut plans = plans(&mut builder, &base, &over, path, &secrets, self.recorded.is_some());
        let handshakes = builder.handshakes(&merged, path);
        let oracle = handshakes.iter().any(|rule| !rule.body.signed_for_others().is_empty());
        plans.iter_mut().for_each(|plan| plan.oracle = oracle);
        if each_slot.is_some() && !handshakes.is_empty() {
            builder.problem(&merged, &format!("{path}.challenge"), "can't stand beside `each`: its items are not the request");
        }
        let telling = builder.telling(&merged, path);
        builder.body_unsigned(&merged, path);
        let binding = plans.iter().map(|plan| bound(plan, each_slot.is_some())).min().unwrap_or(Binding::None);
        Some(Scheme {
            telling,
            methods: builder.methods(&merged, path),
            body_limit: builder.body_limit(&merged, path),
            on_invalid: builder.on_invalid(&merged, path),
            head_ok: builder.flag(&merged, path, "head_ok"),
            each: each_slot.map(|slot| Each { slot, pointers: item }),
            plans,
            handshakes,
            binding,
        })
    }

    /// A setting that nothing asks for is a slip of the pen, or meant for another preset.
    fn unused_settings(&mut self, scheme: &Node, path: &str) {
        let used = settings(&without(scheme, &["config"]));
        for entry in scheme.get("config").and_then(Node::as_mapping).unwrap_or_default() {
            if !used.contains(&entry.key) {
                let path = format!("{path}.config.{}", entry.key);
                let mut problem = Problem::new(entry.key_span, path, format!("nothing in this scheme asks for `config.{}`", entry.key));
                problem.hint = did_you_mean(&entry.key, used.iter().map(String::as_str));
                self.problems.push(problem);
            }
        }
    }

    fn preset(&mut self, node: &Node, path: &str) -> Option<Node> {
        let name = node.as_str().unwrap_or_default();
        if let Some(preset) = presets::get(name) {
            return Some(placed(preset, node));
        }
        let mut problem = Problem::new(node.span, path, format!("unknown preset `{name}`"));
        problem.hint = did_you_mean(name, super::preset_names());
        self.problems.push(problem);
        None
    }

    fn each(&mut self, node: &Node, path: &str) -> Option<usize> {
        let path = format!("{path}.each");
        let mut builder = Builder { problems: self.problems, pointers: &mut self.pointers, config: &[], fields: false, token: false };
        let text = node.as_str().unwrap_or_default();
        match builder.source(node, &path, text)?.0 {
            Source::Json { slot, every: true } => Some(slot),
            Source::Json { .. }
            | Source::Header(_)
            | Source::Headers(_)
            | Source::Query(_)
            | Source::Form(_)
            | Source::Xml(_)
            | Source::Field(_)
            | Source::Config(_) => self.problem(node, &path, "a JSON pointer with one `*` is expected, such as `json:/items/*`"),
        }
    }
}

/// The variants of a scheme, each complete; what the route says itself wins over both preset and variant.
fn plans(builder: &mut Builder<'_>, base: &Node, over: &Node, path: &str, secrets: &secrets::Secrets, recorded: bool) -> Vec<Plan> {
    let merged = base.merged(over);
    let Some(variants) = merged.get("variants") else {
        return builder.plan(&merged, path, secrets, recorded);
    };
    let items = match variants.as_sequence() {
        Some(items) if (1..=VARIANTS_MAX).contains(&items.len()) => items,
        Some(_) | None => {
            builder.problem(variants, &format!("{path}.variants"), format!("a list of 1 to {VARIANTS_MAX} variants is expected"));
            return Vec::new();
        }
    };
    let (base, over) = (without(base, &["variants"]), without(over, &["variants"]));
    let mut plans = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}.variants[{index}]");
        known_keys(builder.problems, item, &path, &VARIANT_KEYS);
        if item.get("when").is_none() && index + 1 < items.len() {
            builder.problem(item, &path, "a variant without `when` hides those after it");
        }
        let variant = base.merged(item);
        // A part that only some variants have is overridden there and not given to the others.
        let partial = |key: &str| variant.get(key).is_none() && items.iter().any(|other| other.get(key).is_some());
        let elsewhere: Vec<&str> =
            over.as_mapping().unwrap_or_default().iter().map(|entry| entry.key.as_str()).filter(|key| partial(key)).collect();
        plans.extend(builder.plan(&variant.merged(&without(&over, &elsewhere)), &path, secrets, recorded));
    }
    plans
}

/// How much of the body a variant vouches for.
fn bound(plan: &Plan, each: bool) -> Binding {
    let claims = plan.claims.iter().flat_map(|claims| claims.wanted.iter().map(|(_, wanted)| wanted));
    let programs = std::iter::once(&plan.signed).chain(plan.checks.iter().flat_map(|(left, right)| [left, right])).chain(claims);
    let (whole, fields) = programs.map(|program| program.body_use()).fold((false, false), |sum, one| (sum.0 | one.0, sum.1 | one.1));
    let digest = match &plan.carrier.format {
        Format::Message(message) => message.binds_body(),
        Format::Cavage(cavage) => cavage.binds_body(),
        Format::Plain
        | Format::Tagged { .. }
        | Format::List { .. }
        | Format::Positional { .. }
        | Format::Json { .. }
        | Format::Jws { .. } => false,
    };
    let whole = whole || digest;
    match (whole && !each, whole || fields) {
        (true, _) => Binding::Whole,
        (false, true) => Binding::Fields,
        (false, false) => Binding::None,
    }
}

/// A scheme that compares a credential and knows nothing else of the request.
fn credential(algorithm: Algorithm, carrier: Carrier, keys: Keys) -> Scheme {
    debug_assert!(carrier.format == Format::Plain);
    let plan = Plan {
        when: When::default(),
        algorithm,
        keys,
        carrier,
        signed: template::literal(""),
        prehash: false,
        require: Vec::new(),
        limit: Vec::new(),
        checks: Vec::new(),
        must_sign: Vec::new(),
        reject: None,
        oracle: false,
        claims: None,
        freshness: None,
    };
    Scheme {
        each: None,
        plans: vec![plan],
        handshakes: Vec::new(),
        telling: Telling { unique: true, ..Telling::default() },
        methods: None::<Vec<Method>>,
        body_limit: None,
        on_invalid: None,
        head_ok: false,
        binding: Binding::None,
    }
}

/// The settings of `config` that a scheme asks for, each once.
pub(super) fn settings(node: &Node) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut add = |names: Vec<String>| {
        names.into_iter().for_each(|name| {
            if !found.contains(&name) {
                found.push(name)
            }
        })
    };
    let named =
        |text: &str| text.split("config:").skip(1).map(|rest| rest.split(['}', '|', ' ']).next().unwrap_or_default().to_owned()).collect();
    match &node.value {
        Value::Scalar { text, .. } => add(named(text)),
        Value::Sequence(items) => items.iter().for_each(|item| add(settings(item))),
        Value::Mapping(entries) => entries.iter().for_each(|entry| {
            add(named(&entry.key));
            add(settings(&entry.value));
        }),
        Value::Null => {}
    }
    found
}

fn without(node: &Node, keys: &[&str]) -> Node {
    let entries = node.as_mapping().unwrap_or_default().iter().filter(|entry| !keys.contains(&entry.key.as_str()));
    Node { span: node.span, value: Value::Mapping(entries.cloned().collect()) }
}

/// A preset as if it stood where it is named: its own lines are in another file.
fn placed(preset: &Node, at: &Node) -> Node {
    let value = match &preset.value {
        Value::Sequence(items) => Value::Sequence(items.iter().map(|item| placed(item, at)).collect()),
        Value::Mapping(entries) => {
            let entry = |entry: &Entry| Entry { key: entry.key.clone(), key_span: at.span, value: placed(&entry.value, at) };
            Value::Mapping(entries.iter().map(entry).collect())
        }
        Value::Null | Value::Scalar { .. } => preset.value.clone(),
    };
    Node { span: at.span, value }
}
