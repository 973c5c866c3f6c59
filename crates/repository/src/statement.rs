//! `stillwater-repository statement`: what administrators of a repository demand, made and signed
//! anywhere, such as on a machine without a network.
//!
//! The file goes from one administrator to the next; whoever signed last has it submitted with
//! `stillwater repository submit`. What it says is always read from the bytes that are
//! signed, never from what stands beside them.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE as HEX};
use stillwater_format::Time;
use stillwater_format::commit::{Action, Statement, StatementId};
use stillwater_rpc::file;
use stillwater_rpc::signing::SignedStatement;
use stillwater_service::config::{Bytes, Period};
use stillwater_store::{Rng, SystemRng};
use stillwater_types::{Fault, NodeId, Reason};

use crate::admin::{PublicKey, load_key};

/// What is done with a statement.
#[derive(Debug, Clone, Subcommand)]
pub enum Act {
    /// Make a statement and sign it first
    New(New),
    /// Tell what a statement demands and who signed it
    Show {
        /// The statement's file
        file: PathBuf,
    },
    /// Sign a statement that somebody else made
    Sign(Sign),
}

/// A new statement.
#[derive(Debug, Clone, Args)]
pub struct New {
    /// The repository's node id, as `stillwater repository list` tells it
    #[arg(long, value_name = "ID")]
    node: NodeId,
    /// Your key, made by `admin keygen`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the statement goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(subcommand)]
    demand: Demand,
}

/// What is demanded.
#[derive(Debug, Clone, Subcommand)]
pub enum Demand {
    /// Lock every new point for at least so long; shorter than now takes two keys and three days
    SetFloor {
        /// Such as 30d; 0d leaves it to the configuration
        span: Period,
    },
    /// Let the next collection condemn an unusual amount; takes two keys
    AllowSweep {
        /// The most bytes, such as 200GiB
        bytes: Bytes,
    },
    /// Make up for time in which the machine was off; takes two keys and three days
    AdvanceTime {
        /// Up to when, such as 2027-01-31T00:00:00Z; now when absent
        to: Option<jiff::Timestamp>,
    },
    /// Accept another administrator; takes two keys
    AddAdmin {
        /// A name for people
        name: String,
        /// As `admin keygen` printed it
        public_key: PublicKey,
    },
    /// Accept an administrator no longer; takes two keys and three days
    RemoveAdmin {
        /// The public key
        public_key: PublicKey,
    },
    /// Drop a statement that waits; takes one key
    Veto {
        /// The statement's id, as `stillwater repository show` tells it
        #[arg(value_parser = statement_id)]
        statement: StatementId,
    },
}

/// A further signature.
#[derive(Debug, Clone, Args)]
pub struct Sign {
    /// The statement's file
    file: PathBuf,
    /// Your key, made by `admin keygen`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Act {
    /// Does it.
    ///
    /// # Errors
    /// `BAD_FIELD` for a file that cannot be used, `SECRET_UNREADABLE` for a key that is none.
    pub fn run(self) -> Result<(), Fault> {
        match self {
            Act::New(new) => new.run(),
            Act::Show { file } => {
                let (signed, statement) = load(&file)?;
                print!("{}", summary(&statement, &signed));
                Ok(())
            }
            Act::Sign(sign) => sign.run(io::stdin().lock()),
        }
    }
}

impl New {
    fn run(self) -> Result<(), Fault> {
        let key = load_key(&self.key)?;
        let mut id = StatementId::default();
        SystemRng
            .fill(&mut id)
            .map_err(|error| Fault::new(Reason::Bug, format!("make a statement's id: {error}")))?;
        let (node, action) = (self.node, self.demand.action()?);
        let statement = Statement { id, node, action };
        let bytes = statement.encode().map_err(|error| refuse(&error))?;
        let mut signed = SignedStatement::new(bytes);
        signed.sign(&key);
        if self.out.exists() {
            let message = format!("write {}: it is there already", self.out.display());
            return Err(Fault::new(Reason::BadField, message));
        }
        save(&self.out, &statement, &signed)?;
        print!("{}", summary(&statement, &signed));
        Ok(())
    }
}

impl Demand {
    fn action(self) -> Result<Action, Fault> {
        Ok(match self {
            Demand::SetFloor { span } => Action::SetFloor {
                millis: u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX),
            },
            Demand::AllowSweep { bytes } => Action::AllowSweep { bytes: bytes.0 },
            Demand::AdvanceTime { to } => {
                let to = to.unwrap_or_else(jiff::Timestamp::now).as_millisecond();
                let to = u64::try_from(to).map_err(|_| {
                    Fault::new(Reason::BadField, "time does not go back before 1970")
                })?;
                let to = Time::from_millis(to);
                Action::AdvanceTime { to }
            }
            Demand::AddAdmin { name, public_key } => Action::AddAdmin {
                key: public_key.0,
                label: name,
            },
            Demand::RemoveAdmin { public_key } => Action::RemoveAdmin { key: public_key.0 },
            Demand::Veto { statement } => Action::Veto { statement },
        })
    }
}

impl Sign {
    /// Nobody signs what they have not read: it is told, and asked for, before.
    fn run(self, mut input: impl BufRead) -> Result<(), Fault> {
        let key = load_key(&self.key)?;
        let (mut signed, statement) = load(&self.file)?;
        print!("{}", summary(&statement, &signed));
        if !self.yes {
            print!("Sign this? Type yes: ");
            let mut answer = String::new();
            let heard = io::stdout()
                .flush()
                .and_then(|()| input.read_line(&mut answer));
            heard.map_err(|error| Fault::new(Reason::BadField, format!("ask: {error}")))?;
            if answer.trim() != "yes" {
                return Err(Fault::new(Reason::BadField, "nothing was signed"));
            }
        }
        signed.sign(&key);
        save(&self.file, &statement, &signed)?;
        println!("signed by {}", HEXLOWER.encode(&key.public_key()));
        Ok(())
    }
}

fn load(path: &Path) -> Result<(SignedStatement, Statement), Fault> {
    let signed = SignedStatement::load(path)?;
    let statement = Statement::decode(&signed.statement).map_err(|error| refuse(&error))?;
    Ok((signed, statement))
}

fn save(path: &Path, statement: &Statement, signed: &SignedStatement) -> Result<(), Fault> {
    let text = format!(
        "# {}\n# Lines like this one count for nothing: `stillwater-repository statement show` tells what is signed.\n{signed}",
        sentence(statement),
    );
    file::publish(path, text.as_bytes()).map_err(|error| {
        let message = format!("write {}: {error}", path.display());
        Fault::new(Reason::BadField, message)
    })
}

fn sentence(statement: &Statement) -> String {
    let Statement { node, action, .. } = statement;
    format!("Repository {node}: {action}.")
}

fn summary(statement: &Statement, signed: &SignedStatement) -> String {
    let mut text = format!("{}\n", sentence(statement));
    text.push_str(&format!("statement {}\n", HEXLOWER.encode(&statement.id)));
    for given in &signed.signatures {
        text.push_str(&format!("signed by {}\n", HEXLOWER.encode(&given.key)));
    }
    text
}

fn statement_id(text: &str) -> Result<StatementId, String> {
    let id = HEX.decode(text.as_bytes()).ok();
    let id = id.and_then(|id| id.try_into().ok());
    id.ok_or_else(|| "a statement's id has 32 hexadecimal digits".into())
}

fn refuse(error: &stillwater_format::Error) -> Fault {
    Fault::new(Reason::BadField, format!("use the statement: {error}"))
}

#[cfg(test)]
mod tests;
