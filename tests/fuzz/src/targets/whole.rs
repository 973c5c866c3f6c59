//! Whole trees, and a whole repository.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use stillwater_chunking::{Step, TreeReader};
use stillwater_format::node::{DiskRoot, Node, tree_id};
use stillwater_format::pack::RecordKind;
use stillwater_recovery::{ImageFormat, Recovery, RecoveryKey};
use stillwater_types::TreeId;
use tempfile::TempDir;

use super::{Target, leave};
use crate::random::Random;
use crate::{mutate, seeds};

/// The parts of the input are nodes of a tree; the first is its top. Whatever they say, a walk ends, in
/// order and within the disk.
pub(super) const TREE: Target = Target {
    name: "tree",
    run: |bytes| {
        let nodes: Vec<&[u8]> = split(bytes);
        let Some(top) = nodes.first() else { return };
        let Ok(node) = Node::decode(top) else { return };
        let root = DiskRoot {
            length: node.span(),
            cutter: "fuzz".into(),
            top: tree_id(top),
            level: node.level(),
        };
        let known: HashMap<TreeId, &[u8]> =
            nodes.iter().map(|node| (tree_id(node), *node)).collect();
        let Ok(mut reader) = TreeReader::whole(&root) else {
            return;
        };
        let mut at = 0;
        loop {
            match reader.step() {
                Ok(Step::Nodes(ids)) => {
                    for id in ids {
                        let Some(bytes) = known.get(&id) else { return };
                        if reader.supply(bytes).is_err() {
                            return;
                        }
                    }
                }
                Ok(Step::Leaf { offset, leaf }) => {
                    assert_eq!(offset, at);
                    at += leaf.span();
                }
                Ok(Step::Done) => break assert_eq!(at, root.length),
                Err(_) => return,
            }
        }
    },
    seeds: || {
        let mut nodes = seeds::stored(RecordKind::Node);
        nodes.sort_by_key(|node| std::cmp::Reverse(node.get(4).copied()));
        let mut seeds: Vec<_> = nodes.iter().map(|node| join(&[node])).collect();
        seeds.push(join(&nodes.iter().collect::<Vec<_>>()));
        seeds
    },
    mend: leave,
};

/// Parts behind their lengths.
fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (part, behind) = rest.split_at(length);
        parts.push(part);
        bytes = behind;
    }
    parts
}

fn join(parts: &[&Vec<u8>]) -> Vec<u8> {
    let part = |part: &&Vec<u8>| [&(part.len() as u16).to_le_bytes(), part.as_slice()].concat();
    parts.iter().flat_map(part).collect()
}

/// The input is a seed by which files of the golden repository are changed. What can still be restored
/// of its smallest disks is the truth or nothing, whatever was changed.
pub(super) const REPOSITORY: Target = Target {
    name: "repository",
    run: |bytes| {
        let mut random = Random::new(
            blake3::hash(bytes)
                .as_bytes()
                .iter()
                .fold(0, |sum, byte| sum.wrapping_mul(257) + u64::from(*byte)),
        );
        let dir = scratch();
        let mut files = Vec::new();
        copy(&seeds::golden(), dir.path(), &mut files);
        files.sort();
        for _ in 0..=random.below(4) {
            let Some(path) = random.pick(&files) else {
                return;
            };
            let Ok(mut bytes) = fs::read(path) else {
                continue;
            };
            mutate::mutate(&mut random, &mut bytes, &[]);
            fs::write(path, bytes).expect("a file");
        }
        restore(dir.path());
    },
    seeds: || (0..8u8).map(|seed| vec![seed; 16]).collect(),
    mend: leave,
};

const KEY: &str = "SWRK1-003G-W58W-4CN3-2E1Z-8S6N-8PV2-D5R7-EZM5-HJ9S-N8D8-NYVB-VH6B-TBCJ-VZB0";

fn restore(dir: &Path) {
    let key: RecoveryKey = KEY.parse().expect("the golden key");
    let Ok(mut recovery) = Recovery::open(dir, &key, &mut |_| {}) else {
        return;
    };
    let expected = fs::read_to_string(seeds::golden().join("../expected.json")).expect("a file");
    for point in recovery.points().to_vec() {
        let Ok(manifest) = recovery.manifest(point.commit.point, true) else {
            continue;
        };
        let small = manifest
            .disks
            .iter()
            .filter(|disk| disk.root.length < 4 << 20);
        for disk in small {
            let out = scratch();
            let path = out.path().join("disk");
            let target = (path.as_path(), ImageFormat::Raw);
            let restored = recovery.restore(&manifest, disk, target, false, &mut |_| {});
            if let Ok((draft, _)) = restored {
                // Not published: a sync would take longer than all the rest.
                let (mut file, mut bytes) = (draft.file(), Vec::new());
                file.read_to_end(&mut bytes).expect("a file");
                let hash = blake3::hash(&bytes).to_hex();
                assert!(
                    expected.contains(hash.as_str()),
                    "wrong bytes of disk {}",
                    disk.key
                );
            }
        }
    }
}

/// In memory where the system has such a place: disks that others keep busy make this slow.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    tempfile::tempdir_in(base).expect("a directory")
}

fn copy(from: &Path, to: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(from)
        .expect("a directory")
        .filter_map(Result::ok)
    {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).expect("a directory");
            copy(&entry.path(), &target, files);
        } else {
            fs::copy(entry.path(), &target).expect("a file");
            files.push(target);
        }
    }
}
