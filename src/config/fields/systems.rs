//! The keys of the five systems' settings. The connectors say what they are; here they become fields like all others.

use std::sync::LazyLock;

use super::{AUTH, RETRY};
use crate::config::table::{Field, Shape, Table};
use crate::connectors::{Holds, Key, bankintegration, dvelop, inpasy, payjoe, smartbusiness, sns};

pub(super) static ACKNOWLEDGE: Table = Table {
    name: "acknowledge",
    doc: "The call back to the source.",
    one: true,
    fields: &[
        Field::new("dvelop", Shape::System(&ACKNOWLEDGE_DVELOP), "The report to d.velop smart invoice, once the event is settled."),
        Field::new("sns", Shape::System(&ACKNOWLEDGE_SNS), "The confirmation of a subscription to a topic of Amazon SNS."),
    ],
};

static ACKNOWLEDGE_SNS: LazyLock<Table> =
    LazyLock::new(|| table("acknowledge_sns", "The confirmation of a subscription to a topic of Amazon SNS.", sns::KEYS));

static ACKNOWLEDGE_DVELOP: LazyLock<Table> =
    LazyLock::new(|| table("acknowledge_dvelop", "The report of a transfer's result to d.velop smart invoice.", dvelop::ACKNOWLEDGE_KEYS));

pub(super) static PAYJOE: LazyLock<Table> = LazyLock::new(|| table("payjoe", "Uploads to PayJoe.", payjoe::KEYS));

pub(super) static BANKINTEGRATION: LazyLock<Table> =
    LazyLock::new(|| table("bankintegration", "One customer's account at BankIntegration.dk.", bankintegration::KEYS));

pub(super) static SMARTBUSINESS: LazyLock<Table> =
    LazyLock::new(|| table("smartbusiness", "One client of PostFinance SmartBusiness.", smartbusiness::KEYS));

pub(super) static INPASY: LazyLock<Table> = LazyLock::new(|| table("inpasy", "Orders of InPaSy.", inpasy::KEYS));

pub(super) static PULL: Table = Table {
    name: "pull",
    doc: "Where events are fetched.",
    one: true,
    fields: &[
        Field::new("dvelop", Shape::System(&PULL_DVELOP), "Transfers of d.velop smart invoice."),
        Field::new("bankintegration", Shape::System(&PULL_BANKINTEGRATION), "Statements, balances or the status of payments."),
        Field::new("smartbusiness", Shape::System(&PULL_SMARTBUSINESS), "A list of PostFinance SmartBusiness."),
    ],
};

static PULL_DVELOP: LazyLock<Table> =
    LazyLock::new(|| table("pull_dvelop", "Transfers of d.velop smart invoice that wait.", dvelop::PULL_KEYS));

static PULL_BANKINTEGRATION: LazyLock<Table> = LazyLock::new(|| {
    let keys = [bankintegration::KEYS, bankintegration::PULL_KEYS].concat();
    table("pull_bankintegration", "What is fetched from BankIntegration.dk.", &keys)
});

static PULL_SMARTBUSINESS: LazyLock<Table> = LazyLock::new(|| {
    let own = smartbusiness::KEYS.iter().filter(|key| key.name != "request").copied();
    let keys: Vec<Key> = own.chain(smartbusiness::PULL_KEYS.iter().copied()).collect();
    table("pull_smartbusiness", "A list of PostFinance SmartBusiness.", &keys)
});

/// The table of a connector's keys. Made once for the whole process, so what it holds may stay for ever.
fn table(name: &'static str, doc: &'static str, keys: &[Key]) -> Table {
    let fields: Vec<Field> = keys.iter().map(|key| field(name, key)).collect();
    Table { name, doc, one: false, fields: Box::leak(fields.into_boxed_slice()) }
}

fn field(table: &str, key: &Key) -> Field {
    Field { name: key.name, shape: shape(table, key), required: key.required, default: key.default, doc: key.doc }
}

fn shape(table: &str, key: &Key) -> Shape {
    match key.holds {
        Holds::Text => Shape::Text,
        Holds::TextOrSecret => Shape::TextOrSecret,
        Holds::Secret => Shape::Secret,
        Holds::Url => Shape::Url,
        Holds::Flag => Shape::Flag,
        Holds::Integer { min, max } => Shape::Integer { min, max },
        Holds::Duration { min, max } => Shape::Duration { min, max },
        Holds::Word(words) => Shape::Word(words),
        Holds::Date => Shape::Date,
        Holds::Texts => Shape::List { of: &Shape::Text, min: 1 },
        Holds::Networks => Shape::List { of: &Shape::Net, min: 0 },
        Holds::Object(keys) => {
            let name: &'static str = Box::leak(format!("{table}_{}", key.name).into_boxed_str());
            Shape::Object(Box::leak(Box::new(self::table(name, key.doc, keys))))
        }
        Holds::Auth => Shape::Object(&AUTH),
        Holds::Retry => Shape::Object(&RETRY),
    }
}
