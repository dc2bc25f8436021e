//! `signature: { format: http-message }`, HTTP Message Signatures, and `http-signature`, the draft before them.

use super::super::algorithm::Algorithm;
use super::super::cavage::{self, Cavage};
use super::super::encoding::Encoding;
use super::super::extract::{Carrier, Format};
use super::super::jws::Claims;
use super::super::limits::PARTS_MAX;
use super::super::message::{self, Message};
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
        let example = "[\"@method\", \"@target-uri\", content-digest]";
        let components = self.components(node, path, Message::is_component, example);
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
        let mut plan = self.rest(node, path, (algorithm.fixed(), carrier, template::field(message::BASE)), secrets, skip)?;
        plan.claims = Some(Claims { leeway: LEEWAY_DEFAULT, max_age: None, wanted: Vec::new() });
        Some(plan)
    }

    /// The draft before the standard.
    pub(super) fn cavage(&mut self, node: &Node, path: &str, algorithm: Algorithm, secrets: &Secrets, skip: bool) -> Option<Plan> {
        let signature = node.get("signature")?;
        let signature_path = format!("{path}.signature");
        known_keys(self.problems, signature, &signature_path, &["format", "from", "prefix", "components"]);
        let components = self.components(node, path, Cavage::is_component, "[\"(request-target)\", host, date, digest]");
        self.fields = false;
        let from = self.sources(signature, &signature_path, "from");
        self.fields = true;
        if from.is_empty() {
            self.problem(signature, &signature_path, "`from` is missing");
        }
        let carrier = Carrier {
            from,
            first: false,
            all: false,
            multiple: false,
            format: Format::Cavage(Cavage { components }),
            prefix: self.text(signature, &signature_path, "prefix").unwrap_or_default().into(),
            prefix_optional: false,
            wrapped: false,
            encoding: Encoding::Base64,
        };
        let mut plan = self.rest(node, path, (algorithm, carrier, template::field(cavage::BASE)), secrets, skip)?;
        plan.claims = Some(Claims { leeway: LEEWAY_DEFAULT, max_age: None, wanted: Vec::new() });
        Some(plan)
    }

    /// What has to be signed, where the request says what is.
    fn components(&mut self, node: &Node, path: &str, is_component: fn(&str) -> bool, example: &str) -> Vec<Box<str>> {
        let Some(signature) = node.get("signature") else { return Vec::new() };
        let signature_path = format!("{path}.signature");
        let components = self.texts(signature, &signature_path, "components");
        if !(1..=PARTS_MAX).contains(&components.len()) {
            self.problem(signature, &signature_path, format!("`components` is missing: what has to be signed, such as `{example}`"));
        }
        for component in components.iter().filter(|component| !is_component(component)) {
            self.problem(signature, &format!("{signature_path}.components"), format!("`{component}` is no component that can be demanded"));
        }
        if let Some(signed) = node.get("signed") {
            self.problem(
                signed,
                &format!("{path}.signed"),
                "has no meaning here: the request says what is signed, `components` what has to be",
            );
        }
        components
    }
}
