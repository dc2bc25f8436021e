//! One variant of a scheme: its algorithm, keys, signature and what is signed.

use http::{HeaderName, Method};
use regex::bytes::Regex;

use super::super::algorithm::Algorithm;
use super::super::encoding::Encoding;
use super::super::extract::{Carrier, Format};
use super::super::jws::Claims;
use super::super::scheme::{Plan, When};
use super::super::source::Source;
use super::super::template::{self, Allowed, Program};
use super::super::timestamp::{Freshness, Unit};
use super::builder::{Builder, known_keys};
use super::secrets::Secrets;
use crate::document::Node;

const SIGNATURE_KEYS: [&str; 13] =
    ["from", "format", "split", "assign", "take", "fields", "prefix", "prefix_optional", "decode", "encoding", "multiple", "first", "all"];

/// How far a token's `exp` and `nbf` may be off when the scheme does not say.
pub(super) const LEEWAY_DEFAULT: std::time::Duration = std::time::Duration::from_secs(60);

impl Builder<'_> {
    /// The plan of one variant; several where a token may have one of several algorithms.
    pub(super) fn plan(&mut self, node: &Node, path: &str, secrets: &Secrets, skip: bool) -> Vec<Plan> {
        match self.text(node, path, "algorithm") {
            Some("jwt") => self.tokens(node, path, secrets, skip),
            Some(word) => {
                if let Some(stray) = ["jwt", "claims"].into_iter().find(|key| node.get(key).is_some()) {
                    self.problem(node, &format!("{path}.{stray}"), "belongs to `algorithm: jwt`");
                }
                match Algorithm::parse(word) {
                    Ok(algorithm) => self.signature_plan(node, path, algorithm, secrets, skip).into_iter().collect(),
                    Err(message) => {
                        self.problem(node, &format!("{path}.algorithm"), message);
                        Vec::new()
                    }
                }
            }
            None => {
                self.problem(node, path, "`algorithm` is missing (or a `preset`)");
                Vec::new()
            }
        }
    }

    fn signature_plan(&mut self, node: &Node, path: &str, algorithm: Algorithm, secrets: &Secrets, skip: bool) -> Option<Plan> {
        let before = self.problems.len();
        let format = node.get("signature").and_then(|signature| signature.get("format")).and_then(Node::as_str);
        match format {
            Some("http-message") => return self.message(node, path, algorithm, secrets, skip).filter(|_| self.problems.len() == before),
            Some("http-signature") => return self.cavage(node, path, algorithm, secrets, skip).filter(|_| self.problems.len() == before),
            Some(_) | None => {}
        }
        self.fields = false;
        let carrier = self.carrier(node, path, algorithm);
        self.fields = true;
        let signed = self.signed(node, path, algorithm);
        self.rest(node, path, (algorithm, carrier?, signed?), secrets, skip).filter(|_| self.problems.len() == before)
    }

    /// `algorithm: jwt`
    fn tokens(&mut self, node: &Node, path: &str, secrets: &Secrets, skip: bool) -> Vec<Plan> {
        let jwt_path = format!("{path}.jwt");
        let Some(jwt) = node.get("jwt") else {
            self.problem(node, &jwt_path, "is missing: where the token stands, such as `{ from: header:authorization, algs: [HS256] }`");
            return Vec::new();
        };
        known_keys(self.problems, jwt, &jwt_path, &["from", "prefix", "algs", "leeway", "max_age", "detached"]);
        for stray in ["signature", "signed", "prehash"].into_iter().filter(|key| node.get(key).is_some()) {
            self.problem(node, &format!("{path}.{stray}"), "has no meaning with `algorithm: jwt`: the token says both");
        }
        let algs = self.texts(jwt, &jwt_path, "algs");
        if algs.is_empty() {
            self.problem(jwt, &jwt_path, "`algs` is missing: which algorithms are believed, such as `[RS256]`");
        }
        let mut plans = Vec::new();
        for alg in &algs {
            match Algorithm::of_jws(alg) {
                Ok(algorithm) => plans.extend(self.token(node, path, jwt, (alg, algorithm, &algs), secrets, skip)),
                Err(message) => self.problem(jwt, &format!("{jwt_path}.algs"), message),
            }
        }
        if plans.len() == algs.len() { plans } else { Vec::new() }
    }

    fn token(
        &mut self,
        node: &Node,
        path: &str,
        jwt: &Node,
        (alg, algorithm, algs): (&str, Algorithm, &[Box<str>]),
        secrets: &Secrets,
        skip: bool,
    ) -> Option<Plan> {
        let before = self.problems.len();
        let jwt_path = format!("{path}.jwt");
        self.fields = false;
        let from = self.sources(jwt, &jwt_path, "from");
        self.fields = true;
        if from.is_empty() {
            self.problem(jwt, &jwt_path, "`from` is missing");
        }
        let detached = match jwt.get("detached") {
            Some(detached) => Some(self.template(detached, &format!("{jwt_path}.detached"), Allowed::PLAIN)?),
            None => None,
        };
        let format = Format::Jws { algs: algs.into(), detached: detached.is_some() };
        let carrier = Carrier {
            from,
            first: false,
            all: false,
            multiple: false,
            format,
            prefix: self.text(jwt, &jwt_path, "prefix").unwrap_or_default().into(),
            prefix_optional: false,
            wrapped: false,
            encoding: Encoding::Base64Url,
        };
        let claims = self.claims(node, path, jwt, detached.is_some());
        let mut plan = self.rest(node, path, (algorithm, carrier, template::jws(detached)), secrets, skip)?;
        plan.claims = Some(claims?);
        if algs.len() > 1 {
            plan.when.equals.push((Source::Field("jwt:alg".into()), template::literal(alg)));
        }
        (self.problems.len() == before).then_some(plan)
    }

    fn claims(&mut self, node: &Node, path: &str, jwt: &Node, detached: bool) -> Option<Claims> {
        let mut seconds = |key: &str| {
            let value = jwt.get(key)?;
            let seconds = value.as_u64().map(std::time::Duration::from_secs);
            if seconds.is_none() {
                self.problem(value, &format!("{path}.jwt.{key}"), "a number of seconds is expected");
            }
            seconds
        };
        let (leeway, max_age) = (seconds("leeway").unwrap_or(LEEWAY_DEFAULT), seconds("max_age"));
        let mut wanted = Vec::new();
        if let Some(claims) = node.get("claims") {
            let path = format!("{path}.claims");
            if detached {
                self.problem(claims, &path, "a detached signature has no claims");
            }
            for entry in claims.as_mapping().unwrap_or_default() {
                let template = self.template(&entry.value, &format!("{path}.{}", entry.key), Allowed::PLAIN)?;
                wanted.push((format!("claim:{}", entry.key).into(), template));
            }
            if wanted.is_empty() {
                self.problem(claims, &path, "a mapping from claims to what they must say is expected");
            }
        }
        Some(Claims { leeway, max_age, wanted })
    }

    /// What every kind of plan has.
    pub(super) fn rest(
        &mut self,
        node: &Node,
        path: &str,
        (algorithm, carrier, signed): (Algorithm, Carrier, Program),
        secrets: &Secrets,
        skip: bool,
    ) -> Option<Plan> {
        let when = self.when(node, path);
        let keys = self.keys(node, path, algorithm, secrets, skip);
        let require = self.pairs(node, path, "require");
        let limit = self.limits(node, path).into_iter().map(|(_, source, limit)| (source, limit)).collect();
        let checks = self.checks(node, path);
        let must_sign = self.must_sign(node, path, &signed);
        let reject = self.text(node, path, "reject_signed_matching").map(str::to_owned).and_then(|pattern| {
            Regex::new(&pattern)
                .map_err(|_error| self.problem(node, &format!("{path}.reject_signed_matching"), "is no regular expression"))
                .ok()
        });
        let prehash = match self.text(node, path, "prehash") {
            None => false,
            Some("sha256hex") => true,
            Some(other) => {
                self.problem(node, &format!("{path}.prehash"), format!("unknown prehash `{other}`; sha256hex is known"));
                false
            }
        };
        let listed: &[Box<str>] = match &carrier.format {
            Format::Cavage(cavage) => &cavage.components,
            Format::Message(message) => &message.components,
            Format::Plain
            | Format::Tagged { .. }
            | Format::List { .. }
            | Format::Positional { .. }
            | Format::Json { .. }
            | Format::Jws { .. } => &[],
        };
        // The parameters of a message signature are all part of what it signs.
        let mut bound: Vec<String> = listed.iter().map(|component| format!("header:{component}")).collect();
        if matches!(carrier.format, Format::Message(_)) {
            bound.extend(["sig:created", "sig:nonce"].map(str::to_owned));
        }
        if listed.iter().any(|component| &**component == "(created)") {
            bound.push("sig:created".to_owned());
        }
        let freshness = self.freshness(node, path, &signed, &must_sign, &bound);
        let keys = keys?;
        Some(Plan {
            when,
            algorithm,
            keys,
            carrier,
            signed,
            prehash,
            require,
            limit,
            checks,
            must_sign,
            reject,
            oracle: false,
            claims: None,
            freshness,
        })
    }

    /// `when`, of a variant or an answer.
    pub(super) fn when(&mut self, node: &Node, path: &str) -> When {
        let Some(when) = node.get("when") else { return When::default() };
        let path = format!("{path}.when");
        known_keys(self.problems, when, &path, &["method", "present", "absent", "equals"]);
        let mut methods = Vec::new();
        for word in self.texts(when, &path, "method") {
            match Method::from_bytes(word.as_bytes()) {
                Ok(method) => methods.push(method),
                Err(_) => self.problem(when, &path, format!("`{word}` is no method")),
            }
        }
        let (present, absent) = (self.sources(when, &path, "present"), self.sources(when, &path, "absent"));
        When { methods, present, absent, equals: self.pairs(when, &path, "equals") }
    }

    fn signed(&mut self, node: &Node, path: &str, algorithm: Algorithm) -> Option<Program> {
        let path = format!("{path}.signed");
        let digest = matches!(algorithm, Algorithm::Digest(_));
        match (node.get("signed"), algorithm) {
            (None, Algorithm::Token | Algorithm::Basic) => Some(template::literal("")),
            (Some(value), Algorithm::Token | Algorithm::Basic) => {
                self.problem(value, &path, "nothing is signed with this algorithm");
                None
            }
            (None, Algorithm::Hmac(_) | Algorithm::Digest(_) | Algorithm::Public(_)) => {
                self.problem(node, &path, "is missing: the template of what is signed, such as `\"{body}\"`");
                None
            }
            (Some(value), Algorithm::Hmac(_) | Algorithm::Digest(_) | Algorithm::Public(_)) => {
                let program = self.template(value, &path, Allowed { secret: digest, ..Allowed::PLAIN })?;
                if digest && !program.names("secret") {
                    self.problem(value, &path, "a plain digest without `{secret}` can be made by anybody");
                    return None;
                }
                Some(program)
            }
        }
    }

    fn carrier(&mut self, node: &Node, path: &str, algorithm: Algorithm) -> Option<Carrier> {
        let path = format!("{path}.signature");
        let Some(signature) = node.get("signature") else {
            if algorithm == Algorithm::Basic {
                return Some(Carrier::basic());
            }
            self.problem(node, &path, "is missing: where the signature stands, such as `{ from: \"header:x-signature\", encoding: hex }`");
            return None;
        };
        known_keys(self.problems, signature, &path, &SIGNATURE_KEYS);
        let from = self.sources(signature, &path, "from");
        if from.is_empty() {
            self.problem(signature, &path, "`from` is missing");
            return None;
        }
        if from.iter().any(|source| matches!(source, Source::Config(_))) {
            self.problem(signature, &path, "`from` must be something in the request");
        }
        let encoding = match (self.text(signature, &path, "encoding"), algorithm) {
            (Some("hex"), _) => Encoding::Hex,
            (Some("base64"), _) => Encoding::Base64,
            (Some("base64url"), _) => Encoding::Base64Url,
            (None, Algorithm::Token | Algorithm::Basic) => Encoding::Raw,
            (other, _) => {
                let message = format!("`encoding` is hex, base64 or base64url, not `{}`", other.unwrap_or("nothing"));
                self.problem(signature, &path, message);
                Encoding::Raw
            }
        };
        let wrapped = match self.text(signature, &path, "decode") {
            None => false,
            Some("base64") => true,
            Some(other) => {
                self.problem(signature, &format!("{path}.decode"), format!("unknown `{other}`; base64 is known"));
                false
            }
        };
        let optional = self.text(signature, &path, "prefix_optional");
        let prefix = optional.or(self.text(signature, &path, "prefix")).unwrap_or_default().into();
        Some(Carrier {
            from,
            first: self.flag(signature, &path, "first"),
            all: self.flag(signature, &path, "all"),
            multiple: self.flag(signature, &path, "multiple"),
            format: self.format(signature, &path)?,
            prefix,
            prefix_optional: optional.is_some(),
            wrapped,
            encoding,
        })
    }

    fn format(&mut self, signature: &Node, path: &str) -> Option<Format> {
        let take = self.texts(signature, path, "take");
        let format = match self.text(signature, path, "format").unwrap_or("plain") {
            "plain" => return Some(Format::Plain),
            "kv" => Format::Tagged {
                split: self.separator(signature, path, "split")?,
                assign: self.separator(signature, path, "assign")?,
                take: take.clone(),
            },
            "list" => return Some(Format::List { split: self.separator(signature, path, "split")? }),
            "positional" => {
                return Some(Format::Positional {
                    split: self.separator(signature, path, "split")?,
                    fields: self.texts(signature, path, "fields"),
                });
            }
            "json" => Format::Json { take: take.clone() },
            other => {
                self.problem(
                    signature,
                    path,
                    format!("unknown format `{other}`; plain, kv, list, positional, json, http-message and http-signature are known"),
                );
                return None;
            }
        };
        if take.is_empty() {
            self.problem(signature, path, "`take` is missing: the tags that hold signatures");
            return None;
        }
        Some(format)
    }

    fn checks(&mut self, node: &Node, path: &str) -> Vec<(Program, Program)> {
        let Some(value) = node.get("checks") else { return Vec::new() };
        let path = format!("{path}.checks");
        let Some(items) = value.as_sequence() else {
            self.problem(value, &path, format!("a list is expected, not {}", value.describe()));
            return Vec::new();
        };
        let mut checks = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            known_keys(self.problems, item, &path, &["left", "right"]);
            match (item.get("left"), item.get("right")) {
                (Some(left), Some(right)) => {
                    let sides = (self.template(left, &path, Allowed::PLAIN), self.template(right, &path, Allowed::PLAIN));
                    if let (Some(left), Some(right)) = sides {
                        checks.push((left, right));
                    }
                }
                (_, _) => self.problem(item, &path, "a check has a `left` and a `right`"),
            }
        }
        checks
    }

    fn must_sign(&mut self, node: &Node, path: &str, signed: &Program) -> Vec<HeaderName> {
        let mut names = Vec::new();
        for word in self.texts(node, path, "must_sign") {
            match HeaderName::try_from(&*word) {
                Ok(name) => names.push(name),
                Err(_) => self.problem(node, &format!("{path}.must_sign"), format!("`{word}` is no header name")),
            }
        }
        if !names.is_empty() && signed.signed_headers().is_none() {
            self.problem(node, &format!("{path}.must_sign"), "needs a `{signed_headers:…}` in `signed`");
        }
        names
    }

    fn freshness(&mut self, node: &Node, path: &str, signed: &Program, must_sign: &[HeaderName], bound: &[String]) -> Option<Freshness> {
        let timestamp = node.get("timestamp")?;
        let path = format!("{path}.timestamp");
        known_keys(self.problems, timestamp, &path, &["from", "unit", "tolerance"]);
        let Some(from) = self.text(timestamp, &path, "from") else {
            self.problem(timestamp, &path, "`from` is missing");
            return None;
        };
        let (from, name) = self.single(timestamp, &format!("{path}.from"), from)?;
        if !(is_bound(&from, &name, signed, must_sign) || bound.iter().any(|known| **known == *name)) {
            self.problem(timestamp, &path, format!("`{name}` is not among what is signed, so its time proves nothing"));
        }
        let word = self.text(timestamp, &path, "unit").unwrap_or("s");
        let Some(unit) = Unit::word(word) else {
            self.problem(timestamp, &path, format!("unknown unit `{word}`; s, ms, auto, rfc3339 and http-date are known"));
            return None;
        };
        let Some(tolerance) = timestamp.get("tolerance").and_then(Node::as_u64) else {
            self.problem(timestamp, &path, "`tolerance` is missing: a number of seconds");
            return None;
        };
        Some(Freshness { from, unit, tolerance: std::time::Duration::from_secs(tolerance) })
    }
}

/// Whether what is signed covers this source.
fn is_bound(source: &Source, name: &str, signed: &Program, must_sign: &[HeaderName]) -> bool {
    signed.names(name)
        || match source {
            Source::Header(header) => must_sign.contains(header),
            Source::Json { .. } | Source::Form(_) | Source::Xml(_) => signed.body_use().0,
            Source::Query(_) => ["url", "path_and_query", "query_string"].iter().any(|place| signed.names(place)),
            Source::Headers(_) | Source::Field(_) | Source::Config(_) => false,
        }
}
