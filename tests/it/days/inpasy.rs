//! InPaSy: orders that are placed, completed, contradicted and forgotten by their payers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kurier::connectors::inpasy::Lid;
use kurier::demo::simulators::inpasy::InPaSy;
use kurier::demo::simulators::{Answer, Simulator};
use kurier::orders::PlaceError;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::sleep;

use super::life::{Life, SOON};
use super::net::World;
use super::play::{Day, Ended, Steps, every_point};

/// An order that nobody calls back about.
const EXPIRE: &str = "10min";

pub(super) struct Shop {
    pub(super) system: InPaSy,
    pub(super) shop: Simulator,
    steps: Steps,
    /// The ids that the shop was given, by what the order is for.
    given: Mutex<BTreeMap<&'static str, String>>,
}

/// What becomes of the orders: what InPaSy says about them, and again.
const ORDERS: [(&str, &str, &[&str]); 4] = [
    ("made", "payments", &["ok", "ok"]),
    ("fetched", "tickets", &["fehler"]),
    ("contradicted", "payments", &["ok", "abbruch", "abbruch", "vielleicht"]),
    ("forgotten", "payments", &[]),
];

impl Shop {
    pub(super) async fn begin() -> Self {
        let (system, shop) = (InPaSy::start().await.unwrap(), Simulator::start(|_| Answer::status(200)).await.unwrap());
        Self { system, shop, steps: Steps::default(), given: Mutex::default() }
    }

    /// The shop has placed it once it knows its id; it gives up an order of which it heard nothing, and places another.
    async fn place(&self, life: &Life, what: &'static str, route: &str) {
        let config = life.config.load_full();
        let route = config.route(route).unwrap();
        let posted = json!({ "auftragsart": "H010002", "Name": "Müller", "Mail": "k.meier@maildienst.de", "hinweis": what,
                             "menge": "2", "betrag": "10.00", "Bezahlverfahren": "giropay" });
        loop {
            let placed = life.orders.place(&route.name, route.inpasy.as_ref().unwrap(), &posted).await;
            life.fuse.alive().await;
            match placed {
                Ok(placed) => {
                    self.given.lock().insert(what, placed.lid.as_str().to_owned());
                    return;
                }
                Err(PlaceError::Unclear { lid, .. }) => {
                    self.given.lock().insert(what, lid.as_str().to_owned());
                    return;
                }
                Err(PlaceError::NoId(_)) => sleep(Duration::from_secs(1)).await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn call_back(&self, life: &Life, what: &str, route: &str, word: &str, post: bool) {
        let lid = self.given.lock()[what].clone();
        // What never reached InPaSy is never paid either: its payer stays away, and it expires.
        let Some(callback) = self.system.call_back(&lid, word, post) else { return };
        let back = || {
            let target = format!("/callbacks/{route}?{}", callback.query);
            let request = Request::builder().method(if post { "POST" } else { "GET" }).uri(target).header("host", "hooks");
            let request = request.header("authorization", "Basic aW5wYXN5OmdlaGVpbQ==");
            let request = callback.content_type.into_iter().fold(request, |request, kind| request.header("content-type", kind));
            request.body(Full::new(Bytes::copy_from_slice(&callback.body))).unwrap()
        };
        let answer = life.insist(back).await;
        assert_eq!(&answer.body()[..], b"OK");
    }

    /// What the shop was told: for each order its events, each once.
    fn told(&self) -> BTreeMap<String, Vec<String>> {
        let mut seen = BTreeSet::new();
        let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for call in self.shop.calls() {
            if seen.insert(call.header("webhook-id").to_owned()) {
                let body = call.json().unwrap();
                let kind = call.header("kurier-event-type").trim_start_matches("inpasy.").to_owned();
                told.entry(body["lid"].as_str().unwrap().to_owned()).or_default().push(kind);
            }
        }
        told.values_mut().for_each(|kinds| kinds.sort());
        told
    }
}

impl Day for Shop {
    fn routes(&self) -> String {
        let route = |name: &str, id_url: &str| {
            format!(
                "  {name}:\n    path: /callbacks/{name}\n    methods: [GET, POST]\n    verify: {{ basic: {{ user: inpasy, password: {{ env: INPASY }} }} }}\n    \
                 inpasy: {{ start_url: '{}', {id_url} vkz: '575488', result: {{ param: status, success: [ok], failure: [fehler, abbruch] }}, \
                 charset: iso-8859-1, expire: {EXPIRE} }}\n    deliver: [shop]\n",
                self.system.server.url("/start")
            )
        };
        let id_url = format!("id_url: '{}',", self.system.server.url("/id"));
        format!(
            "routes:\n{}{}destinations:\n  shop: {{ url: '{}', retry: {SOON} }}\n",
            route("payments", ""),
            route("tickets", &id_url),
            self.shop.url("/orders")
        )
    }

    fn world(&self) -> World {
        World::of(&[&self.system.server, &self.shop])
    }

    async fn act(&self, life: &Life) {
        for (what, route, words) in ORDERS {
            self.steps.once(what, self.place(life, what, route)).await;
            for (at, word) in words.iter().enumerate() {
                self.steps.once(&format!("{what} {at}"), self.call_back(life, what, route, word, at == 1)).await;
            }
        }
    }

    async fn is_over(&self, life: &Life) -> bool {
        // What is open ends by itself.
        let states = life.store.states("inpasy/").await.unwrap();
        states.values().all(|bytes| !String::from_utf8_lossy(bytes).contains("open"))
    }

    async fn check(&self, life: &Life, _end: Option<&Ended>) {
        let starts: Vec<String> =
            self.system.server.calls().iter().filter(|call| call.path == "/start").map(|call| call.value("lid").unwrap()).collect();
        let ids: BTreeSet<&String> = starts.iter().collect();
        assert_eq!(ids.len(), starts.len(), "no id starts two orders: {starts:?}");
        let (told, given, started) = (self.told(), self.given.lock().clone(), self.system.orders());
        for (what, route, words) in ORDERS {
            let lid = &given[what];
            let due: &[&str] = match (started.contains_key(lid), words) {
                (false, _) | (true, []) => &["expired"],
                (true, ["ok", "ok"]) => &["succeeded"],
                (true, ["fehler"]) => &["failed"],
                (true, _) => &["conflict", "succeeded", "unknown"],
            };
            assert_eq!(told[lid], due, "{what}");
            let name = life.config.load().route(route).unwrap().name.clone();
            let kept = life.orders.order(&name, &Lid::parse(lid).unwrap()).await.unwrap().unwrap();
            let state = if due.contains(&"conflict") { "conflict" } else { due[0] };
            assert_eq!(kept.state().word(), state, "{what}");
        }
        // An order of which the shop never heard ends, too, and only so.
        let others: Vec<_> = told.iter().filter(|(lid, _)| !given.values().any(|known| known == *lid)).collect();
        assert!(others.len() <= 1 && others.iter().all(|(_, kinds)| **kinds == ["expired"]), "{others:?}");
        assert!(started.keys().all(|lid| told.contains_key(lid)), "an order was started, and nothing is told of it");
        assert_eq!(life.pending(), 0);
    }
}

#[test]
fn a_process_may_die_anywhere_in_a_day_of_inpasy() {
    every_point("inpasy", 10, &["/start", "/id", "/orders"], Shop::begin);
}
