//! Inputs to begin with: the golden repository, cut into its structures, and what encoders give.

use std::fs;
use std::path::{Path, PathBuf};

use stillwater_format::pack::{RecordKind, scan};

/// The golden repository.
pub(crate) fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../compat/v1/repository")
}

pub(crate) fn file(name: &str) -> Vec<u8> {
    let path = golden().join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// Every file below a directory of the golden repository, smallest first.
pub(crate) fn files(dir: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    collect(&golden().join(dir), &mut found);
    found.sort_by_key(Vec::len);
    found
}

fn collect(dir: &Path, found: &mut Vec<Vec<u8>>) {
    let entries =
        fs::read_dir(dir).unwrap_or_else(|error| panic!("list {}: {error}", dir.display()));
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            found.extend(fs::read(path));
        }
    }
}

/// Packs that are small enough to be changed often.
pub(crate) fn packs() -> Vec<Vec<u8>> {
    let mut packs = files("packs");
    packs.retain(|pack| pack.len() < 1 << 16);
    packs
}

/// The stored bytes of records.
pub(crate) fn stored(kind: RecordKind) -> Vec<Vec<u8>> {
    let packs = files("packs");
    let records = packs.iter().flat_map(|pack| scan(pack));
    let of_kind = records.filter(|(entry, _)| entry.kind == kind);
    of_kind
        .map(|(_, stored)| stored.to_vec())
        .take(50)
        .collect()
}

/// Texts that a person or another program wrote.
pub(crate) fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) const CONFIG_XML: &str = include_str!("../corpus/config.xml");
