//! What can only be seen with the whole file in view: unknown and unused destinations, paths that shadow one
//! another, limits that contradict one another, and what is allowed and yet worth a warning.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Method;

use super::Compiler;
use super::route::{Draft, Place};
use crate::config::path::RouteIndex;
use crate::config::resolve::nearest;
use crate::config::units::{show_duration, show_size, shown};
use crate::config::wrong::Wrong;
use crate::config::{DeliverTo, Destination, Format, PathPattern, Server, StoreSettings};
use crate::document::{Entry, Node};
use crate::model::Name;
use crate::signature::{Binding, Verifier};

/// With more destinations than this an unknown one gets no hint.
const NAMES_COMPARED_MAX: usize = 1000;

fn show(time: Duration) -> String {
    show_duration(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Compiler<'_> {
    pub(super) fn link(
        &mut self,
        document: &Node,
        drafts: &[Draft],
        destinations: &BTreeMap<Name, Destination>,
        notify: Option<&(Name, Place)>,
        server: &Server,
        store: &StoreSettings,
    ) {
        // As written, not as built: a destination with a mistake in it is no unknown one.
        let written = document.get("destinations").and_then(Node::as_mapping).unwrap_or_default();
        self.check_names(drafts, notify, written);
        self.check_paths(drafts);
        for draft in drafts {
            self.check_route(draft, destinations, server, store);
        }
    }

    fn check_names(&mut self, drafts: &[Draft], notify: Option<&(Name, Place)>, written: &[Entry]) {
        let known: BTreeSet<&str> = written.iter().map(|entry| entry.key.as_str()).collect();
        let mut used: BTreeSet<&str> = BTreeSet::new();
        let delivered = drafts.iter().flat_map(|draft| &draft.deliver).map(|(deliver, place)| (&deliver.to, place));
        for (to, place) in delivered.chain(notify.map(|(name, place)| (name, place))) {
            used.insert(to);
            if !known.contains(&**to) {
                let wrong = Wrong::new(format!("unknown destination \"{}\"", shown(to)));
                // Comparing many with many would take longer than the hint is worth.
                let likely = if known.len() <= NAMES_COMPARED_MAX { nearest(to, known.iter().copied()) } else { None };
                let wrong = match likely {
                    Some(hint) => wrong.hint(hint),
                    None => wrong.hint(format!("add `destinations.{}`", shown(to))),
                };
                self.report.error(wrong, place.span, &place.path);
            }
        }
        for entry in written.iter().filter(|entry| !used.contains(entry.key.as_str())) {
            let wrong = Wrong::new(format!("no route delivers to \"{}\"", shown(&entry.key)));
            self.report.warn(wrong, entry.key_span, format!("destinations.{}", entry.key));
        }
    }

    fn check_paths(&mut self, drafts: &[Draft]) {
        let with_path: Vec<(&Draft, &PathPattern)> = drafts.iter().filter_map(|draft| Some((draft, draft.pattern.as_ref()?))).collect();
        let index = RouteIndex::of(with_path.iter().map(|(_, pattern)| *pattern));
        for (at, (_, pattern)) in with_path.iter().enumerate() {
            let Some(rival) = index.rival(at, pattern) else { continue };
            // Whichever found the other, the one further down in the file is told.
            let (Some((rival, other)), Some((draft, pattern))) = (with_path.get(at.min(rival)), with_path.get(at.max(rival))) else {
                continue;
            };
            let same = pattern.text == other.text || (!pattern.has_any() && !other.has_any());
            let wrong = if same {
                Wrong::new(format!("can never match: `routes.{}.path` is the same", rival.name)).hint("one route may take several methods")
            } else {
                Wrong::new(format!("`{}` and `{}` of `routes.{}` fit the same paths", pattern.text, other.text, rival.name))
                    .hint("make one of them literal where they meet")
            };
            self.report.error(wrong, draft.path.span, &draft.path.path);
        }
    }

    fn check_quarantine(&mut self, draft: &Draft, store: &StoreSettings) {
        let Some((quarantine, place)) = &draft.quarantine else { return };
        if quarantine.max_age > store.retention {
            // Whether one was released already is known by its event, which must still be there.
            let wrong = Wrong::new(format!(
                "refused requests are kept for {}, longer than events (`store.retention` is {})",
                show(quarantine.max_age),
                show(store.retention)
            ));
            self.report.error(wrong.hint("set `max_age` no longer than that"), place.span, &place.path);
        }
        if draft.verifier.as_ref().is_some_and(Verifier::lets_all_in) {
            let wrong = Wrong::new("nothing comes into this quarantine: the route takes every request").hint("its `verify` is `none`");
            self.report.warn(wrong, place.span, &place.path);
        }
    }

    fn check_route(&mut self, draft: &Draft, destinations: &BTreeMap<Name, Destination>, server: &Server, store: &StoreSettings) {
        if draft.body_limit > server.limits.in_flight {
            let wrong = Wrong::new(format!(
                "a body of {} could never be taken: `server.limits.in_flight` is {}",
                show_size(draft.body_limit as u64),
                show_size(server.limits.in_flight as u64)
            ));
            self.report.error(wrong, draft.body.span, &draft.body.path);
        }
        if draft.dedupe_window > store.retention && !draft.is_pulled {
            let wrong = Wrong::new(format!(
                "keys are remembered for {}, events are kept for {} only: a late repeat is answered, and its event is gone",
                show(draft.dedupe_window),
                show(store.retention)
            ));
            self.report.warn(wrong, draft.window.span, &draft.window.path);
        }
        self.check_quarantine(draft, store);
        if let Some((_, place)) = &draft.confirm
            && draft.verifier.as_ref().is_some_and(|verifier| !verifier.keeps_for_operator())
        {
            let wrong =
                Wrong::new("no request of this route asks for a confirmation").hint("SNS goes with `verify: { preset: aws-sns, … }`");
            self.report.error(wrong, place.span, &place.path);
        }
        let unbound = match draft.verifier.as_ref().map(Verifier::binding) {
            Some(_) if draft.is_pulled => None,
            Some(Binding::None) => Some("the scheme does not bind the body: nothing in it is proven to come from the sender"),
            Some(Binding::Fields) => Some("the scheme binds some fields of the body only: believe no others"),
            Some(Binding::Whole) | None => None,
        };
        if let Some(text) = unbound {
            self.report.warn(Wrong::new(text), draft.verify.span, &draft.verify.path);
        }
        if draft.verifier.as_ref().is_some_and(Verifier::keeps_credentials) {
            let wrong = Wrong::new("the sender's secret stands in the body, which is stored and delivered as it is");
            self.report.warn(wrong.hint("whoever may read events may send them too"), draft.verify.span, &draft.verify.path);
        }
        // Of InPaSy's callbacks events with a body are made.
        if draft.methods.contains(&Method::GET) && draft.inpasy.is_none() {
            for (DeliverTo { to, .. }, place) in &draft.deliver {
                if destinations.get(to).is_some_and(|destination| destination.format == Format::Original) {
                    let wrong =
                        Wrong::new(format!("a GET has no body, and \"{to}\" gets the body only")).hint("`as: json` sends the query too");
                    self.report.warn(wrong, place.span, &place.path);
                }
            }
        }
    }
}
