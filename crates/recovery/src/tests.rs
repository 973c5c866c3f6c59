//! Images as `qemu-img` reads them, and trees that are damaged.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use stillwater_format::node::{Branch, DiskRoot, Leaf, Node, tree_id};
use stillwater_format::pack::{Builder, Header, RecordHeader};
use stillwater_types::{ChunkId, DatasetId, Extent, PackId, TreeId};

use crate::image::ImageFormat;
use crate::tree::{Piece, Walk, add};
use crate::{Draft, Error, salvage};

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hash = blake3::Hasher::new();
    hash.update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Writes pieces of a disk in both formats; the raw one is the truth.
fn images(dir: &Path, length: u64, pieces: &[(u64, Vec<u8>)]) {
    for (format, name) in [
        (ImageFormat::Raw, "disk.raw"),
        (ImageFormat::Vmdk, "disk.vmdk"),
    ] {
        let draft = Draft::begin(&dir.join(name)).unwrap();
        let mut image = format.begin(&draft, length).unwrap();
        for (offset, bytes) in pieces {
            image.write(*offset, bytes).unwrap();
        }
        image.finish().unwrap();
        drop(image);
        draft.publish().unwrap();
    }
}

#[track_caller]
fn qemu_img(arguments: &[&str], dir: &Path) {
    let output = Command::new("qemu-img")
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{arguments:?}: {told}");
}

#[track_caller]
fn check_images(length: u64, pieces: &[(u64, Vec<u8>)]) {
    let dir = tempfile::tempdir().unwrap();
    images(dir.path(), length, pieces);
    let compare = [
        "compare",
        "-f",
        "raw",
        "-F",
        "vmdk",
        "disk.raw",
        "disk.vmdk",
    ];
    qemu_img(&compare, dir.path());
    let convert = [
        "convert",
        "-f",
        "vmdk",
        "-O",
        "raw",
        "disk.vmdk",
        "back.raw",
    ];
    qemu_img(&convert, dir.path());
    let mut back = Vec::new();
    File::open(dir.path().join("back.raw"))
        .unwrap()
        .read_to_end(&mut back)
        .unwrap();
    assert_eq!(back.len() as u64, length.next_multiple_of(512));
    let raw = std::fs::read(dir.path().join("disk.raw")).unwrap();
    assert_eq!(raw.len() as u64, length);
    assert!(back.get(..raw.len()) == Some(&raw[..]));
}

#[test]
fn qemu_img_reads_the_same_from_both_formats() {
    check_images(64 << 10, &[(0, noise(1, 512))]);
    check_images(100 << 20, &[]);
    // Pieces across grains, across tables of 32 MiB, out of order, and zeros that need no grain.
    check_images(
        70 << 20,
        &[
            ((32 << 20) - 5000, noise(2, 200_000)),
            (12_345, noise(3, 60_000)),
            ((70 << 20) - 512, noise(4, 512)),
            (1 << 20, vec![0; 300_000]),
        ],
    );
    check_images(1_000_001, &[(999_000, noise(5, 1001))]);
}

#[test]
fn images_are_sparse() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    images(dir.path(), 1 << 30, &[(512 << 20, noise(1, 4096))]);
    for name in ["disk.raw", "disk.vmdk"] {
        let blocks = dir.path().join(name).metadata().unwrap().blocks();
        assert!(blocks * 512 < 1 << 20, "{name} takes {blocks} sectors");
    }
}

#[test]
fn a_disk_that_is_too_long_for_a_vmdk_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let draft = Draft::begin(&dir.path().join("disk.vmdk")).unwrap();
    let refused = ImageFormat::Vmdk.begin(&draft, 2 << 40).err();
    assert!(
        matches!(refused, Some(Error::ImageTooLong { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_file_has_its_name_only_when_it_is_published_and_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let names = || std::fs::read_dir(dir.path()).unwrap().count();
    drop(Draft::begin(&path).unwrap());
    assert_eq!(names(), 0);
    let (first, second) = (Draft::begin(&path).unwrap(), Draft::begin(&path).unwrap());
    first.file().write_all_at(b"first", 0).unwrap();
    assert!(!path.exists());
    first.publish().unwrap();
    assert!(matches!(second.publish(), Err(Error::Exists(_))));
    assert!(matches!(Draft::begin(&path), Err(Error::Exists(_))));
    assert_eq!(
        (std::fs::read(&path).unwrap(), names()),
        (b"first".to_vec(), 1)
    );
}

/// A tree of nodes with `leaves` leaves of 4096 bytes each, three to a node.
fn tree(leaves: u64) -> (DiskRoot, HashMap<TreeId, Node>) {
    let leaf = |n: u64| Leaf::Chunk {
        length: 4096,
        id: ChunkId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes()),
    };
    let all: Vec<Leaf> = (0..leaves).map(leaf).collect();
    let mut nodes = HashMap::new();
    let mut keep = |node: Node| {
        let branch = Branch {
            span: node.span(),
            id: tree_id(&node.encode()),
        };
        nodes.insert(branch.id, node);
        branch
    };
    let branches = all
        .chunks(3)
        .map(|three| keep(Node::leaves(three.to_vec()).unwrap()))
        .collect();
    let top = keep(Node::branches(1, branches).unwrap());
    let root = DiskRoot {
        length: top.span,
        cutter: "test".into(),
        top: top.id,
        level: 1,
    };
    (root, nodes)
}

fn walked(root: &DiskRoot, nodes: &HashMap<TreeId, Node>) -> (u64, Vec<Extent>) {
    let (mut walk, mut at, mut lost) = (Walk::new(root), 0, Vec::new());
    while let Some(piece) = walk.next(|id| nodes.get(&id).cloned()) {
        let extent = match piece {
            Piece::Chunk { offset, length, .. } => Extent::new(offset, u64::from(length)),
            Piece::Hole(extent) => extent,
            Piece::Lost(extent) => {
                add(&mut lost, extent);
                extent
            }
        };
        assert_eq!(extent.start, at, "pieces follow each other");
        at = extent.end();
    }
    (at, lost)
}

#[test]
fn a_lost_node_loses_its_span_and_nothing_else() {
    let (root, mut nodes) = tree(9);
    assert_eq!(walked(&root, &nodes), (9 * 4096, vec![]));
    let second = 3 * 4096;
    let at_second = nodes.iter().find_map(|(id, node)| match node.entries() {
        stillwater_format::node::Entries::Leaves(leaves) => {
            let third = ChunkId::from_bytes(*blake3::hash(&3u64.to_le_bytes()).as_bytes());
            let is_second = leaves.contains(&Leaf::Chunk {
                length: 4096,
                id: third,
            });
            is_second.then_some(*id)
        }
        _ => None,
    });
    nodes.remove(&at_second.unwrap());
    assert_eq!(
        walked(&root, &nodes),
        (9 * 4096, vec![Extent::new(second, 3 * 4096)])
    );
    nodes.remove(&root.top);
    assert_eq!(
        walked(&root, &nodes),
        (9 * 4096, vec![Extent::new(0, 9 * 4096)])
    );
}

#[test]
fn a_node_that_does_not_fit_its_parent_is_lost() {
    let (mut root, nodes) = tree(9);
    root.length += 1;
    assert_eq!(
        walked(&root, &nodes),
        (root.length, vec![Extent::new(0, root.length)])
    );
    let (mut root, nodes) = tree(9);
    root.level = 2;
    assert_eq!(
        walked(&root, &nodes),
        (root.length, vec![Extent::new(0, root.length)])
    );
}

/// A pack of chunks with these lengths, without trailer.
fn pack(lengths: &[usize]) -> Vec<u8> {
    let header = Header {
        pack: PackId::from_bytes([1; 16]),
        dataset: DatasetId::from_bytes([2; 16]),
        fence: 3,
    };
    let (mut builder, first) = Builder::begin(&header);
    let mut bytes = first.to_vec();
    for (n, length) in (0..).zip(lengths) {
        let stored = noise(n, *length);
        let id = ChunkId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes());
        let codec = stillwater_chunking::Codec::Raw;
        let header =
            RecordHeader::chunk(id, codec, 0, n as u32, *length as u32 - 16, &stored).unwrap();
        bytes.extend(builder.append(&header, &stored).unwrap());
        bytes.extend(stored);
    }
    bytes
}

#[test]
fn records_are_found_across_the_ends_of_windows() {
    // 40 MiB in records of many lengths, the longest included; windows have 16 MiB.
    let lengths: Vec<usize> = (0..60)
        .map(|n| {
            if n % 4 == 0 {
                (2 << 20) + 16
            } else {
                17 + n * 9001
            }
        })
        .collect();
    let mut bytes = pack(&lengths);
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let (found, fault) = salvage::records(&file, bytes.len() as u64);
    assert!(fault.is_none());
    let stored: Vec<usize> = found
        .iter()
        .map(|entry| entry.stored_len as usize)
        .collect();
    assert_eq!(stored, lengths);
    let whole: Vec<_> = stillwater_format::pack::scan(&bytes)
        .map(|(entry, _)| entry)
        .collect();
    assert_eq!(found, whole);
    // A flipped byte in each of three records loses those three.
    for victim in [0, 17, 59] {
        let at = found[victim].offset + 72 + 5;
        file.write_all_at(&[!bytes[at as usize]], at).unwrap();
        bytes[at as usize] = !bytes[at as usize];
    }
    let (left, _) = salvage::records(&file, bytes.len() as u64);
    let rest: Vec<_> = found
        .iter()
        .enumerate()
        .filter_map(|(n, entry)| (![0, 17, 59].contains(&n)).then_some(*entry))
        .collect();
    assert_eq!(left, rest);
}
