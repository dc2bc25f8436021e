//! What an operator says of InPaSy.

use std::time::Duration;

use regex::Regex;
use url::Url;

use super::charset::Charset;
use crate::connectors::keys::{Holds, Invalid, Key, Problems};
use crate::model::Timestamp;

/// How long an order waits for its callback.
pub const EXPIRE_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const EXPIRE_MIN: Duration = Duration::from_secs(60);
const EXPIRE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

const ID_NAME_DEFAULT: &str = "lid";
const ID_PATTERN_DEFAULT: &str = "^[0-9]{12}$";
const ID_PATTERN_BYTES_MAX: usize = 1000;

/// Most words, names or kinds in one list of the settings.
const LIST_MAX: usize = 100;

/// The keys of a route's `inpasy`.
pub const KEYS: &[Key] = &[
    Key::required("start_url", Holds::Url, "Where an order is started. Not published: your contact at InPaSy names it."),
    Key::optional("id_url", Holds::Url, "Where a transaction id is fetched; without it Kurier makes them."),
    Key::optional("id_pointer", Holds::Text, "JSON pointer to the id in the answer of `id_url`; without it the answer is the id."),
    Key::required("vkz", Holds::Text, "Verwaltungskennzeichen: the client, such as `575488`."),
    Key::optional("total_for", Holds::Texts, "`auftragsart`s whose total the application sets: `betraggp` is mandatory for them."),
    Key::optional(
        "id",
        Holds::Object(&[
            Key::default("names", Holds::Texts, "lid", "Names of the callback's value that holds the transaction id."),
            Key::default("pattern", Holds::Text, "^[0-9]{12}$", "What a transaction id looks like."),
        ]),
        "How a callback names its order.",
    ),
    Key::required(
        "result",
        Holds::Object(&[
            Key::optional("param", Holds::Text, "Name of the callback's value that holds the result."),
            Key::optional("success", Holds::Texts, "Its words for success, whatever their case."),
            Key::optional("failure", Holds::Texts, "Its words for failure, whatever their case."),
            Key::optional("success_path", Holds::Text, "Or: the path that is called after success."),
            Key::optional("failure_path", Holds::Text, "And the one after failure."),
            Key::optional("present", Holds::Text, "Or: the name of a value that is there after success only."),
        ]),
        "How a callback says how it went.",
    ),
    Key::default(
        "charset",
        Holds::Word(&["utf-8", "iso-8859-1"]),
        "utf-8",
        "Charset of the start parameters and of callbacks that name none.",
    ),
    Key::default("expire", Holds::Duration { min: 60_000, max: 31_622_400_000 }, "24h", "When an order without a callback has expired."),
];

/// How a callback says how it went.
#[derive(Debug, Clone)]
pub enum ResultBy {
    /// By a word.
    Word {
        /// The value's name.
        param: String,
        /// Words for success, in lower case.
        success: Vec<String>,
        /// Words for failure, in lower case.
        failure: Vec<String>,
    },
    /// By the path that is called.
    Path {
        /// After success.
        success: String,
        /// After failure.
        failure: String,
    },
    /// By whether a value is there.
    Presence {
        /// Its name.
        param: String,
    },
}

/// `inpasy` as written; what is `None` has a default.
#[derive(Debug, Clone, Default)]
pub struct SettingsDraft {
    /// Where to start.
    pub start_url: Option<Url>,
    /// Where to fetch ids.
    pub id_url: Option<Url>,
    /// Where in that answer.
    pub id_pointer: Option<String>,
    /// The client.
    pub vkz: Option<String>,
    /// Kinds of orders with a given total.
    pub total_for: Vec<String>,
    /// Names of the id.
    pub id_names: Option<Vec<String>>,
    /// What it looks like.
    pub id_pattern: Option<String>,
    /// `result.param`.
    pub param: Option<String>,
    /// `result.success`.
    pub success: Vec<String>,
    /// `result.failure`.
    pub failure: Vec<String>,
    /// `result.success_path`.
    pub success_path: Option<String>,
    /// `result.failure_path`.
    pub failure_path: Option<String>,
    /// `result.present`.
    pub present: Option<String>,
    /// The charset's name.
    pub charset: Option<String>,
    /// When an order has expired.
    pub expire: Option<Duration>,
}

/// How orders are started and completed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to start.
    pub start_url: Url,
    /// Where to fetch ids; without it they are made here.
    pub id_url: Option<Url>,
    pub(super) id_pointer: Option<String>,
    pub(super) vkz: String,
    pub(super) total_for: Vec<String>,
    pub(super) id_names: Vec<String>,
    pub(super) id_pattern: Regex,
    /// How a callback says how it went.
    pub result: ResultBy,
    /// The charset.
    pub charset: Charset,
    /// When an order has expired.
    pub expire: Duration,
}

impl Settings {
    /// Checked settings.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(draft: SettingsDraft) -> Result<Self, Vec<Invalid>> {
        let mut problems = Problems::default();
        let result = result(&draft, &mut problems);
        let start_url = problems.need("start_url", draft.start_url);
        let vkz = problems.need("vkz", draft.vkz);
        if vkz.as_deref().is_some_and(|vkz| vkz.trim().is_empty() || vkz.chars().any(char::is_control)) {
            problems.add("vkz", "is empty or holds control characters");
        }
        if draft.id_pointer.as_deref().is_some_and(|pointer| !pointer.starts_with('/')) {
            problems.add("id_pointer", "is not a JSON pointer such as `/id`");
        }
        let id_names = draft.id_names.unwrap_or_else(|| vec![ID_NAME_DEFAULT.to_owned()]);
        if id_names.is_empty() || id_names.iter().any(String::is_empty) || id_names.len() > LIST_MAX {
            problems.add("id.names", format!("must be 1 to {LIST_MAX} names"));
        }
        let pattern = draft.id_pattern.as_deref().unwrap_or(ID_PATTERN_DEFAULT);
        let id_pattern = if pattern.len() > ID_PATTERN_BYTES_MAX {
            problems.add("id.pattern", format!("is longer than {ID_PATTERN_BYTES_MAX} bytes"));
            None
        } else {
            Regex::new(pattern).map_err(|_error| problems.add("id.pattern", "is not a regular expression")).ok()
        };
        if draft.total_for.len() > LIST_MAX {
            problems.add("total_for", format!("has more than {LIST_MAX} entries"));
        }
        let charset = draft.charset.as_deref().map_or(Some(Charset::Utf8), Charset::named);
        if charset.is_none() {
            problems.add("charset", "is neither utf-8 nor iso-8859-1");
        }
        let expire = draft.expire.unwrap_or(EXPIRE_DEFAULT);
        if expire < EXPIRE_MIN || expire > EXPIRE_MAX {
            problems.add("expire", "must be from 1min to 366d");
        }
        let settings = || {
            Some(Self {
                start_url: start_url?,
                id_url: draft.id_url,
                id_pointer: draft.id_pointer,
                vkz: vkz?,
                total_for: draft.total_for,
                id_names,
                id_pattern: id_pattern?,
                result: result?,
                charset: charset?,
                expire,
            })
        };
        let settings = settings();
        problems.finish(settings)
    }

    /// When an order that was started then has expired.
    pub fn expires_at(&self, started: Timestamp) -> Timestamp {
        started.saturating_add(self.expire)
    }
}

fn result(draft: &SettingsDraft, problems: &mut Problems) -> Option<ResultBy> {
    let by_path = draft.success_path.is_some() || draft.failure_path.is_some();
    let by_word = draft.param.is_some() || !draft.success.is_empty() || !draft.failure.is_empty();
    if [by_path, by_word, draft.present.is_some()].iter().filter(|said| **said).count() != 1 {
        problems.add("result", "say one of: `param` with its words, `success_path` with `failure_path`, `present`");
        return None;
    }
    if let Some(param) = &draft.present {
        return Some(ResultBy::Presence { param: param.clone() });
    }
    if by_path {
        let success = problems.need("result.success_path", draft.success_path.clone())?;
        let failure = problems.need("result.failure_path", draft.failure_path.clone())?;
        if success == failure {
            problems.add("result.failure_path", "is the same as `success_path`");
            return None;
        }
        return Some(ResultBy::Path { success, failure });
    }
    let param = problems.need("result.param", draft.param.clone())?;
    let lower = |words: &[String]| words.iter().map(|word| word.trim().to_lowercase()).collect::<Vec<_>>();
    let (success, failure) = (lower(&draft.success), lower(&draft.failure));
    for (key, words) in [("result.success", &success), ("result.failure", &failure)] {
        if words.is_empty() || words.len() > LIST_MAX || words.iter().any(String::is_empty) {
            problems.add(key, format!("must be 1 to {LIST_MAX} words"));
            return None;
        }
    }
    if let Some(word) = success.iter().find(|word| failure.contains(word)) {
        problems.add("result.failure", format!("`{word}` stands under `success` too"));
        return None;
    }
    Some(ResultBy::Word { param, success, failure })
}
