//! `check` and `repair`: one walk through the journal, which mends what it finds damaged in memory so that it can
//! go on, and writes what it mended only when repairing.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::findings::{Finding, Findings, Lost};
use super::mend::{Stretch, mend};
use super::{Progress, Watcher};
use crate::model::EventId;
use crate::store::local::batch::{self, BatchHeader};
use crate::store::local::chain::{Chain, Damage};
use crate::store::local::checkpoint;
use crate::store::local::clean::{self, End};
use crate::store::local::disk::{Disk, DiskFile};
use crate::store::local::error::StoreError;
use crate::store::local::format;
use crate::store::local::names::Names;
use crate::store::local::record::{self, Kind};
use crate::store::local::segment::{self, Active, FIRST, Given, PAGE, Predecessor, SegmentHeader};

/// Most stretches that are mended in one segment: each costs a walk through it.
const STRETCHES_MAX: usize = 10_000;

/// Why a walk stopped.
enum Stop {
    Damage(Damage),
    Record(usize),
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

struct Found<F> {
    number: u64,
    /// None: it stands in for a missing one.
    file: Option<Arc<F>>,
    header: SegmentHeader,
    /// The header has to be written.
    is_new: bool,
}

/// Reads everything and says what is damaged, without changing anything.
///
/// # Errors
/// The store is in use, is none, or the disk said no.
pub async fn check<D: Disk>(disk: &D, path: &Path, watcher: Watcher<'_>) -> Result<Findings, StoreError> {
    Walk::new(disk, path, false).run(watcher).await
}

/// Contains what is damaged, so that the store opens again, and says what is lost to it. Files that can be made
/// anew are removed.
///
/// # Errors
/// As `check`.
pub async fn repair<D: Disk>(disk: &D, path: &Path, watcher: Watcher<'_>) -> Result<Findings, StoreError> {
    Walk::new(disk, path, true).run(watcher).await
}

struct Walk<'a, D: Disk> {
    disk: &'a D,
    path: &'a Path,
    writes: bool,
    findings: Findings,
    names: Names,
    /// Segments of which nothing can be read.
    unreadable: Vec<u64>,
}

impl<'a, D: Disk> Walk<'a, D> {
    fn new(disk: &'a D, path: &'a Path, writes: bool) -> Self {
        Self { disk, path, writes, findings: Findings::default(), names: Names::default(), unreadable: Vec::new() }
    }
}

/// Accept sequences that damage took.
#[derive(Default)]
struct Gaps {
    newest: u64,
    /// A gap that the next event will close.
    open: Option<u64>,
    closed: Vec<(u64, u64)>,
}

impl Gaps {
    fn event(&mut self, sequence: u64) {
        if let Some(after) = self.open.take() {
            self.closed.push((after, sequence));
        }
        self.newest = self.newest.max(sequence);
    }

    fn covers(&self, sequence: u64) -> bool {
        self.open.is_some_and(|after| sequence > after)
            || self.closed.iter().any(|(after, before)| (after + 1..*before).contains(&sequence))
    }
}

impl<D: Disk> Walk<'_, D> {
    fn io(&self, error: io::Error) -> StoreError {
        StoreError::io(self.path, error)
    }

    async fn run(mut self, watcher: Watcher<'_>) -> Result<Findings, StoreError> {
        let (lock, store) = format::lock(self.disk, self.path).await?;
        let mut found = self.find(store).await?;
        self.bridge(&mut found, store).await?;
        let mut cleared = self.writes && self.set_aside(&mut found).await?;
        let (mut chain, mut gaps) = (Chain::default(), Gaps::default());
        let used = found.iter().filter(|segment| segment.header.active.is_some()).count();
        let mut done = 0;
        let mut total = 0;
        for segment in &found[..used] {
            total += self.length(segment).await?;
        }
        for at in 0..used {
            let mut buffer = self.bytes_of(&found[at]).await?;
            let length = buffer.len() as u64;
            let successor = found.get(at + 1).map(|next| next.header.clone()).filter(|header| header.active.is_some());
            let may_miss_last = match found.get(at + 1) {
                Some(next) => self.copied(next).await?.is_some(),
                None => true,
            };
            let walk = (successor.as_ref(), may_miss_last);
            let is_changed = self.segment(&mut chain, &found[at], walk, &mut buffer, &mut gaps)?;
            if self.writes && (is_changed || found[at].is_new) {
                // First of all: if this is interrupted, the next run finds no damage any more, and what was made of
                // the damaged bytes would stay believed.
                if !cleared {
                    self.clear_caches().await?;
                    cleared = true;
                }
                self.write(&found[at], buffer).await?;
            }
            self.findings.segments += 1;
            done += length;
            watcher(Progress { done, total });
        }
        if let Some(store) = store {
            self.newest(store, &found, chain.sequence.unwrap_or(0)).await?;
        }
        if self.writes && !self.findings.damage.is_empty() {
            if !cleared {
                self.clear_caches().await?;
            }
            if store.is_none()
                && let Some(segment) = found.first()
            {
                lock.write_at(0, &format::encode(segment.header.store, segment.header.created_at)).await.map_err(|error| self.io(error))?;
                lock.sync_data().await.map_err(|error| self.io(error))?;
            }
        }
        Ok(self.findings)
    }

    /// Opens the segments in their order; headers that can't be read are made of what follows them.
    async fn find(&mut self, store: Option<u128>) -> Result<Vec<Found<D::File>>, StoreError> {
        let journal = self.path.join("journal");
        let mut found: Vec<Found<D::File>> = Vec::new();
        if store.is_none() {
            let finding = Finding { file: "format".into(), offset: 0, what: "the format file can't be read".to_owned(), lost: Vec::new() };
            self.findings.damage.push(finding);
        }
        for name in self.disk.list(&journal).await.map_err(|error| self.io(error))? {
            let Some(number) = segment::number(&name) else { continue };
            let file = self.disk.open(&journal.join(&name)).await.map_err(|error| self.io(error))?;
            let length = usize::try_from(file.length().await.map_err(|error| self.io(error))?).unwrap_or(usize::MAX);
            let mut bytes = vec![0; length.min(PAGE)];
            file.read_at(0, &mut bytes).await.map_err(|error| self.io(error))?;
            let read = SegmentHeader::decode(&bytes).ok().filter(|header| header.number == number);
            let read = read.filter(|header| store.is_none_or(|store| header.store == store));
            let (header, is_new) = match read {
                Some(header) => (header, false),
                None => {
                    self.findings.add(&name, 0, "the segment's header can't be read", Vec::new());
                    bytes.resize(length.min(segment::BYTES_MAX), 0);
                    file.read_at(0, &mut bytes).await.map_err(|error| self.io(error))?;
                    let store = store.or_else(|| found.first().map(|first| first.header.store)).unwrap_or_default();
                    let Some(header) = header_from_batches(&bytes, number, store) else {
                        self.findings.add(&name, FIRST, "nothing in the segment can be read", vec![Lost::Segment { number }]);
                        self.unreadable.push(number);
                        continue;
                    };
                    (header, true)
                }
            };
            found.push(Found { number, file: Some(Arc::new(file)), header, is_new });
        }
        if found.is_empty() {
            return Err(StoreError::damaged(self.path, "its journal has no segment that can be read: restore a backup".to_owned()));
        }
        Ok(found)
    }

    /// Links segments that don't name each other, and stands in for missing ones.
    async fn bridge(&mut self, found: &mut Vec<Found<D::File>>, store: Option<u128>) -> Result<(), StoreError> {
        let mut at = 1;
        while at < found.len() {
            let (before, header) = (&found[at - 1].header, &found[at].header);
            let (nonce, number) = (before.nonce, before.number);
            let Some(active) = header.active.clone() else { break };
            if header.number == number + 1 && active.predecessor.is_some_and(|predecessor| predecessor.nonce == nonce) {
                at += 1;
                continue;
            }
            let name = segment::file_name(found[at].number);
            let copied = self.copied(&found[at]).await?;
            if header.number == number + 1 {
                if !found[at].is_new {
                    self.findings.add(&name, 0, "the segment follows another one than the one before it", Vec::new());
                }
                let end = self.end_of(&found[at - 1], copied).await?;
                let active = Active { predecessor: Some(Predecessor { nonce, end, last_start: end }), ..active };
                (found[at].header.active, found[at].is_new) = (Some(active), true);
                at += 1;
                continue;
            }
            let missing = number + 1;
            self.findings.add(&segment::file_name(missing), 0, "the segment is missing", vec![Lost::Segment { number: missing }]);
            let end = self.end_of(&found[at - 1], None).await?;
            let stand_in = SegmentHeader {
                number: missing,
                nonce: rand::random(),
                store: store.unwrap_or(found[at].header.store),
                created_at: found[at].header.created_at,
                active: Some(Active { predecessor: Some(Predecessor { nonce, end, last_start: end }), ..active.clone() }),
            };
            // A copy is let in only where the batch that it copies is missing.
            let end = if copied.is_some() { FIRST + batch::size(0) } else { FIRST };
            let follows = Predecessor { nonce: stand_in.nonce, end, last_start: FIRST };
            if header_is_next(&found[at], missing) {
                (found[at].header.active, found[at].is_new) = (Some(Active { predecessor: Some(follows), ..active }), true);
            }
            found.insert(at, Found { number: missing, file: None, header: stand_in, is_new: true });
            at += 1;
        }
        Ok(())
    }

    /// Sets aside what nothing can be read of and nothing stands in for: the row of segments begins behind it or ends before
    /// it, and what was prepared for its end is no part of it any more. Whether there was any.
    async fn set_aside(&self, found: &mut Vec<Found<D::File>>) -> Result<bool, StoreError> {
        let left: Vec<u64> =
            self.unreadable.iter().copied().filter(|number| !found.iter().any(|segment| segment.number == *number)).collect();
        if left.is_empty() {
            return Ok(false);
        }
        let Some(newest) = found.iter().rfind(|segment| segment.header.active.is_some()).map(|segment| segment.number) else {
            return Err(StoreError::damaged(self.path, "its journal has no segment that can be read: restore a backup".to_owned()));
        };
        self.clear_caches().await?;
        let journal = self.path.join("journal");
        for number in &left {
            let name = segment::file_name(*number);
            let aside = journal.join(format!("{name}.damaged"));
            self.disk.rename(&journal.join(name), &aside).await.map_err(|error| self.io(error))?;
        }
        if left.iter().any(|number| *number > newest) {
            for prepared in found.extract_if(.., |segment| segment.header.active.is_none()) {
                self.disk.remove(&journal.join(segment::file_name(prepared.number))).await.map_err(|error| self.io(error))?;
            }
        }
        self.disk.sync_dir(&journal).await.map_err(|error| self.io(error))?;
        Ok(true)
    }

    /// Says where `clean` or `checkpoint` tell of newer commits than there are: nothing in the journal itself does.
    async fn newest(&mut self, store: u128, found: &[Found<D::File>], sequence: u64) -> Result<(), StoreError> {
        let clean = clean::read(self.disk, self.path, store).await.map_err(|error| self.io(error))?;
        let mark = checkpoint::peek(self.disk, self.path, store).await.map_err(|error| self.io(error))?;
        let newest = found.iter().rfind(|segment| segment.header.active.is_some()).map(|segment| &segment.header);
        let is_behind = |end: End| {
            let is_there = found.iter().any(|segment| segment.header.nonce == end.nonce);
            !is_there || newest.is_some_and(|newest| newest.nonce == end.nonce && end.sequence > sequence)
        };
        let stops_short = clean.is_some_and(is_behind).then_some("clean");
        let begins_later = mark.is_some_and(|mark| newest.is_some_and(|newest| newest.number < mark.segment)).then_some("checkpoint");
        for file in [stops_short, begins_later].into_iter().flatten() {
            let what = "it tells of newer commits than the journal holds: the newest segments, or their ends, are missing".to_owned();
            self.findings.damage.push(Finding { file: file.into(), offset: 0, what, lost: Vec::new() });
        }
        Ok(())
    }

    async fn length(&self, segment: &Found<D::File>) -> Result<u64, StoreError> {
        match &segment.file {
            Some(file) => file.length().await.map_err(|error| self.io(error)),
            None => Ok(2 * PAGE as u64),
        }
    }

    /// All bytes of a segment, under the header that counts.
    async fn bytes_of(&self, segment: &Found<D::File>) -> Result<Vec<u8>, StoreError> {
        let length = usize::try_from(self.length(segment).await?).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.clamp(2 * PAGE, segment::BYTES_MAX)];
        if let Some(file) = &segment.file {
            file.read_at(0, &mut bytes[..length.min(segment::BYTES_MAX)]).await.map_err(|error| self.io(error))?;
        }
        let page = segment.header.encode();
        bytes[..page.len()].copy_from_slice(&page);
        Ok(bytes)
    }

    async fn write(&self, segment: &Found<D::File>, bytes: Vec<u8>) -> Result<(), StoreError> {
        let path = self.path.join("journal").join(segment::file_name(segment.number));
        let file = self.disk.create(&path).await.map_err(|error| self.io(error))?;
        file.write_at(0, &bytes).await.map_err(|error| self.io(error))?;
        file.sync_data().await.map_err(|error| self.io(error))?;
        self.disk.sync_dir(&self.path.join("journal")).await.map_err(|error| self.io(error))
    }

    /// The sequence of the copy that a segment opens with.
    async fn copied(&self, segment: &Found<D::File>) -> Result<Option<u64>, StoreError> {
        let bytes = self.bytes_of(segment).await?;
        let first = batch::read(&bytes, FIRST, segment.header.nonce);
        Ok(first.filter(|(header, _)| header.is_copy()).map(|(header, _)| header.sequence))
    }

    /// Where the last sound batch of a segment ends, or the one with this sequence: what follows it is void.
    async fn end_of(&self, segment: &Found<D::File>, last: Option<u64>) -> Result<usize, StoreError> {
        let bytes = self.bytes_of(segment).await?;
        let nonce = segment.header.nonce;
        let mut end = FIRST;
        loop {
            let next =
                if batch::read(&bytes, end, nonce).is_some() { Some(end) } else { batch::later(&bytes, batch::next_start(end), nonce, 0) };
            let Some((at, header)) = next.and_then(|at| Some((at, batch::read(&bytes, at, nonce)?.0))) else { return Ok(end) };
            end = at + header.size();
            if last.is_some_and(|last| header.sequence >= last) {
                return Ok(end);
            }
        }
    }

    /// Walks through one segment, mending until the walk comes to its end. Whether anything was mended. The last
    /// batch may be missing only where the next segment opens with its copy.
    fn segment(
        &mut self,
        chain: &mut Chain,
        found: &Found<D::File>,
        (successor, may_miss_last): (Option<&SegmentHeader>, bool),
        bytes: &mut [u8],
        gaps: &mut Gaps,
    ) -> Result<bool, StoreError> {
        let name = segment::file_name(found.number);
        let mut is_changed = false;
        for _ in 0..STRETCHES_MAX {
            let mut tried = chain.clone();
            let (mut batches, mut records) = (0, 0);
            let mut seen = Vec::new();
            let walked = tried.read(bytes, &found.header, successor, |header, offset, payload| {
                batches += 1;
                records += u64::from(header.count);
                self.batch(header, offset, payload, &mut seen)
            });
            let stop = match walked {
                Ok(()) if tried.missing && !may_miss_last => {
                    Stop::Damage(Damage { offset: tried.end, what: "the last batch is unreadable, and the next segment has no copy of it" })
                }
                Ok(()) => {
                    for (kind, sequence, id) in seen {
                        match kind {
                            Kind::Event => gaps.event(sequence),
                            Kind::Settlement | Kind::Replay | Kind::Acknowledgement if gaps.covers(sequence) => {
                                self.findings.missing.insert(id);
                            }
                            Kind::Settlement
                            | Kind::Replay
                            | Kind::Acknowledgement
                            | Kind::Repeat
                            | Kind::State
                            | Kind::Live
                            | Kind::Moved
                            | Kind::Key => {}
                        }
                    }
                    *chain = tried;
                    self.findings.batches += batches;
                    self.findings.records += records;
                    return Ok(is_changed);
                }
                Err(stop) => stop,
            };
            let (offset, what) = match stop {
                Stop::Damage(damage) => (damage.offset, damage.what),
                Stop::Record(offset) => (offset, "a record of a sound batch can't be read: a newer version may have written it"),
            };
            let stretch = stretch(bytes, &found.header, successor, offset, tried.sequence.or(chain.sequence));
            let lost = mend(bytes, found.header.nonce, &stretch, &mut self.names);
            self.findings.add(&name, offset, what, lost);
            let newest = seen.iter().filter(|(kind, ..)| *kind == Kind::Event).map(|(_, sequence, _)| *sequence).max();
            gaps.open.get_or_insert(newest.unwrap_or(gaps.newest).max(gaps.newest));
            is_changed = true;
        }
        Err(StoreError::damaged(self.path, format!("`{name}` has more damage than can be mended: restore a backup")))
    }

    /// Reads a batch's records.
    fn batch(&mut self, _header: &BatchHeader, offset: usize, payload: &[u8], seen: &mut Vec<(Kind, u64, EventId)>) -> Result<(), Stop> {
        for found in batch::records(payload) {
            let (_, frame, bytes) = found.map_err(|_malformed| Stop::Record(offset))?;
            let malformed = |_malformed| Stop::Record(offset);
            match frame.kind {
                Kind::Event => {
                    // A start reads less of it; what is read when it is delivered is looked at here.
                    record::event(bytes, &frame, Bytes::new(), &mut self.names).map_err(malformed)?;
                    let head = record::event_head(bytes, &frame, &mut self.names).map_err(malformed)?;
                    seen.push((Kind::Event, head.sequence, head.id));
                }
                Kind::Settlement => {
                    let settled = record::decode_settlement(bytes, &frame).map_err(malformed)?;
                    seen.push((Kind::Settlement, settled.sequence, settled.delivery.event));
                }
                Kind::Replay | Kind::Acknowledgement => {
                    let replay = record::decode_replay(bytes, &frame, &mut self.names).map_err(malformed)?;
                    seen.push((Kind::Replay, replay.sequence, replay.event));
                }
                Kind::Live => drop(record::decode_live(bytes, &frame, &mut self.names).map_err(malformed)?),
                Kind::Key => drop(record::decode_key(bytes, &frame).map_err(malformed)?),
                Kind::Moved => drop(record::decode_moved(bytes, &frame, &mut self.names).map_err(malformed)?),
                Kind::Repeat => drop(record::decode_repeat(bytes, &frame).map_err(malformed)?),
                Kind::State => drop(record::decode_state(bytes, &frame).map_err(malformed)?),
            }
        }
        Ok(())
    }

    /// Removes what a start makes anew, because places have moved.
    async fn clear_caches(&self) -> Result<(), StoreError> {
        format::clear_caches(self.disk, self.path).await.map_err(|error| self.io(error))
    }
}

fn header_is_next<F>(found: &Found<F>, missing: u64) -> bool {
    found.number == missing + 1
}

/// How far the damage at `offset` goes, and which sequence stands for it.
fn stretch(bytes: &[u8], header: &SegmentHeader, successor: Option<&SegmentHeader>, offset: usize, before: Option<u64>) -> Stretch {
    let named = successor.and_then(|successor| successor.active.as_ref()).and_then(|active| active.predecessor);
    let limit = named.map_or(bytes.len(), |named| named.end.min(bytes.len()));
    let next = batch::later(&bytes[..limit], batch::next_start(offset), header.nonce, 0);
    let first = header.active.as_ref().map_or(0, |active| active.first_sequence);
    let after = next.and_then(|at| batch::read(bytes, at, header.nonce)).map(|(header, _)| header);
    let expected = before.map_or(first, |before| (before + 1).max(first));
    let (sequence, at) = match &after {
        Some(after) => (after.sequence.saturating_sub(1).max(expected), after.committed_at),
        None => (expected, header.created_at),
    };
    // Without anything behind it a stretch takes as little as it can: what lies behind was never used.
    let to = next.unwrap_or(if named.is_some() { limit } else { (offset + batch::size(0)).min(bytes.len()) });
    Stretch { from: offset, to, sequence, at }
}

/// The header of a segment whose own can't be read, as far as its batches say.
fn header_from_batches(bytes: &[u8], number: u64, store: u128) -> Option<SegmentHeader> {
    let nonce_at = |at: usize| bytes.get(at + 8..at + 24).and_then(|nonce| nonce.try_into().ok()).map(u128::from_le_bytes);
    let mut starts = (FIRST..bytes.len().saturating_sub(batch::HEADER)).step_by(batch::ALIGN);
    let (nonce, first) = starts.find_map(|at| nonce_at(at).and_then(|nonce| Some((nonce, batch::header(&bytes[at..], nonce)?))))?;
    // The first own batch says its sequence; behind a copy it need not be the next one.
    let behind = starts.find_map(|at| batch::header(&bytes[at..], nonce));
    let first_sequence = match behind {
        Some(behind) if first.is_copy() => behind.sequence,
        _ => first.sequence + u64::from(first.is_copy()),
    };
    let active = Active { first_sequence, predecessor: None, given: Given::default() };
    Some(SegmentHeader { number, nonce, store, created_at: first.committed_at, active: Some(active) })
}
