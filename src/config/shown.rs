//! What the admin side asks of a configuration without importing the signature room.

use super::{AdminToken, Route, Scope};
use crate::signature::{self, Binding};

impl Scope {
    /// The word in `admin.tokens[].scopes`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Orders => "orders",
        }
    }
}

impl AdminToken {
    /// Whether this is what was presented; neither content nor length can be learnt from the time it takes.
    pub fn matches(&self, presented: &[u8]) -> bool {
        signature::same(self.secret.expose(), presented)
    }
}

impl Route {
    /// How much of the body its scheme vouches for: `whole`, `fields` or `none`.
    pub fn binding_word(&self) -> &'static str {
        match self.verifier.binding() {
            Binding::Whole => "whole",
            Binding::Fields => "fields",
            Binding::None => "none",
        }
    }

    /// What an operator should know of how its requests are trusted.
    pub fn binding_warning(&self) -> Option<&'static str> {
        if self.pull.is_some() {
            // Nobody sends to it: what it holds was asked for.
            return None;
        }
        match self.verifier.binding() {
            Binding::Whole => None,
            Binding::Fields => Some("the signature covers some fields only: whoever can change the rest of the request is not noticed"),
            Binding::None => Some("the body is not signed: whoever learns the credentials or the address can send any body"),
        }
    }
}
