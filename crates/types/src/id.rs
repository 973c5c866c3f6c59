//! Ids are newtypes that parse at the edge and print the same everywhere, so that what an
//! administrator copies from a table finds the same thing in a log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {what}")]
pub struct InvalidId {
    /// Which id was expected.
    pub what: &'static str,
    /// What was found, cut to 80 characters.
    pub text: String,
}

impl InvalidId {
    fn new(what: &'static str, text: &str) -> Self {
        Self {
            what,
            text: text.chars().take(80).collect(),
        }
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Mints a fresh id. Ids are UUID version 7: they sort by the time they were minted.
            pub fn mint() -> Self {
                Self(Uuid::now_v7())
            }

            /// Wraps the 16 bytes that a format or a wire message carries.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes that formats and wire messages carry.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // Only the hyphenated form, so that one id has one spelling.
                match Uuid::try_parse(text) {
                    Ok(uuid) if text.len() == 36 => Ok(Self(uuid)),
                    _ => Err(InvalidId::new($what, text)),
                }
            }
        }
    };
}

uuid_id!(
    /// Names one cluster: the controller that made its certificate authority.
    ClusterId, "cluster id"
);
uuid_id!(
    /// Names one enrolled node, whatever its role.
    NodeId, "node id"
);
uuid_id!(
    /// Names one run: one attempt to protect or restore.
    RunId, "run id"
);
uuid_id!(
    /// Names one restore point.
    PointId, "restore point id"
);
uuid_id!(
    /// Names one dataset: the chunks of one repository that share a key and deduplicate together.
    DatasetId, "dataset id"
);
uuid_id!(
    /// Names one pack file.
    PackId, "pack id"
);
uuid_id!(
    /// Names one registered vCenter or stand-alone host.
    VcenterId, "vcenter id"
);
uuid_id!(
    /// Names one transfer: one disk moved once by one proxy.
    TransferId, "transfer id"
);
uuid_id!(
    /// Names one export: a stored disk that an administrator may read from a proxy.
    ExportId, "export id"
);
uuid_id!(
    /// Names one task: work that keeps a repository sound.
    TaskId, "task id"
);
uuid_id!(
    /// Makes a call idempotent: the same request id answers with the same result.
    RequestId, "request id"
);

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Wraps a slice, if it has 32 bytes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                <[u8; 32]>::try_from(bytes).ok().map(Self)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_hex(text).map(Self).ok_or_else(|| InvalidId::new($what, text))
            }
        }
    };
}

hash_id!(
    /// Names one chunk: the keyed BLAKE3 of its plaintext.
    ChunkId, "chunk id"
);
hash_id!(
    /// Names one node of a disk's Merkle tree: the plain BLAKE3 of the node's bytes.
    TreeId, "tree id"
);

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Names one VM of one vCenter: `<vcenter-id>/<moref>`.
///
/// A managed object reference is unique only within its vCenter, so neither half is a name alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VmId {
    /// The vCenter that knows the VM.
    pub vcenter: VcenterId,
    /// The managed object reference's value, such as `vm-16`.
    pub moref: String,
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vcenter, self.moref)
    }
}

impl FromStr for VmId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId::new("vm id", text);
        let (vcenter, moref) = text.split_once('/').ok_or_else(invalid)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if moref.is_empty() || moref.len() > 128 || !moref.chars().all(plain) {
            return Err(invalid());
        }
        Ok(Self {
            vcenter: vcenter.parse().map_err(|_| invalid())?,
            moref: moref.to_owned(),
        })
    }
}

/// Names one virtual disk of one VM.
///
/// A vSphere device key is unique only within its VM, so neither half is a name by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DiskId {
    /// The VM that has the disk.
    pub vm: VmId,
    /// The device key, such as 2000.
    pub key: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_parses_what_it_prints_and_nothing_else() {
        let run = RunId::mint();
        assert_eq!(run.to_string().parse::<RunId>(), Ok(run));
        assert!(run.to_string().replace('-', "").parse::<RunId>().is_err());
        let chunk = ChunkId::from_bytes([0xa7; 32]);
        assert_eq!(chunk.to_string().parse::<ChunkId>(), Ok(chunk));
        assert!("A7".repeat(32).parse::<ChunkId>().is_err());
    }

    #[test]
    fn a_vm_id_needs_both_halves() {
        let vm = VmId {
            vcenter: VcenterId::mint(),
            moref: "vm-16".into(),
        };
        assert_eq!(vm.to_string().parse::<VmId>(), Ok(vm.clone()));
        for bad in [
            "vm-16",
            &format!("{}/", vm.vcenter),
            &format!("{}/../x", vm.vcenter),
        ] {
            assert!(bad.parse::<VmId>().is_err(), "{bad}");
        }
    }
}
