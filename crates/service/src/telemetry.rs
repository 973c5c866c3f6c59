//! Logs to stderr, for people or for machines.

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal};

use serde::Deserialize;
use stillwater_types::{Fault, Reason};
use tracing_subscriber::EnvFilter;

use crate::config::Faults;

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// For a person; without times where the journal adds them.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The `[log]` section of every role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogSettings {
    /// What is logged: `info`, `debug`, or directives such as `info,stillwater_proxy=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: Format,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: Format::Text,
        }
    }
}

/// Starts logging to stderr. Once per process.
///
/// # Errors
/// `BAD_FIELD` when the level is none, `BUG` when logging was started before.
pub fn start(settings: &LogSettings) -> Result<(), Fault> {
    let filter = parse_level(&settings.level)
        .map_err(|err| Fault::new(Reason::BadField, format!("log.level: {err}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let started = match settings.format {
        Format::Json => builder.json().flatten_event(true).try_init(),
        // The journal has the time already.
        Format::Text if std::env::var_os("JOURNAL_STREAM").is_some() => {
            builder.without_time().try_init()
        }
        Format::Text => builder.try_init(),
    };
    started.map_err(|err| Fault::new(Reason::Bug, format!("start logging: {err}")))
}

fn parse_level(level: &str) -> Result<EnvFilter, String> {
    if level.trim().is_empty() {
        return Err("is empty: write \"info\"".into());
    }
    level
        .parse()
        .map_err(|_| format!("{level:?} is not a level: write \"info\" or \"debug\""))
}

impl LogSettings {
    /// Adds what is wrong with the section to `faults`, for [`Settings::check`](crate::config::Settings::check).
    pub fn check(&self, faults: &mut Faults) {
        if let Err(message) = parse_level(&self.level) {
            faults.add("log.level", message);
        }
    }
}

/// An error with its causes, for one log field.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> Chain<'a> {
    Chain(error)
}

/// See [`chain`].
#[derive(Clone, Copy)]
pub struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open the store")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_chain_tells_every_cause_once() {
        let error = Outer(io::Error::other("no space left"));
        assert_eq!(chain(&error).to_string(), "open the store: no space left");
    }

    #[test]
    fn levels_are_checked_before_anything_starts() {
        for (level, faults_expected) in [
            ("info", 0),
            ("info,stillwater_proxy=debug", 0),
            ("", 1),
            ("a=b=c", 1),
            ("x=loud", 1),
        ] {
            let mut faults = Faults::default();
            LogSettings {
                level: level.into(),
                format: Format::Text,
            }
            .check(&mut faults);
            assert_eq!(faults.len(), faults_expected, "{level}: {faults}");
        }
    }
}
