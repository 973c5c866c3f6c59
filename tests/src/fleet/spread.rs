//! How work spreads over equal proxies.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::rows;

/// The most that one proxy may read of what an equal share would be.
const MOST_OF_MEAN: f64 = 1.3;
/// Fewer disks than this spread by luck.
const DISKS: usize = 500;

/// Bytes that each proxy read, and how long it was there to read any.
#[derive(Debug, Default)]
pub struct Spread {
    looked: Option<Instant>,
    there: BTreeMap<String, Duration>,
    bytes: BTreeMap<String, u64>,
    disks: usize,
}

impl Spread {
    /// Counts the time since the last look for those that take work now.
    pub fn note(&mut self, proxies: &[Value], now: Instant) {
        let since = self
            .looked
            .replace(now)
            .map_or(Duration::ZERO, |at| now - at);
        for proxy in proxies {
            let takes = proxy["state"] == "online" && proxy["draining_since"].is_null();
            if let (true, Some(name)) = (takes, proxy["name"].as_str()) {
                *self.there.entry(name.to_owned()).or_default() += since;
            }
        }
    }

    /// Counts what all runs read.
    pub fn count(&mut self, runs: &[Value]) -> Result<()> {
        for disk in runs.iter().flat_map(|run| rows(&run["disks"])) {
            let read = disk["read_bytes"].as_u64().context("bytes")?;
            if let Some(name) = disk["proxy_name"].as_str().filter(|name| !name.is_empty()) {
                *self.bytes.entry(name.to_owned()).or_default() += read;
                self.disks += 1;
            }
        }
        Ok(())
    }

    /// Bytes a second of each while it was there.
    fn rates(&self) -> Vec<(&str, f64)> {
        let rate = |(name, there): (&'_ String, &Duration)| {
            let bytes = self.bytes.get(name).copied().unwrap_or(0) as f64;
            bytes / there.as_secs_f64().max(1.0)
        };
        self.there
            .iter()
            .map(|one| (one.0.as_str(), rate(one)))
            .collect()
    }

    /// The busiest proxy's rate as a multiple of the mean.
    fn most_of_mean(&self) -> f64 {
        let rates = self.rates();
        let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / rates.len().max(1) as f64;
        rates
            .iter()
            .map(|(_, rate)| rate / mean)
            .fold(0.0, f64::max)
    }

    /// A line for each proxy and the sum of them.
    pub fn report(&self) -> String {
        let mut lines = String::new();
        for (name, rate) in self.rates() {
            let (bytes, there) = (self.bytes.get(name).unwrap_or(&0), self.there[name]);
            lines += &format!(
                "{name}: {:.1} MiB read in {} min, {:.1} KiB/s\n",
                *bytes as f64 / f64::from(1 << 20),
                there.as_secs() / 60,
                rate / 1024.0
            );
        }
        lines
            + &format!(
                "max/mean of bytes per equal proxy: {:.2}",
                self.most_of_mean()
            )
    }

    /// Demands that no proxy does much more than its share, and that every one does something.
    pub fn check(&self) -> Result<()> {
        let most = self.most_of_mean();
        let idle = self.rates().into_iter().find(|(_, rate)| *rate == 0.0);
        ensure!(idle.is_none(), "{idle:?} had nothing to do");
        if self.disks < DISKS {
            return Ok(());
        }
        ensure!(
            most.is_finite() && most <= MOST_OF_MEAN,
            "work does not spread: {most:.2}"
        );
        Ok(())
    }
}
