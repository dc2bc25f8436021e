//! Sizes, framing and smuggling: what is too large or malformed is refused whole, and the connection is over.

use kurier::config::Route;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{Client, get, post};
use super::world::{World, route};

const LIMIT: usize = 1024;

fn chunked(body: &str, chunk: usize) -> String {
    let mut request = "POST /in HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for piece in body.as_bytes().chunks(chunk) {
        request += &format!("{:x}\r\n{}\r\n", piece.len(), std::str::from_utf8(piece).unwrap());
    }
    request + "0\r\n\r\n"
}

/// Sends bytes that must not be accepted: an error status or a close, the connection over, nothing stored.
async fn refused(world: &World, request: impl AsRef<[u8]>) -> Option<u16> {
    let mut client = world.client().await;
    client.send(request).await;
    let answer = client.answer().await;
    let status = answer.map(|answer| answer.status);
    assert!(status.is_none_or(|status| status >= 400), "{status:?}");
    client.ends_here().await;
    assert!(world.store.is_empty());
    status
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_accepted() {
    let world = World::new().await;
    assert_eq!(world.client().await.ask(post("/in", &"x".repeat(LIMIT))).await.status, 202);
    for chunk in [1, 7, LIMIT] {
        assert_eq!(world.client().await.ask(chunked(&"y".repeat(LIMIT), chunk)).await.status, 202, "chunks of {chunk}");
    }
}

#[tokio::test]
async fn one_byte_more_gets_413_naming_the_setting_and_the_connection_is_closed() {
    let world = World::new().await;
    let mut client = world.client().await;
    let answer = client.ask(post("/in", &"x".repeat(LIMIT + 1))).await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    assert_eq!(answer.body, b"larger than routes.orders.limits.body\n");
    client.ends_here().await;
    for chunk in [1, 7, LIMIT + 1] {
        assert_eq!(refused(&world, chunked(&"y".repeat(LIMIT + 1), chunk)).await, Some(413), "chunks of {chunk}");
    }
    assert_eq!(world.refused("orders", "too_large"), 4);
}

#[tokio::test]
async fn an_announced_length_over_the_limit_is_refused_before_the_body_is_sent() {
    let world = World::new().await;
    for length in ["1025", "99999999999", "18446744073709551613"] {
        let head = format!("POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(refused(&world, head).await, Some(413), "{length}");
    }
}

/// Were the connection closed at once, the kernel would answer the rest with a reset, which may destroy the
/// answer on its way: so the client must be able to send all of it and then see an orderly end.
#[tokio::test]
async fn the_answer_to_a_large_body_survives_what_is_still_being_sent() {
    let world = World::new().await;
    let mut client = world.client().await;
    client.stream.write_all(post("/in", &"x".repeat(12_000_000)).as_bytes()).await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 413);
    assert_eq!(client.stream.read(&mut [0]).await.unwrap(), 0, "an end, no reset");

    let mut client = world.client().await;
    client.stream.write_all(format!("POST /in HTTP/1.1\r\nX: {}", "x".repeat(12_000_000)).as_bytes()).await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 431);
    assert_eq!(client.stream.read(&mut [0]).await.unwrap(), 0, "an end, no reset");
}

#[tokio::test]
async fn what_follows_a_refused_body_is_never_read_as_a_request() {
    let world = World::new().await;
    for first in [post("/in", &"x".repeat(LIMIT + 1)), chunked(&"x".repeat(LIMIT + 1), 100), post("/unknown", "x")] {
        let mut client = world.client().await;
        client.send(first + &post("/in", "smuggled")).await;
        assert!(client.answer().await.is_some_and(|answer| answer.status >= 400));
        client.ends_here().await;
    }
    assert!(world.store.is_empty());
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_turn() {
    let world = World::new().await;
    let mut client = world.client().await;
    client.send(post("/in", "one") + &get("/nowhere") + &post("/in", "two")).await;
    for status in [202, 404, 202] {
        assert_eq!(client.answer().await.unwrap().status, status);
    }
    assert_eq!(world.store.len(), 2);
}

#[tokio::test]
async fn a_lying_length_is_a_broken_body_and_stores_nothing() {
    let world = World::new().await;
    let mut client = world.client().await;
    client.send("POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nshort").await;
    client.stream.shutdown().await.unwrap();
    let rest = String::from_utf8(client.rest().await).unwrap();
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400"), "{rest}");
    let (store, _) = world.stop().await;
    assert!(store.is_empty());
}

#[tokio::test]
async fn malformed_framing_is_refused_and_the_connection_closed() {
    let world = World::new().await;
    let head = |framing: &str| format!("POST /in HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n");
    let cases = [
        head("Content-Length: +5") + "hello",
        head("Content-Length: 0x5") + "hello",
        head("Content-Length: -1"),
        head("Content-Length: 5, 6") + "hello",
        head("Content-Length: 5\r\nContent-Length: 6") + "hello!",
        head("Content-Length: ") + "hello",
        head("Content-Length: 18446744073709551616"),
        head("Transfer-Encoding: xchunked") + "0\r\n\r\n",
        head("Transfer-Encoding: chunked, identity") + "0\r\n\r\n",
        head("Transfer-Encoding:\r\n chunked") + "0\r\n\r\n",
        head("Transfer-Encoding : chunked") + "0\r\n\r\n",
        head("Transfer-Encoding: chunked") + "x\r\n\r\n",
        head("Transfer-Encoding: chunked") + "-1\r\n\r\n",
        head("Transfer-Encoding: chunked") + "1ffffffffffffffff\r\n",
        head("Transfer-Encoding: chunked") + "2\r\nabc\r\n0\r\n\r\n",
        head("Transfer-Encoding: chunked") + "1;a=\n\r\nb\r\n0\r\n\r\n",
        head("X-A: b\r\n folded"),
        head("X-A: nul\0byte"),
        head("X\x01A: b"),
        head(": no name"),
        head("no colon"),
        "POST /in HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "POST /in HTTP/3.0\r\nHost: localhost\r\n\r\n".to_owned(),
        "POST /in\r\n\r\n".to_owned(),
        "POST in HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03 hello over TLS\r\n\r\n".to_owned(),
    ];
    for case in cases {
        let status = refused(&world, &case).await;
        assert!(matches!(status, None | Some(400)), "{status:?} for {case:?}");
    }
}

#[tokio::test]
async fn a_request_needs_one_host() {
    let world = World::new().await;
    let cases = [
        "POST /in HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
        "POST /in HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 1\r\n\r\nx",
        "POST /in HTTP/1.1\r\nHost: user@a\r\nContent-Length: 1\r\n\r\nx",
        "POST /in HTTP/1.1\r\nHost: a/b\r\nContent-Length: 1\r\n\r\nx",
        "POST http://a/in HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\n\r\nx",
    ];
    for case in cases {
        assert_eq!(refused(&world, case).await, Some(400), "{case:?}");
    }
    assert_eq!(world.refused("orders", "bad_request"), 5);
}

/// hyper settles it: the chunked reading wins and the connection is closed after it (RFC 9112, 6.1).
#[tokio::test]
async fn with_both_a_length_and_chunks_nothing_is_smuggled() {
    let world = World::new().await;
    for framing in ["Content-Length: 6\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 6"] {
        let mut client = world.client().await;
        client.send(format!("POST /in HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n0\r\n\r\n{}", post("/in", "smuggled"))).await;
        assert!(client.answer().await.is_some());
        client.ends_here().await;
    }
    assert!(world.events().await.iter().all(|event| event.body.is_empty()));
}

#[tokio::test]
async fn a_transfer_coding_besides_chunked_is_refused_and_closed() {
    let world = World::new().await;
    for coding in ["Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"] {
        let mut client = world.client().await;
        client.send(format!("POST /in HTTP/1.1\r\nHost: localhost\r\n{coding}\r\n\r\n1\r\nx\r\n0\r\n\r\n")).await;
        assert_eq!(client.answer().await.unwrap().status, 400, "{coding}");
        client.ends_here().await;
    }
    assert!(world.store.is_empty());
}

#[tokio::test]
async fn equal_lengths_may_be_repeated_and_lines_may_end_in_lf_without_smuggling() {
    let world = World::new().await;
    let mut client = world.client().await;
    client.send("POST /in HTTP/1.1\nHost: localhost\nContent-Length: 2\nContent-Length: 2\n\nhi").await;
    client.send(get("/nowhere")).await;
    let first = client.answer().await.unwrap().status;
    assert_eq!(first, 202);
    assert_eq!(client.answer().await.unwrap().status, 404, "the next request starts where it should");
}

#[tokio::test]
async fn a_head_over_the_limit_gets_431_even_while_it_is_still_being_sent() {
    let world = World::with(|setup| setup.options.head_bytes_max = 16 * 1024).await;
    let long = format!("POST /in HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
    assert_eq!(refused(&world, long).await, Some(431));
    let many: String = (0..1000).map(|n| format!("X-{n}: y\r\n")).collect();
    assert_eq!(refused(&world, format!("POST /in HTTP/1.1\r\nHost: localhost\r\n{many}\r\n")).await, Some(431));
    let fits = format!("POST /in HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\nContent-Length: 1\r\n\r\nx", "x".repeat(15_000));
    assert_eq!(world.client().await.ask(fits).await.status, 202);
}

#[tokio::test]
async fn a_target_too_long_gets_414() {
    let world = World::with(|setup| setup.options.head_bytes_max = 256 * 1024).await;
    assert_eq!(refused(&world, get(&format!("/in?{}", "x".repeat(70_000)))).await, Some(414));
}

#[tokio::test]
async fn the_body_is_asked_for_only_when_it_may_come() {
    let world = World::with(|setup| setup.routes = vec![Route { body_limit: 100, ..route() }]).await;
    let expect = |path: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
    };
    for (path, length, status) in [("/in", 101, 413), ("/unknown", 5, 404)] {
        let mut client: Client = world.client().await;
        assert_eq!(client.ask(expect(path, length)).await.status, status);
        client.ends_here().await;
    }
    let mut client = world.client().await;
    assert_eq!(client.ask(expect("/in", 5)).await.status, 100);
    assert_eq!(client.ask("hello").await.status, 202);
    assert_eq!(&world.events().await[0].body[..], b"hello");
}
