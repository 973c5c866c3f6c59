//! What is printed, and where: results on stdout, everything else on stderr.

use std::io::{self, Write};

use comfy_table::{Cell, CellAlignment, Table, presets};
use jiff::{Timestamp, Unit};
use serde_json::Value;
use stillwater_types::{Fault, Reason};

use crate::arguments::Format;

/// Prints a result in the form that was asked for.
pub(crate) fn print(
    format: Format,
    text: impl FnOnce() -> String,
    json: impl FnOnce() -> Value,
) -> Result<(), Fault> {
    match format {
        Format::Table => write(&text()),
        Format::Json => write(&format!("{:#}", json())),
    }
}

/// Writes to stdout, with one line end.
pub(crate) fn write(text: &str) -> Result<(), Fault> {
    // Whoever reads has seen enough, such as `head`.
    write_on(text).map(drop)
}

/// Writes to stdout, with one line end; tells whether anybody reads still.
pub(crate) fn write_on(text: &str) -> Result<bool, Fault> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush());
    match written {
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written
            .map(|()| true)
            .map_err(|err| Fault::new(Reason::StorageFailed, format!("write to stdout: {err}"))),
    }
}

/// Says something to a person. What others wrote is shown without control characters.
pub(crate) fn say(text: &str) {
    let lines: Vec<String> = text.split('\n').map(plain).collect();
    // Nobody is left to tell when stderr is closed.
    drop(writeln!(io::stderr().lock(), "{}", lines.join("\n")));
}

/// The text without control characters: names come from vCenters and nodes, and a terminal obeys
/// escape sequences.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A value of a table.
pub(crate) enum Field {
    /// Anything to read.
    Text(String),
    /// Anything to compare: right-aligned.
    Number(String),
}

impl Field {
    /// A text.
    pub fn text(text: impl ToString) -> Self {
        Field::Text(text.to_string())
    }

    /// A text that may be absent.
    pub fn maybe(text: Option<impl ToString>) -> Self {
        Field::Text(text.map_or_else(|| "-".to_owned(), |text| text.to_string()))
    }

    /// A count.
    pub fn count(count: impl Into<u64>) -> Self {
        Field::Number(count.into().to_string())
    }

    /// A size.
    pub fn bytes(bytes: u64) -> Self {
        Field::Number(size(bytes))
    }
}

/// A table with a header.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [Field; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    for row in rows {
        table.add_row(row.map(|field| match field {
            Field::Text(text) => Cell::new(plain(&text)),
            Field::Number(text) => Cell::new(plain(&text)).set_alignment(CellAlignment::Right),
        }));
    }
    unindented(&table.to_string())
}

/// Names and values, one a line.
pub(crate) fn sheet(lines: &[(&str, String)]) -> String {
    let width = lines
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or_default();
    let line = |(name, value): &(&str, String)| format!("{name:width$}  {}", plain(value));
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn unindented(table: &str) -> String {
    let line = |line: &str| line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned();
    table.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A size for people, by powers of 1024.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut scaled = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        // 1023.95 would be shown as 1024.0.
        if scaled < 1023.95 {
            break;
        }
        scaled /= 1024.0;
        unit = next;
    }
    match unit {
        "B" => format!("{bytes} B"),
        unit => format!("{scaled:.1} {unit}"),
    }
}

/// A moment for people, RFC 3339 in UTC, whole seconds.
pub(crate) fn moment(time: Timestamp) -> String {
    time.round(Unit::Second).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_the_unit_that_reads_best() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (42 << 30, "42.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(plain("web\u{1b}[2J\r\n"), "web\u{fffd}[2J\u{fffd}\u{fffd}");
        let shown = table(["NAME"], [[Field::text("a\u{1b}]0;b\u{7}")]]);
        assert!(
            !shown.contains('\u{1b}') && !shown.contains('\u{7}'),
            "{shown:?}"
        );
    }

    #[test]
    fn numbers_stand_under_each_other() {
        let rows = [(1, "one"), (1000, "more")];
        let rows = rows.map(|(count, name)| [Field::text(name), Field::count(count as u64)]);
        assert_eq!(
            table(["NAME", "COUNT"], rows),
            "NAME  COUNT\none       1\nmore   1000"
        );
    }
}
