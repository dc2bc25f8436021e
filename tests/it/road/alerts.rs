//! The alerting rules that come along speak of what Kurier measures.

use std::collections::BTreeSet;

use kurier::document::{self, Node};

use super::routes;
use crate::harness::{Sink, repository, request};

fn expressions() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(repository("deploy/alerts.yaml")).unwrap();
    let tree = document::parse(&text).unwrap();
    let of = |rule: &Node, key: &str| rule.get(key).and_then(Node::as_str).unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for group in tree.get("groups").and_then(Node::as_sequence).unwrap() {
        for rule in group.get("rules").and_then(Node::as_sequence).unwrap() {
            let (alert, record) = (of(rule, "alert"), of(rule, "record"));
            assert!(alert.is_empty() != record.is_empty(), "a rule alerts or records");
            if record.is_empty() {
                let severity = of(rule.get("labels").unwrap(), "severity");
                assert!(["critical", "warning", "info"].contains(&severity.as_str()), "{alert}");
                let annotations = rule.get("annotations").unwrap();
                assert!(!of(annotations, "summary").is_empty() && !of(annotations, "description").is_empty(), "{alert}");
            }
            found.push((alert + &record, of(rule, "expr")));
        }
    }
    found
}

/// Names in an expression that begin so.
fn names(expression: &str, start: &str) -> BTreeSet<String> {
    let word = |at: usize| expression[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':')).collect();
    expression.match_indices(start).map(|(at, _)| word(at)).collect()
}

#[test]
fn every_alert_is_about_series_that_are_there() {
    let sink = Sink::start();
    let home = super::home(&sink);
    home.write("routes.yaml", &routes(&sink).replace("    path: /callbacks/github\n", "    path: /callbacks/github\n    quarantine: {}\n"));
    let kurier = home.serve();
    let metrics = request(kurier.admin, "GET", "/metrics", &[], b"").text();
    let series = |name: &str| metrics.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let expressions = expressions();
    let recorded: BTreeSet<&str> = expressions.iter().map(|(name, _)| name.as_str()).filter(|name| name.contains(':')).collect();
    let mut seen = BTreeSet::new();
    for (rule, expression) in &expressions {
        let of_kurier = names(expression, "kurier_");
        assert!(!of_kurier.is_empty(), "{rule} is about nothing of Kurier");
        for name in &of_kurier {
            assert!(series(name), "{rule}: there is no series {name} in\n{metrics}");
        }
        for name in names(expression, "kurier:") {
            assert!(recorded.contains(name.as_str()), "{rule}: {name} is not recorded");
        }
        for reasons in expression.split("reason=~\"").skip(1) {
            for reason in reasons.split('"').next().unwrap().split('|') {
                assert!(metrics.contains(&format!("reason=\"{reason}\"")), "{rule}: there is no reason {reason}");
            }
        }
        seen.extend(of_kurier);
    }
    for metric in [
        "kurier_requests_refused_total",
        "kurier_dead_letters",
        "kurier_oldest_pending_seconds",
        "kurier_store_bytes",
        "kurier_destination_paused",
    ] {
        assert!(seen.contains(metric), "nothing alerts to {metric}");
    }
    assert!(metrics.contains("kurier_config_reloads_total{result=\"refused\"}"));

    let paused = |on: &str| {
        request(kurier.admin, "GET", "/metrics", &[], b"")
            .text()
            .contains(&format!("kurier_destination_paused{{destination=\"erp\"}} {on}"))
    };
    assert!(paused("0"));
    assert_eq!(request(kurier.admin, "POST", "/api/v1/destinations/erp/pause", &[], b"").status(), 200);
    assert!(paused("1"));
    assert!(kurier.terminate().success());
}
