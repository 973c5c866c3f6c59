use proptest::prelude::*;

use super::*;

fn id<T>(make: fn([u8; 16]) -> T) -> impl Strategy<Value = T>
where
    T: std::fmt::Debug,
{
    any::<[u8; 16]>().prop_map(make)
}

fn time() -> impl Strategy<Value = Time> {
    any::<u64>().prop_map(Time::from_millis)
}

fn decision() -> impl Strategy<Value = Decision> {
    let fates = [
        Fate::Condemned,
        Fate::Spared,
        Fate::Quarantined,
        Fate::Damaged,
        Fate::Removed,
    ];
    let packs = prop::collection::vec(id(stillwater_types::PackId::from_bytes), 0..9);
    (prop::sample::select(fates.to_vec()), time(), packs).prop_map(|(fate, at, packs)| Decision {
        fate,
        at,
        packs,
    })
}

fn loss() -> impl Strategy<Value = Loss> {
    use crate::pack::{RecordId, RecordKind};
    let kind = prop::sample::select(vec![RecordKind::Chunk, RecordKind::Node]);
    let record = (kind, any::<[u8; 32]>()).prop_map(|(kind, id)| RecordId { kind, id });
    (
        id(stillwater_types::PackId::from_bytes),
        time(),
        prop::collection::vec(record, 0..9),
    )
        .prop_map(|(pack, at, records)| Loss { pack, at, records })
}

fn later_kinds() -> impl Strategy<Value = Entry> {
    let key = any::<[u8; 32]>;
    let signed = (
        prop::collection::vec(any::<u8>(), 0..300),
        key(),
        key(),
        key(),
    );
    prop_oneof![
        (id(PointId::from_bytes), time(), time())
            .prop_map(|(point, until, at)| Entry::PointLocked { point, until, at }),
        (id(PointId::from_bytes), time()).prop_map(|(point, at)| Entry::PointDeleted { point, at }),
        decision().prop_map(Entry::Packs),
        loss().prop_map(Entry::RecordsLost),
        (time(), any::<[u64; 5]>()).prop_map(|(at, [a, b, c, d, e])| {
            Entry::CycleEnded(Cycle {
                at,
                live_bytes: a,
                stored_bytes: b,
                condemned_bytes: c,
                held_bytes: d,
                removed_bytes: e,
            })
        }),
        (key(), ".{0,40}", time()).prop_map(|(key, label, at)| Entry::AdminAdded {
            key,
            label,
            at
        }),
        (key(), time()).prop_map(|(key, at)| Entry::AdminRemoved { key, at }),
        (signed, time()).prop_map(|((statement, key, a, b), at)| {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&a);
            signature[32..].copy_from_slice(&b);
            let signed = Signed {
                statement,
                key,
                signature,
            };
            Entry::Signed { signed, at }
        }),
        (any::<u64>(), time()).prop_map(|(millis, at)| Entry::FloorSet { millis, at }),
        (any::<u64>(), time()).prop_map(|(bytes, at)| Entry::SweepAllowed { bytes, at }),
        (time(), time()).prop_map(|(to, at)| Entry::TimeAdvanced { to, at }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let ids = (
        id(PointId::from_bytes),
        id(DatasetId::from_bytes),
        id(RunId::from_bytes),
    );
    prop_oneof![
        (id(ClusterId::from_bytes), id(NodeId::from_bytes))
            .prop_map(|(cluster, node)| Entry::Identity { cluster, node }),
        (
            id(DatasetId::from_bytes),
            ".{0,64}",
            prop::collection::vec(any::<u8>(), 0..200)
        )
            .prop_map(|(id, label, wrapped_key)| {
                Entry::Dataset(Dataset {
                    id,
                    label,
                    wrapped_key,
                })
            }),
        (id(RunId::from_bytes), id(DatasetId::from_bytes), time())
            .prop_map(|(run, dataset, at)| Entry::SessionOpened { run, dataset, at }),
        (id(RunId::from_bytes), any::<u64>(), time())
            .prop_map(|(run, fence, at)| Entry::SessionClosed { run, fence, at }),
        (ids, any::<u64>(), any::<[u8; 32]>(), time(), time(), time()).prop_map(
            |((point, dataset, run), fence, manifest_hash, committed_at, retain_until, wall_at)| {
                Entry::PointCommitted(Commit {
                    point,
                    dataset,
                    run,
                    fence,
                    manifest_hash,
                    committed_at,
                    retain_until,
                    wall_at,
                })
            }
        ),
        later_kinds(),
    ]
}

proptest! {
    #[test]
    fn an_entry_is_read_back_and_a_cut_one_is_refused(entry in entry()) {
        let (kind, payload) = entry.encode().unwrap();
        prop_assert_eq!(Entry::decode(kind, &payload), Ok(entry));
        prop_assert!(Entry::decode(kind, &payload[..payload.len() - 1]).is_err());
        prop_assert!(Entry::decode(kind, &[payload.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_panic_and_have_one_encoding(
        kind in 0..=KNOWN + 1,
        payload in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        if let Ok(entry) = Entry::decode(kind, &payload) {
            prop_assert_eq!(entry.encode(), Ok((kind, payload)));
        }
    }
}

#[test]
fn a_commit_record_fits_one_sector() {
    let commit = Commit {
        point: PointId::mint(),
        dataset: DatasetId::mint(),
        run: RunId::mint(),
        fence: 1,
        manifest_hash: [1; 32],
        committed_at: Time::default(),
        retain_until: Time::default(),
        wall_at: Time::default(),
    };
    let (kind, payload) = Entry::PointCommitted(commit).encode().unwrap();
    let frame = crate::log::encode(1, crate::log::FrameHash::GENESIS, kind, &payload).unwrap();
    assert_eq!(frame.len(), crate::log::ALIGN);
}

#[test]
fn an_entry_of_a_newer_release_is_named_so() {
    let newer = Error::TooNew {
        what: WHAT,
        found: KNOWN + 1,
        known: KNOWN,
    };
    assert_eq!(Entry::decode(KNOWN + 1, b""), Err(newer));
}
