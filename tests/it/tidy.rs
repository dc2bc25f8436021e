//! The house rules that no compiler knows: which room may import which, how long a file may be, what may not
//! stand in the tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms each room may import. `docs/architecture.md` says why.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("document", &[]),
    ("clock", &["model"]),
    ("telemetry", &["model"]),
    ("server", &["telemetry"]),
    ("signature", &["model", "document"]),
    ("jq", &["model"]),
    ("config", &["model", "document", "signature", "jq", "connectors"]),
    ("connectors", &["model", "signature"]),
    ("limits", &["model", "clock"]),
    ("store", &["model", "clock", "telemetry"]),
    ("accept", &["model", "config", "connectors", "signature", "store", "clock"]),
    (
        "ingress",
        &[
            "model",
            "signature",
            "config",
            "connectors",
            "limits",
            "accept",
            "orders",
            "quarantine",
            "tokens",
            "store",
            "server",
            "clock",
            "telemetry",
        ],
    ),
    ("quarantine", &["model", "accept", "config", "orders", "signature", "store", "clock", "telemetry"]),
    ("egress", &["model", "clock", "telemetry"]),
    ("relay", &["model", "signature", "config", "limits", "connectors", "egress", "jq", "store", "clock", "telemetry", "tokens"]),
    ("tokens", &["model", "clock", "connectors", "egress", "signature", "store"]),
    ("pull", &["model", "config", "connectors", "accept", "egress", "store", "clock", "telemetry", "tokens"]),
    ("orders", &["model", "config", "connectors", "accept", "egress", "store", "clock"]),
    ("notify", &["model", "config", "accept", "store", "clock"]),
    ("replays", &["model", "store", "clock"]),
    (
        "admin",
        &[
            "model",
            "document",
            "config",
            "connectors",
            "orders",
            "quarantine",
            "replays",
            "tokens",
            "store",
            "clock",
            "telemetry",
            "signature",
        ],
    ),
    ("app", &["*"]),
    ("demo", &["app", "clock", "config", "document", "egress", "model", "server", "signature", "telemetry"]),
    ("cli", &["app", "demo", "document", "config", "model", "signature", "egress", "telemetry", "clock", "store"]),
];

/// Why a forbidden import is forbidden, where the table alone does not say it.
const REASONS: &[(&str, &str, &str)] = &[
    ("ingress", "relay", "they meet in the store"),
    ("relay", "ingress", "they meet in the store"),
    ("relay", "accept", "only requests and pulled items are accepted"),
    ("store", "config", "an engine never looks at a configuration"),
];

/// Outside crates that are kept to few places: crate, the path prefixes that may name it.
const KEPT_TO: &[(&str, &[&str])] = &[
    ("sled", &["store/local/"]),
    ("reqwest", &["egress/"]),
    ("tower_http", &["ingress", "admin"]),
    ("governor", &["limits.rs"]),
    ("jaq_core", &["jq"]),
    ("jaq_json", &["jq"]),
    ("jaq_std", &["jq"]),
    ("clap", &["cli", "main.rs"]),
    ("saphyr_parser", &["document/parse.rs"]),
    ("subtle", &["signature", "config", "admin"]),
    ("hmac", &["signature", "connectors/bankintegration/"]),
    ("oauth2", &["connectors/oauth.rs", "connectors/oauth/"]),
    ("rust_decimal", &["connectors"]),
    ("encoding_rs", &["connectors/inpasy", "signature/charset.rs"]),
    ("prometheus_client", &["telemetry/metrics.rs", "ingress"]),
    ("tracing_subscriber", &["telemetry/logs.rs"]),
    ("anyhow", &["app", "cli", "demo", "main.rs"]),
];

/// Files over the limit, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

const LINES_MAX: usize = 500;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    let relative = |path: &Path| path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
    found.iter().map(|path| (relative(path), fs::read_to_string(path).unwrap())).collect()
}

/// The code without comments, and up to the tests: those may use whatever they need.
fn code(text: &str) -> String {
    let body = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// The rooms that a piece of code names after `crate::`, inside braces too.
fn imported(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    let word = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with('$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0_i32;
            let mut start = true;
            for (i, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if start && !c.is_whitespace() => {
                        rooms.insert(word(&list[i..]));
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            rooms.insert(word(rest));
        }
    }
    rooms
}

/// Where the remote systems are played.
const SIMULATORS: &str = "demo/simulators";

#[test]
fn rooms_import_only_what_the_table_allows() {
    let mut complaints = Vec::new();
    for (file, text) in sources() {
        let from = room(&file);
        if matches!(from, "lib" | "main") {
            continue;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == from) else {
            complaints.push(format!("{file}: the room `{from}` is not in the table"));
            continue;
        };
        for to in imported(&code(&text)) {
            if to != from && !allowed.contains(&"*") && !allowed.contains(&to.as_str()) {
                let reason = REASONS.iter().find(|(f, t, _)| *f == from && *t == to).map_or("", |(_, _, reason)| reason);
                complaints.push(format!("{file} imports {to}: not allowed; {reason}"));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn outside_crates_stay_in_their_rooms() {
    let mut complaints = Vec::new();
    // A simulator checks with means of its own what Kurier computes.
    for (file, text) in sources().into_iter().filter(|(file, _)| !file.starts_with(SIMULATORS)) {
        let code = code(&text);
        for (name, places) in KEPT_TO {
            let named = code.lines().any(|line| {
                line.match_indices(&format!("{name}::"))
                    .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
            });
            if named && !places.iter().any(|place| file.starts_with(place)) {
                complaints.push(format!("{file} names the crate {name}: it is kept to {places:?}"));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn simulators_know_nothing_of_the_code_that_speaks_to_them() {
    let simulators = sources().into_iter().filter(|(file, _)| file.starts_with(SIMULATORS));
    let named: Vec<(String, BTreeSet<String>)> = simulators.map(|(file, text)| (file, imported(&code(&text)))).collect();
    assert!(named.len() > 5 && named.iter().all(|(_, rooms)| rooms.is_empty()), "{named:?}");
}

#[test]
fn the_import_reader_sees_nested_lists_and_paths() {
    let seen = imported("use crate::{model::{A, B}, store::Store};\nlet x = crate::clock::now();\n$crate::skip");
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["clock", "model", "store"]);
}

#[test]
fn files_are_short_or_have_a_reason() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(file, text)| (text.lines().count(), file))
        .filter(|(lines, file)| *lines > LINES_MAX && !LONG_FILES.iter().any(|(name, _)| name == file))
        .collect();
    assert!(long.is_empty(), "longer than {LINES_MAX} lines: {long:?}");
    for (file, reason) in LONG_FILES {
        assert!(
            !reason.is_empty() && sources().iter().any(|(name, text)| name == file && text.lines().count() > LINES_MAX),
            "{file} needs no exception"
        );
    }
}

#[test]
fn nothing_is_left_unfinished() {
    // Written apart, so that this file does not find itself.
    let marks =
        [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat(), ["dbg", "!("].concat(), ["unimpl", "emented!"].concat()];
    let mut complaints = Vec::new();
    for (file, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                complaints.push(format!("{file}:{}: {line}", number + 1));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    documents.extend(
        fs::read_dir(root.join("docs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "md")),
    );
    let mut complaints = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#']).next().unwrap_or("");
            let outside = target.contains("://") || target.starts_with("mailto:") || target.is_empty();
            if !outside && !document.parent().unwrap().join(target).exists() {
                complaints.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(complaints.is_empty(), "dead links:\n{}", complaints.join("\n"));
}
