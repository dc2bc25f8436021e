//! Reading values out of a tree that `resolve` has checked: what is there is readable, what is not there has
//! a default or has been reported.

use std::time::Duration;

use super::resolve::join;
use super::{scalar, units};
use crate::document::{Entry, Node, Span, Value};
use crate::model::Rate;

/// A mapping of the checked tree, or its absence, with its path.
#[derive(Clone)]
pub(super) struct Section<'n> {
    node: Option<&'n Node>,
    path: String,
}

impl<'n> Section<'n> {
    /// This node.
    pub(super) fn new(node: &'n Node, path: impl Into<String>) -> Self {
        Self { node: Some(node), path: path.into() }
    }

    /// The mapping under this key.
    pub(super) fn section(&self, key: &str) -> Self {
        Self { node: self.get(key), path: self.path(key) }
    }

    /// The value under this key.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.node?.get(key).filter(|node| !matches!(node.value, Value::Null))
    }

    /// The entries; none when it isn't there.
    pub(super) fn entries(&self) -> &'n [Entry] {
        self.node.and_then(Node::as_mapping).unwrap_or_default()
    }

    /// The items of the list under this key, less those that were wrong, with their paths.
    pub(super) fn items(&self, key: &str) -> Vec<(&'n Node, String)> {
        let items = self.get(key).and_then(Node::as_sequence).unwrap_or_default();
        let path = self.path(key);
        let numbered = items.iter().enumerate().map(|(index, item)| (item, format!("{path}[{index}]")));
        numbered.filter(|(item, _)| !matches!(item.value, Value::Null)).collect()
    }

    /// Whether it is there.
    pub(super) fn exists(&self) -> bool {
        self.node.is_some()
    }

    /// Where the mapping itself stands, and its path.
    pub(super) fn here(&self) -> (Span, &str) {
        (self.node.map(|node| node.span).unwrap_or_default(), &self.path)
    }

    /// The path of a key.
    pub(super) fn path(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Where the value under this key stands, else the mapping itself.
    pub(super) fn span(&self, key: &str) -> Span {
        self.get(key).or(self.node).map(|node| node.span).unwrap_or_default()
    }

    /// The text under this key.
    pub(super) fn text(&self, key: &str) -> Option<&'n str> {
        self.get(key)?.as_str()
    }

    /// The duration under this key.
    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        units::duration(self.text(key)?)
    }

    /// The size under this key.
    pub(super) fn size(&self, key: &str) -> Option<u64> {
        units::size(self.text(key)?).ok()
    }

    /// The whole number under this key.
    pub(super) fn integer(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// The flag under this key.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        scalar::flag(self.get(key)?).ok()
    }

    /// The texts of the list under this key.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        self.items(key).iter().filter_map(|(node, _)| node.as_str().map(str::to_owned)).collect()
    }

    /// The rate under this key.
    pub(super) fn rate(&self, key: &str) -> Option<Rate> {
        units::rate(self.text(key)?).ok()
    }
}

/// A bound that fits this machine's memory; the largest there is where it doesn't.
pub(super) fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
