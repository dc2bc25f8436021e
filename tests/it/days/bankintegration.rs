//! BankIntegration.dk: payments that are ordered, their status, and statements.

use std::collections::{BTreeMap, BTreeSet};

use kurier::demo::simulators::bankintegration::{ACCOUNT, Bank, ERP};
use kurier::demo::simulators::{Answer, Simulator};
use kurier::model::Timestamp;
use serde_json::{Value, json};

use super::life::{Life, SOON};
use super::net::World;
use super::play::{Day, Ended, Steps, every_point};

pub(super) struct Wages {
    pub(super) bank: Bank,
    pub(super) erp: Simulator,
    steps: Steps,
}

/// Entries of the account since the day from which on they are fetched.
const ENTRIES: usize = 3;

/// A payment's status once it is final.
const FINAL: &str = "succeeded";

impl Wages {
    pub(super) async fn begin() -> Self {
        let bank = Bank::start("").await.unwrap();
        let erp = Simulator::start(|_| Answer::status(200)).await.unwrap();
        Self { bank, erp, steps: Steps::default() }
    }

    async fn order(&self, life: &Life, run: usize, account: &str) {
        let one = |at: usize| json!({ "paymentId": format!("W-{run}-{at}"), "paymentDate": "2026-03-02", "amount": "154.5", "currency": "DKK", "account": account });
        life.post(&json!({ "requestId": format!("REQ-{run}"), "transactions": [one(1), one(2)] })).await;
    }

    /// The ids of the account's entries that the application was told of.
    pub(super) fn entries(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.told("bankintegration.entry").iter().map(|entry| entry["id"].to_string()).collect();
        ids.sort();
        ids
    }

    /// What the application was told, by route: payment or entry, and what of it, in order, each event once.
    fn told(&self, event_type: &str) -> Vec<Value> {
        let mut seen = BTreeSet::new();
        let calls = self.erp.calls();
        let new = calls.iter().filter(|call| call.header("kurier-event-type") == event_type);
        new.filter(|call| seen.insert(call.header("webhook-id").to_owned())).map(|call| call.json().unwrap()).collect()
    }
}

impl Day for Wages {
    fn routes(&self) -> String {
        let account = format!(
            "base_url: '{}', erp: {ERP}, api_key: {{ env: BANK }}, account: '{ACCOUNT}', integration_code: {{ env: BANK_CODE }}",
            self.bank.server.url("")
        );
        let pull = |name: &str, report: &str, key: &str| {
            format!(
                "  {name}:\n    pull: {{ bankintegration: {{ {account}, {report}, every: 1min }} }}\n    order_by: '{{json:{key}}}'\n    deliver: [erp]\n"
            )
        };
        format!(
            "routes:\n  wages: {{ path: /in, verify: none, deliver: [bank] }}\n{}{}destinations:\n  bank:\n    bankintegration: {{ {account} \
             }}\n    retry: {SOON}\n  erp: {{ url: '{}', retry: {SOON} }}\n",
            pull("status", "report: status", "/paymentId"),
            pull("statements", "report: account, from: 2026-02-26", "/id"),
            self.erp.url("/bank")
        )
    }

    fn world(&self) -> World {
        World::of(&[&self.bank.server, &self.erp])
    }

    fn at(&self, now: Timestamp) {
        // The bank believes what was signed in this minute only.
        self.bank.set_minute(&now.to_string()[..16]);
    }

    async fn act(&self, life: &Life) {
        self.steps.once("ordered", self.order(life, 1, "80790000820049")).await;
        self.steps.once("ordered once more", self.order(life, 1, "80790000820049")).await;
        self.steps.once("one that is refused", self.order(life, 2, "0")).await;
    }

    async fn is_over(&self, life: &Life) -> bool {
        let last = self.told("bankintegration.status").iter().filter(|told| told["status"] == FINAL).count();
        last == 2 && life.events("statements").await.len() == ENTRIES
    }

    async fn check(&self, life: &Life, _end: Option<&Ended>) {
        let paid = BTreeMap::from(["W-1-1", "W-1-2"].map(|id| (id.to_owned(), "154.50".to_owned())));
        assert_eq!(self.bank.paid(), paid);
        assert_eq!(life.states("wages", "bank").await, ["delivered", "dead"]);
        // A request that is repeated is repeated under its own ids.
        let payments = self.bank.server.calls().into_iter().filter(|call| call.path == "/payment");
        let requests: BTreeSet<String> = payments.map(|call| call.json().unwrap().to_string()).collect();
        assert_eq!(requests.len(), 2, "{requests:?}");
        // Each change of a status is told once, in order.
        let order = ["created", "pending", "waiting_for_signature", "accepted", FINAL];
        for id in paid.keys() {
            let told = self.told("bankintegration.status");
            let told = told.iter().filter(|told| told["paymentId"] == **id).map(|told| told["status"].as_str().unwrap().to_owned());
            let places: Vec<usize> = told.map(|word| order.iter().position(|known| *known == word).unwrap()).collect();
            assert!(places.is_sorted_by(|a, b| a < b) && places.last() == Some(&4), "{id}: {places:?}");
        }
        let entries: BTreeSet<String> = self.told("bankintegration.entry").iter().map(|entry| entry["id"].to_string()).collect();
        assert_eq!((entries.len(), self.told("bankintegration.entry").len()), (ENTRIES, ENTRIES), "no entry is lost, and none comes twice");
    }
}

#[test]
fn a_process_may_die_anywhere_in_a_day_of_bankintegration() {
    every_point("bankintegration", 10, &["/payment", "/status", "/report/account"], Wages::begin);
}
