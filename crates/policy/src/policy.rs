//! A policy: one file, one name, one promise.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Clause, Consistency, DiskClause, Rate, Retention, Schedule, Scope, Way};

/// Priorities go from 1 to this.
pub const PRIORITY_MAX: u8 = 9;
const NAME_CHARS_MAX: usize = 64;
/// A file is read by people: what is longer was made by a mistake.
const FILE_BYTES_MAX: usize = 1 << 20;

/// What is to be protected, how often, for how long and how well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Policy {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Its share when there is not enough for all: 1 to 9, and 9 has nine times what 1 has.
    #[serde(default = "priority")]
    pub priority: u8,
    /// Which VMs it is for.
    #[serde(default)]
    pub scope: Scope,
    /// How consistent points are to be.
    #[serde(default)]
    pub consistency: Consistency,
    /// When points are wanted.
    pub schedule: Schedule,
    /// Which points are kept.
    pub retention: Retention,
    /// Where points are kept.
    pub store: Store,
    /// What its runs may take.
    #[serde(default)]
    pub limits: Limits,
}

/// Where points are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Store {
    /// The repository that runs write to.
    pub repository: String,
    /// Repositories that get a copy of each point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<String>,
}

/// What the runs of a policy may take together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// What they may read in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Rate>,
    /// How many there may be at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<u32>,
    /// How many disks of one VM are read at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disks_per_vm: Option<u32>,
    /// By which ways disks may be read; by all that there are when none is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<Way>,
}

const fn priority() -> u8 {
    5
}

/// A key whose value cannot stand, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFault {
    /// Where, such as `scope.include[0]`.
    pub key: String,
    /// What to write.
    pub write: String,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.write)
    }
}

/// A text that is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be read: not TOML, an unknown key, a value of another kind.
    #[error("read policy: {0}")]
    Unreadable(String),
    /// It can be read, but what it says cannot stand. All such keys.
    #[error("policy cannot stand: {}", join(.0))]
    Invalid(Vec<KeyFault>),
}

fn join(faults: &[KeyFault]) -> String {
    let each: Vec<String> = faults.iter().map(KeyFault::to_string).collect();
    each.join("; ")
}

impl Policy {
    /// Reads a policy file.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > FILE_BYTES_MAX {
            return Err(Error::Unreadable("write at most 1 MiB".into()));
        }
        let policy: Self =
            toml::from_str(text).map_err(|err| Error::Unreadable(err.to_string()))?;
        policy.check()?;
        Ok(policy)
    }

    /// The policy as a file, in the order in which it is documented.
    pub fn print(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|err| Error::Unreadable(err.to_string()))
    }

    /// Whether everything that it says can stand; a policy that was read from elsewhere than a file
    /// has to be asked too.
    pub fn check(&self) -> Result<(), Error> {
        let faults = self.faults();
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::Invalid(faults))
    }

    fn faults(&self) -> Vec<KeyFault> {
        let mut faults = Vec::new();
        let mut tell = |key: String, write: Option<String>| {
            faults.extend(write.map(|write| KeyFault { key, write }));
        };
        tell("name".into(), name_fault(&self.name));
        let priority = (1..=PRIORITY_MAX).contains(&self.priority);
        tell(
            "priority".into(),
            (!priority).then(|| "write 1 to 9".into()),
        );
        let all = self.scope.include.is_empty();
        tell(
            "scope.include".into(),
            all.then(|| {
                "write for which VMs: [[scope.include]] with folder, tag, cluster or name".into()
            }),
        );
        let Scope {
            include,
            exclude,
            exclude_disks,
        } = &self.scope;
        for (index, clause) in include.iter().enumerate() {
            tell(format!("scope.include[{index}]"), Clause::fault(clause));
        }
        for (index, clause) in exclude.iter().enumerate() {
            tell(format!("scope.exclude[{index}]"), Clause::fault(clause));
        }
        for (index, clause) in exclude_disks.iter().enumerate() {
            let key = format!("scope.exclude-disks[{index}]");
            tell(key, DiskClause::fault(clause));
        }
        tell("consistency.ladder".into(), self.consistency.fault());
        tell("retention".into(), self.retention.fault());
        tell(
            "store.repository".into(),
            name_fault(&self.store.repository),
        );
        for (index, copy) in self.store.copies.iter().enumerate() {
            let again = *copy == self.store.repository || self.store.copies[..index].contains(copy);
            let write = name_fault(copy).or_else(|| {
                again.then(|| format!("{copy:?} has the points already: write another repository"))
            });
            tell(format!("store.copies[{index}]"), write);
        }
        let none = |count: Option<u32>| {
            (count == Some(0)).then(|| "write 1 or more, or leave it out".to_owned())
        };
        tell("limits.runs".into(), none(self.limits.runs));
        tell("limits.disks-per-vm".into(), none(self.limits.disks_per_vm));
        let ways = &self.limits.ways;
        let again = (1..ways.len()).any(|index| ways[..index].contains(&ways[index]));
        tell(
            "limits.ways".into(),
            again.then(|| "write each way once".into()),
        );
        let slow = self
            .limits
            .bandwidth
            .is_some_and(|rate| rate.bytes_per_second() < 1_000_000);
        tell(
            "limits.bandwidth".into(),
            slow.then(|| "write 1MB/s or more, or leave it out".into()),
        );
        faults
    }
}

fn name_fault(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good =
        !name.is_empty() && name.chars().count() <= NAME_CHARS_MAX && name.chars().all(plain);
    (!good).then(|| {
        format!("write 1 to {NAME_CHARS_MAX} letters, digits, dots, dashes or underscores")
    })
}

#[cfg(test)]
mod tests;
