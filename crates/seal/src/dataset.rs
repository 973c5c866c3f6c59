//! The key of a dataset and what is derived from it.

use stillwater_types::DatasetId;
use zeroize::Zeroizing;

use crate::SealError;
use crate::blob::{self, Purpose};
use crate::key::Secret;

/// Salt of the extraction from a dataset key; what follows is told apart by the info strings.
const DATASET_SALT: &[u8] = b"stillwater/dataset/v1";
const CHUNK_ID_INFO: &[u8] = b"stillwater/chunk-id/v1";
const CUT_SEED_INFO: &[u8] = b"stillwater/cut-seed/v1";
const PACK_INFO: &[u8] = b"stillwater/pack-root/v1";
const MANIFEST_INFO: &[u8] = b"stillwater/manifest-root/v1";

/// The 32 random bytes that all of a dataset's protection comes from.
///
/// The controller makes it, keeps it sealed and wraps it for the recovery key; a proxy holds it for
/// one transfer; the repository never does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetKey(Secret);

impl DatasetKey {
    /// Draws a new key.
    pub fn generate() -> Result<Self, SealError> {
        Secret::random().map(Self)
    }

    /// Takes the 32 bytes that a sealed or a granted key consists of.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, SealError> {
        Secret::from_slice(bytes).map(Self)
    }

    /// The secret bytes, for a caller that seals them or puts them into a grant.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// The key of chunk ids: `chunk id = keyed BLAKE3(plaintext)`.
    pub fn id_key(&self) -> Result<IdKey, SealError> {
        self.0.derive(DATASET_SALT, &[CHUNK_ID_INFO]).map(IdKey)
    }

    /// The seed of the cutter, so that chunk lengths do not tell what was cut.
    pub fn cut_seed(&self) -> Result<u64, SealError> {
        let bytes = self.0.derive::<8>(DATASET_SALT, &[CUT_SEED_INFO])?;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// The root that the key of each salt is derived from.
    pub(crate) fn pack_root(&self) -> Result<Secret, SealError> {
        let bytes = self.0.derive::<32>(DATASET_SALT, &[PACK_INFO])?;
        Secret::from_slice(bytes.as_ref())
    }

    /// Seals the section of a manifest that only key holders may read. `context` names the manifest
    /// (its point id) and must be the same when it is opened.
    pub fn seal_manifest(
        &self,
        dataset: DatasetId,
        context: &[u8],
        section: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let context = [dataset.as_bytes(), context].concat();
        blob::seal(
            &self.manifest_root()?,
            Purpose::ManifestSection,
            &context,
            section,
        )
    }

    /// Opens what [`DatasetKey::seal_manifest`] sealed.
    pub fn open_manifest(
        &self,
        dataset: DatasetId,
        context: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let context = [dataset.as_bytes(), context].concat();
        blob::open(
            &self.manifest_root()?,
            Purpose::ManifestSection,
            &context,
            sealed,
        )
    }

    fn manifest_root(&self) -> Result<Secret, SealError> {
        let bytes = self.0.derive::<32>(DATASET_SALT, &[MANIFEST_INFO])?;
        Secret::from_slice(bytes.as_ref())
    }
}

/// The key of chunk ids. Whoever has it can test whether a dataset holds a known text.
#[derive(Clone)]
pub struct IdKey(Zeroizing<[u8; 32]>);

impl IdKey {
    /// The secret bytes, for the keyed hash.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for IdKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdKey([secret])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(bytes)
    }

    #[test]
    fn derived_keys_are_those_of_the_format() {
        let key = DatasetKey::from_slice(&std::array::from_fn::<u8, 32, _>(|i| i as u8)).unwrap();
        assert_eq!(
            hex(key.id_key().unwrap().expose()),
            "aeb7442a622c4f3002f3d5b0cb9d3203f8ebfec4c0f6cc7046023cff9e679904"
        );
        assert_eq!(key.cut_seed().unwrap(), 0x1e028693949cbbc0);
        assert_eq!(
            hex(key.pack_root().unwrap().expose()),
            "9ef4fbd5cfd4bbc5aa39da3804ac16932a5d22824a8711c016fb5bde783b54e1"
        );
        assert_eq!(
            hex(key.manifest_root().unwrap().expose()),
            "68f1b162d23d2d447f03f79b0ac84ef3423785d2c337df9b43b5abac5184443c"
        );
    }

    #[test]
    fn nothing_secret_is_printed() {
        let key = DatasetKey::from_slice(&[0xa5; 32]).unwrap();
        let text = format!("{key:?} {:?}", key.id_key().unwrap());
        assert_eq!(text, "DatasetKey([secret]) IdKey([secret])");
    }

    #[test]
    fn a_key_has_32_bytes() {
        assert_eq!(
            DatasetKey::from_slice(&[1; 31]),
            Err(SealError::KeyLength { found: 31 })
        );
        assert_ne!(
            DatasetKey::generate().unwrap(),
            DatasetKey::generate().unwrap()
        );
    }

    #[test]
    fn a_manifest_section_opens_only_as_itself() {
        let key = DatasetKey::generate().unwrap();
        let (mine, other) = (DatasetId::mint(), DatasetId::from_bytes([7; 16]));
        let sealed = key.seal_manifest(mine, b"point", b"the vm's name").unwrap();
        assert_eq!(
            *key.open_manifest(mine, b"point", &sealed).unwrap(),
            b"the vm's name"
        );
        let unauthentic = Err(SealError::Unauthentic {
            what: "manifest section",
        });
        assert_eq!(key.open_manifest(mine, b"other", &sealed), unauthentic);
        assert_eq!(key.open_manifest(other, b"point", &sealed), unauthentic);
        let stranger = DatasetKey::generate().unwrap();
        assert_eq!(stranger.open_manifest(mine, b"point", &sealed), unauthentic);
    }
}
