//! A source whose transfers are fetched, a system that takes orders, and the shop that is told what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use kurier::egress::{Fault, Outbound, Reply};
use kurier::model::FaultKind;
use kurier::orders::PlaceError;
use serde_json::{Value, json};
use tokio::time::sleep;
use tower::ServiceExt;

use super::downstream::{Mood, fault, reply, with_body};
use super::ledger::{FETCHED, Item};
use super::life::World;
use super::people::Life;
use super::plan::{ORDERS, SOURCE};

/// Transfers of one page.
const PAGE: usize = 3;

/// What a payer's bank may say about an order, and in which order.
const FATES: [&[&str]; 6] = [&[], &["ok"], &["ok", "ok"], &["abbruch"], &["ok", "abbruch"], &["abbruch", "ok", "ok"]];

/// What the systems know, and what they were told.
#[derive(Default)]
pub(super) struct Systems {
    /// Orders by their id.
    orders: BTreeMap<String, Order>,
    /// How often the last page of what waits was fetched.
    pub(super) walks: u64,
}

#[derive(Default)]
struct Order {
    /// It has begun at the system that takes orders.
    is_started: bool,
    fate: &'static [&'static str],
    /// How much of its fate was called back and answered 2xx.
    said: usize,
    /// Every word of which a callback was begun.
    tried: BTreeSet<&'static str>,
    /// The words that were answered 2xx.
    heard: BTreeSet<&'static str>,
    /// What the shop was told, and under which ids.
    told: BTreeMap<String, BTreeSet<String>>,
}

impl Systems {
    /// An order begins: under this id never before.
    fn starts(&mut self, lid: &str, fate: &'static [&'static str]) {
        let order = self.orders.entry(lid.to_owned()).or_default();
        assert!(!order.is_started, "the id {lid} starts two orders");
        (order.is_started, order.fate) = (true, fate);
    }

    /// The shop is told something.
    fn tells(&mut self, event: &Value, id: &str) {
        let (lid, kind) = (event["lid"].as_str().unwrap(), event["type"].as_str().unwrap());
        // Of an order whose process died before it was started nobody knows, and it expires.
        let order = self.orders.entry(lid.to_owned()).or_default();
        let ids = order.told.entry(kind.to_owned()).or_default();
        ids.insert(id.to_owned());
        assert!(ids.len() == 1, "two events of one outcome: {ids:?}, {event}");
        let tried = |word: &str| order.tried.contains(word);
        let is_true = match kind {
            "inpasy.succeeded" => tried("ok"),
            "inpasy.failed" => tried("abbruch"),
            "inpasy.conflict" => tried("ok") && tried("abbruch"),
            "inpasy.expired" => true,
            _ => false,
        };
        assert!(is_true, "nobody said so: {event}, {:?}", order.tried);
        let told = |kind: &str| order.told.contains_key(kind);
        assert!(!(told("inpasy.succeeded") && told("inpasy.failed")), "two outcomes of one order: {event}");
    }

    /// All of them have ended, and the shop knows how.
    pub(super) fn assert_ended(&self) {
        for (lid, order) in &self.orders {
            let told = |kind: &str| order.told.contains_key(kind);
            assert!(!order.told.is_empty(), "the shop was never told of the order {lid}");
            for (word, kind) in [("ok", "inpasy.succeeded"), ("abbruch", "inpasy.failed")] {
                let is_told = told(kind) || told("inpasy.conflict");
                assert!(!order.heard.contains(word) || is_told, "I1: `{word}` about {lid} was answered 2xx: {:?}", order.told);
            }
        }
    }
}

impl World {
    fn mood(&self, name: &str) -> Mood {
        self.moods.lock().get(name).copied().unwrap_or(Mood::Well)
    }

    /// A page of the transfers that wait for their results.
    pub(super) async fn list(&self, request: &Outbound) -> Result<Reply, Fault> {
        let after = request.url.query_pairs().find(|(name, _)| name == "after").map_or(0, |(_, value)| value.parse().unwrap());
        let page = || {
            let ledger = self.ledger.lock();
            let is_over = |number: &u64| ledger.taken.contains_key(number) || ledger.refused.contains(number);
            let waiting: Vec<u64> =
                ledger.items.range(FETCHED.max(after + 1)..).map(|(number, _)| *number).filter(|n| !is_over(n)).collect();
            self.systems.lock().walks += u64::from(waiting.len() <= PAGE);
            let bodies: Vec<String> = waiting.iter().take(PAGE).map(|number| Item::body(*number)).collect();
            let next = waiting.get(PAGE).map_or_else(String::new, |_| format!("\"next\": {{\"href\": \"?after={}\"}}", waiting[PAGE - 1]));
            format!("{{\"_links\": {{{next}}}, \"transfers\": [{}]}}", bodies.join(", "))
        };
        sleep(Duration::from_millis(u64::from(self.roll(50)))).await;
        match self.mood(SOURCE) {
            Mood::Well => Ok(with_body(page())),
            Mood::Failing => reply(503, None),
            Mood::Hanging => {
                sleep(Duration::from_secs(3600)).await;
                reply(503, None)
            }
            Mood::Trickling => {
                sleep(Duration::from_millis([1500, 2500][self.roll(2) as usize])).await;
                Ok(with_body(page()))
            }
            Mood::Resetting => fault(FaultKind::Reset),
            Mood::Limiting => reply(429, Some("1")),
            // A page that ends in the middle, and one that leads elsewhere.
            Mood::Lying => Ok(with_body(page().split_at(page().len() / 2).0.to_owned())),
            Mood::Rejecting => Ok(with_body("{\"_links\": {\"next\": {\"href\": \"http://elsewhere/\"}}, \"transfers\": []}".to_owned())),
            Mood::Gone => reply(401, None),
        }
    }

    /// An order is started.
    pub(super) async fn begin_order(&self, request: &Outbound) -> Result<Reply, Fault> {
        let lid = request.url.query_pairs().find(|(name, _)| name == "lid").unwrap().1.into_owned();
        let fate = FATES[self.roll(6) as usize];
        let starts = || self.holds_systems(|systems| systems.starts(&lid, fate));
        sleep(Duration::from_millis(u64::from(self.roll(50)))).await;
        match self.mood(ORDERS) {
            Mood::Well | Mood::Limiting | Mood::Gone => {
                starts();
                Ok(with_body("welcome".to_owned()))
            }
            Mood::Failing => reply(503, None),
            Mood::Hanging => {
                sleep(Duration::from_secs(3600)).await;
                reply(503, None)
            }
            Mood::Trickling => {
                starts();
                sleep(Duration::from_secs([1, 60][self.roll(2) as usize])).await;
                Ok(with_body("welcome".to_owned()))
            }
            Mood::Resetting => {
                if self.roll(2) == 0 {
                    starts();
                }
                fault(FaultKind::Reset)
            }
            Mood::Lying => {
                starts();
                reply(500, None)
            }
            Mood::Rejecting => reply(400, None),
        }
    }

    /// The shop hears of an order.
    pub(super) fn tell_shop(&self, request: &Outbound) {
        let event: Value = serde_json::from_slice(&request.body).unwrap();
        let id = request.headers.get("webhook-id").unwrap().to_str().unwrap().to_owned();
        self.holds_systems(|systems| systems.tells(&event, &id));
    }
}

impl Life {
    /// Transfers come to wait at their source.
    pub(super) async fn offers(self) {
        loop {
            let number = FETCHED + self.world.next();
            // Whether it was seen nobody says, so it is neither kept nor void until the end.
            let item = Item { route: "fetched", lane: None, open: 0, kept: false, unknown: 1 };
            self.world.ledger.lock().items.insert(number, item);
            self.pause(6000).await;
        }
    }

    /// Places orders.
    pub(super) async fn buys(self) {
        loop {
            self.pause(8000).await;
            let config = self.world.config();
            let route = config.route("orders").unwrap();
            let posted = json!({ "auftragsart": "H010002", "Name": "Meier", "Mail": "k.meier@maildienst.de", "hinweis": "x",
                                 "menge": "2", "betrag": "10.00", "Bezahlverfahren": "rechnung" });
            let placed = self.orders.place(&route.name, route.inpasy.as_ref().unwrap(), &posted).await;
            let lid = match placed {
                Ok(placed) => placed.lid,
                Err(PlaceError::Unclear { lid, .. }) => lid,
                Err(_) => continue,
            };
            self.world.systems.lock().orders.entry(lid.as_str().to_owned()).or_default();
        }
    }

    /// Calls back about orders, each word until it is answered 2xx.
    pub(super) async fn pays(self) {
        loop {
            self.pause(3000).await;
            let due = {
                let mut systems = self.world.systems.lock();
                let open: Vec<&mut Order> = systems.orders.values_mut().filter(|order| order.said < order.fate.len()).collect();
                let count = u32::try_from(open.len()).unwrap();
                if count == 0 { None } else { Some(self.world.roll(count) as usize) }
            };
            let Some(at) = due else { continue };
            let (lid, word) = {
                let mut systems = self.world.systems.lock();
                let (lid, order) = systems.orders.iter_mut().filter(|(_, order)| order.said < order.fate.len()).nth(at).unwrap();
                let word = order.fate[order.said];
                order.tried.insert(word);
                (lid.clone(), word)
            };
            let request =
                Request::builder().method(Method::GET).uri(format!("/orders?lid={lid}&status={word}")).header("host", "hooks.test");
            let answer = self.ingress.service().oneshot(request.body(Full::new(Bytes::new())).unwrap()).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                let mut systems = self.world.systems.lock();
                let order = systems.orders.get_mut(&lid).unwrap();
                order.said += 1;
                order.heard.insert(word);
            }
        }
    }
}
