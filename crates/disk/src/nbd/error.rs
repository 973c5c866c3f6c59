//! What can go wrong with a disk behind NBD.

use std::io;
use std::path::PathBuf;

/// What can go wrong with a disk behind NBD.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NbdError {
    /// Nobody answers there.
    #[error("connect to the nbd server {server}: {problem}")]
    Connect {
        /// Where.
        server: String,
        /// Why.
        problem: String,
    },
    /// The connection is gone, or was given up since the server broke the protocol.
    #[error("the connection to the nbd server {server} was lost: {problem}")]
    Lost {
        /// Where.
        server: String,
        /// Why.
        problem: String,
    },
    /// The server said what the protocol does not allow.
    #[error("the nbd server breaks the protocol: {problem}")]
    Protocol {
        /// What it said.
        problem: String,
    },
    /// The server refused to begin.
    #[error("the nbd server refused {what}: {problem}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What it answered.
        problem: String,
    },
    /// TLS was asked for and the server has none. Nothing is sent without it then.
    #[error("the nbd server was asked for tls and has none: {problem}")]
    NoTls {
        /// What it answered.
        problem: String,
    },
    /// The server's certificate is not trusted, or the authorities cannot be read.
    #[error("the certificate of the nbd server {server} is not trusted: {problem}")]
    Untrusted {
        /// Where.
        server: String,
        /// Why.
        problem: String,
    },
    /// The server failed a request.
    #[error("the nbd server failed to {what}: {problem}")]
    Server {
        /// What it was to do.
        what: String,
        /// Its error.
        problem: String,
        /// Whether it has no room.
        is_full: bool,
    },
    /// The export cannot be written.
    #[error("the nbd export is read-only")]
    ReadOnly,
    /// The command line in the configuration cannot be used.
    #[error("the command of the nbd server cannot be used: {problem}")]
    BadCommand {
        /// Why.
        problem: String,
    },
    /// The command did not serve a disk.
    #[error("{program} serves no disk: {problem}{}", said(stderr))]
    Command {
        /// What was started.
        program: String,
        /// What it did instead.
        problem: String,
        /// The end of what it said.
        stderr: String,
    },
    /// Files for the command cannot be made.
    #[error("prepare {} for the command of the nbd server: {problem}", path.display())]
    Scratch {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
}

fn said(stderr: &str) -> String {
    match stderr.trim() {
        "" => String::new(),
        words => format!("; it said: {words}"),
    }
}

impl NbdError {
    pub(super) fn protocol(problem: impl Into<String>) -> Self {
        Self::Protocol {
            problem: problem.into(),
        }
    }

    pub(super) fn lost(server: &str, error: &io::Error) -> Self {
        let problem = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it was closed".to_owned(),
            _ => error.to_string(),
        };
        Self::Lost {
            server: server.to_owned(),
            problem,
        }
    }

    /// Whether another connection to the same server may do better.
    pub(super) fn is_of_connection(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}
