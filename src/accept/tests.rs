use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, Method};

use super::*;
use crate::clock::TokioClock;
use crate::config::{DeliverTo, PathPattern, Segment};
use crate::model::{Name, Timestamp};
use crate::signature::Verifier;
use crate::store::EventFilter;
use crate::store::memory::{MemoryStore, Mood};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn route(path: &str) -> Route {
    let segments = path.split('/').skip(1).map(|segment| match segment.strip_prefix('{') {
        Some(name) => Segment::Any(name.trim_end_matches('}').into()),
        None => Segment::Literal(segment.into()),
    });
    Route {
        name: Name::from("invoices"),
        path: Some(PathPattern { text: path.into(), segments: segments.collect() }),
        methods: vec![Method::POST],
        verifier: Verifier::none(),
        dedupe_key: None,
        dedupe_window: Duration::from_secs(60),
        order_by: None,
        body_limit: 1024,
        rate: None,
        respond: Some(Answer { status: 202, content_type: None, body: Bytes::new() }),
        wait: None,
        deliver: vec![DeliverTo::everything(Name::from("erp")), DeliverTo::everything(Name::from("archive"))],
        quarantine: None,
        inpasy: None,
        pull: None,
        acknowledge: None,
        confirm: None,
    }
}

fn verified(route: &Route, target: &'static str, body: &'static str) -> Verified {
    let inbound = Inbound {
        method: Method::POST,
        target: Bytes::from_static(target.as_bytes()),
        base: Arc::from("http://localhost"),
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        received_at: NOW,
    };
    route.verifier.verify(inbound, NOW).ok().unwrap()
}

fn acceptor() -> (Arc<MemoryStore>, Acceptor) {
    let store = Arc::new(MemoryStore::new());
    let acceptor = Acceptor::new(store.clone(), Arc::new(TokioClock::starting_at(NOW)), IdSource::seeded(1));
    (store, acceptor)
}

#[tokio::test(start_paused = true)]
async fn an_event_is_committed_with_one_delivery_for_each_destination() {
    let (store, acceptor) = acceptor();
    let route = route("/a");
    let receipt = acceptor.accept(&route, verified(&route, "/a?x=1", "{}")).await.unwrap();
    assert_eq!(receipt.answer().status, 202);
    let record = store.record(receipt.event()).await.unwrap().unwrap();
    assert_eq!(record.event.target, "/a?x=1");
    let destinations: Vec<_> = record.deliveries.iter().map(|delivery| &*delivery.destination).collect();
    assert_eq!(destinations, ["erp", "archive"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_body_is_a_repeat_and_the_same_body_at_another_path_is_not() {
    let (store, acceptor) = acceptor();
    let route = route("/shops/{shop}");
    let first = acceptor.accept(&route, verified(&route, "/shops/1", "{}")).await.unwrap();
    let again = acceptor.accept(&route, verified(&route, "/shops/1", "{}")).await.unwrap();
    let other = acceptor.accept(&route, verified(&route, "/shops/2", "{}")).await.unwrap();
    assert!(again.is_repeat() && again.event() == first.event());
    assert!(!other.is_repeat());
    assert_eq!(store.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_query_tells_requests_apart_with_and_without_a_body() {
    for body in ["", "{}"] {
        let (store, acceptor) = acceptor();
        let route = route("/a");
        for target in ["/a?id=1", "/a?id=2", "/a?id=1"] {
            acceptor.accept(&route, verified(&route, target, body)).await.unwrap();
        }
        assert_eq!(store.len(), 2, "{body:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_and_headers_of_the_connection_are_not_stored() {
    let (store, acceptor) = acceptor();
    let route = route("/a");
    let mut inbound = verified(&route, "/a", "{}").into_parts().0;
    for name in ["authorization", "cookie", "connection", "host", "x-event"] {
        inbound.headers.insert(name, http::HeaderValue::from_static("x"));
    }
    let receipt = acceptor.accept(&route, route.verifier.verify(inbound, NOW).ok().unwrap()).await.unwrap();
    let stored = store.event(receipt.event()).await.unwrap().unwrap().headers;
    assert_eq!(stored.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["x-event"]);
}

#[tokio::test(start_paused = true)]
async fn a_window_of_zero_stores_every_repeat() {
    let (store, acceptor) = acceptor();
    let route = Route { dedupe_window: Duration::ZERO, ..route("/a") };
    for _ in 0..2 {
        acceptor.accept(&route, verified(&route, "/a", "{}")).await.unwrap();
    }
    assert_eq!(store.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_secret_segment_of_a_path_is_not_stored() {
    let (store, acceptor) = acceptor();
    let route = route("/in/{secret}/{shop}");
    acceptor.accept(&route, verified(&route, "/in/hunter2/%2F7?a=/b/hunter", "{}")).await.unwrap();
    let (items, _) = store.list(&EventFilter::default(), None, 10).await.unwrap();
    assert_eq!(items[0].event.target, "/in/{secret}/%2F7?a=/b/hunter");
}

#[tokio::test(start_paused = true)]
async fn a_commit_still_queued_at_the_deadline_is_called_off_for_good() {
    let (store, acceptor) = acceptor();
    let route = route("/a");
    store.set_mood(Mood::Stalled);
    let refused = acceptor.accept(&route, verified(&route, "/a", "{}")).await;
    assert!(matches!(refused, Err(Unaccepted::Refused(_))), "{refused:?}");
    store.set_mood(Mood::Willing);
    assert!(store.is_empty(), "what was answered 503 is never stored later");
}

#[tokio::test(start_paused = true)]
async fn seeded_sources_mint_the_same_distinct_ids() {
    let (one, other) = (IdSource::seeded(7), IdSource::seeded(7));
    let first = one.mint(NOW);
    assert_eq!(first, other.mint(NOW));
    assert_ne!(first, one.mint(NOW));
}
