//! What the repository ships: its routes.yaml, the text of `kurier init`, the schema.

use std::path::Path;

use http::Method;
use kurier::config::{self, Format, LoadOptions};

use super::{SECRET, all_set, vars};

fn repository(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

#[test]
fn the_repositorys_configuration_is_valid_with_its_secrets_set() {
    let loaded = config::load(&repository("routes.yaml"), &all_set(), &LoadOptions::default()).map_err(|error| error.to_string()).unwrap();
    let config = loaded.config;
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9090");
    let names: Vec<_> = config.routes.iter().map(|route| route.name.to_string()).collect();
    assert_eq!(names, ["invoices", "payments", "internetkasse", "girocheckout", "standard", "github", "stripe"]);
    let route = config.route_for(b"/callbacks/inpasy").unwrap();
    assert_eq!(route.methods, [Method::GET, Method::POST]);
    assert_eq!(config.route_for(b"/callbacks/girocheckout").unwrap().methods, [Method::GET]);
    assert!(config.route_for(b"/callbacks/inpasy/").is_none());
    assert_eq!(config.destinations["ticket-shop"].format, Format::Json);
}

#[test]
fn without_secrets_every_one_is_named_with_the_way_to_make_it() {
    let error = config::load(&repository("routes.yaml"), &vars(&[]), &LoadOptions::default()).err().unwrap();
    for name in [
        "KURIER_ADMIN_TOKEN",
        "DVELOP_SECRET",
        "INPASY_PASSWORD",
        "INTERNETKASSE_SECRET",
        "GIROCHECKOUT_PASSPHRASE",
        "STANDARD_WEBHOOKS_SECRET",
        "GITHUB_WEBHOOK_SECRET",
        "STRIPE_WEBHOOK_SECRET",
        "ERP_SIGNING_SECRET",
        "BOOKKEEPING_SIGNING_SECRET",
        "SHOP_SIGNING_SECRET",
        "BUILDS_SIGNING_SECRET",
    ] {
        let problem = error.problems.iter().find(|problem| problem.message.contains(name)).unwrap_or_else(|| panic!("{name} in\n{error}"));
        assert!(problem.span.line > 0 && problem.hint.as_deref().is_some_and(|hint| hint.contains("kurier secret new")), "{error}");
    }
    assert_eq!(error.problems.len(), 12, "{error}");
}

#[test]
fn the_repositorys_configuration_passes_without_secrets_when_asked_to() {
    let options = LoadOptions { allow_missing_secrets: true, ..LoadOptions::default() };
    let loaded = config::load(&repository("routes.yaml"), &vars(&[]), &options).map_err(|error| error.to_string()).unwrap();
    assert_eq!(loaded.warnings.iter().filter(|warning| warning.message.contains("is not set")).count(), 12);
}

#[test]
fn every_example_passes_with_nothing_to_say_but_its_missing_secrets() {
    for system in ["dvelop", "inpasy", "payjoe", "bankintegration", "smartbusiness"] {
        let file = repository(&format!("examples/{system}/routes.yaml"));
        let options = LoadOptions { allow_missing_secrets: true, ..LoadOptions::default() };
        let loaded = config::load(&file, &vars(&[]), &options).map_err(|error| format!("{system}: {error}")).unwrap();
        let said = |warning: &&kurier::document::Problem| {
            // InPaSy's callbacks carry a password, and no signature.
            let unbound = system == "inpasy" && warning.message.contains("does not bind the body");
            !(warning.message.contains("is not set") || unbound)
        };
        assert_eq!(
            loaded.warnings.iter().filter(said).map(|warning| &warning.message).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "{system}"
        );
        assert!(file.with_file_name("README.md").exists());
    }
}

#[test]
fn the_text_of_init_is_valid_with_its_secrets_set_and_without_warnings() {
    let env = vars(&[("WEBHOOK_SECRET", SECRET), ("APP_SIGNING_SECRET", SECRET)]);
    let loaded = config::parse(config::init_text(), Path::new("routes.yaml"), Path::new("/nowhere"), &env, &LoadOptions::default())
        .map_err(|error| error.to_string())
        .unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.config.store.path, Path::new("/nowhere/./data"));
}

#[test]
fn the_committed_schema_is_the_tables_own() {
    let path = repository("docs/routes.schema.json");
    let schema = format!("{:#}\n", config::schema());
    if std::env::var_os("KURIER_UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert_eq!(committed, schema, "run the test with KURIER_UPDATE_SCHEMA=1 and commit docs/routes.schema.json");
}

#[test]
fn the_starting_text_of_the_schema_can_be_followed() {
    let schema = config::schema();
    let route = &schema["$defs"]["route"]["properties"];
    assert_eq!(route["path"]["anyOf"][0]["pattern"], "^/");
    assert_eq!(schema["$defs"]["retry"]["properties"]["never"]["default"], serde_json::json!([400, 413, 422]));
    assert_eq!(schema["properties"]["routes"]["additionalProperties"]["$ref"], "#/$defs/route");
    assert_eq!(schema["additionalProperties"], false);
}
