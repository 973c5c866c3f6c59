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

const STREAMS_MAX: u32 = 256;
const DRAIN_MAX: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const RETENTION_MAX: Duration = DAY.saturating_mul(365 * 100);
const SESSION_MIN: Duration = Duration::from_secs(30);

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
    /// Where the identity lives, and the store unless it has a directory of its own.
    pub state_dir: PathBuf,
    /// How long open calls may take to end when the repository is stopped.
    pub drain: Period,
    /// What is kept, and where.
    pub store: StoreSettings,
    /// What is done at once.
    pub limits: Limits,
    /// Where metrics are answered.
    pub metrics: MetricsSettings,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// What is kept, and where.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoreSettings {
    /// Where packs, manifests and the commit log live; `store` in the state directory when absent.
    pub dir: Option<PathBuf>,
    /// Room that packs leave free at least; 2 % of the file system if that is more.
    pub reserve: Bytes,
    /// How long a new restore point cannot be removed by anybody.
    pub retention: Period,
    /// How long a session lasts without being renewed by the controller.
    pub session: Period,
    /// Accept storage that forgets what it acknowledged. For tests only.
    pub allow_volatile: bool,
}

/// What is done at once; further calls wait.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Packs that are taken at a time. Each takes less than 32 MiB of memory.
    pub packs: u32,
    /// Reads that are answered at a time. Each takes less than 16 MiB of memory.
    pub reads: u32,
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
            limits: Limits::default(),
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
            dir: None,
            reserve: Bytes(reserve_bytes),
            retention: Period(retention),
            session: Period(session_term),
            allow_volatile,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packs: 16,
            reads: 32,
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
        self.store
            .dir
            .clone()
            .unwrap_or_else(|| self.state_dir.join("store"))
    }

    /// What the engine is told.
    pub fn options(&self) -> Options {
        let StoreSettings {
            reserve,
            retention,
            session,
            allow_volatile,
            ..
        } = &self.store;
        Options {
            allow_volatile: *allow_volatile,
            reserve_bytes: reserve.0,
            retention: retention.0,
            session_term: session.0,
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
        for (key, dir) in [
            ("state-dir", Some(&self.state_dir)),
            ("store.dir", self.store.dir.as_ref()),
        ] {
            if dir.is_some_and(|dir| !dir.is_absolute()) {
                faults.add(key, "write an absolute path");
            }
        }
        if self.drain.0 > DRAIN_MAX {
            faults.add("drain", "write at most \"10m\"");
        }
        if self.store.retention.0 > RETENTION_MAX {
            faults.add("store.retention", "write at most \"36500d\"");
        }
        if !(SESSION_MIN..=DAY).contains(&self.store.session.0) {
            faults.add("store.session", "write a time from \"30s\" to \"24h\"");
        }
        for (key, value) in [
            ("limits.packs", self.limits.packs),
            ("limits.reads", self.limits.reads),
        ] {
            if !(1..=STREAMS_MAX).contains(&value) {
                faults.add(key, format!("write a number from 1 to {STREAMS_MAX}"));
            }
        }
        self.metrics.check(faults);
        self.log.check(faults);
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
        assert!(config.address().ends_with(":7445"), "{}", config.address());
        assert_eq!(config.store_dir(), config.state_dir.join("store"));
    }

    #[test]
    fn the_example_shows_every_setting_with_its_default() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../deploy/examples/repository.toml"
        );
        let example = std::fs::read_to_string(path).unwrap();
        assert_eq!(faults(&example), Vec::<String>::new());
        let setting = |line: &str| {
            line.split_once(" = ")
                .is_some_and(|(key, _)| !key.contains(' '))
        };
        let shown: Vec<_> = example
            .lines()
            .map(|line| {
                line.strip_prefix("# ")
                    .filter(|rest| setting(rest))
                    .unwrap_or(line)
            })
            .collect();
        let shown: Config = toml::from_str(&shown.join("\n")).unwrap();
        assert!(shown.advertise.is_some() && shown.name.is_some() && shown.store.dir.is_some());
        let defaults = Config::default();
        let shown = Config {
            advertise: None,
            name: None,
            controller: None,
            store: StoreSettings {
                dir: None,
                ..shown.store
            },
            metrics: MetricsSettings::default(),
            ..shown
        };
        assert_eq!(shown, defaults);
    }

    #[test]
    fn every_fault_is_found_at_once() {
        let text = r#"
            advertise = "repository"
            controller = "controller:0"
            name = " "
            state-dir = "state"
            drain = "1h"
            limits.packs = 0
            limits.reads = 257
            metrics.listen = "0.0.0.0:9445"
            [store]
            dir = "here"
            retention = "99999d"
            session = "1s"
        "#;
        let expected = [
            "advertise",
            "controller",
            "name",
            "state-dir",
            "store.dir",
            "drain",
            "store.retention",
            "store.session",
            "limits.packs",
            "limits.reads",
            "metrics.listen",
        ];
        assert_eq!(faults(text), expected);
    }

    #[test]
    fn an_unknown_key_is_a_fault() {
        assert!(toml::from_str::<Config>("listne = \"[::]:1\"").is_err());
        assert!(toml::from_str::<Config>("[store]\nreserved = \"1GiB\"").is_err());
    }
}
