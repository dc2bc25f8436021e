//! HTTP Message Signatures (RFC 9421) in the language's terms: one more way of carrying a signature.
//!
//! What is signed is a text made of the request's parts that `Signature-Input` lists. A scheme says which parts
//! have to be among them; a request that leaves one out is refused, whatever else it signs. Parameters become
//! `sig:created`, `sig:keyid` and so on. A digest of the body that is signed is checked against the body.

use http::HeaderName;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sfv::{BareItem, Dictionary, InnerList, Item, ItemSerializer, ListEntry, ListSerializer, Parser};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::Refusal;
use super::extract::Extracted;
use super::limits::{PARTS_MAX, SIGNATURE_BYTES_MAX};
use super::request::{Request, Scope};

/// The text that is signed, among the tags.
pub(super) const BASE: &str = "http:base";

const CONTENT_DIGEST: &str = "content-digest";

/// What of a query parameter's value stands for itself (URL standard, application/x-www-form-urlencoded).
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_');

/// `signature: { format: http-message }`, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Which of several signatures; without it there may be only one.
    pub(super) label: Option<Box<str>>,
    /// What has to be signed, as `Signature-Input` writes it without quotes.
    pub(super) components: Vec<Box<str>>,
    /// The `alg` that the scheme's algorithm has here.
    pub(super) alg: &'static str,
}

/// Names of algorithms in the registry of RFC 9421, by their words in the language.
const ALGORITHMS: [(&str, &str); 6] = [
    ("rsa-pss-sha512", "rsa-pss-sha512"),
    ("rsa-pkcs1-sha256", "rsa-v1_5-sha256"),
    ("hmac-sha256", "hmac-sha256"),
    ("ecdsa-p256-sha256", "ecdsa-p256-sha256"),
    ("ecdsa-p384-sha384", "ecdsa-p384-sha384"),
    ("ed25519", "ed25519"),
];

impl Message {
    /// The registered name of an algorithm of the language.
    pub(super) fn alg_of(word: &str) -> Option<&'static str> {
        ALGORITHMS.iter().find(|(known, _)| *known == word).map(|(_, alg)| *alg)
    }

    /// Whether it may be demanded that this is signed.
    pub(super) fn is_component(text: &str) -> bool {
        let derived = ["@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query"];
        derived.contains(&text) || HeaderName::from_bytes(text.as_bytes()).is_ok_and(|name| name.as_str() == text)
    }

    /// Whether the whole body is bound.
    pub(super) fn binds_body(&self) -> bool {
        self.components.iter().any(|component| &**component == CONTENT_DIGEST)
    }

    /// Reads the signature, its parameters and what it signs.
    pub(super) fn read(&self, scope: &Scope<'_, '_, '_>, found: &mut Extracted) -> Result<(), Refusal> {
        let (Some(input), Some(signature)) = (joined(scope.request, "signature-input")?, joined(scope.request, "signature")?) else {
            return Ok(());
        };
        let dictionary = |text: &str| Parser::new(text).parse::<Dictionary>().map_err(|_error| Refusal::Malformed);
        let (inputs, signatures) = (dictionary(&input)?, dictionary(&signature)?);
        let (label, input) = match &self.label {
            Some(label) => (&**label, inputs.get(&**label).ok_or(Refusal::MissingHeader)?),
            None if inputs.len() == 1 => inputs.iter().next().map(|(label, input)| (label.as_str(), input)).ok_or(Refusal::Malformed)?,
            None => return Err(Refusal::Malformed),
        };
        let ListEntry::InnerList(input) = input else { return Err(Refusal::Malformed) };
        let signature = match signatures.get(label) {
            Some(ListEntry::Item(item)) => item.bare_item.as_byte_sequence().ok_or(Refusal::Malformed)?,
            Some(ListEntry::InnerList(_)) => return Err(Refusal::Malformed),
            None => return Err(Refusal::MissingHeader),
        };
        self.parameters(input, found)?;
        let base = self.base(scope.request, input)?;
        found.tags.push(BASE, &base);
        found.accept(signature);
        Ok(())
    }

    fn parameters(&self, input: &InnerList, found: &mut Extracted) -> Result<(), Refusal> {
        for (name, value) in &input.params {
            let text = match value {
                BareItem::Integer(number) => i64::from(*number).to_string(),
                BareItem::String(text) => text.as_str().to_owned(),
                BareItem::Decimal(_)
                | BareItem::ByteSequence(_)
                | BareItem::Boolean(_)
                | BareItem::Token(_)
                | BareItem::Date(_)
                | BareItem::DisplayString(_) => return Err(Refusal::Malformed),
            };
            match name.as_str() {
                "alg" if text != self.alg => return Err(Refusal::Malformed),
                // The token's own rule for the end of its time is this one's too.
                "expires" => found.tags.push("claim:exp", &text),
                other => found.tags.push(other, &text),
            }
        }
        Ok(())
    }

    fn base(&self, request: &Request<'_>, input: &InnerList) -> Result<String, Refusal> {
        if input.items.len() > PARTS_MAX {
            return Err(Refusal::Malformed);
        }
        let mut lines: Vec<String> = Vec::with_capacity(input.items.len() + 1);
        let mut covered: Vec<String> = Vec::with_capacity(input.items.len());
        for item in &input.items {
            let name = item.bare_item.as_string().ok_or(Refusal::Malformed)?.as_str();
            let identifier = ItemSerializer::new().bare_item(&item.bare_item).parameters(&item.params).finish();
            if covered.contains(&identifier) {
                return Err(Refusal::Malformed);
            }
            lines.push(format!("{identifier}: {}", component(request, name, item)?));
            covered.push(identifier);
        }
        let is_covered = |component: &str| covered.iter().any(|known| *known == format!("\"{component}\""));
        if !self.components.iter().all(|component| is_covered(component)) {
            return Err(Refusal::MissingHeader);
        }
        if is_covered(CONTENT_DIGEST) && !digest_is_right(request)? {
            return Err(Refusal::Mismatch);
        }
        let mut list = ListSerializer::new();
        let mut inner = list.inner_list();
        inner.items(&input.items);
        drop(inner.finish().parameters(&input.params));
        lines.push(format!("\"@signature-params\": {}", list.finish().ok_or(Refusal::Malformed)?));
        Ok(lines.join("\n"))
    }
}

/// The value of one component.
fn component(request: &Request<'_>, name: &str, item: &Item) -> Result<String, Refusal> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_error| Refusal::Malformed);
    let (path, query) = request.path_and_query();
    if name == "@query-param" {
        return query_param(request, item);
    }
    // What a parameter asks for (`sf`, `bs`, `key`, `tr`, `req`) is another text than this one.
    if !item.params.is_empty() {
        return Err(Refusal::Malformed);
    }
    let scheme = || request.base.split_once("://").map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    match name {
        "@method" => Ok(request.method.as_str().to_owned()),
        "@target-uri" => Ok(format!("{}{}", request.base, text(request.target)?)),
        "@request-target" => text(request.target),
        "@path" => text(path),
        "@query" => Ok(format!("?{}", text(query)?)),
        "@scheme" => Ok(scheme()),
        "@authority" => {
            let host = request.host().to_ascii_lowercase();
            let default = if scheme() == "https" { ":443" } else { ":80" };
            Ok(host.strip_suffix(default).unwrap_or(&host).to_owned())
        }
        _ if name.starts_with('@') => Err(Refusal::Malformed),
        _ => joined(request, name)?.ok_or(Refusal::MissingHeader),
    }
}

fn query_param(request: &Request<'_>, item: &Item) -> Result<String, Refusal> {
    let mut params = item.params.iter();
    let (Some((key, value)), None) = (params.next(), params.next()) else { return Err(Refusal::Malformed) };
    let wanted = value.as_string().filter(|_| key.as_str() == "name").ok_or(Refusal::Malformed)?;
    let wanted: Vec<u8> = percent_encoding::percent_decode_str(wanted.as_str()).collect();
    let value = request.query()?.get(&wanted).map_err(|_ambiguous| Refusal::Malformed)?.ok_or(Refusal::MissingHeader)?;
    Ok(percent_encode(&value, QUERY).to_string())
}

/// All lines of a field as one, as RFC 9421 signs them.
fn joined(request: &Request<'_>, name: &str) -> Result<Option<String>, Refusal> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|known| known.as_str() == name).ok_or(Refusal::Malformed)?;
    let mut lines = Vec::new();
    for line in request.headers.get_all(&name) {
        let line = std::str::from_utf8(line.as_bytes()).map_err(|_error| Refusal::Malformed)?;
        lines.push(line.trim());
    }
    let text = lines.join(", ");
    if text.len() > SIGNATURE_BYTES_MAX {
        return Err(Refusal::Malformed);
    }
    Ok((!lines.is_empty()).then_some(text))
}

/// Whether every digest of the body that is known here is right, of which there is at least one (RFC 9530).
fn digest_is_right(request: &Request<'_>) -> Result<bool, Refusal> {
    let text = joined(request, CONTENT_DIGEST)?.ok_or(Refusal::MissingHeader)?;
    let digests = Parser::new(&text).parse::<Dictionary>().map_err(|_error| Refusal::Malformed)?;
    let mut known = 0;
    for (algorithm, entry) in &digests {
        let expected = match algorithm.as_str() {
            "sha-256" => Sha256::digest(request.body).to_vec(),
            "sha-512" => Sha512::digest(request.body).to_vec(),
            _ => continue,
        };
        let ListEntry::Item(item) = entry else { return Err(Refusal::Malformed) };
        let said = item.bare_item.as_byte_sequence().ok_or(Refusal::Malformed)?;
        if !bool::from(said.ct_eq(&expected)) {
            return Ok(false);
        }
        known += 1;
    }
    Ok(known > 0)
}
