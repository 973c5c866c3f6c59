//! The key-encryption key: where it is, and how `init` makes it.

use std::path::Path;

use stillwater_seal::KeyEncryptionKey;
use stillwater_service::config::SecretRef;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::home::publish;

/// Reads the key: 64 hexadecimal digits, so that any tool can carry it.
///
/// # Errors
/// `SECRET_UNREADABLE` when it is not there, [`Error::BadKey`] when it is no key.
pub fn read(reference: &SecretRef) -> Result<KeyEncryptionKey, Error> {
    let secret = reference.read()?;
    let bytes = decode(secret.expose()).ok_or_else(|| Error::BadKey(reference.to_string()))?;
    Ok(KeyEncryptionKey::from_slice(bytes.as_ref())?)
}

/// Reads the key, or makes it when it is to be a file that is not there yet.
///
/// A key that is there is used: an `init` that was cut short made it, or an administrator put it
/// there before. Credentials and variables are never made here: whoever passes them keeps them.
pub fn read_or_make(reference: &SecretRef) -> Result<KeyEncryptionKey, Error> {
    match reference {
        SecretRef::File(path) if !path.exists() => make(path),
        _ => read(reference),
    }
}

fn make(path: &Path) -> Result<KeyEncryptionKey, Error> {
    let key = KeyEncryptionKey::generate()?;
    publish(path, encode(key.expose()).as_bytes())?;
    Ok(key)
}

fn encode(bytes: &[u8; 32]) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // Room from the start, so that no half of the key is left behind by a reallocation.
    let mut text = Zeroizing::new(String::with_capacity(65));
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
    text.push('\n');
    text
}

fn decode(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let text = text.trim_ascii();
    if text.len() != 64 {
        return None;
    }
    let digit = |c: &u8| char::from(*c).to_digit(16);
    let mut bytes = Zeroizing::new([0; 32]);
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let value = pair
            .iter()
            .try_fold(0, |value, c| Some(value << 4 | digit(c)?))?;
        *byte = u8::try_from(value).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_made_is_read_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let reference = SecretRef::File(dir.path().join("kek"));
        assert!(read(&reference).is_err());
        let made = read_or_make(&reference).expect("made");
        for key in [read_or_make(&reference), read(&reference)] {
            assert_eq!(key.expect("read").expose(), made.expose());
        }
    }

    #[test]
    fn a_text_that_is_no_key_is_refused_and_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("kek");
        for bad in ["short", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65)] {
            std::fs::write(&path, bad).expect("write");
            let refused = read_or_make(&SecretRef::File(path.clone()));
            assert!(matches!(refused, Err(Error::BadKey(_))), "{bad}");
            assert_eq!(std::fs::read_to_string(&path).expect("kept"), bad);
        }
    }

    #[test]
    fn keys_survive_their_text() {
        let bytes = std::array::from_fn(|i| (i * 7 + 3) as u8);
        let text = encode(&bytes);
        assert_eq!(decode(text.as_bytes()).as_deref(), Some(&bytes));
        assert_eq!(
            decode(text.to_uppercase().as_bytes()).as_deref(),
            Some(&bytes)
        );
    }
}
