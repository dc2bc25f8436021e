//! A real small file system under the built binary: it fills up, its names become read-only, it gets room again, and
//! all the while nothing accepted is lost.
//!
//! It is a tmpfs in a mount namespace of its own, for which no rights are needed where the kernel allows user
//! namespaces. Where it doesn't, the test says so on standard error, and with `KURIER_MOUNTS=required` it fails.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{GITHUB, home, routes};
use crate::harness::{Home, Message, Serving, Sink, github_signature, request, wait_until};

/// Bytes of a callback.
const BODY: usize = 1000 * 1024;

/// How `mount` ends where the kernel said no.
const MOUNT_FAILED: i32 = 32;

/// A mount namespace that lives as long as this does.
struct Namespace(Child);

impl Namespace {
    /// With a tmpfs of so many MiB in this folder; or why there can be none.
    fn new(folder: &Path, mebibytes: u32) -> Result<Self, String> {
        std::fs::create_dir(folder).unwrap();
        let script = format!("mount -t tmpfs -o size={mebibytes}m,mode=700 tmpfs '{}' && echo mounted && exec cat", folder.display());
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--propagation", "private", "sh", "-c", &script]);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut holder = spawned.map_err(|error| format!("`unshare` can't be run: {error}"))?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.trim() == "mounted" {
            return Ok(Self(holder));
        }
        let output = holder.wait_with_output().unwrap();
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    /// A script in it.
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        let holder = self.0.id().to_string();
        command.args(["--target", &holder, "--user", "--preserve-credentials", "--mount", "sh", "-c", script]);
        command
    }

    fn sh(&self, script: &str) {
        let ran = self.command(script).output().unwrap();
        assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Senders, and what they were told.
#[derive(Default)]
struct Senders {
    next: u64,
    accepted: BTreeSet<u64>,
    refused: BTreeSet<u64>,
}

impl Senders {
    /// Sends one callback of this size.
    fn send(&mut self, kurier: &Serving, size: usize) -> Message {
        self.next += 1;
        let mut body = self.next.to_string();
        body.extend(std::iter::repeat_n(' ', size));
        let signature = github_signature(GITHUB, body.as_bytes());
        let answer = request(kurier.public, "POST", "/callbacks/github", &[("x-hub-signature-256", &signature)], body.as_bytes());
        if answer.status() == 200 { &mut self.accepted } else { &mut self.refused }.insert(self.next);
        answer
    }

    /// Sends until one is refused, which is said as it should be; what `/readyz` gives for a reason.
    fn fill(&mut self, kurier: &Serving) -> String {
        let refused = loop {
            let answer = self.send(kurier, BODY);
            if answer.status() != 200 {
                break answer;
            }
            assert!(self.next < 5000, "it never fills up");
        };
        assert_eq!(refused.status(), 503, "{refused:?}");
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
        let ready = request(kurier.admin, "GET", "/readyz", &[], b"");
        assert_eq!(ready.status(), 503);
        assert_eq!(request(kurier.admin, "GET", "/livez", &[], b"").status(), 200, "a restart would help nobody");
        ready.text()
    }

    /// Sends until one is accepted again.
    fn accepted_again(&mut self, kurier: &Serving) {
        wait_until("callbacks are accepted again, without a restart", || self.send(kurier, 10).status() == 200);
        wait_until("/readyz says so", || request(kurier.admin, "GET", "/readyz", &[], b"").status() == 200);
    }

    fn assert_delivered(&self, sink: &Sink) {
        let delivered = || -> BTreeSet<u64> { sink.received().iter().filter_map(|delivery| delivery.text().trim().parse().ok()).collect() };
        wait_until("everything accepted is delivered", || self.accepted.is_subset(&delivered()));
        assert_eq!(delivered().intersection(&self.refused).count(), 0, "something refused was delivered");
    }
}

/// The binary in the namespace.
fn kurier(home: &Home, namespace: &Namespace, arguments: &str) -> Command {
    let binary = home.command(&[]);
    let mut command = namespace.command(&format!("cd '{}' && exec '{}' {arguments}", home.path().display(), env!("CARGO_BIN_EXE_kurier")));
    command.env_clear().envs(binary.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn serve(home: &Home, namespace: &Namespace) -> Serving {
    Home::serve_as(kurier(home, namespace, "serve"))
}

/// A file system of so many MiB in this folder; none where the kernel allows none, which is said.
fn mounted(data: &Path, mebibytes: u32, what: &str) -> Option<Namespace> {
    match Namespace::new(data, mebibytes) {
        Ok(namespace) => Some(namespace),
        Err(reason) => {
            assert_ne!(std::env::var("KURIER_MOUNTS").as_deref(), Ok("required"), "no file system can be mounted here: {reason}");
            // Not `eprintln!`: whoever runs the tests must see it although this one passes.
            let line = format!("NOT TESTED: {what}, for none can be mounted here: {reason}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            None
        }
    }
}

#[test]
fn a_small_disk_that_fills_up_or_takes_no_new_names_refuses_loses_nothing_and_heals_without_a_restart() {
    let sink = Sink::start();
    let home = home(&sink);
    let slower = "    retry: { first: 4s, min: 1s, max: 4s, max_age: 1h }\n    breaker: { failures: 4, cool_down: 1s }\n";
    let text =
        routes(&sink).lines().map(|line| if line.contains("retry:") { slower.to_owned() } else { format!("{line}\n") }).collect::<String>();
    home.write("routes.yaml", &text);
    let data = home.path().join("data");
    let Some(namespace) = mounted(&data, 300, "a small disk that fills up") else { return };
    let (mut senders, kurier) = (Senders::default(), serve(&home, &namespace));
    sink.otherwise("503 Not now");
    sink.keep(20);

    // The whole of it can't be made read-only by hand: while a file is open for writing, the kernel says that it is busy.
    let (data, aside) = (data.display(), home.path().join("aside"));
    assert!(namespace.command(&format!("mount -o remount,ro '{data}'")).output().unwrap().status.code() == Some(MOUNT_FAILED));

    // No new names: what is open can still be written, and then there is no next segment. It is read-only before it is
    // in its place: a file that is opened for writing meanwhile would keep it from becoming so.
    std::fs::create_dir(&aside).unwrap();
    let aside = aside.display();
    namespace.sh(&format!("mount --bind '{data}' '{aside}' && mount -o remount,bind,ro '{aside}' && mount --move '{aside}' '{data}'"));
    let reason = senders.fill(&kurier);
    assert!(reason.contains("Read-only file system"), "{reason}");
    // Out of its place at once, and gone once nothing of it is open any more.
    namespace.sh(&format!("umount --lazy '{data}'"));
    senders.accepted_again(&kurier);

    // No room.
    let reason = senders.fill(&kurier);
    assert!(reason.contains("No space left on device"), "{reason}");
    sink.otherwise("200 OK");
    namespace.sh(&format!("mount -o remount,size=420m '{data}'"));
    senders.accepted_again(&kurier);
    senders.assert_delivered(&sink);

    kurier.kill();
    let kurier = serve(&home, &namespace);
    senders.accepted_again(&kurier);
    senders.assert_delivered(&sink);
    assert!(kurier.terminate().success());
}

/// After an error ext4 makes its file system read-only, and after a restart of the machine it stays so: what is stored can
/// be read and copied to another disk.
#[test]
fn a_store_on_a_read_only_file_system_is_checked_and_copied_and_does_not_open() {
    let sink = Sink::start();
    let home = home(&sink);
    let data = home.path().join("data");
    let Some(namespace) = mounted(&data, 300, "a disk that is read-only") else { return };
    let (mut senders, server) = (Senders::default(), serve(&home, &namespace));
    for _ in 0..5 {
        assert_eq!(senders.send(&server, 10).status(), 200);
    }
    senders.assert_delivered(&sink);
    assert!(server.terminate().success());
    namespace.sh(&format!("mount -o remount,ro '{}'", data.display()));
    for (arguments, code, said) in [
        ("store check", 0, ""),
        ("store stats", 0, "events: 5"),
        ("store backup kept", 0, ""),
        ("store stats --path kept", 0, "events: 5"),
        ("serve", 4, "mount it writable again"),
    ] {
        let ran = kurier(&home, &namespace, arguments).stdin(Stdio::null()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert_eq!(ran.status.code(), Some(code), "{arguments}: {out}{err}");
        assert!(out.contains(said) || err.contains(said), "{arguments}: {out}{err}");
    }
}
