//! BankIntegration.dk: a payment request is made once, however often it is sent.

use serde_json::json;

use super::{SOON, home, look, post, wait_for_calls, wait_for_counts};
use crate::harness::{Home, wait_until};
use crate::simulators::bankintegration::{ACCOUNT, API_KEY, Bank, CODE, ERP};
use crate::simulators::{Answer, Trouble};

/// Any minute: the binary's clock is the machine's.
const ANY_TIME: &str = "";

fn bank_home(bank: &Bank, code: &str) -> Home {
    home(&format!(
        r#"
routes:
  wages: {{ path: /in, verify: none, deliver: [bank] }}
destinations:
  bank:
    bankintegration:
      base_url: "{}"
      erp: {ERP}
      api_key: {{ env: BANK_KEY }}
      account: "{ACCOUNT}"
      integration_code: {{ env: BANK_CODE }}
    retry: {SOON}
"#,
        bank.server.url("")
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
    let bank = Bank::start(ANY_TIME).await;
    let home = bank_home(&bank, CODE);
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
    let bank = Bank::start(ANY_TIME).await;
    let home = bank_home(&bank, "another-code");
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
