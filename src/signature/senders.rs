//! `docs/senders.md`: every preset as its user needs it, made of the presets themselves.

use std::fmt::Write as _;
use std::sync::LazyLock;

use super::compile::{self, Recorded, settings};
use super::{Binding, KeyMaterial, SecretSource, preset_names, presets};
use crate::document::{self, Entry, Node, Span, Value};
use crate::model::Secret;

static SENDERS: LazyLock<Option<Node>> = LazyLock::new(|| document::parse(include_str!("senders.yaml")).ok()?.get("senders").cloned());

const INTRO: &str = "\
# Senders

How to set up each sender that Kurier knows by name. This page is made from the presets (`src/signature/presets.yaml`)
and a test keeps it current.

Put the block into `routes.yaml` and the sender's secret into the variable it names. Any key of a preset can be
overridden beside `preset:`. A sender that is not here is described the same way: see
[A sender without a preset](#a-sender-without-a-preset) at the end.

*Checked* says what a preset rests on. *Body* says whether what arrives is proven to come from the sender: where it is
not, treat the request as a hint and fetch the object from the sender. (K) marks general knowledge that nobody has
checked. When a request does not verify, `kurier verify --route NAME --request FILE` says which single thing is wrong.
";

/// Any text is a key here: what is asked of the compiled scheme is what it binds.
struct Any;

impl SecretSource for Any {
    fn secret(&mut self, _node: &Node, _path: &str) -> Option<KeyMaterial> {
        Some(KeyMaterial { secret: Secret::new(b"any".to_vec()), not_after: None })
    }
}

/// The page.
pub fn senders_page() -> String {
    let mut page = INTRO.to_owned();
    let names: Vec<&str> = preset_names().collect();
    let links: Vec<String> = names.iter().map(|name| format!("[{name}](#{name})")).collect();
    page.push('\n');
    for line in links.chunks(6) {
        // Writing to a String never fails.
        writeln!(page, "{}{}", line.join(" · "), if line.len() == 6 { " ·" } else { "" }).unwrap_or_default();
    }
    for name in names {
        if let Some(preset) = presets::get(name) {
            page.push_str(&section(name, preset));
        }
    }
    page.push_str(include_str!("language.md"));
    page
}

fn section(name: &str, preset: &Node) -> String {
    let text = |path: &[&str]| path.iter().try_fold(preset, |node, key| node.get(key)).and_then(Node::as_str);
    let known = |key: &str| SENDERS.as_ref().and_then(|senders| senders.get(name)?.get(key)?.as_str());
    let mut lines = vec![format!("\n## {name}\n"), "```yaml".to_owned(), block(name, preset), "```\n".to_owned()];
    let mut item = |what: &str, text: String| lines.push(format!("- {what}: {text}"));
    item("Checked", confidence(text(&["conf"]).unwrap_or_default()).to_owned());
    item("Body", body(name, preset).to_owned());
    item("Signed", signed(preset));
    if let Some(tolerance) = text(&["timestamp", "tolerance"]).or(text(&["jwt", "max_age"])) {
        item("Time", format!("refused when more than {tolerance} s from now"));
    }
    if let Some(challenge) = preset.get("challenge").and_then(Node::as_sequence) {
        let signed = if challenge.iter().any(|rule| rule.get("verified").is_some()) { ", once its signature is right" } else { "" };
        let kept = challenge.iter().any(|rule| rule.get("keep").is_some());
        let verb = if kept { "kept for you to see, and brought nowhere" } else { "answered by Kurier" };
        item("Handshake", format!("{verb}{signed}"));
    }
    for (what, key) in [("Answer", "answer"), ("Rotation", "rotation"), ("Note", "notes")] {
        if let Some(text) = known(key) {
            item(what, text.replace('\n', " "));
        }
    }
    lines.join("\n") + "\n"
}

fn confidence(word: &str) -> &'static str {
    match word {
        "V" => "with a vector of the sender's own documentation or tests",
        "v" => "with a third party's vector",
        "D" => "against the sender's documentation",
        "T" => "against a third party's implementation",
        _ => "not at all: general knowledge, try it before you rely on it",
    }
}

/// The setup in one copy-paste block.
fn block(name: &str, preset: &Node) -> String {
    let variable = name.to_ascii_uppercase().replace('-', "_");
    let key = |part: &str| preset.get("key").and_then(|key| key.get(part)).and_then(Node::as_str);
    let (verb, comment) = match (key("encoding"), preset.get("algorithm").and_then(Node::as_str)) {
        (_, Some("basic")) => ("CREDENTIALS", "user:password"),
        (Some("pem"), _) => ("PUBLIC_KEY", "PEM"),
        (Some("spki"), _) => ("PUBLIC_KEY", "base64 (SPKI)"),
        (Some("whpk"), _) => ("PUBLIC_KEY", "whpk_…"),
        (Some("hex"), _) => ("SECRET", "hex"),
        (Some("base64"), _) => ("SECRET", "base64"),
        (Some("whsec"), _) => ("SECRET", "whsec_…"),
        _ => ("SECRET", ""),
    };
    let comment = if comment.is_empty() { String::new() } else { format!("   # {comment}") };
    let mut text = format!("routes:\n  {name}:\n    path: /callbacks/{name}\n    verify:\n      preset: {name}\n");
    let mut end = String::new();
    match (key("source"), key("by")) {
        (None, None) => text.push_str(&format!("      secrets: [{{ env: {variable}_{verb} }}]{comment}\n")),
        (None, Some(by)) => {
            text.push_str(&format!("      secrets: {{ KEY-ID: {{ env: {variable}_{verb} }} }}   # the id stands in {by}\n"))
        }
        (Some(source), _) => match source.strip_prefix("remote:") {
            Some(remote) => {
                text.push_str(&format!(
                    "      # its keys are fetched from key_sources.{remote}; or: secrets: {{ KEY-ID: {{ file: … }} }}\n"
                ));
                end = format!("key_sources:\n  {remote}: {}\n", key_source(remote));
            }
            None => text.push_str("      # its keys are fetched from the sender\n"),
        },
    }
    let settings = settings(preset);
    if !settings.is_empty() {
        let settings: Vec<String> = settings.iter().map(|setting| format!("{setting}: …")).collect();
        text.push_str(&format!("      config: {{ {} }}\n", settings.join(", ")));
    }
    text.push_str("    deliver: [app]\n");
    (text + &end).trim_end().to_owned()
}

fn key_source(name: &str) -> &'static str {
    match name {
        "plaid" => {
            "{ url: https://production.plaid.com/webhook_verification_key/get, pointer: /key, body: { key_id: \"{id}\", client_id: …, secret: { env: PLAID_API_SECRET } } }"
        }
        "ebay" => {
            "{ url: \"https://api.ebay.com/commerce/notification/v1/public_key/{id}\", pointer: /key,\n    auth: { oauth2: { token_url: https://api.ebay.com/identity/v1/oauth2/token, client_id: …, client_secret: { env: EBAY_CLIENT_SECRET }, scopes: [https://api.ebay.com/oauth/api_scope], client_auth: basic } } }"
        }
        _ => "{ url: \"https://…/{id}\", auth: …, pointer: /key }",
    }
}

fn signed(preset: &Node) -> String {
    let shown = |text: &str| format!("`{}`", text.replace('\n', "\\n"));
    let algorithm = preset.get("algorithm").and_then(Node::as_str);
    let text = |node: &Node| node.get("signed").and_then(Node::as_str).map(shown);
    match (algorithm, text(preset), preset.get("variants").and_then(Node::as_sequence)) {
        (Some("token" | "basic"), _, _) => "nothing: the sender shows a credential".to_owned(),
        (Some("jwt"), _, _) => {
            match (preset.get("claims").and_then(Node::as_mapping), preset.get("jwt").and_then(|jwt| jwt.get("detached"))) {
                (_, Some(payload)) => format!("a detached token over {}", shown(payload.as_str().unwrap_or_default())),
                (Some(claims), None) => {
                    let claims: Vec<String> =
                        claims.iter().map(|claim| format!("`{}` = `{}`", claim.key, claim.value.as_str().unwrap_or_default())).collect();
                    format!("a token, whose claims say {}", claims.join(", "))
                }
                (None, None) => "a token".to_owned(),
            }
        }
        (Some(algorithm), Some(signed), _) => format!("{signed} ({algorithm})"),
        (algorithm, None, Some(variants)) => {
            let each = variants.iter().filter_map(|variant| {
                let algorithm = variant.get("algorithm").and_then(Node::as_str).or(algorithm).unwrap_or_default();
                Some(format!("{} ({algorithm})", text(variant)?))
            });
            each.collect::<Vec<_>>().join(" or ")
        }
        (algorithm, _, _) => {
            let components = preset.get("signature").and_then(|signature| signature.get("components")).and_then(Node::as_sequence);
            let components: Vec<&str> = components.unwrap_or_default().iter().filter_map(Node::as_str).collect();
            format!("{} at least ({})", components.join(", "), algorithm.unwrap_or_default())
        }
    }
}

fn body(name: &str, preset: &Node) -> &'static str {
    let entry = |key: &str, value: Node| Entry { key: key.to_owned(), key_span: Span::default(), value };
    let mapping = |entries| Node { span: Span::default(), value: Value::Mapping(entries) };
    let config = settings(preset).into_iter().map(|setting| entry(&setting, Node::text("x"))).collect::<Vec<_>>();
    let key = |part: &str| preset.get("key").and_then(|key| key.get(part)).is_some();
    let mut scheme = vec![entry("preset", Node::text(name))];
    if !key("source") {
        scheme.push(entry("secrets", if key("by") { mapping(vec![entry("id", Node::text("x"))]) } else { Node::text("x") }));
    }
    if !config.is_empty() {
        scheme.push(entry("config", mapping(config)));
    }
    let verifier = compile::verifier(&mapping(scheme), "verify", &mut Any, &mut Vec::new(), Some(Recorded::Event));
    match verifier.map(|verifier| verifier.binding()) {
        Some(Binding::Whole) => "all of it is signed",
        Some(Binding::Fields) => "**some fields only are signed**; believe no others",
        Some(Binding::None) => "**not signed**; whoever has the credential or captured one request can send any body",
        None => "unknown",
    }
}
