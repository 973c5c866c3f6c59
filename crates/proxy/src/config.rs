//! `/etc/stillwater/proxy.toml`.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use stillwater_disk::nbd::CommandLine;
use stillwater_service::config::{self, Faults, Period, Settings};
use stillwater_service::enrol;
use stillwater_service::metrics::MetricsSettings;
use stillwater_service::telemetry::LogSettings;

use crate::transfer;

const TRANSFERS_MAX: u32 = 64;
const WORKERS_MAX: u32 = 64;
const DRAIN_MAX: Period = Period(Duration::from_secs(24 * 3600));

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
    /// By which ways disks are reached beside those that need no configuration.
    pub transports: Transports,
    /// Where metrics are answered.
    pub metrics: MetricsSettings,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// By which ways disks are reached beside those that need no configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Transports {
    /// Whether disks may be attached to the VM that this proxy runs in.
    pub hot_add: bool,
    /// Where datastores are mounted, by their names or urls. Nothing is ever written there.
    pub datastores: BTreeMap<String, PathBuf>,
    /// A command that serves a disk over NBD and its arguments, with placeholders in braces.
    pub nbd_command: Vec<String>,
    /// Where the kernel shows its devices.
    pub sysfs: PathBuf,
    /// Where device nodes are.
    pub dev: PathBuf,
}

impl Default for Transports {
    fn default() -> Self {
        Self {
            hot_add: false,
            datastores: BTreeMap::new(),
            nbd_command: Vec::new(),
            sysfs: PathBuf::from("/sys"),
            dev: PathBuf::from("/dev"),
        }
    }
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
            transports: Transports::default(),
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
        config::advertised(self.advertise.as_deref(), self.listen)
    }

    /// The proxy's name in lists.
    pub fn node_name(&self) -> String {
        self.name.clone().unwrap_or_else(config::host_name)
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

impl Settings for Config {
    fn check(&self, faults: &mut Faults) {
        faults.check_address("advertise", self.advertise.as_deref());
        faults.check_address("controller", self.controller.as_deref());
        faults.check_name("name", self.name.as_deref());
        faults.check_path("state-dir", &self.state_dir);
        faults.check_period("drain", self.drain, Period(Duration::ZERO)..=DRAIN_MAX);
        let Limits { transfers, workers } = self.limits;
        faults.check_number("limits.transfers", transfers, 1..=TRANSFERS_MAX);
        faults.check_number("limits.workers", workers, 1..=WORKERS_MAX);
        faults.check_path("transports.sysfs", &self.transports.sysfs);
        faults.check_path("transports.dev", &self.transports.dev);
        for mount in self.transports.datastores.values() {
            faults.check_path("transports.datastores", mount);
        }
        let command = &self.transports.nbd_command;
        if !command.is_empty()
            && let Err(error) = CommandLine::parse(command)
        {
            faults.add("transports.nbd-command", error.to_string());
        }
        self.metrics.check(faults);
        self.log.check(faults);
    }
}

#[cfg(test)]
mod tests {
    use stillwater_testkit::example;
    use stillwater_types::Role;

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
    fn the_example_shows_every_setting_with_its_default() {
        let [shipped, shown] = example::forms(Role::Proxy);
        assert_eq!(faults(&shipped), Vec::<String>::new());
        assert_eq!(faults(&shown), Vec::<String>::new());
        let shown: Config = toml::from_str(&shown).unwrap();
        assert!(shown.advertise.is_some() && shown.name.is_some());
        assert!(shown.controller.is_some() && shown.metrics.listen.is_some());
        let shown = Config {
            advertise: None,
            name: None,
            controller: None,
            metrics: MetricsSettings::default(),
            transports: Transports {
                datastores: BTreeMap::new(),
                nbd_command: Vec::new(),
                ..shown.transports
            },
            ..shown
        };
        assert_eq!(shown, Config::default());
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
            transports.sysfs = "sys"
            transports.dev = "dev"
            transports.datastores = { nfs-1 = "mnt" }
            transports.nbd-command = ["nbdkit"]
            metrics.listen = "0.0.0.0:9444"
            log.level = "a=loud"
        "#;
        let expected = [
            "advertise",
            "controller",
            "name",
            "state-dir",
            "drain",
            "limits.transfers",
            "limits.workers",
            "transports.sysfs",
            "transports.dev",
            "transports.datastores",
            "transports.nbd-command",
            "metrics.listen",
            "log.level",
        ];
        assert_eq!(faults(text), expected);
    }

    #[test]
    fn an_unknown_key_is_a_fault() {
        assert!(toml::from_str::<Config>("listne = \"[::]:1\"").is_err());
        assert!(toml::from_str::<Config>("[limits]\nslots = 1").is_err());
    }
}
