//! Sealing: a segment that is no longer written gets its footer, and what the footer tells is forgotten.

use std::io;
use std::sync::Arc;

use super::{Found, Librarian};
use crate::store::local::chain::Chain;
use crate::store::local::checkpoint::{self, Mark};
use crate::store::local::disk::Disk;
use crate::store::local::footer::{self, Built, FooterHeader, Footing, Unreadable};
use crate::store::local::segment;
use crate::store::local::shared::{SealedKeys, Shared};
use crate::store::local::table::Table;

/// Events that are forgotten at a time, under the table's lock.
const FORGET_MAX: usize = 1000;

/// Keys that go into the filter at a time, under its lock.
const KEYS_MAX: usize = 4096;

/// The footer of a segment, if it has a sound one.
pub(in crate::store::local) async fn footing<D: Disk>(shared: &Shared<D>, number: u64) -> io::Result<Found<D>> {
    let Some(nonce) = shared.shelf.lock().get(&number).map(|shelved| shelved.nonce) else { return Ok(None) };
    Footing::open(&shared.disk, &shared.journal(), number, nonce).await
}

/// The files of a segment and of the one behind it.
fn pair<D: Disk>(shared: &Shared<D>, number: u64) -> Option<[Arc<D::File>; 2]> {
    let shelf = shared.shelf.lock();
    Some([shelf.get(&number)?.file.clone(), shelf.get(&(number + 1))?.file.clone()])
}

impl<D: Disk> Librarian<D> {
    /// Seals the oldest segment that has no footer and is no longer written; whether there was one.
    pub(super) async fn seal_next(&mut self) -> io::Result<bool> {
        let shared = self.shared.clone();
        let next = {
            let (table, shelf) = (shared.table.lock(), shared.shelf.lock());
            // They are sealed in their order: what is not is at the end.
            let is_open = |number: &u64| !table.usage.get(number).is_some_and(|usage| usage.sealed);
            shelf.keys().rev().skip(1).copied().take_while(is_open).last()
        };
        let Some((number, [file, behind])) = next.and_then(|number| Some((number, pair(&shared, number)?))) else { return Ok(false) };
        let (header, successor) = (segment::read_header(&*file).await?, segment::read_header(&*behind).await?);
        let mut chain = self.chain.clone();
        let table = shared.table.lock().beside();
        let built = footer::build(&mut chain, &*file, &header, Some(&successor), &shared.names, table).await;
        let built = built.map_err(|error| {
            let name = segment::file_name(number);
            io::Error::other(format!("`{name}` at byte {}: {}; stop and see `kurier store check`", error.offset, error.what))
        })?;
        let footer = shared.write_footer(&built).await?;
        self.chain = chain;
        self.put_away(&footer, built).await;
        Ok(true)
    }

    /// The footer tells from now on what memory told.
    async fn put_away(&self, footer: &FooterHeader, built: Built) {
        let (shared, number) = (&self.shared, footer.number);
        for some in built.keys().chunks(KEYS_MAX) {
            shared.filters.write().add(number, some.iter().map(|key| key.hash));
            tokio::task::yield_now().await;
        }
        shared.sealed_keys.lock().push(SealedKeys { keys: built.keys().iter().map(|key| (key.hash, key.event)).collect() });
        shared.table.lock().seal(number, footer.bytes());
        let mut next = Some(0);
        while let Some(from) = next {
            next = shared.table.lock().forget_told(&built.table, from, FORGET_MAX);
            tokio::task::yield_now().await;
        }
        shared.table.lock().told(number);
        shared.count_waiting();
        tracing::debug!(segment = number, events = footer.events, "a segment was sealed");
    }

    /// Writes a checkpoint, if so many segments were begun since the last one, or a start could make nothing of that any
    /// more: it may tell of a backlog that is long gone.
    pub(super) async fn checkpoint(&mut self, every: u64) -> io::Result<bool> {
        let shared = &self.shared;
        let mark = {
            let (table, shelf) = (shared.table.lock(), shared.shelf.lock());
            let Some((segment, shelved)) = shelf.last_key_value() else { return Ok(false) };
            let all_sealed = || shelf.keys().all(|number| number == segment || table.usage.get(number).is_some_and(|usage| usage.sealed));
            let is_useless = self.checkpoint > 0 && !shelf.contains_key(&self.checkpoint);
            if (*segment < self.checkpoint + every && !is_useless) || !all_sealed() {
                return Ok(false);
            }
            Mark { segment: *segment, nonce: shelved.nonce, event: table.sequence, position: table.position }
        };
        let filters = shared.filters.read().clone();
        checkpoint::write(shared, mark, &filters).await?;
        self.checkpoint = mark.segment;
        Ok(true)
    }

    /// Makes the footers anew that were lost since the last checkpoint.
    pub(super) async fn mend_footers(&self) {
        let numbers: Vec<u64> = {
            let table = self.shared.table.lock();
            table.usage.iter().filter(|(_, usage)| usage.sealed).map(|(number, _)| *number).collect()
        };
        for number in numbers {
            if self.shared.is_stopping() {
                return;
            }
            // Only whether it is there: one that is damaged inside is found out when it is read.
            if !matches!(footing(&self.shared, number).await, Ok(Some(_))) {
                self.mend_if_needed(number).await;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Makes a segment's footer anew unless a sound one is there after all.
    pub(super) async fn mend_if_needed(&self, number: u64) {
        let is_sound = match footing(&self.shared, number).await {
            Ok(Some(footing)) => footer::is_sound(&footing).await.unwrap_or(false),
            Ok(None) | Err(_) => false,
        };
        if !is_sound && let Err(error) = mend_footer(&self.shared, number).await {
            tracing::error!(segment = number, %error, "a segment's footer can't be made anew: its events can't be looked up");
        }
    }
}

/// Makes a segment's footer anew.
pub(super) async fn mend_footer<D: Disk>(shared: &Arc<Shared<D>>, number: u64) -> io::Result<()> {
    let Some([file, behind]) = pair(shared, number) else { return Ok(()) };
    let mut chain = prime(shared, number).await?;
    let (header, successor) = (segment::read_header(&*file).await?, segment::read_header(&*behind).await?);
    let built = footer::build(&mut chain, &*file, &header, Some(&successor), &shared.names, Table::default()).await;
    let built = built.map_err(|error| io::Error::other(error.what))?;
    shared.write_footer(&built).await.map(drop)
}

/// A chain that stands before this segment.
pub(in crate::store::local) async fn prime<D: Disk>(shared: &Shared<D>, number: u64) -> io::Result<Chain> {
    let Some(before) = number.checked_sub(1).filter(|before| shared.shelf.lock().contains_key(before)) else { return Ok(Chain::default()) };
    if let Some(footing) = footing(shared, before).await? {
        let mut chain = Chain::default();
        chain.skip(&footing.header);
        return Ok(chain);
    }
    let files = {
        let shelf = shared.shelf.lock();
        shelf.get(&before).map(|shelved| shelved.file.clone()).zip(shelf.get(&number).map(|shelved| shelved.file.clone()))
    };
    let Some((file, behind)) = files else { return Ok(Chain::default()) };
    let (header, successor) = (segment::read_header(&*file).await?, segment::read_header(&*behind).await?);
    let mut chain = Chain::default();
    let read = chain.read_file::<_, Unreadable>(&*file, &header, Some(&successor), |_, _, _| Ok(())).await;
    read.map_err(|error| io::Error::other(error.what))?;
    Ok(chain)
}
