use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use http::{HeaderMap, Method, StatusCode};

use super::*;
use crate::clock::TokioClock;
use crate::config::{self, Environment, LoadOptions};
use crate::egress::{Fault as EgressFault, Outbound, Reply};
use crate::model::{FaultKind, Timestamp};
use crate::store::SealedStates;
use crate::store::memory::MemoryStore;

/// Answers from a script, slowly, and notes what it was asked.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<Result<(u16, &'static str), ()>>>,
    asked: Mutex<Vec<(Method, String, HeaderMap, Bytes)>>,
}

#[async_trait]
impl Transport for Scripted {
    async fn send(&self, request: Outbound) -> Result<Reply, EgressFault> {
        self.asked.lock().push((request.method, request.url.to_string(), request.headers, request.body));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = self.answers.lock().pop_front().expect("one question too many");
        match answer {
            Ok((status, body)) => Ok(Reply {
                status: StatusCode::from_u16(status).unwrap(),
                headers: HeaderMap::new(),
                body: Bytes::from_static(body.as_bytes()),
                truncated: false,
            }),
            Err(()) => Err(EgressFault { kind: FaultKind::Connect, detail: "refused".into() }),
        }
    }
}

struct Variables(BTreeMap<&'static str, &'static str>);

impl Environment for Variables {
    fn var(&self, name: &str) -> Option<std::ffi::OsString> {
        self.0.get(name).map(Into::into)
    }

    fn read(&self, _path: &Path, _bytes_max: u64) -> std::io::Result<zeroize::Zeroizing<Vec<u8>>> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

const ROUTES: &str = "
routes: { a: { path: /a, verify: none, deliver: [d] } }
destinations: { d: { url: https://d.example } }
key_sources:
  bank: { url: 'https://bank.example/keys/{id}', auth: { bearer: { env: TOKEN } } }
  ebay:
    url: https://ebay.example/public_key/{id}
    pointer: /key
    auth: { oauth2: { token_url: https://ebay.example/token, client_id: kurier, client_secret: { env: TOKEN }, client_auth: basic } }
  plaid: { url: https://plaid.example/get, pointer: /key, body: { key_id: '{id}', secret: { env: TOKEN } } }
";

fn keeper(answers: impl IntoIterator<Item = Result<(u16, &'static str), ()>>) -> (Arc<Scripted>, Keeper) {
    let environment = Variables([("TOKEN", "s3cr3t-s3cr3t-s3cr3t")].into());
    let loaded = config::parse(ROUTES, Path::new("routes.yaml"), Path::new(""), &environment, &LoadOptions::default());
    let config = loaded.unwrap_or_else(|error| panic!("{error}")).config;
    let script = Arc::new(Scripted { answers: Mutex::new(answers.into_iter().collect()), ..Scripted::default() });
    let clock = Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_700_000_000_000)));
    let live = Arc::new(arc_swap::ArcSwap::from_pointee(config));
    let tokens = Tokens::new(script.clone(), clock.clone(), Arc::new(SealedStates::new(Arc::new(MemoryStore::new()), None)));
    (script.clone(), Keeper::over(live, clock, tokens, script.clone(), script))
}

fn url() -> WantedKey {
    WantedKey::Url("https://sender.example/cert.pem".into())
}

fn in_set(id: &str) -> WantedKey {
    WantedKey::InSet { url: "https://sender.example/jwks".into(), id: id.into() }
}

fn known(text: &'static str) -> KeyState {
    KeyState::Known(Bytes::from_static(text.as_bytes()))
}

const SET: &str = r#"{"keys":[{"kty":"EC","kid":"a"}]}"#;
const LARGER: &str = r#"{"keys":[{"kty":"EC","kid":"a"},{"kty":"EC","kid":"b"}]}"#;

#[tokio::test(start_paused = true)]
async fn a_hundred_who_want_a_key_fetch_it_once_and_wait_for_it() {
    let (script, keeper) = keeper([Ok((200, "pem"))]);
    assert_eq!(keeper.look(&url()), KeyState::Unavailable);
    let wanted = url();
    futures_util::future::join_all((0..100).map(|_| keeper.fetch(&wanted))).await;
    assert_eq!(keeper.look(&url()), known("pem"));
    keeper.fetch(&url()).await;
    assert_eq!(script.asked.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_who_gives_up_does_not_end_the_fetch() {
    let (_script, keeper) = keeper([Ok((200, "pem"))]);
    assert!(timeout(Duration::from_millis(1), keeper.fetch(&url())).await.is_err());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(keeper.look(&url()), known("pem"));
}

#[tokio::test(start_paused = true)]
async fn an_old_key_counts_while_its_source_fails_but_not_for_ever() {
    let (script, keeper) = keeper([Ok((200, "pem")), Err(()), Ok((500, "")), Ok((200, "new"))]);
    keeper.fetch(&url()).await;
    tokio::time::sleep(FRESH + Duration::from_secs(1)).await;
    keeper.fetch(&url()).await;
    assert_eq!(keeper.look(&url()), known("pem"), "nobody waits while an old one is good enough");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(script.asked.lock().len(), 2);
    keeper.fetch(&url()).await;
    assert_eq!(script.asked.lock().len(), 2, "not asked again at once");
    tokio::time::sleep(STALE_MAX).await;
    assert_eq!(keeper.look(&url()), KeyState::Unavailable);
    keeper.fetch(&url()).await;
    assert_eq!((keeper.look(&url()), script.asked.lock().len()), (KeyState::Unavailable, 3));
    tokio::time::sleep(AGAIN).await;
    keeper.fetch(&url()).await;
    assert_eq!(keeper.look(&url()), known("new"));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_remembered_for_a_while() {
    let (script, keeper) = keeper([Ok((404, "")), Ok((200, "pem"))]);
    keeper.fetch(&url()).await;
    keeper.fetch(&url()).await;
    assert_eq!((keeper.look(&url()), script.asked.lock().len()), (KeyState::Unknown, 1));
    tokio::time::sleep(AGAIN + Duration::from_millis(1)).await;
    assert_eq!(keeper.look(&url()), KeyState::Unavailable);
    keeper.fetch(&url()).await;
    assert_eq!(keeper.look(&url()), known("pem"));
}

#[tokio::test(start_paused = true)]
async fn a_set_that_lacks_a_key_is_asked_again_but_not_for_every_stranger() {
    let (script, keeper) = keeper([Ok((200, SET)), Ok((200, LARGER)), Err(())]);
    keeper.fetch(&in_set("a")).await;
    for stranger in 0..100 {
        keeper.fetch(&in_set(&format!("x{stranger}"))).await;
    }
    assert_eq!((keeper.look(&in_set("b")), script.asked.lock().len()), (known(SET), 1));
    tokio::time::sleep(AGAIN).await;
    keeper.fetch(&in_set("b")).await;
    assert_eq!((keeper.look(&in_set("b")), script.asked.lock().len()), (known(LARGER), 2));
    tokio::time::sleep(AGAIN).await;
    keeper.fetch(&in_set("c")).await;
    assert_eq!(keeper.look(&in_set("c")), KeyState::Unavailable, "it may be new: that is a 503, not a 401");
    assert_eq!(keeper.look(&in_set("a")), known(LARGER));
}

#[tokio::test(start_paused = true)]
async fn a_source_is_asked_with_its_credentials_and_the_id_as_one_segment() {
    let (script, keeper) = keeper([Ok((200, "pem")), Ok((200, r#"{"key":{"kty":"EC"}}"#)), Ok((200, "{}")), Err(())]);
    let named = |source: &str, id: &str| WantedKey::Named { source: source.into(), id: id.into() };
    keeper.fetch(&named("bank", "../a b/%2e?x#y")).await;
    keeper.fetch(&named("plaid", "k\"1")).await;
    assert_eq!(keeper.look(&named("plaid", "k\"1")), known(r#"{"kty":"EC"}"#));
    keeper.fetch(&named("plaid", "other")).await;
    assert_eq!(keeper.look(&named("plaid", "other")), KeyState::Unavailable);
    keeper.fetch(&named("gone", "a")).await;
    assert_eq!(keeper.look(&named("gone", "a")), KeyState::Unavailable);
    let asked = script.asked.lock();
    assert_eq!((&asked[0].0, asked[0].1.as_str()), (&Method::GET, "https://bank.example/keys/..%2Fa%20b%2F%252e%3Fx%23y"));
    assert_eq!(asked[0].2["authorization"], "Bearer s3cr3t-s3cr3t-s3cr3t");
    assert_eq!((&asked[1].0, &asked[1].3[..]), (&Method::POST, &br#"{"key_id":"k\"1","secret":"s3cr3t-s3cr3t-s3cr3t"}"#[..]));
    assert_eq!(asked.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_wants_a_token_is_asked_with_one_and_once_more_when_it_is_refused() {
    const FIRST: &str = r#"{"access_token":"one","token_type":"Bearer","expires_in":7200}"#;
    const SECOND: &str = r#"{"access_token":"two","token_type":"Bearer","expires_in":7200}"#;
    let (key, pem) = (r#"{"key":"pem"}"#, known("pem"));
    let (script, keeper) = keeper([
        Ok((200, FIRST)),
        Ok((200, key)),
        Ok((200, key)),
        Ok((401, "")),
        Ok((200, SECOND)),
        Ok((200, key)),
        Ok((401, "")),
        Ok((503, "")),
    ]);
    let ebay = |id: &str| WantedKey::Named { source: "ebay".into(), id: id.into() };
    for id in ["a", "b", "c"] {
        keeper.fetch(&ebay(id)).await;
        assert_eq!(keeper.look(&ebay(id)), pem, "{id}");
    }
    keeper.fetch(&ebay("d")).await;
    assert_eq!(keeper.look(&ebay("d")), KeyState::Unavailable, "no token: that is a 503, not a 401");
    let asked = script.asked.lock();
    let said: Vec<(&str, &str)> = asked
        .iter()
        .map(|(_, url, headers, _)| (url.rsplit('/').next().unwrap(), headers["authorization"].to_str().unwrap()))
        .map(|(url, auth)| (url, if auth.starts_with("Basic ") { "Basic" } else { auth }))
        .collect();
    let (one, two) = ("Bearer one", "Bearer two");
    assert_eq!(
        said,
        [("token", "Basic"), ("a", one), ("b", one), ("c", one), ("token", "Basic"), ("c", two), ("d", two), ("token", "Basic")]
    );
}

#[tokio::test(start_paused = true)]
async fn a_reload_forgets_what_the_operators_sources_said_and_no_more() {
    let (_script, keeper) = keeper([Ok((200, "pem")), Ok((200, "pem"))]);
    let named = WantedKey::Named { source: "bank".into(), id: "a".into() };
    keeper.fetch(&named).await;
    keeper.fetch(&url()).await;
    keeper.configured_anew();
    assert_eq!((keeper.look(&named), keeper.look(&url())), (KeyState::Unavailable, known("pem")));
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_and_what_is_under_way_is_bounded() {
    let (script, keeper) = keeper((0..PLACES_MAX + 100).map(|_| Ok((200, "pem"))));
    let places: Vec<_> = (0..PLACES_MAX + 50).map(|n| WantedKey::Url(format!("https://sender.example/{n}").into())).collect();
    futures_util::future::join_all(places.iter().map(|wanted| keeper.fetch(wanted))).await;
    assert_eq!(script.asked.lock().len(), FETCHES_MAX);
    for wanted in &places {
        keeper.fetch(wanted).await;
    }
    assert!(keeper.0.places.lock().len() <= PLACES_MAX);
    assert_eq!(keeper.look(places.last().unwrap()), known("pem"));
}
