//! Slow and silent clients: every kind of waiting ends.

use std::time::Duration;

use kurier::config::Route;
use kurier::store::memory::Mood;
use tokio::time::{Instant, sleep};

use super::client::{get, post};
use super::world::{World, events, route};

/// Short enough for a test, long enough for a loaded machine to answer within.
const SHORT: Duration = Duration::from_millis(300);

async fn impatient() -> World {
    World::with(|setup| {
        setup.options.head_timeout = SHORT;
        setup.options.idle_timeout = SHORT;
        setup.server.limits.read_timeout = SHORT;
        setup.routes = vec![Route { body_limit: 100_000, ..route() }];
    })
    .await
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let world = impatient().await;
    world.client().await.is_closed().await;
}

#[tokio::test]
async fn a_head_that_does_not_end_is_closed_however_it_trickles() {
    let world = impatient().await;
    for beginning in ["P", "PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "POST /in HTTP/1.1\r\nHost: localhost\r\n"] {
        let begun = Instant::now();
        let mut client = world.client().await;
        client.send(beginning).await;
        client.rest().await;
        assert!(begun.elapsed() < SHORT * 10, "{beginning:?}");
    }
    let begun = Instant::now();
    let mut client = world.client().await;
    client.send("POST /in HTTP/1.1\r\nX: ").await;
    let mut broken = false;
    while begun.elapsed() < SHORT * 10 && !broken {
        broken = tokio::io::AsyncWriteExt::write_all(&mut client.stream, b"y").await.is_err();
        sleep(SHORT / 10).await;
    }
    assert!(broken, "a byte now and then keeps a head open");
}

#[tokio::test]
async fn a_second_head_is_timed_like_the_first() {
    let world = impatient().await;
    let mut client = world.client().await;
    assert_eq!(client.ask(get("/livez")).await.status, 200);
    client.send("POST /in HTTP/1.1\r\n").await;
    client.is_closed().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_last_answer() {
    let world = impatient().await;
    let mut client = world.client().await;
    assert_eq!(client.ask(get("/livez")).await.status, 200);
    sleep(SHORT / 2).await;
    assert_eq!(client.ask(get("/livez")).await.status, 200);
    client.is_closed().await;
}

#[tokio::test]
async fn a_body_that_stalls_gets_408_and_stores_nothing() {
    let world = impatient().await;
    let mut client = world.client().await;
    let answer = client.ask("POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    client.is_closed().await;
    assert!(world.store.is_empty());
    assert_eq!(world.refused("orders", "too_slow"), 1);
}

#[tokio::test]
async fn a_body_at_a_byte_per_read_is_slower_than_allowed() {
    let world = impatient().await;
    let mut client = world.client().await;
    client.send("POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n").await;
    let (mut reading, mut writing) = client.stream.split();
    let trickle = async {
        loop {
            sleep(SHORT / 10).await;
            if tokio::io::AsyncWriteExt::write_all(&mut writing, b"x").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut answer = [0; 12];
    let read = tokio::io::AsyncReadExt::read_exact(&mut reading, &mut answer);
    tokio::select! {
        read = tokio::time::timeout(SHORT * 10, read) => drop(read.expect("held open by trickling").unwrap()),
        () = trickle => {}
    }
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert!(world.store.is_empty());
}

#[tokio::test]
async fn a_client_that_hangs_up_while_its_commit_is_queued_is_not_stored() {
    let world = World::new().await;
    world.store.set_mood(Mood::Stalled);
    let mut client = world.client().await;
    client.send(post("/in", "hello")).await;
    let mut half = world.client().await;
    half.send("POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf").await;
    sleep(SHORT / 3).await;
    drop((client, half));
    // The stop waits until both connections are over.
    let (store, stopped) = world.stop().await;
    assert_eq!(stopped.forced, 0);
    store.set_mood(Mood::Willing);
    assert!(events(&store).await.is_empty());
}
