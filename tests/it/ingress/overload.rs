//! Rates, bytes in flight, connections: what is over a limit is told so, and the limit is the only thing lost.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use kurier::config::Route;
use kurier::model::Rate;
use kurier::store::memory::Mood;
use tokio::time::sleep;

use super::client::{Client, get, post};
use super::world::{World, config, route};

fn per_hour(count: u32) -> Option<Rate> {
    Some(Rate { count: NonZeroU32::new(count).unwrap(), per: Duration::from_secs(3600) })
}

#[tokio::test]
async fn over_the_routes_rate_gets_429_with_retry_after() {
    let world = World::with(|setup| setup.routes = vec![Route { rate: per_hour(60), ..route() }]).await;
    let mut client = world.client().await;
    assert_eq!(client.ask(post("/in", "one")).await.status, 202);
    let answer = client.ask(post("/in", "two")).await;
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!((world.store.len(), world.refused("orders", "rate")), (1, 1));
}

#[tokio::test]
async fn over_the_addresss_rate_gets_429_before_the_body_is_read() {
    let world = World::with(|setup| setup.server.limits.per_address = per_hour(60)).await;
    let mut client = world.client().await;
    assert_eq!(client.ask(post("/in", "one")).await.status, 202);
    let answer = client.ask("POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("60")));
    client.ends_here().await;
    assert_eq!(world.client().await.ask(get("/livez")).await.status, 200, "health is not counted");
}

#[tokio::test]
async fn limiters_survive_a_reload_that_does_not_change_their_rate() {
    let limited = || Route { rate: per_hour(60), ..route() };
    let world = World::with(|setup| setup.routes = vec![limited()]).await;
    let mut client = world.client().await;
    assert_eq!(client.ask(post("/in", "one")).await.status, 202);
    let reload = |routes| {
        let old = world.config.load_full();
        let server = super::answers::same_server(&old.server);
        world.config.store(Arc::new(config(server, routes)));
    };
    reload(vec![limited()]);
    assert_eq!(client.ask(post("/in", "two")).await.status, 429, "a reload hands out no fresh burst");
    reload(vec![Route { rate: per_hour(120), ..route() }]);
    assert_eq!(client.ask(post("/in", "two")).await.status, 202, "another rate is another limiter");
}

#[tokio::test]
async fn bodies_over_the_bytes_in_flight_get_503_until_there_is_room() {
    let world = World::with(|setup| {
        setup.server.limits.in_flight = 1500;
        setup.server.limits.read_timeout = Duration::from_secs(5);
    })
    .await;
    world.store.set_mood(Mood::Stalled);
    let mut holder = world.client().await;
    holder.send(post("/in", &"a".repeat(1000))).await;
    sleep(Duration::from_millis(200)).await;

    let mut client = world.client().await;
    let answer = client.ask("POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 600\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "known from the announced length");
    client.ends_here().await;
    let mut client = world.client().await;
    let chunk = format!("POST /in HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n258\r\n{}\r\n", "b".repeat(600));
    assert_eq!(client.ask(chunk).await.status, 503, "known when it has arrived");
    client.ends_here().await;

    world.store.set_mood(Mood::Willing);
    assert_eq!(holder.answer().await.unwrap().status, 202);
    assert_eq!(world.client().await.ask(post("/in", &"c".repeat(1000))).await.status, 202);
    assert_eq!((world.store.len(), world.refused("orders", "overload")), (2, 2));
}

#[tokio::test]
async fn merely_announced_bytes_lock_nobody_out() {
    let world = World::with(|setup| setup.server.limits.in_flight = 2000).await;
    let mut announcers = Vec::new();
    for _ in 0..20 {
        let mut client = world.client().await;
        client.send("POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1024\r\n\r\n").await;
        announcers.push(client);
    }
    sleep(Duration::from_millis(100)).await;
    assert_eq!(world.client().await.ask(post("/in", &"x".repeat(1000))).await.status, 202);
}

#[tokio::test]
async fn connections_over_the_limit_wait_until_one_ends() {
    let world = World::with(|setup| setup.options.connections_max = 2).await;
    let mut one = world.client().await;
    let mut two = world.client().await;
    assert_eq!(one.ask(get("/livez")).await.status, 200);
    assert_eq!(two.ask(get("/livez")).await.status, 200);
    let mut three: Client = world.client().await;
    three.send(get("/livez")).await;
    let early = tokio::time::timeout(Duration::from_millis(200), three.answer()).await;
    assert!(early.is_err(), "served although two are open");
    drop(one);
    assert_eq!(three.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn three_hundred_silent_connections_leave_room_for_a_request() {
    let world = World::with(|setup| setup.options.connections_max = 400).await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(world.client().await);
    }
    assert_eq!(world.client().await.ask(post("/in", "hello")).await.status, 202);
}
