//! Hooks: programs of a guest that a run starts around its freeze, and what came of them.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_types::{Fault, Reason};

/// Most hooks of one run.
const HOOKS_MAX: usize = 32;
/// Enough for every path that a guest can have.
const PROGRAM_BYTES_MAX: usize = 4096;
/// Arguments of one hook together; they stand in the journal.
const ARGUMENTS_BYTES_MAX: usize = 16 * 1024;
const NAME_CHARS_MAX: usize = 80;
const TIMEOUT_SECONDS: u32 = 60;
const TIMEOUT_SECONDS_MAX: u32 = 3600;
const BUDGET_SECONDS: u32 = 300;
const BUDGET_SECONDS_MAX: u32 = 3600;

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Before the snapshot is asked for.
    Before,
    /// While the snapshot stands and the guest is still held.
    During,
    /// To release the guest.
    After,
}

/// What a hook that fails means to its run; the strictest comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Only the evidence tells.
    Ignore,
    /// The run goes on with a warning.
    Warn,
    /// The run fails.
    Fail,
}

/// A program of the guest. Nothing of it is secret: the guest shows it while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Its name.
    pub name: String,
    /// When it runs.
    pub phase: Phase,
    /// Its path in the guest.
    pub program: String,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// How long it may run before it is ended.
    pub timeout_seconds: u32,
    /// What it means when it fails.
    pub on_failure: OnFailure,
}

/// The hooks of a run, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// The hooks; each phase runs its own, in this order.
    pub hooks: Vec<Hook>,
    /// How long they may hold the guest before it releases itself.
    pub budget_seconds: u32,
}

/// How a hook ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookEnd {
    /// By itself, with this code.
    Code(i32),
    /// It ran too long and was ended.
    TimedOut,
    /// It was ended because the guest was released meanwhile.
    Released,
}

/// What came of a hook. Times are the guest's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    /// Its name.
    pub name: String,
    /// When it ran.
    pub phase: Phase,
    /// How it ended.
    pub end: HookEnd,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What it printed.
    pub output: String,
    /// Whether it printed more than that.
    #[serde(default)]
    pub truncated: bool,
}

/// How a guest was released. Times are the guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Whether the guest did it by itself because its time was over.
    pub by_watchdog: bool,
    /// When.
    pub at: Timestamp,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Before => "before",
            Phase::During => "during",
            Phase::After => "after",
        })
    }
}

impl Hooks {
    /// The hooks of `phase` with their numbers.
    pub fn of(&self, phase: Phase) -> impl Iterator<Item = (usize, &Hook)> + '_ {
        let all = self.hooks.iter().enumerate();
        all.filter(move |(_, hook)| hook.phase == phase)
    }

    /// What counts for all hooks together, such as a guest that cannot be reached.
    pub fn strictest(&self) -> OnFailure {
        let strictest = self.hooks.iter().map(|hook| hook.on_failure).max();
        strictest.unwrap_or(OnFailure::Ignore)
    }

    /// Puts usual values where nothing was said, and refuses what cannot be meant.
    ///
    /// # Errors
    /// `BAD_FIELD`.
    pub fn checked(mut self) -> Result<Self, Fault> {
        if self.hooks.len() > HOOKS_MAX {
            return Err(bad(format!("a run has at most {HOOKS_MAX} hooks")));
        }
        if self.budget_seconds == 0 {
            self.budget_seconds = BUDGET_SECONDS;
        }
        if self.budget_seconds > BUDGET_SECONDS_MAX {
            let message = format!("hooks hold a guest for at most {BUDGET_SECONDS_MAX} seconds");
            return Err(bad(message));
        }
        self.hooks.iter_mut().try_for_each(Hook::check)?;
        Ok(self)
    }
}

impl Hook {
    fn check(&mut self) -> Result<(), Fault> {
        let name = &self.name;
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || !is_plain(name) {
            let message = format!("a hook's name has 1 to {NAME_CHARS_MAX} characters on one line");
            return Err(bad(message));
        }
        if !self.program.starts_with('/') || self.program.len() > PROGRAM_BYTES_MAX {
            return Err(bad(format!(
                "hook {name:?}: name its program by its whole path in the guest, such as /usr/local/bin/hold"
            )));
        }
        let length: usize = self.arguments.iter().map(String::len).sum();
        if length > ARGUMENTS_BYTES_MAX {
            return Err(bad(format!(
                "hook {name:?}: its arguments have more than {ARGUMENTS_BYTES_MAX} bytes; put them into a file in the guest"
            )));
        }
        let mut words = self.arguments.iter().chain([&self.program]);
        if words.any(|word| word.contains('\0')) {
            return Err(bad(format!(
                "hook {name:?}: a zero byte cannot be told to a program"
            )));
        }
        if self.timeout_seconds == 0 {
            self.timeout_seconds = TIMEOUT_SECONDS;
        }
        match self.timeout_seconds > TIMEOUT_SECONDS_MAX {
            true => Err(bad(format!(
                "hook {name:?}: it may run for at most {TIMEOUT_SECONDS_MAX} seconds"
            ))),
            false => Ok(()),
        }
    }

    /// How long it may run.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.into())
    }
}

impl HookRun {
    /// What is wrong with it, if it failed.
    pub fn failure(&self) -> Option<Fault> {
        let how = match self.end {
            HookEnd::Code(0) => return None,
            HookEnd::Code(code) => format!("ended with exit code {code}"),
            HookEnd::TimedOut => "ran too long and was ended".to_owned(),
            HookEnd::Released => "was ended because the guest was released meanwhile".to_owned(),
        };
        let last = self.output.lines().rfind(|line| !line.trim().is_empty());
        let said: String = last.unwrap_or("nothing").chars().take(200).collect();
        let message = format!(
            "the {} hook {:?} {how}; the last that it printed: {}",
            self.phase,
            self.name,
            said.trim()
        );
        Some(Fault::new(Reason::HookFailed, message).with("hook", &self.name))
    }
}

fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn bad(message: impl Into<String>) -> Fault {
    Fault::new(Reason::BadField, message).with("field", "hooks")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook() -> Hook {
        Hook {
            name: "hold".into(),
            phase: Phase::Before,
            program: "/bin/true".into(),
            arguments: vec![],
            timeout_seconds: 0,
            on_failure: OnFailure::Fail,
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Hook), is_good: bool) {
        let mut hook = hook();
        change(&mut hook);
        let hooks = Hooks {
            hooks: vec![hook],
            budget_seconds: 0,
        };
        let checked = hooks.checked().map_err(|fault| fault.reason);
        assert_eq!(checked.is_ok(), is_good, "{checked:?}");
        assert!(is_good || checked == Err(Reason::BadField));
    }

    #[test]
    fn hooks_that_cannot_be_meant_are_refused() {
        check(|_| {}, true);
        check(|hook| hook.arguments = vec!["it's\na 'word'".into()], true);
        check(|hook| hook.name = String::new(), false);
        check(|hook| hook.name = "two\nlines".into(), false);
        check(|hook| hook.name = "n".repeat(81), false);
        check(|hook| hook.program = "true".into(), false);
        check(|hook| hook.program = String::new(), false);
        check(|hook| hook.arguments = vec!["a\0".into()], false);
        check(
            |hook| hook.arguments = vec!["a".repeat(16 * 1024 + 1)],
            false,
        );
        check(|hook| hook.timeout_seconds = 3601, false);
        let many = Hooks {
            hooks: vec![hook(); 33],
            budget_seconds: 0,
        };
        assert!(many.checked().is_err());
        let long = Hooks {
            hooks: vec![],
            budget_seconds: 3601,
        };
        assert!(long.checked().is_err());
    }

    #[test]
    fn what_was_not_said_is_usual_and_the_strictest_hook_counts() {
        let hooks = Hooks {
            hooks: vec![
                hook(),
                Hook {
                    on_failure: OnFailure::Warn,
                    ..hook()
                },
            ],
            budget_seconds: 0,
        };
        let hooks = hooks.checked().unwrap();
        assert_eq!(
            (hooks.budget_seconds, hooks.hooks[0].timeout_seconds),
            (300, 60)
        );
        assert_eq!(hooks.strictest(), OnFailure::Fail);
    }

    #[test]
    fn a_failed_hook_says_how_it_failed_and_what_it_said_last() {
        let mut run = HookRun {
            name: "hold".into(),
            phase: Phase::Before,
            end: HookEnd::Code(0),
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: Timestamp::UNIX_EPOCH,
            output: "one\nno such table\n\n".into(),
            truncated: false,
        };
        assert_eq!(run.failure(), None);
        run.end = HookEnd::Code(3);
        let fault = run.failure().unwrap();
        assert_eq!(fault.reason, Reason::HookFailed);
        assert!(fault.message.contains("3") && fault.message.ends_with("no such table"));
    }
}
