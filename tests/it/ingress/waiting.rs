//! `respond.wait`: the answer comes after the outcome, or after the time is up; the event is durable before.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use kurier::config::{DeliverTo, Route, Wait};
use kurier::ingress::Ingress;
use kurier::model::{Answer, DeadCode, DeadReason, DeliveryState, Name, Timestamp};
use kurier::store::memory::MemoryStore;
use kurier::store::{Settled, Settlement, Store};
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

use super::world::{config, ingress_with, route, server};

fn says(status: u16, body: &'static str) -> Option<Answer> {
    Some(Answer { status, content_type: Some("text/plain".into()), body: Bytes::from_static(body.as_bytes()) })
}

/// A port whose route waits two seconds for two destinations.
fn world() -> (Arc<MemoryStore>, Settled, Ingress) {
    let wait =
        Wait { time: Duration::from_secs(2), delivered: says(201, "delivered"), dead: says(202, "dead"), otherwise: says(203, "later") };
    let deliver = ["erp", "shop"].map(|name| DeliverTo::everything(Name::from(name))).into();
    let settled = Settled::default();
    let (store, ingress) = ingress_with(config(server(), vec![Route { wait: Some(wait), deliver, ..route() }]), settled.clone());
    (store, settled, ingress)
}

async fn post(ingress: &Ingress) -> (u16, String) {
    let request = Request::builder().method(Method::POST).uri("/in").header("host", "h").body(Full::new(Bytes::from("x"))).unwrap();
    let answer = ingress.service().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    (status, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

/// Settles the first delivery that waits, as a relay does.
async fn settle(store: &MemoryStore, settled: &Settled, state: DeliveryState) {
    let pending = loop {
        if let Some(pending) = store.pending_after(0, 1).await.unwrap().pop() {
            break pending;
        }
        sleep(Duration::from_millis(10)).await;
    };
    let settlement =
        Settlement { delivery: pending.id, version: pending.version, attempt: None, attempts: 1, state, acknowledgement: None };
    store.settle(settlement).await.unwrap();
    settled.hint(pending.id.event);
}

fn dead() -> DeliveryState {
    DeliveryState::Dead(DeadReason { code: DeadCode::Rejected, detail: "status 422".into() })
}

#[tokio::test(start_paused = true)]
async fn the_answer_says_what_became_of_the_event() {
    use DeliveryState::{Cancelled, Delivered, Pending, Skipped};
    let pending = || Pending { due: Timestamp::default() };
    for (states, answer) in [
        (vec![Delivered, Delivered], (201, "delivered")),
        (vec![Delivered, Skipped], (201, "delivered")),
        (vec![Skipped, Cancelled], (203, "later")),
        (vec![Delivered, dead()], (202, "dead")),
        (vec![dead()], (202, "dead")),
        (vec![Delivered], (203, "later")),
        (vec![pending(), Delivered, pending(), Delivered], (201, "delivered")),
        (vec![], (203, "later")),
    ] {
        let (store, settled, ingress) = world();
        let asked = tokio::spawn(async move { post(&ingress).await });
        for state in &states {
            sleep(Duration::from_millis(100)).await;
            settle(&store, &settled, state.clone()).await;
        }
        let (status, body) = asked.await.unwrap();
        assert_eq!((status, body.as_str()), answer, "{states:?}");
        assert_eq!((store.len(), settled.waited_for()), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn it_waits_no_longer_than_it_says_and_a_repeat_waits_for_the_same_event() {
    let (store, settled, ingress) = world();
    let before = Instant::now();
    assert_eq!(post(&ingress).await, (203, "later".to_owned()));
    assert_eq!(before.elapsed(), Duration::from_secs(2));
    settle(&store, &settled, DeliveryState::Delivered).await;
    settle(&store, &settled, DeliveryState::Delivered).await;
    assert_eq!(post(&ingress).await, (201, "delivered".to_owned()));
    assert_eq!((store.len(), before.elapsed()), (1, Duration::from_secs(2)), "the repeat stores nothing and needs no wait");
}
