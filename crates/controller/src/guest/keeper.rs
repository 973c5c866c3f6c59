//! What is put into a guest to run hooks there: one script that runs each hook once, and releases the
//! guest by itself when nobody comes back to do so.
//!
//! The script's acts may all be asked for again, so that an answer that was lost costs nothing.

use std::time::Duration;

use jiff::Timestamp;
use stillwater_types::{Fault, Reason, RunId};

use super::hook::{HookEnd, HookRun, Hooks, Phase, Release};

/// Most that is kept of what one hook prints.
pub(super) const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// The line before the output.
const HEAD_BYTES_MAX: usize = 256;
/// A hook that is ended may take this long to go, and its report to be written.
const GRACE: Duration = Duration::from_secs(10);

/// The script of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    hooks: Hooks,
    /// Where everything of it lies, without an ending.
    base: String,
}

impl Keeper {
    /// The keeper of `run`. Its place is known from the run alone, so that a restarted controller finds
    /// it, and can be guessed by nobody else.
    pub fn new(run: RunId, hooks: Hooks) -> Self {
        Self::at(format!("/tmp/stillwater-{run}"), hooks)
    }

    fn at(base: String, hooks: Hooks) -> Self {
        Self { hooks, base }
    }

    /// What it runs.
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    pub(super) fn script_path(&self) -> String {
        format!("{}.sh", self.base)
    }

    pub(super) fn release_path(&self) -> String {
        format!("{}/by", self.base)
    }

    pub(super) fn report_path(&self, number: usize) -> String {
        format!("{}/{number}", self.base)
    }

    pub(super) const fn report_bytes_max() -> usize {
        OUTPUT_BYTES_MAX + HEAD_BYTES_MAX
    }

    /// How long hook `number` can take, its end by force included.
    pub(super) fn patience(&self, number: usize) -> Duration {
        let hook = self.hooks.hooks.get(number);
        hook.map_or(Duration::ZERO, |hook| hook.timeout()) + GRACE
    }

    /// How long it can take to run all AFTER hooks.
    pub(super) fn release_patience(&self) -> Duration {
        let after = self.hooks.of(Phase::After);
        after
            .map(|(number, _)| self.patience(number))
            .sum::<Duration>()
            + GRACE
    }

    /// The script, for `sh`.
    pub(super) fn script(&self) -> String {
        let after: Vec<_> = self
            .hooks
            .of(Phase::After)
            .map(|(n, _)| n.to_string())
            .collect();
        let mut script = format!(
            "#!/bin/sh\n\
             # Runs the hooks of a backup, and releases this guest when nobody comes back to do so.\n\
             umask 077\n\
             dir={}\nbudget={}\nlimit={}\nafter='{}'\n\nhook() {{\n    case $1 in\n",
            quoted(&self.base),
            self.hooks.budget_seconds,
            // Blocks; one more than is kept tells that there was more.
            OUTPUT_BYTES_MAX / 512 + 1,
            after.join(" "),
        );
        for (number, hook) in self.hooks.hooks.iter().enumerate() {
            script.push_str(&format!(
                "    {number}) timeout={}; set -- {}",
                hook.timeout_seconds,
                quoted(&hook.program)
            ));
            for argument in &hook.arguments {
                script.push(' ');
                script.push_str(&quoted(argument));
            }
            script.push_str(" ;;\n");
        }
        script.push_str("    *) exit 64 ;;\n    esac\n");
        script.push_str("    $group \"$@\" </dev/null >\"$out\" 2>&1 &\n}\n\n");
        script.push_str(include_str!("keeper.sh"));
        script
    }

    /// Reads what the script left of hook `number`.
    pub(super) fn report(&self, number: usize, bytes: &[u8]) -> Result<HookRun, Fault> {
        let hook = self.hooks.hooks.get(number);
        let hook = hook.ok_or_else(|| unreadable("of a hook that there is not"))?;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (head, output) = bytes.split_at(end.ok_or_else(|| unreadable("without a head"))?);
        let head = std::str::from_utf8(head).map_err(|_| unreadable("that is no text"))?;
        let words: Vec<&str> = head.split(' ').collect();
        let [how, code, started, ended] = words[..] else {
            return Err(unreadable("with an odd head"));
        };
        let code: i32 = code.parse().map_err(|_| unreadable("without a code"))?;
        let output = output.get(1..).unwrap_or_default();
        let kept = output.get(..OUTPUT_BYTES_MAX).unwrap_or(output);
        Ok(HookRun {
            name: hook.name.clone(),
            phase: hook.phase,
            end: match how {
                "code" => HookEnd::Code(code),
                "late" => HookEnd::TimedOut,
                "released" => HookEnd::Released,
                _ => return Err(unreadable("with an unknown end")),
            },
            started_at: moment(started)?,
            ended_at: moment(ended)?,
            output: printable(&String::from_utf8_lossy(kept)),
            truncated: output.len() > OUTPUT_BYTES_MAX,
        })
    }
}

/// Whoever prints it later must not be told what to do by a guest.
fn printable(text: &str) -> String {
    let odd = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.replace(odd, "\u{fffd}")
}

/// Reads who released the guest.
pub(super) fn release(bytes: &[u8]) -> Result<Release, Fault> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    match text.trim().split_once(' ') {
        Some(("watchdog", at)) => Ok(Release {
            by_watchdog: true,
            at: moment(at)?,
        }),
        Some(("controller", at)) => Ok(Release {
            by_watchdog: false,
            at: moment(at)?,
        }),
        _ => Err(unreadable("of the release that cannot be read")),
    }
}

fn moment(seconds: &str) -> Result<Timestamp, Fault> {
    let seconds = seconds.parse().ok();
    let moment = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    moment.ok_or_else(|| unreadable("without a time"))
}

fn unreadable(what: &str) -> Fault {
    Fault::new(
        Reason::GuestUnavailable,
        format!("the guest has a report {what}"),
    )
}

/// A word that `sh` takes as it is.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
