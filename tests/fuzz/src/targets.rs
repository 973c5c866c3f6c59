//! Everything that reads bytes, each with bytes to begin with.

mod disk;
mod format;
mod nfc;
mod outside;
mod sealed;
mod vsphere;
mod whole;
mod wire;

/// Something that takes any bytes.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Panics when something is wrong with what became of the bytes.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Makes checksums fit what was changed.
    pub mend: fn(&mut Vec<u8>),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    disk::DISK_WORDS,
    disk::NBD_HANDSHAKE,
    disk::NBD_PARTS,
    disk::NBD_WORDS,
    disk::SCSI_PAGE,
    format::COMMIT_ENTRY,
    format::COMMIT_LOG,
    format::DISK_ROOT,
    format::MANIFEST,
    format::NODE,
    format::PACK_ENDS,
    format::PACK_HEADER,
    format::PACK_SCAN,
    format::RECORD_HEADER,
    format::STATEMENT,
    format::SUPERBLOCKS,
    sealed::CHUNK_TEXT,
    sealed::RECOVERY_KEY,
    sealed::SEALED_BLOB,
    sealed::SECTION,
    sealed::WRAPPED_KEY,
    outside::CUTTER_NAME,
    outside::GRANT,
    outside::IDS,
    outside::JOIN_TOKEN,
    outside::SIGNED_STATEMENT,
    outside::VM_CONFIG,
    outside::VSPHERE_WORDS,
    nfc::NFC_FASTLZ,
    nfc::NFC_FRAMES,
    nfc::NFC_SET_UP,
    vsphere::VSPHERE_ANSWERS,
    whole::REPOSITORY,
    whole::TREE,
    wire::MESSAGES,
];

/// For what has no checksum.
fn leave(_: &mut Vec<u8>) {}

/// Closes a structure whose last four bytes are the CRC-32C of the others.
fn close(bytes: &mut [u8]) {
    if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32c::crc32c(body).to_le_bytes();
    }
}
