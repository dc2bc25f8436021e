//! `kurier store` as people run it, on a real folder.

use crate::harness::{Home, Sink, github_signature, request};

const SECRET: &str = "a secret of thirty-two bytes or so";

fn home(sink: &Sink) -> Home {
    let home = Home::new(&format!(
        "server: {{ listen: 127.0.0.1:0 }}
admin: {{ listen: 127.0.0.1:0 }}
store: {{ path: ./data, allow_file_systems: [overlay] }}
routes:
  github:
    path: /github
    verify: {{ preset: github, secrets: [{{ file: secret }}] }}
    deliver: [down]
destinations:
  down: {{ url: \"http://{}/\" }}
",
        sink.address
    ));
    home.write("secret", SECRET);
    home
}

#[test]
fn a_backup_of_a_running_server_is_checked_damaged_repaired_and_restored() {
    let sink = Sink::start();
    let home = home(&sink);
    let kurier = home.serve();
    for n in 0..20 {
        let body = format!("{{\"n\":{n}}}");
        let signature = github_signature(SECRET, body.as_bytes());
        let answer = request(kurier.public, "POST", "/github", &[("x-hub-signature-256", &signature)], body.as_bytes());
        assert_eq!(answer.status(), 200);
    }
    sink.wait_for(20);
    let refused = home.run(&["store", "check"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("hint: stop the server first"), "{refused:?}");
    // The last commit is sealed a second after it; until then a backup ends before it.
    crate::harness::wait_until("a backup holds all", || {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("backup");
        let ran = home.run(&["store", "backup", to.to_str().unwrap()]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let stats = home.run(&["store", "stats", "--json", "--path", to.to_str().unwrap()]);
        let stats: serde_json::Value = serde_json::from_str(&stats.stdout).unwrap();
        stats["events"] == 20 && stats["pending"].as_object().unwrap().is_empty()
    });
    assert_eq!(home.run(&["store", "backup", "kept"]).code, Some(0));
    assert!(home.run(&["store", "stats"]).stdout.contains("events: 20"), "also of the running server's");
    assert!(kurier.terminate().success());

    assert_eq!(home.run(&["store", "check"]).code, Some(0));
    let segment = home.path().join("data/journal/0000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(8).position(|window| window == b"{\"n\":17}").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    assert_eq!(home.run(&["serve"]).code, Some(4));
    let check = home.run(&["store", "check"]);
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.stdout.contains("0000000000000001.seg at byte") && check.stdout.contains("to down"), "{check:?}");
    let repair = home.run(&["store", "repair"]);
    assert_eq!(repair.code, Some(0), "{repair:?}");
    assert!(repair.stdout.contains("lost: the body of event evt_"), "{repair:?}");
    assert_eq!(home.run(&["store", "check"]).code, Some(0));
    assert!(home.serve().terminate().success());

    let not_empty = home.run(&["store", "restore", "kept"]);
    assert_eq!(not_empty.code, Some(4), "{not_empty:?}");
    std::fs::rename(home.path().join("data"), home.path().join("old")).unwrap();
    assert_eq!(home.run(&["store", "restore", "kept"]).code, Some(0));
    assert!(home.run(&["store", "stats"]).stdout.contains("events: 20"));
    assert!(home.serve().terminate().success());
}

/// Nothing was committed: no line tells of 1970.
#[test]
fn a_backup_of_an_empty_store_says_that_nothing_was_committed() {
    let sink = Sink::start();
    let home = home(&sink);
    for _ in 0..2 {
        assert!(home.serve().terminate().success());
    }
    let backup = home.run(&["store", "backup", "kept"]);
    assert_eq!(backup.code, Some(0), "{backup:?}");
    assert!(backup.stdout.contains("1 segment, 4096 bytes, no commits yet"), "{backup:?}");
    let stats = home.run(&["store", "stats", "--path", "kept"]);
    assert!(stats.stdout.contains("events: 0") && !stats.stdout.contains("1970"), "{stats:?}");
}
