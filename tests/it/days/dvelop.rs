//! d.velop smart invoice: webhooks, fetched transfers, and the results of both.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kurier::demo::simulators::dvelop::{Dvelop, INTEGRATION_KEY};
use kurier::demo::simulators::{Answer, Call, Simulator};

use super::life::{Life, SOON};
use super::net::World;
use super::play::{Day, Ended, Steps, every_point};
use crate::harness::dvelop_signature_at;

/// What its webhooks are signed with.
pub(super) const SECRET: &str = "a-secret-of-the-tests";

/// Two systems, as a transfer is either told or fetched, and the application behind.
pub(super) struct Invoices {
    pub(super) telling: Dvelop,
    pub(super) listing: Dvelop,
    pub(super) erp: Simulator,
    pub(super) ops: Simulator,
    steps: Steps,
}

fn number(call: &Call) -> u64 {
    call.json().unwrap()["workflow"]["id"].as_u64().unwrap()
}

/// The application refuses every other invoice.
fn is_good(id: u64) -> bool {
    id.is_multiple_of(2)
}

impl Invoices {
    pub(super) async fn begin() -> Self {
        let (telling, listing) = (Dvelop::start(2, 10).await.unwrap(), Dvelop::start(3, 2).await.unwrap());
        let erp = Simulator::start(|call| Answer::status(if is_good(number(call)) { 200 } else { 422 })).await.unwrap();
        let ops = Simulator::start(|_| Answer::status(200)).await.unwrap();
        Self { telling, listing, erp, ops, steps: Steps::default() }
    }

    async fn tell(&self, life: &Life, body: &[u8]) {
        let body = Bytes::copy_from_slice(body);
        let signed = || {
            let signature = dvelop_signature_at(SECRET, &(life.clock.now().millis() / 1000).to_string(), &body);
            let request = Request::post("/callbacks/dvelop").header("host", "hooks").header("x-smart-invoice-signature", signature);
            request.body(Full::new(body.clone())).unwrap()
        };
        let answer = life.insist(signed).await;
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (202, &br#"{"successful":true}"#[..]));
    }

    /// What was reported to one of them, by link.
    pub(super) fn reported(system: &Dvelop) -> BTreeMap<String, BTreeSet<bool>> {
        let mut reported: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
        for call in system.server.calls().iter().filter(|call| call.method == "POST") {
            reported.entry(call.path.clone()).or_default().insert(call.json().unwrap()["successful"].as_bool().unwrap());
        }
        reported
    }
}

impl Day for Invoices {
    fn routes(&self) -> String {
        let acknowledge = format!(
            "acknowledge: {{ dvelop: {{ auth: {{ bearer: {{ env: DVELOP }} }}, allowed_hosts: [127.0.0.1], allow_private: [127.0.0.0/8], \
             retry: {SOON} }} }}"
        );
        format!(
            "routes:\n  told:\n    path: /callbacks/dvelop\n    verify: {{ preset: dvelop-smart-invoice, secrets: [{{ env: WEBHOOK_SECRET }}] }}\n    \
             deliver: [erp]\n    {acknowledge}\n  fetched:\n    pull: {{ dvelop: {{ base_url: '{}', integration_key: {INTEGRATION_KEY}, every: \
             60s, auth: {{ bearer: {{ env: DVELOP }} }}, retry: {SOON} }} }}\n    deliver: [erp]\n    {acknowledge}\ndestinations:\n  erp: {{ \
             url: '{}', retry: {SOON} }}\n  ops: {{ url: '{}' }}\n",
            self.listing.server.url(""),
            self.erp.url("/hook"),
            self.ops.url("/alarm")
        )
    }

    fn world(&self) -> World {
        World::of(&[&self.telling.server, &self.listing.server, &self.erp, &self.ops])
    }

    async fn act(&self, life: &Life) {
        for (at, body) in self.telling.listed().iter().enumerate() {
            self.steps.once(&format!("told {at}"), self.tell(life, body)).await;
        }
        // The same once more, and the same link with another text.
        let first = self.telling.listed().remove(0);
        self.steps.once("repeated", self.tell(life, &first)).await;
        let other = String::from_utf8(first).unwrap().replace("119.00", "120.00");
        self.steps.once("contradicted", self.tell(life, other.as_bytes())).await;
    }

    async fn is_over(&self, _life: &Life) -> bool {
        self.listing.results().iter().all(Option::is_some)
    }

    async fn check(&self, life: &Life, _end: Option<&Ended>) {
        for (system, route) in [(&self.telling, "told"), (&self.listing, "fetched")] {
            let results: Vec<bool> =
                system.results().iter().map(|result| result.as_ref().unwrap()["successful"].as_bool().unwrap()).collect();
            let due: Vec<bool> = (0..results.len()).map(|id| is_good(id as u64)).collect();
            assert_eq!(results, due, "{route}");
            let reported = Self::reported(system);
            assert!(reported.values().all(|said| said.len() == 1), "two results for one link: {reported:?}");
            assert_eq!(life.events(route).await.len(), results.len(), "{route}: one event for each link");
            let states = life.states(route, &format!("{route}:acknowledge")).await;
            assert_eq!(states, vec!["delivered"; results.len()], "{route}: each result has arrived, and it is known");
            let dead = life.states(route, "erp").await.iter().filter(|state| **state == "dead").count();
            assert_eq!(dead, results.len() / 2, "{route}");
        }
        // Whatever is repeated is repeated as the same event, byte for byte.
        let mut seen: BTreeMap<String, BTreeSet<(String, Bytes)>> = BTreeMap::new();
        for call in self.erp.calls() {
            let link = call.json().unwrap()["_links"]["report_results_async"]["href"].to_string();
            seen.entry(link).or_default().insert((call.header("webhook-id").to_owned(), call.body.clone()));
        }
        assert!(seen.len() == 5 && seen.values().all(|events| events.len() == 1), "{seen:?}");
    }
}

#[test]
fn a_process_may_die_anywhere_in_a_day_of_dvelop_smart_invoice() {
    let named = ["/transfers", "/hook", "sync of /store/journal"];
    every_point("dvelop", 10, &named, Invoices::begin);
}
