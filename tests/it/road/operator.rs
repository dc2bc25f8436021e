//! The person on call: what they type and what they see.

use super::{GITHUB, home};
use crate::harness::{Home, Sink, github_signature, request, wait_until};

#[test]
fn a_dead_letter_is_listed_read_and_replayed_from_the_terminal() {
    let sink = Sink::start();
    sink.script(&["400 No thanks"]);
    let home = home(&sink);
    let kurier = home.serve();
    let admin = kurier.admin_url();
    let body = br#"{"ref":"refs/heads/main"}"#;
    request(kurier.public, "POST", "/callbacks/github", &[("x-hub-signature-256", &github_signature(GITHUB, body))], body);
    wait_until("the delivery is dead", || home.run(&["events", "list", "--state", "dead", "--admin-url", &admin]).stdout.contains("evt_"));

    let listed = home.run(&["events", "list", "--state", "dead", "--admin-url", &admin, "--json"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let page: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let id = page["items"][0]["id"].as_str().unwrap().to_owned();
    let shown = home.run(&["events", "show", &id, "--admin-url", &admin]);
    assert!(shown.stdout.contains("rejected") && shown.stdout.contains("400") && shown.stdout.contains("refs/heads/main"), "{shown:?}");

    let replayed = home.run(&["replay", &id, "--admin-url", &admin]);
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    let deliveries = sink.wait_for(2);
    assert_eq!(deliveries[1].body, body);
    assert_eq!(deliveries[1].header("webhook-id"), Some(id.as_str()), "the id is stable over replays");
    assert!(deliveries[1].header("kurier-replay").is_some());
}

#[test]
fn the_dead_letters_of_a_bad_hour_are_replayed_by_a_filter_and_never_twice() {
    let sink = Sink::start();
    sink.script(&["400 No", "400 No", "400 No"]);
    let home = home(&sink);
    let kurier = home.serve();
    let admin = kurier.admin_url();
    for number in 1..=3 {
        let body = number.to_string();
        let signature = github_signature(GITHUB, body.as_bytes());
        request(kurier.public, "POST", "/callbacks/github", &[("x-hub-signature-256", &signature)], body.as_bytes());
        sink.wait_for(number);
    }
    wait_until("all are dead", || {
        home.run(&["events", "list", "--state", "dead", "--admin-url", &admin]).stdout.matches("evt_").count() == 3
    });
    let replay = |more: &[&str]| {
        home.run(&[&["replay", "--route", "code", "--state", "dead", "--since", "1h", "--admin-url", &admin], more].concat())
    };
    let ran = replay(&["--dry-run"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "3 events would be replayed\n"), "{ran:?}");
    let ran = replay(&[]);
    assert!(ran.code == Some(0) && ran.stdout.ends_with(" is done: 3 events replayed, 3 deliveries\n"), "{ran:?}");
    let bodies: Vec<_> = sink.wait_for(6)[3..].iter().map(|delivery| delivery.text()).collect();
    assert_eq!(bodies.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{bodies:?}");
    wait_until("all have arrived", || {
        home.run(&["events", "list", "--state", "delivered", "--admin-url", &admin]).stdout.matches("delivered").count() == 3
    });
    let again = replay(&[]);
    assert!(again.code == Some(0) && again.stdout.ends_with(" is done: 0 events replayed, 0 deliveries\n"), "{again:?}");
    assert_eq!(home.run(&["replay", "--admin-url", &admin]).code, Some(2), "everything is never meant by nothing");
}

#[test]
fn two_operators_who_replay_at_once_replay_once() {
    let sink = Sink::start();
    let home = home(&sink);
    let kurier = home.serve();
    let signature = github_signature(GITHUB, b"{}");
    assert_eq!(request(kurier.public, "POST", "/callbacks/github", &[("x-hub-signature-256", &signature)], b"{}").status(), 200);
    let id = sink.wait_for(1)[0].header("webhook-id").unwrap().to_owned();
    // The destination takes its time, so that the first replay still waits when the others come.
    sink.otherwise("503 Not now");
    let at_once = |path: &str, body: &str| -> Vec<serde_json::Value> {
        let asked = || {
            let answer = request(kurier.admin, "POST", path, &[("content-type", "application/json")], body.as_bytes());
            assert_eq!(answer.status(), 202, "{}", answer.text());
            serde_json::from_slice(&answer.body).unwrap()
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(asked)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        })
    };
    let answers = at_once(&format!("/api/v1/events/{id}/replay"), "");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let event = |kurier: &crate::harness::Serving| -> serde_json::Value {
        serde_json::from_slice(&request(kurier.admin, "GET", &format!("/api/v1/events/{id}"), &[], b"").body).unwrap()
    };
    assert_eq!(event(&kurier)["deliveries"].as_array().unwrap().len(), 2, "the original and one replay");
    sink.otherwise("200 OK");
    wait_until("the replay has arrived", || event(&kurier)["deliveries"][1]["state"] == "delivered");
    let jobs = at_once("/api/v1/replays", r#"{"filter":{"route":"code","state":"delivered","since":"1h"}}"#);
    // A job that was done before the next one was asked for is another's; they are as few as there were such.
    let mut ids: Vec<String> = jobs.iter().map(|job| job["id"].to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    wait_until("the jobs are done", || {
        let listed: serde_json::Value = serde_json::from_slice(&request(kurier.admin, "GET", "/api/v1/replays", &[], b"").body).unwrap();
        listed["items"].as_array().unwrap().iter().all(|job| job["status"] == "done")
    });
    assert!(event(&kurier)["deliveries"].as_array().unwrap().len() <= 2 + ids.len(), "one delivery for each job");
}

#[test]
fn an_operator_may_vouch_for_the_clock() {
    let sink = Sink::start();
    let home = home(&sink);
    let kurier = home.serve();
    let ran = home.run(&["clock", "believe", "--admin-url", &kurier.admin_url()]);
    assert!(ran.code == Some(0) && ran.stdout.starts_with("the clock is believed: it is 20"), "{ran:?}");
    wait_until("the log says who", || kurier.log().contains("by an operator's word"));
}

#[test]
fn health_tells_a_running_one_from_none() {
    let sink = Sink::start();
    let home = home(&sink);
    let kurier = home.serve();
    let admin = kurier.admin_url();
    wait_until("kurier is ready", || home.run(&["health", "--admin-url", &admin]).code == Some(0));
    assert!(kurier.terminate().success());
    let ran = home.run(&["health", "--admin-url", &admin]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("kurier serve"), "{ran:?}");
}

#[test]
fn send_makes_a_correctly_signed_sample() {
    let sink = Sink::start();
    let home = home(&sink);
    let address = crate::harness::free_address();
    home.write("routes.yaml", &super::routes(&sink).replacen("listen: 127.0.0.1:0", &format!("listen: {address}"), 1));
    let _kurier = home.serve();
    for route in ["invoices", "payments", "billing", "code"] {
        let ran = home.run(&["send", "--route", route]);
        assert_eq!(ran.code, Some(0), "{route}: {ran:?}");
    }
    sink.wait_for(4);
}

#[test]
fn exit_codes_tell_usage_configuration_store_and_port_apart() {
    let sink = Sink::start();
    let first = home(&sink);
    assert_eq!(first.run(&["serf"]).code, Some(2));
    assert_eq!(Home::new("routes: [").run(&["serve"]).code, Some(3));
    assert_eq!(Home::new("routes: [").run(&["check"]).code, Some(3));
    assert_eq!(first.run(&["check"]).code, Some(0), "{:?}", first.run(&["check"]));

    let kurier = first.serve();
    let store = first.run(&["serve"]);
    assert_eq!(store.code, Some(4), "{store:?}");
    let second = home(&sink);
    second.write("routes.yaml", &super::routes(&sink).replacen("127.0.0.1:0", &kurier.public.to_string(), 1));
    let port = second.run(&["serve"]);
    assert_eq!(port.code, Some(5), "{port:?}");
    assert!(port.stderr.contains("another process has the port"), "{port:?}");
}

#[test]
fn the_repositorys_routes_yaml_says_which_secrets_are_missing_and_runs_with_them() {
    let home = Home::new(&std::fs::read_to_string(crate::harness::repository("routes.yaml")).unwrap());
    let ran = home.run(&["check"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stderr.contains("DVELOP_SECRET") && ran.stderr.contains("kurier secret new"), "{ran:?}");
    let allowed = home.run(&["check", "--allow-missing-secrets"]);
    assert_eq!(allowed.code, Some(0), "{allowed:?}");
}

#[test]
fn init_writes_a_configuration_that_check_understands() {
    let home = Home::new("");
    std::fs::remove_file(home.path().join("routes.yaml")).unwrap();
    assert_eq!(home.run(&["init"]).code, Some(0));
    assert_eq!(home.run(&["check", "--allow-missing-secrets"]).code, Some(0), "{:?}", home.run(&["check", "--allow-missing-secrets"]));
    let again = home.run(&["init"]);
    assert_ne!(again.code, Some(0), "an existing file is not overwritten");
}

#[test]
fn secrets_never_stand_in_logs_metrics_or_answers() {
    let sink = Sink::start();
    sink.script(&["400 No"]);
    let home = home(&sink);
    let kurier = home.serve();
    let signature = github_signature(GITHUB, b"{}");
    request(kurier.public, "POST", "/callbacks/github", &[("x-hub-signature-256", &signature)], b"{}");
    request(kurier.public, "GET", "/callbacks/inpasy?lid=1", &[("authorization", "Basic aW5wYXN5OmdlaGVpbQ==")], b"");
    request(kurier.public, "GET", "/callbacks/inpasy?lid=1", &[("authorization", "Basic aW5wYXN5OmZhbHNjaA==")], b"");
    sink.wait_for(2);
    let mut shown = kurier.log();
    for target in ["/metrics", "/api/v1/events", "/api/v1/destinations", "/api/v1/routes"] {
        shown += &request(kurier.admin, "GET", target, &[], b"").text();
    }
    let page = request(kurier.admin, "GET", "/api/v1/events", &[], b"").text();
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    for item in page["items"].as_array().unwrap() {
        shown += &request(kurier.admin, "GET", &format!("/api/v1/events/{}", item["id"].as_str().unwrap()), &[], b"").text();
    }
    for secret in [super::DVELOP, GITHUB, super::BILLING, super::SIGNING, "geheim", "aW5wYXN5OmdlaGVpbQ", "falsch"] {
        assert!(!shown.contains(secret), "{secret} is shown in\n{shown}");
    }
}

/// Were it not linked in, nothing would fail, and only `make bench` would show it.
#[test]
fn the_binary_runs_on_the_allocator_that_it_was_measured_with() {
    let ran = Home::new("").with_env("MIMALLOC_VERBOSE", "1").run(&["--version"]);
    assert!(ran.stderr.contains("mimalloc: process init"), "{ran:?}");
}
