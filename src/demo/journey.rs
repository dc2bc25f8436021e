//! What the demo prints: one line for each thing that happens, as it happens.

use std::io::Write;

use parking_lot::Mutex;

use super::samples::Sample;

/// Prints to standard output, a line at a time.
pub(super) struct Printer(Mutex<std::io::Stdout>);

impl Printer {
    pub(super) fn new() -> Self {
        Self(Mutex::new(std::io::stdout()))
    }

    /// A paragraph of its own.
    pub(super) fn headline(&self, text: &str) {
        self.line(&format!("{text}\n"));
    }

    /// What a sender was answered, and what that means.
    pub(super) fn answered(&self, sample: &Sample, status: u16) {
        let meaning = match (status, sample.repeat) {
            (200..=299, false) => "received, verified, committed",
            (200..=299, true) => "received, verified, recognised as a repeat: same answer, nothing stored",
            (401, _) => "refused: not authenticated, nothing stored",
            _ => "refused",
        };
        self.line(&format!("sender      {:<34} {} {:<28} {status}  {meaning}", sample.title, sample.method, sample.path));
    }

    /// What the downstream did with an attempt.
    pub(super) fn attempted(&self, path: &str, headers: &http::HeaderMap, status: u16, meaning: &str) {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
        self.line(&format!(
            "downstream  {:<34} {} attempt {} of {}  {status}  {meaning}",
            header("kurier-route"),
            path,
            header("kurier-attempt"),
            header("webhook-id"),
        ));
    }

    fn line(&self, text: &str) {
        let mut out = self.0.lock();
        // A closed pipe (`kurier demo | head`) must not end the demo with a panic.
        drop(writeln!(out, "{text}").and_then(|()| out.flush()));
    }
}
