//! What lies in the journal's folder, and whether it is an unbroken row.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::store::local::disk::{Disk, DiskFile};
use crate::store::local::error::StoreError;
use crate::store::local::segment::{self, PAGE, SegmentHeader};
use crate::store::local::shared::Shared;
use crate::store::local::{footer, supply};

/// A segment that was found.
pub(super) struct Found<F> {
    pub(super) file: Arc<F>,
    pub(super) header: SegmentHeader,
}

/// Opens what lies in the journal's folder: segments in their order; pool files and leftovers are put aside.
pub(super) async fn find<D: Disk>(shared: &Shared<D>, is_new: bool) -> Result<Vec<Found<D::File>>, StoreError> {
    let journal = shared.journal();
    let io = |error: io::Error| StoreError::io(&journal, error);
    let damaged = |what: String| StoreError::damaged(&shared.path, what);
    let mut found: Vec<Found<D::File>> = Vec::new();
    let mut footers = Vec::new();
    for name in shared.disk.list(&journal).await.map_err(io)? {
        let path = journal.join(&name);
        if let Some(number) = footer::number(&name) {
            footers.push(number);
            continue;
        }
        let Some(number) = segment::number(&name) else {
            match name.strip_prefix("pool-").and_then(segment::number) {
                Some(_) if !is_whole(shared, &path).await.map_err(io)? => shared.disk.remove(&path).await.map_err(io)?,
                Some(pooled) => {
                    let mut supply = shared.supply.lock();
                    supply.pooled = supply.pooled.max(pooled);
                    supply.pool.push(path);
                }
                None if supply::LEFTOVERS.contains(&name.as_str()) => shared.disk.remove(&path).await.map_err(io)?,
                None => tracing::warn!(file = %path.display(), "a file in the journal's folder is none of the store's; it is left alone"),
            }
            continue;
        };
        let file = shared.disk.open(&path).await.map_err(io)?;
        let mut page = vec![0; PAGE];
        file.read_at(0, &mut page).await.map_err(io)?;
        let header = SegmentHeader::decode(&page).map_err(|error| damaged(format!("`{name}`: {error}")))?;
        if header.number != number || header.store != shared.store {
            return Err(damaged(format!("`{name}` is not the segment that its name says")));
        }
        if let Some(before) = found.last() {
            check_order(&before.header, &header).map_err(|what| damaged(format!("`{name}`: {what}")))?;
        }
        found.push(Found { file: Arc::new(file), header });
    }
    if found.is_empty() && !is_new {
        return Err(damaged("its journal has no segments".to_owned()));
    }
    for number in footers {
        if !found.iter().any(|segment| segment.header.number == number) {
            shared.disk.remove(&journal.join(footer::file_name(number))).await.map_err(io)?;
        }
    }
    Ok(found)
}

/// Whether a pool file takes no further room when it becomes a segment.
async fn is_whole<D: Disk>(shared: &Shared<D>, path: &Path) -> io::Result<bool> {
    let file = shared.disk.open(path).await?;
    Ok(file.length().await? == shared.sizes.segment as u64)
}

fn check_order(before: &SegmentHeader, header: &SegmentHeader) -> Result<(), &'static str> {
    if header.number != before.number + 1 {
        return Err("a segment before it is missing");
    }
    match (&before.active, &header.active) {
        (Some(_), None) => Ok(()),
        (None, _) => Err("the segment before it was never used"),
        (Some(_), Some(active)) => match active.predecessor {
            Some(predecessor) if predecessor.nonce == before.nonce => Ok(()),
            Some(_) | None => Err("it follows another segment than the one before it"),
        },
    }
}

/// A prepared segment goes into the pool: a start goes on in one of its own.
pub(super) async fn unready<D: Disk>(shared: &Shared<D>, found: &mut Vec<Found<D::File>>) -> Result<(), StoreError> {
    let Some(ready) = found.pop_if(|last| last.header.active.is_none()) else { return Ok(()) };
    let io = |error: io::Error| StoreError::io(&shared.path, error);
    let to = shared.pool_path();
    shared.disk.rename(&shared.segment_path(ready.header.number), &to).await.map_err(io)?;
    shared.disk.sync_dir(&shared.journal()).await.map_err(io)?;
    shared.supply.lock().pool.push(to);
    Ok(())
}
