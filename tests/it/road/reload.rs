//! Reload, stop and start, on the built binary.

use super::{GITHUB, home, routes};
use crate::harness::{Sink, github_signature, request, standard_signature, wait_until};

fn push(address: std::net::SocketAddr, secret: &str) -> u16 {
    let signature = github_signature(secret, b"{}");
    request(address, "POST", "/callbacks/github", &[("x-hub-signature-256", &signature)], b"{}").status()
}

#[test]
fn a_changed_file_is_in_force_within_a_second_and_a_bad_one_keeps_the_old() {
    let sink = Sink::start();
    let home = home(&sink);
    let kurier = home.serve();
    assert_eq!(push(kurier.public, GITHUB), 200);

    home.write("routes.yaml", "routes: [not valid");
    wait_until("the bad file is complained of", || kurier.log().contains("stays in force"));
    assert_eq!(push(kurier.public, GITHUB), 200);

    // As editors do it: a new file, renamed over the old one.
    home.write("routes.yaml.new", &routes(&sink).replace("/callbacks/github", "/callbacks/hub"));
    std::fs::rename(home.path().join("routes.yaml.new"), home.path().join("routes.yaml")).unwrap();
    wait_until("the new path is in force", || push(kurier.public, GITHUB) == 404);
    assert!(kurier.terminate().success());
}

#[test]
fn a_rotated_secret_file_counts_without_a_signal() {
    let sink = Sink::start();
    let home = home(&sink);
    home.write("routes.yaml", &routes(&sink).replace("{ env: GITHUB_SECRET }", "{ file: hub.secret }"));
    home.write("hub.secret", "the first one\n");
    let kurier = home.serve();
    assert_eq!((push(kurier.public, "the first one"), push(kurier.public, "the second one")), (200, 401));
    home.write("hub.secret", "the second one\n");
    wait_until("the second secret counts", || push(kurier.public, "the second one") == 200);
    assert_eq!(push(kurier.public, "the first one"), 401);
}

#[test]
fn a_rotated_secret_signs_what_goes_out_too() {
    let sink = Sink::start();
    let home = home(&sink);
    home.write("routes.yaml", &routes(&sink).replace("{ env: ERP_SIGNING_SECRET }", "{ file: out.secret }"));
    let (first, second) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
    home.write("out.secret", first);
    let kurier = home.serve();
    let signed_by = |nth: usize, secret: &str| {
        let got = sink.wait_for(nth).remove(nth - 1);
        let header = |name| got.header(name).unwrap().to_owned();
        header("webhook-signature") == standard_signature(secret, &header("webhook-id"), &header("webhook-timestamp"), &got.body)
    };
    assert_eq!(push(kurier.public, GITHUB), 200);
    assert!(signed_by(1, first));
    home.write("out.secret", second);
    wait_until("the reload is said", || kurier.log().contains("is reloaded"));
    let another = github_signature(GITHUB, b"[]");
    assert_eq!(request(kurier.public, "POST", "/callbacks/github", &[("x-hub-signature-256", &another)], b"[]").status(), 200);
    assert!(signed_by(2, second) && !signed_by(2, first));
}

#[test]
fn sighup_reloads_and_a_changed_port_is_refused_whole() {
    let sink = Sink::start();
    let home = home(&sink);
    let kurier = home.serve();
    home.write("routes.yaml", &routes(&sink).replacen("127.0.0.1:0", "127.0.0.1:1", 1).replace("/callbacks/github", "/callbacks/hub"));
    kurier.signal("HUP");
    wait_until("the refusal is said", || kurier.log().contains("restart"));
    assert_eq!(push(kurier.public, GITHUB), 200, "nothing of a refused reload is in force");
}

#[test]
fn sigterm_and_sigint_end_with_0_and_a_second_start_goes_on() {
    let sink = Sink::start();
    sink.otherwise("503 Not yet");
    let home = home(&sink);
    let kurier = home.serve();
    assert_eq!(push(kurier.public, GITHUB), 200);
    sink.wait_for(1);
    assert_eq!(kurier.terminate().code(), Some(0));
    let before = sink.received().len();
    sink.otherwise("200 OK");
    let kurier = home.serve();
    let deliveries = sink.wait_for(before + 1);
    assert_eq!(deliveries[before].header("webhook-id"), deliveries[0].header("webhook-id"));
    kurier.signal("INT");
    assert_eq!(kurier.terminate().code(), Some(0));
}

#[test]
fn an_inherited_socket_refuses_nobody_during_a_restart() {
    let sink = Sink::start();
    let home = home(&sink);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // sh moves the socket from descriptor 0 to 3 and becomes kurier, so that LISTEN_PID is kurier's own.
    let script = format!("exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec {} serve", env!("CARGO_BIN_EXE_kurier"));
    let start = || {
        let environment = home.command(&[]);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script]).current_dir(home.path()).env_clear();
        command.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()));
        command.stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut first = start();
    assert_eq!(push(address, GITHUB), 200);
    assert!(std::process::Command::new("kill").args(["-TERM", &first.id().to_string()]).status().unwrap().success());
    assert!(first.wait().unwrap().success());
    // Nobody serves the socket just now: a sender waits in its backlog instead of being refused.
    let waiting = std::thread::spawn(move || push(address, GITHUB));
    let mut second = start();
    assert_eq!(waiting.join().unwrap(), 200);
    assert!(std::process::Command::new("kill").args(["-TERM", &second.id().to_string()]).status().unwrap().success());
    assert!(second.wait().unwrap().success());
}
