//! What a destination gets: bytes, headers, signature, credentials.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use kurier::config::{Auth, Destination, Format};
use kurier::model::{AttemptResult, DeliveryState, Event, FaultKind, Secret};
use kurier::store::Store;

use super::world::{START, World, destination, event};

/// Sends one event to one destination and returns the headers it got, sorted, and the body.
async fn sent(event: Event, destination: Destination) -> (Vec<(String, Vec<u8>)>, Bytes) {
    let world = World::new(vec![destination]);
    world.accept(event, &["erp"], None).await;
    world.settle().await;
    let headers = |headers: &HeaderMap| {
        let mut list: Vec<(String, Vec<u8>)> = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    };
    world.got("erp", |got| (headers(&got.headers), got.body.clone())).remove(0)
}

fn find<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    headers.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_slice()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_original_arrives_byte_for_byte_with_what_is_known_of_it() {
    let body: Vec<u8> = (0..=255).collect();
    let mut original = event(1);
    original.body = body.clone().into();
    original.event_type = Some("paid".into());
    original.source_id = Some("Zürich\n1".into());
    for (name, value) in [("x-a", &b"1"[..]), ("x-a", b"\xe9, 2"), ("webhook-id", b"theirs")] {
        original.headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
    }
    let id = original.id.to_string();
    let (headers, got) = sent(original, destination("erp")).await;
    assert_eq!(got, body);
    let expected: Vec<(String, Vec<u8>)> = [
        ("content-type", b"text/plain".to_vec()),
        ("kurier-attempt", b"1".to_vec()),
        ("kurier-event-type", b"paid".to_vec()),
        ("kurier-original-webhook-id", b"theirs".to_vec()),
        ("kurier-route", b"invoices".to_vec()),
        ("kurier-source-id", b"Z%C3%BCrich%0A1".to_vec()),
        ("webhook-id", id.into_bytes()),
        ("webhook-timestamp", START.unix_seconds().to_string().into_bytes()),
        ("x-a", b"1".to_vec()),
        ("x-a", b"\xe9, 2".to_vec()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    assert_eq!(headers, expected);
}

#[tokio::test(start_paused = true)]
async fn a_get_arrives_as_a_post_that_tells_method_path_and_query() {
    let mut callback = event(1);
    callback.method = Method::GET;
    callback.target = Bytes::from_static(b"/cb%2Fx;y//?lid=7&s=%E9&raw=\xe9");
    callback.body = Bytes::new();
    let (headers, body) = sent(callback, destination("erp")).await;
    assert!(body.is_empty());
    assert_eq!(find(&headers, "kurier-method"), [b"GET"]);
    assert_eq!(find(&headers, "kurier-path"), [b"/cb%2Fx;y//"]);
    assert_eq!(find(&headers, "kurier-query"), [b"lid=7&s=%E9&raw=\xe9"]);
}

#[tokio::test(start_paused = true)]
async fn json_and_cloud_events_say_what_they_are_and_leave_the_senders_headers_out() {
    let mut original = event(1);
    original.headers.insert("content-encoding", HeaderValue::from_static("x"));
    for (format, content_type, start) in [
        (Format::Json, &b"application/json"[..], "{\"id\":\"evt_"),
        (Format::CloudEvents, b"application/cloudevents+json", "{\"specversion\":\"1.0\",\"id\":\"evt_"),
    ] {
        let (headers, body) = sent(original.clone(), Destination { format, ..destination("erp") }).await;
        assert_eq!(find(&headers, "content-type"), [content_type]);
        assert!(find(&headers, "content-encoding").is_empty());
        assert!(body.starts_with(start.as_bytes()), "{body:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_and_configured_headers_replace_the_senders() {
    let mut original = event(1);
    original.headers.insert("x-api-key", HeaderValue::from_static("theirs"));
    original.headers.insert("x-tenant", HeaderValue::from_static("theirs"));
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    for (auth, name, value) in [
        (Auth::Bearer(secret("t0ken")), "authorization", "Bearer t0ken"),
        (Auth::Basic { user: secret("us"), password: secret("p:w") }, "authorization", "Basic dXM6cDp3"),
        (Auth::Headers(vec![(HeaderName::from_static("x-api-key"), secret("k"))]), "x-api-key", "k"),
    ] {
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-tenant"), HeaderValue::from_static("acme"))]);
        let (headers, _) = sent(original.clone(), Destination { auth: Some(auth), headers, ..destination("erp") }).await;
        assert_eq!(find(&headers, name), [value.as_bytes()]);
        assert_eq!(find(&headers, "x-tenant"), [b"acme"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_no_header_can_carry_is_a_fault_that_does_not_show_it() {
    let broken = Auth::Bearer(Secret::new(b"t0ken\n".to_vec()));
    let mut world = World::new(vec![Destination { auth: Some(broken), ..destination("erp") }]);
    let id = world.send(&["erp"], None).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let record = world.store.record(id).await.unwrap().unwrap();
    let AttemptResult::Fault { kind, detail } = &record.attempts[0].1.result else { panic!("a fault") };
    assert_eq!(*kind, FaultKind::Unsendable);
    assert!(!detail.contains("t0ken"));
    world.reload(vec![destination("erp")]);
    world.settle().await;
    assert_eq!(world.state(id).await, DeliveryState::Delivered, "mending the configuration saves it");
}
