//! The quiesce ladder: how consistent a point is to be, what is tried for it, and what was achieved.
//!
//! What a policy asks for, from the strongest rung down, is tried rung by rung. What was achieved is
//! never what was asked for: it is decided by what vSphere and the guest left as evidence, and the
//! weaker reading wins. vSphere ignores a request to quiesce silently when VMware Tools do not run.

use std::fmt;

use serde::{Deserialize, Serialize};
use stillwater_format::manifest;
use stillwater_vsphere::{
    GuestFamily, Power, Quiesce, Tools, Vm, VssContext, VssWriter, WindowsQuiesce,
};

/// How consistent disks are with each other and with what ran on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As after a power cut.
    Crash,
    /// File systems were flushed and frozen.
    FileSystem,
    /// Applications took part.
    Application,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Crash => "crash",
            Level::FileSystem => "file-system",
            Level::Application => "application",
        })
    }
}

/// One rung: what is asked of the guest, how often, and for how long each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// What is asked for.
    pub level: Level,
    /// How often it is tried before the next rung.
    pub tries: u32,
    /// How many minutes the guest may take each time.
    pub budget_minutes: u8,
}

impl Rung {
    /// A rung with the usual patience.
    pub const fn new(level: Level) -> Self {
        Self {
            level,
            tries: match level {
                Level::Crash => 1,
                Level::FileSystem | Level::Application => 2,
            },
            budget_minutes: 5,
        }
    }
}

/// What is asked for when nobody asks: as much as the guest can do, and no warning for a guest that
/// can do nothing.
pub fn usual(vm: &Vm) -> Vec<Rung> {
    let windows = vm.facts.guest_family == GuestFamily::Windows;
    let levels: &[Level] = match (vm.power, vm.tools) {
        (Power::On, Tools::Running) if windows => {
            &[Level::Application, Level::FileSystem, Level::Crash]
        }
        (Power::On, Tools::Running) => &[Level::FileSystem, Level::Crash],
        _ => &[Level::Crash],
    };
    levels.iter().copied().map(Rung::new).collect()
}

/// What vSphere is asked for on a rung, or why the rung is of no use on this VM.
pub fn request(rung: &Rung, vm: &Vm) -> Result<Quiesce, &'static str> {
    if rung.level == Level::Crash || vm.power != Power::On {
        return Ok(Quiesce::None);
    }
    if vm.tools != Tools::Running {
        return Err("VMware Tools do not run in the guest; install or start them");
    }
    if vm.facts.quiescing_supported == Some(false) {
        return Err("vsphere says that the guest cannot be quiesced");
    }
    let timeout_minutes = rung.budget_minutes;
    let windows = |context| Quiesce::Windows(WindowsQuiesce::new(timeout_minutes, context));
    Ok(match (vm.facts.guest_family, rung.level) {
        (GuestFamily::Windows, Level::Application) => windows(VssContext::Auto),
        (GuestFamily::Windows, _) => windows(VssContext::FileShareBackup),
        _ => Quiesce::FileSystem { timeout_minutes },
    })
}

/// What vSphere and the guest left of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof<'a> {
    /// Whether the VM ran.
    pub power: Power,
    /// Whether the snapshot says that it was quiesced.
    pub is_quiesced: bool,
    /// The writers that took part; none when no archive was to be had or it could not be read.
    pub writers: Option<&'a [VssWriter]>,
}

/// What a snapshot is proved to be, at most what was asked for.
pub fn achieved(asked: Level, proof: &Proof<'_>) -> Level {
    let took_part = |writers: &[VssWriter]| {
        !writers.is_empty() && writers.iter().all(|writer| writer.failure.is_none())
    };
    let proved = match (proof.is_quiesced, proof.writers) {
        (false, _) => Level::Crash,
        (true, Some(writers)) if took_part(writers) => Level::Application,
        (true, _) => Level::FileSystem,
    };
    proved.min(asked)
}

/// As the manifest says it.
pub const fn consistency(power: Power, level: Level) -> manifest::Consistency {
    match (power, level) {
        (Power::Off, _) => manifest::Consistency::Offline,
        (_, Level::Crash) => manifest::Consistency::Crash,
        (_, Level::FileSystem) => manifest::Consistency::FileSystem,
        (_, Level::Application) => manifest::Consistency::Application,
    }
}

/// Whether less was achieved than the strongest rung asks for. A VM that is off needs nobody's help.
pub fn is_downgrade(ladder: &[Rung], power: Power, level: Level) -> bool {
    let wanted = ladder.iter().map(|rung| rung.level).max();
    power != Power::Off && wanted.is_some_and(|wanted| level < wanted)
}

/// The lowest level that the ladder allows: with less a run has failed.
pub fn least(ladder: &[Rung]) -> Level {
    let least = ladder.iter().map(|rung| rung.level).min();
    least.unwrap_or(Level::Crash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(failure: Option<&str>) -> VssWriter {
        VssWriter {
            name: "SqlServerWriter".into(),
            failure: failure.map(str::to_owned),
            component_count: 1,
        }
    }

    #[track_caller]
    fn check(asked: Level, is_quiesced: bool, writers: Option<&[VssWriter]>, expected: Level) {
        let proof = Proof {
            power: Power::On,
            is_quiesced,
            writers,
        };
        assert_eq!(achieved(asked, &proof), expected);
    }

    #[test]
    fn only_what_is_proved_counts() {
        let (good, bad) = (
            [writer(None)],
            [writer(None), writer(Some("VSS_WS_FAILED"))],
        );
        check(Level::Application, true, Some(&good), Level::Application);
        check(Level::Application, true, Some(&bad), Level::FileSystem);
        check(Level::Application, true, Some(&[]), Level::FileSystem);
        check(Level::Application, true, None, Level::FileSystem);
        check(Level::Application, false, Some(&good), Level::Crash);
        check(Level::FileSystem, true, Some(&good), Level::FileSystem);
        check(Level::FileSystem, false, None, Level::Crash);
        check(Level::Crash, true, None, Level::Crash);
    }

    #[test]
    fn less_than_the_strongest_rung_is_a_downgrade_unless_the_vm_is_off() {
        let ladder = [Rung::new(Level::Application), Rung::new(Level::Crash)];
        assert!(is_downgrade(&ladder, Power::On, Level::FileSystem));
        assert!(!is_downgrade(&ladder, Power::On, Level::Application));
        assert!(!is_downgrade(&ladder, Power::Off, Level::Crash));
        assert!(!is_downgrade(&ladder[1..], Power::On, Level::Crash));
        assert_eq!(least(&ladder), Level::Crash);
        assert_eq!(least(&ladder[..1]), Level::Application);
    }
}
