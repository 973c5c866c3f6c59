//! `/etc/stillwater/proxy.toml`.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use stillwater_service::config::{Faults, Period, Settings};
use stillwater_service::enrol;
use stillwater_service::metrics::MetricsSettings;
use stillwater_service::telemetry::LogSettings;

use crate::transfer;

const TRANSFERS_MAX: u32 = 64;
const WORKERS_MAX: u32 = 64;
const DRAIN_MAX: Duration = Duration::from_secs(24 * 3600);

/// The proxy's settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where the controller and administrators are answered.
    pub listen: SocketAddr,
    /// `host:port` where they call this proxy; the host name and the port of `listen` when absent.
    pub advertise: Option<String>,
    /// The proxy's name in lists, for `join`; the host name when absent.
    pub name: Option<String>,
    /// `host:port` of the controller; where the join token pointed when absent.
    pub controller: Option<String>,
    /// Where the identity lives. The proxy keeps nothing else.
    pub state_dir: PathBuf,
    /// How long transfers may take to end when the proxy is stopped; then they are cancelled, and
    /// the controller starts them elsewhere.
    pub drain: Period,
    /// What is done at once.
    pub limits: Limits,
    /// Where metrics are answered.
    pub metrics: MetricsSettings,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// What is done at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Transfers and exports at a time. Each takes less than 96 MiB of memory with two workers.
    pub transfers: u32,
    /// Threads of each transfer that compress, seal and check.
    pub workers: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 7444)),
            advertise: None,
            name: None,
            controller: None,
            state_dir: PathBuf::from("/var/lib/stillwater/proxy"),
            drain: Period(Duration::from_secs(20)),
            limits: Limits::default(),
            metrics: MetricsSettings::default(),
            log: LogSettings::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            transfers: 4,
            workers: 2,
        }
    }
}

impl Config {
    /// Where others call this proxy.
    pub fn address(&self) -> String {
        let here = || format!("{}:{}", host_name(), self.listen.port());
        self.advertise.clone().unwrap_or_else(here)
    }

    /// The proxy's name in lists.
    pub fn node_name(&self) -> String {
        self.name.clone().unwrap_or_else(host_name)
    }

    /// Where key and certificates lie.
    pub fn identity_dir(&self) -> PathBuf {
        enrol::identity_dir(&self.state_dir)
    }

    /// The bounds of one transfer.
    pub fn transfer_limits(&self) -> transfer::Limits {
        let workers = self.limits.workers as usize;
        transfer::Limits {
            workers,
            ..transfer::Limits::default()
        }
    }
}

fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

impl Settings for Config {
    fn check(&self, faults: &mut Faults) {
        for (key, address) in [
            ("advertise", &self.advertise),
            ("controller", &self.controller),
        ] {
            if address
                .as_deref()
                .is_some_and(|address| !is_address(address))
            {
                faults.add(key, "write host:port, such as proxy.example:7444");
            }
        }
        if self
            .name
            .as_ref()
            .is_some_and(|name| name.trim().is_empty())
        {
            faults.add("name", "leave the name out or write one");
        }
        if !self.state_dir.is_absolute() {
            faults.add("state-dir", "write an absolute path");
        }
        if self.drain.0 > DRAIN_MAX {
            faults.add("drain", "write at most \"24h\"");
        }
        for (key, value, max) in [
            ("limits.transfers", self.limits.transfers, TRANSFERS_MAX),
            ("limits.workers", self.limits.workers, WORKERS_MAX),
        ] {
            if !(1..=max).contains(&value) {
                faults.add(key, format!("write a number from 1 to {max}"));
            }
        }
        self.metrics.check(faults);
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(char::is_whitespace)
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let config: Config = toml::from_str(text).unwrap();
        let mut faults = Faults::default();
        config.check(&mut faults);
        faults.iter().map(|fault| fault.key.clone()).collect()
    }

    #[test]
    fn an_empty_file_is_a_good_configuration() {
        assert_eq!(faults(""), Vec::<String>::new());
        let config = Config::default();
        assert!(config.address().ends_with(":7444"), "{}", config.address());
        assert_eq!(
            Config {
                advertise: Some("p:1".into()),
                ..config
            }
            .address(),
            "p:1"
        );
    }

    #[test]
    fn every_fault_is_found_at_once() {
        let text = r#"
            advertise = "proxy"
            controller = "controller:0"
            name = " "
            state-dir = "state"
            drain = "48h"
            limits.transfers = 0
            limits.workers = 65
            metrics.listen = "0.0.0.0:9444"
        "#;
        let expected = [
            "advertise",
            "controller",
            "name",
            "state-dir",
            "drain",
            "limits.transfers",
            "limits.workers",
            "metrics.listen",
        ];
        assert_eq!(faults(text), expected);
    }

    #[test]
    fn an_unknown_key_is_a_fault() {
        assert!(toml::from_str::<Config>("listne = \"[::]:1\"").is_err());
        assert!(toml::from_str::<Config>("[limits]\nslots = 1").is_err());
    }
}
