//! `/etc/stillwater/repository.toml`.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use stillwater_service::config::{self, Bytes, Faults, Period, Settings};
use stillwater_service::enrol;
use stillwater_service::metrics::MetricsSettings;
use stillwater_service::telemetry::LogSettings;
use stillwater_store::Options;

const STREAMS_MAX: u32 = 256;
const DRAIN_MAX: Period = Period(Duration::from_secs(600));
const DAY: Duration = Duration::from_secs(24 * 3600);
const RETENTION_MAX: Period = Period(DAY.saturating_mul(365 * 100));
const HOUR: Period = Period(Duration::from_secs(3600));
const MONTH: Period = Period(DAY.saturating_mul(31));
const YEAR: Period = Period(DAY.saturating_mul(365));
const SCRUB_RATE_MIN: u64 = 1 << 20;
const SESSION_MIN: Period = Period(Duration::from_secs(30));
const SESSION_MAX: Period = Period(DAY);

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
    /// What the repository does unasked.
    pub upkeep: UpkeepSettings,
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
    /// How long a pack that nothing reaches waits before it is taken out.
    pub condemn_wait: Period,
    /// How long a pack that was taken out lies in quarantine before it is removed.
    pub quarantine_wait: Period,
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

/// What the repository does unasked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct UpkeepSettings {
    /// How often garbage is collected.
    pub collect_every: Period,
    /// Every pack is read again within this time.
    pub scrub_period: Period,
    /// Bytes a second that are read for it at most.
    pub scrub_rate: Bytes,
}

impl Default for UpkeepSettings {
    fn default() -> Self {
        Self {
            collect_every: Period(DAY),
            scrub_period: Period(Options::DEFAULT.scrub_period),
            scrub_rate: Bytes(128 << 20),
        }
    }
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
            upkeep: UpkeepSettings::default(),
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
            condemn_wait,
            quarantine_wait,
            ..
        } = Options::DEFAULT;
        Self {
            dir: None,
            reserve: Bytes(reserve_bytes),
            retention: Period(retention),
            session: Period(session_term),
            condemn_wait: Period(condemn_wait),
            quarantine_wait: Period(quarantine_wait),
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
        config::advertised(self.advertise.as_deref(), self.listen)
    }

    /// The repository's name in lists.
    pub fn node_name(&self) -> String {
        self.name.clone().unwrap_or_else(config::host_name)
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
            condemn_wait,
            quarantine_wait,
            allow_volatile,
            ..
        } = &self.store;
        Options {
            allow_volatile: *allow_volatile,
            reserve_bytes: reserve.0,
            retention: retention.0,
            session_term: session.0,
            condemn_wait: condemn_wait.0,
            quarantine_wait: quarantine_wait.0,
            scrub_period: self.upkeep.scrub_period.0,
            ..Options::DEFAULT
        }
    }
}

impl Settings for Config {
    fn check(&self, faults: &mut Faults) {
        faults.check_address("advertise", self.advertise.as_deref());
        faults.check_address("controller", self.controller.as_deref());
        faults.check_name("name", self.name.as_deref());
        faults.check_path("state-dir", &self.state_dir);
        if let Some(dir) = &self.store.dir {
            faults.check_path("store.dir", dir);
        }
        faults.check_period("drain", self.drain, Period(Duration::ZERO)..=DRAIN_MAX);
        let (retention, session) = (self.store.retention, self.store.session);
        let up_to_a_century = Period(Duration::ZERO)..=RETENTION_MAX;
        faults.check_period("store.retention", retention, up_to_a_century.clone());
        let StoreSettings {
            condemn_wait,
            quarantine_wait,
            ..
        } = self.store;
        faults.check_period("store.condemn-wait", condemn_wait, up_to_a_century.clone());
        faults.check_period("store.quarantine-wait", quarantine_wait, up_to_a_century);
        faults.check_period("store.session", session, SESSION_MIN..=SESSION_MAX);
        let Limits { packs, reads } = self.limits;
        faults.check_number("limits.packs", packs, 1..=STREAMS_MAX);
        faults.check_number("limits.reads", reads, 1..=STREAMS_MAX);
        let UpkeepSettings {
            collect_every,
            scrub_period,
            scrub_rate,
        } = &self.upkeep;
        faults.check_period("upkeep.collect-every", *collect_every, HOUR..=MONTH);
        faults.check_period("upkeep.scrub-period", *scrub_period, Period(DAY)..=YEAR);
        if scrub_rate.0 < SCRUB_RATE_MIN {
            faults.add("upkeep.scrub-rate", "write at least \"1MiB\"");
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
        assert!(config.address().ends_with(":7445"), "{}", config.address());
        assert_eq!(config.store_dir(), config.state_dir.join("store"));
    }

    #[test]
    fn the_example_shows_every_setting_with_its_default() {
        let [shipped, shown] = example::forms(Role::Repository);
        assert_eq!(faults(&shipped), Vec::<String>::new());
        assert_eq!(faults(&shown), Vec::<String>::new());
        let shown: Config = toml::from_str(&shown).unwrap();
        assert!(shown.advertise.is_some() && shown.name.is_some() && shown.store.dir.is_some());
        assert!(shown.controller.is_some() && shown.metrics.listen.is_some());
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
            log.level = "a=loud"
            [store]
            dir = "here"
            retention = "99999d"
            session = "1s"
            [upkeep]
            collect-every = "1s"
            scrub-period = "1h"
            scrub-rate = "1KiB"
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
            "upkeep.collect-every",
            "upkeep.scrub-period",
            "upkeep.scrub-rate",
            "metrics.listen",
            "log.level",
        ];
        assert_eq!(faults(text), expected);
    }

    #[test]
    fn an_unknown_key_is_a_fault() {
        assert!(toml::from_str::<Config>("listne = \"[::]:1\"").is_err());
        assert!(toml::from_str::<Config>("[store]\nreserved = \"1GiB\"").is_err());
    }
}
