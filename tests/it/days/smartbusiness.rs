//! PostFinance SmartBusiness: a person's consent, refresh tokens that count once, invoices and a list of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kurier::demo::simulators::smartbusiness::{CLIENT_ID, SmartBusiness};
use kurier::demo::simulators::{Answer, Call, Simulator};
use kurier::model::Timestamp;
use kurier::tokens::Who;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::sleep;
use url::Url;

use super::life::{Life, SOON};
use super::net::World;
use super::play::{Day, Ended, Steps, every_point, stopped, whole};

/// Who is authorized by a person.
const NAME: &str = "invoicing";

pub(super) struct Invoicing {
    pub(super) system: SmartBusiness,
    pub(super) erp: Simulator,
    pub(super) ops: Simulator,
    steps: Steps,
    /// How often a person began to authorize because nobody had yet.
    first: AtomicUsize,
    /// How often a person had to authorize once more.
    again: AtomicUsize,
    /// Days in which that was so.
    lost: Arc<AtomicUsize>,
    /// When the process that runs began.
    began: Mutex<Option<Timestamp>>,
}

impl Invoicing {
    pub(super) async fn begin(lost: Arc<AtomicUsize>) -> Self {
        let system = SmartBusiness::start().await.unwrap();
        system.add_invoices(3);
        let well = |_: &Call| Answer::status(200);
        let (erp, ops) = (Simulator::start(well).await.unwrap(), Simulator::start(well).await.unwrap());
        Self {
            system,
            erp,
            ops,
            steps: Steps::default(),
            first: AtomicUsize::default(),
            again: AtomicUsize::default(),
            lost,
            began: Mutex::default(),
        }
    }

    /// Why nothing goes to it.
    fn paused(life: &Life) -> Option<String> {
        let status = life.relay.destinations().into_iter().find(|status| &*status.name == NAME);
        Some(status?.paused?.reason)
    }

    /// Where a person's browser is sent.
    fn begin_authorization(life: &Life) -> Url {
        let config = life.config.load_full();
        let (name, destination) = config.destinations.get_key_value(NAME).unwrap();
        let (client, by_client, refresh) = destination.client().unwrap();
        life.tokens.authorize(Who { name, client, by_client, refresh }).unwrap()
    }

    /// The browser comes back from there: what its person reads.
    async fn come_back(&self, life: &Life, location: &Url) -> (u16, String) {
        let back = self.system.approve(location).unwrap();
        let target = format!("{}?{}", back.path(), back.query().unwrap());
        let request = Request::get(target).header("host", "hooks.example.ch").body(Full::new(Bytes::new())).unwrap();
        let answer = life.ask(request).await.unwrap();
        (answer.status().as_u16(), String::from_utf8_lossy(answer.body()).into_owned())
    }

    /// A person who was told that it is needed sees to it that the destination goes on.
    async fn authorize(&self, life: &Life) {
        let location = Self::begin_authorization(life);
        // The browser is at the vendor's for a while.
        sleep(Duration::from_secs(20)).await;
        let (status, text) = self.come_back(life, &location).await;
        assert_eq!(status, 200, "{text}");
        while life.relay.resume(NAME).await.is_err() {
            sleep(Duration::from_secs(1)).await;
        }
        life.fuse.alive().await;
    }

    /// Somebody has been told that a person must authorize.
    fn alarms(&self) -> usize {
        self.ops.calls().iter().filter(|call| call.header("kurier-event-type") == "kurier.authorization").count()
    }

    /// What was traded in so far, in order.
    fn refreshes(&self, grant: &str) -> Vec<String> {
        let calls = self.system.server.calls();
        let asked = calls.iter().filter(|call| call.path == "/v2/auth/access-tokens").map(|call| call.json().unwrap());
        let of = asked.filter(|body| body["grant_type"] == grant);
        of.map(|body| body["refresh_token"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Day for Invoicing {
    fn routes(&self) -> String {
        let client = format!(
            "base_url: '{}', client_id: {CLIENT_ID}, client_secret: {{ env: SMARTBUSINESS }}, scopes: [invoice]",
            self.system.server.url("/v2")
        );
        format!(
            r#"
routes:
  orders:
    path: /in
    verify: none
    deliver:
      - to: {NAME}
        transform: '.body | {{ number: ("R-" + .order), contact_id: 1, date: "2026-11-26", positions: [] }}'
  list:
    pull: {{ smartbusiness: {{ {client}, list: /receivables/invoices, every: 1min }} }}
    deliver: [erp]
destinations:
  {NAME}:
    smartbusiness: {{ {client}, grant: authorization_code, redirect_path: /oauth/smartbusiness, request: POST /receivables/invoices }}
    retry: {SOON}
  erp: {{ url: '{}', retry: {SOON} }}
  ops: {{ url: '{}', retry: {SOON} }}
notify: ops
"#,
            self.erp.url("/hook"),
            self.ops.url("/alarm")
        )
    }

    fn world(&self) -> World {
        World::of(&[&self.system.server, &self.erp, &self.ops])
    }

    fn is_begun(&self) -> bool {
        self.steps.is_done("authorized")
    }

    async fn act(&self, life: &Life) {
        *self.began.lock() = Some(life.clock.now());
        // Nobody has authorized yet: somebody is told, and does.
        self.steps.once("1", life.post(&json!({ "order": "1" }))).await;
        let first = async {
            while self.alarms() == 0 {
                sleep(Duration::from_secs(1)).await;
            }
            self.first.fetch_add(1, Ordering::Relaxed);
            self.authorize(life).await;
        };
        self.steps.once("authorized", first).await;
        for order in ["2", "3"] {
            let is_made = |order: &str| self.system.invoices().iter().any(|invoice| invoice["number"] == format!("R-{order}"));
            let before = (order.parse::<u32>().unwrap() - 1).to_string();
            while !is_made(&before) && Self::paused(life).is_none() {
                sleep(Duration::from_millis(200)).await;
            }
            self.steps.once(&format!("ended before {order}"), async { self.system.end_access() }).await;
            self.steps.once(order, life.post(&json!({ "order": order }))).await;
        }
    }

    async fn is_over(&self, life: &Life) -> bool {
        let Some(reason) = Self::paused(life) else { return life.events("list").await.len() == 6 };
        // It is the renewal of before that is named, not the one that found out.
        let when = reason.split("the renewal begun at ").nth(1).and_then(|rest| rest.strip_suffix(" may have used up the refresh token"));
        assert!(when.is_some_and(|when| when < self.began.lock().unwrap().to_string().as_str()), "{reason}");
        // Nobody looks before they are told.
        if self.alarms() > 1 {
            self.again.fetch_add(1, Ordering::Relaxed);
            self.authorize(life).await;
        }
        false
    }

    async fn check(&self, life: &Life, end: Option<&Ended>) {
        let numbers: BTreeSet<String> =
            self.system.invoices().iter().map(|invoice| invoice["number"].as_str().unwrap().to_owned()).collect();
        assert_eq!((numbers.len(), self.system.invoices().len()), (6, 6), "each is made once: {numbers:?}");
        assert_eq!(life.states("orders", NAME).await, ["delivered"; 3]);
        // A refresh token is traded in once; where its answer was lost with the process, once more, to learn that.
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        self.refreshes("refresh_token").into_iter().for_each(|token| *times.entry(token).or_default() += 1);
        let twice = times.values().filter(|times| **times == 2).count();
        assert!(times.values().all(|times| *times <= 2) && twice <= usize::from(end.is_some()), "{times:?}");
        // Only where the process ended between the vendor's rotation and our record of it somebody is needed again.
        assert_eq!(self.again.load(Ordering::Relaxed), twice);
        assert!(twice == 0 || end.is_some_and(|end| end.syncs_since("/access-tokens") == 0), "a renewal was forgotten");
        self.lost.fetch_add(twice, Ordering::Relaxed);
        let first = self.first.load(Ordering::Relaxed);
        assert!((1..=2).contains(&first) && (first == 1 || end.is_some()), "{first} first authorizations");
        assert!(self.refreshes("authorization_code").len() <= first + twice);
        let listed: BTreeSet<String> = self.erp.calls().iter().map(|call| call.header("webhook-id").to_owned()).collect();
        assert_eq!(listed.len(), 6, "each item of the list is one event");
    }
}

#[test]
fn a_process_may_die_anywhere_in_a_day_of_smartbusiness() {
    let lost = Arc::new(AtomicUsize::default());
    every_point("smartbusiness", 10, &["/access-tokens", "/receivables/invoices", "/alarm"], || Invoicing::begin(lost.clone()));
    let lost = lost.load(Ordering::Relaxed);
    eprintln!("smartbusiness: in {lost} of them a person had to authorize again");
    assert!(lost >= 2, "a renewal's answer is lost where the process ends right after it");
}

#[test]
fn who_comes_back_after_a_restart_reads_how_to_begin_again() {
    let begin = || Invoicing::begin(Arc::default());
    let begun = Mutex::new(None);
    let first = async |_: &Invoicing, life: &Life, _: &World| *begun.lock() = Some(Invoicing::begin_authorization(life));
    stopped(begin, Duration::from_secs(1), first, async |day, life, _world| {
        let location = begun.lock().take().unwrap();
        let (status, text) = day.come_back(life, &location).await;
        assert_eq!(status, 400, "{text}");
        for word in ["Nothing was authorized", "started anew", "POST /api/v1/destinations/NAME/authorize"] {
            assert!(text.contains(word), "{text}");
        }
        assert!(day.refreshes("authorization_code").is_empty(), "its code is not traded in");
        whole(day, life).await;
        day.check(life, None).await;
    });
}
