//! The mutation run: whatever of a genuine recorded request is signed can't be changed by a single bit.

use http::{HeaderName, HeaderValue};
use serde_json::Value as Json;

use super::super::Binding;
use super::super::request::{Document, Request, Scope};
use super::super::source::Source;
use super::*;
use crate::model::Inbound;

const VECTORS: &[u8] = include_bytes!("../../../tests/fixtures/vectors.json");

/// Most bits that are flipped of one part of one vector; the stride is odd, so that every position of a byte is
/// among them.
const FLIPS_MAX: usize = 800;

struct Genuine {
    id: String,
    verifier: Verifier,
    request: Inbound,
    context: Context<'static>,
}

/// Every recorded event that has to pass.
fn genuine() -> Vec<Genuine> {
    let vectors: Vec<Json> = serde_json::from_slice(VECTORS).unwrap();
    let valid = vectors.into_iter().filter(|vector| vector["expected"] == "valid" && vector.get("kind").is_none_or(Json::is_null));
    valid
        .map(|json| {
            let record: Record = serde_json::from_value(json.clone()).unwrap();
            let vector: Vector = serde_json::from_value(json.clone()).unwrap();
            Genuine {
                id: json["id"].as_str().unwrap().to_owned(),
                verifier: vector.verifier(Recorded::Event).unwrap(),
                request: record.inbound().unwrap(),
                context: Context { now: record.received_at(), keys: &NoKeys },
            }
        })
        .collect()
}

impl Genuine {
    fn passes(&self, request: Inbound) -> bool {
        self.verifier.judge_in(request, self.context).is_ok()
    }

    /// Headers that the signature covers or stands in.
    fn signed_headers(&self) -> Vec<HeaderName> {
        let mut names = Vec::new();
        for plan in self.verifier.check().schemes().into_iter().flat_map(|scheme| &scheme.plans) {
            let sources = plan.carrier.from.iter().chain(plan.signed.required_sources());
            names.extend(sources.filter_map(|source| if let Source::Header(name) = source { Some(name.clone()) } else { None }));
        }
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        names
    }

    /// What counts of the request's signature: one of the genuine signatures, and the parts beside it that are
    /// signed. Hex in either case, another version's signature or a blank make no difference to it.
    fn essence(&self, request: &Inbound) -> Option<(Vec<u8>, Vec<u8>)> {
        let of = |inbound: &Inbound| {
            let request = Request::of_inbound(inbound);
            let json = Document::new(&inbound.body, self.verifier.pointers());
            let bare = Scope::new(&request, &json);
            let scheme = self.verifier.check().schemes()[0];
            let (plan, found) = scheme.choose(&bare).ok()?;
            let signed = plan.signed.bytes(&bare.with_tags(&found.tags)).ok()?;
            Some((found.candidates, signed))
        };
        let (genuine, (candidates, signed)) = (of(&self.request)?.0, of(request)?);
        let kept = candidates.into_iter().find(|candidate| genuine.contains(candidate))?;
        Some((if self.rotates() { Vec::new() } else { kept.into_vec() }, signed))
    }

    /// Whether several signatures are right at a time, so that one of them may be damaged.
    fn rotates(&self) -> bool {
        self.request.headers.values().any(|value| value.as_bytes().iter().any(|byte| b", ".contains(byte)))
    }

    /// Whether the body goes in as it stands, not as the fields of a form.
    fn signs_the_bytes(&self) -> bool {
        self.verifier.binding() == Binding::Whole
            && self
                .verifier
                .check()
                .schemes()
                .into_iter()
                .flat_map(|scheme| &scheme.plans)
                .all(|plan| !["form_sorted", "url_sorted", "form_values_sorted:except=mac"].iter().any(|name| plan.signed.names(name)))
    }
}

fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let bits = bytes.len() * 8;
    let stride = bits.div_ceil(FLIPS_MAX) | 1;
    (0..bits).step_by(stride).map(|bit| {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    })
}

#[test]
fn no_bit_of_a_signed_body_can_be_changed() {
    let vectors = genuine();
    let bodies = vectors.iter().filter(|one| one.signs_the_bytes() && !one.request.body.is_empty());
    let mut tried = 0;
    for one in bodies {
        assert!(one.passes(one.request.clone()), "{}", one.id);
        for body in flips(&one.request.body) {
            assert!(
                !one.passes(Inbound { body: body.clone().into(), ..one.request.clone() }),
                "{}: {:?}",
                one.id,
                String::from_utf8_lossy(&body)
            );
            tried += 1;
        }
    }
    assert!(tried > 20_000, "{tried}");
}

#[test]
fn no_bit_of_a_signature_or_a_signed_header_can_be_changed() {
    let mut tried = 0;
    for one in genuine() {
        for name in one.signed_headers() {
            let Some(value) = one.request.headers.get(&name).filter(|_| one.request.headers.get_all(&name).iter().count() == 1) else {
                continue;
            };
            for changed in flips(value.as_bytes()) {
                let Ok(forged) = HeaderValue::from_bytes(&changed) else { continue };
                let mut request = one.request.clone();
                request.headers.insert(&name, forged);
                let same = one.essence(&request) == one.essence(&one.request);
                assert!(same || !one.passes(request), "{}: {name}: {:?}", one.id, String::from_utf8_lossy(&changed));
                tried += 1;
            }
        }
    }
    assert!(tried > 20_000, "{tried}");
}
