use std::time::Duration;

use kurier::connectors::oauth::{Grant, Next, Session, TokenFailure, Tokens};
use kurier::connectors::smartbusiness::{Poll, Settings, SettingsDraft, judge, rate_limit};
use kurier::connectors::{Outcome, Verdict};
use kurier::egress::Reply;
use kurier::model::{FaultKind, Secret, Timestamp};
use serde_json::json;

use super::{secret, seen, send, send_within};
use kurier::demo::simulators::smartbusiness::{CLIENT_ID, CLIENT_SECRET, REDIRECT, SmartBusiness};
use kurier::demo::simulators::{Answer, Trouble};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn draft(system: &SmartBusiness) -> SettingsDraft {
    SettingsDraft {
        base_url: Some(system.server.url("/v2")),
        client_id: Some(CLIENT_ID.to_owned()),
        client_secret: Some(secret(CLIENT_SECRET)),
        scopes: vec!["invoice".to_owned()],
        request: Some("POST /receivables/invoices".to_owned()),
        redirect_url: Some(REDIRECT.parse().unwrap()),
        ..SettingsDraft::default()
    }
}

async fn tokens(settings: &Settings, grant: &Grant) -> Result<Tokens, TokenFailure> {
    let reply = send(settings.client.request(grant).unwrap()).await.unwrap();
    settings.client.tokens(grant, &seen(&reply), NOW)
}

async fn invoice(settings: &Settings, access: &Secret, number: &str) -> Option<Reply> {
    let body = json!({ "number": number, "contact_id": 1, "date": "2026-11-26", "positions": [] }).to_string();
    let request = settings.request.as_ref().unwrap().request(&settings.base_url, body.into(), access, |_| None).unwrap();
    send(request).await.ok()
}

async fn outcome(settings: &Settings, access: &Secret, number: &str, unknown: bool, again: bool) -> Option<Outcome> {
    invoice(settings, access, number).await.map(|reply| judge(&seen(&reply), unknown, again))
}

#[tokio::test]
async fn an_invoice_is_made_with_the_clients_own_credentials_in_either_format() {
    let system = SmartBusiness::start().await.unwrap();
    for (token_form, number) in [(false, "R-1"), (true, "R-2")] {
        let settings = Settings::new(SettingsDraft { token_form, ..draft(&system) }).ok().unwrap();
        let access = tokens(&settings, &Grant::ClientCredentials).await.ok().unwrap().access;
        assert_eq!(outcome(&settings, &access, number, false, false).await.unwrap().verdict, Verdict::Delivered);
    }
    assert_eq!(system.invoices().len(), 2);
    let wrong = Settings::new(SettingsDraft { client_secret: Some(secret("guess")), ..draft(&system) }).ok().unwrap();
    let Err(TokenFailure::Refused { reason }) = tokens(&wrong, &Grant::ClientCredentials).await else { panic!("refused") };
    assert!(reason.contains("invalid_client") && !reason.contains("guess"), "{reason}");
}

#[tokio::test]
async fn a_customer_authorizes_with_pkce_and_each_refresh_token_counts_once() {
    let system = SmartBusiness::start().await.unwrap();
    let settings = Settings::new(SettingsDraft { by_person: true, ..draft(&system) }).ok().unwrap();
    let (url, pending) = settings.client.authorize(&[9; 64], NOW).ok().unwrap();
    let back = system.approve(&url).unwrap();
    let code = pending.complete(back.query().unwrap().as_bytes(), NOW).ok().unwrap();
    let first = tokens(&settings, &code).await.ok().unwrap();
    assert!(matches!(tokens(&settings, &code).await, Err(TokenFailure::Renew { .. })), "a code counts once");
    let session = Session::default().obtained(first);
    let refused = session.refused(&match session.next(settings.by_client, NOW) {
        Next::Use(access) => access,
        Next::UseAndRenew(..) | Next::Renew(_) | Next::Authorize(_) => panic!("a fresh token is used"),
    });
    let Next::Renew(grant) = refused.next(settings.by_client, NOW) else { panic!("a refused one is renewed") };
    let second = tokens(&settings, &grant).await.ok().unwrap();
    assert!(matches!(tokens(&settings, &grant).await, Err(TokenFailure::Renew { .. })), "a refresh token counts once");
    let Next::Use(access) = refused.begun(NOW).obtained(second).next(settings.by_client, NOW) else { panic!("the new one is used") };
    assert_eq!(outcome(&settings, &access, "R-1", false, false).await.unwrap().verdict, Verdict::Delivered);
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_ends_with_a_person_being_asked() {
    let system = SmartBusiness::start().await.unwrap();
    let settings = Settings::new(SettingsDraft { by_person: true, ..draft(&system) }).ok().unwrap();
    let (url, pending) = settings.client.authorize(&[9; 64], NOW).ok().unwrap();
    let code = pending.complete(system.approve(&url).unwrap().query().unwrap().as_bytes(), NOW).ok().unwrap();
    let session = Session::default().obtained(tokens(&settings, &code).await.ok().unwrap());
    let late = NOW.saturating_add(Duration::from_secs(43_200));
    let Next::Renew(grant) = session.next(false, late) else { panic!("a renewal") };
    let session = session.begun(late);
    system.server.trouble([Trouble::LoseAnswer]);
    assert_eq!(send(settings.client.request(&grant).unwrap()).await.unwrap_err().kind, FaultKind::Reset);
    let session = Session::from_bytes(session.to_bytes().expose()).ok().unwrap();
    let Next::Renew(grant) = session.next(false, late) else { panic!("one more try") };
    let failure = tokens(&settings, &grant).await.err().unwrap();
    let Next::Authorize(reason) = session.failed(&failure).next(false, late) else { panic!("a person") };
    assert!(reason.contains("invalid_grant") && reason.contains("may have used up"), "{reason}");
}

#[tokio::test]
async fn an_invoice_whose_answer_was_lost_is_not_made_twice() {
    let system = SmartBusiness::start().await.unwrap();
    let settings = Settings::new(draft(&system)).ok().unwrap();
    let access = tokens(&settings, &Grant::ClientCredentials).await.ok().unwrap().access;
    system.server.trouble([Trouble::LoseAnswer]);
    assert_eq!(outcome(&settings, &access, "R-1", false, false).await, None);
    assert_eq!(outcome(&settings, &access, "R-1", true, false).await.unwrap().verdict, Verdict::Delivered);
    let rejected = outcome(&settings, &access, "R-1", false, false).await.unwrap();
    assert_eq!(rejected.reason, "SmartBusiness refuses the request (422): number 1105 already exists [req-77]");
    assert_eq!((rejected.verdict, system.invoices().len()), (Verdict::Rejected, 1));
}

#[tokio::test]
async fn an_ended_token_is_renewed_once_and_the_rate_limit_is_kept() {
    let system = SmartBusiness::start().await.unwrap();
    let settings = Settings::new(draft(&system)).ok().unwrap();
    let access = tokens(&settings, &Grant::ClientCredentials).await.ok().unwrap().access;
    system.end_access();
    assert_eq!(outcome(&settings, &access, "R-1", false, false).await.unwrap().verdict, Verdict::Reauthorize);
    assert_eq!(outcome(&settings, &access, "R-1", false, true).await.unwrap().verdict, Verdict::Pause);
    let access = tokens(&settings, &Grant::ClientCredentials).await.ok().unwrap().access;
    system.leave(1);
    let reply = invoice(&settings, &access, "R-1").await.unwrap();
    assert_eq!(rate_limit(&reply.headers).unwrap().hold(), Some(Duration::from_secs(42)));
    let limited = outcome(&settings, &access, "R-2", false, false).await.unwrap();
    assert_eq!(limited.verdict, Verdict::Retry { after: Some(Duration::from_secs(42)) });
}

#[tokio::test]
async fn a_list_is_polled_to_its_end_past_faults() {
    let system = SmartBusiness::start().await.unwrap();
    system.add_invoices(450);
    let list = Some("/receivables/invoices".to_owned());
    let settings = Settings::new(SettingsDraft { list, request: None, ..draft(&system) }).ok().unwrap();
    let access = tokens(&settings, &Grant::ClientCredentials).await.ok().unwrap().access;
    let mut poll = Poll::new(&settings).unwrap();
    system.server.trouble([Trouble::Instead(Answer::status(503)), Trouble::Hang]);
    let mut keys = std::collections::BTreeSet::new();
    let mut faults = 0;
    while let Some(request) = poll.request(&access).unwrap() {
        // The second is the one that hangs; only it is given little time.
        let timeout = if faults == 1 { Duration::from_millis(200) } else { Duration::from_secs(20) };
        let Ok(reply) = send_within(request, timeout).await else {
            faults += 1;
            continue;
        };
        match judge(&seen(&reply), false, false).verdict {
            Verdict::Delivered => keys.extend(poll.take(&seen(&reply)).unwrap().into_iter().map(|item| item.key)),
            Verdict::Retry { .. } => faults += 1,
            Verdict::Reauthorize | Verdict::Rejected | Verdict::Pause => panic!("the token is good"),
        }
    }
    assert_eq!((keys.len(), faults), (450, 2));
}
