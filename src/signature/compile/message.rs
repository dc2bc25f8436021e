//! `signature: { format: http-message }`: HTTP Message Signatures.

use super::super::algorithm::Algorithm;
use super::super::encoding::Encoding;
use super::super::extract::{Carrier, Format};
use super::super::jws::Claims;
use super::super::limits::PARTS_MAX;
use super::super::message::{BASE, Message};
use super::super::scheme::Plan;
use super::super::template;
use super::builder::{Builder, known_keys};
use super::plan::LEEWAY_DEFAULT;
use super::secrets::Secrets;
use crate::document::Node;

impl Builder<'_> {
    pub(super) fn message(&mut self, node: &Node, path: &str, algorithm: Algorithm, secrets: &Secrets, skip: bool) -> Option<Plan> {
        let signature = node.get("signature")?;
        let signature_path = format!("{path}.signature");
        known_keys(self.problems, signature, &signature_path, &["format", "label", "components"]);
        let components = self.texts(signature, &signature_path, "components");
        if !(1..=PARTS_MAX).contains(&components.len()) {
            let message = "`components` is missing: what has to be signed, such as `[\"@method\", \"@target-uri\", content-digest]`";
            self.problem(signature, &signature_path, message);
        }
        for component in components.iter().filter(|component| !Message::is_component(component)) {
            self.problem(signature, &format!("{signature_path}.components"), format!("`{component}` is no component that can be demanded"));
        }
        if let Some(signed) = node.get("signed") {
            self.problem(
                signed,
                &format!("{path}.signed"),
                "has no meaning here: the request says what is signed, `components` what has to be",
            );
        }
        let Some(alg) = node.get("algorithm").and_then(Node::as_str).and_then(Message::alg_of) else {
            self.problem(node, &format!("{path}.algorithm"), "is none that RFC 9421 has");
            return None;
        };
        let label = self.text(signature, &signature_path, "label").map(Into::into);
        let carrier = Carrier {
            from: Vec::new(),
            first: false,
            all: false,
            multiple: false,
            format: Format::Message(Message { label, components, alg }),
            prefix: "".into(),
            prefix_optional: false,
            wrapped: false,
            encoding: Encoding::Raw,
        };
        let mut plan = self.rest(node, path, (algorithm.fixed(), carrier, template::field(BASE)), secrets, skip)?;
        plan.claims = Some(Claims { leeway: LEEWAY_DEFAULT, max_age: None, wanted: Vec::new() });
        Some(plan)
    }
}
