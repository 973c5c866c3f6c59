//! The test vectors of `docs/format.md`, held against the code.

use stillwater_types::{
    ChunkId, ClusterId, DatasetId, NodeId, PackId, PointId, RunId, TreeId, VcenterId, VmId,
};

use crate::Time;
use crate::commit::{Action, Commit, Entry, Signed, Statement};
use crate::log::{self, FrameHash};
use crate::manifest::{Consistency, Disk, Effort, Manifest};
use crate::node::DiskRoot;
use crate::pack::{Builder, Codec, Header, RecordHeader};
use crate::superblock::{FORMAT_VERSION, LogHead, Superblock, TimeMark};

const DOCUMENT: &str = include_str!("../../../docs/format.md");

/// The bytes of the code block under the heading `name`.
fn vector(name: &str) -> Vec<u8> {
    let (_, section) = DOCUMENT
        .split_once(&format!("\n### Vector: {name}\n"))
        .expect(name);
    let block = section.split("```").nth(1).expect("a code block");
    block
        .lines()
        .skip(1)
        .flat_map(str::split_whitespace)
        .flat_map(word)
        .collect()
}

fn word(word: &str) -> Vec<u8> {
    match word.split_once('*') {
        Some((byte, count)) => hex(byte).repeat(count.parse().expect("a count")),
        None => hex(word),
    }
}

fn hex(digits: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two hexadecimal digits");
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// The bytes in the form of the document, for whoever changes the format.
fn print(bytes: &[u8]) -> String {
    let mut words = Vec::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let run = rest.iter().take_while(|byte| *byte == first).count();
        let plain = rest
            .windows(5)
            .position(|five| five.iter().all(|b| *b == five[0]));
        if run >= 5 {
            words.push(format!("{first:02x}*{run}"));
            rest = &rest[run..];
        } else {
            let count = plain.unwrap_or(rest.len()).min(16);
            words.push(
                rest[..count]
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
            );
            rest = &rest[count..];
        }
    }
    words.join("\n")
}

#[track_caller]
fn check(name: &str, bytes: &[u8]) {
    assert!(
        vector(name) == bytes,
        "the format says for {name}:\n{}",
        print(bytes)
    );
}

fn commit() -> Commit {
    Commit {
        point: PointId::from_bytes([0x11; 16]),
        dataset: DatasetId::from_bytes([0x22; 16]),
        run: RunId::from_bytes([0x33; 16]),
        fence: 3,
        manifest_hash: [0x44; 32],
        committed_at: Time::from_millis(1_800_000_000_000),
        retain_until: Time::from_millis(1_801_209_600_000),
        wall_at: Time::from_millis(1_800_000_000_001),
    }
}

#[test]
fn a_commit_record_in_its_log_frame() {
    let (kind, payload) = Entry::PointCommitted(commit()).encode().unwrap();
    let previous = FrameHash::from_bytes([0x55; 32]);
    check(
        "commit record",
        &log::encode(4, previous, kind, &payload).unwrap(),
    );
}

#[test]
fn a_signed_statement() {
    let millis = 7 * 86_400_000;
    let statement = Statement {
        id: std::array::from_fn(|at| 0xa0 + at as u8),
        node: "0190a1b2-c3d4-7e5f-8001-0203040506ff".parse().unwrap(),
        action: Action::SetFloor { millis },
    };
    // No cipher here: key and signature are taken from the document, and checked by the repository.
    let vector = vector("signed statement");
    let Entry::Signed { signed, at } = Entry::decode(13, &vector).unwrap() else {
        panic!("of another kind")
    };
    assert_eq!(signed.statement, statement.encode().unwrap());
    assert_eq!(at, Time::from_millis(1_800_000_000_000));
    let signed = Signed {
        statement: statement.encode().unwrap(),
        ..signed
    };
    let (_, payload) = Entry::Signed { signed, at }.encode().unwrap();
    check("signed statement", &payload);
}

#[test]
fn a_superblock() {
    let superblock = Superblock {
        version: FORMAT_VERSION,
        floor: 1,
        generation: 2,
        cluster: ClusterId::from_bytes([0x66; 16]),
        node: NodeId::from_bytes([0x77; 16]),
        mark: TimeMark {
            time: Time::from_millis(1_800_000_000_000),
            boot: [0x88; 16],
            boot_millis: 60_000,
        },
        head: LogHead {
            sequence: 4,
            hash: FrameHash::from_bytes([0x99; 32]),
        },
    };
    check("superblock", &superblock.encode());
}

#[test]
fn a_pack_of_a_salt_a_chunk_and_a_node() {
    let header = Header {
        pack: PackId::from_bytes([0xaa; 16]),
        dataset: DatasetId::from_bytes([0x22; 16]),
        fence: 3,
    };
    let (chunk, node) = ([0xcc; 20], *b"SWN1\0\0\0\0\0\0\0\0\0\0\0\0");
    let id = ChunkId::from_bytes([0xdd; 32]);
    let records: [(RecordHeader, &[u8]); 3] = [
        (RecordHeader::salt(0, &[0xbb; 32]), &[0xbb; 32]),
        (
            RecordHeader::chunk(id, Codec::Zstd, 0, 0, 4096, &chunk).unwrap(),
            &chunk,
        ),
        (RecordHeader::node(&node).unwrap(), &node),
    ];
    let (mut builder, bytes) = Builder::begin(&header);
    let mut pack = bytes.to_vec();
    for (header, stored) in &records {
        pack.extend(builder.append(header, stored).unwrap());
        pack.extend_from_slice(stored);
    }
    pack.extend(builder.finish().0);
    check("pack", &pack);
}

#[test]
fn a_manifest_of_one_disk() {
    let disk = Disk {
        key: 2000,
        label: "Hard disk 1".into(),
        backing: Some("6000C29a".into()),
        change_id: None,
        root: DiskRoot {
            length: 1 << 30,
            cutter: "c".into(),
            top: TreeId::from_bytes([0xee; 32]),
            level: 1,
        },
        effort: Effort {
            read_bytes: 5,
            zero_bytes: 4,
            new_bytes: 3,
            stored_bytes: 2,
            chunk_count: 1,
        },
    };
    let manifest = Manifest {
        point: PointId::from_bytes([0x11; 16]),
        dataset: DatasetId::from_bytes([0x22; 16]),
        run: RunId::from_bytes([0x33; 16]),
        vm: VmId {
            vcenter: VcenterId::from_bytes([0xff; 16]),
            moref: "vm-16".into(),
        },
        vm_name: "mail".into(),
        vcenter_instance: "vc".into(),
        taken_at: Time::from_millis(1_800_000_000_000),
        consistency: Consistency::FileSystem,
        whole: true,
        disks: vec![disk],
        sealed: b"sealed".to_vec(),
    };
    check("manifest", &manifest.encode().unwrap());
}
