//! BankIntegration.dk: a payment request is made once, however often it is sent.

use serde_json::json;

use super::{SOON, home, look, post, pulled, types, wait_for_calls, wait_for_counts};
use crate::harness::{Home, Sink, wait_until};
use kurier::demo::simulators::bankintegration::{ACCOUNT, API_KEY, Bank, CODE, ERP};
use kurier::demo::simulators::{Answer, Trouble};

/// Any minute: the binary's clock is the machine's.
const ANY_TIME: &str = "";

fn bank_home(bank: &Bank, code: &str, reports: &[&str], erp: &Sink) -> Home {
    let base = bank.server.url("");
    let account = format!(
        "base_url: \"{base}\", erp: {ERP}, api_key: {{ env: BANK_KEY }}, account: \"{ACCOUNT}\", integration_code: {{ env: BANK_CODE }}"
    );
    let pull = |report: &&str| {
        format!(
            "  {}: {{ pull: {{ bankintegration: {{ {account}, {report} }} }}, deliver: [erp] }}\n",
            report.split(": ").nth(1).unwrap().split(',').next().unwrap()
        )
    };
    let pulls: String = reports.iter().map(pull).collect();
    home(&format!(
        r#"
routes:
  wages: {{ path: /in, verify: none, deliver: [bank] }}
{pulls}destinations:
  bank:
    bankintegration: {{ {account} }}
    retry: {SOON}
  erp: {{ url: "{}" }}
"#,
        erp.url("/bank")
    ))
    .with_env("BANK_KEY", API_KEY)
    .with_env("BANK_CODE", code)
}

fn wages(amounts: &[&str]) -> serde_json::Value {
    let transaction = |(at, amount): (usize, &&str)| json!({ "paymentId": format!("W-{at}"), "paymentDate": "2026-12-01", "amount": amount, "currency": "DKK", "account": "80790000820049", "text": "Løn" });
    json!({ "requestId": "REQ-1", "transactions": amounts.iter().enumerate().map(transaction).collect::<Vec<_>>() })
}

#[tokio::test(flavor = "multi_thread")]
async fn several_payments_are_signed_at_send_time_and_made_once_through_kill_9() {
    let bank = Bank::start(ANY_TIME).await.unwrap();
    let home = bank_home(&bank, CODE, &[], &Sink::start());
    // Refused once: it is signed anew at once. Then the answer is lost, and then the process.
    bank.server.trouble([Trouble::Instead(Answer::status(401)), Trouble::LoseAnswer, Trouble::Hang]);
    let kurier = home.serve();
    post(&kurier, &wages(&["154", "0.5", "1000.10"]));
    wait_for_calls(&bank.server, 3);
    kurier.kill();
    let kurier = home.serve();
    wait_for_counts(&kurier, "bank", 0, 0);
    assert_eq!(bank.paid().values().collect::<Vec<_>>(), ["154.00", "0.50", "1000.10"]);
    assert!(kurier.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_authorization_pauses_and_a_wrong_payment_is_a_dead_letter_that_names_the_field() {
    let bank = Bank::start(ANY_TIME).await.unwrap();
    let home = bank_home(&bank, "another-code", &[], &Sink::start());
    let kurier = home.serve();
    post(&kurier, &json!({ "transactions": [{ "paymentDate": "2026-12-01", "amount": "-1", "currency": "DKK", "account": "1" }] }));
    wait_for_counts(&kurier, "bank", 0, 1);
    let event = look(&kurier, "/api/v1/events")["items"][0]["id"].as_str().unwrap().to_owned();
    let shown = look(&kurier, &format!("/api/v1/events/{event}")).to_string();
    assert!(shown.contains("transactions[0].amount"), "{shown}");
    assert_eq!(bank.server.calls().len(), 0);

    post(&kurier, &wages(&["1"]));
    wait_until("it is paused", || look(&kurier, "/api/v1/destinations")["items"][0]["state"] == "paused");
    assert_eq!(bank.server.calls().len(), 2, "signed anew once, and no more");
    assert!(!kurier.log().contains("another-code"));
    assert!(bank.paid().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_and_balances_are_fetched_once_each_although_windows_overlap() {
    let (bank, erp) = (Bank::start(ANY_TIME).await.unwrap(), Sink::start());
    let home = bank_home(&bank, CODE, &["report: account, from: 2026-02-10", "report: balance"], &erp);
    for _ in 0..2 {
        let kurier = home.serve();
        for route in ["account", "balance"] {
            wait_until("a poll has succeeded", || pulled(&kurier, route)["last_success"].is_string());
        }
        wait_until("every window was fetched", || bank.server.calls().iter().filter(|call| call.path == "/report/account").count() >= 11);
        assert_eq!(types(&kurier, "account"), vec!["bankintegration.entry"; 19]);
        assert_eq!(types(&kurier, "balance"), vec!["bankintegration.balance"; 2]);
        kurier.kill();
    }
    // The last window again after the second start, and nothing older.
    let asked: Vec<String> =
        bank.server.calls().iter().filter(|call| call.path == "/report/account").map(|call| call.value("from").unwrap()).collect();
    assert_eq!(asked[0], "2026-02-10");
    assert!(asked.last() > asked.first() && bank.server.calls().iter().all(|call| call.value("newOnly").is_none()));
    assert_eq!(erp.wait_for(21).len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_was_ordered_stays_followed_when_its_repeat_is_refused() {
    let (bank, erp) = (Bank::start(ANY_TIME).await.unwrap(), Sink::start());
    let home = bank_home(&bank, CODE, &["report: status"], &erp);
    // It is ordered, and the answer is lost; the second time the bank knows the request and refuses it.
    bank.server.trouble([Trouble::LoseAnswer, Trouble::Instead(Answer::status(409))]);
    let kurier = home.serve();
    post(&kurier, &wages(&["154"]));
    wait_for_counts(&kurier, "bank", 0, 1);
    assert_eq!(bank.paid().len(), 1);
    kurier.kill();
    // A start polls at once.
    let kurier = home.serve();
    wait_until("its status is an event", || !types(&kurier, "status").is_empty());
    assert!(kurier.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_payments_is_followed_until_it_is_final_and_each_change_is_an_event() {
    let (bank, erp) = (Bank::start(ANY_TIME).await.unwrap(), Sink::start());
    let home = bank_home(&bank, CODE, &["report: status"], &erp);
    let kurier = home.serve();
    post(&kurier, &wages(&["154"]));
    wait_for_counts(&kurier, "bank", 0, 0);
    kurier.kill();
    let asked = || bank.server.calls().iter().filter(|call| call.path == "/status").count();
    for change in 1..=4 {
        let kurier = home.serve();
        wait_until("a change is an event", || types(&kurier, "status").len() == change);
        kurier.kill();
    }
    // A kill between event and note asks once more, and the same change is known.
    let kurier = home.serve();
    wait_until("the changes have arrived", || erp.received().len() >= 4);
    wait_until("a poll has succeeded", || pulled(&kurier, "status")["failures"] == 0);
    assert_eq!(types(&kurier, "status"), vec!["bankintegration.status"; 4]);
    let said: Vec<String> = erp
        .received()
        .iter()
        .map(|event| serde_json::from_slice::<serde_json::Value>(&event.body).unwrap()["status"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(said, ["pending", "waiting_for_signature", "accepted", "succeeded"]);
    assert!(asked() >= 4);
    assert!(kurier.terminate().success());
}
