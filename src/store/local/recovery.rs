//! What a start does: load the checkpoint, read what follows it, and go on in a fresh segment.
//!
//! Of a sealed segment the footer is read, and made if there is none; the last segment is read itself. A start
//! never appends to an old segment. The fresh one opens with a copy of the last batch, the only one whose sync is
//! not proven, and before that is synced nothing that was read is delivered or answered (rule 4).

mod find;
mod replay;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::batch::{self, BatchHeader};
use super::chain::{Chain, Damage};
use super::checkpoint;
use super::clean::{self, End};
use super::committer::{Current, Last, Ledger};
use super::disk::{Disk, DiskFile};
use super::error::StoreError;
use super::footer::{self, FooterHeader, Footing};
use super::keys::Keys;
use super::librarian::paging;
use super::segment::{self, Active, FIRST, PAGE, Predecessor, SegmentHeader};
use super::shared::{Shared, Shelved};
use super::supply;
use super::table::{Table, Usage};
use crate::model::Timestamp;

use find::{Found, find, unready};
use replay::{Problem, Replayer};

/// Segments between two lines of progress.
const TELL_EVERY: usize = 16;

/// What the helpers go on with.
pub(super) struct Recovered<F> {
    pub(super) current: Current<F>,
    pub(super) last: Last,
    pub(super) ledger: Ledger,
    /// Behind the last segment that has a footer.
    pub(super) sealed: Chain,
    /// The segment of the checkpoint that was loaded.
    pub(super) checkpoint: u64,
    /// Where the journal ended.
    pub(super) end: End,
    /// Where it ended by a clean stop, if the last stop was one.
    pub(super) clean: Option<End>,
}

/// Reads everything and opens a fresh segment.
pub(super) async fn recover<D: Disk>(shared: &Arc<Shared<D>>, is_new: bool) -> Result<Recovered<D::File>, StoreError> {
    let mut found = find(shared, is_new).await?;
    unready(shared, &mut found).await?;
    if found.is_empty() && !is_new {
        return Err(StoreError::damaged(&shared.path, "its journal has no segment that was ever used".to_owned()));
    }
    for Found { file, header } in &found {
        shared.shelf.lock().insert(header.number, Shelved { nonce: header.nonce, file: file.clone() });
    }
    let (from, checkpoint) = load(shared, &found).await?;
    let mut walk = Walk { shared, found: &found, chain: Chain::default(), keys: Keys::default(), newest_at: Timestamp::default() };
    walk.newest_at = shared.table.lock().usage.values().map(|usage| usage.newest_at).max().unwrap_or_default();
    if let Some(first) = found.get(from).filter(|_| from > 0) {
        let primed = super::librarian::prime(shared, first.header.number).await;
        walk.chain = primed.map_err(|error| StoreError::io(&shared.path, error))?;
    }
    for at in from..found.len().saturating_sub(1) {
        walk.sealed(at).await?;
        if (at + 1).is_multiple_of(TELL_EVERY) {
            tracing::info!(segments = at + 1, of = found.len(), "the journal is being read");
        }
    }
    let sealed = walk.chain.clone();
    if !found.is_empty() {
        walk.last(found.len() - 1).await?;
    }
    let Walk { chain, keys, newest_at, .. } = walk;
    // A store into which nothing was ever written has no witness.
    if newest_at != Timestamp::default() {
        shared.clock.witness(newest_at);
    }
    let ledger = {
        let mut table = shared.table.lock();
        if let Some(active) = found.last().and_then(|last| last.header.active.as_ref()) {
            table.sequence = table.sequence.max(active.given.event);
            table.position = table.position.max(active.given.position);
        }
        let next = |number: u64| number.saturating_add(1);
        Ledger {
            keys,
            batch: next(chain.sequence.unwrap_or(0)),
            event: next(table.sequence),
            position: next(table.position),
            ..Ledger::default()
        }
    };
    let end = End { nonce: found.last().map_or(0, |last| last.header.nonce), sequence: chain.sequence.unwrap_or(0) };
    let clean = clean::read(&shared.disk, &shared.path, shared.store).await.map_err(|error| StoreError::io(&shared.path, error))?;
    if let Some(clean) = clean {
        let is_there = found.iter().any(|found| found.header.nonce == clean.nonce);
        if !is_there || (clean.nonce == end.nonce && clean.sequence > end.sequence) {
            return Err(newest_missing(shared, "clean"));
        }
        // Before a fresh segment takes the place of an empty one that it names.
        clean::remove(&shared.disk, &shared.path).await.map_err(|error| StoreError::io(&shared.path, error))?;
    }
    let (current, last) = open_fresh(shared, &found, &chain, &ledger).await.map_err(|error| StoreError::io(&shared.path, error))?;
    shared.table.lock().begin(current.number);
    shared.count_waiting();
    Ok(Recovered { current, last, ledger, sealed, checkpoint, end, clean })
}

/// Loads the checkpoint, if it belongs to this journal. The segment to go on with, among those found, and its number.
async fn load<D: Disk>(shared: &Arc<Shared<D>>, found: &[Found<D::File>]) -> Result<(usize, u64), StoreError> {
    let Some(checkpoint) = checkpoint::read(shared).await else { return Ok((0, 0)) };
    let mark = checkpoint.mark;
    let is_ours = |segment: &Found<D::File>| segment.header.number == mark.segment && segment.header.nonce == mark.nonce;
    if found.last().is_some_and(|last| last.header.number < mark.segment) {
        return Err(newest_missing(shared, "checkpoint"));
    }
    let Some(from) = found.iter().position(is_ours) else {
        tracing::warn!("the checkpoint belongs to another journal: all of this one is read");
        return Ok((0, 0));
    };
    let mut table = checkpoint.table;
    // What was let go since.
    let first = found.first().map_or(0, |first| first.header.number);
    let gone: Vec<u64> = table.usage.range(..first).map(|(number, _)| *number).collect();
    for number in gone {
        table.lose_segment(number);
    }
    table.sequence = table.sequence.max(mark.event);
    table.position = table.position.max(mark.position);
    *shared.table.lock() = table;
    *shared.filters.write() = checkpoint.filters;
    shared.filters.write().forget_below(first);
    Ok((from, mark.segment))
}

/// What was durable once is not there, although nothing in the journal itself tells.
fn newest_missing<D: Disk>(shared: &Shared<D>, file: &str) -> StoreError {
    let what = format!(
        "`{file}` tells of newer commits than the journal holds: put its newest segments back, or restore a backup; `kurier store \
         repair` goes on without them"
    );
    StoreError::damaged(&shared.path, what)
}

struct Walk<'a, D: Disk> {
    shared: &'a Arc<Shared<D>>,
    found: &'a [Found<D::File>],
    chain: Chain,
    keys: Keys,
    newest_at: Timestamp,
}

impl<D: Disk> Walk<'_, D> {
    fn io(&self, error: io::Error) -> StoreError {
        StoreError::io(&self.shared.path, error)
    }

    /// A segment that another one follows: its footer tells it.
    async fn sealed(&mut self, at: usize) -> Result<(), StoreError> {
        let shared = self.shared;
        let (header, successor) = (&self.found[at].header, &self.found[at + 1].header);
        let footing = Footing::open(&shared.disk, &shared.journal(), header.number, header.nonce).await.map_err(|error| self.io(error))?;
        let ends = successor.active.as_ref().and_then(|active| active.predecessor).map(|predecessor| predecessor.end);
        if let Some(footing) = footing.filter(|footing| Some(footing.header.end) == ends)
            && let Ok(told) = self.tell(&footing).await
        {
            self.chain.skip(&footing.header);
            return self.apply(&footing.header, told).await;
        }
        let found = &self.found[at];
        let built = footer::build(&mut self.chain, &*found.file, header, Some(successor), &shared.names, Table::default()).await;
        let built = built.map_err(|error| {
            let name = segment::file_name(header.number);
            StoreError::damaged(&shared.path, format!("`{name}` at byte {}: {}", error.offset, error.what))
        })?;
        prove(&*found.file, self.chain.last_start, self.chain.end).await.map_err(|error| self.io(error))?;
        shared.write_footer(&built).await.map_err(|error| self.io(error))?;
        let footing = Footing::open(&shared.disk, &shared.journal(), header.number, header.nonce).await.map_err(|error| self.io(error))?;
        let footing = footing.ok_or_else(|| self.io(io::Error::other("a footer that was just written can't be read")))?;
        let told = self.tell(&footing).await.map_err(|error| self.io(error))?;
        self.apply(&footing.header, told).await
    }

    /// Reads what memory needs of a footer.
    async fn tell(&self, footing: &Footing<D::File>) -> io::Result<Told> {
        let shared = self.shared;
        let has_keys = footing.header.keys_until != Timestamp::default();
        Ok(Told {
            carried: footer::carried(footing, &shared.names).await?,
            ops: footer::ops(footing).await?,
            dead: footer::dead(footing, &shared.names).await?,
            keys: if has_keys { footer::keys(footing).await? } else { Vec::new() },
        })
    }

    async fn apply(&mut self, header: &FooterHeader, told: Told) -> Result<(), StoreError> {
        let shared = self.shared;
        paging::page_in_for(shared, &told.ops).await.map_err(|error| self.io(error))?;
        self.apply_now(header, told)?;
        paging::page_out(shared);
        Ok(())
    }

    fn apply_now(&mut self, header: &FooterHeader, told: Told) -> Result<(), StoreError> {
        let shared = self.shared;
        self.newest_at = self.newest_at.max(header.newest_at);
        let mut table = shared.table.lock();
        let usage = Usage {
            events: (header.events > 0).then_some((header.first_event, header.last_event)),
            count: header.events,
            keys_until: header.keys_until,
            key_bytes: header.key_bytes,
            newest_at: header.newest_at,
            sealed: true,
            footer_bytes: header.bytes(),
            dead: told.dead,
            ..Usage::default()
        };
        table.know_segment(header.number, usage);
        table.position = table.position.max(header.position);
        told.carried.into_iter().for_each(|meta| table.put_told(meta));
        table.told(header.number);
        shared.filters.write().add(header.number, told.keys.into_iter());
        let mut replayer = Replayer { shared, keys: &mut self.keys, segment: header.number, newest_at: self.newest_at };
        for op in told.ops {
            let applied = op.frame().and_then(|frame| replayer.record(&mut table, &frame, &op.record, op.place));
            applied.map_err(|error| StoreError::damaged(&shared.path, format!("the footer of segment {:016x}: {error}", header.number)))?;
        }
        Ok(())
    }

    /// The last segment is read itself.
    async fn last(&mut self, at: usize) -> Result<(), StoreError> {
        let shared = self.shared;
        let Found { file, header } = &self.found[at];
        self.page_in_for_last(&**file, header).await?;
        let mut replayer = Replayer { shared, keys: &mut self.keys, segment: header.number, newest_at: self.newest_at };
        let visit = |batch: &BatchHeader, offset: usize, payload: &[u8]| replayer.batch(batch, offset, payload);
        let read = self.chain.read_file(&**file, header, None, visit).await;
        self.newest_at = replayer.newest_at;
        read.map_err(|problem| explain(shared, header.number, problem))?;
        if self.chain.last.is_none()
            && let Some(before) = at.checked_sub(1).map(|before| &self.found[before])
        {
            // Nothing is in it yet: the last batch lies in the segment before.
            let mut chain = Chain::default();
            let read = chain.read_file::<_, Problem>(&*before.file, &before.header, Some(header), |_, _, _| Ok(())).await;
            read.map_err(|problem| explain(shared, before.header.number, problem))?;
            self.chain.last = chain.last;
        }
        Ok(())
    }
}

impl<D: Disk> Walk<'_, D> {
    /// What the last segment is about comes back first: it is read twice where something is paged out.
    async fn page_in_for_last(&self, file: &D::File, header: &SegmentHeader) -> Result<(), StoreError> {
        let shared = self.shared;
        if !shared.table.lock().has_paged() {
            return Ok(());
        }
        let mut sequences = BTreeSet::new();
        let visit = |_: &BatchHeader, offset: usize, payload: &[u8]| {
            for found in batch::records(payload) {
                let (_, frame, record) = found.map_err(|error| Problem::Record { offset, error })?;
                sequences.extend(paging::about(shared, &frame, record));
            }
            Ok(())
        };
        let read = self.chain.clone().read_file(file, header, None, visit).await;
        read.map_err(|problem| explain(shared, header.number, problem))?;
        paging::page_in_of(shared, sequences).await.map_err(|error| self.io(error))
    }
}

/// What memory needs of a footer.
struct Told {
    carried: Vec<super::table::Meta>,
    ops: Vec<footer::Op>,
    dead: std::collections::BTreeMap<crate::model::Name, u64>,
    keys: Vec<[u8; 16]>,
}

fn explain<D: Disk>(shared: &Shared<D>, number: u64, problem: Problem) -> StoreError {
    let name = segment::file_name(number);
    match problem {
        Problem::Damage(Damage { offset, what }) => StoreError::damaged(&shared.path, format!("`{name}` at byte {offset}: {what}")),
        Problem::Io(error) => StoreError::io(&shared.path, error),
        Problem::Record { offset, error } => StoreError::damaged(&shared.path, format!("`{name}` at byte {offset}: {error}")),
    }
}

/// Makes a segment's last batch durable, whose sync may never have returned: the same bytes are written again, since
/// after a failed sync the kernel may take them for written.
async fn prove<F: DiskFile>(file: &F, last_start: usize, end: usize) -> io::Result<()> {
    let start = last_start / PAGE * PAGE;
    let mut bytes = vec![0; end.next_multiple_of(PAGE).saturating_sub(start)];
    let length = usize::try_from(file.length().await?).unwrap_or(usize::MAX);
    bytes.truncate(length.saturating_sub(start));
    file.read_at(start as u64, &mut bytes).await?;
    file.write_at(start as u64, &bytes).await?;
    file.sync_data().await
}

/// The fresh segment, with the copy of the last batch, synced. It takes the place of a last segment that holds
/// nothing of its own, so that a process that dies again and again does not fill the disk with segments.
async fn open_fresh<D: Disk>(
    shared: &Arc<Shared<D>>,
    found: &[Found<D::File>],
    chain: &Chain,
    ledger: &Ledger,
) -> io::Result<(Current<D::File>, Last)> {
    if let Some(Found { file, header }) = found.last().filter(|_| chain.own == 1) {
        // The header was written along with that one batch, so its sync is not proven either; and once another
        // segment follows, this one must say that it counts.
        file.write_at(0, &header.encode()).await?;
        file.sync_data().await?;
    }
    let nonce = shared.nonce();
    let (number, predecessor) = match found.last() {
        None => (1, None),
        Some(Found { header, .. }) if chain.own == 0 => (header.number, header.active.as_ref().and_then(|active| active.predecessor)),
        Some(Found { header, .. }) => {
            let predecessor = Predecessor { nonce: header.nonce, end: chain.end, last_start: chain.last_start };
            (header.number + 1, Some(predecessor))
        }
    };
    let active = Some(Active { first_sequence: ledger.batch, predecessor, given: ledger.given() });
    let mut image = SegmentHeader { active, ..shared.header(number, nonce) }.encode();
    let mut last = Last::default();
    // What a repair wrote was synced by it, and its damaged records must not be sealed anew.
    if let (Some((header, bytes)), true) = (chain.last.as_ref().filter(|(header, _)| !header.is_repaired()), predecessor.is_some()) {
        image.extend_from_slice(bytes);
        let flags = header.flags | batch::COPY;
        batch::finish(&mut image[FIRST..], nonce, header.sequence, flags, header.committed_at);
        last = Last { base: 0, start: FIRST, length: bytes.len(), sequence: header.sequence, flags, at: header.committed_at, ..last };
    }
    let end = image.len().next_multiple_of(batch::ALIGN);
    image.resize(image.len().next_multiple_of(PAGE), 0);
    let file = Arc::new(supply::install(shared, number, &image).await?);
    if let Some(Found { file, .. }) = found.last().filter(|_| chain.own > 0) {
        // Its footer will tell what is in it now: that must not be lost any more.
        prove(&**file, chain.last_start, chain.end).await?;
    }
    last.image = image;
    shared.shelf.lock().insert(number, Shelved { nonce, file: file.clone() });
    shared.supply.lock().wanted = Some(number + 1);
    Ok((Current { number, nonce, file, end }, last))
}
