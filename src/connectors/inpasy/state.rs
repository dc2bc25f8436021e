//! What a callback means for its order. Pure.
//!
//! An exact repeat is counted and stores nothing; everything else that comes is an event: a result, a contradiction, a
//! word nobody knows, an id nobody issued.

use serde_json::{Value, json};

use super::callback::{Callback, Completion, Finding};

/// Most unknown words that an order remembers; further ones are events each time they come.
const WORDS_MAX: usize = 16;

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No result yet.
    Open,
    /// Success was called back.
    Succeeded,
    /// Failure was called back.
    Failed,
    /// Both were.
    Conflict,
    /// No callback came in time. One that comes later still counts.
    Expired,
}

impl State {
    /// The word in the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Conflict => "conflict",
            Self::Expired => "expired",
        }
    }
}

/// The kinds of events that come of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Success.
    Succeeded,
    /// Failure.
    Failed,
    /// The opposite of what was called back before.
    Conflict,
    /// No callback came in time.
    Expired,
    /// An id nobody issued, or a word nobody knows.
    Unknown,
}

impl Kind {
    /// The event's type.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Succeeded => "inpasy.succeeded",
            Self::Failed => "inpasy.failed",
            Self::Conflict => "inpasy.conflict",
            Self::Expired => "inpasy.expired",
            Self::Unknown => "inpasy.unknown",
        }
    }
}

/// What is remembered of an order's callbacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Where it stands.
    pub state: State,
    /// How many exact repeats came.
    pub repeats: u32,
    /// Unknown words that came, each once.
    pub words: Vec<String>,
}

impl Default for Track {
    fn default() -> Self {
        Self { state: State::Open, repeats: 0, words: Vec::new() }
    }
}

/// What a callback comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// An event of this kind, committed together with the order as it then stands.
    Event {
        /// Which.
        kind: Kind,
        /// The order; none for an id nobody issued.
        track: Option<Track>,
        /// Whether the order had expired before.
        late: bool,
    },
    /// The same as before: only the count grows, and the answer is the same.
    Repeat(Track),
}

impl Track {
    /// What this finding means for the order, or for an id that no order has.
    pub fn decide(order: Option<&Self>, finding: &Finding) -> Decision {
        let Some(order) = order else { return Decision::Event { kind: Kind::Unknown, track: None, late: false } };
        let late = order.state == State::Expired;
        let moved = |kind, state| Decision::Event { kind, track: Some(Self { state, ..order.clone() }), late };
        match (order.state, finding) {
            (State::Open | State::Expired, Finding::Success) => moved(Kind::Succeeded, State::Succeeded),
            (State::Open | State::Expired, Finding::Failure) => moved(Kind::Failed, State::Failed),
            (State::Succeeded, Finding::Failure) | (State::Failed, Finding::Success) => moved(Kind::Conflict, State::Conflict),
            (State::Succeeded, Finding::Success) | (State::Failed, Finding::Failure) => Decision::Repeat(order.repeated()),
            // Both results are known already.
            (State::Conflict, Finding::Success | Finding::Failure) => Decision::Repeat(order.repeated()),
            (_, Finding::Unknown(word)) if order.words.contains(word) => Decision::Repeat(order.repeated()),
            (_, Finding::Unknown(word)) => {
                let mut track = order.clone();
                if track.words.len() < WORDS_MAX {
                    track.words.push(word.clone());
                }
                Decision::Event { kind: Kind::Unknown, track: Some(track), late }
            }
        }
    }

    /// The order once its time is over; `None` when it has a result.
    pub fn expired(&self) -> Option<Self> {
        (self.state == State::Open).then(|| Self { state: State::Expired, ..self.clone() })
    }

    fn repeated(&self) -> Self {
        Self { repeats: self.repeats.saturating_add(1), ..self.clone() }
    }
}

/// The body of an event that came of a callback.
pub fn event_body(kind: Kind, completion: &Completion, late: bool, state: Option<State>, callback: &Callback) -> Value {
    let values: serde_json::Map<String, Value> = callback.values().map(|(name, value)| (name.to_owned(), value.into())).collect();
    json!({
        "type": kind.event_type(),
        "lid": completion.lid.as_str(),
        "result": completion.finding.word(),
        "state": state.map(State::word),
        "late": late,
        "callback": values,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Finding {
        Finding::Unknown(text.to_owned())
    }

    fn play(findings: &[Finding]) -> (Track, Vec<&'static str>) {
        let mut track = Track::default();
        let mut said = Vec::new();
        for finding in findings {
            match Track::decide(Some(&track), finding) {
                Decision::Event { kind, track: Some(next), .. } => {
                    said.push(kind.event_type());
                    track = next;
                }
                Decision::Event { track: None, .. } => panic!("the order is known"),
                Decision::Repeat(next) => {
                    said.push("repeat");
                    track = next;
                }
            }
        }
        (track, said)
    }

    #[test]
    fn a_result_settles_repeats_are_counted_and_a_contradiction_is_told_once() {
        let (track, said) = play(&[Finding::Success, Finding::Success, Finding::Failure, Finding::Success, Finding::Failure]);
        assert_eq!(said, ["inpasy.succeeded", "repeat", "inpasy.conflict", "repeat", "repeat"]);
        assert_eq!((track.state, track.repeats), (State::Conflict, 3));
        let (track, said) = play(&[Finding::Failure, Finding::Failure, Finding::Success]);
        assert_eq!((track.state, said), (State::Conflict, vec!["inpasy.failed", "repeat", "inpasy.conflict"]));
    }

    #[test]
    fn an_unknown_word_is_told_once_and_changes_nothing() {
        let (track, said) = play(&[word("x"), word("x"), word(""), Finding::Success, word("x"), word("y")]);
        assert_eq!(said, ["inpasy.unknown", "repeat", "inpasy.unknown", "inpasy.succeeded", "repeat", "inpasy.unknown"]);
        assert_eq!(track.state, State::Succeeded);
        let many: Vec<_> = (0..WORDS_MAX + 5).map(|n| word(&n.to_string())).collect();
        assert_eq!(play(&many).0.words.len(), WORDS_MAX);
    }

    #[test]
    fn an_id_that_nobody_issued_is_an_event_of_its_own() {
        for finding in [Finding::Success, Finding::Failure, word("x")] {
            assert_eq!(Track::decide(None, &finding), Decision::Event { kind: Kind::Unknown, track: None, late: false });
        }
    }

    #[test]
    fn only_an_open_order_expires_and_a_late_result_still_counts() {
        let expired = Track::default().expired().unwrap();
        assert_eq!((expired.state, expired.expired()), (State::Expired, None));
        let Decision::Event { kind, track, late } = Track::decide(Some(&expired), &Finding::Success) else { panic!("an event") };
        assert_eq!((kind, track.unwrap().state, late), (Kind::Succeeded, State::Succeeded, true));
        assert_eq!(play(&[Finding::Success]).0.expired(), None);
    }
}
