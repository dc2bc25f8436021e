use http::StatusCode;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn client(format: TokenFormat, auth: ClientAuth) -> Client {
    Client {
        token_url: "https://id.example/auth/access-tokens".parse().unwrap(),
        authorize_url: Some("https://id.example/auth/authorize".parse().unwrap()),
        redirect_url: Some("https://hooks.example.ch/oauth".parse().unwrap()),
        id: "my id".to_owned(),
        secret: secret("s&cret"),
        scopes: vec!["invoice".to_owned(), "contact".to_owned()],
        format,
        auth,
        pkce: true,
    }
}

fn form(request: &Request) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = form_urlencoded::parse(&request.body).into_owned().collect();
    pairs.sort();
    pairs
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn answered(grant: &Grant, status: u16, body: &str) -> Result<Tokens, TokenFailure> {
    let headers = HeaderMap::new();
    let reply = Reply { status: StatusCode::from_u16(status).unwrap(), headers: &headers, body: body.as_bytes(), truncated: false };
    client(TokenFormat::Form, ClientAuth::Body).tokens(grant, &reply, NOW)
}

fn at(seconds: u64) -> Timestamp {
    NOW.saturating_add(Duration::from_secs(seconds))
}

#[test]
fn a_token_is_requested_as_a_form_or_as_json() {
    let expected =
        [("client_id", "my id"), ("client_secret", "s&cret"), ("grant_type", "client_credentials"), ("scope", "invoice contact")];
    let request = client(TokenFormat::Form, ClientAuth::Body).request(&Grant::ClientCredentials).unwrap();
    assert_eq!(form(&request), pairs(&expected));
    assert_eq!(request.headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
    let request = client(TokenFormat::Json, ClientAuth::Body).request(&Grant::ClientCredentials).unwrap();
    let expected =
        json!({ "grant_type": "client_credentials", "client_id": "my id", "client_secret": "s&cret", "scope": "invoice contact" });
    assert_eq!(serde_json::from_slice::<Value>(&request.body).unwrap(), expected);
    assert_eq!((&request.headers[CONTENT_TYPE], request.url.path()), (&JSON, "/auth/access-tokens"));
}

#[test]
fn credentials_stand_in_the_header_where_the_server_wants_them_there() {
    let request = client(TokenFormat::Form, ClientAuth::Basic).request(&Grant::Refresh(secret("r1"))).unwrap();
    assert_eq!(form(&request), pairs(&[("grant_type", "refresh_token"), ("refresh_token", "r1")]));
    assert!(request.headers[AUTHORIZATION].is_sensitive());
    let broken = Client { secret: Secret::new(vec![0xff]), ..client(TokenFormat::Form, ClientAuth::Body) };
    assert!(broken.request(&Grant::ClientCredentials).is_err());
}

#[test]
fn tokens_are_read_with_200_and_201_and_the_refresh_token_rotates() {
    let body = r#"{"token_type":"Bearer","expires_in":43200,"access_token":"a2","refresh_token":"r2","x":1.5}"#;
    for status in [200, 201] {
        let tokens = answered(&Grant::Refresh(secret("r1")), status, body).ok().unwrap();
        assert_eq!((tokens.access.expose(), tokens.refresh.unwrap().expose()), (&b"a2"[..], &b"r2"[..]));
        // Ten minutes before twelve hours are over.
        assert_eq!((tokens.renew_at, tokens.ends_at), (at(43_200 - 600), at(43_200)));
    }
    let same = answered(&Grant::Refresh(secret("r1")), 200, r#"{"token_type":"bearer","access_token":"a2"}"#).ok().unwrap();
    assert_eq!((same.refresh.unwrap().expose(), same.ends_at), (&b"r1"[..], at(3600)));
    assert!(answered(&Grant::ClientCredentials, 200, r#"{"token_type":"bearer","access_token":"a2"}"#).ok().unwrap().refresh.is_none());
}

#[test]
fn every_failure_says_whether_to_wait_to_authorize_or_to_mend_the_settings() {
    let word = |grant: &Grant, status, body: &str| match answered(grant, status, body).err() {
        Some(TokenFailure::Later { .. }) => "later",
        Some(TokenFailure::Renew { .. }) => "renew",
        Some(TokenFailure::Refused { .. }) => "refused",
        None => "tokens",
    };
    let refresh = Grant::Refresh(secret("r1"));
    for (status, body, by_refresh, by_client) in [
        (400, r#"{"error":"invalid_grant"}"#, "renew", "refused"),
        (401, r#"{"error":"invalid_client"}"#, "refused", "refused"),
        (400, r#"{"error":"invalid_scope"}"#, "refused", "refused"),
        (400, r#"{"error":"temporarily_unavailable"}"#, "later", "later"),
        (401, r#"{"code":"unauthorized","message":"x"}"#, "renew", "refused"),
        (400, "", "renew", "refused"),
        (429, "", "later", "later"),
        (500, r#"{"error":"invalid_grant"}"#, "later", "later"),
        (503, "", "later", "later"),
        (404, "", "later", "later"),
        (200, "", "later", "later"),
        (200, "<html>", "later", "later"),
        (200, r#"{"token_type":"bearer","access_token":""}"#, "later", "later"),
        (200, r#"{"token_type":"mac","access_token":"a"}"#, "refused", "refused"),
        (302, "", "later", "later"),
    ] {
        assert_eq!(
            (word(&refresh, status, body), word(&Grant::ClientCredentials, status, body)),
            (by_refresh, by_client),
            "{status} {body}"
        );
    }
    let said = answered(&refresh, 401, r#"{"error":"invalid_client","error_description":"secret s&cret is wrong"}"#);
    let Some(TokenFailure::Refused { reason }) = said.err() else { panic!("refused") };
    assert_eq!(reason, "the authorization server says `invalid_client` (401): secret *** is wrong");
}

#[test]
fn a_person_is_sent_off_with_state_and_pkce_and_comes_back_with_a_code() {
    let client = client(TokenFormat::Form, ClientAuth::Body);
    let (url, pending) = client.authorize(&[7; 64], NOW).ok().unwrap();
    let query: std::collections::BTreeMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(url.path(), "/auth/authorize");
    assert_eq!((query["response_type"].as_str(), query["client_id"].as_str()), ("code", "my id"));
    assert_eq!((query["redirect_uri"].as_str(), query["scope"].as_str()), ("https://hooks.example.ch/oauth", "invoice contact"));
    assert_eq!(query["code_challenge_method"], "S256");
    let state = &query["state"];
    let complete = |query: String, now| pending.complete(query.as_bytes(), now);
    let Ok(grant @ Grant::Code { .. }) = complete(format!("code=c1&state={state}"), at(599)) else { panic!("a code") };
    let request = client.request(&grant).unwrap();
    let verifier = String::from_utf8(pending.verifier.clone().unwrap().expose().to_vec()).unwrap();
    let expected = [
        ("client_id", "my id"),
        ("client_secret", "s&cret"),
        ("code", "c1"),
        ("code_verifier", &verifier),
        ("grant_type", "authorization_code"),
        ("redirect_uri", "https://hooks.example.ch/oauth"),
    ];
    assert_eq!(form(&request), pairs(&expected));
    for (query, now, error) in [
        ("code=c1".to_owned(), NOW, AuthorizeError::Foreign),
        ("code=c1&state=other".to_owned(), NOW, AuthorizeError::Foreign),
        (format!("code=c1&state={state}&state=x"), NOW, AuthorizeError::Foreign),
        (format!("code=c1&state={state}"), at(601), AuthorizeError::Late),
        (format!("state={state}"), NOW, AuthorizeError::NoCode),
        (format!("code=a&code=b&state={state}"), NOW, AuthorizeError::NoCode),
        (format!("error=access_denied&state={state}"), NOW, AuthorizeError::Refused("access_denied".to_owned())),
        (format!("code=c1&state={state}&x={}", "y".repeat(20_000)), NOW, AuthorizeError::Foreign),
    ] {
        assert_eq!(complete(query.clone(), now).err(), Some(error), "{query}");
    }
    let (url, pending) = Client { pkce: false, ..client.clone() }.authorize(&[7; 64], NOW).ok().unwrap();
    assert!(pending.verifier.is_none() && !url.as_str().contains("code_challenge"));
    assert!(Client { redirect_url: None, ..client }.authorize(&[7; 64], NOW).is_err());
}

fn word(session: &Session, by_client: bool, now: Timestamp) -> String {
    let text = |secret: &Secret| String::from_utf8(secret.expose().to_vec()).unwrap();
    let grant = |grant: Grant| match grant {
        Grant::ClientCredentials => "client".to_owned(),
        Grant::Refresh(token) => text(&token),
        Grant::Code { code, .. } => text(&code),
    };
    match session.next(by_client, now) {
        Next::Use(access) => format!("use {}", text(&access)),
        Next::UseAndRenew(access, with) => format!("use {}, renew with {}", text(&access), grant(with)),
        Next::Renew(with) => format!("renew with {}", grant(with)),
        Next::Authorize(reason) => format!("authorize: {reason}"),
    }
}

fn tokens(access: &str, refresh: Option<&str>) -> Tokens {
    Tokens::new(secret(access), refresh.map(secret), NOW, Some(Duration::from_secs(1000)))
}

#[test]
fn a_token_is_used_renewed_early_and_never_used_at_its_end() {
    let session = Session::default().obtained(tokens("a1", Some("r1")));
    assert_eq!(word(&session, false, at(899)), "use a1");
    assert_eq!(word(&session, false, at(900)), "use a1, renew with r1");
    assert_eq!(word(&session, false, at(990)), "renew with r1");
    assert_eq!(word(&session, true, at(990)), "renew with client");
    let alone = Session::default().obtained(tokens("a1", None));
    assert_eq!(word(&alone, false, at(950)), "use a1");
    assert_eq!(word(&alone, false, at(1000)), "authorize: the access token has ended and there is no refresh token");
    assert_eq!(word(&Session::default(), false, NOW), "authorize: nobody has authorized yet");
    assert_eq!(word(&Session::default(), true, NOW), "renew with client");
}

#[test]
fn a_refused_token_is_renewed_at_once_unless_it_was_replaced_meanwhile() {
    let session = Session::default().obtained(tokens("a1", Some("r1")));
    assert_eq!(word(&session.refused(&secret("a1")), false, NOW), "renew with r1");
    assert_eq!(word(&session.refused(&secret("a0")), false, NOW), "use a1");
}

#[test]
fn a_renewal_that_was_interrupted_is_tried_again_and_then_a_person_is_asked() {
    let begun = Session::default().obtained(tokens("a1", Some("r1"))).begun(at(990));
    // The process ended here.
    let stored = Session::from_bytes(begun.to_bytes().expose()).ok().unwrap();
    assert_eq!(stored.interrupted(), Some(at(990)));
    assert_eq!(word(&stored, false, at(1001)), "renew with r1");
    let later = TokenFailure::Later { after: None, reason: "503".to_owned() };
    assert_eq!(word(&stored.failed(&later), false, at(1001)), "renew with r1");
    let lost = stored.failed(&TokenFailure::Renew { reason: "invalid_grant".to_owned() });
    let lost = Session::from_bytes(lost.to_bytes().expose()).ok().unwrap();
    let said = word(&lost, false, at(1001));
    assert!(
        said.starts_with("authorize: invalid_grant; the renewal begun at ") && said.ends_with("may have used up the refresh token"),
        "{said}"
    );
    assert_eq!(word(&lost.obtained(tokens("a2", Some("r2"))), false, NOW), "use a2");
}

#[test]
fn a_refresh_token_of_the_settings_counts_until_it_rotates_and_again_when_an_operator_changes_it() {
    let first = Session::default().with_configured(Some(&secret("r0")));
    assert_eq!(word(&first, false, NOW), "renew with r0");
    let rotated = first.obtained(tokens("a1", Some("r1")));
    let restarted = Session::from_bytes(rotated.to_bytes().expose()).ok().unwrap().with_configured(Some(&secret("r0")));
    assert_eq!(word(&restarted, false, at(990)), "renew with r1");
    assert_eq!(word(&restarted.with_configured(Some(&secret("new"))), false, NOW), "renew with new");
    assert_eq!(word(&restarted.with_configured(None), false, NOW), "use a1");
    assert!(Session::from_bytes(b"nonsense").is_err());
    assert_eq!(word(&Session::from_bytes(b"{}").ok().unwrap(), false, NOW), "authorize: nobody has authorized yet");
}
