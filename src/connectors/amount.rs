//! Money: decimals with a point, read from a text or from a number's own digits, never through a float.

use rust_decimal::Decimal;
use serde_json::Value;

/// Most characters of an amount: more than any currency needs, fewer than overflow.
const AMOUNT_CHARS_MAX: usize = 24;

/// The amount in this value, with at most so many decimal places.
///
/// # Errors
/// What is wrong with it, as a fragment.
pub(super) fn read(value: &Value, places_max: u32) -> Result<Decimal, String> {
    match value {
        Value::String(text) => parse(text.trim(), places_max),
        // The digits as they were sent: the parser keeps them.
        Value::Number(number) => of_number(&number.to_string(), places_max),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            Err(format!("expected an amount such as 20.00, found {}", super::json::described(value)))
        }
    }
}

/// The amount in this text.
///
/// # Errors
/// What is wrong with it, as a fragment.
pub(super) fn parse(text: &str, places_max: u32) -> Result<Decimal, String> {
    let shown = super::text::quoted(text);
    if text.contains(',') {
        return Err(format!("`{shown}` has a comma; amounts have a decimal point, such as 20.00"));
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || text.len() > AMOUNT_CHARS_MAX {
        return Err(format!("`{shown}` is not an amount such as 20.00"));
    }
    let amount = Decimal::from_str_exact(text).map_err(|_error| format!("`{shown}` is too long for an amount"))?;
    within(amount, places_max)
}

fn of_number(text: &str, places_max: u32) -> Result<Decimal, String> {
    if !text.contains(['e', 'E']) {
        return parse(text, places_max);
    }
    let wrong = || format!("`{}` is too long for an amount", super::text::quoted(text));
    let amount = Decimal::from_scientific(text).map_err(|_error| wrong())?;
    if amount.to_string().len() > AMOUNT_CHARS_MAX { Err(wrong()) } else { within(amount, places_max) }
}

/// More places than the currency has are an error, not rounded: somebody calculated wrongly.
fn within(amount: Decimal, places_max: u32) -> Result<Decimal, String> {
    if amount.normalize().scale() > places_max {
        return Err(format!("{amount} has more than {places_max} decimal places"));
    }
    Ok(amount)
}

/// With exactly so many places, such as `154.00`. The amount has no more than that.
pub(super) fn fixed(mut amount: Decimal, places: u32) -> String {
    amount.rescale(places);
    amount.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<String, String> {
        read(&serde_json::from_str(json).unwrap(), 2).map(|amount| fixed(amount, 2))
    }

    #[test]
    fn an_amount_is_the_same_as_text_and_as_number() {
        for (json, expected) in [
            ("154", "154.00"),
            (r#""154""#, "154.00"),
            ("154.0", "154.00"),
            (r#"" 0.10 ""#, "0.10"),
            ("0.1000", "0.10"),
            ("1.54e2", "154.00"),
            ("-3.5", "-3.50"),
            // No float holds this one.
            ("9007199254740993.01", "9007199254740993.01"),
        ] {
            assert_eq!(of(json).as_deref(), Ok(expected), "{json}");
        }
    }

    #[test]
    fn what_is_no_decimal_is_refused_and_nothing_is_rounded() {
        for json in [
            r#""20,00""#,
            r#""1.000,00""#,
            r#""20.""#,
            r#"".5""#,
            r#""1e3""#,
            r#""""#,
            r#""NaN""#,
            "true",
            "null",
            "[]",
            r#""+1""#,
            r#""1_0""#,
        ] {
            assert!(of(json).is_err(), "{json}");
        }
        assert!(of("0.005").unwrap_err().contains("decimal places"));
        assert!(of("1e300").is_err() && of("123456789012345678901234567890").is_err());
        assert!(of(r#""20,00""#).unwrap_err().contains("comma"));
    }
}
