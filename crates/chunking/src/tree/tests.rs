use std::collections::HashMap;

use proptest::prelude::*;
use stillwater_format::node::{Branch, DiskRoot, Entries, Leaf, Node, tree_id};
use stillwater_types::{ChunkId, Extent, TreeId};

use super::build::NODE_ENTRIES_MIN;
use super::*;

type Nodes = HashMap<TreeId, Vec<u8>>;

fn chunk(seed: u64, n: u64) -> Leaf {
    let hash = blake3::hash(&[seed.to_le_bytes(), n.to_le_bytes()].concat());
    let id = ChunkId::from_bytes(*hash.as_bytes());
    Leaf::Chunk {
        length: 4096 * (1 + n as u32 % 7),
        id,
    }
}

/// `count` leaves, every seventh of them a hole.
fn leaves(seed: u64, count: u64) -> Vec<Leaf> {
    let leaf = |n| {
        if n % 7 == 3 {
            Leaf::Hole { length: 16_384 + n }
        } else {
            chunk(seed, n)
        }
    };
    (0..count).map(leaf).collect()
}

fn build(leaves: &[Leaf]) -> (DiskRoot, Nodes) {
    let mut nodes = Nodes::new();
    let mut builder = TreeBuilder::new();
    let mut done = |node: FinishedNode| {
        nodes.insert(node.id, node.bytes);
    };
    leaves
        .iter()
        .for_each(|leaf| builder.push(*leaf, &mut done).unwrap());
    let top = builder.finish(&mut done).unwrap();
    let cutter = crate::CutterParams::DISK.to_string();
    (
        DiskRoot {
            length: top.span,
            cutter,
            top: top.id,
            level: top.level,
        },
        nodes,
    )
}

/// Reads a range; gives the leaves with their offsets and how many nodes that took.
fn read(
    root: &DiskRoot,
    nodes: &Nodes,
    range: Extent,
) -> Result<(Vec<(u64, Leaf)>, usize), TreeError> {
    let mut reader = TreeReader::new(root, range)?;
    let (mut found, mut count) = (Vec::new(), 0);
    loop {
        match reader.step()? {
            Step::Nodes(ids) => {
                assert!((1..=16).contains(&ids.len()));
                count += ids.len();
                ids.iter()
                    .try_for_each(|id| reader.supply(&nodes[id]).map(|_| ()))?;
            }
            Step::Leaf { offset, leaf } => found.push((offset, leaf)),
            Step::Done => return Ok((found, count)),
        }
    }
}

fn placed(leaves: &[Leaf]) -> Vec<(u64, Leaf)> {
    let mut at = 0;
    leaves
        .iter()
        .map(|leaf| {
            let offset = at;
            at += leaf.span();
            (offset, *leaf)
        })
        .collect()
}

fn whole(root: &DiskRoot) -> Extent {
    Extent::new(0, root.length)
}

#[test]
fn a_tree_has_the_top_of_the_format() {
    let (root, nodes) = build(&leaves(1, 100_000));
    assert_eq!(
        root.top.to_string(),
        "4425aa1aee81c80063b99de1a36eb82b24bdc2953bf091acc50f04f3e2c04383"
    );
    assert_eq!((root.level, nodes.len()), (2, 412));
}

#[test]
fn nodes_have_256_entries_on_average_and_keep_their_bounds() {
    let (root, nodes) = build(&leaves(2, 200_000));
    let counts: Vec<usize> = nodes
        .iter()
        .filter(|(id, _)| **id != root.top)
        .filter_map(|(_, bytes)| match Node::decode(bytes).unwrap().entries() {
            Entries::Leaves(leaves) => Some(leaves.len()),
            Entries::Branches(_) => None,
        })
        .collect();
    let average = counts.iter().sum::<usize>() / counts.len();
    assert!((225..=275).contains(&average), "{average}");
    let short = counts
        .iter()
        .filter(|count| **count < NODE_ENTRIES_MIN)
        .count();
    assert!(short <= 1 && counts.iter().all(|count| *count <= 1024));
}

#[test]
fn an_empty_disk_and_an_empty_giant_are_one_node() {
    let (root, nodes) = build(&[]);
    assert_eq!((root.length, root.level, nodes.len()), (0, 0, 1));
    assert_eq!(read(&root, &nodes, whole(&root)), Ok((vec![], 1)));
    let hole = Leaf::Hole { length: 1 << 40 };
    let (root, nodes) = build(&[hole, hole]);
    assert_eq!(nodes.len(), 1);
    let (leaves, _) = read(&root, &nodes, Extent::new(5, 1)).unwrap();
    assert_eq!(leaves, [(0, Leaf::Hole { length: 1 << 41 })]);
}

#[test]
fn a_disk_of_one_repeated_chunk_is_read_back() {
    let same = vec![chunk(3, 3 + 7); 20_000];
    let (root, nodes) = build(&same);
    assert!(nodes.len() < 10, "{}", nodes.len());
    assert_eq!(read(&root, &nodes, whole(&root)).unwrap().0, placed(&same));
}

#[test]
fn one_changed_leaf_changes_one_node_of_each_level() {
    let mut leaves = leaves(4, 100_000);
    let (before, old) = build(&leaves);
    leaves[50_000] = chunk(99, 1);
    let (after, new) = build(&leaves);
    let fresh = new.keys().filter(|id| !old.contains_key(*id)).count();
    assert!(fresh <= 2 * (usize::from(after.level) + 1), "{fresh}");
    assert_ne!(before.top, after.top);
}

#[test]
fn a_short_range_takes_only_the_path_to_it() {
    let leaves = leaves(5, 100_000);
    let (root, nodes) = build(&leaves);
    let (found, taken) = read(&root, &nodes, Extent::new(root.length / 2, 1)).unwrap();
    assert_eq!(found.len(), 1);
    assert!(
        taken <= usize::from(root.level) + 1,
        "{taken} of {}",
        nodes.len()
    );
}

#[test]
fn overflowing_disks_are_refused() {
    let mut builder = TreeBuilder::new();
    let mut ignore = |_: FinishedNode| ();
    builder
        .push(Leaf::Hole { length: u64::MAX }, &mut ignore)
        .unwrap();
    assert!(builder.push(Leaf::Hole { length: 1 }, &mut ignore).is_err());
    let mut builder = TreeBuilder::new();
    builder
        .push(Leaf::Hole { length: u64::MAX }, &mut ignore)
        .unwrap();
    builder.push(chunk(1, 1), &mut ignore).unwrap();
    assert!(builder.finish(&mut ignore).is_err());
}

#[test]
fn a_range_beyond_the_disk_is_refused() {
    let (root, _) = build(&leaves(6, 10));
    let refused = TreeReader::new(&root, Extent::new(root.length, 1)).err();
    assert_eq!(
        refused,
        Some(TreeError::BeyondEnd {
            end: root.length + 1,
            length: root.length
        })
    );
}

#[test]
fn a_node_that_was_not_asked_for_is_refused() {
    let (root, _) = build(&leaves(7, 10));
    let mut reader = TreeReader::whole(&root).unwrap();
    let stranger = Node::leaves(vec![chunk(8, 1)]).unwrap().encode();
    let id = tree_id(&stranger);
    assert_eq!(reader.supply(&stranger), Err(TreeError::Unasked { id }));
    assert_eq!(reader.step(), Ok(Step::Nodes(vec![root.top])));
    assert_eq!(reader.supply(&stranger), Err(TreeError::Unasked { id }));
}

/// A tree whose parent says something of its child that is not so.
#[track_caller]
fn check_misplaced(level: u8, span: u64, root_length: u64) {
    let leaf = Node::leaves(vec![chunk(9, 1)]).unwrap();
    let child = tree_id(&leaf.encode());
    let parent = Node::branches(level, vec![Branch { span, id: child }]).unwrap();
    let top = tree_id(&parent.encode());
    let nodes = Nodes::from([(child, leaf.encode()), (top, parent.encode())]);
    let cutter = crate::CutterParams::DISK.to_string();
    let root = DiskRoot {
        length: root_length,
        cutter,
        top,
        level,
    };
    let refused = read(&root, &nodes, whole(&root));
    assert!(
        matches!(refused, Err(TreeError::Misplaced { .. })),
        "{refused:?}"
    );
}

#[test]
fn levels_and_spans_that_do_not_fit_are_refused() {
    check_misplaced(2, 8192, 8192);
    check_misplaced(1, 8193, 8193);
    check_misplaced(1, 8192, 8191);
    check_misplaced(1, 8192, 8193);
}

#[test]
fn a_damaged_node_is_named() {
    let garbage = b"no node".to_vec();
    let id = tree_id(&garbage);
    let cutter = crate::CutterParams::DISK.to_string();
    let root = DiskRoot {
        length: 1,
        cutter,
        top: id,
        level: 0,
    };
    let refused = read(&root, &Nodes::from([(id, garbage)]), whole(&root));
    assert!(matches!(refused, Err(TreeError::Node { id: named, .. }) if named == id));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn leaves_come_back_in_order_for_any_range(
        count in 0..3000u64, seed in any::<u64>(), a in any::<u64>(), b in any::<u64>(),
    ) {
        let leaves = leaves(seed, count);
        let (root, nodes) = build(&leaves);
        prop_assert_eq!(read(&root, &nodes, whole(&root)).unwrap().0, placed(&leaves));
        let (a, b) = (a % (root.length + 1), b % (root.length + 1));
        let range = Extent::new(a.min(b), a.abs_diff(b));
        let (found, _) = read(&root, &nodes, range).unwrap();
        let touched: Vec<_> = placed(&leaves)
            .into_iter()
            .filter(|(at, leaf)| *at < range.end() && at + leaf.span() > range.start)
            .collect();
        prop_assert_eq!(found, touched);
    }
}
