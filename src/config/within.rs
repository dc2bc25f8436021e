//! Where a place inside a scalar stands in the file: a mistake in a program is told at its own line and column.

use crate::document::Span;

/// The place in `file` of the byte `offset` of a scalar's text, where the scalar starts at `start`. It is found
/// by reading the file beside the text; where the two part (a folded block, a rare escape), it is the start.
pub(super) fn within(file: &str, start: Span, text: &str, offset: usize) -> Span {
    follow(file, start, text, text.get(..offset).unwrap_or(text)).unwrap_or(start)
}

/// The rest of the file, and where it begins.
struct Cursor<'f> {
    rest: &'f str,
    at: Span,
}

impl Cursor<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        self.at = if next == '\n' {
            Span { line: self.at.line.saturating_add(1), column: 1 }
        } else {
            Span { line: self.at.line, column: self.at.column.saturating_add(1) }
        };
        Some(next)
    }

    /// Skips blanks, up to so many.
    fn skip_blanks(&mut self, most: u32) {
        for _ in 0..most {
            if !self.rest.starts_with(' ') {
                return;
            }
            self.next();
        }
    }
}

fn follow(file: &str, start: Span, text: &str, before: &str) -> Option<Span> {
    let mut cursor = Cursor { rest: file.strip_prefix('\u{feff}').unwrap_or(file), at: Span { line: 1, column: 1 } };
    while cursor.at < start {
        cursor.next()?;
    }
    if cursor.rest.starts_with('&') && !text.starts_with('&') {
        // The place of an anchored scalar is its anchor.
        while cursor.next()? != ' ' {}
        cursor.skip_blanks(u32::MAX);
    }
    // The place of a block scalar is its first content, so a quote there may be the text's own.
    match cursor.rest.chars().next()? {
        quote @ ('"' | '\'') if !text.starts_with(quote) => {
            cursor.next();
            in_quotes(cursor, before, quote)
        }
        _ => in_lines(cursor, before),
    }
}

/// Plain scalars and literal blocks: as they stand, less the indentation.
fn in_lines(mut cursor: Cursor<'_>, before: &str) -> Option<Span> {
    let indent = cursor.at.column.saturating_sub(1);
    // Empty lines at the start of a block come before its place.
    for expected in before.trim_start_matches('\n').chars() {
        if cursor.next()? != expected {
            return None;
        }
        if expected == '\n' {
            cursor.skip_blanks(indent);
        }
    }
    Some(cursor.at)
}

fn in_quotes(mut cursor: Cursor<'_>, before: &str, quote: char) -> Option<Span> {
    for expected in before.chars() {
        let found = match (cursor.next()?, quote) {
            ('\'', '\'') => cursor.next()?,
            ('\\', '"') => match cursor.next()? {
                'n' => '\n',
                't' => '\t',
                escaped => escaped,
            },
            (found, _) => found,
        };
        if found != expected {
            return None;
        }
    }
    Some(cursor.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::parse;

    /// The place of the letter Z, which must be found where it stands in the file.
    fn found(file: &str) -> (Span, Span) {
        let node = parse(file).unwrap().get("k").unwrap().clone();
        let text = node.as_str().unwrap();
        let before = &file[..file.find('Z').unwrap()];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        let stands = Span { line: u32::try_from(line).unwrap(), column: u32::try_from(column).unwrap() };
        (within(file, node.span, text, text.find('Z').unwrap()), stands)
    }

    #[test]
    fn a_place_in_any_kind_of_scalar_is_found() {
        for file in [
            "k: .a | Z\n",
            "k: 'ä''s | Z'\n",
            "k: '.a | Z'\n",
            "a: 1\nk: \"ä \\\"x\\\" | \\n Z\"\n",
            "{ k: '.ab | Z', b: 1 }",
            "k: |\n  .a\n    | .b\n\n  | Z\n",
            "k: |-\n\n      .a | Z\nb: 2\n",
            "k: |\n  \"x\" |\n    Z\n",
            "\u{feff}k: .a | Z\n",
            "x: &x '.a | Z'\nk: *x\n",
        ] {
            let (found, stands) = found(file.trim_start_matches('\u{feff}'));
            assert_eq!(found, stands, "{file}");
        }
    }

    #[test]
    fn where_the_file_reads_otherwise_the_start_of_the_scalar_is_told() {
        for file in ["k: >\n  a\n  b Z\n", "k: \"\\x41 Z\"\n", "k: a\n  b\n  Z\n"] {
            let node = parse(file).unwrap().get("k").unwrap().clone();
            let text = node.as_str().unwrap();
            assert_eq!(within(file, node.span, text, text.find('Z').unwrap()), node.span, "{file}");
        }
    }
}
