//! Reading the journal in its order: which batches count, where each segment ends, and whether what is bad is
//! a torn tail or damage (rules 2, 3, 4, 6).
//!
//! It decides from bytes alone, so a start, a rebuild of the index and `kurier store check` agree.

use std::io;
use std::ops::Range;

use super::batch::{self, BatchHeader};
use super::disk::DiskFile;
use super::footer::FooterHeader;
use super::segment::{self, FIRST, Predecessor, SegmentHeader};

/// Bytes of a segment that are read at a time; a larger batch is read whole.
const WINDOW: usize = 1024 * 1024;

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
    /// Reads the next segment, whole in memory. `successor` is the header of the one behind it, if that is in use.
    /// Every batch that counts and was not read before is shown to `visit`.
    pub(super) fn read<E: From<Damage>>(
        &mut self,
        segment: &[u8],
        header: &SegmentHeader,
        successor: Option<&SegmentHeader>,
        mut visit: impl FnMut(&BatchHeader, usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reading = Reading::new(self, header, successor, segment.len());
        while let Step::Batch(batch, offset, payload) = reading.step(segment, 0)? {
            visit(&batch, offset, payload)?;
        }
        reading.close();
        Ok(())
    }

    /// As [`Chain::read`], from the file, a window of it at a time.
    pub(super) async fn read_file<F: DiskFile, E: From<Damage> + From<io::Error>>(
        &mut self,
        file: &F,
        header: &SegmentHeader,
        successor: Option<&SegmentHeader>,
        mut visit: impl FnMut(&BatchHeader, usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let length = usize::try_from(file.length().await?).unwrap_or(usize::MAX).min(segment::BYTES_MAX);
        let mut reading = Reading::new(self, header, successor, length);
        let (mut window, mut base) = (Vec::new(), 0);
        loop {
            match reading.step(&window, base)? {
                Step::Batch(batch, offset, payload) => visit(&batch, offset, payload)?,
                Step::Want(want) => {
                    base = want.start;
                    window.resize(want.len().max(WINDOW).min(length - base), 0);
                    file.read_at(base as u64, &mut window).await?;
                }
                Step::End => break,
            }
        }
        reading.close();
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
}

/// Reading one segment, step by step.
struct Reading<'a> {
    chain: &'a mut Chain,
    nonce: u128,
    /// Bytes of the segment.
    length: usize,
    first_sequence: u64,
    /// What the successor says.
    named: Option<Predecessor>,
    is_first: bool,
    offset: usize,
    last_start: usize,
    own: u64,
    last: Option<(BatchHeader, Vec<u8>)>,
    /// What is at `offset` is no batch: where a later one is looked for next.
    looking: Option<usize>,
}

/// What comes next.
enum Step<'w> {
    /// A batch that counts: its header, where it is, its payload.
    Batch(BatchHeader, usize, &'w [u8]),
    /// These bytes of the segment.
    Want(Range<usize>),
    /// Nothing more.
    End,
}

impl<'a> Reading<'a> {
    fn new(chain: &'a mut Chain, header: &SegmentHeader, successor: Option<&SegmentHeader>, length: usize) -> Self {
        let first_sequence = header.active.as_ref().map_or(0, |active| active.first_sequence);
        let named = successor.and_then(|successor| successor.active.as_ref()).and_then(|active| active.predecessor);
        let (is_first, nonce) = (chain.sequence.is_none(), header.nonce);
        let (offset, last_start) = (FIRST, FIRST);
        Self { chain, nonce, length, first_sequence, named, is_first, offset, last_start, own: 0, last: None, looking: None }
    }

    /// `window` holds the segment's bytes from `base` on.
    fn step<'w>(&mut self, window: &'w [u8], base: usize) -> Result<Step<'w>, Damage> {
        loop {
            if let Some(at) = self.looking {
                return self.look(window, base, at);
            }
            if let Some(named) = self.named.filter(|named| self.offset >= named.end) {
                let is_end = self.offset == named.end;
                return if is_end { Ok(Step::End) } else { Err(self.damage("a batch beyond the end that the next segment names")) };
            }
            let offset = self.offset;
            let bytes = offset.checked_sub(base).and_then(|at| window.get(at..)).unwrap_or_default();
            let header = batch::header(bytes, self.nonce);
            let needs = batch::HEADER.saturating_add(header.map_or(0, |header| header.length));
            if bytes.len() < needs && offset.saturating_add(needs) <= self.length && base.saturating_add(window.len()) < self.length {
                return Ok(Step::Want(offset..offset + needs));
            }
            let Some((found, payload)) = batch::read(bytes, 0, self.nonce) else {
                if self.is_over()? {
                    return Ok(Step::End);
                }
                continue;
            };
            if self.take(&found, &bytes[..batch::HEADER + payload.len()])? {
                return Ok(Step::Batch(found, offset, payload));
            }
        }
    }

    /// A sound batch at `offset`: whether it counts and was not read before.
    fn take(&mut self, found: &BatchHeader, bytes: &[u8]) -> Result<bool, Damage> {
        let is_shown = if found.is_copy() && self.own == 0 {
            let is_first = self.is_first;
            self.chain.is_new_copy(found, is_first).map_err(|what| self.damage(what))?
        } else {
            let after = |sequence: u64| sequence.saturating_add(1);
            let expected = if self.own == 0 { self.first_sequence } else { self.chain.sequence.map_or(self.first_sequence, after) };
            let is_next = found.sequence == expected || (found.is_repaired() && found.sequence >= expected);
            if !is_next || self.chain.missing {
                return Err(self.damage("a batch out of sequence"));
            }
            self.own += 1;
            true
        };
        self.chain.sequence = Some(found.sequence);
        let (header, kept) = self.last.get_or_insert_with(|| (*found, Vec::new()));
        *header = *found;
        kept.clear();
        kept.extend_from_slice(bytes);
        self.last_start = self.offset;
        self.offset += found.size();
        Ok(is_shown)
    }

    /// No batch at `offset`: a torn tail ends it here, and of what may be damage more must be known.
    fn is_over(&mut self) -> Result<bool, Damage> {
        match self.named {
            Some(named) if self.offset == named.last_start => {
                self.chain.missing = true;
                Ok(true)
            }
            Some(_) => Err(self.damage("a batch is unreadable, and the next segment says that it was durable")),
            None if self.chain.missing => Err(self.damage("the copy of the last batch is unreadable, and so is the batch")),
            None => {
                self.looking = Some(batch::next_start(self.offset));
                Ok(false)
            }
        }
    }

    /// Looks for a batch behind the one that is unreadable.
    fn look<'w>(&mut self, window: &'w [u8], base: usize, at: usize) -> Result<Step<'w>, Damage> {
        let bytes = at.checked_sub(base).and_then(|at| window.get(at..)).unwrap_or_default();
        if batch::later(bytes, 0, self.nonce, self.chain.sequence.unwrap_or(0)).is_some() {
            return Err(self.damage("a batch is unreadable, and a later one is there"));
        }
        let looked = (bytes.len() + 1).saturating_sub(batch::HEADER).next_multiple_of(batch::ALIGN);
        let next = at.saturating_add(looked);
        self.looking = Some(next);
        if next.saturating_add(batch::HEADER) > self.length {
            return Ok(Step::End);
        }
        Ok(Step::Want(next..next + batch::HEADER))
    }

    fn damage(&self, what: &'static str) -> Damage {
        Damage { offset: self.offset, what }
    }

    fn close(self) {
        if self.last.is_some() {
            self.chain.last = self.last;
        }
        (self.chain.end, self.chain.last_start, self.chain.own) = (self.offset, self.last_start, self.own);
    }
}
