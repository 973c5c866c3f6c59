//! The 32 secret bytes that every key here consists of, derivation, and the cipher itself.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, hkdf, rand};
use zeroize::Zeroizing;

use crate::SealError;

/// Bytes of every key and of every salt.
pub(crate) const KEY_LEN: usize = 32;

/// 32 secret bytes: never printed, wiped when dropped, compared in constant time.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<[u8; KEY_LEN]>);

impl Secret {
    pub(crate) fn random() -> Result<Self, SealError> {
        Ok(Self(Zeroizing::new(random_bytes()?)))
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Result<Self, SealError> {
        let array = bytes
            .try_into()
            .map_err(|_| SealError::KeyLength { found: bytes.len() })?;
        Ok(Self(Zeroizing::new(array)))
    }

    pub(crate) fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// HKDF-SHA256 with these bytes as input key material.
    pub(crate) fn derive<const N: usize>(
        &self,
        salt: &[u8],
        info: &[&[u8]],
    ) -> Result<Zeroizing<[u8; N]>, SealError> {
        derive(self.expose(), salt, info)
    }

    /// A cipher key derived with `salt` and `info`.
    pub(crate) fn cipher(&self, salt: &[u8], info: &[&[u8]]) -> Result<Cipher, SealError> {
        let key = self.derive::<KEY_LEN>(salt, info)?;
        Cipher::new(&key)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(self.expose(), other.expose()).is_ok()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Random bytes of the operating system by way of aws-lc.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| SealError::Random)?;
    Ok(bytes)
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-SHA256: extract with `salt`, expand with the concatenation of `info`.
pub(crate) fn derive<const N: usize>(
    input: &[u8],
    salt: &[u8],
    info: &[&[u8]],
) -> Result<Zeroizing<[u8; N]>, SealError> {
    let mut output = Zeroizing::new([0; N]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(input)
        .expand(info, Length(N))
        .and_then(|okm| okm.fill(output.as_mut()))
        .map_err(|_| SealError::Cipher("hkdf-sha256"))?;
    Ok(output)
}

/// One AES-256-GCM key. Whoever holds it must see to it that no nonce comes twice.
pub(crate) struct Cipher(LessSafeKey);

impl Cipher {
    pub(crate) fn new(key: &[u8; KEY_LEN]) -> Result<Self, SealError> {
        let key = UnboundKey::new(&AES_256_GCM, key);
        Ok(Self(LessSafeKey::new(
            key.map_err(|_| SealError::Cipher("aes-256-gcm"))?,
        )))
    }

    /// Encrypts in place and appends the tag.
    pub(crate) fn seal(
        &self,
        counter: u32,
        aad: &[u8],
        text: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        self.0
            .seal_in_place_append_tag(nonce(counter), Aad::from(aad), text)
            .map_err(|_| SealError::Cipher("aes-256-gcm"))
    }

    /// Decrypts in place and cuts the tag off.
    pub(crate) fn open(
        &self,
        counter: u32,
        aad: &[u8],
        what: &'static str,
        text: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let plain_len = self
            .0
            .open_in_place(nonce(counter), Aad::from(aad), text)
            .map_err(|_| SealError::Unauthentic { what })?
            .len();
        text.truncate(plain_len);
        Ok(())
    }
}

/// The counter as a 96-bit big-endian number.
fn nonce(counter: u32) -> Nonce {
    let mut bytes = [0; 12];
    bytes[8..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}
