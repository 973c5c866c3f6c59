//! Ed25519: grants of the controller, and statements of a repository's administrators.
//!
//! Whoever signs puts a text of its own in front of what it signs, so that no signature of one kind
//! can stand for another.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use stillwater_types::{Fault, Reason};
use zeroize::Zeroizing;

mod signed;

pub use signed::{Signature, SignedStatement};

/// A key that signs.
pub struct SigningKey {
    key: Ed25519KeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl SigningKey {
    /// Makes a key.
    ///
    /// # Errors
    /// `BUG` when the system gives no randomness.
    pub fn generate() -> Result<Self, Fault> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
            .map_err(|_| Fault::new(Reason::Bug, "make a signing key: no randomness"))?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// Reads the key that [`SigningKey::to_pkcs8`] gave.
    ///
    /// # Errors
    /// `SECRET_UNREADABLE` when it is none.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, Fault> {
        let key = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|err| {
            let message = format!("read the signing key: {err}");
            Fault::new(Reason::SecretUnreadable, message)
        })?;
        let pkcs8 = Zeroizing::new(pkcs8.to_vec());
        Ok(Self { key, pkcs8 })
    }

    /// The key, for its owner to keep.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.pkcs8.clone()
    }

    /// What its signatures are checked with.
    pub fn public_key(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.key.public_key().as_ref());
        bytes
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.key.sign(message).as_ref());
        bytes
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

/// Whether `signature` over `message` was made by the key that `public_key` belongs to.
pub fn verify(public_key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public_key)
        .verify(message, signature)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_key_over_one_message() {
        let key = SigningKey::generate().expect("a key");
        let again = SigningKey::from_pkcs8(&key.to_pkcs8()).expect("the key");
        let signature = again.sign(b"message");
        assert!(verify(&key.public_key(), b"message", &signature));
        assert!(!verify(&key.public_key(), b"massage", &signature));
        let other = SigningKey::generate().expect("a key");
        assert!(!verify(&other.public_key(), b"message", &signature));
        assert!(!verify(&[0; 32], b"message", &signature));
    }

    #[test]
    fn bytes_that_are_no_key_are_refused_and_a_key_is_not_printed() {
        let refused = SigningKey::from_pkcs8(b"none").expect_err("no key");
        assert_eq!(refused.reason, Reason::SecretUnreadable);
        let key = SigningKey::generate().expect("a key");
        assert_eq!(format!("{key:?}"), "SigningKey { .. }");
    }
}
