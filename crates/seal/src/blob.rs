//! Small secrets at rest: one text, one fresh key, one typed purpose.
//!
//! Layout: magic `SWB1` (4) · salt (32) · AES-256-GCM ciphertext and tag, under
//! HKDF-SHA256(salt, root, `stillwater/blob/v1`) and the zero nonce, which is used once because the
//! salt is fresh. AAD: magic · purpose length (1) · purpose · context.

use zeroize::Zeroizing;

use crate::SealError;
use crate::key::{KEY_LEN, Secret, random_bytes};
use crate::record::TAG_LEN;

const MAGIC: &[u8; 4] = b"SWB1";
const INFO: &[u8] = b"stillwater/blob/v1";

/// What a sealed secret is. It is authenticated with the bytes, so that a sealed password can never
/// be served where a key is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The password of a vCenter account; the context is the vCenter id.
    VcenterPassword,
    /// The password of an account in guests; the context is what names those guests.
    GuestPassword,
    /// A dataset key; the context is the dataset id.
    DatasetKey,
    /// The section of a manifest that only key holders read.
    ManifestSection,
    /// The private key that grants are signed with.
    GrantKey,
    /// The private key of the cluster's certificate authority.
    AuthorityKey,
}

impl Purpose {
    /// The name that is authenticated; part of the format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Purpose::VcenterPassword => "vcenter password",
            Purpose::GuestPassword => "guest password",
            Purpose::DatasetKey => "dataset key",
            Purpose::ManifestSection => "manifest section",
            Purpose::GrantKey => "grant key",
            Purpose::AuthorityKey => "authority key",
        }
    }
}

pub(crate) fn seal(
    root: &Secret,
    purpose: Purpose,
    context: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, SealError> {
    let salt = random_bytes::<KEY_LEN>()?;
    seal_with(root, &salt, purpose, context, plain)
}

fn seal_with(
    root: &Secret,
    salt: &[u8; KEY_LEN],
    purpose: Purpose,
    context: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, SealError> {
    // Room for the tag, so that the plain bytes are never left behind by a reallocation.
    let mut text = Vec::with_capacity(plain.len() + TAG_LEN);
    text.extend_from_slice(plain);
    root.cipher(salt, &[INFO])?
        .seal(0, &aad(purpose, context), &mut text)?;
    Ok([MAGIC.as_slice(), salt, &text].concat())
}

pub(crate) fn open(
    root: &Secret,
    purpose: Purpose,
    context: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let what = purpose.as_str();
    let malformed = SealError::Malformed { what };
    let (salt, text) = sealed
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_first_chunk::<KEY_LEN>())
        .ok_or(malformed)?;
    if text.len() < TAG_LEN {
        return Err(malformed);
    }
    let mut text = Zeroizing::new(text.to_vec());
    root.cipher(salt, &[INFO])?
        .open(0, &aad(purpose, context), what, &mut text)?;
    Ok(text)
}

fn aad(purpose: Purpose, context: &[u8]) -> Vec<u8> {
    let name = purpose.as_str().as_bytes();
    // Names are constants of at most 255 bytes; the length keeps name and context apart.
    [MAGIC.as_slice(), &[name.len() as u8], name, context].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn root() -> Secret {
        Secret::from_slice(&[0x11; 32]).unwrap()
    }

    #[test]
    fn a_blob_has_the_bytes_of_the_format() {
        let sealed = seal_with(
            &root(),
            &[0x22; 32],
            Purpose::VcenterPassword,
            b"vc",
            b"hunter2",
        )
        .unwrap();
        assert_eq!(
            data_encoding::HEXLOWER.encode(&sealed[36..]),
            "b0a6ccbb95fd612b03e7841befac3959f2152385e96e74"
        );
    }

    #[test]
    fn a_secret_does_not_open_for_another_purpose_or_context() {
        let sealed = seal(&root(), Purpose::VcenterPassword, b"one", b"secret").unwrap();
        assert_eq!(
            *open(&root(), Purpose::VcenterPassword, b"one", &sealed).unwrap(),
            b"secret"
        );
        assert!(open(&root(), Purpose::VcenterPassword, b"two", &sealed).is_err());
        assert!(open(&root(), Purpose::GrantKey, b"one", &sealed).is_err());
    }

    #[test]
    fn the_same_secret_never_seals_to_the_same_bytes() {
        let seal = || seal(&root(), Purpose::GrantKey, b"", b"secret").unwrap();
        assert_ne!(seal(), seal());
    }

    proptest! {
        #[test]
        fn any_changed_or_missing_byte_is_noticed(
            plain in prop::collection::vec(any::<u8>(), 0..80),
            at in any::<prop::sample::Index>(),
            flip in 1..=255u8,
        ) {
            let sealed = seal(&root(), Purpose::DatasetKey, b"x", &plain).unwrap();
            prop_assert_eq!(&*open(&root(), Purpose::DatasetKey, b"x", &sealed).unwrap(), &plain);
            let at = at.index(sealed.len());
            prop_assert!(open(&root(), Purpose::DatasetKey, b"x", &sealed[..at]).is_err());
            let mut changed = sealed;
            changed[at] ^= flip;
            prop_assert!(open(&root(), Purpose::DatasetKey, b"x", &changed).is_err());
        }
    }
}
