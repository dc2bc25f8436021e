//! `kurier demo` as a person or a container ends it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::harness::Home;

#[test]
fn whatever_ends_the_demo_its_folder_with_its_secrets_goes() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let home = Home::new("");
        let mut command = home.command(&["demo"]);
        let mut child = command.env("TMPDIR", home.path()).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("callbacks")), "it has begun");
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        // Its output is read to its end, so that it never waits for a reader.
        lines.for_each(drop);
        assert!(child.wait().unwrap().success(), "{signal}");
        let left: Vec<_> = fs::read_dir(home.path()).unwrap().map_while(Result::ok).map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["routes.yaml"], "{signal}");
    }
}
