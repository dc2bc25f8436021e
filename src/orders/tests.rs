use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::time::sleep;

use super::*;
use crate::accept::{Acceptor, IdSource};
use crate::clock::{Calendar, Clock, TokioClock};
use crate::config::{self, Live, LoadOptions, ProcessEnvironment};
use crate::connectors::inpasy::State;
use crate::egress::HttpTransport;
use crate::model::{Inbound, Name, Timestamp};
use crate::store::memory::{MemoryStore, Mood};
use crate::store::{EventFilter, Store};

const ROUTES: &str = "routes:\n  pay: { path: /in, verify: none, deliver: [shop], inpasy: { start_url: 'http://127.0.0.1:1/', vkz: '1', \
                      result: { present: paid }, expire: 24h } }\ndestinations: { shop: { url: 'http://127.0.0.1:1/' } }\n";

/// tokio's clock, set ahead by hand.
struct SetAhead(TokioClock, AtomicU64);

impl Clock for SetAhead {
    fn now(&self) -> Timestamp {
        self.0.now().saturating_add(Duration::from_secs(self.1.load(Ordering::Relaxed)))
    }

    fn boot(&self) -> Duration {
        self.0.boot()
    }
}

fn orders(store: &Arc<MemoryStore>, clock: Arc<dyn Clock>) -> (Orders, Live) {
    let file = Path::new("routes.yaml");
    let loaded = config::parse(ROUTES, file, Path::new("."), &ProcessEnvironment, &LoadOptions::default()).ok().unwrap();
    let acceptor = Acceptor::new(store.clone(), clock.clone(), IdSource::seeded(1));
    let orders = Orders::new(store.clone(), Arc::new(HttpTransport::new().unwrap()), clock, acceptor);
    (orders, Arc::new(ArcSwap::from_pointee(loaded.config)))
}

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_ahead_for_a_while_expires_nothing() {
    let store = Arc::new(MemoryStore::new());
    let clock = Arc::new(SetAhead(TokioClock::starting_at(START), AtomicU64::new(0)));
    let (orders, live) = orders(&store, Arc::new(Calendar::new(clock.clone())));
    let (route, lid) = (Name::from("pay"), Lid::parse("123456789012").unwrap());
    orders.0.keep(&route, &lid, Some(&Kept::open(clock.now()))).await.unwrap();
    let task = tokio::spawn(orders.clone().expire(live));
    let state = async || orders.order(&route, &lid).await.unwrap().map(|kept| kept.state());

    sleep(Duration::from_secs(60)).await;
    clock.1.store(30 * 24 * 3600, Ordering::Relaxed);
    sleep(Duration::from_secs(300)).await;
    clock.1.store(0, Ordering::Relaxed);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!((state().await, store.len()), (Some(State::Open), 0));
    sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(state().await, Some(State::Expired), "dates count again once the clock is steady");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn an_order_that_was_placed_by_a_clock_ahead_expires_in_its_time_once_the_clock_is_right() {
    let store = Arc::new(MemoryStore::new());
    let clock = Arc::new(TokioClock::starting_at(START));
    let (orders, live) = orders(&store, Arc::new(Calendar::new(clock.clone())));
    let (route, lid) = (Name::from("pay"), Lid::parse("123456789012").unwrap());
    let placed_at = START.saturating_add(Duration::from_secs(400 * 24 * 3600));
    orders.0.keep(&route, &lid, Some(&Kept::open(placed_at))).await.unwrap();
    let task = tokio::spawn(orders.clone().expire(live));
    sleep(Duration::from_secs(24 * 3600 - 60)).await;
    assert_eq!(state(&orders).await, Some(State::Open));
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(state(&orders).await, Some(State::Expired));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn an_order_without_a_callback_expires_once_and_is_forgotten_in_the_end() {
    let store = Arc::new(MemoryStore::new());
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(START));
    let (orders, live) = orders(&store, Arc::new(Calendar::new(clock.clone())));
    let (route, lid) = (Name::from("pay"), Lid::parse("123456789012").unwrap());
    orders.0.keep(&route, &lid, Some(&Kept::open(clock.now()))).await.unwrap();
    let task = tokio::spawn(orders.clone().expire(live));
    let state = async || orders.order(&route, &lid).await.unwrap().map(|kept| kept.state());

    sleep(Duration::from_secs(24 * 3600 - 60)).await;
    assert_eq!(state().await, Some(State::Open));
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(state().await, Some(State::Expired));
    let (events, _) = store.list(&EventFilter::default(), None, 10).await.unwrap();
    assert_eq!(events.iter().map(|event| event.event.event_type.as_deref()).collect::<Vec<_>>(), [Some("inpasy.expired")]);
    sleep(Duration::from_secs(9 * 24 * 3600)).await;
    assert_eq!(state().await, None);
    assert_eq!(store.len(), 1);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_shop_without_end_gets_no_more_orders_than_the_limit() {
    let store = Arc::new(MemoryStore::new());
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(START));
    let (orders, live) = orders(&store, clock.clone());
    let kept = Kept::open(clock.now()).to_bytes();
    for number in 0..ORDERS_MAX {
        store.set_state(format!("inpasy/gone/{number:012}"), Some(kept.clone().into())).await.unwrap();
    }
    let config = live.load_full();
    let (route, settings) = (&config.routes[0].name, config.routes[0].inpasy.clone().unwrap());
    let order = serde_json::json!({ "auftragsart": "H010002", "Name": "M", "Mail": "m@example.de", "hinweis": "Karten",
        "menge": "2", "betrag": "10.00", "Bezahlverfahren": "giropay", "lid": "123456789012" });
    let place = async || orders.place(route, &settings, &order).await;
    orders.count().await.unwrap();
    assert!(matches!(place().await, Err(PlaceError::TooMany)));
    assert_eq!(orders.order(route, &Lid::parse("123456789012").unwrap()).await.unwrap(), None, "nothing was done");
    store.set_state("inpasy/gone/000000000000".to_owned(), None).await.unwrap();
    orders.count().await.unwrap();
    assert!(!matches!(place().await, Err(PlaceError::TooMany)));
    let another = serde_json::json!({ "lid": "123456789013", "x": order });
    assert!(matches!(orders.place(route, &settings, &another).await, Err(PlaceError::Parameters(_))), "what is wrong is said first");
}

fn callback(word: &str) -> Inbound {
    Inbound {
        method: http::Method::GET,
        target: Bytes::from(format!("/in?lid=123456789012&{word}=1")),
        base: "https://hooks.example.ch".into(),
        headers: http::HeaderMap::new(),
        body: Bytes::new(),
        peer: "192.0.2.1".parse().unwrap(),
        received_at: START,
    }
}

/// An open order, and the route whose callbacks complete it.
async fn open_order(store: &Arc<MemoryStore>) -> (Orders, Arc<config::Route>) {
    let (orders, live) = orders(store, Arc::new(TokioClock::starting_at(START)));
    orders.0.keep(&"pay".into(), &Lid::parse("123456789012").unwrap(), Some(&Kept::open(START))).await.unwrap();
    let route = live.load().routes[0].clone();
    (orders, route)
}

async fn complete(orders: &Orders, route: &Arc<config::Route>) -> Result<Completed, Incomplete> {
    orders.complete(route.clone(), route.inpasy.clone().unwrap(), callback("paid")).await
}

async fn state(orders: &Orders) -> Option<State> {
    orders.order(&"pay".into(), &Lid::parse("123456789012").unwrap()).await.unwrap().map(|kept| kept.state())
}

#[tokio::test(start_paused = true)]
async fn a_callback_whose_event_is_stored_is_never_refused() {
    let store = Arc::new(MemoryStore::new());
    let (orders, route) = open_order(&store).await;
    store.set_mood(Mood::FullOfStates);
    let first = complete(&orders, &route).await;
    assert!(matches!(first, Err(Incomplete::Unknown)), "nothing is said, so that it is sent again");
    assert_eq!((store.len(), state(&orders).await), (1, Some(State::Open)));

    store.set_mood(Mood::Willing);
    let again = complete(&orders, &route).await;
    assert!(matches!(again, Ok(Completed::Event(receipt)) if receipt.is_repeat()), "the repeat finds the event by its key");
    assert_eq!((store.len(), state(&orders).await), (1, Some(State::Succeeded)));
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_hangs_up_between_the_two_commits_leaves_no_order_open() {
    let store = Arc::new(MemoryStore::new());
    let (orders, route) = open_order(&store).await;
    store.set_mood(Mood::Stalled);
    assert!(tokio::time::timeout(Duration::from_millis(10), complete(&orders, &route)).await.is_err(), "the event's commit is under way");
    store.set_mood(Mood::Willing);
    sleep(Duration::from_millis(10)).await;
    assert_eq!((store.len(), state(&orders).await), (1, Some(State::Succeeded)));
}
