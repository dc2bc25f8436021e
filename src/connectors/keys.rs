//! The words of the connectors' settings: what each key may hold, and what is wrong with one.

/// One key of a connector's settings.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The key.
    pub name: &'static str,
    /// What it holds.
    pub holds: Holds,
    /// Whether it must be there.
    pub required: bool,
    /// What counts without it, as it would be written; empty: nothing.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// What a key may hold.
#[derive(Debug, Clone, Copy)]
pub enum Holds {
    /// A text.
    Text,
    /// A text, or a secret.
    TextOrSecret,
    /// A secret, by env or file.
    Secret,
    /// An absolute http or https URL.
    Url,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Integer {
        /// At least.
        min: u64,
        /// At most.
        max: u64,
    },
    /// A duration; bounds in milliseconds.
    Duration {
        /// At least.
        min: u64,
        /// At most.
        max: u64,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// A date, `2026-11-24`.
    Date,
    /// A list of texts.
    Texts,
    /// A list of address ranges.
    Networks,
    /// A mapping.
    Object(&'static [Key]),
    /// The `auth` of any destination.
    Auth,
    /// The `retry` of any destination.
    Retry,
}

impl Key {
    const fn new(name: &'static str, holds: Holds, doc: &'static str) -> Self {
        Self { name, holds, required: false, default: "", doc }
    }

    /// An optional key.
    pub(super) const fn optional(name: &'static str, holds: Holds, doc: &'static str) -> Self {
        Self::new(name, holds, doc)
    }

    /// A key that must be there.
    pub(super) const fn required(name: &'static str, holds: Holds, doc: &'static str) -> Self {
        Self { required: true, ..Self::new(name, holds, doc) }
    }

    /// A key with a default.
    pub(super) const fn default(name: &'static str, holds: Holds, default: &'static str, doc: &'static str) -> Self {
        Self { default, ..Self::new(name, holds, doc) }
    }
}

/// What is wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Invalid {
    /// Its key; nested ones with dots, such as `batch.max`.
    pub key: &'static str,
    /// What is wrong, as a fragment that repeats no secret.
    pub message: String,
}

impl Invalid {
    pub(super) fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self { key, message: message.into() }
    }
}

/// The problems of one constructor, collected so that all are reported at once.
#[derive(Default)]
pub(super) struct Problems(Vec<Invalid>);

impl Problems {
    pub(super) fn add(&mut self, key: &'static str, message: impl Into<String>) {
        self.0.push(Invalid::new(key, message));
    }

    /// The value, unless it is missing.
    pub(super) fn need<T>(&mut self, key: &'static str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.add(key, "is missing");
        }
        value
    }

    /// The settings when nothing is wrong. Settings that could not be built have at least one problem.
    pub(super) fn finish<T>(self, settings: Option<T>) -> Result<T, Vec<Invalid>> {
        match settings {
            Some(settings) if self.0.is_empty() => Ok(settings),
            Some(_) | None => Err(self.0),
        }
    }
}
