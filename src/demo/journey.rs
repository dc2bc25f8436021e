//! What the demo prints: one line for each thing that happens, as it happens.

use std::io::Write;

use tokio::sync::{Mutex, MutexGuard};

use super::samples::Sample;
use super::simulators::Call;

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
        self.line(&format!("{:<13}{:<32} {request:<40} {status}  {meaning}", "sender", sample.title));
    }

    /// What an application was answered that placed an order.
    pub(super) fn placed(mut self, path: &str, status: u16, location: &str) {
        let request = format!("POST {path}");
        self.line(&format!(
            "{:<13}{:<32} {request:<40} {status}  stored, started; the customer goes on to {location}",
            "application", "an InPaSy order"
        ));
    }

    /// What a system was asked, and what that means.
    pub(super) fn asked(mut self, system: &str, call: &Call, status: u16, meaning: &str) {
        let request = format!("{} {}", call.method, call.path);
        self.line(&format!("{:<13}{system:<32} {request:<40} {status}  {meaning}", "system"));
    }

    /// What the downstream did with an attempt.
    pub(super) fn attempted(mut self, path: &str, headers: &http::HeaderMap, status: u16, meaning: &str) {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
        let attempt = format!("{path}, attempt {}", header("kurier-attempt"));
        self.line(&format!(
            "{:<13}{:<32} {attempt:<40} {status}  {meaning}  {}",
            "downstream",
            header("kurier-route"),
            header("webhook-id")
        ));
    }

    fn line(&mut self, text: &str) {
        let out = &mut self.0;
        // A closed pipe (`kurier demo | head`) must not end the demo with a panic.
        drop(writeln!(out, "{text}").and_then(|()| out.flush()));
    }
}
