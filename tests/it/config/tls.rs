//! Certificates and keys are read, parsed and matched at load.

use std::fs;
use std::path::Path;

use kurier::config::{self, LoadOptions};
use tempfile::TempDir;

use super::all_set;

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in ["a", "b"] {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join(format!("{name}.crt")), signed.cert.pem()).unwrap();
        fs::write(folder.path().join(format!("{name}.key")), signed.signing_key.serialize_pem()).unwrap();
    }
    fs::write(folder.path().join("junk"), "no certificate").unwrap();
    folder
}

fn problems_in(folder: &Path, server: &str, destination: &str) -> String {
    let text = format!(
        "server: {{ tls: {server} }}\nroutes:\n  a: {{ path: /a, verify: none, deliver: [erp] }}\ndestinations:\n  erp: {{ url: 'https://erp.example.ch', tls: {destination} }}\n"
    );
    let path = folder.join("routes.yaml");
    fs::write(&path, text).unwrap();
    match config::load(&path, &all_set(), &LoadOptions::default()) {
        Ok(_) => "none".to_owned(),
        Err(error) => error.to_string().replace(&folder.display().to_string(), ""),
    }
}

#[test]
fn a_key_of_another_certificate_is_refused_on_both_sides() {
    let folder = folder();
    let found = problems_in(folder.path(), "{ cert: a.crt, key: b.key }", "{ client_cert: b.crt, client_key: a.key }");
    let wanted = [
        "/routes.yaml:1:36: server.tls.key: the key does not belong to the certificate",
        "destinations.erp.tls.client_key: the key does not belong to the certificate",
    ];
    for problem in wanted {
        assert!(found.contains(problem), "{found}");
    }
}

#[test]
fn files_that_are_missing_or_no_pem_are_refused() {
    let folder = folder();
    let found = problems_in(folder.path(), "{ cert: junk, key: gone.key, client_ca: . }", "{ ca: junk, client_cert: a.crt }");
    for problem in [
        "server.tls.cert: the file holds no readable certificate",
        "server.tls.key: the file /gone.key can't be read",
        "server.tls.client_ca: the file /. can't be read: is a folder",
        "destinations.erp.tls.ca: the file holds no readable certificate",
        "destinations.erp.tls.client_cert: `client_cert` needs `client_key`",
    ] {
        assert!(found.contains(problem), "{problem}\n{found}");
    }
}

#[test]
fn a_matching_pair_makes_a_server_that_speaks_h2_and_http_1() {
    let folder = folder();
    let text = "server: { tls: { cert: a.crt, key: a.key, client_ca: b.crt } }\nroutes:\n  a: { path: /a, verify: none, deliver: [erp] }\n\
                destinations:\n  erp: { url: 'https://erp.example.ch', tls: { ca: a.crt, client_cert: b.crt, client_key: b.key } }\n";
    let path = folder.path().join("routes.yaml");
    fs::write(&path, text).unwrap();
    let loaded = config::load(&path, &all_set(), &LoadOptions::default()).map_err(|error| error.to_string()).unwrap();
    let tls = loaded.config.server.tls.as_ref().unwrap();
    assert_eq!(tls.config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert!(loaded.config.destinations["erp"].tls.as_ref().unwrap().identity.is_some());
    // routes.yaml, a.crt, a.key, b.crt and b.key: a change of each asks for a reload.
    assert_eq!(loaded.config.files.len(), 5);
}

#[test]
fn an_expired_certificate_is_a_warning() {
    let folder = folder();
    let mut expired = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(folder.path().join("a.crt"), expired.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(folder.path().join("a.key"), key.serialize_pem()).unwrap();
    let path = folder.path().join("routes.yaml");
    let text = "server: { tls: { cert: a.crt, key: a.key } }\nroutes:\n  a: { path: /a, verify: none, deliver: [erp] }\n\
                destinations:\n  erp: { url: 'https://erp.example.ch' }\n";
    fs::write(&path, text).unwrap();
    let options = LoadOptions { now: Some("2026-11-24T08:00:00Z".parse().unwrap()), ..LoadOptions::default() };
    let loaded = config::load(&path, &all_set(), &options).map_err(|error| error.to_string()).unwrap();
    let warning = loaded.warnings.iter().find(|warning| warning.path == "server.tls.cert").unwrap();
    assert_eq!(warning.message, "the certificate expired on 2020-01-01T00:00:00.000Z");
}
