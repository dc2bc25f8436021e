//! Aligned tables, readable times and sizes. Everything printed may be a stranger's words, so no control
//! character reaches the terminal.

use std::time::Duration;

use serde_json::Value;

use crate::model::Timestamp;

/// The widest a cell gets; only the last column may be wider.
const CELL_CHARS_MAX: usize = 60;

/// Columns under their titles.
pub(super) struct Table {
    titles: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(titles: &[&'static str]) -> Self {
        Self { titles: titles.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with one cell for each title.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.titles.len(), "a row has a cell for each title");
        let last = cells.len().saturating_sub(1);
        let cell = |(at, cell): (usize, String)| {
            let cell = printable(&cell, false);
            if at < last && cell.chars().count() > CELL_CHARS_MAX {
                return cell.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect();
            }
            if cell.is_empty() { "-".to_owned() } else { cell }
        };
        self.rows.push(cells.into_iter().enumerate().map(cell).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The whole table, without a line end after the last row.
    pub(super) fn render(&self) -> String {
        let titles: Vec<String> = self.titles.iter().map(|title| (*title).to_owned()).collect();
        let lines = || std::iter::once(&titles).chain(&self.rows);
        let width = |column: usize| lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..titles.len()).map(width).collect();
        let line = |cells: &Vec<String>| {
            let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        lines().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// The text with control characters, and those that change the direction of writing, escaped; `lines` keeps
/// line ends and tabs.
pub(super) fn printable(text: &str, lines: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let kept = lines && matches!(character, '\n' | '\t');
        let hidden =
            character.is_control() || matches!(character, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if hidden && !kept {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// A JSON field as text: nothing for null.
pub(super) fn field(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The items of a JSON list; none when it isn't one.
pub(super) fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// An RFC 3339 time without its fraction, `2026-11-24 08:49:05`; the text itself where it is none.
pub(super) fn time(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => time.to_string().chars().take(19).map(|character| if character == 'T' { ' ' } else { character }).collect(),
        Err(_) => text.to_owned(),
    }
}

/// A duration in its two largest units: `3d 4h`, `2m 5s`, `12s`, `80ms`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let two = |large: u64, unit: &str, small: u64, smaller: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit} {small}{smaller}") }
    };
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3600 => two(minutes, "m", seconds % 60, "s"),
        3600..86_400 => two(hours, "h", minutes, "m"),
        _ => two(days, "d", hours, "h"),
    }
}

/// A size in bytes: `512 B`, `1.5 KiB`.
pub(super) fn size(bytes: u64) -> String {
    let mut unit = 1_u64;
    for word in ["B", "KiB", "MiB", "GiB"] {
        let next = unit.saturating_mul(1024);
        if bytes < next || word == "GiB" {
            let (whole, tenths) = (bytes / unit, bytes % unit * 10 / unit);
            return if tenths == 0 { format!("{whole} {word}") } else { format!("{whole}.{tenths} {word}") };
        }
        unit = next;
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_cells_are_seen() {
        let mut table = Table::new(&["EVENT", "STATE", "DETAIL"]);
        table.row(vec!["evt_1".to_owned(), "dead".to_owned(), "rejected: status 400".to_owned()]);
        table.row(vec!["evt_long".to_owned(), "delivered".to_owned(), String::new()]);
        assert_eq!(table.render(), "EVENT     STATE      DETAIL\nevt_1     dead       rejected: status 400\nevt_long  delivered  -");
    }

    #[test]
    fn no_control_character_of_a_stranger_reaches_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n\u{202e}c\u{9b}", false), "a\\u{1b}[2Jb\\n\\u{202e}c\\u{9b}");
        assert_eq!(printable("a\n\tb\r", true), "a\n\tb\\r");
        let mut table = Table::new(&["A", "B"]);
        table.row(vec!["x\u{1b}".to_owned(), "y\ny".to_owned()]);
        assert_eq!(table.render().lines().count(), 2);
    }

    #[test]
    fn times_durations_and_sizes_are_readable() {
        assert_eq!(time("2026-11-24T08:49:05.123Z"), "2026-11-24 08:49:05");
        assert_eq!(time("never"), "never");
        let durations = [80, 12_000, 125_000, 3_600_000, 273_600_000].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(durations, ["80ms", "12s", "2m 5s", "1h", "3d 4h"]);
        assert_eq!([0, 512, 1536, 1 << 20, u64::MAX].map(size), ["0 B", "512 B", "1.5 KiB", "1 MiB", "17179869183.9 GiB"]);
    }
}
