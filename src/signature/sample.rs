//! A request that a verifier accepts: for `kurier send`, the demo and tests.
//!
//! It runs a scheme backwards: what is missing is filled in, then the signature is made with the first key.
//! The result is verified before it is handed out, so a scheme that can't be run backwards is an error, not a
//! request that will be refused.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use super::encoding::Encoding;
use super::extract::{Carrier, Format};
use super::jws;
use super::keeper::{Context, NoKeys};
use super::key::{Key, Keys, Material};
use super::request::{Document, Request, Scope};
use super::scheme::{Plan, Scheme};
use super::source::Source;
use super::tags::Tags;
use super::tree::Check;
use super::{Verifier, fingerprint};
use crate::model::{Inbound, Timestamp};

/// What stands in for values that a scheme needs and the draft does not have; with a blank in it, as what has none
/// could be the answer to a handshake.
const FILLER: &str = "a sample";

/// How long a sample's token counts.
const TOKEN_LIFE_SECONDS: i64 = 300;

impl Verifier {
    /// Fills in what is missing in `draft` (signature, timestamp, ids) so that this verifier accepts it as of `now`.
    ///
    /// # Errors
    /// Why it can't be done; keys are not shown.
    pub fn sample(&self, draft: Inbound, now: Timestamp) -> Result<Inbound, String> {
        let sample = self.fill(self.check(), draft, now)?;
        match self.verify(sample.clone(), now) {
            Ok(_) => Ok(sample),
            Err(refusal) => Err(format!("the request can't be made to fit this scheme ({})", refusal.as_str())),
        }
    }

    fn fill(&self, check: &Check, draft: Inbound, now: Timestamp) -> Result<Inbound, String> {
        match check {
            Check::Open => Ok(draft),
            Check::Address(networks) if networks.iter().any(|network| network.contains(&draft.peer)) => Ok(draft),
            Check::Address(networks) => {
                let network = networks.first().ok_or("no address is allowed")?;
                Ok(Inbound { peer: network.addr(), ..draft })
            }
            Check::All(members) => members.iter().try_fold(draft, |draft, member| self.fill(member, draft, now)),
            Check::Any(members) => {
                let mut last = Err("there is nothing to choose from".to_owned());
                for member in members {
                    last = self.fill(member, draft.clone(), now);
                    if last.as_ref().is_ok_and(|sample| self.verify(sample.clone(), now).is_ok()) {
                        break;
                    }
                }
                last
            }
            Check::Scheme(scheme) => self.fill_scheme(scheme, &draft, now),
        }
    }

    fn fill_scheme(&self, scheme: &Scheme, draft: &Inbound, now: Timestamp) -> Result<Inbound, String> {
        if scheme.each.is_some() {
            return Err("each item of the body has its own signature: sign the items yourself".to_owned());
        }
        let mut last = Err("the scheme has no variant".to_owned());
        for plan in &scheme.plans {
            let mut filler = Filler { verifier: self, plan, request: draft.clone(), tags: Tags::default(), now };
            last = filler.fill(&scheme.telling.id);
            if let Ok(()) = last
                && self.accepts(scheme, &filler.request, now)
            {
                return Ok(filler.request);
            }
        }
        last.and(Err("no variant of the scheme fits this request".to_owned()))
    }

    fn accepts(&self, scheme: &Scheme, request: &Inbound, now: Timestamp) -> bool {
        let view = Request::of_inbound(request);
        scheme.verify(&view, &Document::new(&request.body, self.pointers()), Context { now: Some(now), keys: &NoKeys }).is_ok()
    }
}

struct Filler<'f> {
    verifier: &'f Verifier,
    plan: &'f Plan,
    request: Inbound,
    tags: Tags,
    now: Timestamp,
}

impl<'f> Filler<'f> {
    fn fill(&mut self, ids: &[Source]) -> Result<(), String> {
        let plan = self.plan;
        for (source, wanted) in plan.when.equals.iter().chain(&plan.require) {
            let wanted = self.scoped(|scope| wanted.bytes(scope).ok()).ok_or("a required value can't be rendered")?;
            self.put(source, &wanted)?;
        }
        if let Some(freshness) = &plan.freshness {
            self.put(&freshness.from, freshness.unit.format(self.now).as_bytes())?;
        }
        let key = self.key()?;
        if let Format::Jws { algs, detached } = &plan.carrier.format {
            self.token(algs, *detached)?;
        }
        let sources = ids.iter().filter(|source| matches!(source, Source::Header(_))).take(1);
        for source in sources.chain(plan.signed.required_sources()) {
            if self.scoped(|scope| scope.look(source).ok().flatten().is_none()) {
                let id = self.id();
                self.put(source, if matches!(source, Source::Header(_)) { id.as_bytes() } else { FILLER.as_bytes() })?;
            }
        }
        self.list_signed_headers()?;
        for (left, right) in &plan.checks {
            if let (Some(source), Some(right)) = (left.sole_source(), self.scoped(|scope| right.bytes(scope).ok())) {
                self.put(source, &right)?;
            }
        }
        let signature = match &key.material {
            Material::Hashed { secret, .. } => secret.expose().to_vec(),
            Material::Public(_) => return Err("only the holder of the private key can sign for this scheme".to_owned()),
            Material::Mac(_) | Material::Bytes(_) => {
                let tag = self.scoped(|scope| plan.tag(scope, key).ok().flatten());
                tag.ok_or("the request lacks something that is signed")?.as_bytes().to_vec()
            }
        };
        let value = self.value(&plan.carrier, &signature)?;
        let source = plan.carrier.from.first().ok_or("the scheme names no place for the signature")?;
        self.put(source, &value)
    }

    /// The first key that counts, having named it where requests name their key.
    fn key(&mut self) -> Result<&'f Key, String> {
        let none = "no key counts any more";
        match &self.plan.keys {
            Keys::Any(keys) => keys.iter().find(|key| key.counts(Some(self.now))).ok_or_else(|| none.to_owned()),
            Keys::ById { by, keys } => {
                let (id, key) = keys.iter().find(|(_, key)| key.counts(Some(self.now))).ok_or(none)?;
                self.put(by, id.as_bytes())?;
                Ok(key)
            }
            Keys::Remote(_) => Err("only the sender has the key that signs for this scheme".to_owned()),
        }
    }

    fn scoped<T>(&self, look: impl FnOnce(&Scope<'_, '_, '_>) -> T) -> T {
        let request = Request::of_inbound(&self.request);
        let json = Document::new(&self.request.body, self.verifier.pointers());
        look(&Scope::new(&request, &json).with_tags(&self.tags))
    }

    /// An id that is new for each body and time.
    fn id(&self) -> String {
        format!("msg_{}", hex::encode(fingerprint(&[&self.request.body, &self.now.millis().to_le_bytes()])))
    }

    fn list_signed_headers(&mut self) -> Result<(), String> {
        let Some(headers) = self.plan.signed.signed_headers() else { return Ok(()) };
        let (list, split) = headers.list();
        if self.scoped(|scope| headers.names(scope).is_err()) {
            let names: Vec<&str> = self.plan.must_sign.iter().map(HeaderName::as_str).collect();
            self.put(list, names.join(split).as_bytes())?;
        }
        for name in self.scoped(|scope| headers.names(scope)).unwrap_or_default() {
            if !self.request.headers.contains_key(&name) {
                self.request.headers.insert(name, HeaderValue::from_static(FILLER));
            }
        }
        Ok(())
    }

    /// The parts of a token that says what it has to.
    fn token(&mut self, algs: &[Box<str>], detached: bool) -> Result<(), String> {
        let encoded =
            |json: serde_json::Value| String::from_utf8_lossy(&Encoding::Base64Url.encode(json.to_string().as_bytes())).into_owned();
        let mut header = serde_json::json!({ "alg": algs.first(), "typ": "JWT" });
        for (name, value) in self.tags.iter().filter_map(|(tag, value)| Some((tag.strip_prefix("jwt:")?, value))) {
            header[name] = serde_json::Value::from(value);
        }
        self.tags.push(jws::HEAD, &encoded(header));
        if detached {
            return Ok(());
        }
        let now = self.now.unix_seconds();
        let mut claims = serde_json::json!({ "iat": now, "nbf": now, "exp": now.saturating_add(TOKEN_LIFE_SECONDS), "jti": self.id() });
        for (claim, wanted) in self.plan.claims.iter().flat_map(|claims| &claims.wanted) {
            let value = self.scoped(|scope| wanted.bytes(scope).ok()).ok_or("the request lacks something that a claim repeats")?;
            claims[claim.trim_start_matches("claim:")] = serde_json::Value::from(String::from_utf8_lossy(&value).into_owned());
        }
        self.tags.push(jws::PAYLOAD, &encoded(claims));
        Ok(())
    }

    /// Gives a source its value, unless it has that already.
    fn put(&mut self, source: &Source, value: &[u8]) -> Result<(), String> {
        if self.scoped(|scope| scope.look(source).is_ok_and(|known| known.is_some_and(|known| *known == *value))) {
            return Ok(());
        }
        match source {
            Source::Header(name) => self.header(name.clone(), value),
            Source::Headers(stem) => {
                let name = HeaderName::try_from(format!("{stem}1")).map_err(|_error| "no header of this name can be made")?;
                self.header(name, value)
            }
            Source::Query(name) => {
                let mut target = self.request.target.to_vec();
                target.push(if target.contains(&b'?') { b'&' } else { b'?' });
                field(&mut target, name, value);
                self.request.target = Bytes::from(target);
                Ok(())
            }
            Source::Form(name) => {
                let mut body = self.request.body.to_vec();
                if !body.is_empty() {
                    body.push(b'&');
                }
                field(&mut body, name, value);
                self.request.body = Bytes::from(body);
                Ok(())
            }
            Source::Field(tag) => {
                self.tags = self.tags.without(tag);
                self.tags.push(tag, &String::from_utf8_lossy(value));
                Ok(())
            }
            Source::Json { .. } | Source::Xml(_) => Err("the body has to hold a value that it does not hold".to_owned()),
            Source::Config(_) => Ok(()),
        }
    }

    fn header(&mut self, name: HeaderName, value: &[u8]) -> Result<(), String> {
        let value = HeaderValue::from_bytes(value).map_err(|_error| format!("the value of `{name}` can't stand in a header"))?;
        self.request.headers.insert(name, value);
        Ok(())
    }

    /// The carrier's value around this signature.
    fn value(&self, carrier: &Carrier, signature: &[u8]) -> Result<Vec<u8>, String> {
        let signature = carrier.encoding.encode(signature);
        let text = String::from_utf8_lossy(&signature);
        let tag = |take: &[Box<str>]| match take.first().map(|first| &**first) {
            Some("*") | None => FILLER.to_owned(),
            Some(tag) => tag.to_owned(),
        };
        let inner = match &carrier.format {
            Format::Plain | Format::List { .. } => signature.clone(),
            Format::Message(_) | Format::Cavage(_) => return Err("message signatures are not made here".to_owned()),
            Format::Jws { .. } => {
                let part = |name: &str| self.tags.values(name).next().unwrap_or_default();
                format!("{}.{}.{text}", part(jws::HEAD), part(jws::PAYLOAD)).into_bytes()
            }
            Format::Tagged { split, assign, take } => {
                let name = tag(take);
                let parts: Vec<_> =
                    self.tags.iter().chain([(&*name, &*text)]).map(|(tag, value)| format!("{tag}{assign}{value}")).collect();
                parts.join(split).into_bytes()
            }
            Format::Positional { split, fields } => {
                let value = |field: &str| self.tags.values(field).next().unwrap_or(FILLER);
                let parts: Vec<_> = fields.iter().map(|field| value(field)).chain([&*text]).collect();
                parts.join(split).into_bytes()
            }
            Format::Json { take } => {
                let name = tag(take);
                let tags = self.tags.iter().chain([(&*name, &*text)]);
                let object: serde_json::Map<_, _> = tags.map(|(tag, value)| (tag.to_owned(), serde_json::Value::from(value))).collect();
                serde_json::to_vec(&object).map_err(|error| error.to_string())?
            }
        };
        let inner = if carrier.wrapped { Encoding::Base64.encode(&inner) } else { inner };
        Ok([carrier.prefix.as_bytes(), &inner].concat())
    }
}

fn field(text: &mut Vec<u8>, name: &str, value: &[u8]) {
    let encoded = |bytes| Cow::<str>::from(percent_encode(bytes, NON_ALPHANUMERIC)).into_owned();
    text.extend_from_slice(encoded(name.as_bytes()).as_bytes());
    text.push(b'=');
    text.extend_from_slice(encoded(value).as_bytes());
}
