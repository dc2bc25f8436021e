//! When a request says it was signed.

use std::time::Duration;

use super::Refusal;
use super::limits::TIMESTAMP_DIGITS_MAX;
use super::request::Scope;
use super::source::Source;
use crate::model::Timestamp;

/// `timestamp`, compiled.
pub(super) struct Freshness {
    pub(super) from: Source,
    pub(super) unit: Unit,
    pub(super) tolerance: Duration,
}

/// How the time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Millis,
    /// Seconds or milliseconds, told apart by the number of digits.
    Auto,
    Rfc3339,
    HttpDate,
}

/// From so many digits on `auto` reads milliseconds: seconds have 10 until the year 2286.
const AUTO_MILLIS_DIGITS: usize = 12;

impl Freshness {
    /// Refuses what is further from now than the tolerance, in either direction.
    pub(super) fn check(&self, scope: &Scope<'_, '_, '_>, now: Option<Timestamp>) -> Result<(), Refusal> {
        let text = scope.look(&self.from)?.ok_or(Refusal::MissingHeader)?;
        let text = std::str::from_utf8(&text).map_err(|_error| Refusal::Malformed)?;
        let signed_at = self.unit.parse(text).ok_or(Refusal::Malformed)?;
        match now {
            Some(now) if now.since(signed_at).max(signed_at.since(now)) > self.tolerance => Err(Refusal::Stale),
            Some(_) | None => Ok(()),
        }
    }
}

impl Freshness {
    /// How far the time said is from now, in words.
    pub(super) fn age(&self, scope: &Scope<'_, '_, '_>, now: Option<Timestamp>) -> Option<String> {
        let text = scope.look(&self.from).ok()??;
        let (signed_at, now) = (self.unit.parse(std::str::from_utf8(&text).ok()?)?, now?);
        let (past, future) = (now.since(signed_at).as_secs(), signed_at.since(now).as_secs());
        Some(if future > 0 { format!("{future} s from now") } else { format!("{past} s ago") })
    }

    /// The unit under which the time said would be fresh, when this one is wrong.
    pub(super) fn other_unit(&self, scope: &Scope<'_, '_, '_>, now: Timestamp) -> Option<&'static str> {
        let units = [("s", Unit::Seconds), ("ms", Unit::Millis), ("rfc3339", Unit::Rfc3339), ("http-date", Unit::HttpDate)];
        units.into_iter().find_map(|(word, unit)| {
            let other = Self { from: self.from.clone(), unit, tolerance: self.tolerance };
            (unit != self.unit && other.check(scope, Some(now)).is_ok()).then_some(word)
        })
    }
}

impl Unit {
    pub(super) fn word(text: &str) -> Option<Self> {
        Some(match text {
            "s" => Self::Seconds,
            "ms" => Self::Millis,
            "auto" => Self::Auto,
            "rfc3339" => Self::Rfc3339,
            "http-date" => Self::HttpDate,
            _ => return None,
        })
    }

    fn parse(self, text: &str) -> Option<Timestamp> {
        match self {
            Self::Seconds => Some(Timestamp::from_millis(digits(text)?.checked_mul(1000)?)),
            Self::Millis => Some(Timestamp::from_millis(digits(text)?)),
            Self::Auto if text.len() >= AUTO_MILLIS_DIGITS => Self::Millis.parse(text),
            Self::Auto => Self::Seconds.parse(text),
            Self::Rfc3339 => text.parse().ok(),
            Self::HttpDate => http_date(text),
        }
    }

    /// The text for this time, for making a sample.
    pub(super) fn format(self, at: Timestamp) -> String {
        match self {
            Self::Seconds | Self::Auto => at.unix_seconds().to_string(),
            Self::Millis => at.millis().to_string(),
            Self::Rfc3339 => at.to_string(),
            Self::HttpDate => {
                let since = Duration::from_secs(u64::try_from(at.unix_seconds()).unwrap_or(0));
                httpdate::fmt_http_date(std::time::UNIX_EPOCH + since)
            }
        }
    }
}

/// Digits only, no sign, no exponent, no leading zero, so short that nothing overflows.
fn digits(text: &str) -> Option<i64> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = (1..=TIMESTAMP_DIGITS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if canonical && digits { text.parse().ok() } else { None }
}

/// An HTTP date; some senders leave out the comma or write UTC for GMT.
fn http_date(text: &str) -> Option<Timestamp> {
    let words: Vec<&str> = text.split_ascii_whitespace().take(7).collect();
    let [weekday, day, month, year, time, "GMT" | "UTC"] = words[..] else { return None };
    let standard = format!("{}, {day} {month} {year} {time} GMT", weekday.trim_end_matches(','));
    let since = httpdate::parse_http_date(&standard).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(i64::try_from(since.as_millis()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_digits_are_a_number() {
        for bad in ["", "+5", "-1", "1e9", "01614265330", "1614265330.0", " 1614265330", "9223372036854775807", "99999999999999999", "٣"] {
            assert_eq!(Unit::Seconds.parse(bad), None, "{bad}");
        }
        assert_eq!(Unit::Seconds.parse("1614265330"), Some(Timestamp::from_millis(1_614_265_330_000)));
        assert_eq!(Unit::Seconds.parse("0"), Some(Timestamp::from_millis(0)));
        assert!(Unit::Seconds.parse("9999999999999999").is_none_or(|time| time.millis() > 0));
    }

    #[test]
    fn auto_tells_seconds_from_milliseconds_by_length() {
        assert_eq!(Unit::Auto.parse("1614265330"), Unit::Auto.parse("1614265330000"));
    }

    #[test]
    fn dates_come_with_and_without_a_comma() {
        let time = Timestamp::from_millis(1_504_765_804_000);
        let at = Some(time);
        assert_eq!(Unit::HttpDate.parse("Thu, 07 Sep 2017 06:30:04 GMT"), at);
        assert_eq!(Unit::HttpDate.parse("Thu 07 Sep 2017 06:30:04 UTC"), at);
        assert_eq!(Unit::HttpDate.parse("Thu 07 Sep 2017 06:30:04 CET"), None);
        assert_eq!(Unit::HttpDate.parse(&Unit::HttpDate.format(time)), at);
    }
}
