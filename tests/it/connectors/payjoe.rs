use bytes::Bytes;
use kurier::connectors::payjoe::{BATCH_BYTES_MAX, Checked, Plan, Settings, SettingsDraft, batches, judge, record, upload};
use kurier::connectors::{Outcome, Verdict};
use serde_json::json;

use super::{event, secret, seen, send};
use kurier::demo::simulators::payjoe::{ACCESS_ID, API_KEY, PayJoe, USER};
use kurier::demo::simulators::{Answer, Trouble};

fn settings(system: &PayJoe, api_key: &str) -> Settings {
    Settings::new(SettingsDraft {
        url: Some(system.server.url("/zahlungsupload")),
        user: Some(secret(USER)),
        api_key: Some(secret(api_key)),
        access_id: Some(ACCESS_ID),
        ..SettingsDraft::default()
    })
    .ok()
    .unwrap()
}

fn payment(id: usize, text: &str) -> Checked {
    let body = json!({
        "UniqueIdentifier": format!("P-{id}"), "Buchungsdatum": "2018-01-05", "Valutadatum": "2018-01-05", "Waehrung": 978,
        "BruttoBetrag": "20.00", "BruttoWaehrung": "EUR", "Buchungstext": text
    });
    record(body.to_string().as_bytes(), event(), false).unwrap()
}

/// Uploads as a destination does: `Err` stands for a request without an answer.
async fn play(settings: &Settings, records: &[Checked]) -> Vec<Outcome> {
    let mut plan = Plan::new(records.len());
    while let Some(part) = plan.next() {
        let part: Vec<&Checked> = records[part].iter().collect();
        let outcome = match send(upload(settings, &part).unwrap()).await {
            Ok(reply) => judge(&seen(&reply), settings),
            Err(fault) => Outcome { verdict: Verdict::Retry { after: None }, reason: fault.to_string() },
        };
        plan.take(&outcome);
    }
    plan.outcomes().unwrap()
}

#[tokio::test]
async fn the_seeds_record_is_taken() {
    let system = PayJoe::start().await.unwrap();
    let seed = br#"{"BerichtID":45,"UniqueIdentifier":"1T46DG0575BX16SSD","Buchungsdatum":"2018-01-05T14:25:55.2426324+01:00","Valutadatum":"2018-01-09T14:25:55.2426324+01:00","Waehrung":978,"BruttoBetrag":"20.00","BruttoWaehrung":978,"IBAN":"DE5850070024012346789","Referenz3":null,"Zahlungsstatus":1,"NichtSaldorelevant":0}"#;
    let checked = record(seed, event(), false).unwrap();
    assert_eq!(play(&settings(&system, API_KEY), &[checked]).await[0].verdict, Verdict::Delivered);
    assert_eq!(system.payments()["1T46DG0575BX16SSD"]["BruttoBetrag"], "20.00");
}

#[tokio::test]
async fn records_that_payjoe_dislikes_are_found_and_the_others_are_taken() {
    let system = PayJoe::start().await.unwrap();
    let bad = [3, 41, 42];
    let records: Vec<_> = (0..60).map(|id| payment(id, if bad.contains(&id) { "refuse" } else { "ok" })).collect();
    let outcomes = play(&settings(&system, API_KEY), &records).await;
    for (id, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.verdict == Verdict::Rejected, bad.contains(&id), "{id}: {outcome:?}");
    }
    assert!(outcomes[3].reason.contains("konnten nicht verarbeitet werden"), "{}", outcomes[3].reason);
    assert_eq!(system.payments().len(), 57);
    assert!(system.server.calls().len() < 40);
}

#[tokio::test]
async fn an_upload_whose_answer_was_lost_is_repeated_and_counts_once() {
    let system = PayJoe::start().await.unwrap();
    let records: Vec<_> = (0..5).map(|id| payment(id, "ok")).collect();
    system.server.trouble([Trouble::LoseAnswer, Trouble::Lie(Answer::status(200)), Trouble::Instead(Answer::status(503))]);
    for _ in 0..3 {
        assert!(play(&settings(&system, API_KEY), &records).await.iter().all(|outcome| matches!(outcome.verdict, Verdict::Retry { .. })));
    }
    assert!(play(&settings(&system, API_KEY), &records).await.iter().all(|outcome| outcome.verdict == Verdict::Delivered));
    assert_eq!(system.payments().len(), 5);
}

#[tokio::test]
async fn wrong_credentials_pause_and_are_not_shown() {
    let system = PayJoe::start().await.unwrap();
    let outcome = play(&settings(&system, "wrong-key"), &[payment(1, "ok"), payment(2, "ok")]).await.pop().unwrap();
    assert_eq!(outcome.verdict, Verdict::Pause);
    assert!(
        outcome.reason.contains("***") && !outcome.reason.contains("wrong-key") && !outcome.reason.contains(USER),
        "{}",
        outcome.reason
    );
    assert_eq!(system.server.calls().len(), 1);
}

#[tokio::test]
async fn no_upload_has_more_than_500_records() {
    let system = PayJoe::start().await.unwrap();
    let settings = settings(&system, API_KEY);
    let records: Vec<_> = (0..501).map(|id| payment(id, "ok")).collect();
    let all: Vec<&Checked> = records.iter().collect();
    assert_eq!(send(upload(&settings, &all).unwrap()).await.unwrap().status, 413);
    let lengths: Vec<usize> = records.iter().map(|record: &Checked| Bytes::len(&record.json)).collect();
    for group in batches(&lengths, 500, BATCH_BYTES_MAX) {
        assert!(play(&settings, &records[group]).await.iter().all(|outcome| outcome.verdict == Verdict::Delivered));
    }
    assert_eq!((system.payments().len(), system.server.calls().len()), (501, 3));
}
