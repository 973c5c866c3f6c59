use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use stillwater_format::node::{Branch, DiskRoot, Entries, Leaf, Node, put_leaf, tree_id};
use stillwater_types::ExtentSet;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::areas::Areas;
use crate::fixture::{
    Act, BLOCK, Guest, KEY, SEED, Store, any_disk, build, cutter, full, root, synthetic,
};
use crate::{BLOCK_LEN, Cutter, CutterParams, identify, is_zero};

fn plan(store: &Store, base: &DiskRoot, changed: &ExtentSet, length: u64) -> ExtentSet {
    let mut plan = SplicePlan::new(base, changed, length).unwrap();
    loop {
        match plan.step().unwrap() {
            PlanStep::Nodes(ids) => ids.iter().for_each(|id| {
                plan.supply(&store.nodes[id]).unwrap();
            }),
            PlanStep::Done(extents) => return extents,
        }
    }
}

/// What a splice or a compare told.
#[derive(Debug, Default)]
struct Told {
    read: u64,
    shared: u64,
    /// Nodes of the base that were asked for.
    asked: usize,
    nodes: Vec<TreeId>,
    chunks: u64,
    hole_bytes: u64,
    replaced: Replaced,
    differs: Vec<(Extent, bool)>,
}

/// A splice or a compare.
trait Machine {
    fn step(&mut self) -> Result<SpliceStep, SpliceError>;
    fn replaced(&self) -> Replaced;
    fn supply(&mut self, bytes: &[u8]) -> Result<TreeId, TreeError>;
    fn push(&mut self, offset: u64, bytes: Bytes) -> Result<(), SpliceError>;
}

macro_rules! machine {
    ($name:ty) => {
        impl Machine for $name {
            fn step(&mut self) -> Result<SpliceStep, SpliceError> {
                self.step()
            }
            fn replaced(&self) -> Replaced {
                self.replaced()
            }
            fn supply(&mut self, bytes: &[u8]) -> Result<TreeId, TreeError> {
                self.supply(bytes)
            }
            fn push(&mut self, offset: u64, bytes: Bytes) -> Result<(), SpliceError> {
                self.push(offset, bytes)
            }
        }
    };
}
machine!(Splice);
machine!(Compare);

/// Pieces of `extents`, at most `piece` bytes each.
fn pieces<'a>(
    disk: &'a [u8],
    extents: &ExtentSet,
    piece: usize,
) -> impl Iterator<Item = (u64, Bytes)> + use<'a> {
    let extents: Vec<Extent> = extents.iter().collect();
    extents.into_iter().flat_map(move |extent| {
        (extent.start..extent.end())
            .step_by(piece)
            .map(move |start| {
                let end = (start + piece as u64).min(extent.end());
                let bytes = Bytes::copy_from_slice(&disk[start as usize..end as usize]);
                (start, bytes)
            })
    })
}

/// Runs a machine to its end.
fn run(
    store: &mut Store,
    machine: &mut dyn Machine,
    length: u64,
    pieces: &mut dyn Iterator<Item = (u64, Bytes)>,
) -> (DiskRoot, Told) {
    let (mut told, mut at) = (Told::default(), 0);
    loop {
        match machine.step().unwrap() {
            SpliceStep::Nodes(ids) => {
                assert!((1..=16).contains(&ids.len()));
                told.asked += ids.len();
                for id in ids {
                    assert_eq!(machine.supply(&store.nodes[&id]), Ok(id));
                }
            }
            SpliceStep::Data { offset } => {
                let (start, bytes) = pieces.next().expect("there is more to read");
                assert_eq!(start, offset);
                told.read += bytes.len() as u64;
                machine.push(offset, bytes).unwrap();
            }
            SpliceStep::Chunk { offset, bytes, id } => {
                assert_eq!((offset, identify(&KEY, &bytes)), (at, id));
                at += bytes.len() as u64;
                told.chunks += 1;
                // A piece of its own, as the disk's pieces go away.
                store.chunks.insert(id, Bytes::copy_from_slice(&bytes));
            }
            SpliceStep::Hole { offset, length } => {
                assert_eq!(offset, at);
                at += length;
                told.hole_bytes += length;
            }
            SpliceStep::Shared { offset, length } => {
                assert_eq!(offset, at);
                at += length;
                told.shared += length;
            }
            SpliceStep::Differs {
                extent,
                told: by_map,
            } => told.differs.push((extent, by_map)),
            SpliceStep::Node(node) => {
                told.nodes.push(node.id);
                store.keep(node);
            }
            SpliceStep::Done(top) => {
                assert_eq!((at, top.span), (length, length));
                assert_eq!(pieces.next(), None);
                told.replaced = machine.replaced();
                return (root(top), told);
            }
        }
    }
}

fn splice(
    store: &mut Store,
    base: &DiskRoot,
    disk: &[u8],
    changed: &ExtentSet,
    piece: usize,
) -> (DiskRoot, Told) {
    let length = disk.len() as u64;
    let extents = plan(store, base, changed, length);
    let mut machine = Splice::new(base, cutter(), &KEY, &extents, length).unwrap();
    run(
        store,
        &mut machine,
        length,
        &mut pieces(disk, &extents, piece),
    )
}

fn compare(
    store: &mut Store,
    base: &DiskRoot,
    disk: &[u8],
    changed: Option<&ExtentSet>,
    piece: usize,
) -> (DiskRoot, Told) {
    let length = disk.len() as u64;
    let mut machine = Compare::new(base, cutter(), &KEY, changed, length).unwrap();
    let whole = ExtentSet::whole(length);
    run(
        store,
        &mut machine,
        length,
        &mut pieces(disk, &whole, piece),
    )
}

/// Chunks and bytes of holes of a whole disk.
fn counts(store: &Store, root: &DiskRoot) -> (u64, u64) {
    let (mut chunks, mut hole_bytes) = (0, 0);
    for leaf in store.leaves(root) {
        match leaf {
            Leaf::Hole { length } => hole_bytes += length,
            Leaf::Chunk { .. } => chunks += 1,
        }
    }
    (chunks, hole_bytes)
}

/// From the base's counts and what was told follow those of the new tree.
#[track_caller]
fn check_counts(store: &Store, base: &DiskRoot, spliced: &DiskRoot, told: &Told) {
    let (chunks, hole_bytes) = counts(store, base);
    let Replaced {
        chunk_count,
        hole_bytes: zeros,
    } = told.replaced;
    let now = (
        chunks - chunk_count + told.chunks,
        hole_bytes - zeros + told.hole_bytes,
    );
    assert_eq!(now, counts(store, spliced));
}

/// The tree must be the one of its own leaves, and hold the disk.
#[track_caller]
fn check_tree(store: &mut Store, spliced: &DiskRoot, disk: &[u8]) {
    assert!(store.content(spliced) == disk, "the content differs");
    let leaves = store.leaves(spliced);
    let touch = |pair: &[Leaf]| matches!(pair, [Leaf::Hole { .. }, Leaf::Hole { .. }]);
    assert!(!leaves.windows(2).any(touch), "holes touch");
    assert_eq!(build(store, &leaves), *spliced);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_spliced_tree_is_that_of_its_leaves_and_holds_the_disk(
        (seed, length, acts) in any_disk(),
        sloppy in prop_oneof![Just(0), Just(100_000u64)],
        piece in prop_oneof![1..9_000usize, Just(1 << 20)],
    ) {
        let mut store = Store::default();
        let mut guest = Guest::new(seed, length);
        let base = full(&mut store, &guest.disk);
        acts.iter().for_each(|act| guest.act(act));
        let map = guest.map(sloppy);
        let (spliced, told) = splice(&mut store, &base, &guest.disk, &map, piece.max(500));
        check_tree(&mut store, &spliced, &guest.disk);
        check_counts(&store, &base, &spliced, &told);
        prop_assert!(told.read + told.shared <= guest.disk.len() as u64);
        let (again, told) = compare(&mut store, &spliced, &guest.disk, Some(&ExtentSet::empty()), piece.max(500));
        prop_assert_eq!(again, spliced);
        prop_assert_eq!(told.differs, vec![]);
    }

    #[test]
    fn a_compare_finds_just_what_differs_and_gives_a_right_tree(
        (seed, length, acts) in any_disk(),
        piece in prop_oneof![500..9_000usize, Just(1 << 20)],
        with_map in any::<bool>(),
    ) {
        let mut store = Store::default();
        let mut guest = Guest::new(seed, length);
        let (base, before) = (full(&mut store, &guest.disk), guest.disk.clone());
        acts.iter().for_each(|act| guest.act(act));
        // A map that forgot every second change.
        guest.changed = guest.changed.iter().copied().step_by(2).collect();
        let map = with_map.then(|| guest.map(0));
        let (compared, told) = compare(&mut store, &base, &guest.disk, map.as_ref(), piece);
        check_tree(&mut store, &compared, &guest.disk);
        check_counts(&store, &base, &compared, &told);
        let want = differences(&store, &base, &before, &guest.disk, map.as_ref());
        prop_assert_eq!(told.differs, want);
    }
}

/// What a compare must tell, found by looking at both disks.
fn differences(
    store: &Store,
    base: &DiskRoot,
    before: &[u8],
    after: &[u8],
    map: Option<&ExtentSet>,
) -> Vec<(Extent, bool)> {
    let told = |extent: Extent| {
        let touches = |area: Extent| area.start < extent.end() && extent.start < area.end();
        map.is_none_or(|map| map.widen(BLOCK, u64::MAX).iter().any(touches))
    };
    let mut at = 0;
    let mut found: Vec<(Extent, bool)> = Vec::new();
    for leaf in store.leaves(base) {
        let end = at + leaf.span();
        let step = match leaf {
            Leaf::Hole { .. } => BLOCK,
            Leaf::Chunk { length, .. } => u64::from(length),
        };
        for start in (at..end).step_by(step as usize) {
            let extent = Extent::new(start, step.min(end - start));
            let range = extent.start as usize..extent.end() as usize;
            if before[range.clone()] == after[range] {
                continue;
            }
            match found.last_mut() {
                Some((run, same)) if run.end() == start && *same == told(extent) => {
                    run.length += extent.length;
                }
                _ => found.push((extent, told(extent))),
            }
        }
        at = end;
    }
    found
}

#[test]
fn fifty_increments_in_a_row_are_exact() {
    let mut store = Store::default();
    let mut guest = Guest::new(50, 12 << 20);
    let mut base = full(&mut store, &guest.disk);
    for n in 0..50 {
        for _ in 0..4 {
            let length = 1 + guest.draw(60_000);
            let at = guest.draw(guest.disk.len() as u64);
            let act = match guest.draw(8) {
                0 if n % 10 == 0 => Act::Grow { length },
                0..3 => Act::Trim { at, length },
                _ => Act::Write { at, length },
            };
            guest.act(&act);
        }
        let map = guest.map(if n % 2 == 0 { 0 } else { 30_000 });
        base = splice(&mut store, &base, &guest.disk, &map, 100_000).0;
        check_tree(&mut store, &base, &guest.disk);
    }
}

#[test]
fn one_change_costs_the_path_to_it_however_large_the_disk() {
    let mut store = Store::default();
    let mut disk = synthetic(40_000);
    let base = full(&mut store, &disk);
    assert_eq!(base.level, 1);
    let all = store.reachable(&base).len();
    assert!(all > 70, "{all}");
    let at = 20_000 * BLOCK;
    disk[at as usize] ^= 1;
    let map = ExtentSet::collect([Extent::new(at, 1)], u64::MAX);
    let known: HashSet<TreeId> = store.nodes.keys().copied().collect();
    let (spliced, told) = splice(&mut store, &base, &disk, &map, 1 << 20);
    check_tree(&mut store, &spliced, &disk);
    assert!(told.read <= 16_384, "{told:?}");
    assert!(told.asked <= 5, "{told:?}");
    let fresh = told.nodes.iter().filter(|id| !known.contains(*id)).count();
    assert!(fresh <= 4, "{fresh}");
    assert!(told.nodes.len() <= 6, "{told:?}");
}

#[test]
fn an_unchanged_disk_costs_nothing() {
    let mut store = Store::default();
    let disk = synthetic(8_000);
    let base = full(&mut store, &disk);
    let (spliced, told) = splice(&mut store, &base, &disk, &ExtentSet::empty(), 1 << 20);
    assert_eq!(spliced, base);
    assert_eq!(
        (told.asked, told.nodes.len(), told.read, told.shared),
        (0, 0, 0, base.length)
    );
}

#[test]
fn a_disk_that_changed_everywhere_shares_nothing() {
    let mut store = Store::default();
    let base = full(&mut store, &synthetic(8_000));
    let mut other = synthetic(8_500);
    other
        .iter_mut()
        .step_by(BLOCK_LEN)
        .for_each(|byte| *byte ^= 0x55);
    let map = ExtentSet::whole(base.length);
    let (spliced, told) = splice(&mut store, &base, &other, &map, 1 << 20);
    check_tree(&mut store, &spliced, &other);
    assert_eq!(told.shared, 0);
    assert_eq!(spliced, full(&mut store, &other));
    let mut plan = SplicePlan::new(&base, &map, spliced.length).unwrap();
    let whole = ExtentSet::whole(spliced.length);
    assert_eq!(plan.step(), Ok(PlanStep::Done(whole)));
}

/// A disk with data here and there becomes another one; each step is an increment.
#[track_caller]
fn check_becomes(disks: &[Vec<u8>]) {
    let mut store = Store::default();
    let mut base = full(&mut store, &disks[0]);
    for pair in disks.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let blocks = before.chunks(BLOCK_LEN).zip(after.chunks(BLOCK_LEN));
        let changed = blocks.enumerate().filter(|(_, (a, b))| a != b);
        let changed = changed.map(|(n, _)| Extent::new(n as u64 * BLOCK, BLOCK));
        let map = ExtentSet::collect(changed, after.len() as u64);
        base = splice(&mut store, &base, after, &map, 1 << 20).0;
        check_tree(&mut store, &base, after);
    }
}

#[test]
fn trees_gain_and_lose_levels() {
    let some = synthetic(12_000);
    let empty = vec![0; some.len()];
    let mut head = empty.clone();
    head[..5000].copy_from_slice(&some[..5000]);
    let mut tail = empty.clone();
    let at = some.len() - 100;
    tail[at..].copy_from_slice(&[7; 100]);
    let mut longer = some.clone();
    longer.resize(some.len() + 70_000, 3);
    let mut ragged = longer.clone();
    ragged.resize(longer.len() + 1000, 0);
    let mut last = ragged.clone();
    last.resize(ragged.len() + 20_480, 0);
    check_becomes(&[
        empty.clone(),
        some.clone(),
        empty.clone(),
        head,
        empty.clone(),
    ]);
    check_becomes(&[empty.clone(), tail, empty, some, longer, ragged, last]);
}

#[test]
fn disks_of_nothing_grow() {
    check_becomes(&[vec![], vec![], vec![0], vec![0; 5000], vec![1; 5000]]);
    check_becomes(&[vec![], vec![0; 100_000], vec![0; 200_001], vec![0; 300_000]]);
    check_becomes(&[vec![5; 10], vec![5; 4096], vec![5; 4097], synthetic(3000)]);
}

#[test]
fn a_range_that_becomes_zeros_joins_the_holes_beside_it() {
    let mut store = Store::default();
    let mut disk = vec![0; 40 * BLOCK_LEN];
    disk[10 * BLOCK_LEN..20 * BLOCK_LEN].fill(1);
    let base = full(&mut store, &disk);
    // One block of data is left: what lies beside it is too short for a hole of its own.
    disk[11 * BLOCK_LEN..20 * BLOCK_LEN].fill(0);
    let map = ExtentSet::collect([Extent::new(11 * BLOCK, 9 * BLOCK)], u64::MAX);
    let (spliced, _) = splice(&mut store, &base, &disk, &map, 3000);
    check_tree(&mut store, &spliced, &disk);
    assert_eq!(spliced, full(&mut store, &disk));
    disk.fill(0);
    let map = ExtentSet::collect([Extent::new(10 * BLOCK, 1)], u64::MAX);
    let (spliced, _) = splice(&mut store, &spliced, &disk, &map, 3000);
    let hole = Leaf::Hole { length: 40 * BLOCK };
    assert_eq!(store.leaves(&spliced), [hole]);
}

#[test]
fn a_map_that_hides_a_change_gives_a_wrong_tree_and_a_compare_says_where() {
    let mut store = Store::default();
    let mut guest = Guest::new(3, 4 << 20);
    let base = full(&mut store, &guest.disk);
    guest.act(&Act::Write {
        at: 500_000,
        length: 10_000,
    });
    let map = guest.map(0);
    let hidden = Act::Write {
        at: 2_000_000,
        length: 9000,
    };
    guest.act(&hidden);
    let (wrong, _) = splice(&mut store, &base, &guest.disk, &map, 1 << 20);
    assert!(store.content(&wrong) != guest.disk);
    let (right, told) = compare(&mut store, &base, &guest.disk, Some(&map), 1 << 20);
    check_tree(&mut store, &right, &guest.disk);
    let lies: Vec<Extent> = told
        .differs
        .iter()
        .filter(|(_, told)| !told)
        .map(|(extent, _)| *extent)
        .collect();
    let [lie] = lies.as_slice() else {
        panic!("{lies:?}");
    };
    assert!(lie.start <= 2_000_000 && lie.end() >= 2_009_000 && lie.length < 60_000);
}

#[test]
fn bases_that_cannot_be_spliced_into_are_named() {
    let mut store = Store::default();
    let base = full(&mut store, &synthetic(10));
    let none = ExtentSet::empty();
    let length = base.length - 1;
    let shrunk = SpliceError::Shrunk {
        base: base.length,
        length,
    };
    let refused = SplicePlan::new(&base, &none, length).err();
    assert_eq!(refused, Some(shrunk.clone()));
    let refused = Splice::new(&base, cutter(), &KEY, &none, length).err();
    assert_eq!(refused, Some(shrunk.clone()));
    let refused = Compare::new(&base, cutter(), &KEY, None, length).err();
    assert_eq!(refused, Some(shrunk));
    let other = || Cutter::new(CutterParams::DISK, SEED).unwrap();
    let refused = Splice::new(&base, other(), &KEY, &none, base.length).err();
    assert!(refused.is_some_and(|error| error.asks_compare()));
    // A compare keeps what is there, however it was cut.
    let disk = synthetic(10);
    let mut machine = Compare::new(&base, other(), &KEY, None, base.length).unwrap();
    let whole = ExtentSet::whole(base.length);
    let mut once = pieces(&disk, &whole, 5000);
    let (compared, _) = run(&mut store, &mut machine, base.length, &mut once);
    assert_eq!(compared, base);
    // A chunk that ends inside a block, as another writer may cut.
    let id = identify(&KEY, &[1; 100]);
    let odd = Leaf::Chunk { length: 100, id };
    let base = build(&mut store, &[odd, odd]);
    let extents = ExtentSet::collect([Extent::new(0, 100)], 200);
    let mut machine = Splice::new(&base, cutter(), &KEY, &extents, 200).unwrap();
    machine.push(0, Bytes::from(vec![2; 100])).unwrap();
    let SpliceStep::Nodes(_) = machine.step().unwrap() else {
        panic!("the base must be opened");
    };
    machine.supply(&store.nodes[&base.top]).unwrap();
    let refused = machine.step();
    let off_grid = SpliceError::OffGrid { offset: 100 };
    assert!(off_grid.asks_compare());
    assert_eq!(refused, Err(off_grid));
    // A compare cuts it anew.
    let disk = [1; 200];
    let (compared, told) = compare(&mut store, &base, &disk, None, 64);
    check_tree(&mut store, &compared, &disk);
    assert_eq!(told.differs, []);
}

#[test]
fn pieces_and_extents_that_do_not_fit_are_refused() {
    let mut store = Store::default();
    let disk = synthetic(40);
    let base = full(&mut store, &disk);
    // A chunk of several blocks, of which only the second one changed.
    let mut at = 0;
    let mut placed = store.leaves(&base).into_iter().map(|leaf| {
        at += leaf.span();
        (at - leaf.span(), leaf)
    });
    let long = |leaf: &Leaf| matches!(leaf, Leaf::Chunk { length, .. } if *length > 8192);
    let (at, _) = placed.find(|(_, leaf)| long(leaf)).unwrap();
    let map = ExtentSet::collect([Extent::new(at + BLOCK, 1)], u64::MAX);
    let good = plan(&store, &base, &map, base.length);
    let extent = good.iter().next().unwrap();
    assert!(extent.length > BLOCK);
    let mut machine = Splice::new(&base, cutter(), &KEY, &good, base.length).unwrap();
    assert!(machine.push(0, Bytes::from_static(b"x")).is_err());
    // Part of a chunk is not enough.
    let inside = Extent::new(extent.start + BLOCK, BLOCK);
    let narrow = ExtentSet::collect([inside], u64::MAX);
    let mut machine = Splice::new(&base, cutter(), &KEY, &narrow, base.length).unwrap();
    let refused = loop {
        match machine.step() {
            Ok(SpliceStep::Nodes(ids)) => ids.iter().for_each(|id| {
                machine.supply(&store.nodes[id]).unwrap();
            }),
            Ok(SpliceStep::Data { offset }) => panic!("asked for {offset}"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let offset = extent.start;
    assert_eq!(refused, SpliceError::Extents { offset });
    // A disk that grew must be read behind its old end.
    let refused = Splice::new(&base, cutter(), &KEY, &ExtentSet::empty(), base.length + 1);
    let error = refused.map(|mut machine| {
        loop {
            if let Err(error) = machine.step() {
                break error;
            }
        }
    });
    let offset = base.length;
    assert_eq!(error.ok(), Some(SpliceError::Extents { offset }));
    let beyond = ExtentSet::whole(base.length + 1);
    assert!(Splice::new(&base, cutter(), &KEY, &beyond, base.length).is_err());
    let mut machine = Compare::new(&base, cutter(), &KEY, None, base.length).unwrap();
    assert!(machine.push(1, Bytes::from_static(b"x")).is_err());
    let long = Bytes::from(vec![0; disk.len() + 1]);
    assert!(machine.push(0, long).is_err());
}

#[test]
fn hostile_nodes_are_refused() {
    let mut store = Store::default();
    let base = full(&mut store, &synthetic(20_000));
    let map = ExtentSet::collect([Extent::new(0, 1)], u64::MAX);
    let stranger = Node::leaves(vec![Leaf::Hole { length: 1 }])
        .unwrap()
        .encode();
    let mut plan = SplicePlan::new(&base, &map, base.length).unwrap();
    let asked = PlanStep::Nodes(vec![base.top]);
    assert_eq!(plan.step(), Ok(asked.clone()));
    let unasked = Err(TreeError::Unasked {
        id: tree_id(&stranger),
    });
    assert_eq!(plan.supply(&stranger), unasked);
    assert_eq!(plan.step(), Ok(asked));
    // Parents that lie about the level or the span of a child, and bytes that are no node.
    let leaf = tree_id(&stranger);
    let garbage = b"no node".to_vec();
    for (level, span, id) in [
        (2, 1 << 20, leaf),
        (1, 1 << 21, leaf),
        (1, 1 << 20, tree_id(&garbage)),
    ] {
        let parent = Node::branches(level, vec![Branch { span, id }; 1000]).unwrap();
        let bytes = parent.encode();
        let base = root(Top {
            id: tree_id(&bytes),
            level,
            span: parent.span(),
        });
        let mut plan = SplicePlan::new(&base, &map, base.length).unwrap();
        assert_eq!(plan.step(), Ok(PlanStep::Nodes(vec![base.top])));
        plan.supply(&bytes).unwrap();
        let Ok(PlanStep::Nodes(ids)) = plan.step() else {
            panic!("the child is opened");
        };
        assert_eq!(ids, [id]);
        let refused = match plan.supply(if id == leaf { &stranger } else { &garbage }) {
            Ok(_) => plan.step().err(),
            Err(error) => Some(error),
        };
        assert!(
            matches!(
                refused,
                Some(TreeError::Misplaced { .. } | TreeError::Node { .. })
            ),
            "{refused:?}"
        );
    }
}

/// A disk of several levels of nodes, too large to hold: leaves without their bytes.
fn many_leaves(seed: u64, count: u64) -> Vec<Leaf> {
    let leaf = |n: u64| {
        let hash = blake3::hash(&[seed.to_le_bytes(), n.to_le_bytes()].concat());
        let random = u64::from(hash.as_bytes()[0]);
        if n % 9 == seed % 9 {
            Leaf::Hole {
                length: BLOCK * (4 + random),
            }
        } else {
            Leaf::Chunk {
                length: 4096 * (1 + random as u32 % 4),
                id: ChunkId::from_bytes(*hash.as_bytes()),
            }
        }
    };
    (0..count).map(leaf).collect()
}

/// Each leaf with its place.
fn placed(leaves: &[Leaf]) -> HashMap<u64, Leaf> {
    let mut at = 0;
    let place = |leaf: &Leaf| {
        at += leaf.span();
        (at - leaf.span(), *leaf)
    };
    leaves.iter().map(place).collect()
}

/// Bytes that are never zero and say where they lie.
fn noise(extent: Extent) -> Bytes {
    let mut bytes = vec![7; extent.length as usize];
    for (n, block) in bytes.chunks_mut(BLOCK_LEN).enumerate() {
        let at = extent.start + n as u64 * BLOCK;
        let head = block.len().min(8);
        block[..head].copy_from_slice(&(at ^ 0x5a5a_5a5a).to_le_bytes()[..head]);
    }
    bytes.into()
}

/// Where the nodes right above those of leaves end.
fn node_ends(store: &Store, base: &DiskRoot) -> Vec<u64> {
    let (mut ends, mut at) = (Vec::new(), 0);
    let mut open = vec![base.top];
    while let Some(id) = open.pop() {
        let node = Node::decode(&store.nodes[&id]).unwrap();
        match node.entries() {
            Entries::Branches(branches) if node.level() > 1 => {
                open.extend(branches.iter().rev().map(|branch| branch.id));
            }
            _ => {
                at += node.span();
                ends.push(at);
            }
        }
    }
    ends
}

#[test]
fn a_node_is_shared_only_where_the_new_tree_begins_one_too() {
    let mut store = Store::default();
    let leaves = many_leaves(2, 160_000);
    let base = build(&mut store, &leaves);
    let ends = node_ends(&store, &base);
    assert!(
        base.level == 2 && ends.len() >= 2,
        "{} {ends:?}",
        base.level
    );
    // Another last node below the first node of level 1, which then does not end it any more.
    let changed = ExtentSet::collect([Extent::new(ends[0] - 600_000, 1)], u64::MAX);
    let extents = plan(&store, &base, &changed, base.length);
    assert!(extents.iter().all(|extent| extent.end() < ends[0]));
    let mut machine = Splice::new(&base, cutter(), &KEY, &extents, base.length).unwrap();
    let mut pieces = extents.iter().map(|extent| (extent.start, noise(extent)));
    let (spliced, _) = run(&mut store, &mut machine, base.length, &mut pieces);
    let now = store.leaves(&spliced);
    assert_eq!(build(&mut store, &now), spliced);
    assert_ne!(node_ends(&store, &spliced)[0], ends[0]);
}

/// Whether a node of at least 64 leaves ends with this one.
fn ends_node(leaf: &Leaf) -> bool {
    let mut bytes = Vec::new();
    put_leaf(&mut bytes, leaf);
    xxh3_64(&bytes) <= u64::MAX / 192
}

#[test]
fn a_hole_between_a_new_end_of_a_node_and_an_old_one_joins_the_next_node() {
    let mut store = Store::default();
    let mut leaves: Vec<Leaf> = many_leaves(1, 5000)
        .into_iter()
        .filter(|leaf| matches!(leaf, Leaf::Chunk { .. }) && !ends_node(leaf))
        .collect();
    let hole = |n: u64| Leaf::Hole { length: n * BLOCK };
    let ending = (4..).map(hole).find(ends_node).unwrap();
    leaves.truncate(1000);
    leaves[64] = ending;
    // What is written before the hole is a chunk that ends a node too.
    let chunk = |salt: u32| {
        let bytes = Bytes::from([&salt.to_le_bytes()[..], &[7; BLOCK_LEN - 4]].concat());
        let id = identify(&KEY, &bytes);
        let leaf = Leaf::Chunk { length: 4096, id };
        (leaf, bytes)
    };
    let (_, written) = (0..).map(chunk).find(|(leaf, _)| ends_node(leaf)).unwrap();
    let id = ChunkId::from_bytes([1; 32]);
    leaves[63] = Leaf::Chunk { length: 4096, id };
    let at = leaves[..63].iter().map(Leaf::span).sum();
    let base = build(&mut store, &leaves);
    let map = ExtentSet::collect([Extent::new(at, BLOCK)], u64::MAX);
    let extents = plan(&store, &base, &map, base.length);
    assert_eq!(extents, map);
    let mut machine = Splice::new(&base, cutter(), &KEY, &extents, base.length).unwrap();
    let mut once = std::iter::once((at, written));
    let (spliced, _) = run(&mut store, &mut machine, base.length, &mut once);
    let now = store.leaves(&spliced);
    assert!(now[64..] == leaves[64..] && ends_node(&now[63]));
    assert_eq!(build(&mut store, &now), spliced);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn trees_of_several_levels_are_shared_but_for_the_paths_to_changes(
        seed in any::<u64>(),
        count in prop_oneof![0..3000u64, 90_000..140_000u64],
        places in prop::collection::vec((any::<u64>(), 1..200_000u64, any::<bool>()), 0..6),
        grow in prop_oneof![3 => Just(0), 1 => 1..2_000_000u64],
    ) {
        let mut store = Store::default();
        let leaves = many_leaves(seed, count);
        let base = build(&mut store, &leaves);
        let known: HashSet<TreeId> = store.nodes.keys().copied().collect();
        let length = base.length + grow;
        let ends = node_ends(&store, &base);
        let changed = places.iter().map(|(at, length, random)| {
            let place = match ends.as_slice() {
                // Within the last node below, so that it and not the next one is another.
                [_, ..] if !random => {
                    let beside = if at % 3 == 0 { length / 2 } else { length + 100_000 };
                    ends[*at as usize % ends.len()].saturating_sub(beside)
                }
                _ => at % (base.length + 1),
            };
            Extent::new(place, *length)
        });
        let changed = ExtentSet::collect(changed, base.length);
        let extents = plan(&store, &base, &changed, length);
        let mut machine = Splice::new(&base, cutter(), &KEY, &extents, length).unwrap();
        let mut pieces = extents.iter().map(|extent| (extent.start, noise(extent)));
        let (spliced, told) = run(&mut store, &mut machine, length, &mut pieces);
        prop_assert_eq!(spliced.length, length);

        // The same tree as a builder's, of the same leaves but for what was read.
        let now = store.leaves(&spliced);
        prop_assert_eq!(&build(&mut store, &now), &spliced);
        let before = placed(&leaves);
        let areas = Areas::new(&extents);
        for (at, leaf) in placed(&now) {
            let extent = Extent::new(at, leaf.span());
            match leaf {
                _ if before.get(&at) == Some(&leaf) => prop_assert!(!areas.overlap(extent)),
                Leaf::Hole { .. } => prop_assert!(!areas.overlap(extent)),
                // What was read, and zeros of holes that are left too short beside it.
                Leaf::Chunk { id, .. } => {
                    let bytes = &store.chunks[&id];
                    for (n, block) in bytes.chunks(BLOCK_LEN).enumerate() {
                        let place = Extent::new(at + n as u64 * BLOCK, block.len() as u64);
                        let zeros = is_zero(block) && !areas.overlap(place);
                        let read = areas.cover(place) && block == noise(place);
                        prop_assert!(zeros || read, "{place:?} of {extents:?}");
                    }
                }
            }
        }
        // Zeros lie where zeros were: what is shared covers every chunk that was not read.
        let held = |leaves: &HashMap<u64, Leaf>| -> usize {
            let chunk = |(at, leaf): &(&u64, &Leaf)| {
                let extent = Extent::new(**at, leaf.span());
                matches!(leaf, Leaf::Chunk { .. }) && !areas.overlap(extent)
            };
            let kept = leaves.iter().filter(chunk);
            kept.filter(|(at, leaf)| before.get(at) == Some(leaf)).count()
        };
        prop_assert_eq!(held(&placed(&now)), held(&before));

        // New nodes: the paths to the changes, and those of what was read itself.
        let fresh = told.nodes.iter().filter(|id| !known.contains(*id)).count();
        let paths = (extents.len() + 1) * (usize::from(spliced.level) + 1);
        let read = extents.bytes() as usize / BLOCK_LEN / 64;
        prop_assert!(fresh <= 3 * paths + read, "{fresh} new nodes for {extents:?}");
        prop_assert!(told.asked <= 4 * paths, "{} nodes for {extents:?}", told.asked);
    }
}
