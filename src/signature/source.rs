//! Where a value comes from: `header:name`, `query:k`, `form:k`, `json:/pointer`, `xml:/path`, `sig:tag`,
//! `jwt:name`, `claim:name`, `config:k`.

use http::HeaderName;

use super::json::Pointers;
use crate::model::Secret;

/// A compiled source. What `config:` names is known when it is compiled, so it is the value itself.
#[derive(Clone)]
pub(super) enum Source {
    Header(HeaderName),
    /// Every header whose name starts so: `header:x-sig-*`.
    Headers(Box<str>),
    Query(Box<str>),
    Form(Box<str>),
    Json {
        slot: usize,
        /// Whether it stands for every element of a list.
        every: bool,
    },
    /// An element's text by the names on the way to it, or an attribute's after `@`.
    Xml(Box<str>),
    /// A part of the signature: `sig:tag`, and with its kind before it `jwt:name` and `claim:name`.
    Field(Box<str>),
    Config(Secret),
}

/// What names mean while a scheme is compiled.
pub(super) struct Names<'c> {
    pub(super) pointers: &'c mut Pointers,
    pub(super) config: &'c [(String, Secret)],
    /// Whether there is a signature whose fields `sig:` can name.
    pub(super) fields: bool,
    /// Whether it is a token, whose parts `jwt:` and `claim:` can name.
    pub(super) token: bool,
}

impl Source {
    /// Compiles a source and gives its canonical text.
    pub(super) fn parse(text: &str, names: &mut Names<'_>) -> Result<(Self, Box<str>), String> {
        let (kind, name) = match text.split_once(':') {
            Some(split) => split,
            None => match text.strip_prefix("sig.") {
                Some(tag) => ("sig", tag),
                None => return Err(unknown(text)),
            },
        };
        if name.is_empty() {
            return Err(format!("`{text}` names nothing after its colon"));
        }
        let source = match kind {
            "header" => Self::header(name)?,
            "query" => Self::Query(name.into()),
            "form" => Self::Form(name.into()),
            "json" => Self::Json { slot: names.pointers.slot(name)?, every: name.split('/').any(|step| step == "*") },
            "sig" if names.fields => Self::Field(name.into()),
            "sig" => return Err(format!("`{text}`: there is no signature here whose parts could be named")),
            "config" => match names.config.iter().find(|(key, _)| key == name) {
                Some((_, value)) => Self::Config(value.clone()),
                None => return Err(format!("`{text}` needs a setting `config.{name}`, which is not there")),
            },
            "claim" | "jwt" if names.token => Self::Field(text.into()),
            "claim" | "jwt" => return Err(format!("`{text}`: there is no token here (`algorithm: jwt`) whose parts could be named")),
            "xml" if name.starts_with('/') && name.len() > 1 => Self::Xml(name.into()),
            "xml" => return Err(format!("`{text}` is no path such as `xml:/notification/id`")),
            _ => return Err(unknown(text)),
        };
        let name = if kind == "header" { name.to_ascii_lowercase() } else { name.to_owned() };
        Ok((source, format!("{kind}:{name}").into()))
    }

    fn header(name: &str) -> Result<Self, String> {
        let (stem, prefix) = match name.strip_suffix('*') {
            Some(stem) => (stem, true),
            None => (name, false),
        };
        let header = HeaderName::try_from(stem).map_err(|_error| format!("`{stem}` is no header name"))?;
        Ok(if prefix { Self::Headers(header.as_str().into()) } else { Self::Header(header) })
    }

    /// Whether it can stand for more than one value.
    pub(super) fn is_many(&self) -> bool {
        matches!(self, Self::Headers(_) | Self::Json { every: true, .. })
    }
}

fn unknown(text: &str) -> String {
    format!("unknown source `{text}`: one of header:, query:, form:, json:/, xml:/, sig:, jwt:, claim:, config: is meant")
}
