//! `/etc/stillwater/repository.toml`.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use stillwater_service::config::{Bytes, Faults, Period, Settings};
use stillwater_service::enrol;
use stillwater_service::metrics::MetricsSettings;
use stillwater_service::telemetry::LogSettings;
use stillwater_store::Options;

const DRAIN_MAX: Duration = Duration::from_secs(24 * 3600);
const SESSION_TERM_MIN: Duration = Duration::from_secs(60);
const RETENTION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The repository's settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where the controller and proxies are answered.
    pub listen: SocketAddr,
    /// `host:port` where they call this repository; the host name and the port of `listen` when
    /// absent.
    pub advertise: Option<String>,
    /// The repository's name in lists, for `join`; the host name when absent.
    pub name: Option<String>,
    /// `host:port` of the controller; where the join token pointed when absent.
    pub controller: Option<String>,
    /// Where identity and store live: a local disk of its own that keeps what it acknowledged.
    pub state_dir: PathBuf,
    /// How long open calls may take to end when the repository is stopped.
    pub drain: Period,
    /// What is kept, and how long.
    pub store: StoreSettings,
    /// Where metrics are answered.
    pub metrics: MetricsSettings,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// What is kept, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoreSettings {
    /// Room that packs leave free for the commit log and manifests; 2 % of the file system if that is
    /// more.
    pub reserve: Bytes,
    /// How long a new restore point cannot be removed, by nobody.
    pub retention: Period,
    /// How long a run's claim lasts when the controller is silent.
    pub session_term: Period,
    /// Accept storage that forgets, such as tmpfs. For tests only.
    pub allow_volatile: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 7445)),
            advertise: None,
            name: None,
            controller: None,
            state_dir: PathBuf::from("/var/lib/stillwater/repository"),
            drain: Period(Duration::from_secs(20)),
            store: StoreSettings::default(),
            metrics: MetricsSettings::default(),
            log: LogSettings::default(),
        }
    }
}

impl Default for StoreSettings {
    fn default() -> Self {
        let Options {
            allow_volatile,
            reserve_bytes,
            retention,
            session_term,
        } = Options::default();
        Self {
            reserve: Bytes(reserve_bytes),
            retention: Period(retention),
            session_term: Period(session_term),
            allow_volatile,
        }
    }
}

impl StoreSettings {
    /// The same as the engine takes it.
    pub const fn options(&self) -> Options {
        Options {
            allow_volatile: self.allow_volatile,
            reserve_bytes: self.reserve.0,
            retention: self.retention.0,
            session_term: self.session_term.0,
        }
    }
}

impl Config {
    /// Where others call this repository.
    pub fn address(&self) -> String {
        let here = || format!("{}:{}", host_name(), self.listen.port());
        self.advertise.clone().unwrap_or_else(here)
    }

    /// The repository's name in lists.
    pub fn node_name(&self) -> String {
        self.name.clone().unwrap_or_else(host_name)
    }

    /// Where key and certificates lie.
    pub fn identity_dir(&self) -> PathBuf {
        enrol::identity_dir(&self.state_dir)
    }

    /// Where the store lies.
    pub fn store_dir(&self) -> PathBuf {
        self.state_dir.join("store")
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
                faults.add(key, "write host:port, such as repository.example:7445");
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
        if self.store.session_term.0 < SESSION_TERM_MIN {
            faults.add("store.session-term", "write at least \"60s\"");
        }
        if self.store.retention.0 > RETENTION_MAX {
            faults.add("store.retention", "write at most a hundred years");
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
        assert!(Config::default().address().ends_with(":7445"));
    }

    #[test]
    fn every_fault_is_found_at_once() {
        let text = r#"
            advertise = "repository"
            controller = "controller:0"
            name = " "
            state-dir = "state"
            drain = "48h"
            store.session-term = "5s"
            metrics.listen = "0.0.0.0:9445"
        "#;
        let expected = [
            "advertise",
            "controller",
            "name",
            "state-dir",
            "drain",
            "store.session-term",
            "metrics.listen",
        ];
        assert_eq!(faults(text), expected);
    }

    #[test]
    fn an_unknown_key_is_a_fault() {
        assert!(toml::from_str::<Config>("listne = \"[::]:1\"").is_err());
        assert!(toml::from_str::<Config>("[store]\nkeep = \"1d\"").is_err());
    }
}
