//! Stopping in order: nothing new, what was begun is finished, the rest is closed.

use std::time::Duration;

use kurier::store::memory::Mood;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::client::{get, post};
use super::world::World;

const A_MOMENT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_request_that_was_begun_is_finished_and_idle_connections_are_closed() {
    let mut world = World::new().await;
    let mut idle = world.client().await;
    assert_eq!(idle.ask(get("/livez")).await.status, 200);
    let silent = world.client().await;
    let mut half = world.client().await;
    half.send("POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhe").await;
    sleep(A_MOMENT).await;
    world.begin_stop();
    idle.ends_here().await;
    silent.ends_here().await;
    assert!(TcpStream::connect(world.address).await.is_err(), "nothing new is accepted");
    assert_eq!(half.ask("llo").await.status, 202);
    half.ends_here().await;
    let (store, stopped) = world.stop().await;
    assert_eq!((store.len(), stopped.forced), (1, 0));
}

#[tokio::test]
async fn what_is_still_busy_after_the_grace_period_is_closed_without_an_answer_and_called_off() {
    let world = World::with(|setup| setup.options.grace = A_MOMENT * 2).await;
    world.store.set_mood(Mood::Stalled);
    let mut client = world.client().await;
    client.send(post("/in", "hello")).await;
    sleep(A_MOMENT).await;
    let (store, stopped) = world.stop().await;
    assert_eq!(stopped.forced, 1);
    client.ends_here().await;
    store.set_mood(Mood::Willing);
    assert!(store.is_empty());
}
