//! Refused requests in quarantine, on the built binary: kept, shown, released, bounded, gone.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Home, Serving, Sink, github_signature, request, wait_until};

const RIGHT: &str = "the secret that the sender has";

fn routes(sink: &Sink, quarantine: &str) -> String {
    format!(
        r#"
server: {{ listen: 127.0.0.1:0 }}
admin: {{ listen: 127.0.0.1:0 }}
store: {{ path: ./data, allow_file_systems: [overlay] }}
routes:
  code:
    path: /in
    verify: {{ preset: github, secrets: [{{ file: hub.secret }}] }}
    dedupe: {{ window: 0s }}
    {quarantine}
    deliver: [erp]
destinations:
  erp: {{ url: {} }}
"#,
        sink.url("/hooks")
    )
}

/// A Kurier that was given the wrong secret.
fn home(sink: &Sink, quarantine: &str) -> Home {
    let home = Home::new(&routes(sink, quarantine));
    home.write("hub.secret", "a secret that nobody has");
    home
}

fn push(address: SocketAddr, secret: &str, body: &[u8]) -> u16 {
    request(address, "POST", "/in", &[("x-hub-signature-256", &github_signature(secret, body))], body).status()
}

fn kept(home: &Home) -> Vec<String> {
    let Ok(entries) = fs::read_dir(home.path().join("data/quarantine/code")) else { return Vec::new() };
    let names = entries.map_while(Result::ok).map(|entry| entry.file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.ends_with(".part")).collect();
    names.sort();
    names
}

fn wait_for(home: &Home, count: usize) -> Vec<String> {
    wait_until(&format!("{count} are kept"), || kept(home).len() == count);
    kept(home)
}

/// What a command says of this server.
fn kurier(home: &Home, serving: &Serving, arguments: &[&str]) -> (Option<i32>, String) {
    let ran = home.run(&[arguments, &["--admin-url", &serving.admin_url()]].concat());
    (ran.code, ran.stdout + &ran.stderr)
}

fn correct_the_secret(home: &Home, serving: &Serving) {
    home.write("hub.secret", RIGHT);
    wait_until("the secret is reloaded", || serving.log().contains("is reloaded"));
}

fn metrics(serving: &Serving) -> String {
    request(serving.admin, "GET", "/metrics", &[], b"").text()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_a_wrong_secret_refused_is_delivered_once_it_is_corrected_and_a_forgery_is_not() {
    let sink = Sink::start();
    let home = home(&sink, "quarantine: {}");
    let serving = home.serve();
    let body = b"{\"bytes\": \"\\u00e4 \xff\",\r\n \"n\": 1e400}\n";
    assert_eq!(push(serving.public, RIGHT, body), 401);
    wait_for(&home, 1);
    assert_eq!(push(serving.public, "a forger's", b"forged"), 401);
    let ids = wait_for(&home, 2);
    let folder = home.path().join("data/quarantine");
    assert_eq!((mode(&folder), mode(&folder.join("code")), mode(&folder.join("code").join(&ids[0]))), (0o700, 0o700, 0o600));

    let (code, list) = kurier(&home, &serving, &["events", "refused", "--route", "code"]);
    assert!(code == Some(0) && ids.iter().all(|id| list.contains(id)) && list.contains("mismatch"), "{list}");
    let (code, one) = kurier(&home, &serving, &["events", "refused", "--limit", "1"]);
    assert!(code == Some(0) && one.contains(&ids[1]) && !one.contains(&ids[0]), "{one}");
    let cursor = one.split_once("there are more: the same with --cursor ").unwrap().1.lines().next().unwrap();
    let (_, rest) = kurier(&home, &serving, &["events", "refused", "--limit", "1", "--cursor", cursor]);
    assert!(rest.contains(&ids[0]) && !rest.contains(&ids[1]) && !rest.contains("there are more"), "{rest}");
    let (code, none) = kurier(&home, &serving, &["events", "refused", "--route", "other"]);
    assert!(code == Some(0) && none.starts_with("nothing in quarantine matches"), "{none}");
    let doctor = ["verify", "--route", "code", "--refusal", &ids[0]];
    let (code, told) = kurier(&home, &serving, &doctor);
    assert!(code == Some(1) && told.contains("refused: mismatch") && told.contains("no key makes this signature"), "{told}");
    let shown = request(serving.admin, "GET", &format!("/api/v1/refusals/{}", ids[0]), &[], b"").text();
    let signature = github_signature(RIGHT, body);
    assert!(shown.contains("x-hub-signature-256") && !shown.contains(&signature) && !shown.contains("1e400"), "{shown}");

    let (code, said) = kurier(&home, &serving, &["events", "release", "--route", "code"]);
    assert!(code == Some(0) && said.starts_with("released 0, still refused 2 (2 mismatch)"), "{said}");
    correct_the_secret(&home, &serving);
    let (code, told) = kurier(&home, &serving, &doctor);
    assert!(code == Some(0) && told.contains("accepted"), "{told}");
    let (_, said) = kurier(&home, &serving, &["events", "release", "--route", "code", "--dry-run"]);
    assert!(said.starts_with("would release 1, still refused 1 (1 mismatch)") && kept(&home).len() == 2, "{said}");
    let (code, said) = kurier(&home, &serving, &["events", "release", "--route", "code", "--since", "1h"]);
    assert!(code == Some(0) && said.starts_with("released 1, still refused 1 (1 mismatch)"), "{said}");

    let delivery = sink.wait_for(1).remove(0);
    assert_eq!(delivery.body, body, "bytes in are bytes out");
    assert_eq!(delivery.header("webhook-id").unwrap(), ids[0].replace("ref_", "evt_"));
    assert_eq!(kept(&home), ids[1..]);
    let (_, events) = kurier(&home, &serving, &["events"]);
    assert!(events.lines().count() == 2 && !events.contains("forged"), "{events}");
    let metrics = metrics(&serving);
    for line in [
        "kurier_refusals_kept{route=\"code\"} 1",
        "kurier_refusals_released_total{route=\"code\"} 1",
        "kurier_refusals_dropped_total{route=\"code\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    let (code, said) = kurier(&home, &serving, &["events", "release", "--route", "other"]);
    assert!(code == Some(1) && said.contains("there is no route `other`"), "{said}");
    assert!(serving.terminate().success());
    assert_eq!(sink.received().len(), 1);
}

#[test]
fn what_is_kept_survives_kill_9_and_a_killed_release_makes_no_second_event() {
    let sink = Sink::start();
    let home = home(&sink, "quarantine: { keep: 50, max_age: 1d }");
    let serving = home.serve();
    let bodies: Vec<String> = (0..20).map(|number| format!("number {number}")).collect();
    for body in &bodies {
        assert_eq!(push(serving.public, RIGHT, body.as_bytes()), 401);
    }
    let ids = wait_for(&home, bodies.len());
    serving.kill();
    // What the disk would show had every removal been lost.
    let (folder, copy) = (home.path().join("data/quarantine/code"), home.path().join("copy"));
    fs::create_dir(&copy).unwrap();
    for id in &ids {
        fs::copy(folder.join(id), copy.join(id)).unwrap();
    }

    home.write("hub.secret", RIGHT);
    let serving = home.serve();
    let admin = serving.admin;
    let releasing = std::thread::spawn(move || {
        // It may be cut off: that is what is tried here.
        drop(crate::harness::try_request(admin, "POST", "/api/v1/refusals/release", &[], br#"{"route":"code"}"#));
    });
    sink.wait_for(1);
    serving.kill();
    releasing.join().unwrap();

    fs::create_dir_all(&folder).unwrap();
    for id in &ids {
        fs::copy(copy.join(id), folder.join(id)).unwrap();
    }
    let serving = home.serve();
    let (code, said) = kurier(&home, &serving, &["events", "release", "--route", "code"]);
    assert!(code == Some(0) && said.contains("were events already") && kept(&home).is_empty(), "{said}");
    wait_until("all are delivered", || {
        let received = sink.received();
        bodies.iter().all(|body| received.iter().any(|delivery| delivery.text() == *body))
    });
    let (_, events) = kurier(&home, &serving, &["events", "--json"]);
    let events: serde_json::Value = serde_json::from_str(&events).unwrap();
    assert_eq!(events["items"].as_array().unwrap().len(), bodies.len(), "one event for each");
    assert!(serving.terminate().success());
}

#[test]
fn a_flood_of_forgeries_fills_the_ring_and_holds_up_nobody() {
    let sink = Sink::start();
    let home = home(&sink, "quarantine: { keep: 5, max_age: 1d }");
    home.write("hub.secret", RIGHT);
    let serving = home.serve();
    let (address, genuine) = (serving.public, AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..60 {
                    assert_eq!(push(address, "a forger's", &[b'x'; 20_000]), 401);
                    if number % 6 == 0 {
                        assert_eq!(push(address, RIGHT, b"genuine"), 200);
                        genuine.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    sink.wait_for(genuine.load(Ordering::Relaxed));
    wait_until("the ring holds five", || metrics(&serving).contains("kurier_refusals_kept{route=\"code\"} 5") && kept(&home).len() == 5);
    assert!(metrics(&serving).contains("kurier_requests_refused_total{route=\"code\",reason=\"mismatch\"} 240"));
    assert!(serving.terminate().success());
    let serving = home.serve();
    let (_, list) = kurier(&home, &serving, &["events", "refused", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 5, "a restart keeps them");
}

#[test]
fn what_is_too_old_goes_by_itself_and_at_the_start_and_all_of_it_with_the_setting() {
    let sink = Sink::start();
    let home = home(&sink, "quarantine: { max_age: 4s }");
    let serving = home.serve();
    push(serving.public, RIGHT, b"one");
    wait_for(&home, 1);
    wait_for(&home, 0);
    push(serving.public, RIGHT, b"two");
    wait_for(&home, 1);
    serving.kill();
    std::thread::sleep(std::time::Duration::from_secs(4));
    let serving = home.serve();
    wait_for(&home, 0);
    drop(serving);

    home.write("routes.yaml", &routes(&sink, "quarantine: { max_age: 1d }"));
    let serving = home.serve();
    push(serving.public, RIGHT, b"three");
    wait_for(&home, 1);
    home.write("routes.yaml", &routes(&sink, ""));
    wait_for(&home, 0);
    wait_until("it is told", || serving.log().contains("code keeps no refused requests any more: 1 are removed"));
    push(serving.public, RIGHT, b"four");
    assert!(serving.terminate().success());
    assert!(kept(&home).is_empty());
}

#[test]
fn a_quarantine_that_can_not_be_written_only_counts() {
    let sink = Sink::start();
    let home = home(&sink, "quarantine: {}");
    let serving = home.serve();
    // In its place lies what is no folder.
    home.write("data/quarantine", "");
    assert_eq!(push(serving.public, RIGHT, b"one"), 401);
    wait_until("it is counted", || metrics(&serving).contains("kurier_refusals_dropped_total{route=\"code\"} 1"));
    wait_until("it is told", || serving.log().contains("can't be kept and are only counted"));
    fs::remove_file(home.path().join("data/quarantine")).unwrap();
    assert_eq!(push(serving.public, RIGHT, b"two"), 401);
    wait_for(&home, 1);
    home.write("hub.secret", RIGHT);
    wait_until("the secret is reloaded", || push(serving.public, RIGHT, b"three") == 200);
    assert!(serving.terminate().success());
}
