//! Values out of an XML body by the names on the way to them: `/notification/transaction/@id`.
//!
//! Namespaces are left out of names. A DTD is refused, so nothing expands and nothing outside is read. A place
//! that stands several times with different texts has no one value.

use std::borrow::Cow;

use http::{HeaderMap, header};
use roxmltree::{Document, Node, ParsingOptions};

use super::charset::Charset;
use super::form::Ambiguous;
use super::limits::{JSON_DEPTH_MAX, XML_NODES_MAX};

/// The texts of a body's leaves and attributes by path.
pub(super) struct Nodes(Vec<(String, String)>);

impl Nodes {
    /// Reads a body; its charset is that of the content type, else of the declaration, else UTF-8.
    pub(super) fn read(body: &[u8], headers: &HeaderMap) -> Result<Self, Ambiguous> {
        if !is_shallow(body) {
            return Err(Ambiguous);
        }
        let declared = headers.get(header::CONTENT_TYPE).and_then(|value| Charset::of_content_type(value.as_bytes()));
        let charset = declared.or_else(|| declaration(body)).unwrap_or_default();
        let text = charset.utf8(Cow::Borrowed(body));
        let text = std::str::from_utf8(&text).map_err(|_error| Ambiguous)?;
        let options = ParsingOptions { allow_dtd: false, nodes_limit: XML_NODES_MAX, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text.trim_start_matches('\u{feff}'), options).map_err(|_error| Ambiguous)?;
        let mut nodes = Vec::new();
        collect(document.root_element(), "", &mut nodes);
        Ok(Self(nodes))
    }

    /// The value at a path.
    pub(super) fn get(&self, path: &str) -> Result<Option<&[u8]>, Ambiguous> {
        let mut values = self.0.iter().filter(|(known, _)| known == path).map(|(_, value)| value);
        let first = values.next();
        if values.any(|other| Some(other) != first) { Err(Ambiguous) } else { Ok(first.map(String::as_bytes)) }
    }
}

/// Its depth is bounded by [`JSON_DEPTH_MAX`], which was checked before.
fn collect(node: Node<'_, '_>, above: &str, nodes: &mut Vec<(String, String)>) {
    let path = format!("{above}/{}", node.tag_name().name());
    for attribute in node.attributes() {
        nodes.push((format!("{path}/@{}", attribute.name()), attribute.value().to_owned()));
    }
    let children: Vec<Node<'_, '_>> = node.children().filter(Node::is_element).collect();
    if children.is_empty() {
        let text: String = node.children().filter_map(|child| child.text().filter(|_| child.is_text())).collect();
        nodes.push((path, text));
    } else {
        children.into_iter().for_each(|child| collect(child, &path, nodes));
    }
}

/// Whether elements nest no deeper than JSON may, counted roughly: what looks like a tag counts as one.
fn is_shallow(body: &[u8]) -> bool {
    let (mut depth, mut previous) = (0_usize, 0_u8);
    for (at, byte) in body.iter().enumerate() {
        match (byte, body.get(at + 1)) {
            (b'<', Some(b'/')) => depth = depth.saturating_sub(1),
            (b'<', Some(b'?' | b'!')) | (b'<', None) => {}
            (b'<', Some(_)) => depth += 1,
            (b'>', _) if previous == b'/' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            return false;
        }
        previous = *byte;
    }
    true
}

fn declaration(body: &[u8]) -> Option<Charset> {
    let start = std::str::from_utf8(body.get(..body.len().min(128))?.split(|byte| *byte == b'>').next()?).ok()?;
    let label = start.strip_prefix("<?xml")?.split_once("encoding=")?.1;
    let quote = label.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    Charset::parse(label[1..].split(quote).next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(body: &[u8], path: &str) -> Result<Option<String>, Ambiguous> {
        let nodes = Nodes::read(body, &HeaderMap::new())?;
        Ok(nodes.get(path)?.map(|value| String::from_utf8_lossy(value).into_owned()))
    }

    #[test]
    fn leaves_and_attributes_are_found_by_their_names() {
        let body = b"<?xml version='1.0'?><n:note xmlns:n='urn:x' state=\"ok\"><id>7&amp;8</id><item>a</item><item>b</item><who/></n:note>";
        assert_eq!(get(body, "/note/id"), Ok(Some("7&8".into())));
        assert_eq!(get(body, "/note/@state"), Ok(Some("ok".into())));
        assert_eq!(get(body, "/note/who"), Ok(Some(String::new())));
        assert_eq!(get(body, "/note/none"), Ok(None));
        assert_eq!(get(body, "/note/item"), Err(Ambiguous));
    }

    #[test]
    fn a_declared_charset_is_read_and_a_content_type_goes_before_it() {
        let body = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a>Z\xfcrich</a>";
        assert_eq!(get(body, "/a"), Ok(Some("Zürich".into())));
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/xml; charset=utf-8"));
        assert!(Nodes::read(body, &headers).is_err());
    }

    #[test]
    fn a_dtd_depth_and_size_are_refused() {
        let bomb = b"<!DOCTYPE a [<!ENTITY b 'xx'><!ENTITY c '&b;&b;'>]><a>&c;</a>";
        let external = b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>";
        assert!(get(bomb, "/a").is_err() && get(external, "/a").is_err());
        let nested = |depth: usize| format!("{}x{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(get(nested(JSON_DEPTH_MAX).as_bytes(), "/a").is_ok());
        assert!(get(nested(JSON_DEPTH_MAX + 1).as_bytes(), "/a").is_err());
        let many = format!("<a>{}</a>", "<b/>".repeat(XML_NODES_MAX as usize));
        assert!(get(many.as_bytes(), "/a/b").is_err());
        for bad in [&b""[..], b"{}", b"<a>", b"\xff"] {
            assert!(get(bad, "/a").is_err());
        }
    }
}
