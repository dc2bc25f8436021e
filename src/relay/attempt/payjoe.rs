//! Uploads to PayJoe: records of several deliveries travel in one request, and each gets its own outcome.
//!
//! The first record of a batch leads it: it waits until the batch is full or its time is over, uploads it, in halves where
//! PayJoe refuses it, and tells the others what became of theirs. A batch is a fact of this process alone: after a crash
//! each record is simply due again, and PayJoe knows a repeat.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::sleep;

use super::{Ended, Exchanged, Job, Tools, outbound_of, unsendable};
use crate::connectors::payjoe::{BATCH_BYTES_MAX, Checked, Plan, Settings, judge, record, upload};
use crate::connectors::{Outcome, Verdict};
use crate::egress::{Fault, Reply};
use crate::model::{Event, FaultKind, Name};

/// What gathers, by destination and by its settings: after a reload others may be in force.
#[derive(Default)]
pub(in crate::relay) struct Batches(Mutex<BTreeMap<(Name, usize), Slot>>);

struct Slot {
    open: Option<Arc<Batch>>,
    /// The uploads that may run at a time.
    uploads: Arc<Semaphore>,
}

#[derive(Default)]
struct Batch {
    members: Mutex<Members>,
    full: Notify,
}

#[derive(Default)]
struct Members {
    records: Vec<(Checked, oneshot::Sender<Exchanged>)>,
    bytes: usize,
}

/// A place in a batch.
struct Joined {
    outcome: oneshot::Receiver<Exchanged>,
    /// For the first: the batch that it leads.
    leads: Option<(Arc<Batch>, Arc<Semaphore>)>,
}

/// Sends once, together with others.
pub(super) async fn send(tools: &Tools, job: &Job, settings: &Arc<Settings>, uploads: usize, event: &Event) -> Result<Exchanged, Ended> {
    let record = record(&event.body, event.id, settings.strict).map_err(|problem| Ended::Unmade(problem.reason()))?;
    for warning in &record.warnings {
        tracing::info!(event.id = %event.id, destination.name = %job.destination.name, "a record looks wrong and is sent all the same: {warning}");
    }
    let key = (job.destination.name.clone(), Arc::as_ptr(settings).addr());
    let Joined { outcome, leads } = tools.batches.join(&key, settings, uploads, record);
    if let Some((batch, uploads)) = leads {
        tokio::select! {
            biased;
            () = batch.full.notified() => {}
            () = sleep(settings.batch_wait) => {}
        }
        // Closed or not, from here on nobody joins it; what waits for its turn may still grow until then.
        let turn = uploads.acquire().await;
        allowed(job).await;
        tools.batches.close(&key, &batch);
        let records = std::mem::take(&mut batch.members.lock().records);
        deliver(tools, job, settings, records).await;
        drop(turn);
    }
    Ok(outcome.await.unwrap_or_else(|_gone| {
        Exchanged::plain(Err(Fault { kind: FaultKind::Interrupted, detail: "the upload of its batch was given up".to_owned() }))
    }))
}

/// Waits until the destination's rate allows one more upload.
async fn allowed(job: &Job) {
    while let Some(Err(wait)) = job.rate.as_ref().map(|rate| rate.check()) {
        sleep(wait).await;
    }
}

impl Batches {
    fn join(&self, key: &(Name, usize), settings: &Settings, uploads: usize, record: Checked) -> Joined {
        let mut slots = self.0.lock();
        // What a reload left behind, once nothing of it is under way.
        slots.retain(|other, slot| other == key || slot.open.is_some() || Arc::strong_count(&slot.uploads) > 1);
        let slot = slots.entry(key.clone()).or_insert_with(|| Slot { open: None, uploads: Arc::new(Semaphore::new(uploads.max(1))) });
        let length = record.json.len();
        let (teller, outcome) = oneshot::channel();
        if let Some(batch) = slot.open.take_if(|batch| batch.members.lock().bytes.saturating_add(length) > BATCH_BYTES_MAX) {
            batch.full.notify_one();
        }
        let leads = slot.open.is_none();
        let batch = slot.open.get_or_insert_default().clone();
        let count = {
            let mut members = batch.members.lock();
            members.bytes = members.bytes.saturating_add(length);
            members.records.push((record, teller));
            members.records.len()
        };
        if count >= settings.batch_max {
            slot.open = None;
            batch.full.notify_one();
        }
        Joined { outcome, leads: leads.then(|| (batch, slot.uploads.clone())) }
    }

    fn close(&self, key: &(Name, usize), batch: &Arc<Batch>) {
        if let Some(slot) = self.0.lock().get_mut(key) {
            slot.open.take_if(|open| Arc::ptr_eq(open, batch));
        }
    }
}

/// Uploads the records and tells each what became of it.
async fn deliver(tools: &Tools, job: &Job, settings: &Settings, records: Vec<(Checked, oneshot::Sender<Exchanged>)>) {
    let mut plan = Plan::new(records.len());
    let mut tellers: Vec<Option<oneshot::Sender<Exchanged>>> = Vec::with_capacity(records.len());
    let mut checked = Vec::with_capacity(records.len());
    for (record, teller) in records {
        checked.push(record);
        tellers.push(Some(teller));
    }
    while let Some(part) = plan.next() {
        let together: Vec<&Checked> = checked[part.clone()].iter().collect();
        let mut exchanged = match upload(settings, &together) {
            Ok(request) => Exchanged::plain(tools.transport.send(outbound_of(request, &job.destination)).await),
            Err(problem) => Exchanged::plain(Err(unsendable(problem))),
        };
        exchanged = exchanged.judge(|reply| judge(reply, settings));
        if let Ok(Reply { body, .. }) = &mut exchanged.result {
            *body = settings.clean(body).into();
        }
        let fault = || Outcome { verdict: Verdict::Retry { after: None }, reason: String::new() };
        let outcome = exchanged.judged.clone().unwrap_or_else(fault);
        plan.take(&outcome);
        // Whoever is settled by this hears it now, and the rest where the plan has ended.
        let is_split = outcome.verdict == Verdict::Rejected && part.len() > 1;
        let told = match (is_split, plan.next().is_none()) {
            (true, _) => 0..0,
            (false, true) => 0..tellers.len(),
            (false, false) => part,
        };
        for (at, teller) in tellers[told].iter_mut().filter_map(Option::take).enumerate() {
            // Whoever has gone meanwhile was given up with its delivery.
            drop(teller.send(Exchanged { is_shared: at > 0, ..exchanged.clone() }));
        }
        if plan.next().is_some() {
            allowed(job).await;
        }
    }
}
