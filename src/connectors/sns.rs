//! Amazon SNS: a subscription is confirmed by calling the link that its confirmation names.
//!
//! The link comes out of a payload. It is called only when it stands where the topic's own region does, or at the one
//! other place that the operator names, and when it confirms this very topic.

use http::{HeaderMap, Method};
use serde::Deserialize;
use url::Url;

use super::keys::{Holds, Invalid, Key, Problems};
use super::{Outcome, Reply, Request};
use bytes::Bytes;

/// The type of the message that asks for a confirmation. The one that tells of an end holds a link, too, which would undo it.
pub const CONFIRMATION: &str = "SubscriptionConfirmation";

/// Longest link.
const LINK_BYTES_MAX: usize = 2048;

/// The keys of `acknowledge.sns`.
pub const KEYS: &[Key] = &[
    Key::default("confirm", Holds::Flag, "false", "Whether a subscription is confirmed as soon as SNS asks for it."),
    Key::optional(
        "endpoint",
        Holds::Url,
        "Where the topic is, if not at the address of its region: scheme, host and port of a VPC endpoint or of another implementation.",
    ),
    Key::default("timeout", Holds::Duration { min: 1, max: 3_600_000 }, "15s", "Longest time for one call."),
    Key::optional("retry", Holds::Retry, "As for a destination; a confirmation counts for three days."),
];

/// How subscriptions are confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirm {
    /// Where the topic is, if not at the address of its region.
    pub endpoint: Option<Url>,
}

/// Why a link is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmError {
    /// The message asks for nothing of the kind.
    #[error("it is no SubscriptionConfirmation with a TopicArn and a SubscribeURL")]
    Other,
    /// The topic's name is not understood.
    #[error("its TopicArn is not `arn:aws:sns:REGION:ACCOUNT:NAME`")]
    Topic,
    /// The link is not where the topic is.
    #[error("its SubscribeURL does not lead to where the topic is (`acknowledge.sns.endpoint` names another place)")]
    Elsewhere,
    /// The link does something else.
    #[error("its SubscribeURL does not confirm this topic")]
    Action,
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "TopicArn")]
    topic: String,
    #[serde(rename = "SubscribeURL")]
    link: String,
}

impl Confirm {
    /// Checked settings.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(endpoint: Option<Url>) -> Result<Self, Vec<Invalid>> {
        let mut problems = Problems::default();
        let bare = |url: &Url| url.path() == "/" && url.query().is_none();
        if endpoint.as_ref().is_some_and(|url| !bare(url)) {
            problems.add("endpoint", "has a path or a query; scheme, host and port only");
        }
        problems.finish(Some(Self { endpoint }))
    }
}

/// The call that confirms the subscription that this message asks about.
///
/// # Errors
/// Why there is none.
pub fn confirmation(body: &[u8], settings: &Confirm) -> Result<Request, ConfirmError> {
    let message: Message = serde_json::from_slice(body).map_err(|_error| ConfirmError::Other)?;
    if message.kind != CONFIRMATION || message.link.len() > LINK_BYTES_MAX {
        return Err(ConfirmError::Other);
    }
    let url = Url::parse(&message.link).map_err(|_error| ConfirmError::Elsewhere)?;
    let is_there = match &settings.endpoint {
        Some(endpoint) => url.origin() == endpoint.origin(),
        None => url.scheme() == "https" && url.port().is_none() && url.host_str() == Some(&host(&message.topic)?),
    };
    if !is_there || !url.username().is_empty() || url.password().is_some() {
        return Err(ConfirmError::Elsewhere);
    }
    let value = |wanted: &str| {
        let mut values = url.query_pairs().filter(|(name, _)| name == wanted).map(|(_, value)| value);
        values.next().filter(|_| values.next().is_none())
    };
    if value("Action").as_deref() != Some("ConfirmSubscription") || value("TopicArn").is_none_or(|topic| *topic != message.topic) {
        return Err(ConfirmError::Action);
    }
    Ok(Request { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new() })
}

/// The host of a topic: that of its region, in its partition.
fn host(topic: &str) -> Result<String, ConfirmError> {
    let mut parts = topic.split(':');
    let (Some("arn"), Some(partition), Some("sns"), Some(region)) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(ConfirmError::Topic);
    };
    let plain = region.len() >= 3 && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    match partition {
        "aws" | "aws-us-gov" if plain => Ok(format!("sns.{region}.amazonaws.com")),
        "aws-cn" if plain => Ok(format!("sns.{region}.amazonaws.com.cn")),
        _ => Err(ConfirmError::Topic),
    }
}

/// What SNS says to a confirmation. A token that is unknown or too old becomes no better by waiting.
pub fn judge_confirmation(reply: &Reply<'_>) -> Outcome {
    match reply.status.as_u16() {
        200..=299 => Outcome::delivered(),
        400 | 403 | 404 => Outcome::rejected(format!(
            "SNS does not take the confirmation (status {}): its token is used or too old, or the subscription is gone; subscribe again",
            reply.status.as_u16()
        )),
        status => Outcome::retry(format!("status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:orders";

    fn message(kind: &str, topic: &str, link: &str) -> Vec<u8> {
        serde_json::json!({ "Type": kind, "TopicArn": topic, "SubscribeURL": link, "Token": "t" }).to_string().into_bytes()
    }

    fn link(base: &str, topic: &str) -> String {
        format!("{base}/?Action=ConfirmSubscription&TopicArn={topic}&Token=t")
    }

    fn asked(topic: &str, link: &str) -> Result<String, ConfirmError> {
        confirmation(&message(CONFIRMATION, topic, link), &Confirm { endpoint: None }).map(|request| request.url.to_string())
    }

    #[test]
    fn a_link_is_called_at_the_topics_own_region_and_nowhere_else() {
        let right = link("https://sns.eu-central-1.amazonaws.com", TOPIC);
        assert_eq!(asked(TOPIC, &right), Ok(right.clone()));
        let china = "arn:aws-cn:sns:cn-north-1:1:t";
        assert!(asked(china, &link("https://sns.cn-north-1.amazonaws.com.cn", china)).is_ok());
        for elsewhere in [
            "http://sns.eu-central-1.amazonaws.com",
            "https://sns.us-east-1.amazonaws.com",
            "https://sns.eu-central-1.amazonaws.com.cn",
            "https://sns.eu-central-1.amazonaws.com.evil.example",
            "https://evil.example/sns.eu-central-1.amazonaws.com",
            "https://sns.eu-central-1.amazonaws.com:444",
            "https://user@sns.eu-central-1.amazonaws.com",
            "https://sns.eu-central-1.amazonaws.com@evil.example",
            "https://bucket.s3.amazonaws.com",
            "https://127.0.0.1",
            "not a url",
        ] {
            assert_eq!(asked(TOPIC, &link(elsewhere, TOPIC)), Err(ConfirmError::Elsewhere), "{elsewhere}");
        }
        for topic in ["", "arn:aws:sns:x/y.:1:t", "arn:aws:sqs:eu-central-1:1:t", "arn:evil:sns:eu-central-1:1:t"] {
            assert_eq!(asked(topic, &right), Err(ConfirmError::Topic), "{topic}");
        }
    }

    #[test]
    fn a_link_confirms_this_topic_and_does_nothing_else() {
        let at = "https://sns.eu-central-1.amazonaws.com";
        for (query, error) in [
            ("?Action=Unsubscribe&TopicArn={}", ConfirmError::Action),
            ("?Action=ConfirmSubscription&TopicArn={}x", ConfirmError::Action),
            ("?Action=ConfirmSubscription", ConfirmError::Action),
            ("?Action=ConfirmSubscription&TopicArn={}&Action=Publish", ConfirmError::Action),
        ] {
            assert_eq!(asked(TOPIC, &format!("{at}/{}", query.replace("{}", TOPIC))), Err(error), "{query}");
        }
        let right = link(at, TOPIC);
        for kind in ["UnsubscribeConfirmation", "Notification", ""] {
            let told = confirmation(&message(kind, TOPIC, &right), &Confirm { endpoint: None }).err();
            assert_eq!(told, Some(ConfirmError::Other), "{kind}");
        }
    }

    #[test]
    fn another_endpoint_is_the_only_place_then() {
        let settings = Confirm::new(Some("http://127.0.0.1:4566".parse().unwrap())).unwrap();
        let asked = |base: &str| confirmation(&message(CONFIRMATION, TOPIC, &link(base, TOPIC)), &settings).is_ok();
        assert!(asked("http://127.0.0.1:4566"));
        assert!(!asked("http://127.0.0.1:4567") && !asked("https://127.0.0.1:4566") && !asked("https://sns.eu-central-1.amazonaws.com"));
        assert!(Confirm::new(Some("https://a.example/x".parse().unwrap())).is_err());
    }
}
