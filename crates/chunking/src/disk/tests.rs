use proptest::prelude::*;
use stillwater_format::node::Leaf;

use super::*;
use crate::{CutterParams, FinishedNode, Top, TreeBuilder};

const KEY: [u8; 32] = [9; 32];

/// A disk of runs, each of some bytes that are zeros, noise or one repeated byte.
#[derive(Debug, Clone)]
struct Run {
    len: usize,
    kind: u8,
}

fn disk(runs: &[Run], seed: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        let start = bytes.len();
        bytes.resize(start + run.len, if run.kind == 2 { 0xff } else { 0 });
        if run.kind == 1 {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&seed.to_le_bytes()).update(&at.to_le_bytes());
            hasher.finalize_xof().fill(&mut bytes[start..]);
        }
    }
    bytes
}

fn runs() -> impl Strategy<Value = Vec<Run>> {
    let len = prop_oneof![1..9_000usize, (1..40usize).prop_map(|blocks| blocks * 4096)];
    prop::collection::vec(
        (len, 0..3u8).prop_map(|(len, kind)| Run { len, kind }),
        0..12,
    )
}

fn drain(cutter: &mut DiskCutter, items: &mut Vec<Item>) {
    while let Some(item) = cutter.next_item() {
        items.push(item);
    }
}

/// Cuts a disk that is read as `areas`, each in pieces of the lengths of `slices` in turn.
fn cut(params: CutterParams, bytes: &[u8], areas: &ExtentSet, slices: &[usize]) -> Vec<Item> {
    let length = bytes.len() as u64;
    let mut cutter = DiskCutter::new(Cutter::new(params, 42).unwrap(), &KEY, length);
    let mut items = Vec::new();
    let mut slices = slices.iter().copied().cycle();
    let mut at = 0;
    for area in areas_to_read(areas, length).iter() {
        cutter.push_hole(at, area.start - at).unwrap();
        at = area.start;
        while at < area.end() {
            let len = slices.next().unwrap_or(1).min((area.end() - at) as usize);
            let piece = Bytes::copy_from_slice(&bytes[at as usize..at as usize + len]);
            cutter.push_data(at, piece).unwrap();
            drain(&mut cutter, &mut items);
            at += len as u64;
        }
    }
    cutter.push_hole(at, length - at).unwrap();
    cutter.finish().unwrap();
    drain(&mut cutter, &mut items);
    items
}

fn join(items: &[Item]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in items {
        match item {
            Item::Hole { length } => bytes.resize(bytes.len() + *length as usize, 0),
            Item::Chunk { bytes: chunk, .. } => bytes.extend_from_slice(chunk),
        }
    }
    bytes
}

fn tree(items: &[Item]) -> Top {
    let mut builder = TreeBuilder::new();
    let mut ignore = |_: FinishedNode| ();
    for item in items {
        let leaf = match item {
            Item::Hole { length } => Leaf::Hole { length: *length },
            Item::Chunk { bytes, id } => Leaf::Chunk {
                length: bytes.len() as u32,
                id: *id,
            },
        };
        builder.push(leaf, &mut ignore).unwrap();
    }
    builder.finish(&mut ignore).unwrap()
}

/// The bytes of the disk that are not zero, loosely: runs of data with ragged edges.
fn allocated(runs: &[Run]) -> ExtentSet {
    let mut at = 0;
    let mut areas = Vec::new();
    for run in runs {
        if run.kind > 0 {
            areas.push(Extent::new(at, run.len as u64));
        }
        at += run.len as u64;
    }
    ExtentSet::collect(areas, at)
}

fn whole(bytes: &[u8]) -> ExtentSet {
    ExtentSet::whole(bytes.len() as u64)
}

#[test]
fn zeros_become_holes_only_from_16_kib_on_the_grid() {
    let shape = |items: &[Item]| -> Vec<(bool, u64)> {
        let span = |item: &Item| match item {
            Item::Hole { length } => (true, *length),
            Item::Chunk { bytes, .. } => (false, bytes.len() as u64),
        };
        items.iter().map(span).collect()
    };
    let check = |bytes: &[u8], want: &[(bool, u64)]| {
        let items = cut(CutterParams::DISK, bytes, &whole(bytes), &[5000]);
        assert_eq!(shape(&items), want);
    };
    check(&[], &[]);
    check(&[0; 100], &[(false, 100)]);
    check(&[0; 12_288], &[(false, 12_288)]);
    check(&[0; 16_384], &[(true, 16_384)]);
    check(&[0; 20_000], &[(true, 20_000)]);
    let noise = disk(&[Run { len: 4096, kind: 1 }], 1);
    check(
        &[&noise[..], &[0; 16_384], &noise].concat(),
        &[(false, 4096), (true, 16_384), (false, 4096)],
    );
    check(
        &[&noise[..], &[0; 12_288], &noise].concat(),
        &[(false, 16_384), (false, 4096)],
    );
    // 20 000 zeros from the middle of a block cover only four whole blocks.
    check(
        &[&noise[..100], &[0; 20_476], &noise[..4]].concat(),
        &[(false, 4096), (true, 16_384), (false, 100)],
    );
}

#[test]
fn the_ids_of_chunks_are_those_of_the_format() {
    assert_eq!(
        identify(&KEY, b"some text").to_string(),
        "2644af2649c8778c0d4861eef33ef9439a5856d3428b86830c6e33c7c3b49ba6"
    );
    assert_eq!(
        identify(&KEY, b"").to_string(),
        "465b629bc4d69719a1eb7adc2d079993317c962a6a4ad01b87032b6de1135f12"
    );
}

#[test]
fn a_chunk_inside_one_piece_is_not_copied() {
    let bytes = Bytes::from(disk(
        &[Run {
            len: 1 << 20,
            kind: 1,
        }],
        1,
    ));
    let cutter = Cutter::new(CutterParams::DISK, 1).unwrap();
    let mut cutter = DiskCutter::new(cutter, &KEY, 1 << 20);
    cutter.push_data(0, bytes.clone()).unwrap();
    cutter.finish().unwrap();
    let inside = bytes.as_ptr_range();
    let mut count = 0;
    while let Some(Item::Chunk { bytes, .. }) = cutter.next_item() {
        assert!(inside.contains(&bytes.as_ptr()));
        count += 1;
    }
    assert!(count > 10);
}

#[test]
fn a_huge_hole_costs_nothing() {
    let cutter = Cutter::new(CutterParams::DISK, 1).unwrap();
    let mut cutter = DiskCutter::new(cutter, &KEY, 1 << 62);
    cutter.push_hole(0, 1 << 61).unwrap();
    cutter.push_hole(1 << 61, 1 << 61).unwrap();
    cutter.finish().unwrap();
    assert_eq!(cutter.next_item(), Some(Item::Hole { length: 1 << 62 }));
    assert_eq!(cutter.next_item(), None);
}

#[test]
fn pieces_that_do_not_fit_are_refused() {
    let new = || DiskCutter::new(Cutter::new(CutterParams::DISK, 1).unwrap(), &KEY, 10_000);
    let mut cutter = new();
    let late = CutError::OutOfOrder {
        expected: 0,
        found: 4096,
    };
    assert_eq!(cutter.push_data(4096, Bytes::from_static(b"x")), Err(late));
    assert_eq!(
        cutter.push_hole(0, 100),
        Err(CutError::OffGrid { offset: 0 })
    );
    let beyond = CutError::BeyondEnd {
        end: 12_288,
        length: 10_000,
    };
    assert_eq!(cutter.push_hole(0, 12_288), Err(beyond));
    cutter.push_data(0, Bytes::from_static(b"x")).unwrap();
    assert_eq!(
        cutter.push_hole(1, 9_999),
        Err(CutError::OffGrid { offset: 1 })
    );
    assert_eq!(
        cutter.finish(),
        Err(CutError::Incomplete {
            at: 1,
            length: 10_000
        })
    );
    let mut cutter = new();
    cutter.push_hole(0, 8192).unwrap();
    cutter.push_hole(8192, 1808).unwrap();
    assert_eq!(cutter.finish(), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_content_gives_the_same_tree_however_it_was_read(
        runs in runs(),
        seed in any::<u64>(),
        slices in prop::collection::vec(1..70_000usize, 1..6),
        stream in any::<bool>(),
    ) {
        let params = if stream { CutterParams::STREAM } else { CutterParams::DISK };
        let bytes = disk(&runs, seed);
        let at_once = cut(params, &bytes, &whole(&bytes), &[bytes.len().max(1)]);
        prop_assert_eq!(join(&at_once), bytes.clone());
        let in_slices = cut(params, &bytes, &whole(&bytes), &slices);
        prop_assert_eq!(&in_slices, &at_once);
        let allocated_only = cut(params, &bytes, &allocated(&runs), &slices);
        prop_assert_eq!(&allocated_only, &at_once);
        prop_assert_eq!(tree(&allocated_only), tree(&at_once));
        prop_assert_eq!(tree(&at_once).span, bytes.len() as u64);
    }

    #[test]
    fn every_chunk_has_its_id_and_no_two_holes_touch(runs in runs(), seed in any::<u64>()) {
        let bytes = disk(&runs, seed);
        let items = cut(CutterParams::DISK, &bytes, &whole(&bytes), &[65_536]);
        let mut after_hole = false;
        for item in items {
            match item {
                Item::Hole { length } => {
                    prop_assert!(!after_hole && length >= HOLE_LEN_MIN);
                    after_hole = true;
                }
                Item::Chunk { bytes, id } => {
                    prop_assert_eq!(identify(&KEY, &bytes), id);
                    prop_assert!((1..=131_072).contains(&bytes.len()));
                    after_hole = false;
                }
            }
        }
    }

    #[test]
    fn a_change_moves_only_the_cuts_near_it(at in 0..1_000_000usize, seed in any::<u64>()) {
        let before = disk(&[Run { len: 1 << 20, kind: 1 }], seed);
        let mut after = before.clone();
        after[at] ^= 1;
        let ids = |bytes: &[u8]| -> std::collections::HashSet<ChunkId> {
            cut(CutterParams::DISK, bytes, &whole(bytes), &[1 << 20])
                .into_iter()
                .filter_map(|item| match item {
                    Item::Chunk { id, .. } => Some(id),
                    Item::Hole { .. } => None,
                })
                .collect()
        };
        let fresh = ids(&after).difference(&ids(&before)).count();
        prop_assert!((1..=12).contains(&fresh), "{fresh}");
    }
}
