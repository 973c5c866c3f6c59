//! A program of the administrator's that serves one disk.
//!
//! It is started without a shell, in a process group of its own and with an empty environment.
//! Secrets are in files that only this user can read, never in arguments, which everybody sees.

use std::collections::VecDeque;
use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::{Instant, sleep, timeout};

use super::{Endpoint, NbdError};
use crate::task::Running;
use crate::{Error, Result};

const PLACEHOLDERS: [&str; 9] = [
    "socket",
    "vm",
    "snapshot",
    "file",
    "server",
    "user",
    "password_file",
    "thumbprint",
    "cookie_file",
];
/// How much of what a program says is kept: its end, where the reason stands.
const WORDS_BYTES: usize = 4096;
/// How long a program may take to end when it is asked to.
const GOODBYE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// The kernel's bound of a socket's path.
const SOCKET_PATH_MAX: usize = 107;

/// A program and its arguments with placeholders, as the configuration has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    program: String,
    arguments: Vec<Vec<Part>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(&'static str),
}

/// What stands for the placeholders. Absent ones must not be asked for.
#[derive(Debug, Clone, Default)]
pub struct CommandValues {
    /// `{vm}`: managed object id of the VM, such as `vm-16`.
    pub vm: String,
    /// `{snapshot}`: managed object id of the snapshot.
    pub snapshot: Option<String>,
    /// `{file}`: `[datastore] path` of the disk.
    pub file: String,
    /// `{server}`: vCenter's address.
    pub server: String,
    /// `{user}`.
    pub user: Option<String>,
    /// In `{password_file}`.
    pub password: Option<SecretString>,
    /// `{thumbprint}`: of the server's certificate.
    pub thumbprint: Option<String>,
    /// In `{cookie_file}`: vCenter's session.
    pub cookie: Option<SecretString>,
}

impl CommandLine {
    /// Reads a program's absolute path and its arguments; `{{` and `}}` are braces.
    pub fn parse(words: &[String]) -> Result<Self, NbdError> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(bad("it is empty"));
        };
        if !Path::new(program).is_absolute() || program.contains(['{', '\0']) {
            return Err(bad(format!("{program:?} is no absolute path of a program")));
        }
        let parsed = arguments.iter().map(|argument| parts(argument));
        let line = Self {
            program: program.clone(),
            arguments: parsed.collect::<Result<_, _>>()?,
        };
        match line.asks_for("socket") {
            true => Ok(line),
            false => Err(bad(
                "it must be told {socket}, where it is to serve the disk",
            )),
        }
    }

    fn asks_for(&self, name: &str) -> bool {
        let mut parts = self.arguments.iter().flatten();
        parts.any(|part| matches!(part, Part::Value(value) if *value == name))
    }

    /// The arguments, with `value` of each placeholder.
    fn fill(&self, value: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, NbdError> {
        let absent = |name: &str| bad(format!("there is no value for {{{name}}} here"));
        let text = |part: &Part| match part {
            Part::Text(text) => Ok(text.clone()),
            Part::Value(name) => value(name).ok_or_else(|| absent(name)),
        };
        let argument = |parts: &Vec<Part>| parts.iter().map(text).collect::<Result<String, _>>();
        let arguments: Vec<String> = self
            .arguments
            .iter()
            .map(argument)
            .collect::<Result<_, _>>()?;
        match arguments.iter().any(|argument| argument.contains('\0')) {
            true => Err(bad("a value has a zero byte")),
            false => Ok(arguments),
        }
    }
}

fn bad(problem: impl Into<String>) -> NbdError {
    NbdError::BadCommand {
        problem: problem.into(),
    }
}

fn parts(argument: &str) -> Result<Vec<Part>, NbdError> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = argument;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        text.push_str(before);
        if let Some(after) = brace.strip_prefix("{{") {
            text.push('{');
            rest = after;
        } else if let Some(after) = brace.strip_prefix("}}") {
            text.push('}');
            rest = after;
        } else {
            let inside = brace
                .strip_prefix('{')
                .and_then(|inside| inside.split_once('}'));
            let (name, after) =
                inside.ok_or_else(|| bad(format!("a brace of {argument:?} is alone")))?;
            let known = PLACEHOLDERS.into_iter().find(|known| *known == name);
            let known = known.ok_or_else(|| {
                bad(format!(
                    "{{{name}}} is none of {{{}}}",
                    PLACEHOLDERS.join("}, {")
                ))
            })?;
            parts.push(Part::Text(std::mem::take(&mut text)));
            parts.push(Part::Value(known));
            rest = after;
        }
    }
    text.push_str(rest);
    parts.push(Part::Text(text));
    Ok(parts)
}

/// A running program that serves a disk. Dropping this kills it and all that it started.
#[derive(Debug)]
pub struct NbdCommand {
    program: String,
    child: Child,
    /// None when all of it has ended.
    group: Option<Pid>,
    words: Arc<Mutex<VecDeque<u8>>>,
    _listening: Running<()>,
    socket: PathBuf,
    /// Socket and secrets; goes last.
    _scratch: TempDir,
}

impl NbdCommand {
    /// Starts a program and waits until it has made its socket. `scratch` is a directory of this
    /// user for socket and secrets, with a short path.
    pub async fn start(
        line: &CommandLine,
        values: &CommandValues,
        scratch: &Path,
        patience: Duration,
    ) -> Result<Self> {
        let mut command = Self::spawn(line, values, scratch)?;
        let began = Instant::now();
        loop {
            if is_socket(&command.socket) {
                return Ok(command);
            }
            let problem = match command.ended() {
                Some(status) => format!("it ended with {status}"),
                None if began.elapsed() < patience => {
                    sleep(POLL).await;
                    continue;
                }
                None => format!("its socket is not there after {} s", patience.as_secs()),
            };
            return Err(command.failed(problem).await.into());
        }
    }

    fn spawn(line: &CommandLine, values: &CommandValues, scratch: &Path) -> Result<Self, NbdError> {
        // Else whoever may look into it depends on the umask.
        let directory = tempfile::Builder::new()
            .prefix("nbd-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(scratch);
        let directory = directory.map_err(|error| cannot(scratch, &error))?;
        let inside = directory.path();
        let socket = inside.join("disk");
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(cannot(&socket, &"its path is too long for a socket"));
        }
        let secret = |name: &str, secret: &Option<SecretString>| match secret {
            Some(secret) if line.asks_for(name) => keep(&inside.join(name), secret).map(Some),
            _ => Ok(None),
        };
        let password = secret("password_file", &values.password)?;
        let cookie = secret("cookie_file", &values.cookie)?;
        let arguments = line.fill(|name| match name {
            "socket" => Some(socket.display().to_string()),
            "vm" => Some(values.vm.clone()),
            "snapshot" => values.snapshot.clone(),
            "file" => Some(values.file.clone()),
            "server" => Some(values.server.clone()),
            "user" => values.user.clone(),
            "thumbprint" => values.thumbprint.clone(),
            "password_file" => password.clone(),
            "cookie_file" => cookie.clone(),
            _ => None,
        })?;
        let mut child = Command::new(&line.program)
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", inside)
            .env("TMPDIR", inside)
            .current_dir(inside)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| NbdError::Command {
                program: line.program.clone(),
                problem: error.to_string(),
                stderr: String::new(),
            })?;
        let words = Arc::default();
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            program: line.program.clone(),
            group: pid.and_then(Pid::from_raw),
            _listening: Running::spawn(listen(child.stderr.take(), Arc::clone(&words))),
            child,
            words,
            socket,
            _scratch: directory,
        })
    }

    /// Where it serves the disk.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::unix(&self.socket)
    }

    /// The end of what it said, if it said anything.
    pub fn words(&self) -> Option<String> {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let (front, back) = words.as_slices();
        let text = String::from_utf8_lossy(&[front, back].concat()).into_owned();
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        (!lines.is_empty()).then(|| lines.join(" | "))
    }

    /// Asks it to end, waits a little, and kills what is left of it.
    pub async fn stop(mut self) {
        self.end(Signal::TERM).await;
    }

    async fn end(&mut self, first: Signal) {
        self.signal(first);
        if timeout(GOODBYE, self.child.wait()).await.is_err() {
            tracing::debug!(program = %self.program, "it does not end and is killed");
        }
        // What it left behind; at once, since the group's number is free when nobody is left.
        self.signal(Signal::KILL);
        self.group = None;
    }

    /// An error of its disk, with why it serves none any more.
    pub(super) fn explain(&mut self, error: Error) -> Error {
        match self.ended() {
            Some(status) => Error::Nbd(NbdError::Command {
                program: self.program.clone(),
                problem: format!("it ended with {status}: {error}"),
                stderr: self.words().unwrap_or_default(),
            }),
            None => self.add_words(error),
        }
    }

    /// An error of its disk, with what it said about it.
    pub(super) fn add_words(&self, error: Error) -> Error {
        let by_server = matches!(
            error,
            Error::Nbd(NbdError::Lost { .. } | NbdError::Server { .. } | NbdError::Connect { .. })
        );
        match self.words() {
            Some(words) if by_server => Error::Nbd(NbdError::Command {
                program: self.program.clone(),
                problem: error.to_string(),
                stderr: words,
            }),
            _ => error,
        }
    }

    fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    async fn failed(mut self, problem: String) -> NbdError {
        // All that it said is there once its end of the pipe is closed.
        self.end(Signal::KILL).await;
        sleep(POLL).await;
        NbdError::Command {
            program: self.program.clone(),
            problem,
            stderr: self.words().unwrap_or_default(),
        }
    }

    /// Sends a signal to the program and all that it started.
    fn signal(&self, signal: Signal) {
        let Some(group) = self.group else { return };
        match kill_process_group(group, signal) {
            // Nobody is left.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => tracing::warn!(program = %self.program, %error, "it cannot be signalled"),
        }
    }
}

impl Drop for NbdCommand {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn cannot(path: &Path, problem: &dyn std::fmt::Display) -> NbdError {
    NbdError::Scratch {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}

/// Puts a secret where only this user reads it; says where.
fn keep(path: &Path, secret: &SecretString) -> Result<String, NbdError> {
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(secret.expose_secret().as_bytes())
    };
    write().map_err(|error| cannot(path, &error))?;
    Ok(path.display().to_string())
}

/// Keeps the end of what a program says. A program whose pipe is full would stop.
async fn listen(stderr: Option<ChildStderr>, words: Arc<Mutex<VecDeque<u8>>>) {
    let Some(mut stderr) = stderr else { return };
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut bytes).await {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend(bytes.iter().take(count));
        let over = words.len().saturating_sub(WORDS_BYTES);
        words.drain(..over);
    }
}
