//! How long the parts of an ended run took.

use anyhow::{Context, Result};
use serde_json::Value;
use stillwater_tests::cluster::{rows, text};

/// What no snapshot is needed for: peers take none.
pub fn seconds_of_data(run: &Value) -> Result<f64> {
    let of_data = ["mapping", "transferring", "proposing", "committing"];
    let phases = phases(run)?;
    let took = phases
        .iter()
        .filter(|(name, _)| of_data.contains(&name.as_str()));
    Ok(took.map(|(_, took)| took).sum())
}

/// Prints them.
pub fn tell_phases(run: &Value) -> Result<()> {
    for (name, took) in phases(run)? {
        print!("  {name} {took:.2} s");
    }
    println!();
    Ok(())
}

/// The phases with their seconds.
fn phases(run: &Value) -> Result<Vec<(String, f64)>> {
    let starts = rows(&run["phases"]);
    let moment = |value: &Value, field: &str| -> Result<jiff::Timestamp> {
        text(value, field)?.parse().context("read a time")
    };
    let mut ends: Vec<jiff::Timestamp> = starts
        .iter()
        .skip(1)
        .map(|start| moment(start, "started_at"))
        .collect::<Result<_>>()?;
    ends.push(moment(run, "ended_at")?);
    let each = starts.iter().zip(ends).map(|(start, end)| {
        let took = end.duration_since(moment(start, "started_at")?);
        Ok((text(start, "phase")?, took.as_secs_f64()))
    });
    each.collect()
}
