//! HTTP/2: the same answers, and its own abuses. Frames are written by hand where a client library would not.

use kurier::store::memory::Mood;

use super::client::{Client, post};
use super::world::World;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header block without compression: names and values as literals, never indexed.
fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        for (index, text) in [name, value].into_iter().enumerate() {
            if index == 0 {
                block.push(0);
            }
            assert!(text.len() < 127);
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn request(more: &[(&str, &str)]) -> Vec<u8> {
    let mut headers = vec![(":method", "POST"), (":scheme", "http"), (":path", "/in"), (":authority", "localhost")];
    headers.extend_from_slice(more);
    block(&headers)
}

async fn begin(world: &World) -> Client {
    let mut client = world.client().await;
    client.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
    client
}

/// The kinds of frames in what the server sent.
fn kinds(bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    let mut rest = bytes;
    while rest.len() >= 9 {
        kinds.push(rest[3]);
        let length = 9 + u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        rest = rest.get(length..).unwrap_or_default();
    }
    kinds
}

#[tokio::test]
async fn a_request_over_http2_gets_the_same_answers() {
    let world = World::new().await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let url = |path: &str| format!("http://{}{path}", world.address);
    for (path, body, status) in [("/in", "hello".to_owned(), 202), ("/nowhere", "x".to_owned(), 404), ("/in", "x".repeat(1025), 413)] {
        let response = client.post(url(path)).body(body).send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (status, http::Version::HTTP_2));
    }
    let event = world.events().await.remove(0);
    assert_eq!((&event.target[..], &event.body[..]), (&b"/in"[..], &b"hello"[..]));
    assert_eq!(&*event.base, format!("http://{}", world.address));
}

#[tokio::test]
async fn over_http2_too_there_are_no_more_headers_than_a_destination_takes() {
    let world = World::new().await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let ask = async |count: usize| {
        let post = client.post(format!("http://{}/in", world.address)).body("x");
        (0..count).fold(post, |post, number| post.header(format!("x-{number}"), "y")).send().await.unwrap().status().as_u16()
    };
    assert_eq!((ask(90).await, ask(101).await), (202, 431));
    assert_eq!(world.events().await.len(), 1);
}

#[tokio::test]
async fn where_the_outcome_is_unknown_the_stream_is_reset_without_an_answer() {
    let world = World::new().await;
    world.store.set_mood(Mood::Unknowing);
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let sent = client.post(format!("http://{}/in", world.address)).body("hello").send().await;
    assert!(sent.is_err(), "{sent:?}");
}

/// The first frame that settles what becomes of a stream, and the connection after it.
async fn verdict(client: &mut Client) -> u8 {
    use tokio::io::AsyncReadExt;
    loop {
        let mut head = [0; 9];
        let read = tokio::time::timeout(std::time::Duration::from_secs(10), client.stream.read_exact(&mut head)).await;
        if read.expect("no verdict").is_err() {
            return GOAWAY;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        client.stream.read_exact(&mut vec![0; length]).await.unwrap();
        if matches!(head[3], HEADERS | RST_STREAM | GOAWAY) {
            return head[3];
        }
    }
}

#[tokio::test]
async fn hop_by_hop_headers_a_differing_host_and_a_lying_length_are_refused() {
    let world = World::new().await;
    let bad: [&[(&str, &str)]; 8] = [
        &[("connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[("te", "gzip")],
        &[("Upper", "case")],
        &[("host", "elsewhere")],
        &[("host", "localhost"), ("host", "localhost")],
        &[("content-length", "2")],
        &[("content-length", "6")],
    ];
    for headers in bad {
        let mut client = begin(&world).await;
        client.send(frame(HEADERS, END_HEADERS, 1, &request(headers))).await;
        client.send(frame(DATA, END_STREAM, 1, b"hello")).await;
        verdict(&mut client).await;
        assert!(world.store.is_empty(), "{headers:?}");
    }
    let mut client = begin(&world).await;
    client.send(frame(HEADERS, END_HEADERS, 1, &request(&[("te", "trailers"), ("host", "localhost"), ("content-length", "5")]))).await;
    client.send(frame(DATA, END_STREAM, 1, b"hello")).await;
    assert_eq!(verdict(&mut client).await, HEADERS);
    assert_eq!(world.store.len(), 1, "without the fault it is accepted");
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_nothing_else() {
    let world = World::new().await;
    world.store.set_mood(Mood::Stalled);
    let mut client = begin(&world).await;
    let mut flood = Vec::new();
    for stream in (1..4001).step_by(2) {
        flood.extend(frame(HEADERS, END_HEADERS, stream, &request(&[])));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    client.send(flood).await;
    let rest = client.rest().await;
    assert!(kinds(&rest).contains(&GOAWAY), "{:?}", kinds(&rest));
    world.store.set_mood(Mood::Willing);
    assert_eq!(world.client().await.ask(post("/in", "hello")).await.status, 202);
}

#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    let world = World::new().await;
    let mut client = begin(&world).await;
    client.send(frame(HEADERS, 0, 1, &request(&[]))).await;
    let piece = block(&[("x-filler", &"y".repeat(120))]).repeat(100);
    for _ in 0..200 {
        client.send(frame(CONTINUATION, 0, 1, &piece)).await;
    }
    let rest = client.rest().await;
    assert!(kinds(&rest).contains(&GOAWAY), "{:?}", kinds(&rest));
    assert_eq!(world.client().await.ask(post("/in", "hello")).await.status, 202);
}

#[tokio::test]
async fn a_header_list_over_the_limit_is_refused() {
    let world = World::with(|setup| setup.options.head_bytes_max = 16 * 1024).await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}/in", world.address);
    let sent = client.post(&url).header("x-long", "x".repeat(40_000)).body("hello").send().await;
    assert!(sent.is_err() || sent.is_ok_and(|response| response.status() == 431));
    assert!(world.store.is_empty());
}
