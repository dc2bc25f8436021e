//! Looking: events, bodies, destinations, routes, health, metrics.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Method;
use kurier::model::{DeadCode, DeliveryId, OutcomeKind};
use kurier::signature::Verifier;
use kurier::store::Store;
use kurier::store::memory::Mood;
use serde_json::{Value, json};

use super::world::{OneSecret, World, config, destination, new_event, route};

fn ids(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problem_documents() {
    let world = World::open();
    for path in ["/", "/api/v1/event", "/api/v1/events/", "/api/v1/events/evt_1/bodies", "/api/v2/events", "//livez"] {
        assert_eq!(world.get(path).await.problem(404), "unknown_path", "{path}");
    }
    let reply = world.post("/api/v1/events", "").await;
    assert_eq!(reply.problem(405), "method");
    assert_eq!(reply.headers["allow"], "GET, HEAD");
    assert_eq!(world.get("/api/v1/destinations/erp/pause").await.headers["allow"], "POST");
}

#[tokio::test]
async fn every_answer_forbids_sniffing_and_keeping() {
    let world = World::open();
    for path in ["/livez", "/metrics", "/api/v1/events", "/nothing"] {
        let reply = world.get(path).await;
        assert_eq!(reply.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(reply.headers["cache-control"], "no-store", "{path}");
        assert!(reply.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"), "{path}");
    }
}

#[tokio::test]
async fn pages_hold_every_event_once_newest_first() {
    let world = World::open();
    let mut expected = Vec::new();
    for number in 0..7 {
        expected.insert(0, world.event(number, "invoices", &["erp"]).await.to_string());
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("/api/v1/events?limit=3&cursor={cursor}")).await.json();
        assert!(page["items"].as_array().unwrap().len() <= 3);
        seen.extend(ids(&page));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = next.to_owned();
        // An event that comes while somebody pages does not shift the pages.
        world.event(100 + u32::try_from(seen.len()).unwrap(), "invoices", &["erp"]).await;
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_page_has_50_events_unless_asked_for_up_to_500() {
    let world = World::open();
    for number in 0..501 {
        world.event(number, "invoices", &["erp"]).await;
    }
    for (query, expected) in [("", 50), ("?limit=500", 500), ("?limit=1", 1)] {
        let page = world.get(&format!("/api/v1/events{query}")).await.json();
        assert_eq!(page["items"].as_array().unwrap().len(), expected, "{query}");
        assert!(page["next_cursor"].is_string());
    }
}

#[tokio::test(start_paused = true)]
async fn filters_hold_together() {
    let world = World::open();
    let first = world.event(1, "invoices", &["erp", "bookkeeping"]).await;
    let second = world.event(2, "payments", &["erp"]).await;
    world.kill(DeliveryId::new(first, 1)).await;
    let (first, second) = (first.to_string(), second.to_string());
    tokio::time::advance(std::time::Duration::from_secs(3600)).await;
    for (query, expected) in [
        ("route=payments", vec![&second]),
        ("type=invoice.paid", vec![&second]),
        ("state=dead", vec![&first]),
        ("state=pending", vec![&second, &first]),
        ("state=dead&destination=bookkeeping", vec![&first]),
        ("state=dead&destination=erp", vec![]),
        ("destination=erp&route=invoices", vec![&first]),
        ("q=source-2", vec![&second]),
        (&format!("q={first}"), vec![&first]),
        ("since=2023-11-14T22:13:22Z", vec![&second]),
        ("since=2023-11-14T23:13:22%2B01:00", vec![&second]),
        ("until=2023-11-14T22:13:22Z", vec![&first]),
        ("since=59m", vec![]),
        ("since=1h", vec![&second, &first]),
        ("route=&state=", vec![&second, &first]),
    ] {
        let page = world.get(&format!("/api/v1/events?{query}")).await.json();
        assert_eq!(ids(&page).iter().collect::<Vec<_>>(), expected, "{query}");
    }
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_refused() {
    let world = World::open();
    for (query, code) in [
        ("stat=dead", "parameter"),
        ("state=dead&state=pending", "parameter"),
        ("state=lost", "state"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("since=yesterday", "time"),
        ("until=2x", "time"),
        ("cursor=12", "cursor"),
        ("cursor=bjEy", "cursor"),
        ("cursor=ZXh5eg", "cursor"),
    ] {
        assert_eq!(world.get(&format!("/api/v1/events?{query}")).await.problem(400), code, "{query}");
    }
}

#[tokio::test]
async fn an_event_is_shown_whole() {
    let world = World::open();
    let id = world.event(1, "invoices", &["erp"]).await;
    world.kill(DeliveryId::new(id, 0)).await;
    let shown = world.get(&format!("/api/v1/events/{id}")).await.json();
    insta::assert_snapshot!(format!("{shown:#}"), @r#"
    {
      "id": "evt_01hf7yatz80000000000000001",
      "route": "invoices",
      "type": null,
      "source_id": "source-1",
      "received_at": "2023-11-14T22:13:21.000Z",
      "method": "POST",
      "path": "/callbacks/invoices",
      "query": "tenant=acme",
      "base": "https://hooks.example.ch",
      "peer": "192.0.2.1",
      "repeats": 0,
      "headers": [
        {
          "name": "content-type",
          "value": "application/json"
        }
      ],
      "body_bytes": 12,
      "body": {
        "text": "{\"number\":1}",
        "truncated": false
      },
      "deliveries": [
        {
          "id": "dlv_01hf7yatz80000000000000001_0",
          "destination": "erp",
          "kind": "original",
          "state": "dead",
          "due": null,
          "reason": {
            "code": "rejected",
            "detail": "status 400"
          },
          "created_at": "2023-11-14T22:13:21.000Z",
          "attempts_made": 1,
          "attempts": [
            {
              "number": 1,
              "started_at": "2023-11-14T22:13:21.000Z",
              "duration_ms": 80,
              "outcome": "rejected",
              "response": {
                "status": 400,
                "excerpt": {
                  "text": "no such invoice",
                  "truncated": false
                }
              },
              "fault": null
            }
          ],
          "attempts_omitted": 0
        }
      ],
      "deliveries_omitted": 0
    }
    "#);
}

/// Holds a value to the description: the same fields, no more and no fewer.
fn assert_described(description: &Value, schema: &str, value: &Value) {
    let schema_value = &description["components"]["schemas"][schema];
    let described: BTreeSet<&String> = schema_value["properties"].as_object().unwrap().keys().collect();
    let found: BTreeSet<&String> = value.as_object().unwrap_or_else(|| panic!("{schema}: {value}")).keys().collect();
    assert_eq!(found, described, "{schema}");
    assert_eq!(schema_value["required"].as_array().unwrap().len(), described.len(), "{schema}");
}

#[tokio::test]
async fn answers_have_the_fields_that_the_description_says() {
    let world = World::open();
    let description = world.get("/api/v1/openapi.json").await.json();
    assert_eq!(description["openapi"], "3.1.0");
    let id = world.event(1, "invoices", &["erp"]).await;
    world.kill(DeliveryId::new(id, 0)).await;

    let listed = world.get("/api/v1/events").await.json();
    assert_described(&description, "EventSummary", &listed["items"][0]);
    assert_described(&description, "DeliverySummary", &listed["items"][0]["deliveries"][0]);
    let shown = world.get(&format!("/api/v1/events/{id}")).await.json();
    assert_described(&description, "Event", &shown);
    assert_described(&description, "Delivery", &shown["deliveries"][0]);
    assert_described(&description, "Reason", &shown["deliveries"][0]["reason"]);
    assert_described(&description, "Attempt", &shown["deliveries"][0]["attempts"][0]);
    assert_described(&description, "Route", &world.get("/api/v1/routes").await.json()["items"][0]);
    assert_described(&description, "Destination", &world.get("/api/v1/destinations").await.json()["items"][0]);
    assert_described(&description, "Steered", &world.post("/api/v1/destinations/erp/pause", "").await.json());
    assert_described(&description, "Replay", &world.post(&format!("/api/v1/events/{id}/replay"), "").await.json());
    let problem = world.get("/api/v1/events?limit=0").await;
    assert_described(&description, "Problem", &serde_json::from_slice(&problem.body).unwrap());
}

#[tokio::test]
async fn the_description_names_the_parameters_that_lists_take_and_the_words_they_know() {
    let world = World::open();
    let description = world.get("/api/v1/openapi.json").await.json();
    for list in ["events", "destinations", "routes"] {
        let parameters = description["paths"][format!("/api/v1/{list}")]["get"]["parameters"].as_array().unwrap();
        for parameter in parameters {
            let name = parameter["name"].as_str().unwrap();
            assert_eq!(world.get(&format!("/api/v1/{list}?{name}=")).await.status, 200, "{list} takes {name}");
        }
    }
    let words =
        |schema: &Value| schema["enum"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let schemas = &description["components"]["schemas"];
    assert_eq!(words(&schemas["Reason"]["properties"]["code"]), DeadCode::ALL.iter().map(|code| code.word()).collect::<Vec<_>>());
    assert_eq!(words(&schemas["Attempt"]["properties"]["outcome"]), OutcomeKind::ALL.iter().map(|kind| kind.word()).collect::<Vec<_>>());
    for state in words(&schemas["State"]) {
        assert_eq!(world.get(&format!("/api/v1/events?state={state}")).await.status, 200, "{state}");
    }
}

#[tokio::test]
async fn a_body_is_downloaded_byte_for_byte_and_never_opened_by_a_browser() {
    let world = World::open();
    let mut new = new_event(1, "invoices", &["erp"]);
    let bytes: Vec<u8> = (0..=255).collect();
    new.event.body = bytes.clone().into();
    let id = Store::accept(&*world.store, new).await.unwrap().event();
    let reply = world.get(&format!("/api/v1/events/{id}/body")).await;
    assert_eq!(reply.body, bytes);
    assert_eq!(reply.headers["content-type"], "application/octet-stream");
    assert_eq!(reply.headers["content-disposition"], format!("attachment; filename=\"{id}.bin\""));
    assert_eq!(world.get(&format!("/api/v1/events/{id}")).await.json()["body"]["base64"].as_str().unwrap().len(), 344);
}

#[tokio::test]
async fn a_type_that_only_the_body_tells_can_be_seen_and_searched_for() {
    let world = World::open();
    let mut config = config();
    let scheme = kurier::document::parse("{ preset: hmac-body, secrets: [{ env: X }], event: { type: 'json:/kind' } }").unwrap();
    let verifier = Verifier::compile(&scheme, "verify", &mut OneSecret, &mut Vec::new()).unwrap();
    Arc::get_mut(&mut config.routes[0]).unwrap().verifier = verifier;
    world.config.store(Arc::new(config));
    for number in 0..30_u32 {
        let mut event = new_event(number, "invoices", &["erp"]);
        event.event.event_type = None;
        event.event.body = format!("{{\"kind\":\"{}\"}}", if number == 3 { "rare" } else { "common" }).into();
        world.store.accept(event).await.unwrap();
    }
    let list = world.get("/api/v1/events?limit=2").await.json();
    assert_eq!(list["items"][0]["type"], "common");
    let list = world.get("/api/v1/events?type=rare&limit=2").await.json();
    assert_eq!((list["items"].as_array().unwrap().len(), &list["items"][0]["type"]), (1, &json!("rare")));
    let (mut seen, mut cursor) = (0, String::new());
    loop {
        let page = world.get(&format!("/api/v1/events?type=common&limit=4&cursor={cursor}")).await.json();
        seen += page["items"].as_array().unwrap().len();
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = next.to_owned();
    }
    assert_eq!(seen, 29);
}

#[tokio::test]
async fn an_event_that_is_not_there_is_not_found() {
    let world = World::open();
    for id in ["evt_01hf7yat1v0000000000000000", "evt_x", "%00", "..%2Fx"] {
        assert_eq!(world.get(&format!("/api/v1/events/{id}")).await.problem(404), "unknown_event", "{id}");
        assert_eq!(world.get(&format!("/api/v1/events/{id}/body")).await.problem(404), "unknown_event", "{id}");
    }
}

#[tokio::test]
async fn readiness_says_why_not() {
    let world = World::open();
    assert_eq!(world.get("/readyz").await.text(), "ready\n");
    world.store.set_mood(Mood::Refusing);
    let reply = world.get("/readyz").await;
    assert_eq!((reply.status.as_u16(), reply.text()), (503, "store: the fake refuses\n"));
    world.stopping.store(true, Ordering::Release);
    let reply = world.get("/readyz").await;
    assert_eq!((reply.status.as_u16(), reply.text()), (503, "stopping\n"));
    assert_eq!(world.get("/livez").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn metrics_show_what_waits_and_since_when() {
    let world = World::open();
    let id = world.event(0, "invoices", &["erp", "legacy"]).await;
    tokio::time::advance(std::time::Duration::from_secs(90)).await;
    let reply = world.get("/metrics").await;
    assert_eq!(reply.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    for line in [
        "kurier_pending_deliveries{destination=\"erp\"} 1\n",
        "kurier_oldest_pending_seconds{destination=\"erp\"} 90\n",
        "kurier_pending_deliveries{destination=\"bookkeeping\"} 0\n",
        "kurier_pending_deliveries{destination=\"legacy\"} 1\n",
        "kurier_store_writable 1\n",
    ] {
        assert!(reply.text().contains(line), "{line} is missing in\n{}", reply.text());
    }
    assert!(reply.text().ends_with("# EOF\n"));
    world.kill(DeliveryId::new(id, 0)).await;
    let text = world.get("/metrics").await.text().to_owned();
    assert!(text.contains("kurier_dead_letters{destination=\"erp\"} 1\n"), "{text}");
    assert!(text.contains("kurier_oldest_pending_seconds{destination=\"erp\"} 0\n"), "{text}");
}

#[tokio::test]
async fn destinations_show_what_waits_and_no_more_of_the_url_than_its_origin() {
    let world = World::open();
    world.event(1, "invoices", &["erp", "legacy"]).await;
    world.post("/api/v1/destinations/bookkeeping/pause", "").await;
    let page = world.get("/api/v1/destinations").await;
    assert!(!page.text().contains("canary"), "{}", page.text());
    let page = page.json();
    assert_eq!(page["next_cursor"], Value::Null);
    let items = page["items"].as_array().unwrap();
    let names: Vec<&str> = items.iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["bookkeeping", "erp", "legacy"]);
    assert_eq!((&items[0]["state"], &items[0]["paused_because"]), (&json!("paused"), &json!("by the operator `local`")));
    assert_eq!((&items[1]["state"], &items[1]["pending"]), (&json!("active"), &json!(1)));
    assert_eq!(items[1]["origin"], "https://erp.example.ch");
    assert_eq!((&items[2]["state"], &items[2]["configured"]), (&json!("removed"), &json!(false)));
}

#[tokio::test]
async fn routes_say_where_they_deliver_and_what_is_unwise() {
    let world = World::open();
    let page = world.get("/api/v1/routes").await.json();
    let item = &page["items"][0];
    assert_eq!((&item["name"], &item["deliver"]), (&json!("invoices"), &json!(["erp", "bookkeeping"])));
    assert_eq!(item["binding"], "none");
    assert_eq!(item["warnings"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn lists_of_the_configuration_are_paged_too() {
    let world = World::open();
    let mut config = config();
    config.routes = (0..120).map(|number| route(&format!("route-{number:03}"), &["erp"])).collect();
    config.destinations = (0..120).map(|number| destination(&format!("destination-{number:03}"))).collect();
    world.config.store(Arc::new(config));
    for list in ["routes", "destinations"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = world.get(&format!("/api/v1/{list}?cursor={cursor}")).await.json();
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= 50);
            seen.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = next.to_owned();
        }
        seen.dedup();
        assert_eq!(seen.len(), 120, "{list}");
    }
}

#[tokio::test]
async fn head_is_answered_like_get() {
    let world = World::open();
    let reply = world.call(Method::HEAD, "/api/v1/events", &[("host", "localhost")], "").await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_process_that_can_no_longer_deliver_says_so_to_whoever_restarts_it() {
    let world = World::open();
    world.relay.ended.store(true, Ordering::Release);
    for path in ["/livez", "/readyz"] {
        let reply = world.get(path).await;
        assert_eq!(reply.status, 503, "{path}");
        assert!(reply.text().contains("restart kurier"), "{}", reply.text());
    }
    world.stopping.store(true, Ordering::Release);
    assert_eq!(world.get("/livez").await.status, 200, "a relay that was asked to end is no fault");
}
