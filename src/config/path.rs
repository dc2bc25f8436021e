//! Path patterns: parsed strictly, matched byte for byte on the raw path, found in constant time when literal.
//!
//! Nothing here normalises. What a proxy in front would fold together (`//`, `%2e`, case) is another path for
//! us, so routing and trust can never see two different ones.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::limits::PATH_BYTES_MAX;
use super::units::shown;
use super::wrong::Wrong;
use super::{PathPattern, Route, Segment};
use crate::model::Secret;

/// The segment name that `path_secret` fills.
pub(super) const SECRET_SEGMENT: &str = "secret";

impl PathPattern {
    /// Reads a pattern such as `/callbacks/{shop}/paid`.
    ///
    /// # Errors
    /// What is wrong with it, as a fragment.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse(text).map_err(|wrong| wrong.at(crate::document::Span::default(), "").message)
    }

    /// Whether this raw path, without its query, is one of the pattern's.
    pub fn matches(&self, raw_path: &[u8]) -> bool {
        let Some(rest) = raw_path.strip_prefix(b"/") else { return false };
        let mut parts = rest.split(|byte| *byte == b'/');
        let mut same = true;
        for segment in &self.segments {
            let Some(part) = parts.next() else { return false };
            same &= segment.matches(part);
        }
        same && parts.next().is_none()
    }

    /// Whether it stands for one path only, and one that is no secret.
    pub(super) fn is_literal(&self) -> bool {
        self.segments.iter().all(|segment| matches!(segment, Segment::Literal(_)))
    }

    /// Whether a segment stands for any text.
    pub(super) fn has_any(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Any(_)))
    }

    /// Whether some path is both patterns'.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.segments.len() == other.segments.len() && self.segments.iter().zip(&other.segments).all(|(a, b)| a.overlaps(b))
    }

    /// Puts the secret in its segment; false when there is none.
    pub(super) fn fill(&mut self, secret: &Secret) -> bool {
        let mut filled = false;
        for segment in &mut self.segments {
            if matches!(segment, Segment::Any(name) if &**name == SECRET_SEGMENT) {
                *segment = Segment::Secret(secret.clone());
                filled = true;
            }
        }
        filled
    }

    /// Whether it has a segment `{secret}` that nothing has filled.
    pub(super) fn wants_secret(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Any(name) if &**name == SECRET_SEGMENT))
    }
}

impl Segment {
    fn matches(&self, part: &[u8]) -> bool {
        match self {
            Self::Literal(text) => text.as_bytes() == part,
            Self::Any(_) => !part.is_empty(),
            Self::Secret(secret) => secret.expose().ct_eq(part).into(),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any(_), Self::Literal(text)) | (Self::Literal(text), Self::Any(_)) => !text.is_empty(),
            (Self::Any(_), _) | (_, Self::Any(_)) => true,
            (Self::Literal(a), Self::Literal(b)) => a == b,
            (Self::Literal(text), Self::Secret(secret)) | (Self::Secret(secret), Self::Literal(text)) => {
                secret.expose().ct_eq(text.as_bytes()).into()
            }
            (Self::Secret(a), Self::Secret(b)) => a.expose().ct_eq(b.expose()).into(),
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => write!(f, "Literal({text:?})"),
            Self::Any(name) => write!(f, "Any({name:?})"),
            Self::Secret(_) => f.write_str("Secret"),
        }
    }
}

/// Whether the byte may stand in a path as it is (RFC 3986, pchar without percent-encoding).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

/// Whether the text may be one segment of a raw path as it is.
pub(super) fn is_plain_segment(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes != b"." && bytes != b".." && bytes.iter().all(|byte| is_plain(*byte))
}

/// Reads a pattern.
pub(super) fn parse(text: &str) -> Result<PathPattern, Wrong> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err(Wrong::new(format!("the path `{}` does not start with `/`", shown(text))).hint(format!("write `/{}`", shown(text))));
    };
    if text.len() > PATH_BYTES_MAX {
        return Err(Wrong::new(format!("the path is longer than {PATH_BYTES_MAX} bytes")));
    }
    let parts: Vec<&str> = rest.split('/').collect();
    let mut segments = Vec::with_capacity(parts.len());
    let mut names: Vec<&str> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        if part.is_empty() && index + 1 < parts.len() {
            return Err(
                Wrong::new("the path has an empty segment (`//`)").hint("paths are matched exactly, nothing is folded: write one slash")
            );
        }
        let segment = match part.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
            Some(name) => any(name, &mut names)?,
            None => literal(part)?,
        };
        segments.push(segment);
    }
    Ok(PathPattern { text: text.into(), segments })
}

fn any<'a>(name: &'a str, names: &mut Vec<&'a str>) -> Result<Segment, Wrong> {
    let valid = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !valid {
        return Err(Wrong::new(format!("`{{{}}}` is not a segment's name", shown(name))).hint("use a-z, 0-9 and `_`"));
    }
    if names.contains(&name) {
        return Err(Wrong::new(format!("the path has two segments named `{{{name}}}`")));
    }
    names.push(name);
    Ok(Segment::Any(name.into()))
}

fn literal(part: &str) -> Result<Segment, Wrong> {
    if part == "." || part == ".." {
        return Err(
            Wrong::new(format!("the path has a `{part}` segment")).hint("paths are matched exactly: clients resolve dots before they send")
        );
    }
    match part.chars().find(|c| !c.is_ascii() || !is_plain(*c as u8)) {
        None => Ok(Segment::Literal(part.into())),
        Some('%') => Err(Wrong::new("the path is percent-encoded")
            .hint("paths are matched as raw bytes; `{name}` stands for a segment with other characters")),
        Some('{' | '}') => {
            Err(Wrong::new(format!("`{}` mixes text and `{{name}}`", shown(part))).hint("`{name}` stands for one whole segment"))
        }
        Some('?' | '#') => Err(Wrong::new("the path has a query or fragment").hint("the query is not part of a route's path")),
        Some(c) => Err(Wrong::new(format!("the path has the character {c:?}, which no raw path has"))),
    }
}

/// Finds the route of a path: literal paths in a hash map, patterns by the literal segments they begin with.
#[derive(Debug, Clone, Default)]
pub struct RouteIndex {
    literal: HashMap<Box<[u8]>, usize>,
    /// By what stands before the first segment that is not literal, such as `/hooks/acme`.
    patterns: HashMap<Box<[u8]>, Vec<(usize, PathPattern)>>,
    /// The longest key of `patterns`: a path of many slashes costs no more lookups than that.
    start_bytes_max: usize,
}

impl RouteIndex {
    /// The index of these routes. Where paths overlap (which the check refuses) the first one wins.
    pub fn new(routes: &[Arc<Route>]) -> Self {
        Self::numbered(routes.iter().enumerate().filter_map(|(at, route)| Some((at, route.path.as_ref()?))))
    }

    /// The index of these patterns.
    pub(super) fn of<'a>(patterns: impl Iterator<Item = &'a PathPattern>) -> Self {
        Self::numbered(patterns.enumerate())
    }

    fn numbered<'a>(patterns: impl Iterator<Item = (usize, &'a PathPattern)>) -> Self {
        let mut index = Self::default();
        for (at, pattern) in patterns {
            if pattern.is_literal() {
                index.literal.entry(pattern.text.as_bytes().into()).or_insert(at);
            } else {
                let start = pattern.start();
                index.start_bytes_max = index.start_bytes_max.max(start.len());
                index.patterns.entry(start.into()).or_default().push((at, pattern.clone()));
            }
        }
        index
    }

    /// The place of the route whose path this is.
    pub fn find(&self, raw_path: &[u8]) -> Option<usize> {
        if let Some(at) = self.literal.get(raw_path) {
            return Some(*at);
        }
        let matching = self.candidates(raw_path).filter(|(_, pattern)| pattern.matches(raw_path));
        matching.map(|(at, _)| *at).min()
    }

    /// The place of a pattern that leaves this one unclear or without any path of its own.
    pub(super) fn rival(&self, at: usize, pattern: &PathPattern) -> Option<usize> {
        if pattern.is_literal() {
            let first = self.literal.get(pattern.text.as_bytes()).copied();
            return first.filter(|first| *first != at);
        }
        // Whoever overlaps begins with this one's literal segments, or the other way round: then it is the
        // other's turn to find it.
        let start = pattern.start();
        let overlapping = self.candidates(pattern.text.as_bytes()).find(|(other, candidate)| {
            let ours_to_find = candidate.start().len() < start.len() || *other < at;
            ours_to_find && candidate.overlaps(pattern)
        });
        // A literal path goes first, so a pattern that is all literal but for its secret may be hidden by one.
        let hidden = || {
            if pattern.has_any() { None } else { self.literal.get(pattern.concrete().as_slice()).copied() }
        };
        overlapping.map(|(other, _)| *other).or_else(hidden)
    }

    /// Every pattern that begins with literal segments that the path begins with too.
    fn candidates<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = &'a (usize, PathPattern)> {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let starts = slashes.take_while(|at| *at <= self.start_bytes_max);
        starts.filter_map(|at| self.patterns.get(path.get(..at)?)).flatten()
    }
}

impl PathPattern {
    /// The literal segments it begins with.
    fn start(&self) -> &[u8] {
        let literal = self.segments.iter().map_while(|segment| match segment {
            Segment::Literal(text) => Some(text.len() + 1),
            Segment::Any(_) | Segment::Secret(_) => None,
        });
        self.text.as_bytes().get(..literal.sum()).unwrap_or_default()
    }

    fn concrete(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let mut path = zeroize::Zeroizing::new(Vec::with_capacity(PATH_BYTES_MAX));
        for segment in &self.segments {
            path.push(b'/');
            match segment {
                Segment::Literal(text) | Segment::Any(text) => path.extend_from_slice(text.as_bytes()),
                Segment::Secret(secret) => path.extend_from_slice(secret.expose()),
            }
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> PathPattern {
        PathPattern::parse(text).unwrap()
    }

    #[test]
    fn a_path_matches_byte_for_byte_or_not_at_all() {
        let path = pattern("/callbacks/dvelop");
        assert!(path.matches(b"/callbacks/dvelop"));
        for other in [
            "/callbacks/dvelop/",
            "//callbacks/dvelop",
            "/callbacks//dvelop",
            "/Callbacks/dvelop",
            "/callbacks/%64velop",
            "/callbacks/x/../dvelop",
            "/callbacks/%2e%2e/dvelop",
            "/callbacks/dvelop.",
            "/callbacks/dvelop ",
            "callbacks/dvelop",
            "/callbacks",
            "",
        ] {
            assert!(!path.matches(other.as_bytes()), "{other}");
        }
        assert!(pattern("/").matches(b"/") && !pattern("/").matches(b"//"));
        assert!(pattern("/a/").matches(b"/a/") && !pattern("/a/").matches(b"/a"));
    }

    #[test]
    fn a_name_stands_for_one_segment_that_is_not_empty() {
        let path = pattern("/in/{shop}/paid");
        assert!(path.matches(b"/in/a%2Fb/paid") && path.matches(b"/in/\xff/paid"));
        for other in [&b"/in//paid"[..], b"/in/a/b/paid", b"/in/a", b"/in/a/paid/"] {
            assert!(!path.matches(other));
        }
    }

    #[test]
    fn a_secret_segment_matches_the_secret_only_and_is_never_shown() {
        let mut path = pattern("/in/{secret}");
        assert!(path.wants_secret() && path.fill(&Secret::new(b"hunter2".to_vec())));
        assert!(path.matches(b"/in/hunter2") && !path.matches(b"/in/hunter") && !path.matches(b"/in/{secret}"));
        assert!(!format!("{path:?}").contains("hunter2"));
    }

    #[test]
    fn paths_that_no_raw_path_can_equal_are_refused() {
        for (text, part) in [
            ("a", "does not start"),
            ("", "does not start"),
            ("/a//b", "empty segment"),
            ("//", "empty segment"),
            ("/a/../b", "`..`"),
            ("/./b", "`.`"),
            ("/a%2e", "percent"),
            ("/a?b", "query"),
            ("/a b", "character"),
            ("/ä", "character"),
            ("/a{b}", "mixes"),
            ("/{A}", "name"),
            ("/{}", "name"),
            ("/{a}/{a}", "two segments"),
        ] {
            let message = PathPattern::parse(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
        assert!(PathPattern::parse(&format!("/{}", "a".repeat(PATH_BYTES_MAX))).is_err());
    }

    #[test]
    fn a_literal_path_goes_before_a_pattern_and_overlaps_are_found() {
        let mut hidden = pattern("/x/{secret}");
        hidden.fill(&Secret::new(b"open".to_vec()));
        let all =
            [pattern("/a/{x}"), pattern("/a/b"), pattern("/{y}/b"), pattern("/a/b"), pattern("/x/open"), hidden, pattern("/{q}/{r}/c")];
        let index = RouteIndex::of(all.iter());
        assert_eq!(index.find(b"/a/b"), Some(1));
        assert_eq!(index.find(b"/a/c"), Some(0));
        assert_eq!(index.find(b"/c/b"), Some(2));
        assert_eq!(index.find(b"/nothing"), None);
        assert_eq!(index.find("/".repeat(60_000).as_bytes()), None);
        let rivals: Vec<_> = all.iter().enumerate().map(|(at, pattern)| index.rival(at, pattern)).collect();
        assert_eq!(rivals, [Some(2), None, None, Some(1), None, Some(4), None]);
    }
}
