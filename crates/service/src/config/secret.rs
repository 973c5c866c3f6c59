//! Secrets are named in a configuration, never written there.

use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use stillwater_types::{Fault, Reason};
use zeroize::Zeroizing;

use super::unit::by_text;

/// More than any key or password has; a reference to a disk image must not fill the memory.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// A secret's bytes: wiped when dropped, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretRef {
    /// `file:/path`: the file's content.
    File(PathBuf),
    /// `env:NAME`: an environment variable. Other processes of the same user can read it.
    Env(String),
    /// `credential:name`: a systemd credential (`LoadCredential=`, `LoadCredentialEncrypted=`).
    Credential(String),
}

impl SecretRef {
    /// Reads the secret; one line end at its end is not part of it. Blocks on the disk.
    ///
    /// # Errors
    /// `SECRET_UNREADABLE` when it is not there, empty or larger than 64 KiB.
    pub fn read(&self) -> Result<Secret, Fault> {
        self.read_with(|name| std::env::var_os(name))
    }

    fn read_with(&self, env: impl Fn(&str) -> Option<OsString>) -> Result<Secret, Fault> {
        let unreadable = |why: String| {
            Fault::new(
                Reason::SecretUnreadable,
                format!("read the secret {self}: {why}"),
            )
        };
        let mut bytes = match self {
            Self::File(path) => read_file(path).map_err(unreadable)?,
            Self::Env(name) => env(name)
                .map(|value| Zeroizing::new(value.into_encoded_bytes()))
                .ok_or_else(|| unreadable("the variable is not set".into()))?,
            Self::Credential(name) => {
                let dir = env("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    unreadable("systemd passed no credentials: add LoadCredential=".into())
                })?;
                read_file(&Path::new(&dir).join(name)).map_err(unreadable)?
            }
        };
        if bytes.ends_with(b"\n") {
            bytes.pop();
        }
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
        if bytes.is_empty() {
            return Err(unreadable("it is empty".into()));
        }
        Ok(Secret(bytes))
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = std::fs::File::open(path).map_err(|err| err.to_string())?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(SECRET_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|err| err.to_string())?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err("it has more than 64 KiB".into());
    }
    Ok(bytes)
}

impl FromStr for SecretRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text is not repeated in the fault: it may be the secret itself.
        let expected = "a secret is named, not written here: use \"file:/path\", \"env:NAME\" or \
                        \"credential:name\"";
        let plain = |name: &str| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
                && !name.starts_with('.')
        };
        match text.split_once(':') {
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(path.into())),
            Some(("file", _)) => Err("a secret's file needs an absolute path".into()),
            Some(("env", name)) if plain(name) => Ok(Self::Env(name.into())),
            Some(("credential", name)) if plain(name) => Ok(Self::Credential(name.into())),
            _ => Err(expected.into()),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}

by_text!(SecretRef, "where a secret is, such as \"credential:kek\"");

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<OsString> {
        None
    }

    #[test]
    fn a_reference_parses_what_it_prints_and_a_bare_secret_is_not_repeated() {
        for text in [
            "file:/etc/stillwater/kek",
            "env:STILLWATER_KEK",
            "credential:kek",
        ] {
            assert_eq!(
                text.parse::<SecretRef>().map(|found| found.to_string()),
                Ok(text.into())
            );
        }
        for bad in [
            "hunter2",
            "file:kek",
            "env:",
            "credential:../kek",
            "credential:a/b",
            "x:hunter2",
        ] {
            let message = bad.parse::<SecretRef>().expect_err("not a reference");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn every_kind_of_reference_reads_its_secret() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("kek"), "s3cret\n").expect("write");
        let env = |name: &str| match name {
            "KEK" => Some(OsString::from("s3cret")),
            "CREDENTIALS_DIRECTORY" => Some(dir.path().into()),
            _ => None,
        };
        for reference in [
            SecretRef::File(dir.path().join("kek")),
            SecretRef::Env("KEK".into()),
            SecretRef::Credential("kek".into()),
        ] {
            let secret = reference.read_with(env).expect("a secret");
            assert_eq!(secret.expose(), b"s3cret");
            assert!(!format!("{secret:?}").contains("s3cret"));
        }
    }

    #[test]
    fn a_missing_empty_or_huge_secret_is_a_fault() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("empty"), "\n").expect("write");
        std::fs::write(path("huge"), vec![b'x'; 65 << 10]).expect("write");
        for reference in [
            SecretRef::File(path("missing")),
            SecretRef::File(path("empty")),
            SecretRef::File(path("huge")),
            SecretRef::Env("MISSING".into()),
            SecretRef::Credential("kek".into()),
        ] {
            let reason = reference.read_with(nothing).map_err(|fault| fault.reason);
            assert_eq!(reason, Err(Reason::SecretUnreadable), "{reference}");
        }
    }
}
