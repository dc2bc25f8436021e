//! What waits, in the order of its positions: from memory, and from the footers of those that are paged out.

use super::{footing_soon, unreadable_footer};
use crate::store::local::disk::Disk;
use crate::store::local::footer;
use crate::store::local::shared::Shared;
use crate::store::{PendingDelivery, ReadError};

/// Pending deliveries after this position, at most `limit`.
pub(in crate::store::local) async fn pending_after<D: Disk>(
    shared: &Shared<D>,
    position: u64,
    limit: usize,
) -> Result<Vec<PendingDelivery>, ReadError> {
    loop {
        let (turn, mut found, mut next) = {
            let table = shared.table.lock();
            (table.paging_turn(), table.pending_after(position, limit), table.paged_behind(position, 0))
        };
        let mut paged = Vec::new();
        // Positions grow from segment to segment.
        while let Some((segment, first)) = next.filter(|(_, first)| {
            let is_full = found.len() >= limit && found.last().is_some_and(|last| last.position < *first);
            !is_full && paged.len() < limit
        }) {
            debug_assert!(first > 0, "positions begin at 1");
            paged_of(shared, segment, position, limit, &mut paged).await?;
            next = shared.table.lock().paged_behind(position, segment);
        }
        if shared.table.lock().paging_turn() == turn {
            if !paged.is_empty() {
                found.append(&mut paged);
                found.sort_unstable_by_key(|delivery| delivery.position);
                found.truncate(limit);
            }
            return Ok(found);
        }
        // Something left memory or came back meanwhile.
        tokio::task::yield_now().await;
    }
}

/// Adds what is paged out of one segment, until there are `limit`.
async fn paged_of<D: Disk>(
    shared: &Shared<D>,
    segment: u64,
    position: u64,
    limit: usize,
    found: &mut Vec<PendingDelivery>,
) -> Result<(), ReadError> {
    let unreadable = |error: std::io::Error| unreadable_footer(shared, segment, &error);
    let Some(footing) = footing_soon(shared, segment).await? else { return Ok(()) };
    let mut metas = footer::carried_behind(&footing, position, limit, &shared.names).await.map_err(unreadable)?;
    while let Some(last) = metas.last() {
        let from = last.sequence.saturating_add(1);
        {
            let table = shared.table.lock();
            metas.retain(|meta| table.paged_of(meta.sequence) == Some(segment));
        }
        for meta in &metas {
            let positions = meta.deliveries.iter().map(|delivery| delivery.position).filter(|other| *other > position);
            found.extend(positions.filter_map(|position| meta.pending(position)));
        }
        if found.len() >= limit {
            break;
        }
        metas = footer::carried_from(&footing, from, limit.saturating_sub(found.len()), &shared.names).await.map_err(unreadable)?;
    }
    Ok(())
}
