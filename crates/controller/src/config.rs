//! `/etc/stillwater/controller.toml`.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use stillwater_service::config::{Bytes, Faults, Period, SecretRef, Settings};
use stillwater_service::metrics::MetricsSettings;
use stillwater_service::telemetry::LogSettings;
use stillwater_types::NodeId;

use crate::restore::Restorers;
use crate::run::{Guards, HostLimits, Patience, Timing, Trust};
use crate::schedule::{self, Book};

/// Runs at once that one controller plans, at most: more would only wait for proxies.
const PARALLEL_RUNS_MAX: u32 = 256;
/// A map that nobody ever checks is no promise.
const COMPARE_AFTER_POINTS_MAX: u32 = 100_000;
const COMPARE_AFTER_MAX: Period = Period(Duration::from_secs(90 * 24 * 3600));
/// No host opens more.
const HOST_DISKS_MAX: u32 = 50;
/// What one disk needs, and more than any host has.
const HOST_BUFFERS_MIN: Bytes = Bytes(2 << 20);
const HOST_BUFFERS_MAX: Bytes = Bytes(96 << 20);
/// A task that is given up goes on all the same: less would only make work.
const SNAPSHOT_TASK_MIN: Period = Period(Duration::from_secs(1));
const SNAPSHOT_TASK_MAX: Period = Period(Duration::from_secs(24 * 3600));
const LEFTOVERS_MIN: Period = Period(Duration::from_secs(1));
const LEFTOVERS_MAX: Period = Period(Duration::from_secs(3600));
const PERCENT_MAX: u32 = 90;
/// A chain of 32 snapshots is the most that vSphere bears, and ours is one.
const FOREIGN_SNAPSHOTS_MAX: u32 = 31;
const FOREIGN_AGE_MAX: Period = Period(Duration::from_secs(3650 * 24 * 3600));
/// The lease ends after a day, and a run is stopped before that anyway.
const SNAPSHOT_AGE_MAX: Period = Period(Duration::from_secs(24 * 3600));
const SNAPSHOT_AGE_MIN: Period = Period(Duration::from_secs(1));
/// A list of thousands of VMs is work for a vCenter.
const LOOK_EVERY: Period = Period(Duration::from_secs(60));
/// Deletions give room back after days only: nothing is won by more haste.
const EXPIRE_EVERY: Period = Period(Duration::from_secs(600));
const EXPIRE_EVERY_MAX: Period = Period(Duration::from_secs(24 * 3600));
const DRAIN_MAX: Period = Period(Duration::from_secs(600));

/// The controller's settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where proxies, repositories and administrators are answered.
    pub listen: SocketAddr,
    /// `host:port` that join tokens carry; what `init` was told when absent.
    pub advertise: Option<String>,
    /// The controller's name in lists, for `init`; the host name when absent.
    pub name: Option<String>,
    /// Where keys, journal and projection live; on a disk that outlives the machine's root.
    pub state_dir: PathBuf,
    /// The key that seals private keys and passwords at rest: `file:/path`, `credential:name` or
    /// `env:NAME`, 64 hexadecimal digits. The file `kek` in the state directory when absent.
    pub kek: Option<SecretRef>,
    /// How long open calls and runs may take to come to rest when the controller is stopped.
    pub drain: Period,
    /// What is done at once.
    pub limits: Limits,
    /// How far vSphere's maps of changed areas are believed.
    pub change_maps: ChangeMaps,
    /// How long snapshots may take, and how often leftovers are looked for.
    pub snapshots: Snapshots,
    /// What must hold before a VM is frozen.
    pub guards: GuardSettings,
    /// By which ways disks are read.
    pub transports: Transports,
    /// How much of everything the runs of policies take at once.
    pub scheduler: SchedulerSettings,
    /// Who may take something out of restore points.
    pub restores: Restores,
    /// Where metrics are answered.
    pub metrics: MetricsSettings,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// What is done at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Runs at work at the same time; further ones wait their turn.
    pub parallel_runs: u32,
    /// Disks that are open at once through port 902 of one ESXi host.
    pub host_disks: u32,
    /// Memory of one host that they may use together.
    pub host_buffers: Bytes,
}

impl Limits {
    /// The host's part in the run engine's words.
    pub fn host_limits(&self) -> HostLimits {
        HostLimits {
            disks: self.host_disks,
            buffer_bytes: self.host_buffers.0,
        }
    }
}

/// By which ways disks are read; the datastore's folder is always the last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Transports {
    /// Whether disks are read through their host's port 902 first.
    pub nfc: bool,
    /// Whether disks are attached to the VM of the proxy that reads or writes them, if it may.
    pub hot_add: bool,
}

/// How much of everything the runs of policies take at once. What an administrator starts is not counted,
/// but takes proxies' slots like any run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SchedulerSettings {
    /// VMs of one host in runs.
    pub host_runs: u32,
    /// VMs with disks on one datastore in runs.
    pub datastore_runs: u32,
    /// Runs that write to one repository.
    pub repository_runs: u32,
    /// How often it is looked at which VMs are in the scopes of policies.
    pub look_every: Period,
    /// How often points that no policy wants any more are deleted; the first time so long after a start.
    pub expire_every: Period,
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        let limits = schedule::Limits::default();
        Self {
            host_runs: limits.host_runs,
            datastore_runs: limits.datastore_runs,
            repository_runs: limits.repository_runs,
            look_every: LOOK_EVERY,
            expire_every: EXPIRE_EVERY,
        }
    }
}

impl SchedulerSettings {
    fn check(&self, faults: &mut Faults) {
        let all = [
            ("scheduler.host-runs", self.host_runs),
            ("scheduler.datastore-runs", self.datastore_runs),
            ("scheduler.repository-runs", self.repository_runs),
        ];
        for (key, count) in all {
            faults.check_number(key, count, 1..=PARALLEL_RUNS_MAX);
        }
        let looks = LEFTOVERS_MIN..=LEFTOVERS_MAX;
        faults.check_period("scheduler.look-every", self.look_every, looks);
        let expires = LEFTOVERS_MIN..=EXPIRE_EVERY_MAX;
        faults.check_period("scheduler.expire-every", self.expire_every, expires);
    }
}

/// Who may take something out of restore points.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Restores {
    /// Administrators who may restore VMs and disks, by the id that `stillwater node list` shows; every
    /// one when absent. Whoever joins later is not among them.
    pub administrators: Option<Vec<NodeId>>,
}

impl Restores {
    /// The same in the run engine's words.
    pub fn restorers(&self) -> Restorers {
        Restorers::new(self.administrators.as_deref())
    }
}

/// How long snapshots may take, and how often leftovers are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Snapshots {
    /// How long the making of a snapshot is waited for.
    pub create_timeout: Period,
    /// How long a removal or a consolidation is waited for; it goes on all the same.
    pub remove_timeout: Period,
    /// How often all VMs are searched for leftovers of ours.
    pub search_every: Period,
    /// How soon a leftover that could not be removed is tried again at first.
    pub retry_every: Period,
}

impl Default for Snapshots {
    fn default() -> Self {
        let Patience { create, remove } = Patience::default();
        let timing = Timing::default();
        Self {
            create_timeout: Period(create),
            remove_timeout: Period(remove),
            search_every: Period(timing.search_every),
            retry_every: Period(timing.reap_every),
        }
    }
}

impl Snapshots {
    /// How long tasks are waited for, in the run engine's words.
    pub fn patience(&self) -> Patience {
        Patience {
            create: self.create_timeout.0,
            remove: self.remove_timeout.0,
        }
    }

    /// How often leftovers are looked for, in the run engine's words.
    pub fn timing(&self) -> Timing {
        Timing {
            search_every: self.search_every.0,
            reap_every: self.retry_every.0,
            ..Timing::default()
        }
    }

    fn check(&self, faults: &mut Faults) {
        let Self {
            create_timeout,
            remove_timeout,
            search_every,
            retry_every,
        } = *self;
        let tasks = || SNAPSHOT_TASK_MIN..=SNAPSHOT_TASK_MAX;
        let leftovers = || LEFTOVERS_MIN..=LEFTOVERS_MAX;
        faults.check_period("snapshots.create-timeout", create_timeout, tasks());
        faults.check_period("snapshots.remove-timeout", remove_timeout, tasks());
        faults.check_period("snapshots.search-every", search_every, leftovers());
        faults.check_period("snapshots.retry-every", retry_every, leftovers());
    }
}

/// What must hold before a VM is frozen, and for how long it may be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GuardSettings {
    /// A datastore with less free than this part, in percent, is warned of.
    pub headroom_percent: u32,
    /// One with less than this refuses runs.
    pub headroom_min_percent: u32,
    /// How much of a disk is expected to be written while its snapshot lives, in percent.
    pub delta_percent: u32,
    /// A VM with more snapshots of others is refused.
    pub foreign_snapshots: u32,
    /// A snapshot of others that is older is warned of.
    pub foreign_snapshot_age: Period,
    /// A run whose snapshot grows older is ended.
    pub snapshot_age: Period,
    /// Snapshots that are made or removed at once on the VMs of one host.
    pub host_snapshot_tasks: u32,
    /// The same of VMs with files on one datastore.
    pub datastore_snapshot_tasks: u32,
}

impl Default for GuardSettings {
    fn default() -> Self {
        let guards = Guards::default();
        Self {
            headroom_percent: guards.headroom_percent,
            headroom_min_percent: guards.headroom_min_percent,
            delta_percent: guards.delta_percent,
            foreign_snapshots: guards.foreign_count_max,
            foreign_snapshot_age: Period(guards.foreign_age_max),
            snapshot_age: Period(guards.snapshot_age_max),
            host_snapshot_tasks: guards.host_tasks,
            datastore_snapshot_tasks: guards.datastore_tasks,
        }
    }
}

impl GuardSettings {
    /// The same in the run engine's words.
    pub fn guards(&self) -> Guards {
        Guards {
            headroom_percent: self.headroom_percent,
            headroom_min_percent: self.headroom_min_percent,
            delta_percent: self.delta_percent,
            foreign_count_max: self.foreign_snapshots,
            foreign_age_max: self.foreign_snapshot_age.0,
            snapshot_age_max: self.snapshot_age.0,
            host_tasks: self.host_snapshot_tasks,
            datastore_tasks: self.datastore_snapshot_tasks,
        }
    }

    fn check(&self, faults: &mut Faults) {
        let percents = [
            ("guards.headroom-percent", self.headroom_percent),
            ("guards.headroom-min-percent", self.headroom_min_percent),
            ("guards.delta-percent", self.delta_percent),
        ];
        for (key, percent) in percents {
            faults.check_number(key, percent, 0..=PERCENT_MAX);
        }
        if self.headroom_min_percent > self.headroom_percent {
            faults.add(
                "guards.headroom-min-percent",
                "must not be more than guards.headroom-percent, which only warns",
            );
        }
        let snapshots = 0..=FOREIGN_SNAPSHOTS_MAX;
        faults.check_number(
            "guards.foreign-snapshots",
            self.foreign_snapshots,
            snapshots,
        );
        faults.check_period(
            "guards.foreign-snapshot-age",
            self.foreign_snapshot_age,
            Period(Duration::ZERO)..=FOREIGN_AGE_MAX,
        );
        let ages = SNAPSHOT_AGE_MIN..=SNAPSHOT_AGE_MAX;
        faults.check_period("guards.snapshot-age", self.snapshot_age, ages);
        let tasks = [
            ("guards.host-snapshot-tasks", self.host_snapshot_tasks),
            (
                "guards.datastore-snapshot-tasks",
                self.datastore_snapshot_tasks,
            ),
        ];
        for (key, count) in tasks {
            faults.check_number(key, count, 1..=PARALLEL_RUNS_MAX);
        }
    }
}

/// How far vSphere's maps of changed areas are believed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ChangeMaps {
    /// After so many points in a row that believed the map of a disk, one reads all of it.
    pub compare_after_points: u32,
    /// After so long, too.
    pub compare_after: Period,
}

impl Default for ChangeMaps {
    fn default() -> Self {
        let Trust {
            points_max,
            age_max,
        } = Trust::default();
        Self {
            compare_after_points: points_max,
            compare_after: Period(age_max),
        }
    }
}

impl ChangeMaps {
    /// The same in the run engine's words.
    pub fn trust(&self) -> Trust {
        Trust {
            points_max: self.compare_after_points,
            age_max: self.compare_after.0,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 7443)),
            advertise: None,
            name: None,
            state_dir: PathBuf::from("/var/lib/stillwater/controller"),
            kek: None,
            drain: Period(Duration::from_secs(20)),
            limits: Limits::default(),
            change_maps: ChangeMaps::default(),
            snapshots: Snapshots::default(),
            guards: GuardSettings::default(),
            transports: Transports::default(),
            scheduler: SchedulerSettings::default(),
            restores: Restores::default(),
            metrics: MetricsSettings::default(),
            log: LogSettings::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let HostLimits {
            disks,
            buffer_bytes,
        } = HostLimits::default();
        Self {
            parallel_runs: 8,
            host_disks: disks,
            host_buffers: Bytes(buffer_bytes),
        }
    }
}

impl Config {
    /// Where the key-encryption key is.
    pub fn kek(&self) -> SecretRef {
        let beside = || SecretRef::File(self.state_dir.join("kek"));
        self.kek.clone().unwrap_or_else(beside)
    }

    /// The book of what policies promise, with these limits.
    pub fn book(&self) -> Book {
        let limits = schedule::Limits {
            host_runs: self.scheduler.host_runs,
            datastore_runs: self.scheduler.datastore_runs,
            // More would only wait for their turn among all runs.
            repository_runs: self
                .scheduler
                .repository_runs
                .min(self.limits.parallel_runs),
        };
        let ways = schedule::Ways {
            hot_adds: self.transports.hot_add,
            reads_nfc: self.transports.nfc,
            reads_files: true,
            reads_nbd: true,
        };
        Book::new(limits, ways)
    }
}

impl Settings for Config {
    fn check(&self, faults: &mut Faults) {
        faults.check_address("advertise", self.advertise.as_deref());
        faults.check_name("name", self.name.as_deref());
        faults.check_path("state-dir", &self.state_dir);
        let Limits {
            parallel_runs,
            host_disks,
            host_buffers,
        } = self.limits;
        faults.check_number("limits.parallel-runs", parallel_runs, 1..=PARALLEL_RUNS_MAX);
        faults.check_number("limits.host-disks", host_disks, 1..=HOST_DISKS_MAX);
        let buffers = HOST_BUFFERS_MIN..=HOST_BUFFERS_MAX;
        faults.check_number("limits.host-buffers", host_buffers, buffers);
        faults.check_period("drain", self.drain, Period(Duration::ZERO)..=DRAIN_MAX);
        let ChangeMaps {
            compare_after_points,
            compare_after,
        } = self.change_maps;
        faults.check_number(
            "change-maps.compare-after-points",
            compare_after_points,
            0..=COMPARE_AFTER_POINTS_MAX,
        );
        faults.check_period(
            "change-maps.compare-after",
            compare_after,
            Period(Duration::ZERO)..=COMPARE_AFTER_MAX,
        );
        self.snapshots.check(faults);
        self.guards.check(faults);
        self.scheduler.check(faults);
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
        let config: Config = toml::from_str(text).expect("well formed");
        let mut faults = Faults::default();
        config.check(&mut faults);
        faults.iter().map(|fault| fault.key.clone()).collect()
    }

    #[test]
    fn an_empty_file_is_a_good_configuration() {
        assert_eq!(faults(""), Vec::<String>::new());
        let config: Config = toml::from_str("").expect("well formed");
        let kek = config.kek().to_string();
        assert_eq!(kek, "file:/var/lib/stillwater/controller/kek");
    }

    #[test]
    fn the_example_is_a_good_configuration_with_and_without_its_comments() {
        let [shipped, shown] = example::forms(Role::Controller);
        assert_eq!(faults(&shipped), Vec::<String>::new());
        assert_eq!(faults(&shown), Vec::<String>::new());
        let shown: Config = toml::from_str(&shown).expect("well formed");
        let defaults = Config::default();
        assert_eq!(
            (shown.listen, shown.drain),
            (defaults.listen, defaults.drain)
        );
        assert_eq!(
            (shown.state_dir, shown.limits, shown.guards),
            (defaults.state_dir, defaults.limits, defaults.guards)
        );
        assert!(shown.advertise.is_some() && shown.kek.is_some() && shown.name.is_some());
    }

    #[test]
    fn every_fault_is_found_at_once() {
        let text = r#"
            advertise = "controller"
            name = " "
            state-dir = "state"
            drain = "1h"
            limits.parallel-runs = 0
            limits.host-disks = 51
            limits.host-buffers = "1MiB"
            change-maps.compare-after-points = 1000000
            change-maps.compare-after = "1000d"
            snapshots.create-timeout = "0s"
            snapshots.remove-timeout = "2d"
            snapshots.search-every = "0s"
            snapshots.retry-every = "2h"
            guards.headroom-percent = 91
            guards.headroom-min-percent = 91
            guards.delta-percent = 91
            guards.foreign-snapshots = 32
            guards.foreign-snapshot-age = "10000d"
            guards.snapshot-age = "0s"
            guards.host-snapshot-tasks = 0
            guards.datastore-snapshot-tasks = 0
            metrics.listen = "0.0.0.0:9443"
            log.level = "a=loud"
        "#;
        let expected = [
            "advertise",
            "name",
            "state-dir",
            "limits.parallel-runs",
            "limits.host-disks",
            "limits.host-buffers",
            "drain",
            "change-maps.compare-after-points",
            "change-maps.compare-after",
            "snapshots.create-timeout",
            "snapshots.remove-timeout",
            "snapshots.search-every",
            "snapshots.retry-every",
            "guards.headroom-percent",
            "guards.headroom-min-percent",
            "guards.delta-percent",
            "guards.foreign-snapshots",
            "guards.foreign-snapshot-age",
            "guards.snapshot-age",
            "guards.host-snapshot-tasks",
            "guards.datastore-snapshot-tasks",
            "metrics.listen",
            "log.level",
        ];
        assert_eq!(faults(text), expected);
    }

    #[test]
    fn what_refuses_must_not_come_before_what_warns() {
        let key = "guards.headroom-min-percent";
        assert_eq!(faults("guards.headroom-percent = 4"), [key]);
        assert_eq!(faults("guards.headroom-min-percent = 10"), [""; 0]);
    }

    #[test]
    fn an_unknown_key_is_a_fault() {
        assert!(toml::from_str::<Config>("listne = \"[::]:1\"").is_err());
        assert!(toml::from_str::<Config>("[limits]\nruns = 1").is_err());
    }

    #[test]
    fn a_secret_written_into_the_file_is_refused() {
        let error = toml::from_str::<Config>("kek = \"00112233\"").expect_err("no reference");
        assert!(!error.message().contains("00112233"));
    }
}
