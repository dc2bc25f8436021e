//! routes.yaml: what is accepted, what is refused and how it is said. Everything here is asked of the public
//! functions that `check`, start and reload use.
mod compiled;
mod mistakes;
mod reload;
mod secrets;
mod shipped;
mod tls;

use std::collections::BTreeMap;
use std::path::Path;

use kurier::config::{self, Environment, LoadError, LoadOptions, Loaded};

/// Long enough for every use, hex and base64 at once.
const SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// An environment of these variables.
fn vars(pairs: &[(&str, &str)]) -> impl Environment + use<> {
    let map: BTreeMap<String, String> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    move |name: &str| map.get(name).cloned()
}

/// Every variable is set.
fn all_set() -> impl Environment {
    |_: &str| Some(SECRET.to_owned())
}

fn load_text(text: &str, env: &dyn Environment) -> Result<Loaded, LoadError> {
    config::parse(text, Path::new("routes.yaml"), Path::new("/nowhere"), env, &LoadOptions::default())
}

/// The problems of a text that must not load, one per line.
fn problems(text: &str) -> String {
    problems_with(text, &all_set())
}

fn problems_with(text: &str, env: &dyn Environment) -> String {
    match load_text(text, env) {
        Ok(_) => "none".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The warnings of a text that must load.
fn warnings(text: &str) -> Vec<String> {
    let loaded = load_text(text, &all_set()).map_err(|error| error.to_string()).unwrap();
    loaded.warnings.iter().map(|warning| warning.located("routes.yaml").to_string()).collect()
}

/// A whole file around one route's settings and one destination's.
fn file(route: &str, destination: &str) -> String {
    format!(
        "routes:\n  a:\n    path: /a\n    verify: none\n    deliver: [erp]\n{route}\ndestinations:\n  erp:\n    url: https://erp.example.ch\n{destination}\n"
    )
}

/// Fails unless the problem with this start is among them.
#[track_caller]
fn reports(text: &str, line: &str) {
    let found = problems(text);
    assert!(found.lines().any(|problem| problem.starts_with(line)), "wanted: {line}\nfound:\n{found}\nin:\n{text}");
}
