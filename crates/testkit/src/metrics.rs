//! The list of metrics in the operator's documents: written from what a role answers, and held against it.

use std::fmt::Write;
use std::path::Path;

/// Set to anything, the list is written and not held against what is there.
const UPDATE: &str = "STILLWATER_UPDATE_DOCS";

/// Demands that `docs/operations/metrics.md` has, below the heading with the role's name, exactly the metrics of
/// what the role answers in the OpenMetrics text format, with their types and help.
#[track_caller]
pub fn check_documented(role: &str, answered: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations/metrics.md");
    let document = std::fs::read_to_string(&file).expect("docs/operations/metrics.md");
    let heading = format!("## {role}\n\n");
    let start = document.find(&heading).expect("a heading for the role") + heading.len();
    let length = document[start..].find("\n\n");
    let end = length.map_or(document.len(), |length| start + length + 1);
    let (found, expected) = (&document[start..end], table(answered));
    if std::env::var_os(UPDATE).is_some() {
        let written = [&document[..start], &expected, &document[end..]].concat();
        std::fs::write(&file, written).expect("docs/operations/metrics.md can be written");
        return;
    }
    assert_eq!(
        found, expected,
        "metrics of {role} changed: look at them, and write the list with {UPDATE}=1"
    );
}

/// A row for each metric, by name.
fn table(answered: &str) -> String {
    let mut rows: Vec<String> = answered
        .lines()
        .filter_map(|line| row(line, answered))
        .collect();
    rows.sort_unstable();
    let mut table = String::from("| metric | type | |\n|---|---|---|\n");
    for row in rows {
        writeln!(table, "{row}").expect("a string takes everything");
    }
    table
}

/// The row of a metric, from the line that tells its type.
fn row(line: &str, answered: &str) -> Option<String> {
    let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
    let help = answered.lines().find_map(|line| {
        let (of, help) = line.strip_prefix("# HELP ")?.split_once(' ')?;
        (of == name).then(|| help.trim_end_matches('.').replace('|', "\\|"))
    });
    let help = help
        .filter(|help| !help.is_empty())
        .expect("every metric says what it is");
    let total = if kind == "counter" { "_total" } else { "" };
    Some(format!("| `{name}{total}` | {kind} | {help} |"))
}
