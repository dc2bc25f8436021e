//! Abuse that crosses several limits at once.

use std::time::Duration;

use kurier::config::Route;

use super::client::post;
use super::world::{World, route};

/// Many large bodies at once, from senders whom nobody has checked yet.
#[tokio::test]
async fn many_large_bodies_in_parallel_stay_within_the_budget_and_those_accepted_are_whole() {
    let world = World::with(|setup| {
        setup.server.limits.in_flight = 2_000_000;
        setup.routes = vec![Route { body_limit: 1_000_000, ..route() }];
    })
    .await;
    let mut clients = Vec::new();
    for n in 0..24 {
        let mut client = world.client().await;
        let body = format!("{n:02}").repeat(400_000);
        clients.push(tokio::spawn(async move {
            let answer = client.ask(post("/in", &body)).await;
            assert!(matches!(answer.status, 202 | 503), "{}", answer.status);
            answer.status
        }));
    }
    let mut accepted = 0;
    for client in clients {
        accepted += usize::from(client.await.unwrap() == 202);
    }
    let events = world.events().await;
    assert_eq!(events.len(), accepted, "exactly what got a 2xx is stored");
    assert!(events.iter().all(|event| event.body.len() == 800_000 && event.body.chunks(2).all(|pair| pair == &event.body[..2])));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(world.client().await.ask(post("/in", "afterwards")).await.status, 202, "the budget is free again");
}

/// Compressed or not, the bytes as sent are what is counted and kept: nothing here can blow up.
#[tokio::test]
async fn a_compression_bomb_is_just_its_own_bytes() {
    let world = World::new().await;
    for encoding in ["gzip", "br", "zstd", "deflate", "gzip, gzip", "x-unknown"] {
        let body = "\u{1f}\u{8b} not really compressed";
        let request = format!(
            "POST /in?{} HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n{body}",
            encoding.len(),
            body.len()
        );
        assert_eq!(world.client().await.ask(request).await.status, 202, "{encoding}");
        assert!(world.events().await.iter().all(|event| event.body == body));
    }
}
