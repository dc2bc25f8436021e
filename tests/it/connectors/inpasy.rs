use kurier::connectors::Verdict;
use kurier::connectors::inpasy::{
    Callback, Decision, Finding, Kind, Lid, Order, Settings, SettingsDraft, Sources, Started, State, Track, id_request, judge_id,
    judge_start, start,
};
use serde_json::{Value, json};

use super::{seen, send};
use kurier::demo::simulators::inpasy::InPaSy;
use kurier::demo::simulators::{Answer, Trouble};

fn settings(system: &InPaSy) -> Settings {
    Settings::new(SettingsDraft {
        start_url: Some(system.server.url("/start")),
        id_url: Some(system.server.url("/id")),
        vkz: Some("575488".to_owned()),
        param: Some("status".to_owned()),
        success: vec!["ok".to_owned()],
        failure: vec!["fehler".to_owned(), "abbruch".to_owned()],
        charset: Some("iso-8859-1".to_owned()),
        ..SettingsDraft::default()
    })
    .unwrap()
}

fn posted(method: &str) -> Value {
    json!({
        "auftragsart": "H010002", "Vorname": "Klaus", "Name": "Müller & Söhne", "Mail": "k.meier@maildienst.de", "hinweis": "Kartenbestellung",
        "menge": 2, "betraggp": "20.00", "betrag": 10, "Bezahlverfahren": method
    })
}

async fn begin(system: &InPaSy, method: &str) -> (Lid, Started) {
    let settings = settings(system);
    let order = Order::new(&posted(method), &settings).unwrap();
    let lid = judge_id(&seen(&send(id_request(&settings).unwrap()).await.unwrap()), &settings).unwrap();
    let reply = send(start(&settings, &order, &lid).unwrap()).await.unwrap();
    (lid, judge_start(&seen(&reply), &settings).unwrap())
}

fn completion(system: &InPaSy, lid: &Lid, word: &str, post: bool) -> (Callback, Finding) {
    let call = system.call_back(lid.as_str(), word, post).unwrap();
    let sources = Sources { query: call.query.as_bytes(), content_type: call.content_type, body: &call.body, ..Sources::default() };
    let callback = Callback::read(&sources, &settings(system)).unwrap();
    let completion = callback.completion(&settings(system)).unwrap();
    assert_eq!(completion.lid, *lid);
    (callback, completion.finding)
}

#[tokio::test]
async fn an_order_is_started_in_the_systems_charset_and_its_payer_is_sent_on() {
    let system = InPaSy::start().await.unwrap();
    let (lid, started) = begin(&system, "kreditkarte").await;
    assert_eq!(started, Started::Redirect(format!("https://kasse.example/vbv?lid={lid}").parse().unwrap()));
    let order = &system.orders()[lid.as_str()];
    assert_eq!((order["Name"].as_str(), order["betrag"].as_str(), order["menge"].as_str()), ("Müller & Söhne", "10.00", "2"));
    let (other, page) = begin(&system, "rechnung").await;
    assert_ne!(other, lid);
    let Started::Page { body, .. } = page else { panic!("a page") };
    assert_eq!(body, "<p>Ihr Auftrag wurde angenommen.</p>".as_bytes());
}

#[tokio::test]
async fn a_completion_by_get_or_post_is_matched_and_a_contradiction_is_told() {
    let system = InPaSy::start().await.unwrap();
    let (lid, _) = begin(&system, "giropay").await;
    let (_, paid) = completion(&system, &lid, "ok", false);
    let Decision::Event { kind: Kind::Succeeded, track: Some(track), late: false } = Track::decide(Some(&Track::default()), &paid) else {
        panic!()
    };
    let Decision::Repeat(track) = Track::decide(Some(&track), &completion(&system, &lid, "OK", true).1) else { panic!("a repeat") };
    let (callback, failed) = completion(&system, &lid, "Abbruch", true);
    assert_eq!(callback.values().find(|(name, _)| *name == "grund").unwrap().1, "Abbruch durch Käufer");
    let Decision::Event { kind: Kind::Conflict, track: Some(track), .. } = Track::decide(Some(&track), &failed) else {
        panic!("a conflict")
    };
    assert_eq!((track.state, track.repeats), (State::Conflict, 1));
}

#[tokio::test]
async fn a_start_that_fails_says_whether_it_may_have_worked() {
    let system = InPaSy::start().await.unwrap();
    let settings = settings(&system);
    let order = Order::new(&posted("rechnung"), &settings).unwrap();
    let lid = Lid::from_random(7);
    system.server.trouble([Trouble::Instead(Answer::status(503)), Trouble::LoseAnswer]);
    let reply = send(start(&settings, &order, &lid).unwrap()).await.unwrap();
    assert!(matches!(judge_start(&seen(&reply), &settings).unwrap_err().verdict, Verdict::Retry { .. }));
    assert!(send(start(&settings, &order, &lid).unwrap()).await.is_err());
    assert!(system.orders().contains_key(lid.as_str()));
    let mut incomplete = order;
    incomplete.parameters.retain(|(name, _)| name != "hinweis");
    let reply = send(start(&settings, &incomplete, &lid).unwrap()).await.unwrap();
    let outcome = judge_start(&seen(&reply), &settings).unwrap_err();
    assert!(outcome.verdict == Verdict::Rejected && outcome.reason.contains("hinweis fehlt"), "{}", outcome.reason);
}
