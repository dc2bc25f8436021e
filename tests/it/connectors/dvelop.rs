use http::header::AUTHORIZATION;
use kurier::connectors::dvelop::{
    Acknowledge, AcknowledgeDraft, Failure, Pull, PullDraft, Report, Transfer, Walk, judge_report, report, report_link,
};
use kurier::connectors::{Outcome, Request, Verdict, bearer};
use serde_json::json;

use super::{secret, seen, send, send_to_payload_url};
use kurier::demo::simulators::dvelop::{API_KEY, Dvelop, INTEGRATION_KEY};
use kurier::demo::simulators::{Answer, Trouble};

fn authorized(mut request: Request) -> Request {
    request.headers.insert(AUTHORIZATION, bearer(&secret(API_KEY)).unwrap());
    request
}

fn pull(system: &Dvelop) -> Pull {
    let draft = PullDraft { base_url: Some(system.server.url("/")), integration_key: Some(INTEGRATION_KEY.to_owned()), max_pages: None };
    Pull::new(draft).unwrap()
}

fn acknowledge() -> Acknowledge {
    let hosts = Some(vec!["127.0.0.1".to_owned()]);
    Acknowledge::new(AcknowledgeDraft {
        allowed_hosts: hosts,
        allow_private: vec!["127.0.0.0/8".parse().unwrap()],
        ..AcknowledgeDraft::default()
    })
    .unwrap()
}

async fn poll(system: &Dvelop) -> Result<Vec<Transfer>, Outcome> {
    let mut walk = Walk::new(&pull(system));
    let mut all = Vec::new();
    while let Some(request) = walk.request() {
        all.extend(walk.take(&seen(&send(authorized(request)).await.unwrap()))?);
    }
    Ok(all)
}

async fn tell(transfer: &Transfer, result: &Report, unknown: bool) -> Option<Outcome> {
    let link = report_link(&transfer.body, None, &acknowledge()).unwrap();
    let reply = send_to_payload_url(authorized(report(link, result, None, &acknowledge()))).await.ok()?;
    Some(judge_report(&seen(&reply), unknown))
}

#[tokio::test]
async fn every_transfer_is_fetched_byte_for_byte_and_stays_until_its_result_is_reported() {
    let system = Dvelop::start(7, 3).await.unwrap();
    let transfers = poll(&system).await.unwrap();
    assert_eq!(transfers.iter().map(|transfer| transfer.body.clone()).collect::<Vec<_>>(), system.listed());
    assert_eq!(system.server.calls().len(), 3);
    assert_eq!(poll(&system).await.unwrap(), transfers);
    let failed = Report::failed(&acknowledge().texts, Failure::Deadline);
    assert_eq!(tell(&transfers[0], &Report::Successful, false).await.unwrap().verdict, Verdict::Delivered);
    assert_eq!(tell(&transfers[1], &failed, false).await.unwrap().verdict, Verdict::Delivered);
    let results = system.results();
    assert_eq!(results[0], Some(json!({ "successful": true })));
    assert!(results[1].as_ref().unwrap()["error"]["de"].as_str().unwrap().contains("nicht rechtzeitig"));
    assert_eq!(poll(&system).await.unwrap(), transfers[2..]);
}

#[tokio::test]
async fn a_report_whose_answer_was_lost_is_known_to_have_arrived() {
    let system = Dvelop::start(1, 3).await.unwrap();
    let transfer = &poll(&system).await.unwrap()[0];
    system.server.trouble([Trouble::LoseAnswer]);
    assert_eq!(tell(transfer, &Report::Successful, false).await, None);
    let again = tell(transfer, &Report::Successful, true).await.unwrap();
    assert_eq!((again.verdict, system.results()[0].is_some()), (Verdict::Delivered, true));
    assert_eq!(tell(transfer, &Report::Successful, false).await.unwrap().verdict, Verdict::Rejected);
}

#[tokio::test]
async fn a_report_without_both_languages_or_with_too_much_is_refused() {
    let system = Dvelop::start(1, 3).await.unwrap();
    let transfer = &poll(&system).await.unwrap()[0];
    let half = Report::Failed { de: "Fehlgeschlagen.".to_owned(), en: String::new() };
    let outcome = tell(transfer, &half, false).await.unwrap();
    assert!(outcome.verdict == Verdict::Rejected && outcome.reason.contains("error"), "{}", outcome.reason);
    assert_eq!(system.results(), [None]);
}

#[tokio::test]
async fn a_fault_in_the_middle_of_a_poll_takes_nothing_of_its_page() {
    let system = Dvelop::start(6, 3).await.unwrap();
    let mut walk = Walk::new(&pull(&system));
    assert_eq!(walk.take(&seen(&send(authorized(walk.request().unwrap())).await.unwrap())).unwrap().len(), 3);
    let elsewhere = json!({ "_links": { "next": { "href": "https://evil.example/" } }, "transfers": [{}] });
    system.server.trouble([Trouble::Instead(Answer::status(503)), Trouble::Instead(Answer::json(200, &elsewhere)), Trouble::LoseAnswer]);
    for _ in 0..2 {
        let reply = send(authorized(walk.request().unwrap())).await.unwrap();
        assert!(matches!(walk.take(&seen(&reply)).unwrap_err().verdict, Verdict::Retry { .. }));
    }
    assert!(send(authorized(walk.request().unwrap())).await.is_err());
    assert_eq!(walk.take(&seen(&send(authorized(walk.request().unwrap())).await.unwrap())).unwrap().len(), 3);
    let reply = send(Walk::new(&pull(&system)).request().unwrap()).await.unwrap();
    assert_eq!(Walk::new(&pull(&system)).take(&seen(&reply)).unwrap_err().verdict, Verdict::Pause);
}

#[tokio::test]
async fn a_page_that_is_longer_than_any_answer_is_read_whole() {
    let system = Dvelop::start(500, 500).await.unwrap();
    assert_eq!(poll(&system).await.unwrap().len(), 500);
    assert!(system.listed().concat().len() > kurier::egress::REPLY_BODY_BYTES_MAX);
}
