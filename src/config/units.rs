//! Durations, sizes and rates: `500ms 15s 3d`, `64KiB 1MiB`, `50/s 1000/min`. Anything else is an error, and
//! every multiplication is checked: a size that overflows must never become a small one.

use std::num::NonZeroU32;
use std::time::Duration;

use super::limits::{DAY_MS, GIB, HOUR_MS, KIB, MIB, MINUTE_MS, SECOND_MS};
use super::wrong::Wrong;
use crate::model::Rate;

const DURATION_UNITS: [(&str, u64); 6] = [("ms", 1), ("s", SECOND_MS), ("m", MINUTE_MS), ("min", MINUTE_MS), ("h", HOUR_MS), ("d", DAY_MS)];
const SIZE_UNITS: [(&str, u64); 5] = [("B", 1), ("KiB", KIB), ("MiB", MIB), ("GiB", GIB), ("TiB", 1024 * GIB)];
const RATE_UNITS: [(&str, u64); 3] = [("s", 1), ("min", 60), ("h", 3600)];

/// The digits in front and what follows them. No sign, no point, no exponent, no leading zero: other readers
/// disagree about all of these.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    digits.parse().ok().map(|number| (number, rest))
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = number(text)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

/// A duration, in whole milliseconds.
pub(super) fn duration_ms(text: &str) -> Result<u64, Wrong> {
    scaled(text, &DURATION_UNITS).ok_or_else(|| {
        Wrong::new(format!("`{}` is not a duration", shown(text))).hint("write a whole number and ms, s, min, h or d, such as `15s`")
    })
}

/// A duration.
pub(super) fn duration(text: &str) -> Option<Duration> {
    duration_ms(text).ok().map(Duration::from_millis)
}

/// A size in bytes.
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    scaled(text, &SIZE_UNITS).ok_or_else(|| {
        Wrong::new(format!("`{}` is not a size", shown(text))).hint("write a whole number and B, KiB, MiB, GiB or TiB, such as `64KiB`")
    })
}

/// A rate.
pub(super) fn rate(text: &str) -> Result<Rate, Wrong> {
    let parsed = || {
        let (count, rest) = number(text)?;
        let unit = rest.strip_prefix('/')?;
        let (_, seconds) = RATE_UNITS.iter().find(|(name, _)| *name == unit)?;
        Some(Rate { count: NonZeroU32::new(u32::try_from(count).ok()?)?, per: Duration::from_secs(*seconds) })
    };
    parsed().ok_or_else(|| {
        Wrong::new(format!("`{}` is not a rate", shown(text))).hint("write how many (at least 1) per s, min or h, such as `50/s`")
    })
}

/// A bound in the words of the file, for messages.
pub(super) fn show_size(bytes: u64) -> String {
    SIZE_UNITS
        .iter()
        .rev()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .map_or_else(|| format!("{bytes}B"), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

/// A bound in the words of the file, for messages.
pub(super) fn show_duration(ms: u64) -> String {
    [("d", DAY_MS), ("h", HOUR_MS), ("min", MINUTE_MS), ("s", SECOND_MS)]
        .iter()
        .find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor))
        .map_or_else(|| format!("{ms}ms"), |(unit, factor)| format!("{}{unit}", ms / factor))
}

/// The start of a text, for messages: a wrong value may be long.
pub(super) fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 60;
    let mut start: String = text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        start.push('…');
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_or_refused() {
        assert_eq!(size("64KiB").unwrap(), 65_536);
        assert_eq!(size("1MiB").unwrap(), 1 << 20);
        assert_eq!(size("0B").unwrap(), 0);
        for text in [
            "18014398509481985KiB",
            "18014398509481985k",
            "-1",
            "-1KiB",
            "1e9",
            "0",
            "1.5MiB",
            "1_000KiB",
            "01KiB",
            "1 MiB",
            "1MB",
            "+1KiB",
            "",
            "KiB",
            "99999999999999999999B",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_exact_or_refused() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("3d"), Some(Duration::from_secs(259_200)));
        for text in ["15", "1.5s", "-1s", "1h30m", "18446744073709551615d", "s", "1 s", "1S"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn rates_are_exact_or_refused() {
        assert_eq!(rate("1000/min").unwrap().to_string(), "1000/min");
        for text in ["0/s", "50", "50/", "/s", "50/d", "4294967296/s", "-1/s", "1.5/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bounds_are_shown_in_the_largest_unit_that_is_exact() {
        assert_eq!((show_size(16 * MIB), show_size(1500)), ("16MiB".to_owned(), "1500B".to_owned()));
        assert_eq!((show_duration(90_000), show_duration(3_600_000)), ("90s".to_owned(), "1h".to_owned()));
    }
}
