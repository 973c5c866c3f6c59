//! What there are two copies of: manifests, the commit log, superblocks.

use super::*;

#[test]
fn a_damaged_copy_of_a_manifest_is_written_anew_by_scrub_and_by_verification() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let kept = back_up(&store, 1, &[1, 2, 3]).unwrap();
    drop(store);
    for dir in ["manifests", "copy/manifests"] {
        let [path] = fs.files_in(dir).try_into().unwrap();
        let good = fs.bytes(&path).unwrap();
        for is_gone in [false, true] {
            for by_scrub in [false, true] {
                let hurt = fs.restart();
                let store = rig.open(&hurt).unwrap();
                if is_gone {
                    hurt.remove(&path);
                } else {
                    edit(&hurt, &path, |bytes| bytes[40] ^= 1);
                }
                let healed = if by_scrub {
                    store.scrub(ALL, &()).unwrap().healed_copy_count
                } else {
                    let found = store.verify_point(kept.point, &()).unwrap();
                    assert!(found.is_whole());
                    found.healed_manifest_count
                };
                assert_eq!(healed, 1);
                assert_eq!(hurt.bytes(&path).as_ref(), Some(&good));
                assert_eq!(hurt.files_in("quarantine").len(), usize::from(!is_gone));
            }
        }
    }
}

#[test]
fn a_point_of_which_no_manifest_is_good_is_degraded_and_its_copies_stay() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let kept = back_up(&store, 1, &[1, 2, 3]).unwrap();
    let other = back_up(&store, 2, &[4, 5]).unwrap();
    let path = |dir: &str| {
        let name = format!("{}.mf", kept.point);
        let mut found = fs.files_in(dir).into_iter();
        found
            .rfind(move |p| p.file_name().unwrap().to_str() == Some(&name))
            .unwrap()
    };
    for dir in ["manifests", "copy/manifests"] {
        edit(&fs, &path(dir), |bytes| bytes[40] ^= 1);
    }
    store.scrub(ALL, &()).unwrap();
    assert_eq!(store.health().degraded_points, [kept.point]);
    let verified = store.verify_point(kept.point, &());
    assert!(matches!(verified, Err(Error::ManifestUnreadable(point)) if point == kept.point));
    assert!(store.verify_point(other.point, &()).unwrap().is_whole());
    assert_eq!(fs.files_in("quarantine").len(), 0);
}

#[test]
fn a_damaged_copy_of_the_commit_log_is_written_anew_and_continued() {
    for name in ["commit.log", "copy/commit.log"] {
        for change in [
            |b: &mut Vec<u8>| b[600] ^= 1,
            |b: &mut Vec<u8>| b.truncate(512),
            Vec::clear,
        ] {
            let rig = Rig::default();
            let (fs, store) = rig.fresh();
            let first = back_up(&store, 1, &[1, 2]).unwrap();
            edit(&fs, Path::new(name), change);
            assert_eq!(store.scrub(ALL, &()).unwrap().healed_copy_count, 1);
            let both = |fs: &MemFs| {
                ["commit.log", "copy/commit.log"].map(|name| fs.bytes(Path::new(name)).unwrap())
            };
            let [one, two] = both(&fs);
            assert!(one == two && fs.files_in("quarantine").len() == 1);
            let second = back_up(&store, 2, &[3, 4]).unwrap();
            let [one, two] = both(&fs);
            assert_eq!(one, two);
            drop(store);
            let store = rig.open(&fs).unwrap();
            for kept in [first, second] {
                check_point(&store, kept.point, &kept.seeds);
            }
        }
    }
}

#[test]
fn a_log_that_is_damaged_in_both_copies_is_told_and_restores_go_on() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let kept = back_up(&store, 1, &[1, 2]).unwrap();
    for name in ["commit.log", "copy/commit.log"] {
        edit(&fs, Path::new(name), |bytes| bytes[600] ^= 1);
    }
    store.scrub(ALL, &()).unwrap();
    assert!(store.health().is_log_damaged);
    check_point(&store, kept.point, &kept.seeds);
}

#[test]
fn a_damaged_superblock_is_written_anew() {
    for name in ["super.a", "super.b"] {
        let rig = Rig::default();
        let (fs, store) = rig.fresh();
        store.tick().unwrap();
        edit(&fs, Path::new(name), |bytes| bytes[20] ^= 1);
        assert_eq!(
            store.scrub(ALL, &()).unwrap().healed_copy_count,
            1,
            "{name}"
        );
        drop(store);
        for other in ["super.a", "super.b"] {
            let hurt = fs.restart();
            hurt.remove(Path::new(other));
            rig.open(&hurt).unwrap();
        }
    }
}
