//! PostFinance SmartBusiness, and OAuth2 for any destination.

use serde_json::{Value, json};

use super::{SOON, home, look, post, pulled, wait_for_calls, wait_for_counts};
use crate::harness::{Home, Serving, Sink, request, wait_until};
use kurier::demo::simulators::smartbusiness::{CLIENT_ID, CLIENT_SECRET, SmartBusiness};
use kurier::demo::simulators::{Answer, Trouble};

fn invoicing(system: &SmartBusiness, request: &str) -> Home {
    home(&format!(
        r#"
routes:
  orders:
    path: /in
    verify: none
    deliver:
      - to: invoicing
        transform: '.body | {{ number: ("R-" + .order), contact_id: 1, date: "2026-11-26", positions: [] }}'
destinations:
  invoicing:
    smartbusiness:
      base_url: "{}"
      client_id: {CLIENT_ID}
      client_secret: {{ env: SB_SECRET }}
      scopes: [invoice]
      request: {request}
    retry: {SOON}
"#,
        system.server.url("/v2")
    ))
    .with_env("SB_SECRET", CLIENT_SECRET)
}

fn numbers(system: &SmartBusiness) -> Vec<String> {
    system.invoices().iter().map(|invoice| invoice["number"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_is_made_once_although_its_token_ended_and_an_answer_was_lost() {
    let system = SmartBusiness::start().await.unwrap();
    let home = invoicing(&system, "POST /receivables/invoices");
    let kurier = home.serve();
    post(&kurier, &json!({ "order": "1" }));
    wait_for_counts(&kurier, "invoicing", 0, 0);
    system.end_access();
    post(&kurier, &json!({ "order": "2" }));
    wait_for_counts(&kurier, "invoicing", 0, 0);
    assert_eq!(numbers(&system), ["R-1", "R-2"]);

    let calls = system.server.calls().len();
    system.server.trouble([Trouble::LoseAnswer, Trouble::Hang]);
    post(&kurier, &json!({ "order": "3" }));
    wait_for_calls(&system.server, calls + 2);
    kurier.kill();
    let kurier = home.serve();
    // 1105 for `number` after an attempt without an answer: it had arrived.
    wait_for_counts(&kurier, "invoicing", 0, 0);
    assert_eq!(numbers(&system), ["R-1", "R-2", "R-3"]);
    // The same number at the first attempt is somebody else's.
    post(&kurier, &json!({ "order": "3", "again": true }));
    wait_for_counts(&kurier, "invoicing", 0, 1);
    let dead = look(&kurier, "/api/v1/events?state=dead")["items"][0]["id"].as_str().unwrap().to_owned();
    let dead = look(&kurier, &format!("/api/v1/events/{dead}")).to_string();
    assert!(dead.contains("1105") && dead.contains("number"), "{dead}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_client_credentials_pause_and_mended_ones_go_on() {
    let system = SmartBusiness::start().await.unwrap();
    let home = invoicing(&system, "POST /receivables/invoices");
    home.write("secret", "a-wrong-one");
    let text = std::fs::read_to_string(home.path().join("routes.yaml")).unwrap();
    home.write("routes.yaml", &text.replace("{ env: SB_SECRET }", "{ file: secret }"));
    let kurier = home.serve();
    post(&kurier, &json!({ "order": "1" }));
    wait_until("it is paused", || look(&kurier, "/api/v1/destinations")["items"][0]["state"] == "paused");
    let shown = look(&kurier, "/api/v1/destinations").to_string();
    assert!(shown.contains("invalid_client") && !shown.contains("a-wrong-one"), "{shown}");
    home.write("secret", CLIENT_SECRET);
    wait_until("it is reloaded", || kurier.log().contains("is reloaded"));
    request(kurier.admin, "POST", "/api/v1/destinations/invoicing/resume", &[], b"");
    wait_for_counts(&kurier, "invoicing", 0, 0);
    assert_eq!(numbers(&system), ["R-1"]);
    assert!(!kurier.log().contains("a-wrong-one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_destination_may_ask_for_a_token_and_a_401_is_answered_by_a_fresh_one() {
    let system = SmartBusiness::start().await.unwrap();
    let home = home(&format!(
        r#"
routes:
  orders: {{ path: /in, verify: none, deliver: [api] }}
destinations:
  api:
    url: "{}"
    auth: {{ oauth2: {{ token_url: "{}", client_id: {CLIENT_ID}, client_secret: {{ env: SECRET }}, scopes: [a, b] }} }}
    retry: {SOON}
"#,
        system.server.url("/v2/receivables/invoices"),
        system.server.url("/v2/auth/access-tokens"),
    ))
    .with_env("SECRET", CLIENT_SECRET);
    let kurier = home.serve();
    let invoice = |number: &str| json!({ "number": number, "contact_id": 1, "date": "2026-11-26", "positions": [] });
    // The token endpoint is down at first.
    system.server.trouble([Trouble::Instead(Answer::status(503))]);
    post(&kurier, &invoice("A-1"));
    wait_for_counts(&kurier, "api", 0, 0);
    system.end_access();
    post(&kurier, &invoice("A-2"));
    wait_for_counts(&kurier, "api", 0, 0);
    assert_eq!(numbers(&system), ["A-1", "A-2"]);
    let asked: Vec<Value> =
        system.server.calls().iter().filter(|call| call.path.ends_with("access-tokens")).map(|call| call.query.clone().into()).collect();
    assert_eq!(asked.len(), 3);
    assert!(kurier.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_server_in_trouble_is_asked_once_for_all_and_nothing_is_lost() {
    let system = SmartBusiness::start().await.unwrap();
    let home = invoicing(&system, "POST /receivables/invoices");
    let kurier = home.serve();
    // Down; then a page instead of JSON; then a token that never counts and has no life.
    let dead = json!({ "token_type": "Bearer", "access_token": "nobody's", "expires_in": 0 });
    let page = Answer { status: 200, headers: vec![("content-type", "text/html".to_owned())], body: b"<html>".to_vec() };
    system.server.trouble([Answer::status(503), page, Answer::json(200, &dead)].map(Trouble::Instead));
    for order in 0..20 {
        post(&kurier, &json!({ "order": order.to_string() }));
    }
    wait_for_counts(&kurier, "invoicing", 0, 0);
    assert_eq!(numbers(&system).len(), 20);
    let asked = system.server.calls().iter().filter(|call| call.path.ends_with("access-tokens")).count();
    assert_eq!(asked, 4, "three troubles and one token, for twenty deliveries");
    assert!(kurier.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_holds_requests_back_until_its_reset() {
    let system = SmartBusiness::start().await.unwrap();
    let home = invoicing(&system, "POST /receivables/invoices");
    let kurier = home.serve();
    system.leave(1);
    post(&kurier, &json!({ "order": "1" }));
    wait_for_counts(&kurier, "invoicing", 0, 0);
    post(&kurier, &json!({ "order": "2" }));
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(numbers(&system), ["R-1"]);
    assert_eq!(system.server.calls().len(), 2, "nothing is sent against a limit that is known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_fetched_whole_and_what_is_known_is_passed_over_after_a_restart() {
    let (system, erp) = (SmartBusiness::start().await.unwrap(), Sink::start());
    system.add_invoices(450);
    let home = home(&format!(
        r#"
routes:
  invoices:
    pull: {{ smartbusiness: {{ base_url: "{}", client_id: {CLIENT_ID}, client_secret: {{ env: SB_SECRET }}, scopes: [invoice], list: /receivables/invoices }} }}
    deliver: [erp]
destinations:
  erp: {{ url: "{}" }}
"#,
        system.server.url("/v2"),
        erp.url("/hook")
    ))
    .with_env("SB_SECRET", CLIENT_SECRET);
    let kurier = home.serve();
    erp.wait_for(450);
    wait_until("a poll has succeeded", || pulled(&kurier, "invoices")["last_success"].is_string());
    kurier.kill();
    system.add_invoices(1);
    system.end_access();
    let kurier = home.serve();
    let received = erp.wait_for(451);
    assert!(String::from_utf8_lossy(&received[450].body).contains("OLD-451"), "{:?}", received[450]);
    assert_eq!(received.len(), 451);
    assert!(kurier.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_authorizes_in_the_browser_and_each_refresh_token_counts_once_through_kill_9() {
    let (system, ops) = (SmartBusiness::start().await.unwrap(), Sink::start());
    let home = invoicing(&system, "POST /receivables/invoices").with_env("STORE_KEY", "0123456789abcdef0123456789abcdef");
    let text = std::fs::read_to_string(home.path().join("routes.yaml")).unwrap();
    let text = text
        .replace("{ path: ./data,", "{ path: ./data, key: { env: STORE_KEY },")
        .replace("server: { listen: 127.0.0.1:0 }", "server: { listen: 127.0.0.1:0, public_url: https://hooks.example.ch }")
        .replace("      request: ", "      grant: authorization_code\n      redirect_path: /oauth/smartbusiness\n      request: ");
    home.write("routes.yaml", &format!("{text}  ops: {{ url: \"{}\" }}\nnotify: ops\n", ops.url("/alarm")));
    let kurier = home.serve();
    let state = |kurier: &Serving| {
        let items = look(kurier, "/api/v1/destinations")["items"].as_array().unwrap().clone();
        items.into_iter().find(|item| item["name"] == "invoicing").unwrap()["state"].clone()
    };
    let authorize = |kurier: &Serving| {
        let answer = request(kurier.admin, "POST", "/api/v1/destinations/invoicing/authorize", &[], b"");
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let back = system.approve(&answer["location"].as_str().unwrap().parse().unwrap()).unwrap();
        let forged = format!("{}?code=x&state=guess", back.path());
        assert_eq!(request(kurier.public, "GET", &forged, &[], b"").status(), 400);
        let target = format!("{}?{}", back.path(), back.query().unwrap());
        let answer = request(kurier.public, "GET", &target, &[], b"");
        assert_eq!(answer.status(), 200, "{}\n{}", answer.text(), kurier.log());
        assert_eq!(request(kurier.public, "GET", &target, &[], b"").status(), 400, "it counts once");
        request(kurier.admin, "POST", "/api/v1/destinations/invoicing/resume", &[], b"");
    };
    // Nobody has authorized yet: it waits, and somebody is told.
    post(&kurier, &json!({ "order": "1" }));
    wait_until("it is paused", || state(&kurier) == "paused");
    assert_eq!(ops.wait_for(1)[0].header("kurier-event-type"), Some("kurier.authorization"));
    authorize(&kurier);
    wait_for_counts(&kurier, "invoicing", 0, 0);
    kurier.kill();
    // The refresh token outlives the process, and so does its successor.
    for order in ["2", "3"] {
        system.end_access();
        let kurier = home.serve();
        post(&kurier, &json!({ "order": order }));
        wait_for_counts(&kurier, "invoicing", 0, 0);
        kurier.kill();
    }
    assert_eq!(numbers(&system), ["R-1", "R-2", "R-3"]);
    // A refresh whose answer is lost uses the token up: after the crash it is known why, and a person has to authorize.
    let kurier = home.serve();
    let calls = system.server.calls().len();
    system.server.trouble([Trouble::Instead(Answer::status(401)), Trouble::LoseAnswer]);
    post(&kurier, &json!({ "order": "4" }));
    wait_for_calls(&system.server, calls + 2);
    kurier.kill();
    let kurier = home.serve();
    wait_until("it is paused", || state(&kurier) == "paused");
    let why = look(&kurier, "/api/v1/destinations").to_string();
    assert!(why.contains("may have used up the refresh token"), "{why}");
    authorize(&kurier);
    wait_for_counts(&kurier, "invoicing", 0, 0);
    assert_eq!(numbers(&system), ["R-1", "R-2", "R-3", "R-4"]);
    assert!(kurier.terminate().success());
    let kept = std::fs::read_dir(home.path().join("data/journal")).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    for bytes in kept {
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(!holds(b"refresh-") && !holds(b"access-"), "a token stands in the store in the clear");
    }
}
