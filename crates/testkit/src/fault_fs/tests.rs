//! What a crash may leave, and what it may not.

use std::collections::BTreeSet;

use super::*;

const JOURNALS: [Journal; 3] = [Journal::Ordered, Journal::Scattered, Journal::Torn];

fn write(fs: &FaultFs, path: &str, bytes: &[u8]) -> Box<dyn File> {
    let file = fs.create_new(Path::new(path)).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

fn sync_root(fs: &FaultFs) {
    fs.sync_dir(Path::new(".")).unwrap();
}

/// Every state that many crashes leave, as paths and bytes.
fn outcomes(fs: &FaultFs, journal: Journal) -> BTreeSet<Vec<(String, Vec<u8>)>> {
    let crash = |seed| {
        let left = fs.crash(journal, &mut Dice::new(seed));
        let file = |path: String| (path.clone(), left.bytes(&path));
        left.paths().into_iter().map(file).collect()
    };
    (0..400).map(crash).collect()
}

#[test]
fn what_is_synced_with_its_directory_stays() {
    let fs = FaultFs::default();
    write(&fs, "a", b"bytes").sync().unwrap();
    sync_root(&fs);
    assert!(fs.is_durable());
    for journal in JOURNALS {
        let kept = BTreeSet::from([vec![("a".into(), b"bytes".to_vec())]]);
        assert_eq!(outcomes(&fs, journal), kept);
    }
}

#[test]
fn a_synced_file_whose_directory_is_not_may_lose_its_name() {
    let fs = FaultFs::default();
    write(&fs, "a", b"bytes").sync().unwrap();
    for journal in JOURNALS {
        let either = BTreeSet::from([vec![], vec![("a".into(), b"bytes".to_vec())]]);
        assert_eq!(outcomes(&fs, journal), either);
    }
}

#[test]
fn a_name_that_is_synced_keeps_no_bytes() {
    let fs = FaultFs::default();
    let _file = write(&fs, "a", &[7; 1300]);
    sync_root(&fs);
    let outcomes = outcomes(&fs, Journal::Ordered);
    let lengths: BTreeSet<_> = outcomes.iter().map(|files| files[0].1.len()).collect();
    assert_eq!(lengths, BTreeSet::from([0, 512, 1024, 1300]));
    let sector = |at: usize| {
        let whole = outcomes.iter().filter(|files| files[0].1.len() == 1300);
        let first: BTreeSet<_> = whole.map(|files| files[0].1[at]).collect();
        assert_eq!(first, BTreeSet::from([0, 7]));
    };
    [0, 512, 1024].into_iter().for_each(sector);
}

#[test]
fn only_a_torn_journal_leaves_half_a_rename() {
    let fs = FaultFs::default();
    fs.make_dir(Path::new("d")).unwrap();
    write(&fs, "a", b"x").sync().unwrap();
    sync_root(&fs);
    fs.rename_noreplace(Path::new("a"), Path::new("d/b"))
        .unwrap();
    let names = |journal| -> BTreeSet<Vec<String>> {
        let outcomes = outcomes(&fs, journal);
        let names = |files: &Vec<(String, Vec<u8>)>| files.iter().map(|(p, _)| p.clone()).collect();
        outcomes.iter().map(names).collect()
    };
    let whole = BTreeSet::from([vec!["a".to_owned()], vec!["d/b".to_owned()]]);
    assert_eq!(names(Journal::Ordered), whole);
    assert_eq!(names(Journal::Scattered), whole);
    let mut torn = whole;
    torn.extend([vec![], vec!["a".to_owned(), "d/b".to_owned()]]);
    assert_eq!(names(Journal::Torn), torn);
}

#[test]
fn an_ordered_journal_keeps_what_came_before() {
    let fs = FaultFs::default();
    for name in ["a", "b", "c"] {
        write(&fs, name, b"x").sync().unwrap();
    }
    let count = |journal| outcomes(&fs, journal).len();
    assert_eq!(count(Journal::Ordered), 4);
    assert_eq!(count(Journal::Scattered), 8);
}

#[test]
fn pages_that_a_failed_sync_lost_do_not_come_with_the_next_one() {
    for after in [AfterFailedSync::Kept, AfterFailedSync::Dropped] {
        let fs = FaultFs::default();
        let file = write(&fs, "a", b"old");
        file.sync().unwrap();
        sync_root(&fs);
        file.write_at(b"new", 0).unwrap();
        fs.trouble_in(1, Trouble::LosesPages(after));
        assert!(file.sync().is_err());
        file.sync().unwrap();
        let seen: &[u8] = match after {
            AfterFailedSync::Kept => b"new",
            AfterFailedSync::Dropped => b"old",
        };
        assert_eq!(fs.bytes("a"), seen);
        let left = fs.crash(Journal::Ordered, &mut Dice::new(1));
        assert_eq!(left.bytes("a"), b"old");
    }
}

#[test]
fn each_trouble_strikes_the_call_that_it_was_planned_for() {
    let fs = FaultFs::default();
    let file = write(&fs, "a", b"12345678");
    let mut buffer = [0; 8];
    fs.trouble_in(2, Trouble::Fails(ErrorKind::Other));
    file.read_at(&mut buffer, 0).unwrap();
    assert!(file.read_at(&mut buffer, 0).is_err());
    assert_eq!(fs.struck().as_deref(), Some("Read a"));
    fs.trouble_in(1, Trouble::EndsEarly);
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 4);
    fs.trouble_in(1, Trouble::Flips(3));
    file.read_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"92345678");
    fs.trouble_in(1, Trouble::NoRoom);
    file.read_at(&mut buffer, 0).unwrap();
    let full = file.write_at(b"more", 8).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    fs.heal();
    fs.trouble_in(1, Trouble::Dies);
    assert!(file.write_at(b"last", 8).is_err());
    assert!(file.read_at(&mut buffer, 0).is_err());
    assert_eq!(fs.bytes("a"), b"12345678last");
}

#[test]
fn room_is_taken_by_bytes_and_by_reservations() {
    let fs = FaultFs::default();
    fs.set_capacity(1000);
    let file = write(&fs, "a", &[1; 100]);
    file.reserve(0, 900).unwrap();
    assert_eq!(fs.taken_bytes(), 900);
    assert!(write(&fs, "b", &[1; 100]).write_at(&[1], 100).is_err());
    file.set_len(100).unwrap();
    assert_eq!(fs.taken_bytes(), 200);
    fs.remove_file(Path::new("a")).unwrap();
    assert_eq!(fs.room().unwrap().free_bytes, 900);
}

#[test]
fn a_copy_goes_its_own_way() {
    let fs = FaultFs::default();
    let file = write(&fs, "a", b"one");
    assert!(file.try_lock().unwrap());
    let copy = fs.copy();
    let other = copy.open(Path::new("a"), Access::Write).unwrap();
    assert!(other.try_lock().unwrap());
    other.write_at(b"two", 0).unwrap();
    assert_eq!(
        (fs.bytes("a"), copy.bytes("a")),
        (b"one".to_vec(), b"two".to_vec())
    );
}

#[test]
fn the_trace_tells_two_histories_apart() {
    let history = |bytes: &[u8]| {
        let fs = FaultFs::default();
        write(&fs, "a", bytes).sync().unwrap();
        fs.trace()
    };
    assert_eq!(history(b"x"), history(b"x"));
    assert_ne!(history(b"x"), history(b"y"));
}
