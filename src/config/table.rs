//! The vocabulary of the tables in `fields`: what a field may hold. One table drives the check for unknown
//! keys, the check of every value and the JSON Schema, so the three can't disagree.

use std::sync::LazyLock;

/// The fields of one mapping.
pub(super) struct Table {
    /// Its name in the schema.
    pub(super) name: &'static str,
    /// What it is.
    pub(super) doc: &'static str,
    /// Its fields, in the order in which people write them.
    pub(super) fields: &'static [Field],
    /// Whether exactly one of them stands there.
    pub(super) one: bool,
}

/// One key.
pub(super) struct Field {
    /// The key.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) shape: Shape,
    /// Whether it must be there.
    pub(super) required: bool,
    /// What counts when it isn't there, as it would be written; empty: nothing.
    pub(super) default: &'static str,
    /// What it does.
    pub(super) doc: &'static str,
}

impl Field {
    /// An optional field.
    pub(super) const fn new(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, shape, required: false, default: "", doc }
    }

    /// The same, required.
    pub(super) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The same with a default.
    pub(super) const fn default(mut self, text: &'static str) -> Self {
        self.default = text;
        self
    }
}

/// What the keys of a map of anything are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// Names of routes or destinations.
    Names,
    /// Names of headers.
    Headers,
}

/// What a value may be.
pub(super) enum Shape {
    /// Any text that is not empty.
    Text,
    /// Any text, the empty one too.
    Body,
    /// A template of the scheme language.
    Template,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number.
    Integer {
        /// At least.
        min: u64,
        /// At most.
        max: u64,
    },
    /// A number with or without a decimal point.
    Factor {
        /// At least.
        min: f64,
        /// At most.
        max: f64,
    },
    /// A duration; bounds in milliseconds.
    Duration {
        /// At least.
        min: u64,
        /// At most.
        max: u64,
    },
    /// A size; bounds in bytes.
    Size {
        /// At least.
        min: u64,
        /// At most.
        max: u64,
    },
    /// A rate.
    Rate,
    /// Address and port to listen on.
    Socket,
    /// An address range in CIDR form, or one address.
    Net,
    /// An absolute http or https URL.
    Url,
    /// A route's path pattern.
    Path,
    /// A media type.
    MediaType,
    /// A header's value.
    HeaderValue,
    /// The path of a file.
    File,
    /// The path of a folder.
    Folder,
    /// A secret: `{ env }` or `{ file }`.
    Secret,
    /// A secret, or a text that is none.
    TextOrSecret,
    /// The name of a destination.
    Destination,
    /// A scheme; the signature room knows its keys.
    Verify,
    /// A list.
    List {
        /// Of these.
        of: &'static Shape,
        /// At least so many.
        min: usize,
    },
    /// A mapping with free keys.
    Map {
        /// To these.
        of: &'static Shape,
        /// What the keys are.
        keys: Keys,
    },
    /// `true` or `false`.
    Flag,
    /// A day: `2026-11-24`.
    Date,
    /// A mapping with fixed keys.
    Object(&'static Table),
    /// The same, with the keys of a connector's settings.
    System(&'static LazyLock<Table>),
    /// One value, or the mapping it is short for.
    Short {
        /// The short form.
        short: &'static Shape,
        /// The long form.
        long: &'static Table,
    },
    /// A key of the contract that this version refuses, so that it is never silently ignored.
    Later(&'static str),
}
