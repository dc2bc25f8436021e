//! The tags of a signature: what stands beside it, as names and values. A name may occur several times.

use smallvec::SmallVec;

/// Tags that need no memory of their own.
const USUALLY: usize = 4;

/// Names and values, in one piece of memory, since they are made anew for every request.
#[derive(Debug, Clone, Default)]
pub(super) struct Tags {
    /// All of them, one behind the other.
    text: String,
    /// Where each name and its value end.
    ends: SmallVec<[(usize, usize); USUALLY]>,
}

impl Tags {
    /// No tags.
    pub(super) const NONE: &Self = &Self { text: String::new(), ends: SmallVec::new_const() };

    /// Makes room for so many bytes of names and values.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.text.reserve(bytes);
    }

    pub(super) fn push(&mut self, name: &str, value: &str) {
        self.text.push_str(name);
        let name = self.text.len();
        self.text.push_str(value);
        self.ends.push((name, self.text.len()));
    }

    /// All of them, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut begin = 0;
        self.ends.iter().map(move |(name, value)| {
            let one = (self.text.get(begin..*name).unwrap_or_default(), self.text.get(*name..*value).unwrap_or_default());
            begin = *value;
            one
        })
    }

    /// The values of one name.
    pub(super) fn values<'t>(&'t self, name: &str) -> impl Iterator<Item = &'t str> {
        self.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Without those of this name.
    pub(super) fn without(&self, name: &str) -> Self {
        let mut left = Self::default();
        self.iter().filter(|(known, _)| *known != name).for_each(|(known, value)| left.push(known, value));
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_come_out_as_they_went_in() {
        let pairs = [("t", "1"), ("", ""), ("v1", "ä"), ("v1", ""), ("", "x"), ("v2", "yz"), ("t", "")];
        let mut tags = Tags::default();
        pairs.iter().for_each(|(name, value)| tags.push(name, value));
        assert_eq!(tags.iter().collect::<Vec<_>>(), pairs);
        assert_eq!(tags.values("v1").collect::<Vec<_>>(), ["ä", ""]);
        assert_eq!(tags.without("v1").iter().collect::<Vec<_>>(), [("t", "1"), ("", ""), ("", "x"), ("v2", "yz"), ("t", "")]);
        assert_eq!(Tags::NONE.iter().count(), 0);
    }
}
