//! PayJoe: records that travel in batches, one of which it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use kurier::demo::simulators::payjoe::{ACCESS_ID, PayJoe, USER};
use kurier::model::Timestamp;
use parking_lot::Mutex;
use serde_json::json;

use super::life::{Life, SOON};
use super::net::World;
use super::play::{Day, Ended, START, Steps, every_point, one, whole};

/// How many payments there usually are.
const USUAL: usize = 7;

/// The one that PayJoe refuses, which its batch must not suffer from.
const REFUSED: usize = 3;

/// The one that brings no identifier of its own.
const NAMELESS: usize = 5;

pub(super) struct Payments {
    pub(super) system: PayJoe,
    steps: Steps,
    count: usize,
    /// When each upload was made.
    uploads: Mutex<Vec<Timestamp>>,
}

impl Payments {
    pub(super) async fn begin() -> Self {
        Self::of(USUAL).await
    }

    pub(super) async fn of(count: usize) -> Self {
        Self { system: PayJoe::start().await.unwrap(), steps: Steps::default(), count, uploads: Mutex::default() }
    }

    async fn pay(&self, life: &Life, at: usize) {
        let name = (at != NAMELESS).then(|| format!("P-{at}"));
        let text = if at == REFUSED { "refuse" } else { "ok" };
        life.post(&json!({ "id": name, "day": "2026-01-05", "amount": format!("{at}.50"), "text": text })).await;
    }
}

impl Day for Payments {
    fn routes(&self) -> String {
        format!(
            r#"
routes:
  payments:
    path: /in
    verify: none
    deliver:
      - to: bookkeeping
        transform: |
          .body | {{ Buchungsdatum: .day, Valutadatum: .day, Waehrung: 978, BruttoBetrag: .amount, BruttoWaehrung: "EUR", Buchungstext: .text }}
          + if .id then {{ UniqueIdentifier: .id }} else {{}} end
destinations:
  bookkeeping:
    payjoe: {{ url: '{}', user: {USER}, api_key: {{ env: PAYJOE }}, access_id: {ACCESS_ID}, batch: {{ max: 4, wait: 300ms }} }}
    retry: {SOON}
"#,
            self.system.server.url("/zahlungsupload")
        )
    }

    fn world(&self) -> World {
        World::of(&[&self.system.server])
    }

    fn at(&self, now: Timestamp) {
        self.uploads.lock().push(now);
    }

    async fn act(&self, life: &Life) {
        let all = (0..self.count).map(|at| async move { self.steps.once(&format!("payment {at}"), self.pay(life, at)).await });
        join_all(all).await;
        // Its sender repeats one.
        self.steps.once("repeated", self.pay(life, 0)).await;
    }

    async fn is_over(&self, _life: &Life) -> bool {
        true
    }

    async fn check(&self, life: &Life, _end: Option<&Ended>) {
        let booked = self.system.payments();
        let due: BTreeSet<String> = (0..self.count).filter(|at| ![REFUSED, NAMELESS].contains(at)).map(|at| format!("P-{at}")).collect();
        let (own, ours): (BTreeSet<String>, BTreeSet<String>) = booked.keys().cloned().partition(|id| id.starts_with("P-"));
        assert_eq!((own, ours.len()), (due, 1), "each is booked once, under the identifier of its own or one of ours");
        assert_eq!(life.events("payments").await.len(), self.count);
        let states = life.states("payments", "bookkeeping").await;
        let dead = states.iter().filter(|state| **state == "dead").count();
        assert_eq!((dead, states.len()), (1, self.count), "{states:?}");
        // A repeat of a record is known by its identifier, so no identifier ever names another record.
        let mut sent: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for call in self.system.server.calls() {
            for record in call.json().unwrap()["Zahlungen"].as_array().unwrap() {
                sent.entry(record["UniqueIdentifier"].as_str().unwrap().to_owned()).or_default().insert(record.to_string());
            }
        }
        assert!(sent.len() == self.count && sent.values().all(|records| records.len() == 1), "{sent:?}");
    }
}

#[test]
fn a_process_may_die_anywhere_in_a_day_of_payjoe() {
    every_point("payjoe", 10, &["/zahlungsupload"], Payments::begin);
}

#[test]
fn a_rate_is_of_uploads_and_not_of_records() {
    const RECORDS: usize = 40;
    let slow = |routes: String| routes.replace("    payjoe:", "    limits: { rate: 12/min }\n    payjoe:");
    one(
        START,
        || Payments::of(RECORDS),
        slow,
        async |day, life, _world| {
            whole(day, life).await;
            day.check(life, None).await;
            let uploads = day.uploads.lock().clone();
            // Ten batches of four, one of which is split.
            assert!((10..=20).contains(&uploads.len()), "{uploads:?}");
            let gaps = uploads.windows(2).map(|pair| pair[1].since(pair[0]));
            assert!(gaps.clone().all(|gap| gap >= Duration::from_secs(5)), "{:?}", gaps.collect::<Vec<_>>());
        },
    );
}
