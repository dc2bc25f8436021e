//! The completion callback: which order it names and how it says that went. It comes by GET or POST, from the query, a
//! form, JSON or the path, in UTF-8 or ISO-8859-1.

use std::collections::BTreeMap;

use percent_encoding::percent_decode;
use serde_json::Value;

use super::charset::Charset;
use super::order::Lid;
use super::settings::{ResultBy, Settings};
use crate::connectors::json;

/// Most fields that are read of one callback.
pub const FIELDS_MAX: usize = 256;

/// Longest word for a result that is kept.
const WORD_CHARS_MAX: usize = 64;

/// Where a callback's values may stand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sources<'a> {
    /// The path that was called.
    pub path: &'a str,
    /// Values of the path's named segments.
    pub segments: &'a [(&'a str, &'a str)],
    /// The raw query.
    pub query: &'a [u8],
    /// The body's `content-type`.
    pub content_type: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Paid, or whatever success means for the order.
    Success,
    /// Failed or called off.
    Failure,
    /// A word that the settings do not know; empty where there was none.
    Unknown(String),
}

impl Finding {
    /// As a word: what was said, or `success` and `failure`.
    pub fn word(&self) -> &str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Unknown(word) => word,
        }
    }
}

/// Which order, and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The order's id.
    pub lid: Lid,
    /// How it went.
    pub finding: Finding,
}

impl Completion {
    /// What a repeat of it has in common with it.
    pub fn key(&self) -> String {
        format!("{}:{}", self.lid, self.finding.word())
    }
}

/// Why a callback can't be matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// Too many fields.
    #[error("the callback has more than {FIELDS_MAX} fields")]
    TooMany,
    /// No id.
    #[error("the callback names no transaction id under the names of `inpasy.id`")]
    NoId,
    /// Two ids or two results.
    #[error("the callback names different values under one name")]
    Ambiguous,
    /// An id of another form.
    #[error("the callback's transaction id does not have the form of `inpasy.id.pattern`")]
    IdForm,
}

/// The values of a callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    path: String,
    fields: BTreeMap<String, Vec<String>>,
}

impl Callback {
    /// Reads the values.
    ///
    /// # Errors
    /// When there are too many.
    pub fn read(sources: &Sources<'_>, settings: &Settings) -> Result<Self, CallbackError> {
        let mut pairs: Vec<(String, String)> =
            sources.segments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        form(sources.query, settings.charset, &mut pairs)?;
        let media = sources.content_type.unwrap_or_default();
        let (essence, parameters) = media.split_once(';').unwrap_or((media, ""));
        if is_json(essence) {
            if let Ok(Value::Object(fields)) = serde_json::from_slice(sources.body) {
                pairs.extend(fields.iter().filter_map(|(name, value)| Some((name.clone(), scalar(value)?))));
            }
        } else if essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let named = parameters.split(';').find_map(|parameter| {
                let (name, value) = parameter.split_once('=')?;
                name.trim().eq_ignore_ascii_case("charset").then(|| Charset::named(value))?
            });
            form(sources.body, named.unwrap_or(settings.charset), &mut pairs)?;
        }
        if pairs.len() > FIELDS_MAX {
            return Err(CallbackError::TooMany);
        }
        let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in pairs {
            let values = fields.entry(name).or_default();
            if !values.contains(&value) {
                values.push(value);
            }
        }
        Ok(Self { path: sources.path.to_owned(), fields })
    }

    /// Which order it names and how that went.
    ///
    /// # Errors
    /// Why it can't be matched; such a callback is an event of its own, and flagged.
    pub fn completion(&self, settings: &Settings) -> Result<Completion, CallbackError> {
        let mut ids = settings.id_names.iter().filter_map(|name| self.fields.get(name)).flatten();
        let id = ids.next().ok_or(CallbackError::NoId)?;
        if ids.any(|other| other != id) {
            return Err(CallbackError::Ambiguous);
        }
        let id = id.trim();
        let lid = Lid::parse(id).filter(|_| settings.id_pattern.is_match(id)).ok_or(CallbackError::IdForm)?;
        let finding = match &settings.result {
            ResultBy::Path { success, .. } if self.path == *success => Finding::Success,
            ResultBy::Path { failure, .. } if self.path == *failure => Finding::Failure,
            ResultBy::Path { .. } => Finding::Unknown(String::new()),
            ResultBy::Presence { param } if self.fields.contains_key(param) => Finding::Success,
            ResultBy::Presence { .. } => Finding::Failure,
            ResultBy::Word { param, success, failure } => {
                let said = match self.fields.get(param).map(Vec::as_slice) {
                    None | Some([]) => "",
                    Some([one]) => one.trim(),
                    Some(_) => return Err(CallbackError::Ambiguous),
                };
                let word = said.to_lowercase();
                if success.contains(&word) {
                    Finding::Success
                } else if failure.contains(&word) {
                    Finding::Failure
                } else {
                    Finding::Unknown(said.chars().take(WORD_CHARS_MAX).collect())
                }
            }
        };
        Ok(Completion { lid, finding })
    }

    /// Every value, the first of a name that has several.
    pub fn values(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().filter_map(|(name, values)| Some((name.as_str(), values.first()?.as_str())))
    }
}

fn is_json(essence: &str) -> bool {
    let essence = essence.trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => json::scalar(value),
    }
}

fn form(bytes: &[u8], charset: Charset, pairs: &mut Vec<(String, String)>) -> Result<(), CallbackError> {
    for part in bytes.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
        if pairs.len() >= FIELDS_MAX {
            return Err(CallbackError::TooMany);
        }
        let at = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
        let decode = |text: &[u8]| {
            let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
            charset.decode(&percent_decode(&spaced).collect::<Vec<u8>>())
        };
        pairs.push((decode(&part[..at]), decode(part.get(at + 1..).unwrap_or_default())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::SettingsDraft;
    use super::*;

    fn draft() -> SettingsDraft {
        SettingsDraft {
            start_url: Some("https://inpasy.example/start".parse().unwrap()),
            vkz: Some("575488".to_owned()),
            ..SettingsDraft::default()
        }
    }

    fn by_word() -> Settings {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Settings::new(SettingsDraft {
            param: Some("status".to_owned()),
            success: words(&["OK"]),
            failure: words(&["fehler", "Abbruch"]),
            ..draft()
        })
        .unwrap()
    }

    fn completion(sources: &Sources<'_>, settings: &Settings) -> Result<(String, Finding), CallbackError> {
        let completion = Callback::read(sources, settings)?.completion(settings)?;
        Ok((completion.lid.to_string(), completion.finding))
    }

    const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

    #[test]
    fn id_and_result_are_found_wherever_they_stand() {
        let settings = by_word();
        let expected = Ok(("123456789012".to_owned(), Finding::Success));
        let none = Sources::default();
        for sources in [
            Sources { query: b"lid=123456789012&status=ok", ..none },
            Sources { query: b"lid=123456789012", content_type: FORM, body: b"status=Ok", ..none },
            Sources { segments: &[("lid", "123456789012")], content_type: FORM, body: b"status=+ok+", ..none },
            Sources { content_type: Some("application/json; charset=utf-8"), body: br#"{"lid":123456789012,"status":"OK"}"#, ..none },
            Sources { content_type: FORM, body: b"lid=123456789012&lid=123456789012&status=ok", ..none },
        ] {
            assert_eq!(completion(&sources, &settings), expected, "{sources:?}");
        }
        let said = |query: &[u8]| completion(&Sources { query, ..none }, &settings).map(|(_, finding)| finding);
        assert_eq!(said(b"lid=123456789012&status=ABBRUCH"), Ok(Finding::Failure));
        assert_eq!(said(b"lid=123456789012&status=vielleicht"), Ok(Finding::Unknown("vielleicht".to_owned())));
        assert_eq!(said(b"lid=123456789012"), Ok(Finding::Unknown(String::new())));
        assert_eq!(said(b"status=ok"), Err(CallbackError::NoId));
        assert_eq!(said(b"lid=12345&status=ok"), Err(CallbackError::IdForm));
        assert_eq!(said(b"lid=123456789012&lid=999999999999&status=ok"), Err(CallbackError::Ambiguous));
        assert_eq!(said(b"lid=123456789012&status=ok&status=fehler"), Err(CallbackError::Ambiguous));
        assert_eq!(said("a=1&".repeat(FIELDS_MAX + 1).as_bytes()), Err(CallbackError::TooMany));
    }

    #[test]
    fn umlauts_are_read_in_the_charset_that_was_named_and_in_the_settings_otherwise() {
        let value = |charset: &str, content_type: &str, body: &[u8]| {
            let settings =
                Settings::new(SettingsDraft { charset: Some(charset.to_owned()), present: Some("x".to_owned()), ..draft() }).unwrap();
            let callback = Callback::read(&Sources { content_type: Some(content_type), body, ..Sources::default() }, &settings).unwrap();
            callback.values().map(|(_, value)| value.to_owned()).next().unwrap()
        };
        let form = "application/x-www-form-urlencoded";
        assert_eq!(value("utf-8", form, b"ort=K%C3%B6ln"), "Köln");
        assert_eq!(value("iso-8859-1", form, b"ort=K%F6ln"), "Köln");
        assert_eq!(value("utf-8", "application/x-www-form-urlencoded; charset=\"ISO-8859-1\"", b"ort=K\xf6ln"), "Köln");
        assert_eq!(value("iso-8859-1", "application/x-www-form-urlencoded;Charset=UTF-8", b"ort=K%C3%B6ln"), "Köln");
        // Somebody set the wrong charset.
        assert_eq!(value("utf-8", form, b"ort=K%F6ln"), "Köln");
    }

    #[test]
    fn a_result_is_told_by_path_or_by_presence_too() {
        let by_path =
            Settings::new(SettingsDraft { success_path: Some("/cb/ok".into()), failure_path: Some("/cb/nok".into()), ..draft() }).unwrap();
        let query = b"lid=123456789012";
        for (path, finding) in [("/cb/ok", Finding::Success), ("/cb/nok", Finding::Failure), ("/cb", Finding::Unknown(String::new()))] {
            assert_eq!(completion(&Sources { path, query, ..Sources::default() }, &by_path).unwrap().1, finding);
        }
        let by_presence = Settings::new(SettingsDraft { present: Some("paid".into()), ..draft() }).unwrap();
        for (query, finding) in [(&b"lid=123456789012&paid"[..], Finding::Success), (b"lid=123456789012", Finding::Failure)] {
            assert_eq!(completion(&Sources { query, ..Sources::default() }, &by_presence).unwrap().1, finding);
        }
    }

    #[test]
    fn settings_say_one_way_of_telling_a_result() {
        let keys = |draft| Settings::new(draft).unwrap_err().iter().map(|problem| problem.key).collect::<Vec<_>>();
        assert_eq!(keys(draft()), ["result"]);
        assert_eq!(keys(SettingsDraft { param: Some("s".into()), present: Some("x".into()), ..draft() }), ["result"]);
        assert_eq!(keys(SettingsDraft { param: Some("s".into()), success: vec!["ok".into()], ..draft() }), ["result.failure"]);
        let both = SettingsDraft { param: Some("s".into()), success: vec!["ok".into()], failure: vec!["OK".into()], ..draft() };
        assert_eq!(keys(both), ["result.failure"]);
        assert_eq!(
            keys(SettingsDraft { success_path: Some("/a".into()), failure_path: Some("/a".into()), ..draft() }),
            ["result.failure_path"]
        );
        let bad = SettingsDraft {
            vkz: None,
            id_pattern: Some("(".into()),
            id_names: Some(vec![]),
            id_pointer: Some("id".into()),
            charset: Some("utf-16".into()),
            expire: Some(std::time::Duration::ZERO),
            present: Some("x".into()),
            ..SettingsDraft::default()
        };
        assert_eq!(keys(bad), ["start_url", "vkz", "id_pointer", "id.names", "id.pattern", "charset", "expire"]);
    }
}
