//! Abuse that crosses several limits at once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kurier::config::Route;
use kurier::store::memory::Mood;
use parking_lot::Mutex;

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

/// A log that can be read.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// On one thread, so that the log of every task is seen.
#[tokio::test(flavor = "current_thread")]
async fn nothing_that_a_sender_sends_stands_in_a_log() {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(log);
    // While there is only one subscriber, a line that another thread's test reaches first is switched off for all.
    let _other = tracing::Dispatch::new(tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(io::sink).finish());
    let world = World::with(|setup| setup.options.head_bytes_max = 8 * 1024).await;
    let request = |method: &str, path: &str, more: &str| {
        format!("{method} {path}?q=CANARY HTTP/1.1\r\nHost: CANARY\r\nAuthorization: CANARY\r\nX-CANARY: CANARY\r\n{more}\r\n\r\nCANARY")
    };
    let mut requests = vec![
        request("POST", "/in/CANARY", "Content-Length: 6"),
        request("PUT", "/in", "Content-Length: 6"),
        request("POST", "/in", "Content-Length: 6000"),
        request("POST", "/in", "Host: CANARY"),
        request("POST", "/in", "Transfer-Encoding: chunked"),
        request("POST", "/in", &format!("X-Long: {}", "CANARY".repeat(2_000))),
        request("POST", "/in CANARY", ""),
    ];
    requests.push(request("POST", "/in", "Content-Length: 6"));
    for mood in [Mood::Willing, Mood::Refusing, Mood::Unknowing] {
        world.store.set_mood(mood);
        for request in &requests {
            let mut client = world.client().await;
            client.send(request).await;
            drop(client.answer().await);
        }
    }
    let text = String::from_utf8(lines.0.lock().clone()).unwrap();
    assert!(text.contains("refused a request: too_large") && text.contains("can't be known"), "{text}");
    let told = text.lines().find(|line| line.to_ascii_lowercase().contains("canary"));
    assert_eq!(told, None);
}
