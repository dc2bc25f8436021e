//! From the library's errors to the kind of fault, with a detail that holds no url and no credentials.
//!
//! The library's own messages quote the url, which may carry a token, so nothing of them is passed on: the
//! chain of sources is searched for what is known and only that is put into words.

use std::error::Error;
use std::io;

use super::Fault;
use super::guard::{Forbidden, NotPublic, Unresolved};
use crate::model::{Attempt, FaultKind};

/// How far a request had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// No connection stood yet.
    Connecting,
    /// The request was under way, or its answer.
    Exchanging,
}

/// A fault with its detail cut to what is kept.
pub(super) fn fault(kind: FaultKind, detail: impl Into<String>) -> Fault {
    let mut detail = detail.into();
    cut(&mut detail, Attempt::DETAIL_BYTES_MAX);
    Fault { kind, detail }
}

/// Cuts a text to at most so many bytes, between two characters.
pub(crate) fn cut(text: &mut String, bytes_max: usize) {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

/// The fault that this error comes to.
pub(super) fn of(error: &(dyn Error + 'static), stage: Stage) -> Fault {
    let mut next = Some(error);
    let mut last = None;
    while let Some(link) = next {
        if let Some(found) = known(link, stage) {
            return found;
        }
        // The library nests its transport errors in each other; the innermost says most.
        last = hyper_fault(link).or(last);
        next = link.source();
    }
    last.unwrap_or_else(|| match stage {
        Stage::Connecting => fault(FaultKind::Connect, "no connection could be made"),
        Stage::Exchanging => fault(FaultKind::Protocol, "the exchange failed"),
    })
}

fn known(link: &(dyn Error + 'static), stage: Stage) -> Option<Fault> {
    if let Some(forbidden) = link.downcast_ref::<Forbidden>() {
        return Some(fault(FaultKind::ForbiddenAddress, forbidden.to_string()));
    }
    if let Some(private) = link.downcast_ref::<NotPublic>() {
        return Some(fault(FaultKind::ForbiddenAddress, private.to_string()));
    }
    if let Some(unresolved) = link.downcast_ref::<Unresolved>() {
        return Some(fault(FaultKind::Dns, unresolved.to_string()));
    }
    if let Some(tls) = link.downcast_ref::<rustls::Error>() {
        return Some(fault(FaultKind::Tls, tls.to_string()));
    }
    let io = link.downcast_ref::<io::Error>()?;
    // An io::Error hides the error it was made of from its chain of sources.
    match io.get_ref() {
        Some(inner) => Some(of_inner(inner, io.kind(), stage)),
        None => Some(of_io(io.kind(), stage)),
    }
}

fn of_inner(inner: &(dyn Error + Send + Sync + 'static), kind: io::ErrorKind, stage: Stage) -> Fault {
    let inner: &(dyn Error + 'static) = inner;
    let mut next = Some(inner);
    while let Some(link) = next {
        if let Some(found) = known(link, stage).or_else(|| hyper_fault(link)) {
            return found;
        }
        next = link.source();
    }
    of_io(kind, stage)
}

fn hyper_fault(link: &(dyn Error + 'static)) -> Option<Fault> {
    let error = link.downcast_ref::<hyper::Error>()?;
    if error.is_parse() {
        Some(fault(FaultKind::Protocol, format!("the answer is not HTTP: {error}")))
    } else if error.is_timeout() {
        Some(fault(FaultKind::Timeout, "no answer in time"))
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        Some(fault(FaultKind::Reset, "the connection was closed before the answer was complete"))
    } else if error.is_user() {
        Some(fault(FaultKind::Unsendable, error.to_string()))
    } else {
        Some(fault(FaultKind::Protocol, error.to_string()))
    }
}

fn of_io(kind: io::ErrorKind, stage: Stage) -> Fault {
    use io::ErrorKind as Kind;
    match (kind, stage) {
        (Kind::InvalidData, Stage::Connecting) => fault(FaultKind::Tls, "the TLS handshake failed"),
        (Kind::UnexpectedEof, Stage::Connecting) => fault(FaultKind::Tls, "the connection was closed during the TLS handshake"),
        (Kind::TimedOut, Stage::Connecting) => fault(FaultKind::Connect, "connecting took too long"),
        (kind, Stage::Connecting) => fault(FaultKind::Connect, kind.to_string()),
        (Kind::TimedOut, Stage::Exchanging) => fault(FaultKind::Timeout, "no answer in time"),
        (Kind::InvalidData | Kind::InvalidInput, Stage::Exchanging) => fault(FaultKind::Protocol, "the answer is not HTTP"),
        (kind, Stage::Exchanging) => fault(FaultKind::Reset, kind.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_inside_an_io_error_is_found() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let error = io::Error::new(io::ErrorKind::InvalidData, tls);
        assert_eq!(of(&error, Stage::Connecting), fault(FaultKind::Tls, "invalid peer certificate: Expired"));
        let forbidden = io::Error::other(Forbidden("169.254.169.254".parse().unwrap()));
        assert_eq!(of(&forbidden, Stage::Connecting).kind, FaultKind::ForbiddenAddress);
    }

    #[test]
    fn the_same_io_error_means_something_else_before_and_after_the_connection_stands() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(of(&reset, Stage::Connecting).kind, FaultKind::Connect);
        assert_eq!(of(&reset, Stage::Exchanging).kind, FaultKind::Reset);
    }

    #[test]
    fn a_detail_is_cut_between_characters() {
        let long = fault(FaultKind::Connect, "ü".repeat(1000));
        assert!(long.detail.len() <= Attempt::DETAIL_BYTES_MAX);
        assert!(long.detail.chars().all(|c| c == 'ü'));
    }
}
