//! From the text of a template to its operations.

use super::super::jws::{HEAD, PAYLOAD};
use super::super::limits::OPS_MAX;
use super::super::source::{Names, Source};
use super::{Charset, Filter, Nesting, Op, Place, Program, SignedHeaders, What};

/// What a template may hold at its place in the scheme.
#[derive(Clone, Copy)]
pub(in super::super) struct Allowed<'a> {
    /// `{secret}`: plain digests only.
    pub(in super::super) secret: bool,
    /// `|hmac-hex`, `|hmac-b64`: the reply to a handshake only.
    pub(in super::super) hmac: bool,
    /// What `{digest}` stands for: the reply to a handshake only.
    pub(in super::super) digest: Option<&'a Program>,
}

impl Allowed<'_> {
    /// Nothing out of the ordinary.
    pub(in super::super) const PLAIN: Self = Self { secret: false, hmac: false, digest: None };
}

/// Compiles a template.
pub(in super::super) fn compile(text: &str, allowed: Allowed<'_>, names: &mut Names<'_>) -> Result<Program, String> {
    let mut parser = Parser { rest: text, ops: Vec::new(), literal: Vec::new(), segment: None };
    while !parser.rest.is_empty() {
        parser.step(allowed, names)?;
    }
    if parser.segment.is_some() {
        return Err("`[` without its `]`; `[[` is a literal bracket".to_owned());
    }
    parser.flush();
    if parser.ops.len() > OPS_MAX {
        return Err(format!("more than {OPS_MAX} parts"));
    }
    Ok(Program { ops: parser.ops.into() })
}

/// A template that is a part of the signature and nothing else.
pub(in super::super) fn field(name: &str) -> Program {
    Program { ops: [Op::Place(Place::of(What::Source(Source::Field(name.into())), name))].into() }
}

/// What a JSON Web Signature signs: its own first two parts, or the first and a payload from elsewhere.
pub(in super::super) fn jws(detached: Option<Program>) -> Program {
    let part = |name: &str| Op::Place(Place::of(What::Source(Source::Field(name.into())), name));
    let payload = match detached {
        None => part(PAYLOAD),
        Some(program) => Op::Place(Place::of(What::Nested(Box::new(program), Nesting::Base64Url), PAYLOAD)),
    };
    Program { ops: [part(HEAD), Op::Literal(b".".to_vec().into()), payload].into() }
}

impl Place {
    fn of(what: What, name: &str) -> Self {
        Self { name: name.into(), what, filters: [].into(), optional: false }
    }
}

/// A template that is this text and nothing else.
pub(in super::super) fn literal(text: &str) -> Program {
    Program { ops: [Op::Literal(text.as_bytes().into())].into() }
}

struct Parser<'t> {
    rest: &'t str,
    ops: Vec<Op>,
    literal: Vec<u8>,
    /// Where the open segment's operation stands.
    segment: Option<usize>,
}

impl Parser<'_> {
    fn step(&mut self, allowed: Allowed<'_>, names: &mut Names<'_>) -> Result<(), String> {
        for (doubled, single) in [("{{", b'{'), ("}}", b'}'), ("[[", b'['), ("]]", b']')] {
            // The end of a segment may touch the end of a list: `]]` is a literal only outside of one.
            if (doubled != "]]" || self.segment.is_none())
                && let Some(rest) = self.rest.strip_prefix(doubled)
            {
                self.literal.push(single);
                self.rest = rest;
                return Ok(());
            }
        }
        let mut characters = self.rest.chars();
        let first = characters.next().unwrap_or_default();
        let after = characters.as_str();
        match first {
            '{' => {
                let (inside, rest) = after.split_once('}').ok_or("`{` without its `}`; `{{` is a literal brace")?;
                if !inside.starts_with(|first: char| first.is_ascii_lowercase()) {
                    return Err(format!("`{{{inside}}}` is no placeholder; `{{{{` is a literal brace"));
                }
                self.flush();
                self.ops.push(Op::Place(place(inside, allowed, names)?));
                self.rest = rest;
                return Ok(());
            }
            '}' => return Err("`}` without its `{`; `}}` is a literal brace".to_owned()),
            '[' if self.segment.is_some() => return Err("a segment `[…]` inside another".to_owned()),
            '[' => {
                self.flush();
                self.segment = Some(self.ops.len());
                self.ops.push(Op::Segment(0));
            }
            ']' => self.close()?,
            other => self.literal.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        self.rest = after;
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let start = self.segment.take().ok_or("`]` without its `[`; `]]` is a literal bracket")?;
        self.flush();
        let inside = &self.ops[start + 1..];
        if !inside.iter().any(|op| matches!(op, Op::Place(_))) {
            return Err("a segment `[…]` without a placeholder is always there; `[[` is a literal bracket".to_owned());
        }
        let length = inside.len();
        self.ops[start] = Op::Segment(length);
        Ok(())
    }

    fn flush(&mut self) {
        if !self.literal.is_empty() {
            self.ops.push(Op::Literal(std::mem::take(&mut self.literal).into()));
        }
    }
}

fn place(inside: &str, allowed: Allowed<'_>, names: &mut Names<'_>) -> Result<Place, String> {
    if let Some(rest) = inside.strip_prefix("signed_headers:") {
        let headers = signed_headers(rest, names)?;
        return Ok(Place::of(What::SignedHeaders(headers), "signed_headers"));
    }
    let mut parts = inside.split('|');
    let head = parts.next().unwrap_or_default();
    let (mut filters, mut optional) = (Vec::new(), false);
    for filter in parts {
        filters.push(match filter {
            "?" => {
                optional = true;
                continue;
            }
            "lower" => Filter::Lower,
            "json" => Filter::Json,
            "sha256hex" => Filter::Sha256Hex,
            "sha256b64" => Filter::Sha256Base64,
            "sha512b64" => Filter::Sha512Base64,
            "crc32" => Filter::Crc32,
            "hubspot-uri" => Filter::HubspotUri,
            "hmac-hex" if allowed.hmac => Filter::HmacHex,
            "hmac-b64" if allowed.hmac => Filter::HmacBase64,
            "hmac-hex" | "hmac-b64" => return Err(format!("`|{filter}` belongs to the reply of a `challenge`, and nowhere else")),
            _ if filter.starts_with("utf8=") => {
                let label = filter.trim_start_matches("utf8=");
                Filter::Utf8(Charset::parse(label).ok_or_else(|| format!("unknown charset `{label}`"))?)
            }
            other => return Err(format!("unknown filter `|{other}` in `{{{inside}}}`")),
        });
    }
    let (what, name) = what(head, allowed, names)?;
    Ok(Place { name, what, filters: filters.into(), optional })
}

fn what(head: &str, allowed: Allowed<'_>, names: &mut Names<'_>) -> Result<(What, Box<str>), String> {
    let what = match head {
        "body" => What::Body,
        "method" => What::Method,
        "url" => What::Url,
        "path" => What::Path,
        "path_and_query" => What::PathAndQuery,
        "query_string" => What::QueryString,
        "host" => What::Host,
        "secret" if allowed.secret => What::Secret,
        "secret" => return Err("`{secret}` belongs to what a plain digest (`hash-…`) signs, and nowhere else".to_owned()),
        "digest" => match allowed.digest {
            Some(program) => What::Nested(Box::new(program.clone()), Nesting::Sha256Hex),
            None => return Err("`{digest}` belongs to the reply of a `challenge` that has a `digest`".to_owned()),
        },
        "url_sorted" => What::UrlSorted,
        "form_sorted" => What::FormSorted,
        "form_values_sorted" => What::FormValuesSorted { except: "".into() },
        _ if !head.contains([':', '.']) => return Err(format!("unknown placeholder `{{{head}}}`; `{{{{` is a literal brace")),
        _ => match head.strip_prefix("form_values_sorted:except=") {
            Some(except) => What::FormValuesSorted { except: except.into() },
            None => {
                let (source, name) = Source::parse(head, names)?;
                if source.is_many() {
                    return Err(format!("`{{{head}}}` can stand for several values"));
                }
                return Ok((What::Source(source), name));
            }
        },
    };
    Ok((what, head.into()))
}

fn signed_headers(text: &str, names: &mut Names<'_>) -> Result<SignedHeaders, String> {
    let mut parts = text.split('|');
    let list = parts.next().unwrap_or_default();
    let list = if list.contains([':', '.']) { list.to_owned() } else { format!("header:{list}") };
    let (list, _) = Source::parse(&list, names)?;
    if list.is_many() {
        return Err("the list of signed headers can't have several sources".to_owned());
    }
    let (mut split, mut item, mut join) = (",".to_owned(), "%n:%v".to_owned(), "\n".to_owned());
    for option in parts {
        let (key, value) = option.split_once('=').ok_or_else(|| format!("`|{option}` has no `=`"))?;
        let value = value.replace("\\n", "\n").replace("\\t", "\t");
        match key {
            "split" if value.is_empty() => return Err("`split=` is empty".to_owned()),
            "split" => split = value,
            "item" if value.split('%').skip(1).any(|rest| !rest.starts_with(['n', 'N', 'v'])) => {
                return Err(
                    "after `%` in `item=` there is `n` (the name in lower case), `N` (the name as listed) or `v` (the value)".to_owned()
                );
            }
            "item" => item = value,
            "join" => join = value,
            other => return Err(format!("unknown option `|{other}=`; split, item and join are known")),
        }
    }
    Ok(SignedHeaders { list, split: split.into(), item: item.into(), join: join.into() })
}
