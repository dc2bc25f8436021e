//! What is kept of an order, under `inpasy/<route>/<lid>`.

use serde::{Deserialize, Serialize};

use crate::connectors::inpasy::{Lid, State, Track};
use crate::model::{Name, Timestamp};

/// An order as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// When it was placed.
    pub placed_at: Timestamp,
    /// What its callbacks came to.
    pub track: Track,
}

/// The stored form. Fields are only ever added, each with a default (I12).
#[derive(Serialize, Deserialize)]
struct Stored {
    placed_ms: i64,
    state: String,
    #[serde(default)]
    repeats: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    words: Vec<String>,
}

/// The names of all orders begin so.
pub(super) const PREFIX: &str = "inpasy/";

/// The names of a route's orders begin so.
pub(super) fn state_prefix(route: &Name) -> String {
    format!("{PREFIX}{route}/")
}

pub(super) fn state_name(route: &Name, lid: &Lid) -> String {
    format!("{}{lid}", state_prefix(route))
}

impl Kept {
    pub(super) fn open(now: Timestamp) -> Self {
        Self { placed_at: now, track: Track::default() }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let Track { state, repeats, words } = &self.track;
        let stored = Stored { placed_ms: self.placed_at.millis(), state: state.word().to_owned(), repeats: *repeats, words: words.clone() };
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Stored { placed_ms, state, repeats, words } = serde_json::from_slice(bytes).ok()?;
        let states = [State::Open, State::Succeeded, State::Failed, State::Conflict, State::Expired];
        let state = states.into_iter().find(|known| known.word() == state)?;
        Some(Self { placed_at: Timestamp::from_millis(placed_ms), track: Track { state, repeats, words } })
    }
}
