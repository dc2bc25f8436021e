//! Values out of a JSON body by pointer, in one pass and without a tree.
//!
//! Only what the pointers name is kept, as slices of the body; everything else is skipped. A number is its
//! literal text. A key that occurs twice on the way to a value makes the value unreadable: parsers
//! disagree on which one counts, and so would the application behind us.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr2;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::limits::{ITEMS_MAX, JSON_DEPTH_MAX, JSON_VALUES_MAX, POINTERS_MAX};

/// The places to read, as a tree of keys.
pub(super) struct Pointers {
    nodes: Vec<Step>,
    texts: Vec<Box<str>>,
}

#[derive(Default)]
struct Step {
    children: Vec<(Box<str>, usize)>,
    every: Option<usize>,
    slot: Option<usize>,
    /// The slots at and below this step.
    below: Vec<usize>,
}

/// What stands at one pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// Nothing, or null.
    Absent,
    /// A text, the literal of a number, `true` or `false`.
    Text(Cow<'a, str>),
    /// An object or a list, as it stands in the body.
    Compound(&'a str),
    /// Something that has no one meaning: under a doubled key, or a text of half a surrogate pair.
    Unreadable,
}

/// The body is not JSON, or more of it than is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

/// What was found, by slot; more than one only where the pointer has a `*`.
pub(super) struct Values<'a>(Vec<Slot<'a>>);

#[derive(Default)]
struct Slot<'a> {
    found: SmallVec<[Found<'a>; 1]>,
    unreadable: bool,
}

impl Pointers {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Step::default()], texts: Vec::new() }
    }

    /// The pointer of this slot.
    pub(super) fn text(&self, slot: usize) -> &str {
        self.texts.get(slot).map_or("", |text| text)
    }

    /// The slot of this pointer; the same one when asked again.
    pub(super) fn slot(&mut self, pointer: &str) -> Result<usize, String> {
        if let Some(slot) = self.texts.iter().position(|text| &**text == pointer) {
            return Ok(slot);
        }
        let Some(steps) = pointer.strip_prefix('/') else {
            return Err(format!("`{pointer}` is no JSON pointer: it starts with `/`"));
        };
        if steps.split('/').filter(|step| *step == "*").count() > 1 {
            return Err(format!("`{pointer}` has more than one `*`"));
        }
        if self.texts.len() == POINTERS_MAX || steps.split('/').count() > JSON_DEPTH_MAX {
            return Err(format!("more than {POINTERS_MAX} JSON pointers, or one of more than {JSON_DEPTH_MAX} steps"));
        }
        let slot = self.texts.len();
        self.texts.push(pointer.into());
        let mut at = 0;
        for step in steps.split('/') {
            at = self.child(at, step);
            self.nodes[at].below.push(slot);
        }
        self.nodes[at].slot = Some(slot);
        Ok(slot)
    }

    fn child(&mut self, at: usize, step: &str) -> usize {
        let new = self.nodes.len();
        if step == "*" {
            if let Some(every) = self.nodes[at].every {
                return every;
            }
            self.nodes[at].every = Some(new);
        } else {
            let key = step.replace("~1", "/").replace("~0", "~");
            if let Some((_, child)) = self.nodes[at].children.iter().find(|(known, _)| **known == *key) {
                return *child;
            }
            self.nodes[at].children.push((key.into(), new));
        }
        self.nodes.push(Step::default());
        new
    }

    /// Reads every pointer's value out of a body.
    pub(super) fn read<'a>(&self, body: &'a [u8]) -> Result<Values<'a>, NotJson> {
        if !within_limits(body) {
            return Err(NotJson);
        }
        let mut slots: Vec<Slot<'a>> = self.texts.iter().map(|_| Slot::default()).collect();
        let mut reader = serde_json::Deserializer::from_slice(body);
        Walk { pointers: self, at: 0, slots: &mut slots }.deserialize(&mut reader).map_err(|_error| NotJson)?;
        reader.end().map_err(|_error| NotJson)?;
        Ok(Values(slots))
    }
}

impl<'a> Values<'a> {
    /// The one value of a slot whose pointer has no `*`.
    pub(super) fn one(&self, slot: usize) -> Found<'a> {
        match self.0.get(slot) {
            Some(slot) if slot.unreadable => Found::Unreadable,
            Some(slot) => slot.found.first().cloned().unwrap_or(Found::Absent),
            None => Found::Absent,
        }
    }

    /// Every value of a slot, one for each element that its `*` ran over.
    pub(super) fn every(&self, slot: usize) -> Result<&[Found<'a>], NotJson> {
        match self.0.get(slot) {
            Some(slot) if slot.unreadable => Err(NotJson),
            Some(slot) => Ok(&slot.found),
            None => Ok(&[]),
        }
    }
}

/// Depth and size are checked in a pass of their own, so that nothing below recurses or counts.
fn within_limits(body: &[u8]) -> bool {
    let (mut depth, mut values, mut rest) = (0_usize, 0_usize, body);
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'"' => rest = behind_text(rest),
            b'[' | b'{' => {
                depth += 1;
                values += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => continue,
        }
        if depth > JSON_DEPTH_MAX || values > JSON_VALUES_MAX {
            return false;
        }
    }
    true
}

/// What follows the text whose inside this begins with. Most bytes of a body are texts, and these go by many at a time.
fn behind_text(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr2(b'"', b'\\', rest) {
        if rest.get(at) == Some(&b'"') {
            return rest.get(at + 1..).unwrap_or_default();
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    &[]
}

fn classify(raw: &str) -> Found<'_> {
    match raw.as_bytes().first() {
        Some(b'"') if !raw.contains('\\') => Found::Text(Cow::Borrowed(raw.get(1..raw.len() - 1).unwrap_or_default())),
        Some(b'"') => serde_json::from_str::<String>(raw).map_or(Found::Unreadable, |text| Found::Text(Cow::Owned(text))),
        Some(b'{' | b'[') => Found::Compound(raw),
        Some(b'n') | None => Found::Absent,
        Some(_) => Found::Text(Cow::Borrowed(raw)),
    }
}

struct Walk<'w, 'a> {
    pointers: &'w Pointers,
    at: usize,
    slots: &'w mut Vec<Slot<'a>>,
}

impl<'a> Walk<'_, 'a> {
    fn step(&self) -> &Step {
        &self.pointers.nodes[self.at]
    }

    fn below(&mut self, at: usize) -> Walk<'_, 'a> {
        Walk { pointers: self.pointers, at, slots: self.slots }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, reader: D) -> Result<(), D::Error> {
        let Some(slot) = self.step().slot else {
            return reader.deserialize_any(self);
        };
        let raw = <&'de RawValue>::deserialize(reader)?.get();
        self.slots[slot].found.push(classify(raw));
        if self.step().children.is_empty() && self.step().every.is_none() {
            return Ok(());
        }
        let at = self.at;
        serde_json::Deserializer::from_str(raw).deserialize_any(self.below(at)).map_err(D::Error::custom)
    }
}

impl<'de> Visitor<'de> for Walk<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        // One bit for each child: there are no more of them than pointers.
        let mut seen = 0_u64;
        const { assert!(POINTERS_MAX <= u64::BITS as usize, "a bit for each") };
        while let Some(child) = map.next_key_seed(KeyOf(self.step()))? {
            let Some(child) = child else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let at = self.step().children[child].1;
            let bit = 1 << child;
            let is_doubled = seen & bit != 0;
            seen |= bit;
            if is_doubled {
                for slot in &self.pointers.nodes[at].below {
                    self.slots[*slot].unreadable = true;
                }
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(self.below(at))?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let every = self.step().every;
        for index in 0.. {
            let at = every.or_else(|| {
                let children = &self.step().children;
                children.iter().find(|(key, _)| is_index(key, index)).map(|(_, at)| *at)
            });
            let more = match at {
                Some(at) => list.next_element_seed(self.below(at))?.is_some(),
                None => list.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                return Ok(());
            }
            if let Some(every) = every {
                self.close_element(every, index)?;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

impl Walk<'_, '_> {
    /// After each element that a `*` ran over, every slot below has a value for it: what is not there is absent,
    /// not missing from the list.
    fn close_element<E: Error>(&mut self, every: usize, index: usize) -> Result<(), E> {
        if index >= ITEMS_MAX {
            return Err(E::custom("too many items"));
        }
        for slot in &self.pointers.nodes[every].below {
            let found = &mut self.slots[*slot].found;
            if found.len() <= index {
                found.push(Found::Absent);
            }
        }
        Ok(())
    }
}

fn is_index(key: &str, index: usize) -> bool {
    key.parse() == Ok(index) && (key.len() == 1 || !key.starts_with(['0', '+']))
}

/// Which child a key leads to, without keeping the key.
struct KeyOf<'s>(&'s Step);

impl<'de> DeserializeSeed<'de> for KeyOf<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Option<usize>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyOf<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.children.iter().position(|(known, _)| **known == *key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Found<'_> {
        Found::Text(Cow::Borrowed(value))
    }

    fn at<'a>(pointer: &str, body: &'a str) -> Found<'a> {
        let mut pointers = Pointers::new();
        let slot = pointers.slot(pointer).unwrap();
        pointers.read(body.as_bytes()).unwrap().one(slot)
    }

    #[test]
    fn numbers_keep_their_literal_text_and_texts_lose_their_escapes() {
        assert_eq!(at("/a", r#"{"a": 1.50e400}"#), text("1.50e400"));
        assert_eq!(at("/a/b", r#"{"x":[{}],"a":{"b":"\u00e4\n"}}"#), text("ä\n"));
        assert_eq!(at("/1/b", r#"[0,{"b":true}]"#), text("true"));
        assert_eq!(at("/a~1b", r#"{"a/b":"x"}"#), text("x"));
        assert_eq!(at("/a/b", r#"{"a":5}"#), Found::Absent);
        assert_eq!(at("/a", r#"{"a":null}"#), Found::Absent);
        assert_eq!(at("/a", r#"{"a":[1]}"#), Found::Compound("[1]"));
        assert_eq!(at("/a", r#"{"a":{"$serde_json::private::Number":"7"}}"#), Found::Compound(r#"{"$serde_json::private::Number":"7"}"#));
    }

    #[test]
    fn a_key_that_occurs_twice_makes_what_is_below_it_unreadable() {
        assert_eq!(at("/a", r#"{"a":1,"a":1}"#), Found::Unreadable);
        assert_eq!(at("/a/b", r#"{"a":{"b":1},"a":3}"#), Found::Unreadable);
        assert_eq!(at("/a", r#"{"a":1,"c":1,"c":2}"#), text("1"));
        assert_eq!(at("/a", r#"{"a":"\ud800"}"#), Found::Unreadable);
    }

    #[test]
    fn a_star_gives_one_value_for_each_element_even_where_it_is_absent() {
        let mut pointers = Pointers::new();
        let slot = pointers.slot("/v/*/c").unwrap();
        let values = pointers.read(br#"{"v":[{"c":"x"},{},7,{"c":[1]}]}"#).unwrap();
        assert_eq!(values.every(slot).unwrap(), [text("x"), Found::Absent, Found::Absent, Found::Compound("[1]")]);
        let many = format!(r#"{{"v":[{}1]}}"#, "1,".repeat(ITEMS_MAX));
        assert!(pointers.read(many.as_bytes()).is_err());
        let twice = pointers.read(br#"{"v":[{"c":"x"}],"v":[]}"#).unwrap();
        assert!(twice.every(slot).is_err());
    }

    #[test]
    fn a_pointer_and_one_below_it_are_both_read() {
        let mut pointers = Pointers::new();
        let (outer, inner) = (pointers.slot("/a").unwrap(), pointers.slot("/a/b").unwrap());
        let values = pointers.read(br#"{"a":{"b":7}}"#).unwrap();
        assert_eq!((values.one(outer), values.one(inner)), (Found::Compound(r#"{"b":7}"#), text("7")));
    }

    #[test]
    fn depth_size_and_what_is_no_json_are_refused() {
        let pointers = Pointers::new();
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(pointers.read(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert!(pointers.read(nested(JSON_DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(pointers.read(format!("[{}1]", "1,".repeat(JSON_VALUES_MAX)).as_bytes()).is_err());
        for bad in ["", "{", "{} x", "\u{feff}{}", "{'a':1}", "NaN"] {
            assert!(pointers.read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
