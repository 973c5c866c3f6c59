//! What several people sign one after the other, as a text file that goes from one to the next.
//!
//! ```text
//! # What it says, for people: it counts for nothing.
//! stillwater-statement 1
//! statement 5357…
//! signature d75a… e556…
//! ```
//!
//! Numbers are hexadecimal. A signature is a public key and what it signed with.

use std::fmt::{self, Write};
use std::path::Path;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE as HEX};
use stillwater_types::{Fault, Reason};

use super::{SigningKey, verify};
use crate::file;

const FIRST_LINE: &str = "stillwater-statement 1";
const MESSAGE_BYTES_MAX: usize = 4096;
const SIGNATURES_MAX: usize = 64;

/// A public key and its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Ed25519.
    pub key: [u8; 32],
    /// Over the statement's bytes.
    pub signature: [u8; 64],
}

/// A statement and who signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedStatement {
    /// What is signed.
    pub statement: Vec<u8>,
    /// In the order in which they were made, each of another key.
    pub signatures: Vec<Signature>,
}

impl SignedStatement {
    /// Takes a statement that nobody signed yet.
    pub const fn new(statement: Vec<u8>) -> Self {
        let signatures = Vec::new();
        Self {
            statement,
            signatures,
        }
    }

    /// Reads a file. Blocks on the disk.
    ///
    /// # Errors
    /// `BAD_FIELD` when it cannot be read, is malformed, or has a signature that does not fit.
    pub fn load(path: &Path) -> Result<Self, Fault> {
        let refuse = |why: String| {
            let message = format!("read the statement in {}: {why}", path.display());
            Fault::new(Reason::BadField, message)
        };
        let bytes = file::read(path).map_err(|error| refuse(error.to_string()))?;
        let text = std::str::from_utf8(&bytes).map_err(|error| refuse(error.to_string()))?;
        text.parse().map_err(refuse)
    }

    /// Adds the key's signature unless it is there.
    pub fn sign(&mut self, key: &SigningKey) {
        let (public, signature) = (key.public_key(), key.sign(&self.statement));
        if self.signatures.iter().all(|given| given.key != public) {
            self.signatures.push(Signature {
                key: public,
                signature,
            });
        }
    }
}

impl FromStr for SignedStatement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        if lines.next() != Some(FIRST_LINE) {
            return Err(format!("it does not begin with `{FIRST_LINE}`"));
        }
        let statement = lines
            .next()
            .and_then(|line| line.strip_prefix("statement "));
        let statement = statement.and_then(|digits| HEX.decode(digits.as_bytes()).ok());
        let statement = statement.ok_or("its second line is no statement")?;
        if statement.len() > MESSAGE_BYTES_MAX {
            return Err("its statement is too long".into());
        }
        let mut signed = Self::new(statement);
        for line in lines {
            let given = signature(line).ok_or("a line is no signature")?;
            if !verify(&given.key, &signed.statement, &given.signature) {
                let key = HEXLOWER.encode(&given.key);
                return Err(format!("the signature of {key} does not fit"));
            }
            if signed.signatures.iter().any(|known| known.key == given.key) {
                return Err("a key signed twice".into());
            }
            if signed.signatures.len() == SIGNATURES_MAX {
                return Err("it has too many signatures".into());
            }
            signed.signatures.push(given);
        }
        Ok(signed)
    }
}

fn signature(line: &str) -> Option<Signature> {
    let (key, signature) = line.strip_prefix("signature ")?.split_once(' ')?;
    let decode = |digits: &str| HEX.decode(digits.as_bytes()).ok();
    Some(Signature {
        key: decode(key)?.try_into().ok()?,
        signature: decode(signature)?.try_into().ok()?,
    })
}

impl fmt::Display for SignedStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        writeln!(f, "statement {}", HEXLOWER.encode(&self.statement))?;
        for Signature { key, signature } in &self.signatures {
            f.write_str("signature ")?;
            f.write_str(&HEXLOWER.encode(key))?;
            f.write_char(' ')?;
            writeln!(f, "{}", HEXLOWER.encode(signature))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> (SignedStatement, String) {
        let mut signed = SignedStatement::new(b"keep it".to_vec());
        for _ in 0..2 {
            signed.sign(&SigningKey::generate().expect("a key"));
        }
        let text = signed.to_string();
        (signed, text)
    }

    #[track_caller]
    fn check_refused(text: &str, why: &str) {
        let refused = text.parse::<SignedStatement>().expect_err("refused");
        assert!(refused.contains(why), "{refused}");
    }

    #[test]
    fn a_statement_is_read_back_whatever_people_wrote_about_it() {
        let (signed, text) = signed();
        let noted = format!(
            "# for Alice\r\n\n{}",
            text.replace('\n', "\r\n# and Bob\r\n")
        );
        assert_eq!(noted.parse(), Ok(signed.clone()));
        let key = SigningKey::generate().expect("a key");
        let mut again = signed.clone();
        again.sign(&key);
        again.sign(&key);
        assert_eq!(again.signatures.len(), 3);
        assert_eq!(again.to_string().parse(), Ok(again));
    }

    #[test]
    fn a_statement_that_was_changed_is_refused() {
        let (_, text) = signed();
        let digits = HEXLOWER.encode(b"keep it");
        check_refused(
            &text.replace(&digits, &HEXLOWER.encode(b"drop it")),
            "does not fit",
        );
        check_refused(&text.replace("stillwater", "other"), "does not begin");
        check_refused(&text.replace("statement 6b", "statement 6"), "no statement");
        check_refused(&text.replace("signature ", "signature 00"), "no signature");
        let twice = format!("{text}{}", text.lines().last().expect("a line"));
        check_refused(&twice, "twice");
        check_refused("", "does not begin");
    }
}
