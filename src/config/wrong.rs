//! What is wrong with one value, before it is known where the value stands.

use crate::document::{Problem, Span};

/// A fragment and perhaps a hint; [`Wrong::at`] makes a problem of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    message: String,
    hint: Option<String>,
}

impl Wrong {
    /// A fragment that says what is wrong.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The same with what to do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As a problem at this place.
    pub(super) fn at(self, span: Span, path: impl Into<String>) -> Problem {
        let mut problem = Problem::new(span, path, self.message);
        problem.hint = self.hint;
        problem
    }
}

/// The problems of one load: those that refuse it, and those that are only worth knowing.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// With one of these there is no configuration.
    pub(super) errors: Vec<Problem>,
    /// These are shown and nothing else.
    pub(super) warnings: Vec<Problem>,
}

impl Report {
    /// Adds an error.
    pub(super) fn error(&mut self, wrong: Wrong, span: Span, path: impl Into<String>) {
        self.errors.push(wrong.at(span, path));
    }

    /// Adds a warning.
    pub(super) fn warn(&mut self, wrong: Wrong, span: Span, path: impl Into<String>) {
        self.warnings.push(wrong.at(span, path));
    }
}
