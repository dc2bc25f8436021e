//! After a failed write or sync (rule 6).
//!
//! The same pages are never tried again: the kernel may call them clean without having written them. The next
//! segment's header names the current one's end, so that nothing of the failed batch is ever read; it opens
//! with a copy of the last good batch, whose last page the failed write shared, and with the failed batch's
//! settlements and states. Only when that is synced are the accepts known to be void and refused. Where that
//! takes longer than ten seconds nobody can say what a power cut would leave, and they are told nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::build::Building;
use super::outcome::{self, Taken, Work};
use super::{Committer, Last, TRY_EVERY, put};
use crate::model::Timestamp;
use crate::store::local::batch;
use crate::store::local::disk::Disk;
use crate::store::local::error::with_advice;
use crate::store::local::segment::{FIRST, PAGE};
use crate::store::local::shared::Ready;
use crate::store::local::supply::HEALING;
use crate::store::{Promise, Receipt};

/// How long accepts of a failed batch wait to hear that they are void.
const VOID_WITHIN: Duration = Duration::from_secs(10);

/// A fresh segment that is durable, and what was written into it.
struct Fresh<F> {
    segment: Ready<F>,
    image: Vec<u8>,
    /// Where in the image the kept part of the failed batch begins; its end where nothing was kept.
    kept_at: usize,
}

/// What a failed batch leaves behind.
struct Failed {
    image: Vec<u8>,
    kept: Vec<Taken>,
    /// The sequence of the batch that repeats what was kept.
    sequence: u64,
    at: Timestamp,
}

impl<D: Disk> Committer<D> {
    /// Goes on in a fresh segment. `ready`: a prepared one that the failure didn't touch.
    pub(super) async fn heal(&mut self, failed: Building, mut ready: Option<Ready<D::File>>, error: &io::Error) {
        let mut cause = with_advice(error);
        tracing::error!(%cause, "a commit failed: the store refuses what comes in until a fresh segment is synced");
        self.shared.queue.refuse_accepts(Some(&format!("the last write failed: {cause}")));
        let void_at = Instant::now() + VOID_WITHIN;
        let outcome::Durable { image, taken, .. } = failed.split();
        let (mut void, kept) = self.part(taken);
        let failed = Failed { image, kept, sequence: self.ledger.batch, at: self.now() };
        self.ledger.batch += u64::from(!failed.kept.is_empty());
        let fresh = loop {
            self.refuse_waiting();
            let attempt = self.go_on(ready.take(), &failed);
            tokio::pin!(attempt);
            let result = loop {
                tokio::select! {
                    biased;
                    result = &mut attempt => break result,
                    () = tokio::time::sleep_until(void_at), if !void.is_empty() => give_up(&mut void),
                }
            };
            match result {
                Ok(fresh) => break Some(fresh),
                Err(error) => {
                    // A disk that fails once may be made read-only next: what it says last is what counts.
                    let now = with_advice(&error);
                    if now != cause {
                        tracing::error!(cause = %now, "the store still can't commit");
                        self.shared.queue.refuse_accepts(Some(&format!("the last write failed: {now}")));
                        cause = now;
                    }
                }
            }
            if self.shared.queue.is_closing() {
                break None;
            }
            tokio::time::sleep(TRY_EVERY).await;
            if Instant::now() >= void_at {
                give_up(&mut void);
            }
        };
        let Some(fresh) = fresh else {
            // The store closes without having healed: what was not told stays unknown.
            self.refuse_all();
            self.is_given_up = true;
            return;
        };
        self.take_over(fresh, failed);
        self.shared.queue.refuse_accepts(None);
        tracing::info!("the store commits again");
        outcome::refuse(void);
    }

    /// Parts a failed batch: accepts are voided and their keys freed, the rest is kept.
    fn part(&mut self, taken: Vec<Taken>) -> (Vec<Promise<Receipt>>, Vec<Taken>) {
        let mut void = Vec::new();
        let mut kept = Vec::new();
        for taken in taken {
            match taken.work {
                Work::Accept { accept, promise } => {
                    if let Some(dedupe) = accept.event.dedupe {
                        self.ledger.keys.free(&dedupe.hash, accept.event.id);
                    }
                    void.push(promise);
                }
                Work::Repeat { waiters, .. } => void.extend(waiters.into_iter().map(|(_, promise, _)| promise)),
                // They stay where they are, and are asked to move again.
                Work::Move { .. } | Work::Keys(_) => {}
                Work::Settle { .. } | Work::Replay { .. } | Work::State { .. } | Work::Live => kept.push(taken),
            }
        }
        (void, kept)
    }

    /// Makes a fresh segment durable, in the place of whatever has its number by now.
    async fn go_on(&self, ready: Option<Ready<D::File>>, failed: &Failed) -> io::Result<Fresh<D::File>> {
        let shared = &self.shared;
        let _preparing = shared.preparing.lock().await;
        shared.check_folder().await?;
        let number = self.current.number + 1;
        let ready = ready.or_else(|| {
            let mut supply = shared.supply.lock();
            supply.wanted = None;
            supply.ready.take()
        });
        if let Some(segment) = ready {
            let (image, kept_at) = self.opening(&segment, failed);
            // The name is durable already: what the segment opens with must be too before its header says that
            // it counts, or a torn copy under an intact batch would read as damage.
            if image.len() > FIRST {
                put(&*segment.file, FIRST, &image[FIRST..]).await?;
            }
            put(&*segment.file, 0, &image[..FIRST]).await?;
            return Ok(Fresh { segment, image, kept_at });
        }
        let pooled = shared.take_pooled();
        let fresh = self.make(number, pooled.as_deref(), failed).await;
        if fresh.is_err()
            && let Some(path) = pooled
        {
            shared.give_up(path).await;
        }
        fresh
    }

    /// Makes a fresh segment out of a pool file, or of a new one.
    async fn make(&self, number: u64, pooled: Option<&Path>, failed: &Failed) -> io::Result<Fresh<D::File>> {
        let shared = &self.shared;
        let (path, file) = match pooled {
            Some(path) => (path.to_owned(), shared.disk.open(path).await?),
            None => {
                let path = shared.journal().join(HEALING);
                (path.clone(), shared.disk.create(&path).await?)
            }
        };
        let segment = Ready { number, nonce: shared.nonce(), file: Arc::new(file) };
        let (image, kept_at) = self.opening(&segment, failed);
        put(&*segment.file, 0, &image).await?;
        shared.disk.rename(&path, &shared.segment_path(number)).await?;
        shared.disk.sync_dir(&shared.journal()).await?;
        Ok(Fresh { segment, image, kept_at })
    }

    /// What a fresh segment opens with; and where in it the kept part begins.
    fn opening(&self, segment: &Ready<D::File>, failed: &Failed) -> (Vec<u8>, usize) {
        let mut image = self.header(segment, failed.sequence, self.current.end).encode();
        if self.last.length > 0 {
            image.extend_from_slice(&self.last.image[self.last.start..self.last.start + self.last.length]);
            batch::finish(&mut image[FIRST..], segment.nonce, self.last.sequence, self.last.flags | batch::COPY, self.last.at);
            image.resize(image.len().next_multiple_of(batch::ALIGN), 0);
        }
        let kept_at = image.len();
        if !failed.kept.is_empty() {
            image.resize(kept_at + batch::HEADER, 0);
            for taken in &failed.kept {
                image.extend_from_slice(&failed.image[taken.offset..taken.offset + taken.length + taken.tail]);
            }
            batch::finish(&mut image[kept_at..], segment.nonce, failed.sequence, 0, failed.at);
        }
        (image, kept_at)
    }

    /// The fresh segment is the current one, and what was kept is durable.
    fn take_over(&mut self, fresh: Fresh<D::File>, failed: Failed) {
        let Fresh { segment, mut image, kept_at } = fresh;
        let Failed { mut kept, sequence, at, .. } = failed;
        let end = image.len().next_multiple_of(batch::ALIGN);
        let length = image.len() - kept_at;
        image.resize(end.next_multiple_of(PAGE), 0);
        self.last = if kept.is_empty() {
            Last { image, base: 0, start: FIRST, flags: self.last.flags | batch::COPY, ..std::mem::take(&mut self.last) }
        } else {
            Last { image, base: 0, start: kept_at, length, sequence, flags: 0, at }
        };
        self.adopt(segment);
        self.current.end = end;
        let mut offset = kept_at + batch::HEADER;
        for taken in &mut kept {
            taken.offset = offset;
            offset += taken.length + taken.tail;
        }
        outcome::announce(&self.shared, kept, self.current.number, 0, at);
    }
}

/// Nobody can say any more what a power cut would leave. Dropping a promise is the outcome `Unknown`.
fn give_up(void: &mut Vec<Promise<Receipt>>) {
    if !void.is_empty() {
        tracing::error!(commits = void.len(), "the outcome of commits can't be known: their senders get no answer");
        void.clear();
    }
}
