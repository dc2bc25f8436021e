//! What trusted proxies may say, and nobody else.

use super::client::Client;
use super::world::{World, route};
use kurier::config::Route;

const FORWARDED: &str = "POST /in HTTP/1.1\r\nHost: inner:8080\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.7\r\n\
    X-Forwarded-Proto: https\r\nX-Forwarded-Host: hooks.example.ch\r\nContent-Length: 1\r\n\r\nx";

async fn seen(world: &World) -> (String, String) {
    let mut client: Client = world.client().await;
    assert_eq!(client.ask(FORWARDED).await.status, 202);
    let event = world.events().await.remove(0);
    (event.peer.unwrap().to_string(), event.base.to_string())
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_from_the_right() {
    let world = World::with(|setup| setup.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    assert_eq!(seen(&world).await, ("192.0.2.7".to_owned(), "https://hooks.example.ch".to_owned()));
}

#[tokio::test]
async fn nobody_else_is() {
    let world = World::with(|setup| setup.server.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()]).await;
    assert_eq!(seen(&world).await, ("127.0.0.1".to_owned(), "http://inner:8080".to_owned()));
}

#[tokio::test]
async fn the_public_url_wins() {
    let world = World::with(|setup| {
        setup.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        setup.server.public_url = Some("https://configured.example.ch".into());
    })
    .await;
    assert_eq!(seen(&world).await.1, "https://configured.example.ch");
}

#[tokio::test]
async fn senders_behind_a_proxy_are_counted_apart() {
    let rate = kurier::model::Rate { count: 60.try_into().unwrap(), per: std::time::Duration::from_secs(3600) };
    let world = World::with(|setup| {
        setup.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        setup.server.limits.per_address = Some(rate);
        setup.routes = vec![Route { dedupe_window: std::time::Duration::ZERO, ..route() }];
    })
    .await;
    let from = |address: &str| format!("POST /in HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\nContent-Length: 0\r\n\r\n");
    for (address, status) in [
        ("192.0.2.1", 202),
        ("192.0.2.1", 429),
        ("192.0.2.2", 202),
        ("2001:db8::1", 202),
        ("2001:db8::2", 429),
        ("2001:db8:0:1::2", 202),
        ("192.0.2.3, 192.0.2.1", 429),
    ] {
        assert_eq!(world.client().await.ask(from(address)).await.status, status, "{address}");
    }
}
