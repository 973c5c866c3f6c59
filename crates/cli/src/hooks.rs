//! The file with the hooks of a backup.

use std::path::Path;

use serde::Deserialize;
use stillwater_controller_api::{Hook, HookFailure, HookPhase};
use stillwater_types::{Fault, Reason};

use crate::password::read;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Hooks {
    /// The hooks, in order.
    pub hooks: Vec<Hook>,
    /// How long they may hold the guest; the usual time when zero.
    pub budget_seconds: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    budget_seconds: u32,
    #[serde(default)]
    hook: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    phase: Phase,
    program: String,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    timeout_seconds: u32,
    #[serde(default)]
    on_failure: OnFailure,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    Before,
    During,
    After,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
enum OnFailure {
    #[default]
    Fail,
    Warn,
    Ignore,
}

/// Reads a file of hooks.
pub(crate) fn load(file: &Path) -> Result<Hooks, Fault> {
    let bad = |problem: String| {
        let message = format!("{} is no file of hooks: {problem}", file.display());
        Fault::new(Reason::BadField, message)
    };
    let text = String::from_utf8(read(file)?).map_err(|_| bad("it is not UTF-8".to_owned()))?;
    parse(&text).map_err(bad)
}

fn parse(text: &str) -> Result<Hooks, String> {
    let File {
        budget_seconds,
        hook,
    } = toml::from_str(text).map_err(|error| error.to_string())?;
    match hook.is_empty() {
        true => Err("it has no [[hook]]".to_owned()),
        false => Ok(Hooks {
            hooks: hook.into_iter().map(Hook::from).collect(),
            budget_seconds,
        }),
    }
}

impl From<Written> for Hook {
    fn from(written: Written) -> Self {
        let Written {
            name,
            phase,
            program,
            arguments,
            timeout_seconds,
            on_failure,
        } = written;
        Self {
            name,
            phase: match phase {
                Phase::Before => HookPhase::Before,
                Phase::During => HookPhase::During,
                Phase::After => HookPhase::After,
            },
            program,
            arguments,
            timeout_seconds,
            on_failure: match on_failure {
                OnFailure::Fail => HookFailure::Fail,
                OnFailure::Warn => HookFailure::Warn,
                OnFailure::Ignore => HookFailure::Ignore,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_hooks_is_read() {
        let text = r#"
            budget_seconds = 60
            [[hook]]
            name = "hold"
            phase = "before"
            program = "/usr/local/sbin/hold"
            arguments = ["--now"]
            timeout_seconds = 30
            on_failure = "warn"
            [[hook]]
            name = "free"
            phase = "after"
            program = "/usr/local/sbin/free"
        "#;
        let hooks = parse(text).unwrap();
        assert_eq!((hooks.budget_seconds, hooks.hooks.len()), (60, 2));
        assert_eq!(hooks.hooks[0].on_failure, HookFailure::Warn);
        assert_eq!(hooks.hooks[1].phase, HookPhase::After);
        assert_eq!(hooks.hooks[1].on_failure, HookFailure::Fail);
    }

    #[test]
    fn a_file_that_says_something_else_is_refused() {
        for bad in [
            "",
            "budget_seconds = 60",
            "[[hook]]\nname = \"a\"\nphase = \"before\"",
            "[[hook]]\nname = \"a\"\nphase = \"later\"\nprogram = \"/a\"",
            "[[hook]]\nname = \"a\"\nphase = \"after\"\nprogram = \"/a\"\npassword = \"x\"",
            "[[hook",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
