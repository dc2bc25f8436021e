//! What the demo prints: one line for each thing that happens, as it happens.

use std::io::Write;

use tokio::sync::{Mutex, MutexGuard};

use super::samples::Sample;

/// Prints to standard output, one journey's line after the other.
pub(super) struct Printer(Mutex<std::io::Stdout>);

/// The right to print: others wait until it is dropped.
pub(super) struct Turn<'a>(MutexGuard<'a, std::io::Stdout>);

impl Printer {
    pub(super) fn new() -> Self {
        Self(Mutex::new(std::io::stdout()))
    }

    pub(super) async fn turn(&self) -> Turn<'_> {
        Turn(self.0.lock().await)
    }
}

impl Turn<'_> {
    /// A paragraph of its own.
    pub(super) fn headline(mut self, text: &str) {
        self.line(&format!("{text}\n"));
    }

    /// What a sender was answered, and what that means.
    pub(super) fn answered(mut self, sample: &Sample, status: u16) {
        let meaning = match (status, sample.repeat) {
            (200..=299, false) => "received, verified, committed",
            (200..=299, true) => "received, verified, recognised as a repeat: same answer, nothing stored",
            (401, _) => "refused: not authenticated, nothing stored",
            _ => "refused",
        };
        let request = format!("{} {}", sample.method, sample.path);
        self.line(&format!("sender      {:<30} {request:<26} {status}  {meaning}", sample.title));
    }

    /// What the downstream did with an attempt.
    pub(super) fn attempted(mut self, path: &str, headers: &http::HeaderMap, status: u16, meaning: &str) {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
        let attempt = format!("{path}, attempt {}", header("kurier-attempt"));
        self.line(&format!("downstream  {:<30} {attempt:<26} {status}  {meaning}  {}", header("kurier-route"), header("webhook-id")));
    }

    fn line(&mut self, text: &str) {
        let out = &mut self.0;
        // A closed pipe (`kurier demo | head`) must not end the demo with a panic.
        drop(writeln!(out, "{text}").and_then(|()| out.flush()));
    }
}
