//! Slow and silent clients: every kind of waiting ends.

use std::sync::Arc;
use std::time::Duration;

use kurier::accept::QUEUED_TIME_MAX;
use kurier::config::Route;
use kurier::server::{Connection, serve_stream};
use kurier::store::memory::Mood;
use tokio::time::{Instant, sleep};

use super::client::{Client, get, post};
use super::world::{World, config, events, ingress, route, server};

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
    world.client().await.ends_here().await;
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
    client.ends_here().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_last_answer() {
    let world = impatient().await;
    let mut client = world.client().await;
    assert_eq!(client.ask(get("/livez")).await.status, 200);
    sleep(SHORT / 2).await;
    assert_eq!(client.ask(get("/livez")).await.status, 200);
    client.ends_here().await;
}

#[tokio::test]
async fn a_body_that_stalls_gets_408_and_stores_nothing() {
    let world = impatient().await;
    let mut client = world.client().await;
    let answer = client.ask("POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    client.ends_here().await;
    assert!(world.store.is_empty());
    assert_eq!(world.refused("orders", "too_slow"), 1);
}

#[tokio::test]
async fn a_body_at_a_byte_per_read_is_slower_than_allowed_whatever_came_fast_before() {
    for at_once in [0, 90_000] {
        trickled(at_once).await;
    }
}

async fn trickled(at_once: usize) {
    let world = impatient().await;
    let mut client = world.client().await;
    client.send("POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n").await;
    client.send("x".repeat(at_once)).await;
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
async fn a_client_that_does_not_read_its_answers_is_disconnected() {
    let world = World::with(|setup| setup.options.write_timeout = SHORT).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = Client::over(socket.connect(world.address).await.unwrap());
    let batch = get("/livez").repeat(100);
    // Both directions fill up, then the server gives up and this write fails.
    let flood = async { while tokio::io::AsyncWriteExt::write_all(&mut client.stream, batch.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(SHORT * 30, flood).await.expect("kept open by a client that doesn't read");
}

/// Over a pipe, so that the store's deadline passes in no time.
#[tokio::test(start_paused = true)]
async fn a_commit_that_is_queued_too_long_gets_503_and_is_never_stored() {
    let (store, ingress) = ingress(config(server(), vec![route()]));
    store.set_mood(Mood::Stalled);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let connection = Connection { peer: ([127, 0, 0, 1], 1).into(), tls: false };
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let served = tokio::spawn(serve_stream(theirs, connection, Arc::new(ingress.service()), Arc::default(), stopping));
    let mut client = Client::over(ours);
    client.send(post("/in", "hello")).await;
    let begun = Instant::now();
    sleep(QUEUED_TIME_MAX).await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert!(begun.elapsed() < QUEUED_TIME_MAX * 2);
    store.set_mood(Mood::Willing);
    assert!(store.is_empty());
    stop.send_replace(true);
    client.ends_here().await;
    served.await.unwrap();
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
