//! `stillwater-repository admin`: keys of administrators, and who is accepted as one.
//!
//! A key pair is made where it will be used, such as on the administrator's own machine, and only its
//! public half comes to the repository's host. Neither is ever on the controller.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE as HEX};
use stillwater_format::commit::AdminKey;
use stillwater_rpc::file;
use stillwater_rpc::signing::SigningKey;
use stillwater_store::Admin;
use stillwater_types::{Fault, Reason};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::engine;
use crate::error::fault;

const FIRST_LINE: &str = "stillwater-admin-key 1";

/// An administrator's public key on the command line: 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub AdminKey);

impl std::str::FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let key = HEX.decode(text.as_bytes()).ok();
        let key = key.and_then(|key| key.try_into().ok());
        key.map(Self)
            .ok_or_else(|| "a public key has 64 hexadecimal digits".into())
    }
}

/// What needs the repository itself.
#[derive(Debug, Clone, Subcommand)]
pub enum Enrolment {
    /// Accept one of the first two administrators; stop the service first
    Add {
        /// A name for people
        name: String,
        /// As `admin keygen` printed it
        public_key: PublicKey,
    },
    /// List the administrators; while the service runs, `stillwater repository show` does
    List,
}

/// Makes a key pair in a new file that only its owner can read, and tells its public half.
///
/// # Errors
/// `BAD_FIELD` when the file is there or cannot be written.
pub fn keygen(path: &Path) -> Result<AdminKey, Fault> {
    let key = SigningKey::generate()?;
    let digits = Zeroizing::new(HEXLOWER.encode(&key.to_pkcs8()));
    let text = Zeroizing::new(format!(
        "# Whoever has this file signs as the administrator it belongs to.\n{FIRST_LINE}\n{}\n",
        *digits
    ));
    keep(path, text.as_bytes()).map_err(|error| unusable("write", path, &error))?;
    Ok(key.public_key())
}

/// Never over a file that is there: that may be the only copy of a key.
fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = OpenOptions::new();
    let mut file = new.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a key pair that [`keygen`] made.
///
/// # Errors
/// `BAD_FIELD` when the file cannot be read, `SECRET_UNREADABLE` when it is no key.
pub fn load_key(path: &Path) -> Result<SigningKey, Fault> {
    let bytes = file::read(path).map_err(|error| unusable("read", path, &error))?;
    let none = || {
        let message = format!("read {}: it is not an administrator's key", path.display());
        Fault::new(Reason::SecretUnreadable, message)
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| none())?;
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let (Some(FIRST_LINE), Some(digits)) = (lines.next(), lines.next()) else {
        return Err(none());
    };
    let pkcs8 = HEX.decode(digits.trim().as_bytes()).map_err(|_| none())?;
    SigningKey::from_pkcs8(&Zeroizing::new(pkcs8)).map_err(|_| none())
}

fn unusable(act: &str, path: &Path, error: &io::Error) -> Fault {
    let message = format!("{act} {}: {error}", path.display());
    Fault::new(Reason::BadField, message)
}

/// Does what needs the repository itself, whose service is stopped. Blocks on the disk.
///
/// # Errors
/// `STORAGE_UNFIT` while the service runs, `STATEMENT_REFUSED` once there are two administrators.
pub fn enrol(config: &Config, act: &Enrolment) -> Result<(), Fault> {
    let store = engine::open(&config.store_dir(), config.options())?;
    match act {
        Enrolment::Add { name, public_key } => {
            let admin = store.enrol_admin(public_key.0, name).map_err(fault)?;
            println!("{}", row(&admin));
        }
        Enrolment::List => {
            let retention = store.retention();
            retention
                .admins
                .iter()
                .map(row)
                .for_each(|row| println!("{row}"));
        }
    }
    Ok(())
}

fn row(admin: &Admin) -> String {
    let Admin { key, label, since } = admin;
    format!("{} since {since} {label}", HEXLOWER.encode(key))
}

/// Where a new key goes.
#[derive(Debug, Clone, clap::Args)]
pub struct Keygen {
    /// The file to make; keep it where no service reads it, and a copy on paper
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Keygen {
    /// Makes the key and prints its public half.
    ///
    /// # Errors
    /// Those of [`keygen`].
    pub fn run(&self) -> Result<(), Fault> {
        println!("{}", HEXLOWER.encode(&keygen(&self.out)?));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use stillwater_store::Store;
    use stillwater_types::{ClusterId, NodeId};

    use super::*;

    #[test]
    fn a_key_is_made_once_in_a_private_file_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alice.key");
        let public = keygen(&path).unwrap();
        assert_eq!(load_key(&path).unwrap().public_key(), public);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(keygen(&path).unwrap_err().reason, Reason::BadField);
        assert_eq!(load_key(&path).unwrap().public_key(), public);
        std::fs::write(&path, "stillwater-admin-key 1\n00\n").unwrap();
        assert_eq!(
            load_key(&path).unwrap_err().reason,
            Reason::SecretUnreadable
        );
        std::fs::write(&path, [0xff; 9]).unwrap();
        assert_eq!(
            load_key(&path).unwrap_err().reason,
            Reason::SecretUnreadable
        );
        let missing = load_key(&dir.path().join("bob.key"));
        assert_eq!(missing.unwrap_err().reason, Reason::BadField);
    }

    #[test]
    fn a_public_key_is_read_from_64_digits_and_from_nothing_else() {
        let parse = |text: &str| text.parse::<PublicKey>().ok().map(|key| key.0);
        assert_eq!(parse(&"0a".repeat(32)), Some([10; 32]));
        assert_eq!(parse(&"0A".repeat(32)), Some([10; 32]));
        for wrong in ["", "0a", &"0a".repeat(33), &"0g".repeat(32)] {
            assert_eq!(parse(wrong), None);
        }
    }

    #[test]
    fn the_host_accepts_two_administrators_while_the_service_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config {
            state_dir: dir.path().to_owned(),
            ..Config::default()
        };
        config.store.allow_volatile = true;
        let store_dir = config.store_dir();
        std::fs::create_dir(&store_dir).unwrap();
        let identity = stillwater_store::Identity {
            cluster: ClusterId::mint(),
            node: NodeId::mint(),
        };
        let environment = engine::environment(&store_dir).unwrap();
        Store::init(&environment, &config.options(), identity).unwrap();
        let add = |number: u8| {
            let (name, public_key) = ("Alice".to_owned(), PublicKey([number; 32]));
            enrol(&config, &Enrolment::Add { name, public_key })
        };
        let serving = engine::open(&store_dir, config.options()).unwrap();
        assert_eq!(add(1).unwrap_err().reason, Reason::StorageUnfit);
        drop(serving);
        for number in [1, 1, 2] {
            add(number).unwrap();
        }
        assert_eq!(add(3).unwrap_err().reason, Reason::StatementRefused);
        enrol(&config, &Enrolment::List).unwrap();
        let store = engine::open(&store_dir, config.options()).unwrap();
        let keys: Vec<_> = store.retention().admins.iter().map(|a| a.key).collect();
        assert_eq!(keys, [[1; 32], [2; 32]]);
    }
}
