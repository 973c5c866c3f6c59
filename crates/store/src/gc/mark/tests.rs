use std::collections::BTreeSet;
use std::mem::size_of;

use stillwater_types::RunId;

use super::*;
use crate::gc::memory::{MEMO_BYTES, ROOM_BYTES};
use crate::tests::rig::*;

const MIB: usize = 1 << 20;

#[test]
fn a_tebibyte_takes_no_more_memory_than_this_module_says() {
    let chunk_count = (1 << 40) / 32768;
    let (pack_count, node_count) = ((1 << 40) / (64 * MIB), chunk_count / 256);
    let pack = |n: u64| PackId::from_bytes(u128::from(n).to_le_bytes());
    let packs = (0..pack_count as u64).map(|n| Known {
        pack: pack(n),
        is_whole: true,
        is_trusted: true,
        entry_count: (chunk_count / pack_count) as u32,
    });
    let packs: Vec<_> = packs.collect();
    let mut marks = Marks::new(&packs, Memory::default());
    for seat in &mut marks.seats {
        seat.bits
            .resize((chunk_count / pack_count).div_ceil(64), u64::MAX);
    }
    // A disk that was sent in order: each node and its chunks are three runs of records.
    for node in 0..node_count as u32 {
        let key = node_key(node);
        let run = Run {
            seat: node / 8,
            place: node,
            count: 1,
        };
        marks.memory.learn(key, vec![run; 3], Box::default());
    }
    // The nodes above them.
    for top in 0..(node_count / 256) as u32 {
        let key = node_key(u32::MAX - top);
        let run = Run {
            seat: 0,
            place: top,
            count: 1,
        };
        let below = vec![key.1; 256].into();
        marks.memory.learn(key, vec![run], below);
    }
    let bits: usize = marks.seats.iter().map(|s| s.bits.capacity() * 8).sum();
    assert_eq!(bits, 4 * MIB);
    let packs = marks.seats.capacity() * size_of::<Seat>() + marks.memory.pack_bytes();
    assert!(packs <= 4 * MIB, "{packs}");
    let table = marks.memory.table_bytes();
    assert!(table <= 26 * MIB, "{table}");
    let used = marks.memory.used_bytes();
    let beside = used - marks.memory.node_count() * MEMO_BYTES;
    assert!(beside <= 9 * MIB, "{beside}");
    // More than 4 TiB fit in.
    assert!(used * 4 < ROOM_BYTES, "{used}");
    assert!(GATHERED_MAX * size_of::<Gathered>() <= 30 * MIB);
    assert!(GATHERED_MAX / WAITING_PART * size_of::<Waiting>() <= 12 * MIB);
}

fn node_key(node: u32) -> NodeKey {
    let id = *blake3::hash(&node.to_le_bytes()).as_bytes();
    (dataset().id, TreeId::from_bytes(id))
}

/// What the scrub would have a cycle know of packs, without a look at the log.
fn known(store: &crate::Store) -> Vec<Known> {
    let known = |pack| {
        let facts = store.inner.packs.facts(pack).unwrap();
        Known {
            pack,
            is_whole: facts.is_whole,
            is_trusted: facts.is_whole && store.inner.fates().of(pack).is_none(),
            entry_count: facts.chunk_count + facts.node_count + facts.salts.len() as u32,
        }
    };
    store.inner.packs.list().into_iter().map(known).collect()
}

fn walk_all(store: &crate::Store, mut marks: Marks) -> Marks {
    let inner = &store.inner;
    let mut walk = Walk::over(inner.ledger().roots.after(0));
    while !marks.advance(inner, &mut walk, 2).unwrap() {}
    marks
}

/// What is remembered must come to the same as reading all nodes: the same records, each by a copy that
/// is in use if there is one.
#[track_caller]
pub(crate) fn check_memory(store: &crate::Store) {
    let inner = &store.inner;
    let nodes = inner.gc.take_nodes();
    inner.gc.keep_nodes(nodes.clone());
    let known = known(store);
    let fresh = walk_all(store, Marks::new(&known, Memory::default()));
    let later = walk_all(store, Marks::new(&known, nodes));
    let records = |marks: &Marks| -> BTreeSet<RecordId> {
        let live = |known: &Known| marks.live_records(inner, known.pack).unwrap();
        known
            .iter()
            .flat_map(live)
            .map(|(record, _)| record)
            .collect()
    };
    assert_eq!(records(&fresh), records(&later));
    for Known { pack, .. } in &known {
        let live = later.live_records(inner, *pack).unwrap();
        let bytes = live
            .iter()
            .map(|(_, at)| RECORD_HEADER_LEN as u64 + u64::from(at.stored_len));
        assert_eq!(later.live_bytes(*pack), bytes.sum::<u64>());
        if inner.fates().of(*pack).is_some() {
            let again = fresh.live_records(inner, *pack).unwrap();
            assert!(
                live.iter().all(|record| again.contains(record)),
                "{pack} is not in use"
            );
        }
    }
}

/// Marks what all points reach, gathering at most so many marks.
fn marked(store: &crate::Store, gathered_max: usize) -> Marks {
    let marks = Marks::with_room(&known(store), Memory::default(), gathered_max);
    walk_all(store, marks)
}

#[test]
fn marks_that_are_brought_to_their_tables_bit_by_bit_are_the_same() {
    let rig = Rig::default();
    let (_fs, store) = rig.fresh();
    for (turn, seeds) in [&[1, 2, 3, 4][..], &[3, 4, 5, 6, 7], &[1, 9]]
        .iter()
        .enumerate()
    {
        let run = RunId::mint();
        let key = store.open_session(run, dataset().id, 0).unwrap().key;
        let (root, nodes) = tree(seeds);
        let extra = chunks(&[100 + turn as u64]);
        put(
            &store,
            key,
            salt(turn as u64),
            &[chunks(seeds), nodes].concat(),
        )
        .unwrap();
        put(&store, key, salt(50 + turn as u64), &extra).unwrap();
        let point = PointId::mint();
        let bytes = manifest(point, run, vec![root]).encode().unwrap();
        store.propose_point(key, &bytes).unwrap();
        store.commit_point(key, point).unwrap();
    }
    let expected = marked(&store, GATHERED_MAX);
    // Eight chunks, and two, three and two nodes; nothing of what was sent beside.
    let nodes = [&[1, 2, 3, 4][..], &[3, 4, 5, 6, 7], &[1, 9]].map(|seeds| tree(seeds).1);
    let node_bytes: usize = nodes.iter().flatten().map(|n| n.stored.len() + 72).sum();
    assert_eq!(expected.all_live_bytes(), (8 * 272 + node_bytes) as u64);
    for gathered_max in [1, 2, 5] {
        let found = marked(&store, gathered_max);
        for (found, expected) in found.seats.iter().zip(&expected.seats) {
            assert_eq!(found.bits, expected.bits);
            assert_eq!(found.live_bytes, expected.live_bytes);
        }
        let dead = found.seats.iter().filter(|seat| seat.live_bytes == 0);
        assert_eq!(dead.count(), 3);
    }
}
