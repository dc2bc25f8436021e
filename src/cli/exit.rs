//! How a command ends: a code for scripts, a message and a next step for people.

use std::fmt;
use std::process::ExitCode;

/// The exit codes; scripts rely on them.
///
/// | code | when |
/// |---|---|
/// | 0 | done |
/// | 1 | a check, vector or test failed, or what was asked of a server could not be done |
/// | 2 | usage: the command line can't be understood |
/// | 3 | the configuration is wrong or incomplete |
/// | 4 | the store can't be used |
/// | 5 | an address to listen on is in use |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A check, vector or test failed, or what was asked of a server could not be done.
    Failed = 1,
    /// The command line can't be understood.
    Usage = 2,
    /// The configuration is wrong or incomplete.
    Configuration = 3,
    /// The store can't be used.
    Store = 4,
    /// An address to listen on is in use.
    AddressInUse = 5,
}

/// The same for `--help`.
pub(super) const HELP: &str = "Exit codes: 0 done, 1 a check, vector or test failed, 2 usage, 3 configuration, 4 store unusable, \
5 address in use";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what was asked, and what to do next.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
    unreachable: bool,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, unreachable: false }
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    #[must_use]
    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(super) fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The same, marked as there being no server to ask.
    #[must_use]
    pub(super) fn unreachable(self) -> Self {
        Self { unreachable: true, ..self }
    }

    /// Whether there was no server to ask: the next question would end the same way.
    pub(super) fn is_unreachable(&self) -> bool {
        self.unreachable
    }

    /// The same, saying what it is about.
    #[must_use]
    pub(super) fn about(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    pub(super) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => writeln!(f, "hint: {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_that_scripts_rely_on() {
        let codes = [Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration, Exit::Store, Exit::AddressInUse].map(|exit| exit as u8);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_failure_says_what_to_do_next() {
        let failure = Failure::failed("nothing answers").with_hint("start it");
        assert_eq!(failure.to_string(), "error: nothing answers\nhint: start it\n");
    }
}
