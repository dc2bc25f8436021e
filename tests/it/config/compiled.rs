//! What a valid file becomes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use http::Method;
use kurier::config::{self, Auth, Config, Failing, Format, LoadOptions, Scope};
use tempfile::TempDir;

use super::{SECRET, all_set, file, load_text, reports};

fn config(text: &str) -> Config {
    load_text(text, &all_set()).map_err(|error| error.to_string()).unwrap().config
}

#[test]
fn what_is_not_said_has_the_contracts_default() {
    let config = config(&file("", ""));
    let limits = &config.server.limits;
    assert_eq!((config.server.listen.to_string().as_str(), config.server.grace), ("0.0.0.0:8080", Duration::from_secs(25)));
    assert_eq!((limits.body, limits.headers, limits.connections, limits.in_flight), (1 << 20, 64 << 10, 10_000, 64 << 20));
    assert_eq!((limits.read_timeout, limits.per_address), (Duration::from_secs(10), None));
    assert!(config.server.public_url.is_none() && config.server.trusted_proxies.is_empty() && config.server.tls.is_none());
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9090");
    assert!(config.admin.tokens.is_empty());
    assert_eq!(config.store.path, Path::new("/nowhere/data"));
    assert_eq!((config.store.retention, config.store.max_size), (Duration::from_secs(7 * 86_400), 20 << 30));
    let route = &config.routes[0];
    assert_eq!((route.methods.as_slice(), route.body_limit, route.rate), (&[Method::POST][..], 1 << 20, None));
    assert_eq!(route.dedupe_window, Duration::from_secs(3 * 86_400));
    assert!(route.dedupe_key.is_none() && route.order_by.is_none() && route.respond.is_none());
    let erp = &config.destinations["erp"];
    assert_eq!((erp.format, erp.timeout, erp.concurrency, erp.rate), (Format::Original, Duration::from_secs(15), 16, None));
    assert_eq!((&erp.retry, erp.breaker), (&config::Retry::default(), config::Breaker::default()));
    assert!(erp.signer.is_none() && erp.auth.is_none() && erp.headers.is_empty() && erp.tls.is_none());
}

#[test]
fn what_is_said_counts() {
    let text = "server:\n  listen: 127.0.0.1:0\n  public_url: https://hooks.example.ch/in/\n  trusted_proxies: [10.0.0.0/8, '::1']\n  \
                limits: { per_address: 1000/min }\n\
                admin: { token: { env: T } }\n\
                routes:\n  a:\n    path: /a/{shop}\n    methods: [GET, POST]\n    verify: none\n    dedupe: { key: '{header:x-id}', window: 0s }\n    \
                order_by: '{json:/id}'\n    limits: { rate: 5/h, body: 16MiB }\n    respond: { status: 202, content_type: text/plain, body: OK }\n    \
                deliver: [erp, { to: shop }]\n\
                destinations:\n  erp: &erp\n    url: https://erp.example.ch\n    as: cloudevents\n    auth: { header: { X-Api-Key: { env: K } } }\n    \
                headers: { X-Tenant: acme }\n    retry: { first: 1s, factor: 1.5, max: 10s, max_attempts: 7, never: [422, 400, 400] }\n    \
                limits: { concurrency: 2, rate: 50/s }\n    breaker: { failures: 3, cool_down: 1min }\n  \
                shop: { <<: *erp, url: 'http://127.0.0.1:1', sign: { secrets: [{ env: S }] } }\n";
    let config = config(text);
    assert_eq!(config.server.public_url.as_deref(), Some("https://hooks.example.ch/in"));
    assert_eq!(config.server.trusted_proxies.len(), 2);
    assert_eq!(config.server.limits.per_address.map(|rate| rate.to_string()).as_deref(), Some("1000/min"));
    assert_eq!(config.admin.tokens[0].scopes, [Scope::Read, Scope::Operate, Scope::Orders]);
    let route = &config.routes[0];
    assert_eq!(route.order_by.as_ref().map(|order_by| order_by.failing), Some(Failing::Block));
    assert!(route.dedupe_key.is_some() && route.dedupe_window.is_zero());
    assert_eq!((route.body_limit, route.rate.map(|rate| rate.to_string()).as_deref()), (16 << 20, Some("5/h")));
    let answer = route.respond.as_ref().unwrap();
    assert_eq!((answer.status, answer.content_type.as_deref(), &answer.body[..]), (202, Some("text/plain"), &b"OK"[..]));
    assert_eq!(route.deliver.iter().map(|deliver| &*deliver.to).collect::<Vec<_>>(), ["erp", "shop"]);
    let shop = &config.destinations["shop"];
    assert_eq!((shop.target.to_string().as_str(), shop.format, shop.concurrency), ("http://127.0.0.1:1/", Format::CloudEvents, 2));
    assert_eq!((shop.retry.factor, shop.retry.max_attempts, shop.retry.never.as_slice()), (1.5, Some(7), &[400, 422][..]));
    assert_eq!((shop.breaker.failures, shop.breaker.cool_down), (3, Duration::from_secs(60)));
    assert!(shop.signer.is_some() && shop.headers["x-tenant"] == "acme");
    assert!(
        matches!(&shop.auth, Some(Auth::Headers(headers)) if headers[0].0 == "x-api-key" && headers[0].1.expose() == SECRET.as_bytes())
    );
}

#[test]
fn a_secret_path_finds_its_route_and_no_other_path_does() {
    let text = "routes:\n  a: { path: '/in/{secret}', path_secret: { env: S }, verify: none, deliver: [erp] }\n  \
                b: { path: /in/open, verify: none, deliver: [erp] }\ndestinations:\n  erp: { url: 'https://erp.example.ch' }\n";
    let config = config(text);
    let found = |path: &str| config.route_for(path.as_bytes()).map(|route| route.name.to_string());
    assert_eq!(found(&format!("/in/{SECRET}")).as_deref(), Some("a"));
    assert_eq!(found("/in/open").as_deref(), Some("b"));
    for path in ["/in/{secret}", "/in/", "/in/%6fpen", "/in//open", "/IN/open", "/in/open/", ""] {
        assert_eq!(found(path), None, "{path}");
    }
    assert!(!format!("{:?}", config.routes[0].path).contains(SECRET));
}

#[test]
fn a_file_that_is_missing_or_no_text_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("routes.yaml");
    let message = || config::load(&path, &all_set(), &LoadOptions::default()).err().unwrap().to_string();
    assert!(
        message().ends_with(
            "routes.yaml: the file can't be read: No such file or directory (os error 2); `kurier init` writes one to start from"
        )
    );
    fs::write(&path, b"routes:\n  a: \xff\n").unwrap();
    assert!(message().ends_with("routes.yaml:2:1: the file is not UTF-8"), "{}", message());
    fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(message().ends_with("the file can't be read: is longer than 1048576 bytes"), "{}", message());
}

#[test]
fn a_short_token_is_a_warning() {
    let text = format!("admin: {{ token: {{ env: T }} }}\n{}", file("", ""));
    let loaded = load_text(&text, &|_: &str| Some("short".to_owned())).map_err(|error| error.to_string()).unwrap();
    assert!(loaded.warnings.iter().any(|warning| warning.path == "admin.token" && warning.message.contains("shorter than 16 bytes")));
}

#[test]
fn a_lane_says_what_a_failing_delivery_does_to_it() {
    let failing = |text: &str| {
        let config = config(&file(&format!("    order_by: {{ key: '{{json:/id}}'{text} }}"), ""));
        config.routes[0].order_by.as_ref().unwrap().failing
    };
    assert_eq!(failing(""), Failing::Block);
    assert_eq!(failing(", failing: block"), Failing::Block);
    assert_eq!(failing(", failing: skip"), Failing::Skip);
    assert_eq!(failing(", failing: { park: { after: 5 } }"), Failing::Park { after: 5 });
    for (text, problem) in [
        ("failing: never", "routes.yaml:6:45: routes.a.order_by.failing: unknown value"),
        ("failing: { park: { after: 0 } }", "routes.yaml:6:62: routes.a.order_by.failing.park.after: "),
        ("failing: { park: {} }", "routes.yaml:6:53: routes.a.order_by.failing.park: `after` is missing"),
    ] {
        reports(&file(&format!("    order_by: {{ key: '{{json:/id}}', {text} }}"), ""), problem);
    }
}
