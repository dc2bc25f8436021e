//! Every kind of mistake, where it is said to be and what is said about it.

use super::{file, problems, reports, warnings};

/// Whole and in order: this is what `kurier check` prints.
#[test]
fn a_file_with_many_mistakes_gets_a_located_message_for_each() {
    let text = r#"server:
  listen: ":8080"
  limtis: { body: 1MiB }
  limits: { body: 64MB, headers: 1KiB, per_address: 10/day }
store:
  retention: 7
  postgres: { url: { env: DATABASE_URL } }
routes:
  invoices:
    path: callbacks/dvelop
    verify: {}
    deliver: [erq, { to: bookkeeping, when: '.x ||' }]
    respond: { status: 404 }
  payments:
    path: /callbacks/../inpasy
    methods: [post]
    verify: none
    dedupe: { windw: 3d }
    deliver: erp
destinations:
  erp:
    url: ftp://erp.example.ch
    timeout: 1.5s
    retry: { min: 2h, factor: 0.5, never: [200] }
    headers: { Host: x }
    auth: { bearer: geheim }
  bookkeeping:
    url: https://bookkeeping.example.ch
    url: https://bookkeeping.example.ch
"#;
    insta::assert_snapshot!(problems(text), @r#"
    routes.yaml:2:11: server.listen: `:8080` is not an address and port; write `0.0.0.0:8080` for all addresses, `127.0.0.1:8080` for this machine only
    routes.yaml:3:3: server.limtis: unknown key "limtis"; did you mean "limits"?
    routes.yaml:4:19: server.limits.body: `64MB` is not a size; write a whole number and B, KiB, MiB, GiB or TiB, such as `64KiB`
    routes.yaml:4:34: server.limits.headers: 1KiB is too small; at least 8KiB
    routes.yaml:4:53: server.limits.per_address: `10/day` is not a rate; write how many (at least 1) per s, min or h, such as `50/s`
    routes.yaml:6:14: store.retention: `7` is not a duration; write a whole number and ms, s, min, h or d, such as `15s`
    routes.yaml:7:13: store.postgres: `postgres` comes in a later version
    routes.yaml:10:11: routes.invoices.path: the path `callbacks/dvelop` does not start with `/`; write `/callbacks/dvelop`
    routes.yaml:11:13: routes.invoices.verify: is empty; name a scheme such as `{ preset: github, secrets: [{ env: GITHUB_SECRET }] }`, or write `none`
    routes.yaml:12:15: routes.invoices.deliver[0]: unknown destination "erq"; did you mean "erp"?
    routes.yaml:12:49: routes.invoices.deliver[1].when: expected the end, found `||`
    routes.yaml:13:24: routes.invoices.respond.status: 404 is too large; at most 299
    routes.yaml:15:11: routes.payments.path: the path has a `..` segment; paths are matched exactly: clients resolve dots before they send
    routes.yaml:16:15: routes.payments.methods[0]: unknown value "post"; did you mean "POST"?
    routes.yaml:18:15: routes.payments.dedupe.windw: unknown key "windw"; did you mean "window"?
    routes.yaml:19:14: routes.payments.deliver: expected a list, found a text; put it in brackets: `[…]`
    routes.yaml:22:10: destinations.erp.url: the scheme `ftp` can't be used; http or https
    routes.yaml:23:14: destinations.erp.timeout: `1.5s` is not a duration; write a whole number and ms, s, min, h or d, such as `15s`
    routes.yaml:24:19: destinations.erp.retry.min: `min` (2h) is longer than `max` (1h)
    routes.yaml:24:31: destinations.erp.retry.factor: 0.5 is out of range; from 1 to 100
    routes.yaml:24:44: destinations.erp.retry.never[0]: 200 is too small; at least 300
    routes.yaml:25:16: destinations.erp.headers.Host: the header `host` is the connection's own and can't be set
    routes.yaml:26:21: destinations.erp.auth.bearer: a secret can't stand in this file; put it in an environment variable or a file: `{ env: NAME }` or `{ file: PATH }`
    routes.yaml:29:5: destinations.bookkeeping.url: the key occurs twice; it stands first in line 28
    "#);
}

#[test]
fn yaml_that_other_readers_coerce_is_refused() {
    reports(&file("    limits: { body: 0777 }", ""), "routes.yaml:6:21: routes.a.limits.body: `0777` is not a size");
    reports(
        &file("", "    limits: { concurrency: 1_000 }"),
        "routes.yaml:10:28: destinations.erp.limits.concurrency: `1_000` is not a whole number",
    );
    reports(
        &file("", "    limits: { concurrency: 0777 }"),
        "routes.yaml:10:28: destinations.erp.limits.concurrency: `0777` is not a whole number",
    );
    reports(
        &file("", "    limits: { concurrency: '16' }"),
        "routes.yaml:10:28: destinations.erp.limits.concurrency: `16` is not a whole number",
    );
    reports(&file("", "    as: on"), "routes.yaml:10:9: destinations.erp.as: unknown value \"on\"");
    reports("routes:\n\ta: 1\n", "routes.yaml:2:");
    reports("\u{feff}routes: 1\n", "routes.yaml:1:9: routes: expected a mapping, found a text");
    reports("routes: {}\n---\nroutes: {}\n", "routes.yaml:3:1: a second document");
    reports("", "routes.yaml:1:1: the file is empty");
    reports("routes: {}\nroutes: {}\n", "routes.yaml:2:1: routes: the key occurs twice; it stands first in line 1");
    reports("[]", "routes.yaml:1:1: expected a mapping, found a list");
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(","));
    }
    assert!(problems(&bomb).contains("once aliases are expanded"));
}

#[test]
fn sizes_that_overflow_are_never_small_ones() {
    for text in ["18014398509481985KiB", "18014398509481985k", "-1", "1e9", "0", "1.5MiB", "0B", "17MiB", "16777217B", "9999TiB"] {
        reports(&file(&format!("    limits: {{ body: {text} }}"), ""), "routes.yaml:6:21: routes.a.limits.body: ");
    }
    reports(&file("    limits: { body: 17MiB }", ""), "routes.yaml:6:21: routes.a.limits.body: 17MiB is too large; at most 16MiB");
    reports(&file("    limits: { body: 0B }", ""), "routes.yaml:6:21: routes.a.limits.body: 0B is too small; at least 1B");
    reports(&file("    limits: { rate: 0/s }", ""), "routes.yaml:6:21: routes.a.limits.rate: `0/s` is not a rate");
}

#[test]
fn paths_that_can_never_match_are_refused() {
    for (path, message) in [
        ("callbacks", "the path `callbacks` does not start with `/`; write `/callbacks`"),
        ("/a//b", "the path has an empty segment"),
        ("/a/../b", "the path has a `..` segment"),
        ("/a/./b", "the path has a `.` segment"),
        ("/a%2fb", "the path is percent-encoded"),
        ("/a?b=c", "the path has a query or fragment"),
        ("/a/x{b}", "`x{b}` mixes text and `{name}`"),
        ("/a/{secret}", "nothing fills the segment `{secret}`"),
        ("/${STAGE}/a", "`/${STAGE}/a` is not expanded"),
    ] {
        let text = format!(
            "routes:\n  a: {{ path: '{path}', verify: none, deliver: [erp] }}\ndestinations:\n  erp: {{ url: 'https://erp.example.ch' }}\n"
        );
        reports(&text, &format!("routes.yaml:2:14: routes.a.path: {message}"));
    }
    reports(&file("    path_secret: { env: S }", ""), "routes.yaml:6:18: routes.a.path_secret: the path has no segment `{secret}`");
}

#[test]
fn shadowed_and_ambiguous_paths_are_refused() {
    let text = "routes:\n  a: { path: /x/y, verify: none, deliver: [erp] }\n  b: { path: /x/y, verify: none, methods: [GET], deliver: [erp] }\n  \
                c: { path: '/x/{id}', verify: none, deliver: [erp] }\n  d: { path: '/{id}/y', verify: none, deliver: [erp] }\n  \
                e: { path: '/s/{secret}', path_secret: { env: S }, verify: none, deliver: [erp] }\n  \
                f: { path: '/s/{secret}', path_secret: { env: T }, verify: none, deliver: [erp] }\n\
                destinations:\n  erp: { url: 'https://erp.example.ch' }\n";
    reports(text, "routes.yaml:3:14: routes.b.path: can never match: `routes.a.path` is the same; one route may take several methods");
    reports(text, "routes.yaml:5:14: routes.d.path: `/{id}/y` and `/x/{id}` of `routes.c` fit the same paths");
    reports(text, "routes.yaml:7:14: routes.f.path: can never match: `routes.e.path` is the same");
    assert!(!problems(text).contains("routes.c.path"), "a literal path goes before a pattern");
}

#[test]
fn an_empty_verify_is_not_no_authentication() {
    for verify in ["{}", "[]", "''", "~", ""] {
        let text = format!(
            "routes:\n  a:\n    path: /a\n    verify: {verify}\n    deliver: [erp]\ndestinations:\n  erp: {{ url: 'https://erp.example.ch' }}\n"
        );
        let found = problems(&text);
        assert!(found.contains("routes.a.verify: is empty; name a scheme"), "{verify}: {found}");
    }
    let text = "routes:\n  a: { path: /a, deliver: [erp] }\ndestinations:\n  erp: { url: 'https://erp.example.ch' }\n";
    reports(text, "routes.yaml:2:6: routes.a: `verify` is missing");
}

#[test]
fn an_answer_to_an_outcome_needs_a_wait_and_is_a_success() {
    for (respond, problem) in [
        (
            "delivered: { status: 200 }",
            "routes.yaml:6:27: routes.a.respond.delivered: nothing waits for the outcome; add `wait: 2s` beside it",
        ),
        ("wait: 31s", "routes.yaml:6:22: routes.a.respond.wait: 31s is too large; at most 30s"),
        ("wait: 2s, dead: { status: 502 }", "routes.yaml:6:42: routes.a.respond.dead.status: 502 is too large; at most 299"),
    ] {
        reports(&file(&format!("    respond: {{ {respond} }}"), ""), problem);
    }
}

#[test]
fn what_later_versions_bring_is_refused_and_not_ignored() {
    assert!(problems("routes: {}\nstore: { postgres: {} }").contains("store.postgres: `postgres` comes in a later version"));
    assert!(problems("routes: {}\ntests: []").contains("tests: `tests` not available yet"));
}

#[test]
fn answers_that_are_no_answers_are_refused() {
    reports(&file("    respond: { status: 301 }", ""), "routes.yaml:6:24: routes.a.respond.status: 301 is too large; at most 299");
    reports(&file("    respond: { status: 199 }", ""), "routes.yaml:6:24: routes.a.respond.status: 199 is too small; at least 200");
    reports(
        &file("    respond: { status: 204, body: x }", ""),
        "routes.yaml:6:35: routes.a.respond.body: an answer with status 204 has no body",
    );
    reports(
        &file("    respond: { content_type: json, body: x }", ""),
        "routes.yaml:6:30: routes.a.respond.content_type: `json` is not a content type",
    );
    reports(
        &file("    respond: { content_type: \"text/plain\\r\\nx: y\", body: x }", ""),
        "routes.yaml:6:30: routes.a.respond.content_type: ",
    );
    let long = "x".repeat(4097);
    reports(
        &file(&format!("    respond: {{ body: {long} }}"), ""),
        "routes.yaml:6:22: routes.a.respond.body: the answer's body is longer than 4096 bytes",
    );
}

#[test]
fn headers_that_are_not_the_operators_to_set_are_refused() {
    for name in
        ["Host", "content-length", "Transfer-Encoding", "Connection", "Keep-Alive", "TE", "webhook-id", "Webhook-Signature", "kurier-route"]
    {
        let found = problems(&file("", &format!("    headers: {{ {name}: x }}")));
        assert!(found.starts_with(&format!("routes.yaml:10:16: destinations.erp.headers.{name}: the header")), "{name}: {found}");
    }
    reports(
        &file("", "    headers: { Authorization: x }"),
        "routes.yaml:10:16: destinations.erp.headers.Authorization: the header `authorization` holds credentials",
    );
    reports(
        &file("", "    headers: { X: \"a\\r\\nb\" }"),
        "routes.yaml:10:19: destinations.erp.headers.X: a header's value can't hold a line break",
    );
    reports(&file("", "    headers: { \"a b\": x }"), "routes.yaml:10:16: destinations.erp.headers.a b: `a b` is not a header's name");
    reports(&file("", "    headers: { A: x, a: y }"), "routes.yaml:10:22: destinations.erp.headers.a: the header occurs twice");
    reports(
        &file("", "    auth: { header: { Host: { env: S } } }"),
        "routes.yaml:10:23: destinations.erp.auth.header.Host: the header `host`",
    );
}

#[test]
fn urls_of_destinations_are_plain_http() {
    for (url, message) in [
        ("erp.example.ch", "is not a URL"),
        ("ftp://erp", "the scheme `ftp` can't be used; http or https"),
        ("https://u:p@erp", "the URL holds credentials; put them under `auth`"),
        ("https://erp/#x", "the URL has a fragment"),
    ] {
        let text = format!("routes:\n  a: {{ path: /a, verify: none, deliver: [erp] }}\ndestinations:\n  erp: {{ url: '{url}' }}\n");
        reports(&text, &format!("routes.yaml:4:15: destinations.erp.url: {message}"));
    }
}

#[test]
fn a_retry_policy_makes_sense() {
    reports(&file("", "    retry: { min: 2h }"), "routes.yaml:10:19: destinations.erp.retry.min: `min` (2h) is longer than `max` (1h)");
    reports(&file("", "    retry: { max: 2s }"), "routes.yaml:10:19: destinations.erp.retry.max: `first` (5s) is longer than `max` (2s)");
    reports(
        &file("", "    retry: { factor: 0.9 }"),
        "routes.yaml:10:22: destinations.erp.retry.factor: 0.9 is out of range; from 1 to 100",
    );
    for factor in ["nan", "inf", "-1", "1e3", "'2'x", ".5"] {
        assert!(
            problems(&file("", &format!("    retry: {{ factor: \"{factor}\" }}"))).contains("destinations.erp.retry.factor"),
            "{factor}"
        );
    }
    reports(&file("", "    retry: { never: [299] }"), "routes.yaml:10:22: destinations.erp.retry.never[0]: 299 is too small; at least 300");
    reports(&file("", "    retry: { never: [600] }"), "routes.yaml:10:22: destinations.erp.retry.never[0]: 600 is too large; at most 599");
    reports(&file("", "    retry: { max_attempts: 0 }"), "routes.yaml:10:28: destinations.erp.retry.max_attempts: 0 is too small");
    reports(&file("", "    timeout: 0s"), "routes.yaml:10:14: destinations.erp.timeout: 0ms is too small; at least 10ms");
    reports(&file("", "    breaker: { failures: 0 }"), "routes.yaml:10:26: destinations.erp.breaker.failures: 0 is too small");
}

#[test]
fn one_kind_of_credentials() {
    reports(&file("", "    auth: {}"), "routes.yaml:10:11: destinations.erp.auth: holds 0 kinds; exactly one of bearer, basic, header");
    reports(
        &file("", "    auth: { bearer: { env: A }, basic: { user: a, password: { env: A } } }"),
        "routes.yaml:10:11: destinations.erp.auth: holds 2 kinds",
    );
    reports(
        &file("", "    auth: { basic: { user: 'a:b', password: { env: A } } }"),
        "routes.yaml:10:28: destinations.erp.auth.basic.user: a user name can't hold a colon",
    );
    reports(
        &file("", "    auth: { basic: { user: a, password: b } }"),
        "routes.yaml:10:41: destinations.erp.auth.basic.password: a secret can't stand in this file",
    );
}

#[test]
fn an_admin_port_that_others_can_reach_needs_a_token() {
    let with = |admin: &str| {
        format!(
            "admin: {admin}\nroutes:\n  a: {{ path: /a, verify: none, deliver: [erp] }}\ndestinations:\n  erp: {{ url: 'https://erp.example.ch' }}\n"
        )
    };
    reports(
        &with("{ listen: 0.0.0.0:9090 }"),
        "routes.yaml:1:18: admin.listen: 0.0.0.0:9090 can be reached from other machines, and there is no token",
    );
    reports(&with("{ listen: 127.0.0.1:8080 }"), "routes.yaml:1:18: admin.listen: 127.0.0.1:8080 is taken by `server.listen`");
    reports(
        &with("{ token: { env: A }, tokens: [{ name: a, scopes: [read], secret: { env: A } }] }"),
        "routes.yaml:1:17: admin.token: stands beside `tokens`",
    );
    reports(&with("{ tokens: [] }"), "routes.yaml:1:18: admin.tokens: the list is empty");
    reports(
        &with("{ tokens: [{ name: a, scopes: [write], secret: { env: A } }] }"),
        "routes.yaml:1:39: admin.tokens[0].scopes[0]: unknown value \"write\"",
    );
    reports(&with("{ tokens: [{ name: a, scopes: [] }] }"), "routes.yaml:1:19: admin.tokens[0]: `secret` is missing");
    let two = "{ tokens: [{ name: a, scopes: [read], secret: { env: A } }, { name: a, scopes: [read], secret: { env: B } }] }";
    let found = problems(&with(two));
    assert!(
        found.contains("admin.tokens[1].name: two tokens are named \"a\"")
            && found.contains("admin.tokens[1].secret: is the secret of another token too"),
        "{found}"
    );
}

#[test]
fn names_lists_and_places_are_checked() {
    let text =
        "routes:\n  'a b': { path: /a, verify: none, deliver: [erp, erp] }\ndestinations:\n  erp: { url: 'https://erp.example.ch' }\n";
    reports(text, "routes.yaml:2:3: routes.a b: `a b` is not a name");
    reports(&file("    deliver: [erp]", ""), "routes.yaml:6:5: routes.a.deliver: the key occurs twice; it stands first in line 5");
    let text = "routes:\n  a: { path: /a, verify: none, deliver: [erp, erp] }\ndestinations:\n  erp: { url: 'https://erp.example.ch' }\n";
    reports(text, "routes.yaml:2:47: routes.a.deliver[1]: the destination \"erp\" occurs twice");
    reports("routes: {}\n", "routes.yaml:1:9: routes: there is no route");
    reports("server: {}\n", "routes.yaml:1:1: `routes` is missing");
    reports(
        &format!("server: {{ trusted_proxies: [10.1.2.3/8] }}\n{}", file("", "")),
        "routes.yaml:1:29: server.trusted_proxies[0]: `10.1.2.3/8` has bits beyond its prefix; did you mean `10.0.0.0/8`?",
    );
    reports(
        &format!("server: {{ limits: {{ in_flight: 512KiB }} }}\n{}", file("", "")),
        "routes.yaml:4:11: routes.a.path: a body of 1MiB could never be taken",
    );
    reports(
        &format!("server: {{ public_url: 'https://a.example/?x' }}\n{}", file("", "")),
        "routes.yaml:1:23: server.public_url: the public URL has a query",
    );
}

#[test]
fn a_destination_that_is_a_metadata_address_is_refused_however_it_is_written() {
    for (url, address) in [
        ("http://169.254.169.254/latest", "169.254.169.254"),
        ("http://2852039166/", "169.254.169.254"),
        ("http://[::ffff:a9fe:a9fe]/", "::ffff:169.254.169.254"),
    ] {
        let text = format!("routes:\n  a: {{ path: /a, verify: none, deliver: [erp] }}\ndestinations:\n  erp: {{ url: '{url}' }}\n");
        reports(&text, &format!("routes.yaml:4:15: destinations.erp.url: {address} is a cloud metadata address, which is never called"));
    }
}

#[test]
fn what_is_allowed_and_probably_not_meant_is_a_warning() {
    let text = "server: { trusted_proxies: [0.0.0.0/0] }\nstore: { retention: 1d }\nroutes:\n  a: { path: /a, verify: none, methods: [GET], deliver: [erp], dedupe: { window: 3d } }\n\
                destinations:\n  erp: { url: 'https://erp.example.ch' }\n  old: { url: 'http://old.example.ch', auth: { bearer: { env: A } } }\n";
    let found = warnings(text);
    for warning in [
        "routes.yaml:1:29: server.trusted_proxies[0]: believes X-Forwarded-* from anybody",
        "routes.yaml:4:26: routes.a.verify: the scheme does not bind the body",
        "routes.yaml:4:58: routes.a.deliver[0]: a GET has no body",
        "routes.yaml:4:82: routes.a.dedupe.window: keys are remembered for 3d, events are kept for 1d only",
        "routes.yaml:7:3: destinations.old: no route delivers to \"old\"",
        "routes.yaml:7:46: destinations.old.auth: the credentials go over plain http",
    ] {
        assert!(found.iter().any(|line| line.starts_with(warning)), "{warning}\n{found:#?}");
    }
    assert_eq!(found.len(), 6, "{found:#?}");
}

#[test]
fn a_quarantine_keeps_what_can_be_refused_and_no_longer_than_events() {
    let with = |verify: &str, quarantine: &str| {
        format!(
            "store: {{ retention: 2d }}\nroutes:\n  a:\n    path: /a\n    verify: {verify}\n    quarantine: {quarantine}\n    deliver: [erp]\ndestinations:\n  erp: {{ url: 'https://erp.example.ch' }}\n"
        )
    };
    let github = "{ preset: github, secrets: [{ env: A }] }";
    let longer = "routes.yaml:6:17: routes.a.quarantine: refused requests are kept for 3d, longer than events (`store.retention` is 2d); set `max_age`";
    reports(&with(github, "{ max_age: 3d }"), longer);
    reports(&with(github, "{}"), longer);
    let told = warnings(&with(github, "{ max_age: 2d, keep: 1 }"));
    assert!(!told.iter().any(|line| line.contains("quarantine")), "{told:?}");
    let open = warnings(&with("none", "{ max_age: 1d }"));
    assert!(
        open.iter().any(|line| line.starts_with("routes.yaml:6:17: routes.a.quarantine: nothing comes into this quarantine")),
        "{open:?}"
    );
    reports(&with(github, "{ keep: 0 }"), "routes.yaml:6:25: routes.a.quarantine.keep: 0 is too small");
    reports(&with(github, "{ max: 1 }"), "routes.yaml:6:19: routes.a.quarantine.max: unknown key");
    let pulled = "routes:\n  a:\n    pull: { dvelop: { base_url: 'https://a.example', integration_key: k, every: 60s } }\n    quarantine: {}\n    deliver: [erp]\ndestinations:\n  erp: { url: 'https://erp.example.ch' }\n";
    reports(pulled, "routes.yaml:4:17: routes.a.quarantine: `quarantine` has no meaning beside `pull`");
}

#[test]
fn a_secret_that_a_route_lists_twice_is_a_warning() {
    let with = |verify: &str| {
        format!(
            "routes:\n  a: {{ path: /a, verify: {verify}, deliver: [erp] }}\ndestinations:\n  erp: {{ url: 'https://erp.example.ch' }}\n"
        )
    };
    let same = |_: &str| Some(super::SECRET.to_owned());
    let each = |name: &str| Some(format!("{}{name}", super::SECRET));
    let found = |verify: &str, env: &dyn kurier::config::Environment| -> Vec<String> {
        let loaded = super::load_text(&with(verify), env).map_err(|error| error.to_string()).unwrap();
        loaded.warnings.iter().map(|warning| warning.located("routes.yaml").to_string()).collect()
    };
    let two = "{ preset: github, secrets: [{ env: A }, { env: B }] }";
    assert!(found(two, &each).is_empty());
    let twice = found(two, &same);
    assert!(twice.len() == 1 && twice[0].starts_with("routes.yaml:2:66: routes.a.verify.secrets[1]: is the same secret"), "{twice:?}");
    assert!(!twice[0].contains(super::SECRET));
    // Two schemes may well share one.
    let any = "{ any: [{ preset: github, secrets: [{ env: A }] }, { preset: stripe, secrets: [{ env: A }] }] }";
    assert!(found(any, &same).is_empty());
}

#[test]
fn any_bytes_are_read_or_refused_without_a_panic() {
    let text = include_str!("../../../routes.yaml");
    kurier::config::fuzz_routes(text.as_bytes());
    kurier::config::fuzz_routes(kurier::config::init_text().as_bytes());
    for end in 0..text.len() {
        if end % 41 == 0 {
            kurier::config::fuzz_routes(&text.as_bytes()[..end]);
            let mut broken = text.as_bytes().to_vec();
            broken[end] ^= 0x15;
            kurier::config::fuzz_routes(&broken);
        }
    }
    kurier::config::fuzz_routes(&[0xff, 0x00, b'{', b'&', b'*']);
}

#[test]
fn a_programs_mistake_is_told_at_its_own_line_and_column() {
    let delivers = |deliver: &str| {
        format!(
            "routes:\n  a:\n    path: /a\n    verify: none\n    deliver:\n{deliver}\ndestinations:\n  erp: {{ url: 'https://erp.example.ch' }}\n"
        )
    };
    for (deliver, line) in [
        ("      - { to: erp, when: '.a | foo(1)' }", "routes.yaml:6:32: routes.a.deliver[0].when: unknown filter `foo`"),
        (
            "      - to: erp\n        transform: |\n          .body\n            | .a[\n",
            "routes.yaml:9:18: routes.a.deliver[0].transform: expected closing bracket",
        ),
        (
            "      - { to: erp, transform: '{ path: env.PATH }' }",
            "routes.yaml:6:40: routes.a.deliver[0].transform: `env` is not available; a program sees the event only, no environment",
        ),
        (
            "      - { to: erp, transform: halt }",
            "routes.yaml:6:31: routes.a.deliver[0].transform: `halt` is not available; a program can't",
        ),
        ("      - { to: erp, when: '.a |' }", "routes.yaml:6:31: routes.a.deliver[0].when: expected term, found the end"),
    ] {
        reports(&delivers(deliver), line);
    }
    let both = problems(&delivers("      - { to: erp, when: foo, transform: 'bar | baz' }"));
    assert_eq!(both.lines().count(), 3, "every mistake at once: {both}");
}

#[test]
fn key_sources_are_asked_over_https_with_the_id_outside_of_the_host() {
    let with = |source: &str| {
        let route = "{ preset: plaid }";
        format!("{}key_sources:\n  plaid: {source}\n", file("", "").replace("verify: none", &format!("verify: {route}")))
    };
    assert_eq!(problems(&with("{ url: 'https://a.example/{id}' }")), "none");
    assert_eq!(problems(&with("{ url: https://a.example/get, pointer: /key, body: { key_id: '{id}', secret: { env: S } } }")), "none");
    assert_eq!(problems(&with("{ url: 'http://127.0.0.1:1/{id}', auth: { bearer: { env: S } } }")), "none");
    for (source, line) in [
        ("{ url: https://a.example/get }", "nothing says which key is asked for"),
        ("{ url: 'http://a.example/{id}' }", "keys are fetched over https only"),
        ("{ url: 'https://{id}.a.example/' }", "`{id}` can't stand in the host"),
        ("{ url: 'https://{id}/' }", "`{id}` can't stand in the host"),
        ("{ url: 'a.example/{id}' }", ""),
        ("{ url: 'https://a.example/{id}', pointer: key }", "is no JSON pointer"),
        ("{ url: 'https://a.example/{id}', auth: { bearer: secret } }", ""),
    ] {
        let found = problems(&with(source));
        assert!(found != "none" && found.contains(line), "{source}: {found}");
    }
}

#[test]
fn a_key_source_that_is_named_has_to_be_there() {
    let with = |verify: &str, sources: &str| file("", "").replace("verify: none", &format!("verify: {verify}")) + sources;
    let sources = "key_sources:\n  plaad: { url: 'https://a.example/{id}' }\n";
    let found = problems(&with("{ preset: plaid }", sources));
    assert!(
        found.contains("routes.a.verify: its keys come from the key source \"plaid\", which is not there; did you mean \"plaad\"?"),
        "{found}"
    );
    let found = problems(&with("{ preset: plaid }", ""));
    assert!(found.contains("add `key_sources"), "{found}");
    let found = warnings(&with("none", sources));
    assert!(found.iter().any(|line| line.contains("no route's keys come from \"plaad\"")), "{found:?}");
}

#[test]
fn a_place_browsers_come_back_to_is_refused_where_it_is_written() {
    let with = |server: &str, path: &str| {
        format!(
            "server: {{ {server} }}\nstore: {{ key: {{ env: K }} }}\nroutes:\n  a: {{ path: /a, verify: none, deliver: [sb] }}\n\
             destinations:\n  sb:\n    smartbusiness:\n      client_id: c\n      client_secret: {{ env: S }}\n      scopes: [invoice]\n      \
             request: POST /receivables/invoices\n      grant: authorization_code\n      redirect_path: {path}\n"
        )
    };
    let known = "public_url: 'https://hooks.example.ch/in'";
    assert_eq!(problems(&with(known, "/oauth/sb")), "none");
    for (server, path, expected) in [
        (known, "/readyz", "`/readyz` is where the server says how it is; take another `redirect_path`"),
        (known, "/a", "the route `a` has the path `/a` already; take another `redirect_path`"),
        (known, "oauth", "is not a path such as `/oauth/smartbusiness`"),
        ("", "/oauth/sb", "nobody knows where the browser comes back to; set `server.public_url`"),
    ] {
        // Exactly one message each: what is written wrong is not also called missing.
        assert_eq!(problems(&with(server, path)), format!("routes.yaml:13:22: destinations.sb.smartbusiness.redirect_path: {expected}"));
    }
}
