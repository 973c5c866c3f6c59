//! How consistent a point is to be: the rungs that are tried, from the strongest down.

use std::fmt;

use serde::{Deserialize, Serialize};

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
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rung {
    /// What is asked for.
    pub level: Level,
    /// How often it is tried before the next rung.
    #[serde(default = "tries")]
    pub tries: u32,
    /// How many minutes the guest may take each time.
    #[serde(default = "budget_minutes")]
    pub budget_minutes: u8,
}

const fn tries() -> u32 {
    2
}

const fn budget_minutes() -> u8 {
    5
}

/// What is tried, and with what a point has to do at least: the last rung.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Consistency {
    /// From the strongest down. Empty is as much as the guest can do.
    #[serde(default)]
    pub ladder: Vec<Rung>,
}

impl Consistency {
    /// What is wrong with it, and what to write instead.
    pub(crate) fn fault(&self) -> Option<String> {
        let falling = self
            .ladder
            .windows(2)
            .all(|pair| pair[0].level > pair[1].level);
        if !falling {
            return Some("write each level once, the strongest first".into());
        }
        let tries = self.ladder.iter().all(|rung| (1..=5).contains(&rung.tries));
        let budgets = self.ladder.iter().all(|rung| rung.budget_minutes >= 5);
        match (tries, budgets) {
            (false, _) => Some("write tries = 1 to 5".into()),
            // vSphere takes 5 to 240 minutes and nothing else.
            (true, false) => Some("write budget-minutes = 5 to 240".into()),
            (true, true) => self
                .ladder
                .iter()
                .any(|rung| rung.budget_minutes > 240)
                .then(|| "write budget-minutes = 5 to 240".into()),
        }
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ladder.is_empty() {
            return f.write_str("as much as the guest can do");
        }
        for (index, rung) in self.ladder.iter().enumerate() {
            let then = if index == 0 { "" } else { ", then " };
            let Rung {
                level,
                tries,
                budget_minutes,
            } = rung;
            write!(f, "{then}{level} ({tries} × {budget_minutes} min)")?;
        }
        Ok(())
    }
}
