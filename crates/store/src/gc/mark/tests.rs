use std::mem::size_of;

use stillwater_types::RunId;

use super::*;
use crate::tests::rig::*;

const MIB: usize = 1 << 20;

/// What a hash table of that room takes: 8 places for each 7, and a byte beside each.
fn table_bytes<T>(room: usize) -> usize {
    room.div_ceil(7) * 8 * (size_of::<T>() + 1)
}

#[test]
fn a_tebibyte_takes_no_more_memory_than_this_module_says() {
    let chunk_count = (1 << 40) / 32768;
    let (pack_count, node_count) = ((1 << 40) / (64 * MIB), chunk_count / 256);
    let packs = (0..pack_count as u128).map(|n| (PackId::from_bytes(n.to_le_bytes()), true));
    let mut marks = Marks::new(packs.collect());
    for seat in &mut marks.seats {
        seat.bits
            .resize((chunk_count / pack_count).div_ceil(64), u64::MAX);
    }
    for node in 0..node_count as u64 {
        let id = *blake3::hash(&node.to_le_bytes()).as_bytes();
        marks.nodes.insert((dataset().id, TreeId::from_bytes(id)));
    }
    let bits: usize = marks.seats.iter().map(|s| s.bits.capacity() * 8).sum();
    assert_eq!(bits, 4 * MIB);
    let packs = marks.seats.capacity() * size_of::<Seat>()
        + table_bytes::<(PackId, u32)>(marks.numbers.capacity());
    assert!(packs <= 2 * MIB, "{packs}");
    let nodes = table_bytes::<(DatasetId, TreeId)>(marks.nodes.capacity());
    assert!(nodes <= 13 * MIB, "{nodes}");
    assert_eq!(GATHERED_MAX * size_of::<Gathered>(), 32 * MIB);
}

/// Marks what all points reach, gathering at most so many marks.
fn marked(store: &crate::Store, gathered_max: usize) -> Marks {
    let inner = &store.inner;
    let known = inner.packs.list().into_iter().map(|pack| (pack, true));
    let mut marks = Marks::with_room(known.collect(), gathered_max);
    let mut walk = Walk::over(inner.ledger().roots.after(0));
    while !marks.advance(inner, &mut walk, 2).unwrap() {}
    assert_eq!(walk.progress(), (3, 3));
    marks
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
