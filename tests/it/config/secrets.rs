//! Secrets come by env or file; what is missing, empty, a literal or a placeholder is refused (S1–S4).

use std::fs;
use std::path::Path;

use kurier::config::{self, Auth, LoadOptions};
use kurier::model::Timestamp;
use tempfile::TempDir;

use super::{SECRET, load_text, problems_with, vars};

fn with_token(token: &str) -> String {
    format!(
        "admin: {{ token: {token} }}\nroutes:\n  a: {{ path: /a, verify: none, deliver: [erp] }}\ndestinations:\n  erp: {{ url: 'https://erp.example.ch' }}\n"
    )
}

#[track_caller]
fn refused(token: &str, value: &str, message: &str) {
    let found = problems_with(&with_token(token), &vars(&[("TOKEN", value)]));
    assert!(found.contains(&format!("routes.yaml:1:17: admin.token: {message}")), "{message}\n{found}");
    assert!(value.trim().is_empty() || !found.contains(value), "{found}");
}

#[test]
fn a_missing_or_empty_secret_is_refused() {
    refused("{ env: OTHER }", "", "the environment variable OTHER is not set; export OTHER=");
    refused("{ env: TOKEN }", "", "the environment variable TOKEN is empty");
    refused("{ env: TOKEN }", " \n\t ", "the environment variable TOKEN holds nothing but blanks");
    refused("{ file: gone }", "", "the file /nowhere/gone can't be read");
    refused("{ file: ../ }", "", "the file /nowhere/../ can't be read");
    refused("{}", "", "names no secret");
    refused("{ env: TOKEN, file: x }", "", "has both `env` and `file`");
    refused("~", "", "is empty");
    refused("[x]", "", "expected `{ env: NAME }` or `{ file: PATH }`, found a list");
}

#[test]
fn a_literal_is_refused_and_never_repeated() {
    refused("geheim-7c1f", "geheim-7c1f", "a secret can't stand in this file; put it in an environment variable or a file");
    refused("env:TOKEN", "geheim-7c1f", "a secret can't stand in this file; write `{ env: TOKEN }`");
    refused("'${TOKEN}'", "geheim-7c1f", "a secret can't stand in this file; write `{ env: TOKEN }`");
    refused("'${lower:-}'", "geheim-7c1f", "a secret can't stand in this file; put it");
    refused("{ env: '${TOKEN}' }", "geheim-7c1f", "`${TOKEN}` is not the name of an environment variable");
}

#[test]
fn a_placeholder_is_no_secret() {
    for value in [
        "${OLD:-}",
        "env:NAME",
        "changeme",
        "CHANGEME",
        "***",
        "development_secret",
        "nil",
        "undefined",
        "<your secret>",
        "{{ secret }}",
        "xxxx",
    ] {
        refused("{ env: TOKEN }", value, "the environment variable TOKEN holds a placeholder, not a secret");
    }
}

#[test]
fn unknown_keys_and_times_of_a_secret_are_refused() {
    let found = problems_with(&with_token("{ env: TOKEN, not_afer: 2027-01-01T00:00:00Z }"), &vars(&[("TOKEN", SECRET)]));
    assert!(found.contains("routes.yaml:1:31: admin.token.not_afer: unknown key \"not_afer\"; did you mean \"not_after\"?"), "{found}");
    let found = problems_with(&with_token("{ env: TOKEN, not_after: tomorrow }"), &vars(&[("TOKEN", SECRET)]));
    assert!(found.contains("admin.token.not_after: `tomorrow` is not an RFC 3339 time"), "{found}");
    let found = problems_with(&with_token("{ env: TOKEN, not_after: 2027-01-01T00:00:00Z }"), &vars(&[("TOKEN", SECRET)]));
    assert!(found.contains("admin.token: `not_after` has no meaning here"), "{found}");
}

#[test]
fn a_files_one_newline_is_not_part_of_the_secret_and_its_path_starts_at_the_configuration() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("routes.yaml");
    fs::create_dir(folder.path().join("run")).unwrap();
    for (content, secret) in [("abc\n", "abc"), ("abc\r\n", "abc"), ("abc\n\n", "abc\n"), (" abc", " abc")] {
        fs::write(folder.path().join("run/token"), content).unwrap();
        fs::write(&path, with_token("{ file: run/token }")).unwrap();
        let loaded = config::load(&path, &vars(&[]), &LoadOptions::default()).map_err(|error| error.to_string()).unwrap();
        assert_eq!(loaded.config.admin.tokens[0].secret.expose(), secret.as_bytes());
        assert!(loaded.config.files.contains(&folder.path().join("run/token")));
    }
}

#[test]
fn missing_secrets_pass_as_warnings_when_asked_to_and_differ_each_time() {
    let text = with_token("{ env: TOKEN }");
    let options = LoadOptions { allow_missing_secrets: true, now: None };
    let load = || {
        let loaded = config::parse(&text, Path::new("routes.yaml"), Path::new(""), &vars(&[]), &options);
        loaded.map_err(|error| error.to_string()).unwrap()
    };
    let (first, second) = (load(), load());
    assert!(first.warnings.iter().any(|warning| warning.path == "admin.token" && warning.message.contains("TOKEN is not set")));
    assert_ne!(first.config.admin.tokens[0].secret.expose(), second.config.admin.tokens[0].secret.expose());
}

#[test]
fn a_placeholder_does_not_pass_even_then() {
    let options = LoadOptions { allow_missing_secrets: true, now: None };
    let env = vars(&[("TOKEN", "changeme")]);
    assert!(config::parse(&with_token("{ env: TOKEN }"), Path::new("routes.yaml"), Path::new(""), &env, &options).is_err());
}

#[test]
fn any_text_may_come_from_the_environment() {
    let text = "server: { listen: { env: LISTEN }, limits: { body: { env: BODY }, connections: { env: N } } }\n\
                routes:\n  a: { path: /a, verify: none, deliver: [{ env: TO }] }\n\
                destinations:\n  erp: { url: { env: ERP_URL }, auth: { basic: { user: kurier, password: { env: PASSWORD } } } }\n";
    let env = vars(&[
        ("LISTEN", "127.0.0.1:0"),
        ("BODY", "2MiB"),
        ("N", "7"),
        ("TO", "erp"),
        ("ERP_URL", "https://erp.example.ch/x"),
        ("PASSWORD", "pw"),
    ]);
    let config = load_text(text, &env).map_err(|error| error.to_string()).unwrap().config;
    assert_eq!(
        (config.server.listen.to_string().as_str(), config.server.limits.body, config.server.limits.connections),
        ("127.0.0.1:0", 2 << 20, 7)
    );
    let erp = &config.destinations["erp"];
    assert_eq!(erp.target.to_string(), "https://erp.example.ch/x");
    assert!(matches!(&erp.auth, Some(Auth::Basic { user, password }) if user.expose() == b"kurier" && password.expose() == b"pw"));
}

#[test]
fn a_text_whose_variable_is_missing_or_wrong_is_refused() {
    let text = "routes:\n  a: { path: /a, verify: none, deliver: [erp] }\ndestinations:\n  erp: { url: { env: ERP_URL } }\n";
    let found = problems_with(text, &vars(&[]));
    assert!(found.contains("routes.yaml:4:15: destinations.erp.url: the environment variable ERP_URL is not set"), "{found}");
    let found = problems_with(text, &vars(&[("ERP_URL", "${STAGE}.example.ch")]));
    assert!(found.contains("destinations.erp.url: the environment variable ERP_URL holds an unexpanded placeholder"), "{found}");
    let found = problems_with(text, &vars(&[("ERP_URL", "ftp://erp")]));
    assert!(found.contains("destinations.erp.url: the scheme `ftp` can't be used"), "{found}");
}

#[test]
fn a_secret_that_no_longer_counts_is_a_warning() {
    let text = "routes:\n  a:\n    path: /a\n    verify: { preset: github, secrets: [{ env: A }, { env: B, not_after: 2026-01-01T00:00:00Z }] }\n    deliver: [erp]\n\
                destinations:\n  erp: { url: 'https://erp.example.ch' }\n";
    let now = "2026-11-24T08:00:00Z".parse::<Timestamp>().unwrap();
    let options = LoadOptions { now: Some(now), ..LoadOptions::default() };
    let env = vars(&[("A", SECRET), ("B", SECRET)]);
    let loaded = config::parse(text, Path::new("routes.yaml"), Path::new(""), &env, &options).map_err(|error| error.to_string()).unwrap();
    assert!(loaded.warnings.iter().any(|warning| warning.message.contains("has not counted since 2026-01-01")), "{:?}", loaded.warnings);
}

#[test]
fn the_stores_key_is_a_secret_of_32_bytes_at_least() {
    let text = |key: &str| {
        format!(
            "store: {{ key: {key} }}\nroutes:\n  a: {{ path: /a, verify: none, deliver: [erp] }}\ndestinations:\n  erp: {{ url: 'https://erp.example.ch' }}\n"
        )
    };
    let key = "0123456789abcdef0123456789abcdef";
    let config = load_text(&text("{ env: KEY }"), &vars(&[("KEY", key)])).map_err(|error| error.to_string()).unwrap().config;
    assert_eq!(config.store.key.as_ref().map(|key| key.expose()), Some(key.as_bytes()));
    let found = problems_with(&text("{ env: KEY }"), &vars(&[("KEY", &key[1..])]));
    assert!(found.contains("routes.yaml:1:15: store.key: is shorter than 32 bytes; make one with `kurier secret new`"), "{found}");
    assert!(!found.contains(&key[1..]), "{found}");
    let found = problems_with(&text(key), &vars(&[]));
    assert!(found.contains("store.key: a secret can't stand in this file"), "{found}");
}
