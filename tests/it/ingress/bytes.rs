//! Bytes in are bytes kept (I11): bodies, header values, targets.

use http::Method;
use kurier::config::Route;

use super::client::{get, post};
use super::world::{World, route};

async fn send(world: &World, body: &[u8]) -> u16 {
    let mut request = format!("POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    world.client().await.ask(request).await.status
}

#[tokio::test]
async fn bodies_of_any_bytes_are_kept_as_they_are() {
    let world = World::with(|setup| setup.routes = vec![Route { body_limit: 100_000, ..route() }]).await;
    let deep = "[".repeat(1000) + &"]".repeat(1000);
    let every_byte: Vec<u8> = (0..=255).collect();
    let bodies: Vec<&[u8]> = vec![
        b"\xEF\xBB\xBF{\"a\":1}\r\n",
        b"\xFF\xFE invalid UTF-8 \xC3\x28 \0 NUL",
        "{\"emoji\":\"\u{1F4E6}\",\"slash\":\"\\/\",\"n\":1e400,\"n\":1}".as_bytes(),
        deep.as_bytes(),
        &every_byte,
        b"\n",
    ];
    for body in &bodies {
        assert_eq!(send(&world, body).await, 202);
    }
    let stored = world.events().await;
    assert_eq!(stored.iter().map(|event| &event.body[..]).collect::<Vec<_>>(), bodies);
}

#[tokio::test]
async fn a_body_in_many_pieces_is_kept_whole() {
    let world = World::with(|setup| setup.routes = vec![Route { body_limit: 1 << 20, ..route() }]).await;
    let body: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).take(700_000).collect();
    assert_eq!(send(&world, &body).await, 202);
    let mut client = world.client().await;
    client.send("POST /in?chunked HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for piece in body[1..].chunks(9_999) {
        client.send(format!("{:x}\r\n", piece.len())).await;
        client.send(piece).await;
        client.send("\r\n").await;
    }
    assert_eq!(client.ask("0\r\n\r\n").await.status, 202);
    let events = world.events().await;
    assert!(events[0].body == body && events[1].body == body[1..]);
}

#[tokio::test]
async fn header_values_keep_their_bytes_their_number_and_their_order() {
    let world = World::new().await;
    let request = b"POST /in HTTP/1.1\r\nHost: localhost\r\nX-A: one, two\r\nX-B: b\r\nx-a: three\r\nX-A:\r\n\
        X-Bytes: caf\xE9 \xFF\tend\r\nContent-Type: text/plain; x=\xFF\r\nContent-Encoding: gzip, gzip\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(world.client().await.ask(request).await.status, 202);
    let event = world.events().await.remove(0);
    let values: Vec<&[u8]> = event.headers.get_all("x-a").iter().map(http::HeaderValue::as_bytes).collect();
    assert_eq!(values, [&b"one, two"[..], b"three", b""]);
    assert_eq!(event.headers["x-bytes"].as_bytes(), b"caf\xE9 \xFF\tend");
    assert_eq!(event.headers["content-type"].as_bytes(), b"text/plain; x=\xFF");
    assert_eq!((&event.headers["content-encoding"], &event.body[..]), (&"gzip, gzip".parse().unwrap(), &b"hi"[..]), "never decompressed");
}

#[tokio::test]
async fn the_target_is_kept_as_sent() {
    let world = World::with(|setup| {
        setup.routes = vec![Route { path: Some(super::world::path("/a/{b}")), methods: vec![Method::GET, Method::POST], ..route() }];
    })
    .await;
    let targets = ["/a/x%2Fy;z?q=%7e&&a=b=c??#", "/a/%zz?", "/a/\"{}|", "/a/b?%C3%A9=+"];
    for target in targets {
        assert_eq!(world.client().await.ask(get(target)).await.status, 202, "{target}");
    }
    let stored = world.events().await;
    let kept: Vec<&[u8]> = stored.iter().map(|event| &event.target[..]).collect();
    // A fragment is no part of a request target (RFC 9112, 3.2); hyper drops it.
    assert_eq!(kept, [targets[0].trim_end_matches('#').as_bytes(), targets[1].as_bytes(), targets[2].as_bytes(), targets[3].as_bytes()]);
    assert_eq!(stored[0].query(), Some(&b"q=%7e&&a=b=c??"[..]));
}

#[tokio::test]
async fn a_target_in_absolute_form_counts_by_its_path() {
    let world = World::new().await;
    let request = "POST http://localhost:81/in?a=b HTTP/1.1\r\nHost: localhost:81\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(world.client().await.ask(request).await.status, 202);
    let event = world.events().await.remove(0);
    assert_eq!((&event.target[..], &*event.base), (&b"/in?a=b"[..], "http://localhost:81"));
}

#[tokio::test]
async fn a_get_and_a_head_have_no_body_and_a_head_none_in_its_answer() {
    let world = World::with(|setup| setup.routes = vec![Route { methods: vec![Method::GET, Method::HEAD], ..route() }]).await;
    let mut client = world.client().await;
    assert_eq!(client.ask(get("/in?lid=1")).await.status, 202);
    client.send("HEAD /in?lid=2 HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let answer = client.answer_to(true).await.unwrap();
    assert_eq!((answer.status, answer.header("content-length")), (202, Some("11")));
    assert_eq!(client.ask(get("/in?lid=3")).await.status, 202, "the connection is in step");
    let methods: Vec<_> = world.events().await.into_iter().map(|event| (event.method, event.body.len())).collect();
    assert_eq!(methods, [(Method::GET, 0), (Method::HEAD, 0), (Method::GET, 0)]);
}

#[tokio::test]
async fn an_empty_body_is_a_body() {
    let world = World::new().await;
    let mut client = world.client().await;
    assert_eq!(client.ask(post("/in?1", "")).await.status, 202);
    assert_eq!(client.ask("POST /in?2 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.status, 202);
    let chunked = "POST /in?3 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(client.ask(chunked).await.status, 202);
    assert_eq!(world.events().await.iter().map(|event| event.body.len()).collect::<Vec<_>>(), [0, 0, 0]);
}

#[tokio::test]
async fn trailers_are_read_and_left_out() {
    let world = World::new().await;
    let mut client = world.client().await;
    let request = "POST /in HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
        1\r\na\r\n1\r\nb\r\n0\r\nX-Sum: 1\r\nAuthorization: forged\r\n\r\n";
    assert_eq!(client.ask(request).await.status, 202);
    assert_eq!(client.ask(post("/in", "next")).await.status, 202, "the connection is in step");
    let event = world.events().await.remove(0);
    assert_eq!(&event.body[..], b"ab");
    assert!(!event.headers.contains_key("x-sum") && !event.headers.contains_key("authorization"));
}
