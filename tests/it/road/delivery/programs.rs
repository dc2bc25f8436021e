//! Programs on the built binary (Q3, Q4): what they make, how they end, and that they end nothing else.

use super::{get, home, post, wait_for_state};
use crate::harness::{Home, Sink, wait_until};

#[test]
fn when_and_transform_choose_and_shape_what_arrives() {
    let sink = Sink::start();
    let deliver = "      - { to: erp, when: '.body.amount > 0', transform: '{paid: .body.amount, by: .headers[\"x-by\"]}' }\n";
    let home = home(deliver, &format!("  erp: {{ url: '{}' }}\n", sink.url("/in")));
    let kurier = home.serve();
    post(&kurier, "{\"amount\": 0}");
    wait_for_state(&kurier, "erp", "skipped");
    post(&kurier, "{\"amount\": 12.50}");
    let got = sink.wait_for(1).remove(0);
    assert_eq!(String::from_utf8_lossy(&got.body), "{\"paid\":12.50,\"by\":null}");
    assert_eq!(got.header("content-type"), Some("application/json"));
}

#[test]
fn a_program_that_goes_too_far_ends_one_delivery_with_a_clear_reason_and_no_other() {
    let sink = Sink::start();
    let mut deliver = String::from("      - plain\n");
    let mut destinations = format!("  plain: {{ url: '{}' }}\n", sink.url("/plain"));
    let programs = [
        ("deep", "def f: 1 + f; f", "recurses too deep"),
        ("endless", "def f: f; f", "took longer than 1 s of processor time"),
        ("hungry", "[range(1e12)]", "`transform` in line"),
        ("wrong", ".body.n | keys", "failed: "),
        ("silent", "empty", "made nothing"),
        ("many", "1, 2", "made more than one value"),
    ];
    for (name, program, _) in programs {
        deliver += &format!("      - {{ to: {name}, transform: '{program}' }}\n");
        destinations += &format!("  {name}: {{ url: '{}' }}\n", sink.url("/never"));
    }
    let home = home(&deliver, &destinations);
    let kurier = home.serve();
    for n in 0..3 {
        post(&kurier, &format!("{{\"n\":{n}}}"));
    }
    for (name, program, reason) in programs {
        let dead = wait_for_state(&kurier, name, "dead");
        assert!(dead.to_string().contains(reason), "{program}: {dead}");
        assert!(dead.to_string().contains("unsendable"), "{program}: {dead}");
    }
    wait_until("everything has ended", || {
        get(&kurier, "/api/v1/destinations")["items"].as_array().unwrap().iter().all(|item| item["pending"] == 0)
    });
    let got = sink.received();
    assert_eq!(got.len(), 3);
    assert!(got.iter().all(|got| got.start.starts_with("POST /plain ")));
    assert!(!kurier.log().contains("cannot"), "what a program says about an event stays out of the log: {}", kurier.log());
}

#[test]
fn what_reaches_beyond_the_event_is_refused_at_load_with_its_place() {
    for (program, problem) in [
        ("halt", "routes.yaml:9:31: routes.events.deliver[0].transform: `halt` is not available"),
        ("env.PATH", "routes.yaml:9:31: routes.events.deliver[0].transform: `env` is not available"),
        ("$ENV.PATH", "routes.yaml:9:31: routes.events.deliver[0].transform: `$ENV` is not available"),
        ("input", "routes.yaml:9:31: routes.events.deliver[0].transform: `input` is not available"),
        (".body | foo", "routes.yaml:9:39: routes.events.deliver[0].transform: unknown filter `foo`"),
    ] {
        let text = super::routes(&format!("      - {{ to: erp, transform: {program} }}"), "  erp: { url: 'https://erp.example.ch' }");
        let checked = Home::new(&text).run(&["check"]);
        assert_eq!(checked.code, Some(3), "{program}: {checked:?}");
        assert!(format!("{}{}", checked.stdout, checked.stderr).contains(problem), "{program}: {checked:?}");
    }
}

#[test]
fn a_poison_event_blocks_neither_others_nor_their_replay() {
    let sink = Sink::start();
    let deliver = "      - { to: erp, transform: 'if .body.poison then def f: 1 + f; f else .body end' }\n";
    let home = home(deliver, &format!("  erp: {{ url: '{}' }}\n", sink.url("/in")));
    let kurier = home.serve();
    let admin = kurier.admin_url();
    post(&kurier, "{\"n\":1}");
    post(&kurier, "{\"poison\":true}");
    let poison = wait_for_state(&kurier, "erp", "dead");
    post(&kurier, "{\"n\":2}");
    sink.wait_for(2);
    let poison_event = poison["id"].as_str().unwrap().replace("dlv_", "evt_").rsplit_once('_').unwrap().0.to_owned();
    let others = get(&kurier, "/api/v1/events?state=delivered");
    let other = others["items"][0]["id"].as_str().unwrap().to_owned();
    let replayed = home.run(&["replay", &poison_event, &other, "--admin-url", &admin]);
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    let got = sink.wait_for(3);
    assert_eq!(got[2].header("webhook-id"), Some(other.as_str()));
    assert_eq!(got[2].header("kurier-replay"), Some("true"));
}
