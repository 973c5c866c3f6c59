use proptest::prelude::*;
use stillwater_types::ExtentSet;

use super::*;
use crate::fixture::{BLOCK, Guest, Store, any_disk, build, full, synthetic};

/// What a difference tells, and how many nodes that took.
fn diff(store: &Store, one: &DiskRoot, other: &DiskRoot) -> (ExtentSet, usize) {
    let mut diff = TreeDiff::new(one, other).unwrap();
    let (mut told, mut asked) = (Vec::<Extent>::new(), 0);
    loop {
        match diff.step().unwrap() {
            DiffStep::Nodes(ids) => {
                assert!((1..=32).contains(&ids.len()));
                asked += ids.len();
                for id in ids {
                    assert_eq!(diff.supply(&store.nodes[&id]), Ok(id));
                }
            }
            DiffStep::Differs(extent) => {
                assert!(told.last().is_none_or(|last| last.end() < extent.start));
                told.push(extent);
            }
            DiffStep::Done => return (ExtentSet::collect(told, u64::MAX), asked),
        }
    }
}

/// What must be told, from the leaves of both.
fn differences(store: &Store, one: &DiskRoot, other: &DiskRoot) -> ExtentSet {
    let place = |root: &DiskRoot| -> Vec<(Extent, Leaf)> {
        let mut at = 0;
        let leaves = store.leaves(root).into_iter();
        let placed = leaves.map(|leaf| {
            let extent = Extent::new(at, leaf.span());
            at += leaf.span();
            (extent, leaf)
        });
        placed.collect()
    };
    let (a, b) = (place(one), place(other));
    let mut same = Vec::new();
    for (extent, leaf) in &a {
        for (beside, twin) in &b {
            let start = extent.start.max(beside.start);
            let end = extent.end().min(beside.end());
            let holes = matches!((leaf, twin), (Leaf::Hole { .. }, Leaf::Hole { .. }));
            if start < end && (holes || (extent == beside && leaf == twin)) {
                same.push(Extent::new(start, end - start));
            }
        }
    }
    let all = one.length.max(other.length);
    ExtentSet::collect(same, all).complement(all)
}

#[test]
fn one_change_opens_the_paths_to_it() {
    let mut store = Store::default();
    let mut disk = synthetic(40_000);
    let before = full(&mut store, &disk);
    disk[20_000 * BLOCK as usize] ^= 1;
    let after = full(&mut store, &disk);
    let (told, asked) = diff(&store, &before, &after);
    assert!(told.len() == 1 && told.bytes() <= 60_000, "{told:?}");
    assert!(asked <= 2 * (usize::from(before.level) + 2), "{asked}");
    assert_eq!(diff(&store, &after, &after), (ExtentSet::empty(), 0));
}

#[test]
fn what_a_disk_grew_by_is_told_unread() {
    let mut store = Store::default();
    let long = full(&mut store, &synthetic(3000));
    let nothing = full(&mut store, &[]);
    let all = ExtentSet::whole(long.length);
    assert_eq!(diff(&store, &nothing, &long), (all.clone(), 0));
    assert_eq!(diff(&store, &long, &nothing), (all, 0));
    assert_eq!(diff(&store, &nothing, &nothing), (ExtentSet::empty(), 0));
}

#[test]
fn a_giant_hole_beside_data_costs_the_data_only() {
    let mut store = Store::default();
    let hole = build(&mut store, &[Leaf::Hole { length: 1 << 50 }]);
    let id = stillwater_types::ChunkId::from_bytes([7; 32]);
    let leaves = [
        Leaf::Hole { length: 1 << 40 },
        Leaf::Chunk { length: 4096, id },
        Leaf::Hole {
            length: (1 << 50) - (1 << 40) - 4096,
        },
    ];
    let data = build(&mut store, &leaves);
    let want = ExtentSet::collect([Extent::new(1 << 40, 4096)], u64::MAX);
    assert_eq!(diff(&store, &hole, &data), (want, 2));
}

#[test]
fn a_chunk_that_moved_is_no_chunk_that_stayed() {
    let mut store = Store::default();
    let chunk = |n: u8, length| {
        let id = stillwater_types::ChunkId::from_bytes([n; 32]);
        Leaf::Chunk { length, id }
    };
    // Both have chunk 3 at hand at once, in places that overlap.
    let one = build(
        &mut store,
        &[chunk(1, 4096), chunk(3, 8192), chunk(4, 4096)],
    );
    let other = build(&mut store, &[chunk(2, 8192), chunk(3, 8192)]);
    let all = ExtentSet::whole(one.length);
    assert_eq!(diff(&store, &one, &other).0, all);
}

#[test]
fn hostile_nodes_are_refused() {
    let mut store = Store::default();
    let one = full(&mut store, &synthetic(10));
    let other = full(&mut store, &synthetic(11));
    let mut diff = TreeDiff::new(&one, &other).unwrap();
    let unasked = TreeError::Unasked { id: one.top };
    assert_eq!(diff.supply(&store.nodes[&one.top]), Err(unasked));
    let both = DiffStep::Nodes(vec![one.top, other.top]);
    assert_eq!(diff.step(), Ok(both));
    diff.supply(&store.nodes[&one.top]).unwrap();
    assert_eq!(diff.step(), Ok(DiffStep::Nodes(vec![other.top])));
    let shorter = DiskRoot {
        length: other.length - 1,
        ..other.clone()
    };
    let mut diff = TreeDiff::new(&one, &shorter).unwrap();
    diff.step().unwrap();
    diff.supply(&store.nodes[&one.top]).unwrap();
    diff.supply(&store.nodes[&other.top]).unwrap();
    let misplaced = TreeError::Misplaced { id: other.top };
    assert_eq!(diff.step(), Err(misplaced));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn differences_are_those_of_the_leaves_in_both_directions((seed, length, acts) in any_disk()) {
        let mut store = Store::default();
        let mut guest = Guest::new(seed, length);
        let (before, old) = (full(&mut store, &guest.disk), guest.disk.clone());
        acts.iter().for_each(|act| guest.act(act));
        let after = full(&mut store, &guest.disk);
        let (told, _) = diff(&store, &before, &after);
        prop_assert_eq!(&told, &differences(&store, &before, &after));
        prop_assert_eq!(&diff(&store, &after, &before).0, &told);
        for gap in told.complement(guest.disk.len() as u64).iter() {
            let range = gap.start as usize..gap.end() as usize;
            prop_assert!(old[range.clone()] == guest.disk[range]);
        }
    }
}
