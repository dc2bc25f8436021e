//! An order: the parameters of the vendor's table, checked before anything is started.

use std::fmt;

use serde_json::Value;

use super::settings::Settings;
use crate::connectors::{amount, json, text};

/// Longest value of a parameter, in bytes.
const VALUE_BYTES_MAX: usize = 1000;

/// Most parameters that the table does not know and that are passed on.
const UNKNOWN_MAX: usize = 32;

/// A transaction id: twelve digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lid(Box<str>);

impl Lid {
    /// How many digits it has.
    pub const DIGITS: usize = 12;

    /// The id in this text.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.len() == Self::DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| Self(text.into()))
    }

    /// An id out of random bits. The first digit is no zero, so that a system that takes it for a number keeps all twelve.
    /// The caller makes sure that it was never issued before.
    pub fn from_random(bits: u64) -> Self {
        const LOWEST: u64 = 100_000_000_000;
        Self((LOWEST + bits % (9 * LOWEST)).to_string().into())
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Lid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How an order is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `rechnung`
    Invoice,
    /// `kostenlos`
    Free,
    /// `giropay`
    Giropay,
    /// `kreditkarte`
    CreditCard,
    /// `lastschrift`
    DirectDebit,
}

impl Method {
    /// Every method with the vendor's word.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("rechnung", Self::Invoice),
        ("kostenlos", Self::Free),
        ("giropay", Self::Giropay),
        ("kreditkarte", Self::CreditCard),
        ("lastschrift", Self::DirectDebit),
    ];

    /// Whether the payer is sent to the Sparkassen-Internetkasse; otherwise a status page ends the start.
    pub fn is_online(self) -> bool {
        matches!(self, Self::Giropay | Self::CreditCard | Self::DirectDebit)
    }
}

/// What a parameter holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The transaction id.
    Lid,
    /// Any text.
    Text,
    /// An e-mail address.
    Mail,
    /// A quantity above zero.
    Quantity,
    /// An amount with a decimal point.
    Amount,
    /// One of [`Method::WORDS`].
    Method,
}

/// One row of the vendor's table.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name; case counts.
    pub name: &'static str,
    /// Whether it must be there.
    pub mandatory: bool,
    /// What it holds.
    pub shape: Shape,
}

const fn row(name: &'static str, mandatory: bool, shape: Shape) -> Parameter {
    Parameter { name, mandatory, shape }
}

const VKZ: &str = "vkz";
const LID: &str = "lid";
const KIND: &str = "auftragsart";
const TOTAL: &str = "betraggp";
const METHOD: &str = "Bezahlverfahren";

/// The vendor's table less `vkz`, which is a setting. `lid` may be left out: then one is fetched or made.
pub const PARAMETERS: &[Parameter] = &[
    row(LID, false, Shape::Lid),
    row(KIND, true, Shape::Text),
    row("Anrede", false, Shape::Text),
    row("Vorname", false, Shape::Text),
    row("Name", true, Shape::Text),
    row("Firma", false, Shape::Text),
    row("StrasseHnr", false, Shape::Text),
    row("PLZ", false, Shape::Text),
    row("Ort", false, Shape::Text),
    row("Telefon", false, Shape::Text),
    row("Fax", false, Shape::Text),
    row("Mail", true, Shape::Mail),
    row("hinweis", true, Shape::Text),
    row("menge", true, Shape::Quantity),
    // Mandatory for the kinds of orders whose total the application sets (`total_for`).
    row(TOTAL, false, Shape::Amount),
    row("betrag", true, Shape::Amount),
    row(METHOD, true, Shape::Method),
];

/// What is wrong with one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterProblem {
    /// Its name.
    pub name: String,
    /// What is wrong, as a fragment.
    pub message: String,
}

/// A checked order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its id, where it brings one.
    pub lid: Option<Lid>,
    /// How it is paid.
    pub method: Method,
    /// Everything but `vkz` and `lid`, in the table's order, the unknown last.
    pub parameters: Vec<(String, String)>,
}

impl Order {
    /// Checks a posted order.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn new(posted: &Value, settings: &Settings) -> Result<Self, Vec<ParameterProblem>> {
        let problem = |name: &str, message: String| ParameterProblem { name: text::quoted(name), message };
        let Value::Object(fields) = posted else { return Err(vec![problem("", "the order is not a JSON object".to_owned())]) };
        let mut problems = Vec::new();
        let mut parameters = Vec::new();
        let (mut lid, mut method) = (None, None);
        let total_given = fields.get(KIND).and_then(json::scalar).is_some_and(|kind| settings.total_for.contains(&kind));
        for row in PARAMETERS {
            let mandatory = row.mandatory || (row.name == TOTAL && total_given);
            match fields.get(row.name).filter(|value| is_there(value)).map(|value| checked(row.shape, value)) {
                None if mandatory => problems.push(problem(row.name, missing(row.name, fields, total_given))),
                None => {}
                Some(Err(message)) => problems.push(problem(row.name, message)),
                Some(Ok(text)) => {
                    match row.shape {
                        Shape::Lid => lid = Lid::parse(&text),
                        Shape::Method => method = Method::WORDS.iter().find(|(word, _)| *word == text).map(|(_, method)| *method),
                        Shape::Text | Shape::Mail | Shape::Quantity | Shape::Amount => {}
                    }
                    if row.shape != Shape::Lid {
                        parameters.push((row.name.to_owned(), text));
                    }
                }
            }
        }
        for (name, value) in fields.iter().filter(|(name, _)| PARAMETERS.iter().all(|row| row.name != *name)) {
            if name == VKZ {
                problems.push(problem(name, "comes from the route's settings; leave it out".to_owned()));
            } else if is_there(value) {
                match plain(value) {
                    Ok(text) => parameters.push((name.clone(), text)),
                    Err(message) => problems.push(problem(name, message)),
                }
            }
        }
        if parameters.len() > PARAMETERS.len() + UNKNOWN_MAX {
            problems.push(problem("", format!("more than {UNKNOWN_MAX} parameters that the vendor's table does not know")));
        }
        for (name, value) in &parameters {
            if let Err(foreign) = settings.charset.encode(name).and(settings.charset.encode(value)) {
                problems.push(problem(name, format!("`{foreign}` can't be written in ISO-8859-1, the route's charset")));
            }
        }
        match method {
            Some(method) if problems.is_empty() => Ok(Self { lid, method, parameters }),
            Some(_) | None => Err(problems),
        }
    }
}

fn is_there(value: &Value) -> bool {
    !value.is_null() && value.as_str().is_none_or(|text| !text.trim().is_empty())
}

fn missing(name: &str, fields: &serde_json::Map<String, Value>, total_given: bool) -> String {
    let other = fields.keys().find(|key| key.as_str() != name && key.eq_ignore_ascii_case(name));
    match other {
        Some(other) => format!("is missing; `{}` is written differently", text::quoted(other)),
        None if name == TOTAL && total_given => "is missing: `total_for` says that the application sets this kind's total".to_owned(),
        None => "is missing".to_owned(),
    }
}

fn plain(value: &Value) -> Result<String, String> {
    let text = json::scalar(value).ok_or_else(|| format!("expected a text, found {}", json::described(value)))?;
    if text.len() > VALUE_BYTES_MAX {
        return Err(format!("is longer than {VALUE_BYTES_MAX} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("holds a line break or another control character".to_owned());
    }
    Ok(text)
}

fn checked(shape: Shape, value: &Value) -> Result<String, String> {
    match shape {
        Shape::Text => plain(value),
        Shape::Lid => {
            let text = plain(value)?;
            if Lid::parse(&text).is_some() { Ok(text) } else { Err("is not a transaction id of 12 digits".to_owned()) }
        }
        Shape::Mail => {
            let text = plain(value)?;
            let options = email_address::Options::default().without_display_text().with_required_tld();
            match email_address::EmailAddress::parse_with_options(&text, options) {
                Ok(_) => Ok(text),
                Err(error) => Err(format!("`{}` is not an e-mail address: {error}", text::quoted(&text))),
            }
        }
        Shape::Quantity => {
            let quantity = amount::read(value, 3)?;
            if quantity <= rust_decimal::Decimal::ZERO {
                Err("must be more than 0".to_owned())
            } else {
                Ok(quantity.normalize().to_string())
            }
        }
        Shape::Amount => {
            let amount = amount::read(value, 2)?;
            if amount < rust_decimal::Decimal::ZERO { Err("is less than 0".to_owned()) } else { Ok(amount::fixed(amount, 2)) }
        }
        Shape::Method => {
            let text = plain(value)?.to_lowercase();
            let words = Method::WORDS.map(|(word, _)| word);
            if words.contains(&text.as_str()) { Ok(text) } else { Err(format!("is none of {}", words.join(", "))) }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::SettingsDraft;
    use super::*;

    pub(crate) fn settings(charset: &str, total_for: &[&str]) -> Settings {
        Settings::new(SettingsDraft {
            start_url: Some("https://inpasy.example/start".parse().unwrap()),
            vkz: Some("575488".to_owned()),
            total_for: total_for.iter().map(|kind| (*kind).to_owned()).collect(),
            param: Some("status".to_owned()),
            success: vec!["ok".to_owned()],
            failure: vec!["fehler".to_owned()],
            charset: Some(charset.to_owned()),
            ..SettingsDraft::default()
        })
        .unwrap()
    }

    /// The examples of the seed's table.
    fn seed() -> Value {
        json!({
            "lid": "123456789012", "auftragsart": "H010002", "Anrede": "Herr", "Vorname": "Klaus", "Name": "Meier", "Firma": "XYZ GmbH",
            "StrasseHnr": "Bahnhofstr 25", "PLZ": "47111", "Ort": "Meiershausen", "Telefon": "012345698", "Fax": "012345699",
            "Mail": "k.meier@maildienst.de", "hinweis": "Kartenbestellung", "menge": "2", "betraggp": "20.00", "betrag": "10.00",
            "Bezahlverfahren": "rechnung"
        })
    }

    fn problem(change: &Value) -> String {
        let mut order = seed();
        for (name, value) in change.as_object().unwrap() {
            order[name] = value.clone();
        }
        let problems = Order::new(&order, &settings("iso-8859-1", &["H010002"])).unwrap_err();
        problems.iter().map(|problem| format!("{}: {}", problem.name, problem.message)).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn the_seeds_examples_are_an_order() {
        let order = Order::new(&seed(), &settings("utf-8", &[])).unwrap();
        assert_eq!((order.lid.as_ref().unwrap().as_str(), order.method), ("123456789012", Method::Invoice));
        assert_eq!(order.parameters.len(), 16);
        assert!(order.parameters.contains(&("betraggp".to_owned(), "20.00".to_owned())));
    }

    #[test]
    fn every_mandatory_parameter_that_is_missing_is_named() {
        let problems = Order::new(&json!({}), &settings("utf-8", &[])).unwrap_err();
        let names: Vec<_> = problems.iter().map(|problem| problem.name.as_str()).collect();
        assert_eq!(names, ["auftragsart", "Name", "Mail", "hinweis", "menge", "betrag", "Bezahlverfahren"]);
        assert!(problem(&json!({ "Mail": null, "mail": "a@b.de" })).starts_with("Mail: is missing; `mail` is written differently"));
        assert!(Order::new(&json!([]), &settings("utf-8", &[])).is_err());
    }

    #[test]
    fn the_total_is_mandatory_for_the_kinds_that_say_so() {
        assert!(problem(&json!({ "betraggp": null })).contains("betraggp: is missing: `total_for`"));
        let mut order = seed();
        order.as_object_mut().unwrap().remove("betraggp");
        assert!(Order::new(&order, &settings("utf-8", &["H010003"])).is_ok());
    }

    #[test]
    fn amounts_quantities_mail_and_method_are_checked() {
        for (change, part) in [
            (json!({ "betrag": "10,00" }), "comma"),
            (json!({ "betrag": "10.005" }), "decimal places"),
            (json!({ "betrag": "-1.00" }), "less than 0"),
            (json!({ "menge": 0 }), "more than 0"),
            (json!({ "menge": "zwei" }), "not an amount"),
            (json!({ "Mail": "k.meier" }), "not an e-mail"),
            (json!({ "Mail": "Klaus <k.meier@maildienst.de>" }), "not an e-mail"),
            (json!({ "Bezahlverfahren": "paypal" }), "rechnung, kostenlos"),
            (json!({ "lid": "1234" }), "12 digits"),
            (json!({ "lid": "12345678901²" }), "12 digits"),
            (json!({ "vkz": "1" }), "leave it out"),
            (json!({ "hinweis": "a\nb" }), "control character"),
            (json!({ "hinweis": "x".repeat(1001) }), "longer than"),
            (json!({ "Name": ["Meier"] }), "expected a text"),
            (json!({ "Name": "Łukasz" }), "`Ł` can't be written"),
            (json!({ "hinweis": "5 €" }), "`€` can't be written"),
        ] {
            let said = problem(&change);
            assert!(said.contains(part), "{change}: {said}");
        }
    }

    #[test]
    fn numbers_are_written_with_a_point_and_two_places() {
        let mut order = seed();
        order["betrag"] = json!(10);
        order["menge"] = json!("2.50");
        order["Bezahlverfahren"] = json!("Kreditkarte");
        order["Neu"] = json!("x");
        let order = Order::new(&order, &settings("utf-8", &[])).unwrap();
        for pair in [("betrag", "10.00"), ("menge", "2.5"), ("Bezahlverfahren", "kreditkarte"), ("Neu", "x")] {
            assert!(order.parameters.contains(&(pair.0.to_owned(), pair.1.to_owned())), "{pair:?}");
        }
        assert!(order.method.is_online());
    }

    #[test]
    fn an_id_has_twelve_digits_whatever_the_bits() {
        for bits in [0, 1, u64::MAX, 899_999_999_999, 900_000_000_000] {
            let lid = Lid::from_random(bits);
            assert_eq!(Lid::parse(lid.as_str()), Some(lid));
        }
        assert_eq!(Lid::from_random(0).as_str(), "100000000000");
        assert_eq!(Lid::parse(" 12345678901"), None);
    }
}
