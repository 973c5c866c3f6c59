//! The decoders of crate `format`. What decodes must encode to the same bytes.

use stillwater_format::commit::{Entry, STATEMENT_BYTES_MAX, Statement};
use stillwater_format::log::{ALIGN, End, HEADER_LEN as FRAME_HEADER_LEN, Scanner};
use stillwater_format::manifest::Manifest;
use stillwater_format::node::{DiskRoot, Node};
use stillwater_format::pack::{
    FOOTER_LEN, Footer, HEADER_LEN, Header, RECORD_HEADER_LEN, RecordHeader, RecordKind, Trailer,
    scan,
};
use stillwater_format::superblock::{SUPERBLOCK_LEN, Superblock};

use super::{Target, close, leave};
use crate::seeds;

pub(super) const PACK_HEADER: Target = Target {
    name: "pack_header",
    run: |bytes| {
        if let Some(bytes) = bytes.first_chunk::<HEADER_LEN>()
            && let Ok(header) = Header::decode(bytes)
        {
            assert_eq!(header.encode(), *bytes);
        }
    },
    seeds: || heads(HEADER_LEN, 0),
    mend: |bytes| close(front(bytes, HEADER_LEN)),
};

pub(super) const RECORD_HEADER: Target = Target {
    name: "record_header",
    run: |bytes| {
        if let Some(bytes) = bytes.first_chunk::<RECORD_HEADER_LEN>()
            && let Ok(header) = RecordHeader::decode(bytes)
        {
            assert_eq!(header.encode(), *bytes);
            assert!(header.validate().is_ok());
        }
    },
    seeds: || {
        let mut heads = heads(RECORD_HEADER_LEN, HEADER_LEN);
        for pack in seeds::packs() {
            heads.extend(scan(&pack).take(20).filter_map(|(entry, _)| {
                let from = usize::try_from(entry.offset).ok()?;
                pack.get(from..from + RECORD_HEADER_LEN).map(<[u8]>::to_vec)
            }));
        }
        heads
    },
    mend: |bytes| close(front(bytes, RECORD_HEADER_LEN)),
};

pub(super) const PACK_ENDS: Target = Target {
    name: "pack_ends",
    run: |bytes| {
        let Some((_, last)) = bytes.split_last_chunk::<FOOTER_LEN>() else {
            return;
        };
        let Ok(footer) = Footer::decode(last, bytes.len() as u64) else {
            return;
        };
        let from = usize::try_from(footer.trailer_offset).expect("inside the file");
        let trailer = bytes.get(from..from + footer.trailer_len as usize);
        let Ok(trailer) = Trailer::decode(trailer.expect("inside the file"), &footer) else {
            return;
        };
        assert_eq!(trailer.entries.len(), footer.count as usize);
        for entry in trailer.entries {
            let end = entry.offset + (RECORD_HEADER_LEN + entry.stored_len as usize) as u64;
            assert!(entry.offset >= HEADER_LEN as u64 && end <= footer.trailer_offset);
        }
    },
    seeds: seeds::packs,
    mend: |bytes| {
        // The trailer's hash stands in the footer at 24, the place of the trailer at 8 and 16.
        let length = bytes.len();
        let Some(footer) = length.checked_sub(FOOTER_LEN) else {
            return;
        };
        let number = |at: usize| {
            bytes
                .get(footer + at..footer + at + 4)?
                .first_chunk()
                .map(|n| u32::from_le_bytes(*n))
        };
        if let (Some(from), Some(count)) = (number(8), number(16)) {
            let (from, count) = (from as usize, count as usize);
            let hash = bytes
                .get(from..from.saturating_add(count))
                .map(blake3::hash);
            if let Some(hash) = hash {
                bytes[footer + 24..footer + 56].copy_from_slice(hash.as_bytes());
            }
        }
        if let Some(footer) = bytes.get_mut(footer..) {
            close(footer);
        }
    },
};

pub(super) const PACK_SCAN: Target = Target {
    name: "pack_scan",
    run: |bytes| {
        let mut at = HEADER_LEN as u64;
        for (entry, stored) in scan(bytes) {
            assert!(entry.offset >= at, "records overlap");
            at = entry.offset + (RECORD_HEADER_LEN + stored.len()) as u64;
            assert!(at <= bytes.len() as u64);
            assert_eq!(stored.len(), entry.stored_len as usize);
            if entry.kind == RecordKind::Node {
                assert_eq!(*blake3::hash(stored).as_bytes(), entry.id);
            }
        }
    },
    seeds: seeds::packs,
    mend: |bytes| {
        // Every record header that is still to be seen.
        let magic = b"SWRC";
        let places: Vec<_> = (0..bytes.len())
            .filter(|at| bytes[*at..].starts_with(magic))
            .collect();
        for at in places {
            if let Some(header) = bytes.get_mut(at..at + RECORD_HEADER_LEN) {
                close(header);
            }
        }
    },
};

pub(super) const NODE: Target = Target {
    name: "node",
    run: |bytes| {
        if let Ok(node) = Node::decode(bytes) {
            assert_eq!(node.encode(), bytes);
        }
    },
    seeds: || seeds::stored(RecordKind::Node),
    mend: leave,
};

pub(super) const DISK_ROOT: Target = Target {
    name: "disk_root",
    run: |bytes| {
        if let Ok(root) = DiskRoot::decode(bytes) {
            assert_eq!(root.encode().as_deref(), Ok(bytes));
        }
    },
    seeds: || {
        let manifests = manifests();
        let disks = manifests
            .iter()
            .filter_map(|bytes| Manifest::decode(bytes).ok());
        disks
            .flat_map(|manifest| manifest.disks)
            .filter_map(|disk| disk.root.encode().ok())
            .collect()
    },
    mend: leave,
};

pub(super) const MANIFEST: Target = Target {
    name: "manifest",
    run: |bytes| {
        if let Ok(manifest) = Manifest::decode(bytes) {
            assert_eq!(manifest.encode().as_deref(), Ok(bytes));
        }
    },
    seeds: manifests,
    mend: |bytes| {
        let length = bytes.len() as u32;
        if let Some(field) = bytes.get_mut(8..12) {
            field.copy_from_slice(&length.to_le_bytes());
        }
        if let Some((body, hash)) = bytes.split_last_chunk_mut::<32>() {
            *hash = *blake3::hash(body).as_bytes();
        }
    },
};

pub(super) const COMMIT_ENTRY: Target = Target {
    name: "commit_entry",
    run: |bytes| {
        let Some((kind, payload)) = bytes.split_first_chunk::<2>() else {
            return;
        };
        let kind = u16::from_le_bytes(*kind);
        if let Ok(entry) = Entry::decode(kind, payload) {
            assert_eq!(entry.encode(), Ok((kind, payload.to_vec())));
        }
    },
    seeds: entries,
    mend: leave,
};

pub(super) const STATEMENT: Target = Target {
    name: "statement",
    run: |bytes| {
        if let Ok(statement) = Statement::decode(bytes) {
            assert_eq!(statement.encode().as_deref(), Ok(bytes));
            assert!(bytes.len() <= STATEMENT_BYTES_MAX);
            assert!(!statement.action.to_string().contains('\u{1b}'));
        }
    },
    seeds: || {
        let signed = entries().into_iter().filter_map(|entry| {
            let (_, payload) = entry.split_first_chunk::<2>()?;
            match Entry::decode(13, payload) {
                Ok(Entry::Signed { signed, .. }) => Some(signed.statement),
                _ => None,
            }
        });
        signed.collect()
    },
    mend: leave,
};

pub(super) const COMMIT_LOG: Target = Target {
    name: "commit_log",
    run: |bytes| {
        let mut scanner = Scanner::new(bytes);
        let mut at = 0;
        while let Ok(Some(frame)) = scanner.read() {
            assert_eq!(scanner.offset(), at + frame.length);
            assert_eq!(frame.length % ALIGN, 0);
            at = scanner.offset();
        }
        if let Ok((chain, end)) = Scanner::new(bytes).finish() {
            assert_eq!(end == End::Clean, at == bytes.len());
            // What was read is a whole log, and stays one.
            let again = Scanner::new(bytes.get(..at).unwrap_or_default()).finish();
            assert_eq!(again, Ok((chain, End::Clean)));
        }
    },
    seeds: || {
        let log = seeds::file("commit.log");
        [1, 4, 8, 40]
            .map(|frames| log.iter().copied().take(frames * ALIGN).collect())
            .to_vec()
    },
    mend: |bytes| mend_log(bytes),
};

pub(super) const SUPERBLOCKS: Target = Target {
    name: "superblocks",
    run: |bytes| {
        for block in bytes.chunks(SUPERBLOCK_LEN) {
            if let Ok(superblock) = Superblock::decode(block) {
                assert_eq!(superblock.encode(), block);
                assert!(superblock.floor <= superblock.version);
            }
        }
    },
    seeds: || vec![[seeds::file("super.a"), seeds::file("super.b")].concat()],
    mend: |bytes| bytes.chunks_mut(SUPERBLOCK_LEN).for_each(close),
};

fn front(bytes: &mut [u8], length: usize) -> &mut [u8] {
    let length = length.min(bytes.len());
    &mut bytes[..length]
}

fn heads(length: usize, from: usize) -> Vec<Vec<u8>> {
    let packs = seeds::packs();
    packs
        .iter()
        .filter_map(|pack| pack.get(from..from + length))
        .map(<[u8]>::to_vec)
        .collect()
}

fn manifests() -> Vec<Vec<u8>> {
    seeds::files("manifests")
}

/// Kind and payload of every entry of the golden commit log.
fn entries() -> Vec<Vec<u8>> {
    let log = seeds::file("commit.log");
    let mut scanner = Scanner::new(&log);
    let mut found = Vec::new();
    while let Ok(Some(frame)) = scanner.read() {
        found.push([&frame.kind.to_le_bytes(), frame.payload].concat());
    }
    found
}

/// Mends checksums, lengths of hashes before and all, frame by frame.
fn mend_log(bytes: &mut [u8]) {
    let (mut at, mut previous) = (0, [0; 32]);
    while let Some(rest) = bytes.get_mut(at..)
        && rest.len() >= ALIGN
    {
        let payload = rest.get(4..8).and_then(|field| field.first_chunk::<4>());
        let payload = payload.map_or(0, |field| u32::from_le_bytes(*field) as usize);
        let length = FRAME_HEADER_LEN
            .saturating_add(payload)
            .next_multiple_of(ALIGN);
        let Some(frame) = rest.get_mut(..length) else {
            return;
        };
        frame[24..56].copy_from_slice(&previous);
        let (header, padded) = frame.split_at_mut(FRAME_HEADER_LEN);
        header[56..60].copy_from_slice(&crc32c::crc32c(padded).to_le_bytes());
        close(header);
        previous = *blake3::hash(frame).as_bytes();
        at += length;
    }
}
