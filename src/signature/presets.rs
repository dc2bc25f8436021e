//! The presets, as data: `presets.yaml` in the scheme language, read once.

use std::sync::LazyLock;

use crate::document::{self, Node};

/// The file, embedded.
const TEXT: &str = include_str!("presets.yaml");

/// The parsed file; a test proves that it can be parsed and that every preset compiles.
static PRESETS: LazyLock<Option<Node>> = LazyLock::new(|| document::parse(TEXT).ok()?.get("presets").cloned());

/// The preset of this name.
pub(super) fn get(name: &str) -> Option<&'static Node> {
    PRESETS.as_ref()?.get(name)
}

/// The settings of `config` that a preset asks for.
pub fn preset_settings(name: &str) -> Vec<String> {
    get(name).map(super::compile::settings).unwrap_or_default()
}

/// The names of all presets, for hints and lists.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    PRESETS.as_ref().and_then(Node::as_mapping).unwrap_or_default().iter().map(|entry| entry.key.as_str())
}
