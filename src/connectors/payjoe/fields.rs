//! The vendor's table of `PayJoeZahlung`.

/// One field of a record.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Whether it must be there (`m` in the vendor's table).
    pub mandatory: bool,
    /// What it holds.
    pub kind: Kind,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text of at most so many characters.
    Text(usize),
    /// A BIC of at most so many characters.
    Bic(usize),
    /// An IBAN of at most so many characters.
    Iban(usize),
    /// A whole number.
    Integer,
    /// A date and time.
    Date,
    /// A currency, by ISO 4217 number or letters.
    Currency,
    /// An amount.
    Amount,
    /// Yes or no, also as 1 or 0.
    Flag,
    /// `Zahlungsstatus`: 0 unknown, 1 paid.
    Status,
}

const fn must(name: &'static str, kind: Kind) -> Field {
    Field { name, mandatory: true, kind }
}

const fn may(name: &'static str, kind: Kind) -> Field {
    Field { name, mandatory: false, kind }
}

/// The name of the field by which PayJoe knows a repeat.
pub(super) const UNIQUE: &str = "UniqueIdentifier";

/// Every field, in the vendor's order.
pub const FIELDS: &[Field] = &[
    may("BerichtID", Kind::Integer),
    may(UNIQUE, Kind::Text(80)),
    must("Buchungsdatum", Kind::Date),
    may("BerichtEndedatum", Kind::Date),
    may("BerichtDepositdatum", Kind::Date),
    must("Valutadatum", Kind::Date),
    must("Waehrung", Kind::Currency),
    may("NettoBetrag", Kind::Amount),
    may("NettoWaehrung", Kind::Currency),
    must("BruttoBetrag", Kind::Amount),
    must("BruttoWaehrung", Kind::Currency),
    may("GebuehrBetrag", Kind::Amount),
    may("GebuehrWaehrung", Kind::Currency),
    may("BankleitzahlZahlender", Kind::Text(10)),
    may("BIC", Kind::Bic(11)),
    may("KontonummerZahlender", Kind::Text(20)),
    may("IBAN", Kind::Iban(34)),
    may("NameZahlender1", Kind::Text(100)),
    may("NameZahlender2", Kind::Text(100)),
    may("Belegnummer", Kind::Text(30)),
    may("Bestellnummer", Kind::Text(30)),
    may("TransaktionsID", Kind::Text(100)),
    may("Kundennummer", Kind::Text(30)),
    may("Referenz1", Kind::Text(50)),
    may("Referenz2", Kind::Text(50)),
    may("Referenz3", Kind::Text(50)),
    may("Referenz4", Kind::Text(50)),
    may("Marktplatz", Kind::Text(50)),
    may("Zahlungsstatus", Kind::Status),
    may("Zahlungstyp", Kind::Text(50)),
    may("NichtSaldorelevant", Kind::Flag),
    may("Buchungstext", Kind::Text(50)),
];
