//! The recovery key: with it and a repository everything can be restored.
//!
//! It is an X25519 pair. The controller keeps the public half and wraps every dataset key for it;
//! the private half is printed once, as 56 Crockford base32 digits behind the prefix `SWRK1`: the
//! 32 bytes and the first three bytes of their SHA-256 as a check against typing errors.
//!
//! A wrapped key is 116 bytes: magic `SWW1` · recipient (32) · ephemeral public key (32) ·
//! AES-256-GCM ciphertext (32) and tag (16), under HKDF-SHA256(salt = ephemeral · recipient,
//! shared secret, `stillwater/recovery-wrap/v1`), the zero nonce, which is used once because the
//! ephemeral key is, and AAD = magic · dataset id · recipient · ephemeral.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::digest;
use data_encoding::{Encoding, Specification};
use stillwater_types::DatasetId;
use zeroize::Zeroizing;

use crate::key::{Cipher, KEY_LEN, Secret, derive};
use crate::{DatasetKey, SealError};

const PRIVATE_PREFIX: &str = "SWRK1";
const CHECK_LEN: usize = 3;
const DIGITS: usize = 56;
const MAGIC: &[u8; 4] = b"SWW1";
const INFO: &[u8] = b"stillwater/recovery-wrap/v1";
const WRAPPED_LEN: usize = 4 + 32 + 32 + 48;

/// The private half. Its owner prints it once and keeps it away from the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryKey(Secret);

impl RecoveryKey {
    /// Draws a new key.
    pub fn generate() -> Result<Self, SealError> {
        Secret::random().map(Self)
    }

    /// The half that the controller keeps.
    pub fn public(&self) -> Result<RecoveryPublicKey, SealError> {
        public_bytes(&self.private()?).map(RecoveryPublicKey)
    }

    /// The text for paper: prefix and 14 groups of four digits. Shown once, never logged.
    pub fn to_text(&self) -> Result<Zeroizing<String>, SealError> {
        let bytes = self.0.expose();
        let mut checked = Zeroizing::new([0; KEY_LEN + CHECK_LEN]);
        checked[..KEY_LEN].copy_from_slice(bytes);
        checked[KEY_LEN..].copy_from_slice(&check(bytes));
        let digits = Zeroizing::new(base32()?.encode(checked.as_ref()));
        let mut text = Zeroizing::new(String::with_capacity(PRIVATE_PREFIX.len() + 14 * 5));
        text.push_str(PRIVATE_PREFIX);
        for (at, digit) in digits.chars().enumerate() {
            if at % 4 == 0 {
                text.push('-');
            }
            text.push(digit);
        }
        Ok(text)
    }

    /// Unwraps a dataset's key.
    pub fn unwrap(
        &self,
        dataset: DatasetId,
        wrapped: &WrappedDatasetKey,
    ) -> Result<DatasetKey, SealError> {
        let what = "wrapped dataset key";
        let (recipient, ephemeral, sealed) = wrapped.parts();
        if self.public()?.0 != *recipient {
            return Err(SealError::Unauthentic { what });
        }
        let cipher = agree(&self.private()?, ephemeral, ephemeral, recipient)?;
        let mut text = Zeroizing::new(sealed.to_vec());
        cipher.open(0, &aad(dataset, recipient, ephemeral), what, &mut text)?;
        DatasetKey::from_slice(&text)
    }

    fn private(&self) -> Result<PrivateKey, SealError> {
        PrivateKey::from_private_key(&X25519, self.0.expose())
            .map_err(|_| SealError::Cipher("x25519"))
    }
}

impl FromStr for RecoveryKey {
    type Err = SealError;

    /// Reads what [`RecoveryKey::to_text`] wrote, in either case, with or without hyphens and
    /// spaces; `O` is read as zero, `I` and `L` as one.
    fn from_str(text: &str) -> Result<Self, SealError> {
        let mut compact = Zeroizing::new(String::with_capacity(PRIVATE_PREFIX.len() + DIGITS));
        for symbol in text
            .chars()
            .filter(|symbol| !symbol.is_whitespace() && *symbol != '-')
        {
            if compact.len() >= PRIVATE_PREFIX.len() + DIGITS {
                return Err(SealError::RecoveryText("there are too many digits"));
            }
            compact.push(symbol.to_ascii_uppercase());
        }
        let digits = compact
            .strip_prefix(PRIVATE_PREFIX)
            .ok_or(SealError::RecoveryText("it does not begin with SWRK1"))?;
        if digits.len() != DIGITS {
            return Err(SealError::RecoveryText("there are digits missing"));
        }
        let bytes = base32()?
            .decode(digits.as_bytes())
            .map(Zeroizing::new)
            .map_err(|_| SealError::RecoveryText("a symbol is none of its digits"))?;
        let (key, typed) = bytes.split_at_checked(KEY_LEN).unwrap_or_default();
        let key = Secret::from_slice(key)?;
        if check(key.expose()) != typed {
            return Err(SealError::RecoveryText(
                "the check digits do not fit: a digit is wrong",
            ));
        }
        Ok(Self(key))
    }
}

/// The public half, which wraps dataset keys and opens nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RecoveryPublicKey([u8; KEY_LEN]);

impl RecoveryPublicKey {
    /// Wraps the 32 bytes that the controller kept.
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Wraps a dataset's key, so that only the recovery key can unwrap it.
    pub fn wrap(
        &self,
        dataset: DatasetId,
        key: &DatasetKey,
    ) -> Result<WrappedDatasetKey, SealError> {
        let private = PrivateKey::generate(&X25519).map_err(|_| SealError::Random)?;
        self.wrap_with(&private, dataset, key)
    }

    fn wrap_with(
        &self,
        private: &PrivateKey,
        dataset: DatasetId,
        key: &DatasetKey,
    ) -> Result<WrappedDatasetKey, SealError> {
        let ephemeral = public_bytes(private)?;
        let cipher = agree(private, &self.0, &ephemeral, &self.0)?;
        let mut text = Vec::with_capacity(KEY_LEN + crate::TAG_LEN);
        text.extend_from_slice(key.expose());
        cipher.seal(0, &aad(dataset, &self.0, &ephemeral), &mut text)?;
        WrappedDatasetKey::from_slice(&[MAGIC.as_slice(), &self.0, &ephemeral, &text].concat())
    }
}

impl fmt::Debug for RecoveryPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RecoveryPublicKey({})",
            data_encoding::HEXLOWER.encode(&self.0)
        )
    }
}

/// A dataset key that only the recovery key can open. Not secret; the repository keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedDatasetKey([u8; WRAPPED_LEN]);

impl WrappedDatasetKey {
    /// Takes stored bytes, if they have the form.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, SealError> {
        match <[u8; WRAPPED_LEN]>::try_from(bytes) {
            Ok(array) if array.starts_with(MAGIC) => Ok(Self(array)),
            _ => Err(SealError::Malformed {
                what: "wrapped dataset key",
            }),
        }
    }

    /// The bytes to store.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn parts(&self) -> (&[u8; KEY_LEN], &[u8; KEY_LEN], &[u8]) {
        const EMPTY: &[u8; KEY_LEN] = &[0; KEY_LEN];
        // The length is in the type, so neither split can miss.
        let rest = &self.0[MAGIC.len()..];
        let (recipient, rest) = rest.split_first_chunk().unwrap_or((EMPTY, &[]));
        let (ephemeral, sealed) = rest.split_first_chunk().unwrap_or((EMPTY, &[]));
        (recipient, ephemeral, sealed)
    }
}

fn agree(
    private: &PrivateKey,
    peer: &[u8; KEY_LEN],
    ephemeral: &[u8; KEY_LEN],
    recipient: &[u8; KEY_LEN],
) -> Result<Cipher, SealError> {
    let refused = SealError::Cipher("x25519");
    let peer = UnparsedPublicKey::new(&X25519, peer);
    agreement::agree(private, peer, refused, |shared| {
        let key = derive::<KEY_LEN>(shared, &[*ephemeral, *recipient].concat(), &[INFO])?;
        Cipher::new(&key)
    })
}

fn public_bytes(private: &PrivateKey) -> Result<[u8; KEY_LEN], SealError> {
    let public = private
        .compute_public_key()
        .map_err(|_| SealError::Cipher("x25519"))?;
    public
        .as_ref()
        .try_into()
        .map_err(|_| SealError::Cipher("x25519"))
}

fn aad(dataset: DatasetId, recipient: &[u8], ephemeral: &[u8]) -> Vec<u8> {
    [MAGIC.as_slice(), dataset.as_bytes(), recipient, ephemeral].concat()
}

fn check(key: &[u8; KEY_LEN]) -> [u8; CHECK_LEN] {
    let hash = digest::digest(&digest::SHA256, key);
    let mut check = [0; CHECK_LEN];
    check
        .iter_mut()
        .zip(hash.as_ref())
        .for_each(|(to, from)| *to = *from);
    check
}

/// Crockford's base32: no letter that looks like another digit.
fn base32() -> Result<Encoding, SealError> {
    let mut specification = Specification::new();
    specification
        .symbols
        .push_str("0123456789ABCDEFGHJKMNPQRSTVWXYZ");
    specification.translate.from.push_str("OIL");
    specification.translate.to.push_str("011");
    specification
        .encoding()
        .map_err(|_| SealError::Cipher("base32"))
}

#[cfg(test)]
mod tests;
