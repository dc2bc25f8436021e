use std::path::Path;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, Method};
use tempfile::TempDir;

use super::*;
use crate::accept::Acceptor;
use crate::clock::{Calendar, TokioClock};
use crate::config::{self, Config, LoadOptions};
use crate::model::{Inbound, StoreStats};
use crate::orders::Orders;
use crate::signature::NoKeys;
use crate::store::memory::MemoryStore;
use crate::store::{EventFilter, Store};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn config(secret: &'static str, quarantine: &str) -> Config {
    let text = format!(
        "routes:\n  pay:\n    path: /in\n    verify: {{ preset: stripe, secrets: [{{ env: S }}] }}\n    dedupe: {{ window: 0s }}\n    {quarantine}\n    \
         deliver: [erp]\ndestinations:\n  erp: {{ url: http://127.0.0.1:1/ }}\n"
    );
    parsed(&text, secret)
}

fn parsed(text: &str, secret: &'static str) -> Config {
    match config::parse(text, Path::new("routes.yaml"), Path::new("."), &|_: &str| Some(secret.to_owned()), &LoadOptions::default()) {
        Ok(loaded) => loaded.config,
        Err(error) => panic!("{error}"),
    }
}

/// A request that is genuine under this secret at this time.
fn signed(secret: &'static str, at: Timestamp, body: &'static [u8]) -> Inbound {
    let mut headers = HeaderMap::new();
    headers.append("x-odd", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
    headers.append("x-odd", HeaderValue::from_static("two"));
    let draft = Inbound {
        method: Method::POST,
        target: Bytes::from_static(b"/in?a=%2F"),
        base: "http://kurier.example".into(),
        headers,
        body: Bytes::from_static(body),
        peer: "192.0.2.7".parse().unwrap(),
        received_at: at,
    };
    config(secret, KEEPS).routes[0].verifier.sample(draft, at).unwrap()
}

/// Tokio's clock, whose date can be set.
struct Hands {
    clock: TokioClock,
    ahead: Mutex<Duration>,
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        self.clock.now().saturating_add(*self.ahead.lock())
    }

    fn boot(&self) -> Duration {
        self.clock.boot()
    }
}

struct World {
    live: Live,
    changed: watch::Sender<()>,
    clock: Arc<Hands>,
    metrics: Arc<Metrics>,
    store: Arc<MemoryStore>,
    quarantine: Quarantine,
    releases: Releases,
}

const KEEPS: &str = "quarantine: { keep: 3, max_age: 1h }";

impl World {
    fn over(shelf: Arc<dyn Shelf>, quarantine: &str, store: Arc<MemoryStore>) -> Self {
        Self::starting(shelf, quarantine, store, Duration::ZERO)
    }

    /// One whose clock is so far ahead from the start.
    fn starting(shelf: Arc<dyn Shelf>, quarantine: &str, store: Arc<MemoryStore>, ahead: Duration) -> Self {
        let live: Live = Arc::new(ArcSwap::from_pointee(config("the wrong secret of all", quarantine)));
        let (changed, changes) = watch::channel(());
        let clock = Arc::new(Hands { clock: TokioClock::starting_at(NOW), ahead: Mutex::new(ahead) });
        let metrics = Arc::new(Metrics::new());
        let ids = IdSource::seeded(7);
        let calendar: Arc<dyn Clock> = Arc::new(Calendar::new(clock.clone()));
        let parts = Parts { shelf, config: live.clone(), changes, clock: calendar, metrics: metrics.clone(), ids: ids.clone() };
        let quarantine = Quarantine::start(parts);
        let acceptor = Acceptor::new(store.clone(), clock.clone(), ids);
        let orders = Orders::unreachable(store.clone(), clock.clone(), acceptor.clone());
        let releases = Releases::new(Tools {
            quarantine: quarantine.clone(),
            acceptor,
            orders,
            keys: Arc::new(NoKeys),
            store: store.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
        });
        Self { live, changed, clock, metrics, store, quarantine, releases }
    }

    fn in_folder(folder: &TempDir) -> Self {
        Self::over(Arc::new(Files::in_folder(&folder.path().join("quarantine"))), KEEPS, Arc::new(MemoryStore::new()))
    }

    fn configure(&self, secret: &'static str, quarantine: &str) {
        self.live.store(Arc::new(config(secret, quarantine)));
        self.changed.send_replace(());
    }

    /// Judges a request as the way in does, and keeps it when it is refused.
    fn take(&self, inbound: Inbound) -> Option<Refusal> {
        let (config, now) = (self.live.load_full(), self.clock.now());
        let route = &config.routes[0];
        let unverified = route.verifier.judge_or_return(inbound, now, &NoKeys).err()?;
        let refusal = unverified.refusal;
        self.quarantine.keep(route, *unverified, now);
        Some(refusal)
    }

    async fn kept(&self) -> Vec<RefusalId> {
        self.quarantine.list(None, Received::default(), None, 1000).await.into_iter().map(|(_, id)| id).collect()
    }

    async fn wait_for(&self, count: usize) -> Vec<RefusalId> {
        loop {
            let kept = self.kept().await;
            if kept.len() == count {
                return kept;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn release(&self) -> Page {
        let config = self.live.load_full();
        self.releases.release(&config, &config.routes[0], Wanted::default()).await
    }

    async fn events(&self) -> usize {
        self.store.list(&EventFilter::default(), None, 100).await.unwrap().0.len()
    }

    fn metric(&self, series: &str) -> String {
        let text = self.metrics.encode(&std::collections::BTreeMap::new(), &StoreStats::default());
        text.lines().find_map(|line| line.strip_prefix(series)).map(|value| value.trim().to_owned()).unwrap_or_default()
    }
}

fn files(folder: &TempDir) -> usize {
    std::fs::read_dir(folder.path().join("quarantine/pay")).map_or(0, Iterator::count)
}

#[test]
fn what_is_written_reads_back_whole_and_damage_to_any_byte_is_noticed() {
    let id = RefusalId::new(IdSource::seeded(1).mint(NOW));
    let kept = Kept {
        id,
        route: "pay".into(),
        reason: "mismatch".into(),
        judged_at: NOW,
        inbound: signed("the right secret", NOW, b"{\"a\":\xff}"),
    };
    let bytes = kept.encode().unwrap();
    assert!(bytes.len() <= kept.bytes_about() && kept.bytes_about() < bytes.len() * 2, "{} {}", bytes.len(), kept.bytes_about());
    let read = entry::whole(bytes.clone().into()).unwrap();
    assert_eq!((read.id, &*read.route, &*read.reason, read.judged_at), (id, "pay", "mismatch", NOW));
    assert_eq!(format!("{:?}", read.inbound), format!("{:?}", kept.inbound));
    assert!(entry::head(&bytes[..bytes.len() - kept.inbound.body.len()]).unwrap().is_of(&"pay".into(), id));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(entry::whole(damaged.into()).is_none(), "byte {at}");
        assert!(entry::whole(bytes[..at].to_vec().into()).is_none(), "cut at {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_corrected_secret_lets_in_what_was_signed_in_time_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::in_folder(&folder);
    assert_eq!(world.take(signed("the right secret", NOW, b"genuine")), Some(Refusal::Mismatch));
    assert_eq!(world.take(signed("a forger's secret", NOW, b"forged")), Some(Refusal::Mismatch));
    // A capture of last hour: it was too old when it came, and that it lay here makes it no younger.
    let old = NOW.saturating_sub(Duration::from_secs(3600));
    assert_eq!(world.take(Inbound { received_at: NOW, ..signed("the right secret", old, b"captured") }), Some(Refusal::Mismatch));
    world.wait_for(3).await;
    assert_eq!(world.release().await.refused, [("mismatch".into(), 3)].into());

    // By now the genuine one is too old, too, as of now.
    tokio::time::advance(Duration::from_secs(1800)).await;
    world.configure("the right secret", KEEPS);
    let config = world.live.load_full();
    let dry = world.releases.release(&config, &config.routes[0], Wanted { dry_run: true, ..Wanted::default() }).await;
    assert_eq!((dry.released.len(), world.events().await, world.kept().await.len()), (1, 0, 3));
    let page = world.release().await;
    assert_eq!(page.released, dry.released);
    assert_eq!(page.refused, [("mismatch".into(), 1), ("stale".into(), 1)].into());
    let event = world.store.event(page.released[0]).await.unwrap().unwrap();
    assert_eq!(
        (&event.body[..], &event.target[..], event.headers.get_all("x-odd").iter().count()),
        (&b"genuine"[..], &b"/in?a=%2F"[..], 2)
    );
    assert!(event.received_at >= NOW.saturating_add(Duration::from_secs(1800)), "its age as an event begins with the release");
    assert_eq!(world.metric("kurier_refusals_released_total{route=\"pay\"}"), "1");
    assert_eq!((world.wait_for(2).await.len(), files(&folder)), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_a_changed_route_would_not_take_is_not_released_and_its_paths_secret_never_stored() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::in_folder(&folder);
    world.take(signed("the right secret", NOW, b"genuine"));
    let kept = world.wait_for(1).await[0];
    let route = |settings: &str| {
        parsed(
            &format!(
                "routes:\n  pay: {{ verify: {{ preset: stripe, secrets: [{{ env: S }}] }}, {KEEPS}, deliver: [erp], {settings} }}\n\
                 destinations:\n  erp: {{ url: http://127.0.0.1:1/ }}\n"
            ),
            "the right secret",
        )
    };
    for (settings, reason) in
        [("path: /other", "unknown_path"), ("path: /in, methods: [PUT]", "method"), ("path: /in, limits: { body: 3B }", "too_large")]
    {
        let config = Arc::new(route(settings));
        world.live.store(config.clone());
        assert_eq!(world.release().await.refused, [(reason.into(), 1)].into(), "{settings}");
        let told = world.releases.diagnose(&config, &config.routes[0], kept).await.unwrap().unwrap();
        assert!(!told.accepted && told.verdict == reason && !told.steps[0].good, "{told:?}");
    }
    assert_eq!((world.events().await, world.kept().await.len()), (0, 1));
    world.configure("the right secret", KEEPS);
    assert_eq!(world.release().await.released, [kept.event()]);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_moved_is_let_in_once_its_new_address_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::in_folder(&folder);
    let allow = |network: &str| {
        let text = format!(
            "routes:\n  pay: {{ path: /in, verify: {{ allow_from: [{network}] }}, {KEEPS}, deliver: [erp] }}\n\
             destinations:\n  erp: {{ url: http://127.0.0.1:1/ }}\n"
        );
        world.live.store(Arc::new(parsed(&text, "")));
    };
    allow("198.51.100.0/24");
    assert_eq!(world.take(signed("no", NOW, b"x")), Some(Refusal::Address));
    let kept = world.wait_for(1).await[0];
    let config = world.live.load_full();
    let told = world.releases.diagnose(&config, &config.routes[0], kept).await.unwrap().unwrap();
    assert_eq!((told.accepted, &*told.steps[0].name, &*told.steps[0].seen), (false, "address", "192.0.2.7"));
    allow("192.0.2.0/24");
    assert_eq!(world.release().await.released, [kept.event()]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_commit_and_removal_makes_no_second_event() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::in_folder(&folder);
    world.take(signed("the right secret", NOW, b"genuine"));
    let kept = world.wait_for(1).await[0];
    let path = folder.path().join("quarantine/pay").join(kept.to_string());
    let bytes = std::fs::read(&path).unwrap();
    world.configure("the right secret", KEEPS);
    assert_eq!(world.release().await.released, [kept.event()]);
    assert!(!path.exists());

    // The next process finds it again.
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let shelf = Arc::new(Files::in_folder(&folder.path().join("quarantine")));
    let again = World::over(shelf, KEEPS, world.store.clone());
    again.configure("the right secret", KEEPS);
    let page = again.release().await;
    assert_eq!((page.released.len(), page.repeated, again.events().await), (0, 1, 1));
    assert!(again.kept().await.is_empty() && !path.exists());
}

#[tokio::test(start_paused = true)]
async fn a_ring_keeps_the_newest_until_they_are_too_old_or_the_route_keeps_none() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::in_folder(&folder);
    for number in 0..10_u64 {
        let at = NOW.saturating_add(Duration::from_secs(number));
        world.take(Inbound { received_at: at, ..signed("no", NOW, b"x") });
    }
    let kept = world.wait_for(3).await;
    let newest: Vec<i64> = kept.iter().map(|id| id.received_at().millis() - NOW.millis()).collect();
    assert_eq!((newest, files(&folder)), (vec![9000, 8000, 7000], 3));
    assert_eq!(world.metric("kurier_refusals_kept{route=\"pay\"}"), "3");
    let received =
        Received { since: Some(NOW.saturating_add(Duration::from_secs(8))), until: Some(NOW.saturating_add(Duration::from_secs(9))) };
    assert_eq!(world.quarantine.list(Some("pay"), received, None, 9).await.len(), 1);
    assert!(world.quarantine.list(Some("other"), Received::default(), None, 9).await.is_empty());

    world.configure("no", "quarantine: { keep: 1, max_age: 1h }");
    assert_eq!(world.wait_for(1).await, kept[..1]);
    tokio::time::advance(Duration::from_secs(3599)).await;
    assert_eq!(world.kept().await.len(), 1);
    tokio::time::advance(Duration::from_secs(70)).await;
    world.wait_for(0).await;

    world.take(Inbound { received_at: world.clock.now(), ..signed("no", NOW, b"x") });
    world.wait_for(1).await;
    world.configure("no", "");
    world.wait_for(0).await;
    assert_eq!(files(&folder), 0);
    assert_eq!(world.metric("kurier_refusals_kept{route=\"pay\"}"), "0");
}

#[tokio::test(start_paused = true)]
async fn closing_writes_what_waits_without_a_rest_and_takes_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::in_folder(&folder);
    world.configure("another wrong one", "quarantine: { keep: 500, max_age: 1h }");
    world.kept().await;
    for _ in 0..limits::BATCH_MAX * 3 {
        world.take(signed("no", NOW, b"x"));
    }
    let begun = world.clock.boot();
    world.quarantine.close().await;
    assert_eq!(files(&folder), limits::BATCH_MAX * 3);
    assert!(world.clock.boot() - begun < limits::REST_MIN, "it rested");
    world.take(signed("no", NOW, b"x"));
    assert_eq!(world.metric("kurier_refusals_dropped_total{route=\"pay\"}"), "1");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ends_nothing_before_it_has_been_steady() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::in_folder(&folder);
    world.take(signed("no", NOW, b"x"));
    world.wait_for(1).await;
    *world.clock.ahead.lock() = Duration::from_secs(30 * 24 * 3600);
    tokio::time::advance(Duration::from_secs(100)).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(world.kept().await.len(), 1);
    *world.clock.ahead.lock() = Duration::ZERO;
    tokio::time::sleep(Duration::from_secs(1800)).await;
    assert_eq!(world.kept().await.len(), 1);
    tokio::time::sleep(Duration::from_secs(1800)).await;
    world.wait_for(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_with_a_wrong_date_ends_nothing_before_it_has_been_steady() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::in_folder(&folder);
    world.take(signed("no", NOW, b"x"));
    world.wait_for(1).await;
    world.quarantine.close().await;
    let shelf = Arc::new(Files::in_folder(&folder.path().join("quarantine")));
    let world = World::starting(shelf, KEEPS, Arc::new(MemoryStore::new()), Duration::from_secs(30 * 24 * 3600));
    tokio::time::sleep(Duration::from_secs(500)).await;
    assert_eq!(world.kept().await.len(), 1);
    tokio::time::sleep(Duration::from_secs(300)).await;
    world.wait_for(0).await;
}

#[tokio::test]
async fn what_can_not_be_read_hides_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Files::in_folder(&folder.path().join("quarantine"));
    let id = RefusalId::new(IdSource::seeded(1).mint(NOW));
    shelf.put(vec![Item { route: "pay".into(), id, bytes: vec![1; 9] }]).await.unwrap();
    let beside = |name: &str| folder.path().join("quarantine").join(name);
    // Neither can be removed or read as what its name says; `lost+found` is on every volume of its own.
    std::fs::create_dir(beside("pay").join(id.to_string()).with_extension("part")).unwrap();
    std::fs::create_dir(beside("pay").join(RefusalId::new(IdSource::seeded(2).mint(NOW)).to_string())).unwrap();
    std::fs::create_dir(beside("lost+found")).unwrap();
    std::fs::write(beside("stray"), "").unwrap();
    std::os::unix::fs::symlink("nowhere", beside("pay").join(RefusalId::new(IdSource::seeded(3).mint(NOW)).to_string())).unwrap();
    assert_eq!(shelf.list().await.unwrap(), [(Name::from("pay"), id, 9)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_of_the_last_one_takes_no_folder_away_from_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Files::in_folder(&folder.path().join("quarantine"));
    let (route, ids) = (Name::from("pay"), IdSource::seeded(1));
    let mut last = None;
    for _ in 0..500 {
        let id = RefusalId::new(ids.mint(NOW));
        let removing = tokio::spawn({
            let (shelf, items) = (shelf.clone(), last.map(|id| (route.clone(), id)).into_iter().collect());
            async move { shelf.remove(items).await }
        });
        shelf.put(vec![Item { route: route.clone(), id, bytes: vec![1] }]).await.unwrap();
        removing.await.unwrap().unwrap();
        last = Some(id);
    }
    assert_eq!(shelf.list().await.unwrap().len(), 1);
}

/// A disk that never answers.
struct Stuck;

#[async_trait]
impl Shelf for Stuck {
    async fn list(&self) -> std::io::Result<Vec<(Name, RefusalId, u64)>> {
        Ok(Vec::new())
    }

    async fn put(&self, _items: Vec<Item>) -> std::io::Result<()> {
        std::future::pending().await
    }

    async fn get(&self, _route: &Name, _id: RefusalId, _part: Part) -> std::io::Result<Option<Bytes>> {
        Ok(None)
    }

    async fn remove(&self, _items: Vec<(Name, RefusalId)>) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_stuck_disk_and_what_can_not_be_kept_is_counted() {
    let world = World::over(Arc::new(Stuck), KEEPS, Arc::new(MemoryStore::new()));
    assert!(world.kept().await.is_empty());
    let count = QUEUE_MAX * 2;
    for _ in 0..count {
        assert_eq!(world.take(signed("no", NOW, b"x")), Some(Refusal::Mismatch));
    }
    let dropped: usize = world.metric("kurier_refusals_dropped_total{route=\"pay\"}").parse().unwrap();
    assert!((count - QUEUE_MAX - limits::BATCH_MAX..=count - QUEUE_MAX).contains(&dropped), "{dropped}");

    let large = World::over(Arc::new(Stuck), KEEPS, Arc::new(MemoryStore::new()));
    large.take(Inbound { body: vec![0; ENTRY_BYTES_MAX].into(), ..signed("no", NOW, b"") });
    assert_eq!(large.metric("kurier_refusals_dropped_total{route=\"pay\"}"), "1");
    for _ in 0..4 {
        large.take(Inbound { body: vec![0; ENTRY_BYTES_MAX - 4096].into(), ..signed("no", NOW, b"") });
    }
    let held = large.quarantine.0.waiting_bytes.load(Ordering::Acquire);
    assert!(held <= QUEUE_BYTES_MAX && large.metric("kurier_refusals_dropped_total{route=\"pay\"}") == "3", "{held}");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_damaged_or_unreadable_stays_refused_and_hides_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::in_folder(&folder);
    for body in [b"bad", b"one", b"two"] {
        world.take(Inbound { received_at: world.clock.now(), ..signed("the right secret", NOW, body) });
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let kept = world.wait_for(3).await;
    let unreadable = folder.path().join("quarantine/pay").join(kept[2].to_string());
    std::fs::remove_file(&unreadable).unwrap();
    std::fs::create_dir(&unreadable).unwrap();
    let path = folder.path().join("quarantine/pay").join(kept[1].to_string());
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    world.configure("the right secret", KEEPS);
    let page = world.release().await;
    let refused = [("damaged".into(), 1), ("unreadable".into(), 1)].into();
    assert_eq!((page.released, page.refused, page.trouble), (vec![kept[0].event()], refused, None));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_is_not_kept_however_wrong_it_is() {
    let world = World::over(Arc::new(Stuck), KEEPS, Arc::new(MemoryStore::new()));
    let slack = "routes:\n  pay: { path: /in, verify: { preset: slack, secrets: [{ env: S }] }, quarantine: {}, deliver: [erp] }\n\
                 destinations:\n  erp: { url: http://127.0.0.1:1/ }\n";
    world.live.store(Arc::new(parsed(slack, "a secret")));
    let mut inbound = signed("no", NOW, br#"{"type":"url_verification","challenge":"v0:1:body"}"#);
    inbound.headers.insert("x-slack-signature", HeaderValue::from_static("v0=00"));
    let room = || world.quarantine.0.waiting_bytes.load(Ordering::Acquire);
    assert!(world.take(inbound.clone()).is_some() && room() == 0);
    inbound.body = Bytes::from_static(br#"{"type":"event_callback"}"#);
    assert!(world.take(inbound).is_some() && room() > 0);
}

#[test]
fn what_a_corrected_secret_can_not_undo_is_not_kept() {
    assert!(!is_kept(Refusal::KeyFetch) && !is_kept(Refusal::Handshake));
    assert!(is_kept(Refusal::Mismatch) && is_kept(Refusal::Stale) && is_kept(Refusal::Address));
}
