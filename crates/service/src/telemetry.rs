//! Logs to stderr, for people or for machines.

use std::error::Error;
use std::fmt;

use serde::Deserialize;
use stillwater_types::Fault;

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

/// Starts logging. Once per process.
pub fn start(settings: &LogSettings) -> Result<(), Fault> {
    unimplemented!("{settings:?}")
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
