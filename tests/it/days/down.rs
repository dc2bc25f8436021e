//! Remote systems that are not there for an hour or for days, in each of the ways in which systems are not there.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kurier::demo::simulators::{Answer, Simulator, Trouble};
use tokio::join;
use tokio::time::sleep;

use super::bankintegration::Wages;
use super::dvelop::Invoices;
use super::inpasy::Shop;
use super::life::{Life, SOON};
use super::net::{Weather, World};
use super::payjoe::Payments;
use super::play::{Day, START, one, stopped, whole};
use super::smartbusiness::Invoicing;

const HOUR: Duration = Duration::from_secs(3600);

const WAYS: [Weather; 3] = [Weather::Refuses, Weather::Unavailable, Weather::Hangs];

/// As who runs Kurier without a word about retries.
fn by_default(routes: String) -> String {
    routes.replace(&format!("retry: {SOON}"), "retry: {}")
}

/// These are away for so long from when the day has begun; afterwards all comes to what had to come, once.
async fn away<D: Day>(day: &D, life: &Life, world: &World, remotes: &[&Simulator], way: Weather, time: Duration) -> u64 {
    let outage = async {
        while !day.is_begun() {
            sleep(Duration::from_millis(100)).await;
        }
        remotes.iter().for_each(|remote| world.set(remote, way));
        let before: u64 = remotes.iter().map(|remote| world.tried(remote)).sum();
        sleep(time).await;
        let tried = remotes.iter().map(|remote| world.tried(remote)).sum::<u64>() - before;
        remotes.iter().for_each(|remote| world.set(remote, Weather::Fair));
        tried
    };
    let ((), tried) = join!(day.act(life), outage);
    whole(day, life).await;
    day.check(life, None).await;
    tried
}

/// For each way to be away for an hour: what is tried meanwhile is at most `most` requests.
fn an_hour<D: Day, F: Future<Output = D>>(name: &str, most: u64, begin: impl Fn() -> F, remotes: impl Fn(&D) -> Vec<&Simulator>) {
    for way in WAYS {
        one(START, &begin, by_default, async |day, life, world| {
            let tried = away(day, life, world, &remotes(day), way, HOUR).await;
            eprintln!("{name}, {way:?} for an hour: {tried} requests meanwhile");
            assert!((3..=most).contains(&tried), "{name}, {way:?}: {tried} requests while nobody was there");
        });
    }
}

#[test]
fn dvelop_may_be_away_for_an_hour() {
    an_hour("d.velop", 200, Invoices::begin, |day| vec![&day.telling.server, &day.listing.server]);
    an_hour("d.velop's application", 200, Invoices::begin, |day| vec![&day.erp]);
}

#[test]
fn payjoe_may_be_away_for_an_hour() {
    an_hour("PayJoe", 200, Payments::begin, |day| vec![&day.system.server]);
}

#[test]
fn bankintegration_may_be_away_for_an_hour() {
    an_hour("BankIntegration.dk", 200, Wages::begin, |day| vec![&day.bank.server]);
}

#[test]
fn smartbusiness_may_be_away_for_an_hour_and_nobody_has_to_authorize_again() {
    let lost = Arc::default();
    an_hour("SmartBusiness", 200, || Invoicing::begin(Arc::clone(&lost)), |day| vec![&day.system.server]);
}

#[test]
fn inpasy_and_its_shop_may_be_away_for_an_hour() {
    an_hour("InPaSy", 8000, Shop::begin, |day| vec![&day.system.server]);
    an_hour("InPaSy's shop", 200, Shop::begin, |day| vec![&day.shop]);
}

#[test]
fn what_waited_for_payjoe_goes_in_batches_and_is_no_storm() {
    const RECORDS: usize = 200;
    one(
        START,
        || Payments::of(RECORDS),
        by_default,
        async |day, life, world| {
            away(day, life, world, &[&day.system.server], Weather::Refuses, HOUR).await;
            // Of batches of four one is halved twice for the record that PayJoe refuses.
            let uploads = day.system.server.calls().len();
            eprintln!("PayJoe: {uploads} uploads of {RECORDS} records after an hour");
            assert!(uploads <= RECORDS / 4 * 2, "{uploads} uploads");
        },
    );
}

/// With a person to tell, and polls that are rare enough for days.
fn for_days(routes: String) -> String {
    by_default(routes).replace("every: 60s", "every: 1h") + "notify: ops\n"
}

fn told(day: &Invoices, kind: &str) -> usize {
    day.ops.calls().iter().filter(|call| call.header("kurier-event-type") == kind).count()
}

#[test]
fn what_dvelops_application_does_not_take_in_time_is_reported_as_failed_before_dvelop_gives_up() {
    one(START, Invoices::begin, for_days, async |day, life, world| {
        world.set(&day.erp, Weather::Refuses);
        day.act(life).await;
        sleep(HOUR * 46).await;
        assert!(Invoices::reported(&day.telling).is_empty(), "there is time");
        sleep(HOUR * 2).await;
        world.set(&day.erp, Weather::Fair);
        sleep(HOUR * 24).await;
        failed_once(day, life).await;
        assert!(told(day, "kurier.deadline") > 0);
    });
}

#[test]
fn a_failure_that_dvelop_could_not_be_told_in_time_is_told_once_when_it_is_back() {
    one(START, Invoices::begin, for_days, async |day, life, world| {
        for remote in [&day.erp, &day.telling.server] {
            world.set(remote, Weather::Hangs);
        }
        let listed = async {
            sleep(HOUR).await;
            world.set(&day.listing.server, Weather::Unavailable);
        };
        join!(day.act(life), listed);
        sleep(HOUR * 55).await;
        for remote in [&day.erp, &day.telling.server, &day.listing.server] {
            world.set(remote, Weather::Fair);
        }
        sleep(HOUR * 5).await;
        failed_once(day, life).await;
    });
}

/// Every transfer has failed, once and for good, and nothing of it goes to the application any more.
async fn failed_once(day: &Invoices, life: &Life) {
    for (system, route) in [(&day.telling, "told"), (&day.listing, "fetched")] {
        let results = system.results();
        assert!(results.iter().all(|result| result.as_ref().is_some_and(|result| result["successful"] == false)), "{results:?}");
        let reported = Invoices::reported(system);
        assert!(reported.values().all(|said| said.len() == 1), "{reported:?}");
        let count = results.len();
        assert_eq!(life.states(route, "erp").await, vec!["dead"; count], "{route}");
        assert_eq!(life.states(route, &format!("{route}:acknowledge")).await, vec!["delivered"; count], "{route}");
    }
    assert!(day.erp.calls().is_empty());
}

#[test]
fn a_result_reaches_dvelop_after_two_days_and_where_it_is_too_late_an_operator_is_told() {
    let two_days = HOUR * 48;
    one(START, Invoices::begin, for_days, async |day, life, world| {
        away(day, life, world, &[&day.telling.server, &day.listing.server], Weather::Refuses, two_days).await;
        assert_eq!(told(day, "kurier.deadline"), 0, "all was delivered in time");
    });
    one(START, Invoices::begin, for_days, async |day, life, world| {
        world.set(&day.telling.server, Weather::Refuses);
        day.act(life).await;
        sleep(two_days).await;
        let dead_before = told(day, "kurier.dead_letter");
        day.telling.server.trouble([Trouble::Instead(Answer::status(404)), Trouble::Instead(Answer::status(404))]);
        world.set(&day.telling.server, Weather::Fair);
        sleep(HOUR * 2).await;
        assert_eq!(life.states("told", "told:acknowledge").await, ["dead"; 2]);
        assert!(told(day, "kurier.dead_letter") > dead_before);
    });
}

#[test]
fn no_entry_of_a_bank_that_was_away_for_ten_days_is_missed() {
    // 2026-02-10, noon.
    let begun = START.saturating_sub(HOUR * 24 * 19);
    let from_today = |routes: String| by_default(routes).replace(", from: 2026-02-26", "").replace("every: 1min", "every: 1h");
    one(begun, Wages::begin, from_today, async |day, _life, world| {
        let days = async |way: Weather, days: u32| {
            world.set(&day.bank.server, way);
            sleep(HOUR * 24 * days).await;
            day.entries()
        };
        assert_eq!(days(Weather::Fair, 1).await, ["10", "11"]);
        assert_eq!(days(Weather::Unavailable, 10).await.len(), 2);
        let all: Vec<String> = (10..=22).map(|day| day.to_string()).collect();
        assert_eq!(days(Weather::Fair, 1).await, all);
    });
}

#[test]
fn what_arrived_while_kurier_was_stopped_is_known_to_have_arrived() {
    let grace = Duration::from_secs(1);
    let asked = async |remote: &Simulator, path: &str| {
        while !remote.calls().iter().any(|call| call.method == "POST" && call.path.contains(path)) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let reports = async |day: &Invoices, life: &Life, world: &World| {
        world.set(&day.telling.server, Weather::Mute);
        join!(day.act(life), asked(&day.telling.server, "/transfers"));
    };
    stopped(Invoices::begin, grace, reports, async |day, life, world| {
        world.set(&day.telling.server, Weather::Fair);
        whole(day, life).await;
        day.check(life, None).await;
    });
    let lost = Arc::default();
    let invoices = async |day: &Invoicing, life: &Life, world: &World| {
        let muted = async {
            while !day.is_begun() {
                sleep(Duration::from_millis(1)).await;
            }
            world.set(&day.system.server, Weather::Mute);
            asked(&day.system.server, "/receivables/invoices").await;
        };
        tokio::select! { () = day.act(life) => {}, () = muted => {} }
    };
    stopped(
        || Invoicing::begin(Arc::clone(&lost)),
        grace,
        invoices,
        async |day, life, world| {
            world.set(&day.system.server, Weather::Fair);
            whole(day, life).await;
            day.check(life, None).await;
        },
    );
}
