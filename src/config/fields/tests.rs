use std::time::Duration;

use super::*;
use crate::config::limits::{
    BODY_BYTES_DEFAULT, CONCURRENCY_DEFAULT, CONNECTIONS_DEFAULT, DEDUPE_WINDOW_DEFAULT, GRACE_DEFAULT, HEAD_BYTES_DEFAULT,
    IN_FLIGHT_BYTES_DEFAULT, READ_TIMEOUT_DEFAULT, RETENTION_DEFAULT, STORE_BYTES_DEFAULT, TIMEOUT_DEFAULT,
};
use crate::config::{Breaker, Retry, scalar, units};
use crate::document::{Value, parse};

const TABLES: [&Table; 27] = [
    &ROOT,
    &SERVER,
    &SERVER_TLS,
    &SERVER_LIMITS,
    &ADMIN,
    &TOKEN,
    &STORE,
    &ROUTE,
    &KEY_SOURCE,
    &DEDUPE,
    &ORDER_BY,
    &FAILING,
    &PARK,
    &ROUTE_LIMITS,
    &RESPOND,
    &ANSWER,
    &DELIVER,
    &DESTINATION,
    &SIGN,
    &AUTH,
    &BASIC,
    &OAUTH2,
    &RETRY,
    &DESTINATION_LIMITS,
    &BREAKER,
    &CLIENT_TLS,
    &SECRET,
];

fn default(table: &Table, name: &str) -> &'static str {
    table.fields.iter().find(|field| field.name == name).unwrap().default
}

#[test]
fn keys_are_distinct_and_every_one_is_explained() {
    for table in TABLES {
        for (index, field) in table.fields.iter().enumerate() {
            assert!(field.doc.ends_with('.') && !table.doc.is_empty(), "{}.{}", table.name, field.name);
            assert!(table.fields.iter().skip(index + 1).all(|other| other.name != field.name), "{}.{}", table.name, field.name);
            assert!(!field.required || field.default.is_empty(), "{}.{}", table.name, field.name);
        }
    }
}

#[test]
fn every_default_is_allowed_by_its_own_shape() {
    for field in TABLES.iter().flat_map(|table| table.fields).filter(|field| !field.default.is_empty()) {
        let node = parse(&format!("k: {}", field.default)).unwrap().get("k").cloned().unwrap();
        let checked = match (&field.shape, &node.value) {
            (Shape::List { of, .. }, Value::Sequence(items)) => items.iter().try_for_each(|item| scalar::check(of, item)),
            (shape, _) => scalar::check(shape, &node),
        };
        assert_eq!(checked, Ok(()), "{}", field.name);
    }
}

#[test]
fn the_defaults_said_are_the_defaults_used() {
    for (table, name, bytes) in [
        (&SERVER_LIMITS, "body", BODY_BYTES_DEFAULT),
        (&SERVER_LIMITS, "headers", HEAD_BYTES_DEFAULT),
        (&SERVER_LIMITS, "in_flight", IN_FLIGHT_BYTES_DEFAULT),
        (&STORE, "max_size", STORE_BYTES_DEFAULT),
    ] {
        assert_eq!(units::size(default(table, name)), Ok(bytes), "{name}");
    }
    let (retry, breaker) = (Retry::default(), Breaker::default());
    for (table, name, time) in [
        (&SERVER_LIMITS, "read_timeout", READ_TIMEOUT_DEFAULT),
        (&SERVER, "grace", GRACE_DEFAULT),
        (&STORE, "retention", RETENTION_DEFAULT),
        (&DEDUPE, "window", DEDUPE_WINDOW_DEFAULT),
        (&DESTINATION, "timeout", TIMEOUT_DEFAULT),
        (&RETRY, "first", retry.first),
        (&RETRY, "min", retry.min),
        (&RETRY, "max", retry.max),
        (&RETRY, "max_age", retry.max_age),
        (&BREAKER, "cool_down", breaker.cool_down),
    ] {
        assert_eq!(units::duration(default(table, name)), Some(time).filter(|time| *time > Duration::ZERO), "{name}");
    }
    for (table, name, number) in [
        (&SERVER_LIMITS, "connections", CONNECTIONS_DEFAULT),
        (&DESTINATION_LIMITS, "concurrency", CONCURRENCY_DEFAULT),
        (&BREAKER, "failures", breaker.failures.into()),
    ] {
        assert_eq!(default(table, name), number.to_string(), "{name}");
    }
    assert_eq!(default(&RETRY, "factor"), retry.factor.to_string());
    assert_eq!(default(&RETRY, "never"), format!("{:?}", retry.never));
}
