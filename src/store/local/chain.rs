//! Reading the journal in its order: which batches count, where each segment ends, and whether what is bad is
//! a torn tail or damage (rules 2, 3, 4, 6).
//!
//! It decides from bytes alone, so a start, a rebuild of the index and `kurier store check` agree.

use super::batch::{self, BatchHeader};
use super::footer::FooterHeader;
use super::segment::{FIRST, SegmentHeader};

/// What was found at the end of the segments read so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    /// The sequence of the last batch that counts.
    pub(super) sequence: Option<u64>,
    /// Where the last segment's batches end, and where the last of them begins.
    pub(super) end: usize,
    pub(super) last_start: usize,
    /// Batches in the last segment that are no copies.
    pub(super) own: u64,
    /// The last batch, header and payload, whichever segment it is in.
    pub(super) last: Option<(BatchHeader, Vec<u8>)>,
    /// The last segment lacks its last batch: the next one must open with its copy.
    pub(super) missing: bool,
}

/// Damage in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) offset: usize,
    pub(super) what: &'static str,
}

impl Chain {
    /// Reads the next segment. `successor` is the header of the one behind it, if that is in use. Every batch
    /// that counts and was not read before is shown to `visit`.
    pub(super) fn read<E: From<Damage>>(
        &mut self,
        segment: &[u8],
        header: &SegmentHeader,
        successor: Option<&SegmentHeader>,
        mut visit: impl FnMut(&BatchHeader, usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let is_first = self.sequence.is_none();
        let first_sequence = header.active.as_ref().map_or(0, |active| active.first_sequence);
        let named = successor.and_then(|successor| successor.active.as_ref()).and_then(|active| active.predecessor);
        let (mut offset, mut last_start, mut own) = (FIRST, FIRST, 0_u64);
        let mut last = None;
        while named.is_none_or(|named| offset < named.end) {
            let Some((found, payload)) = batch::read(segment, offset, header.nonce) else {
                self.bad(segment, header, offset, named.map(|named| named.last_start))?;
                break;
            };
            if found.is_copy() && own == 0 {
                if self.is_new_copy(&found, is_first).map_err(|what| Damage { offset, what })? {
                    visit(&found, offset, payload)?;
                }
            } else {
                let expected = if own == 0 { first_sequence } else { self.sequence.map_or(first_sequence, |sequence| sequence + 1) };
                let is_next = found.sequence == expected || (found.is_repaired() && found.sequence >= expected);
                if !is_next || self.missing {
                    return Err(Damage { offset, what: "a batch out of sequence" }.into());
                }
                visit(&found, offset, payload)?;
                own += 1;
            }
            self.sequence = Some(found.sequence);
            (last, last_start) = (Some((found, offset)), offset);
            offset += found.size();
        }
        if let Some(named) = named
            && offset > named.end
        {
            return Err(Damage { offset, what: "a batch beyond the end that the next segment names" }.into());
        }
        if let Some((found, at)) = last {
            self.last = Some((found, segment[at..at + batch::HEADER + found.length].to_vec()));
        }
        (self.end, self.last_start, self.own) = (offset, last_start, own);
        Ok(())
    }

    /// Goes past a segment that its footer tells, without reading it.
    pub(super) fn skip(&mut self, footer: &FooterHeader) {
        self.sequence = Some(footer.sequence);
        (self.end, self.last_start, self.missing) = (footer.end, footer.last_start, footer.missing);
        (self.own, self.last) = (1, None);
    }

    /// A copy counts where the batch itself was lost with its unproven sync.
    fn is_new_copy(&mut self, copy: &BatchHeader, is_first: bool) -> Result<bool, &'static str> {
        let missing = std::mem::take(&mut self.missing);
        match self.sequence {
            // The segment before was let go. The batch may have counted only here: what it says is read again,
            // and whatever followed from it comes later.
            None => Ok(is_first),
            Some(_) if is_first => Ok(true),
            Some(sequence) if copy.sequence == sequence => Ok(false),
            Some(sequence) if copy.sequence > sequence && missing => Ok(true),
            Some(_) => Err("a copy of a batch that was never there"),
        }
    }

    /// No batch at `offset`: a torn tail, or damage?
    fn bad(&mut self, segment: &[u8], header: &SegmentHeader, offset: usize, last_start: Option<usize>) -> Result<(), Damage> {
        match last_start {
            Some(last_start) if offset == last_start => {
                self.missing = true;
                Ok(())
            }
            Some(_) => Err(Damage { offset, what: "a batch is unreadable, and the next segment says that it was durable" }),
            None if self.missing => Err(Damage { offset, what: "the copy of the last batch is unreadable, and so is the batch" }),
            None => match batch::later(segment, offset, header.nonce, self.sequence.unwrap_or(0)) {
                Some(_) => Err(Damage { offset, what: "a batch is unreadable, and a later one is there" }),
                None => Ok(()),
            },
        }
    }
}
