//! Secrets at rest: sealed with the key-encryption key, opened only where they are used.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use stillwater_seal::{KeyEncryptionKey, Purpose};
use stillwater_types::Fault;
use zeroize::Zeroizing;

/// A sealed secret as files and the journal hold it: base64 in JSON, never shown in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sealed(Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

impl From<Sealed> for String {
    fn from(sealed: Sealed) -> Self {
        STANDARD.encode(sealed.0)
    }
}

impl TryFrom<String> for Sealed {
    type Error = base64::DecodeError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Self)
    }
}

/// Seals and opens what the controller keeps; clones hold the same key.
#[derive(Debug, Clone)]
pub struct Secrets {
    key: KeyEncryptionKey,
}

impl Secrets {
    /// Seals with `key`.
    pub fn new(key: KeyEncryptionKey) -> Self {
        Self { key }
    }

    /// Seals `plain`; `context` names whose secret it is, such as the bytes of a vCenter's id.
    ///
    /// # Errors
    /// `BUG` when the system gives no random bytes.
    pub fn seal(&self, purpose: Purpose, context: &[u8], plain: &[u8]) -> Result<Sealed, Fault> {
        Ok(Sealed(self.key.seal(purpose, context, plain)?))
    }

    /// Opens what was sealed for the same purpose and context.
    ///
    /// # Errors
    /// `SECRET_UNREADABLE` when the key is another or the bytes were changed.
    pub fn open(
        &self,
        purpose: Purpose,
        context: &[u8],
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        Ok(self.key.open(purpose, context, &sealed.0)?)
    }
}

#[cfg(test)]
mod tests {
    use stillwater_types::Reason;

    use super::*;

    fn secrets() -> Secrets {
        Secrets::new(KeyEncryptionKey::generate().expect("the system has random bytes"))
    }

    #[test]
    fn a_secret_opens_only_for_its_purpose_context_and_key() {
        let secrets = secrets();
        let sealed = secrets
            .seal(Purpose::VcenterPassword, b"a", b"canary")
            .expect("seals");
        let open = |secrets: &Secrets, purpose, context: &[u8]| {
            secrets
                .open(purpose, context, &sealed)
                .map_err(|fault| fault.reason)
        };
        assert_eq!(
            *open(&secrets, Purpose::VcenterPassword, b"a").expect("opens"),
            b"canary"
        );
        let unreadable = Some(Reason::SecretUnreadable);
        assert_eq!(
            open(&secrets, Purpose::VcenterPassword, b"b").err(),
            unreadable
        );
        assert_eq!(open(&secrets, Purpose::GrantKey, b"a").err(), unreadable);
        assert_eq!(
            open(&self::secrets(), Purpose::VcenterPassword, b"a").err(),
            unreadable
        );
    }

    #[test]
    fn a_sealed_secret_survives_json_and_shows_nothing_in_debug() {
        let sealed = secrets()
            .seal(Purpose::GrantKey, b"", b"canary")
            .expect("seals");
        let json = serde_json::to_string(&sealed).expect("serializes");
        assert_eq!(
            serde_json::from_str::<Sealed>(&json).expect("parses"),
            sealed
        );
        assert!(!json.contains("canary"));
        assert!(format!("{sealed:?}").ends_with(" bytes)"));
    }
}
