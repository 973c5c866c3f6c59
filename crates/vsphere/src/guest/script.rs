//! A command as a script of the guest's own shell.
//!
//! The script is a file that only its user can read, so that neither variables nor output pass through a
//! command line or vCenter's log.

use secrecy::{ExposeSecret, SecretString};

use super::GuestCommand;
use crate::{Error, GuestFamily, Result};

/// Where a script's input and output go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Paths {
    pub script: String,
    pub input: Option<String>,
    pub stdout: String,
    pub stderr: String,
}

/// How a guest runs scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shell {
    Posix,
    Cmd,
}

impl Shell {
    pub(super) fn of(family: GuestFamily) -> Result<Self> {
        match family {
            GuestFamily::Linux => Ok(Shell::Posix),
            GuestFamily::Windows => Ok(Shell::Cmd),
            GuestFamily::Other | GuestFamily::Unknown => {
                Err(bad("only linux and windows guests are known"))
            }
        }
    }

    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Shell::Posix => ".sh",
            Shell::Cmd => ".cmd",
        }
    }

    /// The program that runs a script, and its arguments.
    pub(super) fn start(self, script: &str) -> (&'static str, String) {
        match self {
            Shell::Posix => ("/bin/sh", posix(script)),
            Shell::Cmd => (
                "C:\\Windows\\System32\\cmd.exe",
                format!("/d /c \"{script}\""),
            ),
        }
    }

    /// The script that runs a command.
    pub(super) fn script(self, command: &GuestCommand, paths: &Paths) -> Result<SecretString> {
        check(command)?;
        match self {
            Shell::Posix => Ok(posix_script(command, paths)),
            Shell::Cmd => cmd_script(command, paths),
        }
    }
}

fn bad(problem: impl Into<String>) -> Error {
    Error::BadGuestCommand {
        problem: problem.into(),
    }
}

/// What no shell can be told.
fn check(command: &GuestCommand) -> Result<()> {
    if command.program.is_empty() {
        return Err(bad("name a program"));
    }
    let words = std::iter::once(&command.program)
        .chain(&command.arguments)
        .chain(&command.working_directory);
    let values = command
        .environment
        .iter()
        .map(|(_, value)| value.expose_secret());
    if words
        .map(String::as_str)
        .chain(values)
        .any(|word| word.contains('\0'))
    {
        return Err(bad("a zero byte cannot be told to a program"));
    }
    let odd = |name: &str| {
        let mut letters = name.chars();
        let first = letters
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        !first || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match command.environment.iter().find(|(name, _)| odd(name)) {
        Some((name, _)) => Err(bad(format!("{name:?} is no name of a variable"))),
        None => Ok(()),
    }
}

/// A word that `sh` takes as it is.
fn posix(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn posix_script(command: &GuestCommand, paths: &Paths) -> SecretString {
    let input = paths.input.as_deref().unwrap_or("/dev/null");
    let mut text = format!(
        "#!/bin/sh\numask 077\nexec <{} >{} 2>{} 3<&0\nrm -f -- {}\n",
        posix(input),
        posix(&paths.stdout),
        posix(&paths.stderr),
        // It may carry secrets, and is read already.
        posix(&paths.script),
    );
    if let Some(directory) = &command.working_directory {
        text.push_str(&format!("cd {} || exit 126\n", posix(directory)));
    }
    for (name, value) in &command.environment {
        text.push_str(&format!("export {name}={}\n", posix(value.expose_secret())));
    }
    text.push_str(&posix(&command.program));
    for argument in &command.arguments {
        text.push(' ');
        text.push_str(&posix(argument));
    }
    text.push_str(POSIX_END);
    SecretString::from(text)
}

/// The input goes by another number: a shell takes it away from what runs beside it. The shell stays, so that a process list shows the script's name, by which a start whose answer was
/// lost is found; whoever ends the shell ends the program.
const POSIX_END: &str = r#" <&3 3<&- &
child=$!
exec 3<&-
trap 'kill -TERM "$child" 2>/dev/null' TERM
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    code=$?
done
exit "$code"
"#;

/// A word that `cmd` takes as it is; there is no way to write some.
fn cmd(word: &str) -> Result<String> {
    if word.contains(['"', '\r', '\n']) {
        return Err(bad(
            "windows cannot be told a word with a quote or a line break; put it into a file",
        ));
    }
    Ok(word.replace('%', "%%"))
}

/// An argument in quotes, as Windows programs take their command lines apart.
fn cmd_argument(word: &str) -> Result<String> {
    let word = cmd(word)?;
    let tail = word.len() - word.trim_end_matches('\\').len();
    Ok(format!("\"{word}{}\"", "\\".repeat(tail)))
}

fn cmd_script(command: &GuestCommand, paths: &Paths) -> Result<SecretString> {
    let mut text = String::from("@echo off\r\nchcp 65001 >nul\r\n");
    if let Some(directory) = &command.working_directory {
        text.push_str(&format!("cd /d \"{}\" || exit /b 126\r\n", cmd(directory)?));
    }
    for (name, value) in &command.environment {
        text.push_str(&format!(
            "set \"{name}={}\"\r\n",
            cmd(value.expose_secret())?
        ));
    }
    text.push_str(&format!("\"{}\"", cmd(&command.program)?));
    for argument in &command.arguments {
        text.push(' ');
        text.push_str(&cmd_argument(argument)?);
    }
    let input = paths.input.as_deref().unwrap_or("nul");
    text.push_str(&format!(
        " <\"{}\" >\"{}\" 2>\"{}\"\r\nexit /b %ERRORLEVEL%\r\n",
        cmd(input)?,
        cmd(&paths.stdout)?,
        cmd(&paths.stderr)?
    ));
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests;
