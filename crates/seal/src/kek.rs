//! The key-encryption key: what protects the controller's secrets at rest.

use zeroize::Zeroizing;

use crate::SealError;
use crate::blob::{self, Purpose};
use crate::key::Secret;

/// 32 bytes that the controller loads at start, from a systemd credential or a file that only it
/// can read. It seals the secrets that the controller keeps and is never stored beside them.
#[derive(Debug, Clone)]
pub struct KeyEncryptionKey(Secret);

impl KeyEncryptionKey {
    /// Draws a new key, for `init`.
    pub fn generate() -> Result<Self, SealError> {
        Secret::random().map(Self)
    }

    /// Takes the 32 bytes that the caller loaded.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, SealError> {
        Secret::from_slice(bytes).map(Self)
    }

    /// The secret bytes, for the caller that stores them where only the controller can read.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Seals a small secret. `context` names whose secret it is, such as the vCenter's id.
    pub fn seal(
        &self,
        purpose: Purpose,
        context: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        blob::seal(&self.0, purpose, context, plain)
    }

    /// Opens what [`KeyEncryptionKey::seal`] sealed for the same purpose and context.
    pub fn open(
        &self,
        purpose: Purpose,
        context: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        blob::open(&self.0, purpose, context, sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reloaded_key_opens_what_it_sealed_and_another_does_not() {
        let key = KeyEncryptionKey::generate().unwrap();
        let sealed = key
            .seal(Purpose::VcenterPassword, b"vc-1", b"hunter2")
            .unwrap();
        let reloaded = KeyEncryptionKey::from_slice(key.expose()).unwrap();
        assert_eq!(
            *reloaded
                .open(Purpose::VcenterPassword, b"vc-1", &sealed)
                .unwrap(),
            b"hunter2"
        );
        let other = KeyEncryptionKey::generate().unwrap();
        assert!(
            other
                .open(Purpose::VcenterPassword, b"vc-1", &sealed)
                .is_err()
        );
        assert_eq!(format!("{key:?}"), "KeyEncryptionKey([secret])");
    }
}
