//! Who may weaken what the repository protects, and what they said.
//!
//! A statement is a sentence that repository administrators sign with keys that no other role has. The
//! repository keeps every signature in its commit log.

use std::fmt;

use stillwater_types::NodeId;

use super::{LABEL_BYTES_MAX, bounded};
use crate::bytes::{Reader, put_blob};
use crate::{Error, Time};

/// Most bytes of a statement.
pub const STATEMENT_BYTES_MAX: usize = 512;

const WHAT: &str = "statement";
const MAGIC: &[u8; 16] = b"SWSTATEMENT 1\r\n\0";

/// An Ed25519 public key.
pub type AdminKey = [u8; 32];

/// Names a statement: random, so that a signature cannot be used for a later one of the same words.
pub type StatementId = [u8; 16];

/// What administrators of the repository demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Lock every new point for at least this many milliseconds.
    SetFloor {
        /// Zero leaves it to the configuration.
        millis: u64,
    },
    /// Let the next cycle condemn as many bytes, though that is unusual.
    AllowSweep {
        /// The most bytes.
        bytes: u64,
    },
    /// Move trusted time forward, as after the machine was off.
    AdvanceTime {
        /// To here, and never beyond the wall clock.
        to: Time,
    },
    /// Accept another administrator.
    AddAdmin {
        /// The key.
        key: AdminKey,
        /// A name for people.
        label: String,
    },
    /// Accept an administrator no longer.
    RemoveAdmin {
        /// The key.
        key: AdminKey,
    },
    /// Drop a statement that waits.
    Veto {
        /// Which.
        statement: StatementId,
    },
}

/// In words, for whoever signs it.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::SetFloor { millis: 0 } => write!(f, "leave the floor to the configuration"),
            Action::SetFloor { millis } => {
                write!(f, "lock every new point for at least {}", Span(*millis))
            }
            Action::AllowSweep { bytes } => {
                write!(f, "let the next cycle condemn up to {bytes} bytes")
            }
            Action::AdvanceTime { to } => write!(f, "move trusted time forward to {to}"),
            Action::AddAdmin { key, label } => {
                write!(
                    f,
                    "accept the administrator {label:?} with the key {}",
                    Hex(key)
                )
            }
            Action::RemoveAdmin { key } => {
                write!(
                    f,
                    "accept the administrator with the key {} no longer",
                    Hex(key)
                )
            }
            Action::Veto { statement } => write!(f, "drop the statement {}", Hex(statement)),
        }
    }
}

/// Milliseconds in the largest unit that fits.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "min"),
            (1000, "s"),
        ];
        let fits = units.iter().find(|(size, _)| self.0.is_multiple_of(*size));
        match fits {
            Some((size, unit)) => write!(f, "{} {unit}", self.0 / size),
            None => write!(f, "{} ms", self.0),
        }
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A sentence to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Names it.
    pub id: StatementId,
    /// The repository that it is for.
    pub node: NodeId,
    /// What is demanded.
    pub action: Action,
}

impl Statement {
    /// The bytes that are signed.
    ///
    /// # Errors
    /// When a label is too long.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(self.node.as_bytes());
        match &self.action {
            Action::SetFloor { millis } => put(&mut out, 1, &millis.to_le_bytes()),
            Action::AllowSweep { bytes } => put(&mut out, 2, &bytes.to_le_bytes()),
            Action::AdvanceTime { to } => put(&mut out, 3, &to.millis().to_le_bytes()),
            Action::AddAdmin { key, label } => {
                bounded("label of an administrator", label.len(), LABEL_BYTES_MAX)?;
                put(&mut out, 4, key);
                put_blob(&mut out, label.as_bytes());
            }
            Action::RemoveAdmin { key } => put(&mut out, 5, key),
            Action::Veto { statement } => put(&mut out, 6, statement),
        }
        Ok(out)
    }

    /// Reads a statement.
    ///
    /// # Errors
    /// When the bytes are none, or one that this release does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Reader::new(WHAT, bytes);
        fields.magic(MAGIC)?;
        let id = fields.array()?;
        let node = NodeId::from_bytes(fields.array()?);
        let action = match fields.u8()? {
            1 => Action::SetFloor {
                millis: fields.u64()?,
            },
            2 => Action::AllowSweep {
                bytes: fields.u64()?,
            },
            3 => Action::AdvanceTime {
                to: Time::from_millis(fields.u64()?),
            },
            4 => Action::AddAdmin {
                key: fields.array()?,
                label: fields.text("label", LABEL_BYTES_MAX)?,
            },
            5 => Action::RemoveAdmin {
                key: fields.array()?,
            },
            6 => Action::Veto {
                statement: fields.array()?,
            },
            _ => return Err(fields.refuse("action")),
        };
        fields.finish()?;
        Ok(Self { id, node, action })
    }
}

fn put(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number);
    out.extend_from_slice(bytes);
}

/// A statement, with one administrator's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The statement's bytes.
    pub statement: Vec<u8>,
    /// Whose signature.
    pub key: AdminKey,
    /// Ed25519 over the statement's bytes.
    pub signature: [u8; 64],
}

impl Signed {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        bounded(WHAT, self.statement.len(), STATEMENT_BYTES_MAX)?;
        put_blob(out, &self.statement);
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.signature);
        Ok(())
    }

    pub(super) fn take(fields: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            statement: fields.blob(STATEMENT_BYTES_MAX)?.to_vec(),
            key: fields.array()?,
            signature: fields.array()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            any::<u64>().prop_map(|millis| Action::SetFloor { millis }),
            any::<u64>().prop_map(|bytes| Action::AllowSweep { bytes }),
            any::<u64>().prop_map(|to| Action::AdvanceTime {
                to: Time::from_millis(to)
            }),
            (any::<[u8; 32]>(), ".{0,40}").prop_map(|(key, label)| Action::AddAdmin { key, label }),
            any::<[u8; 32]>().prop_map(|key| Action::RemoveAdmin { key }),
            any::<[u8; 16]>().prop_map(|statement| Action::Veto { statement }),
        ]
    }

    proptest! {
        #[test]
        fn a_statement_is_read_back_and_a_cut_one_is_refused(
            id in any::<[u8; 16]>(),
            node in any::<[u8; 16]>(),
            action in action(),
        ) {
            let statement = Statement { id, node: NodeId::from_bytes(node), action };
            let bytes = statement.encode().unwrap();
            prop_assert!(bytes.len() <= STATEMENT_BYTES_MAX);
            prop_assert_eq!(Statement::decode(&bytes), Ok(statement));
            prop_assert!(Statement::decode(&bytes[..bytes.len() - 1]).is_err());
            prop_assert!(Statement::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
        }
    }
}
