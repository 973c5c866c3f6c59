//! Where everything is; `docs/format.md`, "Layout of a repository".

use std::path::{Path, PathBuf};

use stillwater_types::{PackId, PointId};

pub(crate) const SUPERBLOCKS: [&str; 2] = ["super.a", "super.b"];
pub(crate) const COMMIT_LOGS: [&str; 2] = ["commit.log", "copy/commit.log"];
/// When packs were verified last.
pub(crate) const VERIFIED: [&str; 2] = ["verified.a", "verified.b"];
pub(crate) const LOCK: &str = "lock";
pub(crate) const TMP: &str = "tmp";
pub(crate) const QUARANTINE: &str = "quarantine";
/// The directory of the chunk index.
pub(crate) const INDEX: &str = "index";
/// The directory that belongs to sled.
pub const CATALOGUE: &str = "catalogue";
/// The file that belongs to redb.
pub(crate) const CATALOGUE_FILE: &str = "catalogue.redb";

const PACKS: &str = "packs";
const MANIFESTS: [&str; 2] = ["manifests", "copy/manifests"];
const PACK_SUFFIX: &str = ".pack";
const MANIFEST_SUFFIX: &str = ".mf";
const MANIFEST_SUFFIXES_ASIDE: [&str; 2] = [".mf", ".copy.mf"];

/// Every directory that a repository has, parents first.
pub(crate) fn directories() -> impl Iterator<Item = PathBuf> {
    let fixed = [TMP, QUARANTINE, PACKS, "copy", MANIFESTS[0], MANIFESTS[1]];
    let fanned = [PACKS, MANIFESTS[0], MANIFESTS[1]]
        .into_iter()
        .flat_map(fan);
    fixed.into_iter().map(PathBuf::from).chain(fanned)
}

/// The directories whose content is spread over directories.
pub(crate) fn fans() -> impl Iterator<Item = &'static Path> {
    [PACKS, MANIFESTS[0], MANIFESTS[1]]
        .into_iter()
        .map(Path::new)
}

/// The directories that hold packs.
pub(crate) fn pack_dirs() -> impl Iterator<Item = PathBuf> {
    fan(PACKS)
}

/// The directories that hold one of the two copies of manifests.
pub(crate) fn manifest_dirs(copy: usize) -> impl Iterator<Item = PathBuf> {
    MANIFESTS.into_iter().skip(copy).take(1).flat_map(fan)
}

pub(crate) fn pack(id: PackId) -> PathBuf {
    fanned(PACKS, id.as_bytes()).join(format!("{id}{PACK_SUFFIX}"))
}

/// The paths of both copies of a manifest.
pub(crate) fn manifest(id: PointId) -> [PathBuf; 2] {
    MANIFESTS.map(|dir| fanned(dir, id.as_bytes()).join(format!("{id}{MANIFEST_SUFFIX}")))
}

/// Where a pack lies once it is taken out.
pub(crate) fn quarantined_pack(id: PackId) -> PathBuf {
    Path::new(QUARANTINE).join(format!("{id}{PACK_SUFFIX}"))
}

/// Where both copies of a deleted point's manifest lie.
pub(crate) fn quarantined_manifest(id: PointId) -> [PathBuf; 2] {
    MANIFEST_SUFFIXES_ASIDE.map(|suffix| Path::new(QUARANTINE).join(format!("{id}{suffix}")))
}

pub(crate) fn parse_quarantined_manifest(name: &str) -> Option<PointId> {
    let [first, second] = MANIFEST_SUFFIXES_ASIDE;
    let stem = name.strip_suffix(second).or(name.strip_suffix(first))?;
    stem.parse().ok()
}

pub(crate) fn parse_pack(name: &str) -> Option<PackId> {
    name.strip_suffix(PACK_SUFFIX)?.parse().ok()
}

pub(crate) fn parse_manifest(name: &str) -> Option<PointId> {
    name.strip_suffix(MANIFEST_SUFFIX)?.parse().ok()
}

/// The directory of a path; the repository's own for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn fan(dir: &'static str) -> impl Iterator<Item = PathBuf> {
    (0..=u8::MAX).map(move |byte| Path::new(dir).join(format!("{byte:02x}")))
}

/// The last byte is random in a UUID of version 7; the first ones are its time.
fn fanned(dir: &str, id: &[u8; 16]) -> PathBuf {
    let [.., last] = id;
    Path::new(dir).join(format!("{last:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_id_and_lies_in_a_directory_that_exists() {
        let (pack_id, point) = (PackId::mint(), PointId::mint());
        let path = pack(pack_id);
        assert_eq!(
            parse_pack(path.file_name().unwrap().to_str().unwrap()),
            Some(pack_id)
        );
        for path in manifest(point) {
            assert_eq!(
                parse_manifest(path.file_name().unwrap().to_str().unwrap()),
                Some(point)
            );
            assert!(directories().any(|dir| dir == parent(&path)));
        }
        assert!(directories().any(|dir| dir == parent(&path)));
        assert_eq!(parse_pack("notes.txt"), None);
    }
}
