use kurier::connectors::bankintegration::{
    Followed, Payment, Settings, SettingsDraft, Status, balance_request, balances, changes, entries, judge, judge_payment,
    statement_request, status_request, window,
};
use kurier::connectors::{Outcome, Verdict};
use kurier::model::Timestamp;
use serde_json::{Value, json};

use super::{event, secret, seen, send};
use kurier::demo::simulators::bankintegration::{ACCOUNT, API_KEY, Bank, CODE, ERP};
use kurier::demo::simulators::{Answer, Trouble};

const MINUTE: &str = "2026-03-01T10:45";

fn now() -> Timestamp {
    "2026-03-01T10:45:23Z".parse().unwrap()
}

fn settings(bank: &Bank, code: &str) -> Settings {
    Settings::new(SettingsDraft {
        base_url: Some(bank.server.url("")),
        erp: Some(ERP.to_owned()),
        api_key: Some(secret(API_KEY)),
        account: Some(ACCOUNT.to_owned()),
        integration_code: Some(secret(code)),
        ..SettingsDraft::default()
    })
    .ok()
    .unwrap()
}

fn payments(accounts: &[&str]) -> Payment {
    let amounts: [Value; 3] = [json!("154"), json!(0.5), json!("1000.10")];
    let transactions: Vec<Value> = accounts
        .iter()
        .zip(amounts)
        .map(|(account, amount)| json!({ "paymentDate": "2026-03-02", "amount": amount, "currency": "DKK", "account": account, "text": "Løn" }))
        .collect();
    Payment::new(json!({ "transactions": transactions }).to_string().as_bytes(), event()).unwrap()
}

async fn pay(settings: &Settings, payment: &Payment, at: Timestamp, again: bool) -> Outcome {
    match send(payment.request(settings, at).unwrap()).await {
        Ok(reply) => judge_payment(&seen(&reply), payment, settings, again),
        Err(fault) => Outcome { verdict: Verdict::Retry { after: None }, reason: fault.to_string() },
    }
}

#[tokio::test]
async fn several_payments_of_one_request_are_made_once_however_often_it_is_sent() {
    let bank = Bank::start(MINUTE).await.unwrap();
    let (settings, payment) = (settings(&bank, CODE), payments(&["80790000820049", "80790000820050", "80790000820051"]));
    bank.server.trouble([Trouble::LoseAnswer, Trouble::Lie(Answer::status(500))]);
    for _ in 0..2 {
        assert!(matches!(pay(&settings, &payment, now(), false).await.verdict, Verdict::Retry { .. }));
    }
    assert_eq!(pay(&settings, &payment, now(), false).await, Outcome { verdict: Verdict::Delivered, reason: String::new() });
    assert_eq!(bank.paid().values().collect::<Vec<_>>(), ["154.00", "0.50", "1000.10"]);
}

#[tokio::test]
async fn an_old_authorization_is_refused_and_a_fresh_one_is_taken() {
    let bank = Bank::start(MINUTE).await.unwrap();
    let (settings, payment) = (settings(&bank, CODE), payments(&["1"]));
    bank.set_minute("2026-03-01T10:46");
    assert_eq!(pay(&settings, &payment, now(), false).await.verdict, Verdict::Reauthorize);
    let later = now().saturating_add(std::time::Duration::from_secs(60));
    assert_eq!(pay(&settings, &payment, later, true).await.verdict, Verdict::Delivered);
}

#[tokio::test]
async fn a_wrong_code_pauses_after_one_more_try() {
    let bank = Bank::start(MINUTE).await.unwrap();
    let (settings, payment) = (settings(&bank, "another"), payments(&["1"]));
    assert_eq!(pay(&settings, &payment, now(), false).await.verdict, Verdict::Reauthorize);
    let outcome = pay(&settings, &payment, now(), true).await;
    assert!(outcome.verdict == Verdict::Pause && outcome.reason.contains("integration_code"), "{}", outcome.reason);
    assert!(bank.paid().is_empty());
}

#[tokio::test]
async fn what_the_bank_refuses_whole_is_dead_and_what_it_refuses_in_part_is_followed() {
    let bank = Bank::start(MINUTE).await.unwrap();
    let settings = settings(&bank, CODE);
    let outcome = pay(&settings, &payments(&["0"]), now(), false).await;
    assert!(outcome.verdict == Verdict::Rejected && outcome.reason.contains("unknown account"), "{}", outcome.reason);
    assert_eq!(pay(&settings, &payments(&["0", "1"]), now(), false).await.verdict, Verdict::Delivered);
}

#[tokio::test]
async fn a_status_is_followed_until_it_is_final() {
    let bank = Bank::start(MINUTE).await.unwrap();
    let (settings, payment) = (settings(&bank, CODE), payments(&["1", "2"]));
    pay(&settings, &payment, now(), false).await;
    let mut followed: Followed = payment.transactions.iter().map(|one| (one.payment_id.clone(), Some(Status::Created))).collect();
    let mut heard = Vec::new();
    for _ in 0..6 {
        let reply = send(status_request(&settings, &payment.request_id, now()).unwrap()).await.unwrap();
        assert_eq!(judge(&seen(&reply), &payment.request_id, &settings, false).verdict, Verdict::Delivered);
        heard.push(
            changes(&seen(&reply), &payment.request_id, &mut followed)
                .unwrap()
                .iter()
                .map(|change| change.status.word())
                .collect::<Vec<_>>(),
        );
    }
    let twice = |word| vec![word, word];
    let expected = [twice("pending"), twice("waiting_for_signature"), twice("accepted"), twice("succeeded"), vec![], vec![]];
    assert_eq!(heard, expected);
    assert!(followed.values().all(|status| status.is_some_and(Status::is_final)));
}

#[tokio::test]
async fn entries_of_overlapping_windows_are_known_by_their_keys() {
    let bank = Bank::start(MINUTE).await.unwrap();
    let settings = settings(&bank, CODE);
    let (start, today) = ("2026-01-20".parse().unwrap(), "2026-03-01".parse().unwrap());
    let (mut fetched, mut keys, mut read) = (None, std::collections::BTreeSet::new(), 0);
    while fetched != Some(today) {
        let days = window(start, fetched, today);
        let reply = send(statement_request(&settings, "REQ_01", days, now()).unwrap()).await.unwrap();
        let found = entries(&seen(&reply), &settings).unwrap();
        read += found.len();
        keys.extend(found.into_iter().map(|entry| entry.key));
        fetched = Some(days.to);
    }
    assert!(keys.len() == 28 && read > 28, "{read}");
    let reply = send(balance_request(&settings, "REQ_02", now()).unwrap()).await.unwrap();
    assert_eq!(balances(&seen(&reply), &settings).unwrap()[0].key, format!("{ACCOUNT}:2026-02-28:1:1000.5"));
}
