use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::*;
use crate::clock::TokioClock;
use crate::connectors::oauth::{ClientAuth, TokenFormat};
use crate::egress::{Fault, Reply};
use crate::model::{FaultKind, Timestamp};
use crate::store::memory::MemoryStore;

/// An authorization server: the n-th request gets the n-th answer, the last one for ever; status 0 is none at all.
struct Server {
    answers: Vec<(u16, &'static str)>,
    asked: Mutex<usize>,
}

#[async_trait]
impl Transport for Server {
    async fn send(&self, request: Outbound) -> Result<Reply, Fault> {
        let nth = {
            let mut asked = self.asked.lock();
            *asked += 1;
            *asked - 1
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (status, body) = self.answers[nth.min(self.answers.len() - 1)];
        if status == 0 {
            tokio::time::sleep(request.timeout).await;
            return Err(Fault { kind: FaultKind::Timeout, detail: "no answer".to_owned() });
        }
        let body = Bytes::from(body.replace("N", &nth.to_string()));
        Ok(Reply { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body, truncated: false })
    }
}

const TOKEN: (u16, &str) = (200, r#"{"token_type":"Bearer","access_token":"token-N","expires_in":1000}"#);

fn tokens(answers: &[(u16, &'static str)]) -> (Tokens, Arc<Server>) {
    let server = Arc::new(Server { answers: answers.to_vec(), asked: Mutex::new(0) });
    let clock = TokioClock::starting_at(Timestamp::from_millis(1_700_000_000_000));
    let sealed = SealedStates::new(Arc::new(MemoryStore::new()), None);
    (Tokens::new(server.clone(), Arc::new(clock), Arc::new(sealed)), server)
}

fn client(secret: &str) -> Client {
    Client {
        token_url: "https://id.example/token".parse().unwrap(),
        authorize_url: None,
        redirect_url: None,
        id: "me".to_owned(),
        secret: Secret::new(secret.as_bytes().to_vec()),
        scopes: vec!["a".to_owned()],
        format: TokenFormat::Form,
        auth: ClientAuth::Body,
        pkce: false,
    }
}

async fn own(tokens: &Tokens, secret: &str) -> Result<Secret, NoToken> {
    tokens.access(Who { name: &"erp".into(), client: &client(secret), by_client: true, refresh: None }).await
}

async fn access(tokens: &Tokens) -> Result<String, Remedy> {
    let access = own(tokens, "s").await;
    access.map(|access| String::from_utf8(access.expose().to_vec()).unwrap()).map_err(|failure| failure.remedy)
}

#[tokio::test(start_paused = true)]
async fn many_who_need_a_token_at_once_ask_for_one() {
    let (tokens, server) = tokens(&[TOKEN]);
    let all = futures_util::future::join_all((0..20).map(|_| access(&tokens))).await;
    assert!(all.iter().all(|access| access.as_deref() == Ok("token-0")));
    assert_eq!(*server.asked.lock(), 1);
    assert!(own(&tokens, "another").await.is_ok());
    assert_eq!(*server.asked.lock(), 2, "another secret is another client");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_its_end_and_the_old_one_bridges_an_outage() {
    let (tokens, server) = tokens(&[TOKEN, (503, ""), TOKEN]);
    assert_eq!(access(&tokens).await.as_deref(), Ok("token-0"));
    tokio::time::sleep(Duration::from_secs(899)).await;
    assert_eq!(access(&tokens).await.as_deref(), Ok("token-0"));
    assert_eq!(*server.asked.lock(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    for _ in 0..5 {
        assert_eq!(access(&tokens).await.as_deref(), Ok("token-0"));
    }
    assert_eq!(*server.asked.lock(), 2, "a server that is down is not asked again at once");
    tokio::time::sleep(AGAIN_AFTER).await;
    assert_eq!(access(&tokens).await.as_deref(), Ok("token-2"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_not_handed_out_again() {
    let (tokens, _server) = tokens(&[TOKEN]);
    assert_eq!(access(&tokens).await.as_deref(), Ok("token-0"));
    let refused = Secret::new(b"token-0".to_vec());
    let (name, client) = (Name::from("erp"), client("s"));
    let who = Who { name: &name, client: &client, by_client: true, refresh: None };
    tokens.refused(who, &refused).await;
    assert_eq!(access(&tokens).await.as_deref(), Ok("token-1"));
    tokens.refused(who, &refused).await;
    assert_eq!(access(&tokens).await.as_deref(), Ok("token-1"), "one that was replaced already changes nothing");
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_what_helps() {
    assert_eq!(access(&tokens(&[(503, "")]).0).await, Err(Remedy::Wait(None)));
    assert_eq!(access(&tokens(&[(401, r#"{"error":"invalid_client"}"#)]).0).await, Err(Remedy::Settings));
}

/// Down, slow, no JSON, a token without a life: whatever it does, it is asked once for all, and left alone a while.
#[tokio::test(start_paused = true)]
async fn a_server_in_trouble_is_asked_once_by_everybody_and_then_left_alone() {
    for trouble in
        [(503, ""), (0, ""), (200, "<html>"), (200, r#"{"token_type":"Bearer"}"#), (429, ""), (500, r#"{"error":"server_error"}"#)]
    {
        let (tokens, server) = tokens(&[trouble, trouble, TOKEN]);
        for asked in 1..=2 {
            let all = futures_util::future::join_all((0..100).map(|_| access(&tokens))).await;
            assert!(all.iter().all(|each| matches!(each, Err(Remedy::Wait(_) | Remedy::Settings))), "{trouble:?}: {all:?}");
            assert_eq!(*server.asked.lock(), asked, "{trouble:?}");
            tokio::time::sleep(Duration::from_secs(6)).await;
        }
        assert_eq!(access(&tokens).await.as_deref(), Ok("token-2"), "{trouble:?}");
    }
    let (tokens, server) = tokens(&[(200, r#"{"token_type":"Bearer","access_token":"token-N","expires_in":0}"#)]);
    for _ in 0..100 {
        access(&tokens).await.unwrap();
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert_eq!(*server.asked.lock(), 1, "a token that is said to have ended is asked for again at the first 401, not each time");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_nobody_waits_for_any_more_is_kept_all_the_same() {
    const PERSONAL: (u16, &str) =
        (200, r#"{"token_type":"Bearer","access_token":"token-N","refresh_token":"refresh-N","expires_in":1000}"#);
    let server = Arc::new(Server { answers: vec![PERSONAL, (400, r#"{"error":"invalid_grant"}"#)], asked: Mutex::new(0) });
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_700_000_000_000)));
    let key = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
    let store = Arc::new(MemoryStore::new());
    let tokens = || Tokens::new(server.clone(), clock.clone(), Arc::new(SealedStates::new(store.clone(), Some(&key))));
    let (name, client, refresh) = (Name::from("invoicing"), client("s"), Secret::new(b"from the settings".to_vec()));
    let who = Who { name: &name, client: &client, by_client: false, refresh: Some(&refresh) };
    let first = tokens();
    // The request is under way, then whoever asked is gone: a poll at a reload.
    assert!(tokio::time::timeout(Duration::from_millis(50), first.access(who)).await.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let access = first.access(who).await.ok().unwrap();
    assert_eq!((access.expose(), *server.asked.lock()), (&b"token-0"[..], 1));
    // After a restart too.
    assert_eq!(tokens().access(who).await.ok().unwrap().expose(), b"token-0");
}

#[tokio::test(start_paused = true)]
async fn what_a_person_has_authorized_counts_more_than_the_settings_it_began_with() {
    const PERSONAL: (u16, &str) =
        (200, r#"{"token_type":"Bearer","access_token":"token-N","refresh_token":"refresh-N","expires_in":1000}"#);
    let server = Arc::new(Server { answers: vec![PERSONAL, (400, r#"{"error":"invalid_grant"}"#)], asked: Mutex::new(0) });
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_700_000_000_000)));
    let key = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
    let store = Arc::new(MemoryStore::new());
    let tokens = || Tokens::new(server.clone(), clock.clone(), Arc::new(SealedStates::new(store.clone(), Some(&key))));
    let (name, refresh) = (Name::from("invoicing"), Secret::new(b"used up long ago".to_vec()));
    let client = Client {
        authorize_url: Some("https://id.example/authorize".parse().unwrap()),
        redirect_url: Some("https://hooks.example.ch/oauth".parse().unwrap()),
        ..client("s")
    };
    let who = Who { name: &name, client: &client, by_client: false, refresh: Some(&refresh) };
    // In a process that had no need of the tokens before.
    let first = tokens();
    let url = first.authorize(who).unwrap();
    let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    first.authorized(who, format!("code=c&state={state}").as_bytes()).await.unwrap();
    assert_eq!(first.access(who).await.ok().unwrap().expose(), b"token-0");
    assert_eq!(tokens().access(who).await.ok().unwrap().expose(), b"token-0", "after a restart too");
    assert_eq!(*server.asked.lock(), 1);
}
