//! Fields of a query or of an `application/x-www-form-urlencoded` body.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::limits::FIELDS_MAX;

/// Decoded names and values in their order.
pub(super) struct Fields<'a>(Vec<Field<'a>>);

type Field<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// More fields than are read, or one name with different values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ambiguous;

impl<'a> Fields<'a> {
    /// Splits and decodes. A body that is no form at all comes out as odd fields, never as none, so whatever
    /// signs "all fields" still signs all of it.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Ambiguous> {
        let parts = || bytes.split(|byte| *byte == b'&').filter(|part| !part.is_empty());
        if parts().count() > FIELDS_MAX {
            return Err(Ambiguous);
        }
        let field = |part: &'a [u8]| match part.iter().position(|byte| *byte == b'=') {
            Some(at) => (decode(&part[..at]), decode(&part[at + 1..])),
            None => (decode(part), Cow::Borrowed(&[][..])),
        };
        Ok(Self(parts().map(field).collect()))
    }

    /// The value of the field of this name. Two with different values are ambiguous.
    pub(super) fn get(&self, name: &[u8]) -> Result<Option<Cow<'a, [u8]>>, Ambiguous> {
        let mut values = self.0.iter().filter(|(known, _)| **known == *name).map(|(_, value)| value);
        let first = values.next();
        if values.any(|other| Some(other) != first) { Err(Ambiguous) } else { Ok(first.cloned()) }
    }

    /// Names and values in order of names (then values), each pair once.
    pub(super) fn sorted(&self) -> Vec<u8> {
        let mut pairs: Vec<_> = self.0.iter().collect();
        pairs.sort();
        pairs.dedup();
        pairs.iter().flat_map(|(name, value)| name.iter().chain(value.iter())).copied().collect()
    }

    /// Names and values in order of names (then values), with this between the two and that between the pairs.
    pub(super) fn joined(&self, between: &str, after: &str) -> Vec<u8> {
        let mut pairs: Vec<_> = self.0.iter().collect();
        pairs.sort();
        let joined: Vec<Vec<u8>> = pairs.iter().map(|(name, value)| [name, between.as_bytes(), value].concat()).collect();
        joined.join(after.as_bytes())
    }

    /// The values in order of their names, case-insensitive, without those of one name.
    pub(super) fn values_sorted(&self, except: &[u8]) -> Vec<u8> {
        let mut pairs: Vec<_> = self.0.iter().filter(|(name, _)| **name != *except).collect();
        pairs.sort_by_cached_key(|(name, _)| name.to_ascii_lowercase());
        pairs.iter().flat_map(|(_, value)| value.iter()).copied().collect()
    }
}

fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'+') {
        return percent_decode(text).into();
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_decoded_and_a_name_with_two_values_is_ambiguous() {
        let fields = Fields::parse(b"a=1+2%2B&b&c==&a=1%202%2b&d=1&d=2").unwrap();
        assert_eq!(fields.get(b"a"), Ok(Some(Cow::Borrowed(&b"1 2+"[..]))));
        assert_eq!(fields.get(b"b"), Ok(Some(Cow::Borrowed(&b""[..]))));
        assert_eq!(fields.get(b"c"), Ok(Some(Cow::Borrowed(&b"="[..]))));
        assert_eq!(fields.get(b"d"), Err(Ambiguous));
        assert_eq!(fields.get(b"e"), Ok(None));
    }

    #[test]
    fn sorting_is_by_name_and_bounded() {
        let fields = Fields::parse(b"b=2&A=1&mac=x&a=0&b=2").unwrap();
        assert_eq!(fields.sorted(), b"A1a0b2macx");
        assert_eq!(fields.values_sorted(b"mac"), b"1022");
        assert_eq!(fields.joined("=", "&"), b"A=1&a=0&b=2&b=2&mac=x");
        assert_eq!(Fields::parse(b"").unwrap().joined("", ""), b"");
        assert!(Fields::parse("a=1&".repeat(FIELDS_MAX).as_bytes()).is_ok());
        assert!(Fields::parse("a=1&".repeat(FIELDS_MAX + 1).as_bytes()).is_err());
    }
}
