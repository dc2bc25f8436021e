//! `any` and `all` of schemes, addresses and nothing at all.

use std::net::IpAddr;

use http::{HeaderName, header};
use ipnet::IpNet;

use super::algorithm::Algorithm;
use super::handshake::Handshake;
use super::keeper::Context;
use super::request::{Document, Request};
use super::scheme::{Plan, Scheme};
use super::source::Source;
use super::{Binding, Facts, Refusal};

/// A compiled `verify`.
pub(super) enum Check {
    /// `none`
    Open,
    /// `allow_from`
    Address(Vec<IpNet>),
    Scheme(Box<Scheme>),
    Any(Vec<Check>),
    All(Vec<Check>),
}

/// Why a check failed, and whether that can't be made good by an alternative: a signature that is there and
/// wrong is a forgery, and a weaker check beside it must not wave it through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub(super) refusal: Refusal,
    is_final: bool,
}

impl Check {
    pub(super) fn verify(&self, request: &Request<'_>, json: &Document<'_>, peer: IpAddr, context: Context<'_>) -> Result<Facts, Failure> {
        match self {
            Self::Open => Ok(Facts::default()),
            Self::Address(_) if self.is_from(peer) => Ok(Facts::default()),
            Self::Address(_) => Err(Failure { refusal: Refusal::Address, is_final: false }),
            Self::Scheme(scheme) => scheme.verify(request, json, context).map_err(|refusal| {
                let is_final = scheme.is_signature() && refusal != Refusal::MissingHeader;
                Failure { refusal, is_final }
            }),
            Self::Any(members) => {
                // Every member is asked, so that a wrong signature is found wherever it stands.
                let results: Vec<_> = members.iter().map(|member| member.verify(request, json, peer, context)).collect();
                any(results)
            }
            Self::All(members) => {
                let mut sum = Facts::default();
                for member in members {
                    sum = join(sum, member.verify(request, json, peer, context)?);
                }
                Ok(sum)
            }
        }
    }

    /// The answer to a handshake that needs no signature, when this is one. Where addresses are asked for beside
    /// the scheme, it comes from one of them.
    pub(super) fn unverified(
        &self,
        request: &Request<'_>,
        json: &Document<'_>,
        peer: IpAddr,
        context: Context<'_>,
    ) -> Option<Result<Handshake, Refusal>> {
        match self {
            Self::Open | Self::Address(_) => None,
            Self::Scheme(scheme) => scheme.unverified(request, json, context),
            Self::Any(members) => members.iter().find_map(|member| member.unverified(request, json, peer, context)),
            Self::All(members) => {
                let answer = members.iter().find_map(|member| member.unverified(request, json, peer, context))?;
                Some(if members.iter().all(|member| member.is_from(peer)) { answer } else { Err(Refusal::Address) })
            }
        }
    }

    /// Whether this says nothing against the address.
    fn is_from(&self, peer: IpAddr) -> bool {
        match self {
            Self::Address(networks) => networks.iter().any(|network| network.contains(&peer.to_canonical())),
            Self::Open | Self::Scheme(_) | Self::Any(_) | Self::All(_) => true,
        }
    }

    /// The schemes in it, in order.
    pub(super) fn schemes(&self) -> Vec<&Scheme> {
        match self {
            Self::Open | Self::Address(_) => Vec::new(),
            Self::Scheme(scheme) => vec![scheme],
            Self::Any(members) | Self::All(members) => members.iter().flat_map(Self::schemes).collect(),
        }
    }

    pub(super) fn binding(&self) -> Binding {
        match self {
            Self::Open | Self::Address(_) => Binding::None,
            Self::Scheme(scheme) => scheme.binding,
            Self::Any(members) => members.iter().map(Self::binding).min().unwrap_or(Binding::None),
            Self::All(members) => members.iter().map(Self::binding).max().unwrap_or(Binding::None),
        }
    }
}

fn any(results: Vec<Result<Facts, Failure>>) -> Result<Facts, Failure> {
    let missing = Failure { refusal: Refusal::MissingHeader, is_final: false };
    let mut failure = None;
    let mut passed: Option<Facts> = None;
    for result in results {
        match result {
            Ok(facts) => passed = Some(passed.map_or(facts.clone(), |sum| join(sum, facts))),
            Err(wrong) if wrong.is_final => return Err(wrong),
            // What is there and wrong tells more than what is not there.
            Err(wrong) if failure.is_none_or(|known: Failure| known.refusal == Refusal::MissingHeader) => failure = Some(wrong),
            Err(_) => {}
        }
    }
    passed.ok_or(failure.unwrap_or(missing))
}

/// What two checks tell together; the first one's word wins.
fn join(first: Facts, second: Facts) -> Facts {
    Facts {
        source_id: first.source_id.or(second.source_id),
        event_type: first.event_type.or(second.event_type),
        dedupe_key: first.dedupe_key.or(second.dedupe_key),
        answer: first.answer.or(second.answer),
        operator_only: first.operator_only | second.operator_only,
        handshake: first.handshake.or(second.handshake),
    }
}

impl Scheme {
    /// Whether it proves something about the request, more than that its sender knows a word.
    fn is_signature(&self) -> bool {
        self.plans.iter().all(|plan| !matches!(plan.algorithm, Algorithm::Token | Algorithm::Basic))
    }

    /// Where credentials stand in a request.
    pub(super) fn credential_sources(&self) -> impl Iterator<Item = &Source> {
        let token = |plan: &&Plan| matches!(plan.algorithm, Algorithm::Token | Algorithm::Basic);
        self.plans.iter().filter(token).flat_map(|plan| &plan.carrier.from)
    }

    /// Headers whose values let their bearer in again.
    pub(super) fn credential_headers(&self) -> Vec<HeaderName> {
        let mut names = Vec::new();
        for plan in &self.plans {
            let token = matches!(plan.algorithm, Algorithm::Token | Algorithm::Basic);
            for source in &plan.carrier.from {
                match source {
                    Source::Header(name)
                        if token || [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE].contains(name) =>
                    {
                        names.push(name.clone());
                    }
                    Source::Header(_) | Source::Headers(_) | Source::Query(_) | Source::Form(_) => {}
                    Source::Xml(_) | Source::Json { .. } | Source::Field(_) | Source::Config(_) => {}
                }
            }
            for (source, wanted) in &plan.require {
                if let (Source::Header(name), Some(Source::Config(_))) = (source, wanted.sole_source()) {
                    names.push(name.clone());
                }
            }
        }
        names
    }
}
