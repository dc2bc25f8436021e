//! The destinations: well, failing, hanging, trickling, resetting, limiting, lying, rejecting, gone.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use kurier::clock::Clock;
use kurier::egress::{Fault, Outbound, Reply, Transport};
use kurier::jq::{Compiled, Engine, Failure, Made, Programs, Task};
use kurier::model::FaultKind;
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::ledger::Seen;
use super::life::World;
use super::plan::{ORDERS, REPORTS, SHOP, SOURCE};

/// How a destination is just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    Failing,
    Hanging,
    Trickling,
    Resetting,
    Limiting,
    /// It takes the event and says that it did not.
    Lying,
    Rejecting,
    Gone,
}

impl Mood {
    pub(super) const BAD: [Self; 8] =
        [Self::Failing, Self::Hanging, Self::Trickling, Self::Resetting, Self::Limiting, Self::Lying, Self::Rejecting, Self::Gone];
}

/// The transport of one life.
pub(super) struct Downstream {
    pub(super) world: Arc<World>,
    pub(super) clock: Arc<dyn Clock>,
}

/// An attempt that the relay gives up is over, too.
struct UnderWay<'a> {
    world: &'a World,
    seen: Seen,
    is_over: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.world.ledger.lock().given_up(&self.seen);
        }
    }
}

pub(super) fn reply(status: u16, retry_after: Option<&str>) -> Result<Reply, Fault> {
    let mut headers = HeaderMap::new();
    if let Some(text) = retry_after {
        headers.insert("retry-after", text.parse().unwrap());
    }
    Ok(Reply { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::new(), truncated: false })
}

/// 200, with this body.
pub(super) fn with_body(body: String) -> Reply {
    Reply { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into(), truncated: false }
}

pub(super) fn fault(kind: FaultKind) -> Result<Reply, Fault> {
    Err(Fault { kind, detail: "simulated".to_owned() })
}

#[async_trait]
impl Transport for Downstream {
    async fn send(&self, request: Outbound) -> Result<Reply, Fault> {
        let destination = request.url.host_str().unwrap().to_owned();
        let world = &self.world;
        let timed_out = || fault(FaultKind::Timeout);
        match destination.as_str() {
            REPORTS => return self.report(&request).await,
            SOURCE => return timeout(request.timeout, world.list(&request)).await.unwrap_or_else(|_elapsed| timed_out()),
            ORDERS => return timeout(request.timeout, world.begin_order(&request)).await.unwrap_or_else(|_elapsed| timed_out()),
            SHOP => {
                world.tell_shop(&request);
                return timeout(request.timeout, self.answer(SHOP)).await.unwrap_or_else(|_elapsed| timed_out());
            }
            _ => {}
        }
        let header = |name: &str| request.headers.get(name).map_or("", |value| value.to_str().unwrap());
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let item = ["n", "key", "item"].iter().find_map(|name| body.get(name)).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let number = header("kurier-attempt").parse().unwrap();
        let seen = Seen { destination, item, number, is_replay: header("kurier-replay") == "true" };
        let id = header("webhook-id").to_owned();
        // The relay takes a panic in an attempt for a fault of that attempt, so it is kept for the end of the life.
        self.world.holds(|ledger| ledger.begins(self.clock.now(), &seen, &id, &request.body));
        let mut under_way = UnderWay { world: &self.world, seen, is_over: false };
        let answer = timeout(request.timeout, self.answer(&under_way.seen.destination)).await;
        let answer = answer.unwrap_or_else(|_elapsed| fault(FaultKind::Timeout));
        under_way.is_over = true;
        let status = answer.as_ref().ok().map(|reply| reply.status.as_u16());
        self.world.holds(|ledger| ledger.ends(self.clock.now(), &under_way.seen, status));
        answer
    }
}

impl Downstream {
    /// The source of an event is told its result.
    async fn report(&self, request: &Outbound) -> Result<Reply, Fault> {
        let number = request.url.path().trim_start_matches('/').parse().unwrap();
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let successful = body["successful"].as_bool().unwrap();
        self.world.holds(|ledger| ledger.reports(self.clock.now(), number, successful));
        let answer = timeout(request.timeout, self.take(number, successful)).await;
        answer.unwrap_or_else(|_elapsed| fault(FaultKind::Timeout))
    }

    async fn take(&self, number: u64, successful: bool) -> Result<Reply, Fault> {
        let mood = self.world.moods.lock().get(REPORTS).copied().unwrap_or(Mood::Well);
        let takes = |answer| {
            // A transfer that has its result is no longer listed.
            let is_first = self.world.ledger.lock().taken.insert(number, successful).is_none();
            if is_first { answer } else { reply(404, None) }
        };
        sleep(Duration::from_millis(u64::from(self.world.roll(50)))).await;
        match mood {
            Mood::Well => takes(reply(204, None)),
            Mood::Failing => reply(503, None),
            Mood::Hanging => {
                sleep(Duration::from_secs(3600)).await;
                reply(204, None)
            }
            Mood::Trickling => {
                let answer = takes(reply(204, None));
                // Sometimes the answer comes too late.
                sleep(Duration::from_millis([1500, 2500][self.world.roll(2) as usize])).await;
                answer
            }
            Mood::Resetting if self.world.roll(2) == 0 => takes(fault(FaultKind::Reset)),
            Mood::Resetting => fault(FaultKind::Connect),
            Mood::Limiting => reply(429, Some("1")),
            Mood::Lying => takes(reply(500, None)),
            Mood::Rejecting | Mood::Gone => {
                self.world.ledger.lock().refused.insert(number);
                reply(if mood == Mood::Gone { 410 } else { 422 }, None)
            }
        }
    }

    async fn answer(&self, destination: &str) -> Result<Reply, Fault> {
        let (mood, millis, dice) = {
            let mood = self.world.moods.lock().get(destination).copied().unwrap_or(Mood::Well);
            (mood, self.world.roll(50), self.world.roll(5) as usize)
        };
        sleep(Duration::from_millis(u64::from(millis))).await;
        match mood {
            Mood::Well => reply([200, 201, 202, 204, 299][dice], None),
            Mood::Failing => reply([500, 503, 404, 302, 401][dice], None),
            Mood::Hanging => {
                sleep(Duration::from_secs(3600)).await;
                reply(200, None)
            }
            Mood::Trickling => {
                sleep(Duration::from_millis(1500)).await;
                reply(200, None)
            }
            Mood::Resetting => fault([FaultKind::Reset, FaultKind::Connect, FaultKind::Tls, FaultKind::Dns, FaultKind::Protocol][dice]),
            Mood::Limiting => reply(429, Some(["0", "1", "1000000000000", "-1", "Tue, 14 Nov 2000 22:14:20 GMT"][dice])),
            Mood::Lying => reply(500, None),
            Mood::Rejecting => reply(422, None),
            Mood::Gone => reply(410, None),
        }
    }
}

/// Programs without a process: what a child does, here and now.
pub(crate) struct InProcess;

/// Compiled once for all seeds.
static COMPILED: Mutex<Vec<(Arc<Programs>, Arc<Compiled>)>> = Mutex::new(Vec::new());

#[async_trait]
impl Engine for InProcess {
    async fn run(&self, programs: &Arc<Programs>, task: Task, input: Bytes) -> Result<Made, Failure> {
        let compiled = {
            let mut known = COMPILED.lock();
            let found = known.iter().find(|(known, _)| known == programs).map(|(_, compiled)| compiled.clone());
            found.unwrap_or_else(|| {
                let compiled = Arc::new(Compiled::new(programs).unwrap());
                known.push((programs.clone(), compiled.clone()));
                compiled
            })
        };
        compiled.run(task, &input).map_err(|(step, text)| Failure::Program { step, text })
    }
}
