//! The one worker: jobs in the order in which they were begun.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::job::{Filter, Job, Status};
use super::{ENDED_MAX, EVENTS_MAX, Inner, PREFIX};
use crate::model::{EventId, Lane, Name};
use crate::store::{CommitError, NewDelivery, ReadError, Store};

/// Events that are listed at a time.
const PAGE: usize = 500;

/// Events that are replayed before progress is written down; after a crash at most so many are replayed twice.
const CHUNK: usize = 64;

/// What may wait at a destination while a job adds more to it: beyond that the job waits, so that a mass replay takes
/// neither the memory nor the journal of what comes in.
const WAITING_MAX: u64 = 10_000;

/// How long a job waits before it looks again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// An event that is meant.
pub(super) struct Meant {
    event: EventId,
    sequence: u64,
    lane: Option<Lane>,
    destinations: Vec<Name>,
}

/// Every event that the filter means, newest first; `after` skips those that are done.
pub(super) async fn find(
    store: &dyn Store,
    filter: &Filter,
    after: Option<u64>,
    is_over: impl Fn() -> bool,
) -> Result<Vec<Meant>, ReadError> {
    let (wanted, mut found, mut before) = (filter.for_store(), Vec::new(), None);
    while found.len() <= EVENTS_MAX && !is_over() {
        let (events, next) = store.list(&wanted, before, PAGE).await?;
        for summary in events {
            let destinations = filter.means(&summary.deliveries);
            if !destinations.is_empty() && after.is_none_or(|after| summary.sequence > after) {
                let lane = summary.deliveries.iter().find_map(|delivery| delivery.lane);
                found.push(Meant { event: summary.event.id, sequence: summary.sequence, lane, destinations });
            }
        }
        before = next.filter(|next| after.is_none_or(|after| *next > after));
        if before.is_none() {
            break;
        }
    }
    Ok(found)
}

/// Works for ever.
pub(super) async fn run(inner: Arc<Inner>) {
    while let Err(error) = load(&inner).await {
        tracing::error!(%error, "which replays are not done can't be read; trying again");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    loop {
        forget_old(&inner).await;
        let next = inner.jobs.lock().values().find(|job| !job.status.is_final()).cloned();
        match next {
            Some(job) => work(&inner, &job).await,
            None => inner.wanted.notified().await,
        }
    }
}

/// Takes in the jobs of the last run.
async fn load(inner: &Inner) -> Result<(), ReadError> {
    for (name, bytes) in inner.store.states(PREFIX).await? {
        match serde_json::from_slice::<Job>(&bytes) {
            Ok(job) => drop(inner.jobs.lock().entry(job.id.clone()).or_insert(job)),
            Err(error) => tracing::error!(state = name, %error, "a replay's state is unreadable; it is left alone"),
        }
    }
    Ok(())
}

async fn work(inner: &Inner, job: &Job) {
    tracing::info!(replay.id = job.id, operator = job.by, "replay {} begins", job.id);
    let outcome = replay_all(inner, job).await;
    let now = inner.clock.now();
    let ended = inner.change(&job.id, |job| match outcome {
        Ok(()) => job.end(Status::Done, now),
        Err(error) => {
            job.end(Status::Failed, now);
            job.error = Some(error);
        }
    });
    let Some(ended) = ended else { return };
    tracing::info!(
        replay.id = ended.id,
        events = ended.replayed,
        deliveries = ended.deliveries,
        error = ended.error,
        "replay {} is {}: {} events",
        ended.id,
        ended.status.word(),
        ended.replayed
    );
    if let Err(error) = inner.save(&ended).await {
        tracing::warn!(replay.id = ended.id, %error, "the end of a replay could not be written down; a restart goes on with it");
    }
}

/// Replays what a job means; the text of an error is for the operator.
async fn replay_all(inner: &Inner, job: &Job) -> Result<(), String> {
    let is_over = || inner.jobs.lock().get(&job.id).is_none_or(|job| job.status.is_final());
    let mut meant = find(&*inner.store, &job.filter, job.after, is_over).await.map_err(|error| error.to_string())?;
    if meant.len() > EVENTS_MAX {
        return Err(format!("more than {EVENTS_MAX} events match; narrow it with `since`, `until`, `route` or `destination`"));
    }
    // Lanes and receivers want the order in which things happened.
    meant.reverse();
    let matched = job.replayed.saturating_add(meant.len() as u64);
    inner.change(&job.id, |job| job.matched = Some(matched));
    for chunk in meant.chunks(CHUNK) {
        if is_over() {
            return Ok(());
        }
        let deliveries = replay_some(inner, job, chunk, &is_over).await?;
        let last = chunk.last().map(|event| event.sequence);
        let changed = inner.change(&job.id, |job| {
            job.replayed += chunk.len() as u64;
            job.deliveries += deliveries;
            job.after = last;
        });
        if let Some(job) = changed.filter(|job| !job.status.is_final())
            && let Err(error) = inner.save(&job).await
        {
            tracing::debug!(replay.id = job.id, %error, "a replay's progress could not be written down");
        }
    }
    Ok(())
}

/// Replays some events, as soon as their destinations have room; how many deliveries came of it.
async fn replay_some(inner: &Inner, job: &Job, events: &[Meant], is_over: &impl Fn() -> bool) -> Result<u64, String> {
    let named: Option<Vec<Name>> = job.destinations.as_ref().map(|names| names.iter().map(|name| Name::from(name.as_str())).collect());
    let goes_to = |event: &Meant| named.clone().unwrap_or_else(|| event.destinations.clone());
    let all: BTreeSet<Name> = events.iter().flat_map(goes_to).collect();
    wait_for_room(inner, job, &all, is_over).await;
    if is_over() {
        return Ok(0);
    }
    let replay = |event: &Meant| {
        let (due, lane) = (inner.clock.now(), event.lane);
        inner.store.replay(event.event, goes_to(event).into_iter().map(|destination| NewDelivery { destination, lane, due }).collect())
    };
    // All of them share a commit.
    let tickets: Vec<_> = events.iter().map(replay).collect();
    let mut deliveries = 0;
    for (event, mut ticket) in events.iter().zip(tickets) {
        loop {
            match ticket.await {
                Ok(ids) => deliveries += ids.len() as u64,
                // Its segment was let go meanwhile.
                Err(CommitError::NotFound) => {}
                Err(CommitError::Refused(reason)) if !is_over() => {
                    inner.change(&job.id, |job| job.waits_for = Some(format!("the store: {reason}")));
                    tokio::time::sleep(LOOK_EVERY).await;
                    ticket = replay(event);
                    continue;
                }
                Err(CommitError::Refused(_)) => {}
                Err(error @ (CommitError::Stale | CommitError::Unknown)) => return Err(error.to_string()),
            }
            break;
        }
    }
    Ok(deliveries)
}

async fn wait_for_room(inner: &Inner, job: &Job, destinations: &BTreeSet<Name>, is_over: &impl Fn() -> bool) {
    loop {
        let counts = inner.store.counts();
        let full = destinations.iter().find(|name| counts.get(*name).is_some_and(|count| count.pending >= WAITING_MAX));
        let waits_for = full.map(|name| format!("`{name}`: {WAITING_MAX} deliveries or more wait for it already"));
        let is_free = waits_for.is_none() || is_over();
        inner.change(&job.id, |job| job.waits_for = waits_for);
        if is_free {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Forgets the oldest jobs that have ended.
async fn forget_old(inner: &Inner) {
    let old: Vec<String> = {
        let jobs = inner.jobs.lock();
        let ended: Vec<&String> = jobs.iter().filter(|(_, job)| job.status.is_final()).map(|(id, _)| id).collect();
        ended.iter().take(ended.len().saturating_sub(ENDED_MAX)).map(|id| (*id).clone()).collect()
    };
    for id in old {
        if inner.store.set_state(format!("{PREFIX}{id}"), None).await.is_ok() {
            inner.jobs.lock().remove(&id);
        }
    }
}
