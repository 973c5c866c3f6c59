//! What is wrong with a configuration, and where.

use std::fmt;

use super::tree::At;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// Where it is: `file:line`, an environment variable, or a flag; empty when nowhere.
    pub at: String,
    /// The key, such as `server.listen`; empty when the fault has none.
    pub key: String,
    /// What is wrong.
    pub message: String,
    line: usize,
}

impl ConfigFault {
    pub(super) fn new(at: &At, key: &str, message: &str) -> Self {
        let mut fault = Self {
            at: String::new(),
            key: key.to_owned(),
            message: message.to_owned(),
            line: 0,
        };
        fault.place(at);
        fault
    }

    fn place(&mut self, at: &At) {
        self.line = at.line;
        self.at = match at.line {
            0 => at.source.clone(),
            line => format!("{}:{line}", at.source),
        };
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.at, &self.key]
            .into_iter()
            .filter(|part| !part.is_empty())
        {
            write!(f, "{part}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// All faults of a configuration; `Display` prints one per line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<ConfigFault>);

impl Faults {
    /// Adds a fault of `key`; where the key was set is filled in by the loader.
    pub fn add(&mut self, key: &str, message: impl Into<String>) {
        self.push(ConfigFault::new(&At::default(), key, &message.into()));
    }

    pub(super) fn push(&mut self, fault: ConfigFault) {
        self.0.push(fault);
    }

    /// The faults, in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigFault> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fills in where each key was set.
    pub(super) fn locate(&mut self, at: impl Fn(&str) -> At) {
        for fault in self.0.iter_mut().filter(|fault| fault.at.is_empty()) {
            fault.place(&at(&fault.key));
        }
    }

    /// Puts the faults in the order of a file's lines; those without a line come last.
    pub(super) fn sort(&mut self) {
        self.0.sort_by_key(|fault| {
            if fault.line == 0 {
                usize::MAX
            } else {
                fault.line
            }
        });
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
