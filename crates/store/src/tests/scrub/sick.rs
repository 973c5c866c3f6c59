//! A medium that fails to read, for a while or for good.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::vfs::{Access, File, Medium, Name, Room, Vfs};

/// EIO on Linux.
const EIO: i32 = 5;
/// Permission denied.
pub(super) const EACCES: i32 = 13;

pub(super) type Spots = Arc<Mutex<Vec<(PathBuf, Range<u64>, i32)>>>;

#[derive(Clone)]
pub(super) struct SickFs {
    pub(super) fs: MemFs,
    pub(super) spots: Spots,
    /// How many reads of packs are still to give a wrong byte.
    pub(super) wrong: Arc<AtomicU32>,
}

struct SickFile {
    file: Box<dyn File>,
    path: PathBuf,
    sick: SickFs,
}

impl SickFs {
    pub(super) fn fail(&self, path: &Path, range: Range<u64>, code: i32) {
        self.spots
            .lock()
            .unwrap()
            .push((path.to_owned(), range, code));
    }

    fn heal(&self) {
        self.spots.lock().unwrap().clear();
    }
}

impl Vfs for SickFs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.fs.create_new(path)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let (file, path) = (self.fs.open(path, access)?, path.to_owned());
        let sick = self.clone();
        Ok(Box::new(SickFile { file, path, sick }))
    }
    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        for (path, _, _) in self.spots.lock().unwrap().iter_mut() {
            if path == from {
                *path = to.to_owned();
            }
        }
        self.fs.rename_noreplace(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.fs.remove_file(path)
    }
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.fs.make_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Name>> {
        self.fs.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.fs.sync_dir(dir)
    }
    fn room(&self) -> io::Result<Room> {
        self.fs.room()
    }
    fn medium(&self) -> io::Result<Medium> {
        self.fs.medium()
    }
}

impl File for SickFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset + buffer.len() as u64;
        for (path, range, code) in self.sick.spots.lock().unwrap().iter() {
            if *path == self.path && range.start < end && offset < range.end {
                return Err(io::Error::from_raw_os_error(*code));
            }
        }
        let count = self.file.read_at(buffer, offset)?;
        let less = |left: u32| left.checked_sub(1);
        let wrong = &self.sick.wrong;
        let is_wrong = self.path.starts_with("packs")
            && wrong
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
                .is_ok();
        if let Some(byte) = buffer.first_mut().filter(|_| is_wrong) {
            *byte ^= 1;
        }
        Ok(count)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file.reserve(offset, length)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}

fn sick() -> (Rig, SickFs, Store, Vec<Kept>) {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let points = three(&store);
    drop(store);
    let (spots, wrong) = (Spots::default(), Arc::default());
    let sick = SickFs { fs, spots, wrong };
    let store = open(&rig, &sick);
    (rig, sick, store, points)
}

pub(super) fn open(rig: &Rig, sick: &SickFs) -> Store {
    let env = Environment {
        vfs: Arc::new(sick.clone()),
        ..rig.env(&sick.fs)
    };
    Store::open(env, OPTIONS).unwrap()
}

#[test]
fn a_read_that_fails_for_a_while_is_no_damage() {
    let (rig, sick, store, points) = sick();
    let path = packs(&sick.fs).remove(0);
    sick.fail(&path, 0..1 << 20, EIO);
    let done = store.scrub(ALL, &()).unwrap();
    assert_eq!((done.postponed_pack_count, done.damaged_pack_count), (1, 0));
    assert_eq!(store.health().unreadable_pack_count, 1);
    assert_eq!(
        store.scrub(ALL, &()).unwrap().pack_count,
        0,
        "not before an hour"
    );
    sick.heal();
    rig.clock.advance(HOUR);
    assert_eq!(store.scrub(ALL, &()).unwrap().pack_count, 1);
    assert_eq!(store.health().unreadable_pack_count, 0);
    check_named(&store, &points, &BTreeSet::new());
    assert_eq!(sick.fs.files_in("quarantine").len(), 0);
}

#[test]
fn a_wrong_byte_that_comes_once_is_no_damage() {
    let (_, sick, store, points) = sick();
    // The end is read first, and then all from the beginning on.
    sick.wrong.store(2, Ordering::SeqCst);
    let done = store.scrub(ALL, &()).unwrap();
    assert_eq!(sick.wrong.load(Ordering::SeqCst), 0);
    assert_eq!(done.damaged_pack_count, 0);
    assert_eq!(store.scrub_read_errors(), 1);
    check_named(&store, &points, &BTreeSet::new());
}

#[test]
fn a_read_that_fails_again_is_damage_and_what_comes_back_is_taken_back() {
    let (rig, sick, store, points) = sick();
    let path = packs(&sick.fs).remove(0);
    let lost = ids(&sick.fs.bytes(&path).unwrap());
    sick.fail(&path, 0..1 << 20, EIO);
    store.scrub(ALL, &()).unwrap();
    // Others must have been read well in between.
    back_up(&store, 9, &[90, 91]).unwrap();
    store.scrub(ALL, &()).unwrap();
    rig.clock.advance(HOUR);
    assert_eq!(store.scrub(ALL, &()).unwrap().damaged_pack_count, 1);
    check_named(&store, &points, &lost);
    sick.heal();
    store.request_scrub();
    let done = store.scrub(ALL, &()).unwrap();
    assert_eq!(
        done.salvaged_record_count,
        lost.len() as u64,
        "from quarantine"
    );
    check_named(&store, &points, &BTreeSet::new());
    drop(store);
    check_named(&open(&rig, &sick), &points, &BTreeSet::new());
}

#[test]
fn a_machine_that_reads_nothing_sets_nothing_aside() {
    let (rig, sick, store, points) = sick();
    for path in packs(&sick.fs) {
        sick.fail(&path, 0..1 << 20, EIO);
    }
    for _ in 0..5 {
        let done = store.scrub(ALL, &());
        assert_eq!(done.unwrap().damaged_pack_count, 0);
        rig.clock.advance(2 * HOUR);
    }
    sick.heal();
    check_named_after_survey(&store, &points, &BTreeSet::new());
}

#[test]
fn a_file_that_may_not_be_opened_is_never_damage() {
    let (rig, sick, store, points) = sick();
    let path = packs(&sick.fs).remove(0);
    sick.fail(&path, 0..1 << 20, EACCES);
    for _ in 0..5 {
        assert_eq!(store.scrub(ALL, &()).unwrap().damaged_pack_count, 0);
        rig.clock.advance(2 * HOUR);
    }
    sick.heal();
    check_named_after_survey(&store, &points, &BTreeSet::new());
}

#[test]
fn a_spot_that_cannot_be_read_costs_only_the_records_there() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let seeds: Vec<u64> = (100..160).collect();
    let points = vec![back_up(&store, 1, &seeds).unwrap()];
    drop(store);
    let (spots, wrong) = (Spots::default(), Arc::default());
    let sick = SickFs { fs, spots, wrong };
    let store = open(&rig, &sick);
    let path = packs(&sick.fs)
        .into_iter()
        .find(|path| ids(&sick.fs.bytes(path).unwrap()).contains(&chunk_id(100).into()));
    let path = path.unwrap();
    let table = table(&sick.fs.bytes(&path).unwrap());
    sick.fail(&path, 4096..8192, EIO);
    store.scrub(ALL, &()).unwrap();
    rig.clock.advance(HOUR);
    let done = store.scrub(ALL, &()).unwrap();
    let hit = table
        .iter()
        .filter(|(_, start, end)| *start < 8192 && 4096 < *end);
    let lost: BTreeSet<_> = hit.map(|(id, _, _)| *id).collect();
    assert_eq!(done.damaged_pack_count, 1);
    assert_eq!(done.lost_record_count, lost.len() as u64);
    assert!(!lost.is_empty() && lost.len() < seeds.len());
    check_named(&store, &points, &lost);
}
