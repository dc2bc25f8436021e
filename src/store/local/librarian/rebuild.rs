//! Making the index anew from the footers, while the store runs.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::{entries, footing, paging};
use crate::model::EventId;
use crate::store::local::chain::Chain;
use crate::store::local::codec::Malformed;
use crate::store::local::disk::Disk;
use crate::store::local::footer::{self, Op};
use crate::store::local::index::{Index, IndexError};
use crate::store::local::record::{self, Kind};
use crate::store::local::segment;
use crate::store::local::shared::Shared;
use crate::store::local::table::{Meta, Table};

/// How often a segment that is written while it is read is read again.
const TRIES_MAX: u32 = 5;

/// Makes the index anew. `chain` stands behind the last sealed segment.
pub(super) async fn renew<D: Disk>(shared: &Arc<Shared<D>>, mut chain: Chain) -> Result<(), IndexError> {
    let failed = |error: io::Error| IndexError(error.to_string());
    let index = shared.indexes.create(&shared.path.join("index"))?;
    let (sealed, others): (Vec<_>, Vec<_>) = {
        let table = shared.table.lock();
        let known = table.usage.iter().filter(|(_, usage)| !usage.forgotten);
        known.map(|(number, usage)| (*number, usage.sealed)).partition(|(_, sealed)| *sealed)
    };
    for (number, _) in sealed {
        let Some(footing) = footing(shared, number).await.map_err(failed)? else {
            return Err(IndexError(format!("the footer of segment {number:016x} is missing")));
        };
        let carried = footer::carried(&footing, &shared.names).await.map_err(failed)?;
        let ops = footer::ops(&footing).await.map_err(failed)?;
        merge(shared, &*index, carried, ops).map_err(failed)?;
        // What waits goes on meanwhile.
        paging::serve(shared).await;
        if shared.is_stopping() {
            return Err(IndexError("the store is closed".to_owned()));
        }
    }
    // What was committed since, about events that memory has forgotten since.
    for (number, _) in others {
        let ops = written(shared, number, &mut chain).await.map_err(failed)?;
        merge(shared, &*index, Vec::new(), ops).map_err(failed)?;
    }
    *shared.index.write() = Some(index);
    tracing::info!("the index is whole");
    Ok(())
}

/// What a segment without a footer says about earlier events. It may be written just now.
async fn written<D: Disk>(shared: &Arc<Shared<D>>, number: u64, chain: &mut Chain) -> io::Result<Vec<Op>> {
    let file = |number: u64| shared.shelf.lock().get(&number).map(|shelved| shelved.file.clone());
    let Some(this) = file(number) else { return Ok(Vec::new()) };
    let mut tries = 0;
    loop {
        let header = segment::read_header(&*this).await?;
        let successor = match file(number + 1) {
            Some(behind) => Some(segment::read_header(&*behind).await?),
            None => None,
        };
        let mut tried = chain.clone();
        match footer::build(&mut tried, &*this, &header, successor.as_ref(), &shared.names, Table::default()).await {
            Ok(built) => {
                *chain = tried;
                return Ok(built.ops);
            }
            Err(_) if tries < TRIES_MAX => tries += 1,
            Err(error) => return Err(io::Error::other(error.what)),
        }
    }
}

/// Takes in what one segment says about events that outlived theirs.
fn merge<D: Disk>(shared: &Arc<Shared<D>>, index: &dyn Index, carried: Vec<Meta>, ops: Vec<Op>) -> io::Result<()> {
    // A table for this segment's changes only; what memory holds goes into the index by itself.
    let (mut table, mut repeats) = (Table::default(), BTreeMap::<EventId, u64>::new());
    for meta in carried {
        if !shared.table.lock().holds(meta.sequence) {
            table.put(meta);
        }
    }
    for op in ops {
        apply(shared, index, &mut table, &mut repeats, &op)?;
    }
    entries::write(index, table.metas_from(0), &repeats).map_err(|error| io::Error::other(error.to_string()))
}

fn apply<D: Disk>(
    shared: &Arc<Shared<D>>,
    index: &dyn Index,
    table: &mut Table,
    repeats: &mut BTreeMap<EventId, u64>,
    op: &Op,
) -> io::Result<()> {
    let invalid = |error: Malformed| io::Error::new(io::ErrorKind::InvalidData, error);
    let frame = op.frame().map_err(invalid)?;
    let recall = |table: &mut Table, sequence: u64| -> io::Result<bool> {
        if shared.table.lock().holds(sequence) {
            return Ok(false);
        }
        if !table.holds(sequence) {
            let found = entries::meta(index, sequence, &mut shared.names.lock()).map_err(|error| io::Error::other(error.to_string()))?;
            found.into_iter().for_each(|meta| table.put(meta));
        }
        Ok(true)
    };
    match frame.kind {
        Kind::Settlement => {
            let settled = record::decode_settlement(&op.record, &frame).map_err(invalid)?;
            if recall(table, settled.sequence)? {
                table.settle(&settled, op.place);
            }
        }
        Kind::Replay | Kind::Acknowledgement => {
            let replay = record::decode_replay(&op.record, &frame, &mut shared.names.lock()).map_err(invalid)?;
            if recall(table, replay.sequence)? {
                table.add_replay(replay);
            }
        }
        Kind::Live => {
            let meta = record::decode_live(&op.record, &frame, &mut shared.names.lock()).map_err(invalid)?;
            let is_stored = shared.table.lock().usage.contains_key(&meta.place.segment);
            if is_stored && recall(table, meta.sequence)? {
                table.put(meta);
            }
        }
        Kind::Moved => {
            let meta = record::decode_moved(&op.record, &frame, &mut shared.names.lock()).map_err(invalid)?;
            if recall(table, meta.sequence)? {
                table.relocate(meta, op.place);
            }
        }
        Kind::Repeat => {
            let repeat = record::decode_repeat(&op.record, &frame).map_err(invalid)?;
            repeats.insert(repeat.event, repeat.count);
        }
        Kind::Event | Kind::State | Kind::Key => {}
    }
    Ok(())
}
