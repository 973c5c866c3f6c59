use proptest::prelude::*;

use super::*;
use crate::fixture::{Act, BLOCK, Guest, Store, any_disk, full, synthetic};

/// Where to look, and how many nodes that took.
fn plan(
    store: &Store,
    point: &DiskRoot,
    base: Option<&DiskRoot>,
    changed: &ExtentSet,
) -> (ExtentSet, usize) {
    let mut rollback = Rollback::new(point, base, changed).unwrap();
    let mut asked = 0;
    loop {
        match rollback.step().unwrap() {
            RollbackStep::Nodes(ids) => {
                asked += ids.len();
                for id in ids {
                    assert_eq!(rollback.supply(&store.nodes[&id]), Ok(id));
                }
            }
            RollbackStep::Done(spots) => return (spots, asked),
        }
    }
}

/// What is to be written of `spots`.
fn writes(disk: &[u8], wanted: &[u8], spots: &ExtentSet) -> Vec<Extent> {
    let part = |extent: Extent| {
        let range = extent.start as usize..extent.end() as usize;
        differing(extent.start, &disk[range.clone()], &wanted[range])
    };
    spots.iter().flat_map(part).collect()
}

fn write(disk: &mut [u8], wanted: &[u8], extents: &[Extent]) {
    for extent in extents {
        let range = extent.start as usize..extent.end() as usize;
        disk[range.clone()].copy_from_slice(&wanted[range]);
    }
}

/// The blocks in which two disks differ, in bytes.
fn damage(one: &[u8], other: &[u8]) -> u64 {
    let blocks = one.chunks(BLOCK_LEN).zip(other.chunks(BLOCK_LEN));
    let differ = blocks.filter(|(one, other)| one != other);
    differ.map(|(block, _)| block.len() as u64).sum()
}

#[test]
fn a_change_is_looked_for_where_the_trees_and_the_map_say() {
    let mut store = Store::default();
    let mut disk = synthetic(40_000);
    let point = full(&mut store, &disk);
    disk[20_000 * BLOCK as usize] ^= 1;
    let base = full(&mut store, &disk);
    let changed = ExtentSet::collect([Extent::new(7000, 100)], u64::MAX);
    let (spots, asked) = plan(&store, &point, Some(&base), &changed);
    let found: Vec<Extent> = spots.iter().collect();
    let [mapped, differs] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(*mapped, Extent::new(4096, 4096));
    assert!(differs.start <= 20_000 * BLOCK && 20_000 * BLOCK < differs.end());
    assert!(differs.length <= 60_000, "{differs:?}");
    assert!(asked <= 2 * (usize::from(base.level) + 2), "{asked}");
}

#[test]
fn everything_is_looked_at_where_no_base_is_of_use() {
    let mut store = Store::default();
    let disk = synthetic(3000);
    let point = full(&mut store, &disk);
    let shorter = full(&mut store, &disk[4096..]);
    let (all, nothing) = (ExtentSet::whole(point.length), ExtentSet::empty());
    assert_eq!(plan(&store, &point, None, &nothing), (all.clone(), 0));
    assert_eq!(plan(&store, &point, Some(&shorter), &nothing), (all, 0));
    let same = plan(&store, &point, Some(&point), &nothing);
    assert_eq!(same, (nothing, 0));
}

#[test]
fn a_map_of_any_size_is_held_in_bounds_and_none_of_it_is_lost() {
    let mut spots = Spots::new(1 << 50);
    let scattered = |n: u64| Extent::new(n * 3 * BLOCK, 1);
    let count = 5 * SPOTS_MAX as u64;
    for n in 0..count {
        spots.add(scattered(n));
        assert!(spots.spots.len() <= SPOTS_MAX);
    }
    let all = spots.all();
    let lost = ExtentSet::collect((0..count).map(scattered), u64::MAX);
    assert_eq!(all.union(&lost), all);
}

#[test]
fn blocks_that_differ_are_told_as_runs_up_to_the_end_of_the_disk() {
    let current = vec![1; 5 * BLOCK_LEN + 512];
    let mut wanted = current.clone();
    for at in [BLOCK_LEN - 1, BLOCK_LEN, 3 * BLOCK_LEN, 5 * BLOCK_LEN + 511] {
        wanted[at] = 2;
    }
    let start = 7 * BLOCK;
    let told = differing(start, &current, &wanted);
    let runs = [
        Extent::new(start, 2 * BLOCK),
        Extent::new(start + 3 * BLOCK, BLOCK),
        Extent::new(start + 5 * BLOCK, 512),
    ];
    assert_eq!(told, runs);
    assert_eq!(differing(start, &wanted, &wanted), []);
}

#[test]
fn a_node_that_nobody_asked_for_is_refused() {
    let mut store = Store::default();
    let point = full(&mut store, &synthetic(3000));
    let mut rollback = Rollback::new(&point, None, &ExtentSet::empty()).unwrap();
    let unasked = TreeError::Unasked { id: point.top };
    assert_eq!(rollback.supply(&store.nodes[&point.top]), Err(unasked));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The point is older than the base, and the disk went on after the base.
    #[test]
    fn a_rolled_back_disk_is_the_point_and_only_what_differs_is_written(
        (seed, length, acts) in any_disk(),
        (since, sloppy) in (crate::fixture::acts(2_000_000), 0..70_000u64),
        broken_off in any::<prop::sample::Index>(),
    ) {
        let stays = |acts: &[Act]| -> Vec<Act> {
            let acts = acts.iter().filter(|act| !matches!(act, Act::Grow { .. }));
            acts.cloned().collect()
        };
        let mut store = Store::default();
        let mut guest = Guest::new(seed, length);
        let (wanted, point) = (guest.disk.clone(), full(&mut store, &guest.disk));
        stays(&acts).iter().for_each(|act| guest.act(act));
        let base = full(&mut store, &guest.disk);
        guest.changed.clear();
        stays(&since).iter().for_each(|act| guest.act(act));
        let changed = guest.map(sloppy);
        let mut disk = guest.disk;

        let (spots, _) = plan(&store, &point, Some(&base), &changed);
        let needed = writes(&disk, &wanted, &spots);
        let bytes: u64 = needed.iter().map(|extent| extent.length).sum();
        prop_assert_eq!(bytes, damage(&disk, &wanted));
        // Broken off anywhere, and begun again by the same plan.
        let done = broken_off.index(needed.len() + 1);
        write(&mut disk, &wanted, &needed[..done]);
        let rest = writes(&disk, &wanted, &spots);
        prop_assert_eq!(&rest, &needed[done..]);
        write(&mut disk, &wanted, &rest);
        prop_assert!(disk == wanted);
    }

    #[test]
    fn without_a_map_the_disk_is_the_point_all_the_same((seed, length, acts) in any_disk()) {
        let mut store = Store::default();
        let mut guest = Guest::new(seed, length);
        let (wanted, point) = (guest.disk.clone(), full(&mut store, &guest.disk));
        acts.iter().filter(|act| !matches!(act, Act::Grow { .. })).for_each(|act| guest.act(act));
        let (spots, _) = plan(&store, &point, None, &ExtentSet::empty());
        let needed = writes(&guest.disk, &wanted, &spots);
        write(&mut guest.disk, &wanted, &needed);
        prop_assert!(guest.disk == wanted);
    }
}
