//! From YAML text to the tree, collecting every problem that leaves the rest readable.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span as ParserSpan};

use super::{Entry, Node, Problem, Span, Value, key_path};

/// The most nodes a document may have once its aliases are expanded: an alias bomb ends here.
pub const NODES_MAX: usize = 100_000;

/// The deepest nesting.
pub const DEPTH_MAX: usize = 64;

/// So many bytes of text count as one more node where an alias repeats them: a bomb of one long text ends
/// as early as one of many short ones.
const BYTES_PER_NODE: usize = 256;

/// Reads one YAML document.
///
/// # Errors
/// Every problem found; a syntax error ends the reading, duplicate keys and the like do not.
pub fn parse(text: &str) -> Result<Node, Vec<Problem>> {
    match read(text) {
        (Some(node), problems) if problems.is_empty() => Ok(node),
        (_, problems) => Err(problems),
    }
}

/// Reads one YAML document as far as it can be read: the tree, unless a syntax error ended it, and every
/// problem found. For callers that report further problems of the same document at once.
pub fn read(text: &str) -> (Option<Node>, Vec<Problem>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0, problems: Vec::new() };
    match reader.document() {
        Ok(node) => (Some(node), reader.problems),
        Err(problem) => {
            reader.problems.push(problem);
            (None, reader.problems)
        }
    }
}

struct Reader<'input> {
    parser: Parser<'input, saphyr_parser::StrInput<'input>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    problems: Vec<Problem>,
}

fn place(span: ParserSpan) -> Span {
    Span { line: u32::try_from(span.start.line()).unwrap_or(u32::MAX), column: u32::try_from(span.start.col() + 1).unwrap_or(u32::MAX) }
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::Null => 0,
        Value::Scalar { text, .. } => text.len() / BYTES_PER_NODE,
        Value::Sequence(items) => items.iter().map(count).sum(),
        Value::Mapping(entries) => entries.iter().map(|entry| entry.key.len() / BYTES_PER_NODE + count(&entry.value)).sum(),
    }
}

impl<'input> Reader<'input> {
    fn next(&mut self) -> Result<(Event<'input>, Span), Problem> {
        match self.parser.next() {
            Some(Ok((event, span))) => Ok((event, place(span))),
            Some(Err(error)) => {
                let marker = error.marker();
                let span = Span {
                    line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
                    column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
                };
                Err(Problem::new(span, "", format!("not valid YAML: {}", error.info())))
            }
            None => Err(Problem::new(Span::default(), "", "the document ends too early")),
        }
    }

    fn document(&mut self) -> Result<Node, Problem> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => {
                    if root.is_some() {
                        return Err(Problem::new(span, "", "a second document").with_hint("remove everything from the `---` line on"));
                    }
                    root = Some(self.node(event, span, "", 0)?);
                }
            }
        }
        root.ok_or_else(|| Problem::new(Span { line: 1, column: 1 }, "", "the file is empty"))
    }

    fn node(&mut self, event: Event<'input>, span: Span, path: &str, depth: usize) -> Result<Node, Problem> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(Problem::new(span, path, format!("more than {NODES_MAX} values once aliases are expanded")));
        }
        if depth > DEPTH_MAX {
            return Err(Problem::new(span, path, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        let (anchor, value) = match event {
            Event::Alias(id) => {
                let node = self
                    .anchors
                    .get(&id)
                    .cloned()
                    .ok_or_else(|| Problem::new(span, path, "an alias to something that is still being read"))?;
                self.nodes += count(&node);
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, _tag) => (anchor, scalar(&text, style)),
            Event::SequenceStart(anchor, _tag) => (anchor, self.sequence(path, depth)?),
            Event::MappingStart(anchor, _tag) => (anchor, self.mapping(path, depth)?),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                return Err(Problem::new(span, path, "the document ends too early"));
            }
        };
        let node = Node { span, value };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self, path: &str, depth: usize) -> Result<Value, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::Sequence(items));
            }
            let item = self.node(event, span, &format!("{path}[{}]", items.len()), depth + 1)?;
            items.push(item);
        }
    }

    fn mapping(&mut self, path: &str, depth: usize) -> Result<Value, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, u32> = HashMap::new();
        let mut merges = Vec::new();
        loop {
            let (event, key_span) = self.next()?;
            let (key, plain) = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, _, _) => (text.into_owned(), matches!(style, ScalarStyle::Plain)),
                Event::Nothing
                | Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_)
                | Event::DocumentEnd
                | Event::Alias(_)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..) => {
                    return Err(Problem::new(key_span, path, "a key that is not a text"));
                }
            };
            let key_path = key_path(path, &key);
            let (event, span) = self.next()?;
            let value = self.node(event, span, &key_path, depth + 1)?;
            if plain && key == "<<" {
                merges.push(value);
            } else if let Some(first) = lines.get(&key) {
                let hint = format!("it stands first in line {first}");
                self.problems.push(Problem::new(key_span, key_path, "the key occurs twice").with_hint(hint));
            } else {
                lines.insert(key.clone(), key_span.line);
                entries.push(Entry { key, key_span, value });
            }
        }
        let mut known: HashSet<String> = lines.into_keys().collect();
        for merge in merges {
            merge_into(&mut entries, &mut known, &merge, path)?;
        }
        Ok(Value::Mapping(entries))
    }
}

/// Adds what a merge key brings; keys of the mapping itself win, then those of earlier merges.
fn merge_into(entries: &mut Vec<Entry>, known: &mut HashSet<String>, merge: &Node, path: &str) -> Result<(), Problem> {
    match &merge.value {
        Value::Mapping(merged) => {
            for entry in merged {
                if known.insert(entry.key.clone()) {
                    entries.push(entry.clone());
                }
            }
            Ok(())
        }
        Value::Sequence(items) => items.iter().try_for_each(|item| merge_into(entries, known, item, path)),
        Value::Null | Value::Scalar { .. } => Err(Problem::new(merge.span, path, "`<<` merges mappings only")),
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    let quoted = !matches!(style, ScalarStyle::Plain);
    if !quoted && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    Value::Scalar { text: text.to_owned(), quoted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_their_line_and_column() {
        let root = parse("a: 1\nb:\n  - x\n  - {c: 'no'}\n").unwrap();
        let c = root.get("b").unwrap().as_sequence().unwrap()[1].get("c").unwrap();
        assert_eq!(c.span, Span { line: 4, column: 9 });
        assert_eq!(c.as_str(), Some("no"));
        assert_eq!(root.get("a").unwrap().as_u64(), Some(1));
    }

    #[test]
    fn words_that_other_readers_coerce_stay_texts() {
        for word in ["no", "on", "0777", "1_000", "0x10", "1e3"] {
            let root = parse(&format!("k: {word}")).unwrap();
            let node = root.get("k").unwrap();
            assert_eq!((node.as_str(), node.as_u64(), node.as_bool()), (Some(word), None, None));
        }
    }

    #[test]
    fn every_duplicate_key_is_reported() {
        let problems = parse("a: 1\na: 2\nb: {c: 1, c: 2}\n").unwrap_err();
        assert_eq!(problems.len(), 2);
        assert_eq!(problems[1].path, "b.c");
    }

    #[test]
    fn merge_keys_bring_what_is_not_said() {
        let root = parse("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\n").unwrap();
        let y = root.get("y").unwrap();
        assert_eq!((y.get("a").unwrap().as_u64(), y.get("b").unwrap().as_u64()), (Some(1), Some(3)));
    }

    #[test]
    fn an_alias_bomb_and_deep_nesting_are_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..10 {
            let alias = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(","));
        }
        assert!(parse(&bomb).unwrap_err()[0].message.contains("aliases"));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 1000].join(","));
        assert!(parse(&long).unwrap_err()[0].message.contains("aliases"));
        assert!(parse(&"[".repeat(10_000)).is_err());
        assert!(parse(&format!("{}{}", "[".repeat(200), "]".repeat(200))).unwrap_err()[0].message.contains("deeper"));
    }

    #[test]
    fn a_second_document_a_tab_and_an_empty_file_are_refused() {
        assert!(parse("a: 1\n---\nb: 2\n").unwrap_err()[0].message.contains("second document"));
        assert!(parse("a:\n\tb: 1\n").is_err());
        assert!(parse("# nothing\n").unwrap_err()[0].message.contains("empty"));
        assert!(parse("\u{feff}a: 1\n").is_ok());
    }
}
