use proptest::prelude::*;

use super::*;

fn leaf() -> impl Strategy<Value = Leaf> {
    prop_oneof![
        (1..=CHUNK_BYTES_MAX, any::<[u8; 32]>()).prop_map(|(length, id)| Leaf::Chunk {
            length,
            id: ChunkId::from_bytes(id)
        }),
        (1..1u64 << 50).prop_map(|length| Leaf::Hole { length }),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let leaves = prop::collection::vec(leaf(), 0..40).prop_map(|mut leaves| {
        leaves.dedup_by(|a, b| matches!((a, b), (Leaf::Hole { .. }, Leaf::Hole { .. })));
        Node::leaves(leaves).unwrap()
    });
    let branch = (1..1u64 << 50, any::<[u8; 32]>()).prop_map(|(span, id)| Branch {
        span,
        id: TreeId::from_bytes(id),
    });
    let branches = (1..=NODE_LEVEL_MAX, prop::collection::vec(branch, 1..40))
        .prop_map(|(level, branches)| Node::branches(level, branches).unwrap());
    prop_oneof![leaves, branches]
}

fn golden() -> Node {
    let id = ChunkId::from_bytes([0xab; 32]);
    Node::leaves(vec![
        Leaf::Chunk { length: 32768, id },
        Leaf::Hole { length: 65536 },
    ])
    .unwrap()
}

#[test]
fn a_node_has_the_bytes_of_the_format() {
    let mut want = b"SWN1\x00\x00\x02\x00".to_vec();
    want.extend_from_slice(&98_304u64.to_le_bytes());
    want.extend_from_slice(&[1, 0, 0x80, 0, 0]);
    want.extend_from_slice(&[0xab; 32]);
    want.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(golden().encode(), want);
    assert_eq!(
        tree_id(&want).to_string(),
        "b7e17a3524f326c4f4fa9390df96ea34761c97f12161ac9d5e639dd3d5ed54fc"
    );
    let branch = Branch {
        span: 98_304,
        id: TreeId::from_bytes([0xcd; 32]),
    };
    let upper = Node::branches(1, vec![branch]).unwrap().encode();
    assert_eq!(
        tree_id(&upper).to_string(),
        "3fa96a0ae63cde346097839af594779ece1903363f7d7783c1911749a1158f27"
    );
}

#[test]
fn the_empty_disk_has_a_node_and_nothing_above_is_empty() {
    let empty = Node::leaves(Vec::new()).unwrap();
    assert_eq!(Node::decode(&empty.encode()), Ok(empty));
    assert_eq!(
        Node::branches(1, Vec::new()),
        Err(NodeError::Count { count: 0 })
    );
}

#[track_caller]
fn check_refused(change: impl Fn(&mut Vec<u8>), error: NodeError) {
    let mut bytes = golden().encode();
    change(&mut bytes);
    assert_eq!(Node::decode(&bytes), Err(error));
}

#[test]
fn what_breaks_a_bound_is_refused() {
    check_refused(|bytes| bytes[0] = b'X', NodeError::Form);
    check_refused(|bytes| bytes[4] = 16, NodeError::Form);
    check_refused(|bytes| bytes[5] = 1, NodeError::Form);
    check_refused(|bytes| bytes[6] = 3, NodeError::Form);
    check_refused(|bytes| bytes[7] = 5, NodeError::Count { count: 0x502 });
    check_refused(|bytes| bytes[8] ^= 1, NodeError::Span);
    check_refused(|bytes| bytes[16] = 2, NodeError::Entry { index: 0 });
    check_refused(|bytes| bytes[20] = 1, NodeError::Entry { index: 0 });
    check_refused(|bytes| bytes[56] = 0, NodeError::Entry { index: 1 });
    check_refused(|bytes| bytes.push(0), NodeError::Form);
    check_refused(|bytes| bytes.truncate(61), NodeError::Form);
}

#[test]
fn lengths_that_overflow_and_holes_that_touch_are_refused() {
    let hole = |length| Leaf::Hole { length };
    let chunk = Leaf::Chunk {
        length: 1,
        id: ChunkId::from_bytes([1; 32]),
    };
    assert_eq!(
        Node::leaves(vec![hole(1), hole(1)]),
        Err(NodeError::HolesTouch { index: 1 })
    );
    assert_eq!(
        Node::leaves(vec![hole(u64::MAX), chunk]),
        Err(NodeError::Span)
    );
    let branch = |span| Branch {
        span,
        id: TreeId::from_bytes([2; 32]),
    };
    assert_eq!(
        Node::branches(1, vec![branch(u64::MAX), branch(1)]),
        Err(NodeError::Span)
    );
    assert_eq!(
        Node::branches(1, vec![branch(0)]),
        Err(NodeError::Entry { index: 0 })
    );
    assert_eq!(
        Node::branches(16, vec![branch(1)]),
        Err(NodeError::Level { level: 16 })
    );
    assert_eq!(
        Node::branches(0, vec![branch(1)]),
        Err(NodeError::Level { level: 0 })
    );
    assert_eq!(
        Node::leaves(vec![chunk; 1025]),
        Err(NodeError::Count { count: 1025 })
    );
}

fn root() -> DiskRoot {
    let cutter = "block-v1/4096/16384/32768/131072".to_owned();
    DiskRoot {
        length: 1 << 40,
        cutter,
        top: TreeId::from_bytes([7; 32]),
        level: 3,
    }
}

#[test]
fn a_root_reads_back_and_every_shorter_text_is_refused() {
    let bytes = root().encode().unwrap();
    assert_eq!(DiskRoot::decode(&bytes), Ok(root()));
    for end in 0..bytes.len() {
        assert_eq!(DiskRoot::decode(&bytes[..end]), Err(DiskRootError));
    }
    for cutter in ["", "a b", "ü", &"x".repeat(65)] {
        assert_eq!(
            DiskRoot {
                cutter: cutter.into(),
                ..root()
            }
            .encode(),
            Err(DiskRootError)
        );
    }
    assert_eq!(
        DiskRoot {
            level: 16,
            ..root()
        }
        .encode(),
        Err(DiskRootError)
    );
}

proptest! {
    #[test]
    fn a_node_reads_back_as_itself(node in node()) {
        let bytes = node.encode();
        prop_assert!(bytes.len() <= NODE_BYTES_MAX);
        prop_assert_eq!(Node::decode(&bytes), Ok(node));
    }

    #[test]
    fn any_bytes_are_refused_or_are_the_only_encoding(
        node in node(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut bytes = node.encode();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(node) = Node::decode(&bytes) {
            prop_assert_eq!(&node.encode(), &bytes);
        }
        // A root from the same noise: refused or re-encoded, never a panic.
        if let Ok(root) = DiskRoot::decode(&bytes) {
            prop_assert_eq!(root.encode(), Ok(bytes));
        }
    }
}
