//! InPaSy: orders are placed through the admin API and completed by callbacks, each told once.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{SOON, home};
use crate::harness::{Home, Message, Serving, Sink, request, wait_until};
use kurier::demo::simulators::inpasy::InPaSy;
use kurier::demo::simulators::{Answer, Trouble};

const TOKEN: &str = "a-token-of-the-shop-that-is-long-enough";

/// Where the ids come from: fetched, or made here.
fn shop(system: &InPaSy, sink: &Sink, id_url: bool) -> Home {
    let id_url = if id_url { format!("id_url: \"{}\",", system.server.url("/id")) } else { String::new() };
    let routes = format!(
        r#"
routes:
  payments:
    path: /callbacks/inpasy
    methods: [GET, POST]
    verify: {{ basic: {{ user: inpasy, password: {{ env: INPASY_PASSWORD }} }} }}
    inpasy: {{ start_url: "{}", {id_url} vkz: "575488", result: {{ param: status, success: [ok], failure: [fehler, abbruch] }}, charset: iso-8859-1 }}
    deliver: [ticket-shop]
destinations:
  ticket-shop: {{ url: "{}", retry: {SOON} }}
"#,
        system.server.url("/start"),
        sink.url("/orders")
    );
    let home = home(&routes)
        .with_env("INPASY_PASSWORD", "geheim")
        .with_env("SHOP_TOKEN", TOKEN)
        .with_env("OPS_TOKEN", "the-operators-own-token-which-is-long");
    let text = std::fs::read_to_string(home.path().join("routes.yaml")).unwrap();
    home.write(
        "routes.yaml",
        &text.replace(
            "admin: { listen: 127.0.0.1:0 }",
            "admin: { listen: 127.0.0.1:0, tokens: [{ name: shop, scopes: [orders, read], secret: { env: SHOP_TOKEN } }] }",
        ),
    );
    home
}

fn api(kurier: &Serving, method: &str, path: &str, body: &str) -> Message {
    let bearer = format!("Bearer {TOKEN}");
    request(kurier.admin, method, path, &[("authorization", &bearer), ("content-type", "application/json")], body.as_bytes())
}

fn order(method: &str) -> Value {
    json!({ "auftragsart": "H010002", "Name": "Müller", "Mail": "k.meier@maildienst.de", "hinweis": "Kartenbestellung",
            "menge": "2", "betrag": "10.00", "Bezahlverfahren": method })
}

fn place(kurier: &Serving, order: &Value) -> Value {
    let answer = api(kurier, "POST", "/api/v1/inpasy/payments/orders", &order.to_string());
    assert_eq!(answer.status(), 201, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn state(kurier: &Serving, lid: &str) -> Value {
    serde_json::from_slice(&api(kurier, "GET", &format!("/api/v1/inpasy/payments/orders/{lid}"), "").body).unwrap()
}

/// InPaSy calls back, by GET or by POST.
fn call_back(kurier: &Serving, system: &InPaSy, lid: &str, word: &str, post: bool) {
    let callback = system.call_back(lid, word, post).unwrap();
    let target = if callback.query.is_empty() { "/callbacks/inpasy".to_owned() } else { format!("/callbacks/inpasy?{}", callback.query) };
    let mut headers = vec![("authorization", "Basic aW5wYXN5OmdlaGVpbQ==")];
    headers.extend(callback.content_type.map(|kind| ("content-type", kind)));
    let answer = request(kurier.public, if post { "POST" } else { "GET" }, &target, &headers, &callback.body);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "OK"), "{}", kurier.log());
}

fn events(kurier: &Serving) -> Vec<String> {
    let answer = api(kurier, "GET", "/api/v1/events?route=payments&limit=500", "");
    let events: Value = serde_json::from_slice(&answer.body).unwrap();
    let mut types: Vec<String> =
        events["items"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect();
    types.reverse();
    types
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_started_and_completed_and_repeats_and_contradictions_are_told_apart() {
    let (system, sink) = (InPaSy::start().await.unwrap(), Sink::start());
    let home = shop(&system, &sink, true);
    let kurier = home.serve();
    let placed = place(&kurier, &order("giropay"));
    let lid = placed["lid"].as_str().unwrap().to_owned();
    assert_eq!(placed["location"], format!("https://kasse.example/vbv?lid={lid}"));
    assert_eq!(system.orders()[&lid]["Name"], "Müller", "written in ISO-8859-1");
    assert_eq!(state(&kurier, &lid)["state"], "open");

    call_back(&kurier, &system, &lid, "OK", false);
    call_back(&kurier, &system, &lid, "ok", true);
    assert_eq!((&state(&kurier, &lid)["state"], &state(&kurier, &lid)["repeats"]), (&json!("succeeded"), &json!(1)));
    kurier.kill();
    let kurier = home.serve();
    call_back(&kurier, &system, &lid, "ok", false);
    call_back(&kurier, &system, &lid, "abbruch", true);
    call_back(&kurier, &system, &lid, "fehler", false);
    call_back(&kurier, &system, &lid, "vielleicht", false);
    assert_eq!((&state(&kurier, &lid)["state"], &state(&kurier, &lid)["repeats"]), (&json!("conflict"), &json!(3)));
    assert_eq!(events(&kurier), ["inpasy.succeeded", "inpasy.conflict", "inpasy.unknown"]);

    let told: Vec<Value> = sink.wait_for(3).iter().map(|delivery| serde_json::from_slice(&delivery.body).unwrap()).collect();
    let conflict = told.iter().find(|event| event["type"] == "inpasy.conflict").unwrap();
    assert_eq!(
        (&conflict["lid"], &conflict["result"], &conflict["callback"]["grund"]),
        (&json!(lid), &json!("failure"), &json!("Abbruch durch Käufer"))
    );
    assert!(kurier.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_wrong_names_every_parameter_and_starts_nothing() {
    let (system, sink) = (InPaSy::start().await.unwrap(), Sink::start());
    let home = shop(&system, &sink, true);
    let kurier = home.serve();
    let wrong = json!({ "auftragsart": "H010002", "Mail": "nobody", "hinweis": "x", "menge": "0", "betrag": "10,00", "Bezahlverfahren": "bar", "vkz": "1" });
    let answer = api(&kurier, "POST", "/api/v1/inpasy/payments/orders", &wrong.to_string());
    assert_eq!(answer.status(), 422);
    for name in ["Name", "Mail", "menge", "betrag", "Bezahlverfahren", "vkz"] {
        assert!(answer.text().contains(&format!("`{name}`")), "{name}: {}", answer.text());
    }
    assert!(system.server.calls().is_empty());
    // Somebody else's token, no such route, no such order.
    assert_eq!(request(kurier.admin, "POST", "/api/v1/inpasy/payments/orders", &[], b"{}").status(), 401);
    assert_eq!(api(&kurier, "POST", "/api/v1/inpasy/other/orders", "{}").status(), 404);
    assert_eq!(api(&kurier, "GET", "/api/v1/inpasy/payments/orders/123456789012", "").status(), 404);
    // A callback about an order that nobody placed is told once, and marked.
    let basic = [("authorization", "Basic aW5wYXN5OmdlaGVpbQ==")];
    for _ in 0..2 {
        assert_eq!(request(kurier.public, "GET", "/callbacks/inpasy?lid=999999999999&status=ok", &basic, b"").status(), 200);
        assert_eq!(request(kurier.public, "GET", "/callbacks/inpasy?status=ok", &basic, b"").status(), 200);
    }
    assert_eq!(events(&kurier), ["inpasy.unknown"; 2]);
    assert_eq!(request(kurier.public, "GET", "/callbacks/inpasy?lid=999999999999&status=ok", &[], b"").status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_start_got_no_answer_stays_open_through_kill_9_and_its_callback_counts() {
    let (system, sink) = (InPaSy::start().await.unwrap(), Sink::start());
    let home = shop(&system, &sink, false);
    let kurier = home.serve();
    system.server.trouble([Trouble::LoseAnswer, Trouble::Instead(Answer::status(400))]);
    let mine = order("kreditkarte");
    let answer = api(&kurier, "POST", "/api/v1/inpasy/payments/orders", &mine.to_string());
    assert_eq!(answer.status(), 502, "{}", answer.text());
    let lid = system.orders().keys().next().unwrap().clone();
    assert!(answer.text().contains(&lid));
    // Refused: it is forgotten.
    assert_eq!(api(&kurier, "POST", "/api/v1/inpasy/payments/orders", &mine.to_string()).status(), 422);
    kurier.kill();
    let kurier = home.serve();
    assert_eq!(state(&kurier, &lid)["state"], "open");
    let mut ids = BTreeSet::from([lid.clone()]);
    for _ in 0..5 {
        let placed = place(&kurier, &order("rechnung"));
        assert!(placed["page"].as_str().unwrap().contains("angenommen"));
        assert!(ids.insert(placed["lid"].as_str().unwrap().to_owned()), "an id twice");
    }
    // The same id again is a conflict.
    let mut again = order("rechnung");
    again["lid"] = json!(lid);
    assert_eq!(api(&kurier, "POST", "/api/v1/inpasy/payments/orders", &again.to_string()).status(), 409);
    call_back(&kurier, &system, &lid, "fehler", false);
    wait_until("the failure has arrived", || sink.received().iter().any(|event| event.text().contains("inpasy.failed")));
    assert_eq!(state(&kurier, &lid)["state"], "failed");
    assert!(kurier.terminate().success());
}
