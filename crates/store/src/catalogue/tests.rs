use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use stillwater_format::Time;
use stillwater_format::commit::Commit;
use stillwater_types::{DatasetId, RunId};

use super::*;
use crate::tests::memfs::MemFs;
use crate::vfs::{RealFs, Vfs};
use crate::{SystemRng, layout};

fn points(count: u64) -> Vec<Point> {
    let point = |sequence| Point {
        sequence,
        commit: Commit {
            point: PointId::from_bytes([sequence as u8; 16]),
            dataset: DatasetId::from_bytes([1; 16]),
            run: RunId::from_bytes([2; 16]),
            fence: sequence,
            manifest_hash: [3; 32],
            committed_at: Time::default(),
            retain_until: Time::default(),
            wall_at: Time::default(),
        },
    };
    (1..=count).map(|n| point(n * 3)).collect()
}

fn memory(points: &[Point]) -> MemoryCatalogue {
    let mut memory = MemoryCatalogue::default();
    points
        .iter()
        .for_each(|point| memory.insert(point).unwrap());
    memory
}

fn check(points: &mut Points, truth: &[Point]) {
    let again = || Ok::<_, Infallible>(truth.to_vec());
    let Ok(page) = points.ask(|inner| inner.page(0, 100), again);
    assert_eq!(page, truth);
    for point in truth {
        let Ok(found) = points.ask(|inner| inner.get(point.commit.point), again);
        assert_eq!(found, Some(*point));
    }
}

#[test]
fn points_that_a_crash_lost_are_filled_in() {
    let truth = points(5);
    let mut opened = Points::open(Box::new(memory(&truth[..3])), &truth);
    check(&mut opened, &truth);
    assert_eq!(opened.rebuilt_count(), 0);
}

#[test]
fn a_point_that_the_log_does_not_have_condemns_the_catalogue() {
    let truth = points(5);
    let mut opened = Points::open(Box::new(memory(&truth)), &truth[..4]);
    check(&mut opened, &truth[..4]);
    assert_eq!(opened.rebuilt_count(), 1);
}

#[test]
fn a_point_that_differs_from_the_log_condemns_the_catalogue() {
    let truth = points(5);
    let mut other = truth.clone();
    other[2].commit.fence += 1;
    let mut opened = Points::open(Box::new(memory(&other)), &truth);
    check(&mut opened, &truth);
    assert_eq!(opened.rebuilt_count(), 1);
}

/// Fails or panics until it was reset so many times.
struct Sick {
    inner: MemoryCatalogue,
    resets_needed: u32,
    panics: bool,
}

impl Sick {
    fn check(&self) -> Result<(), CatalogueError> {
        match (self.resets_needed, self.panics) {
            (0, _) => Ok(()),
            (_, true) => panic!("sick"),
            (_, false) => Err(CatalogueError("sick".into())),
        }
    }
}

impl Catalogue for Sick {
    fn open(&mut self) -> Result<(), CatalogueError> {
        self.check()
    }
    fn insert(&mut self, point: &Point) -> Result<(), CatalogueError> {
        self.check().and_then(|()| self.inner.insert(point))
    }
    fn remove(&mut self, id: PointId) -> Result<(), CatalogueError> {
        self.check()?;
        self.inner.remove(id)
    }

    fn get(&self, id: PointId) -> Result<Option<Point>, CatalogueError> {
        self.check().and_then(|()| self.inner.get(id))
    }
    fn page(&self, sequence: u64, limit: usize) -> Result<Vec<Point>, CatalogueError> {
        self.check().and_then(|()| self.inner.page(sequence, limit))
    }
    fn count(&self) -> Result<u64, CatalogueError> {
        self.check().and_then(|()| self.inner.count())
    }
    fn reset(&mut self) -> Result<(), CatalogueError> {
        self.resets_needed = self.resets_needed.saturating_sub(1);
        self.check().and_then(|()| self.inner.reset())
    }
}

#[test]
fn an_engine_that_fails_or_panics_is_made_anew_or_replaced() {
    let truth = points(4);
    for (resets_needed, panics) in [(1, false), (1, true), (9, false), (9, true)] {
        let sick = Sick {
            inner: MemoryCatalogue::default(),
            resets_needed,
            panics,
        };
        let mut opened = Points::open(Box::new(sick), &truth);
        check(&mut opened, &truth);
        assert_eq!(opened.rebuilt_count(), 1);
    }
}

/// Something that happens to a catalogue.
#[derive(Debug, Clone)]
enum Turn {
    Insert(u64),
    InsertAll(Vec<u64>),
    Remove(u64),
    /// The process ends and another one begins.
    Reopen,
    Reset,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let number = || 1..30u64;
    let turn = prop_oneof![
        8 => number().prop_map(Turn::Insert),
        1 => prop::collection::vec(number(), 0..9).prop_map(Turn::InsertAll),
        4 => number().prop_map(Turn::Remove),
        1 => Just(Turn::Reopen),
        1 => Just(Turn::Reset),
    ];
    prop::collection::vec(turn, 0..40)
}

/// A point that may come anew with another lock.
fn point(number: u64, turn: usize) -> Point {
    let [.., last] = points(number)[..] else {
        panic!("numbers begin at 1")
    };
    let commit = Commit {
        retain_until: Time::from_millis(turn as u64),
        ..last.commit
    };
    Point { commit, ..last }
}

/// Opens what another catalogue of this process had open. sled lets go of its lock on a thread of its own, a
/// little after it was dropped; a process that has ended has no such thread.
fn open_after_another(catalogue: &mut impl Catalogue) {
    let is_locked = |outcome: &Result<(), CatalogueError>| {
        let lock = |error: &CatalogueError| error.0.contains("could not acquire lock");
        outcome.as_ref().is_err_and(lock)
    };
    let mut outcome = catalogue.open();
    for _ in 0..2000 {
        if !is_locked(&outcome) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
        outcome = catalogue.open();
    }
    outcome.unwrap();
}

/// Plays the turns against a plain map; `begin` gives the catalogue of the next process.
fn play<C: Catalogue>(turns: &[Turn], mut begin: impl FnMut() -> C) {
    let mut model = BTreeMap::new();
    let mut catalogue = begin();
    catalogue.open().unwrap();
    for (at, turn) in turns.iter().enumerate() {
        match turn {
            Turn::Insert(number) => {
                catalogue.insert(&point(*number, at)).unwrap();
                model.insert(*number, point(*number, at));
            }
            Turn::InsertAll(numbers) => {
                let many: Vec<_> = numbers.iter().map(|number| point(*number, at)).collect();
                catalogue.insert_all(&many).unwrap();
                model.extend(numbers.iter().copied().zip(many));
            }
            Turn::Remove(number) => {
                catalogue.remove(point(*number, at).commit.point).unwrap();
                model.remove(number);
            }
            Turn::Reopen => {
                drop(catalogue);
                catalogue = begin();
                open_after_another(&mut catalogue);
            }
            Turn::Reset => {
                catalogue.reset().unwrap();
                model.clear();
            }
        }
        let truth: Vec<Point> = model.values().copied().collect();
        assert_eq!(catalogue.count().unwrap(), truth.len() as u64);
        assert_eq!(catalogue.page(0, 100).unwrap(), truth);
        let after = truth.get(2).map_or(0, |point| point.sequence);
        let some = truth.iter().filter(|point| point.sequence > after).take(3);
        assert_eq!(
            catalogue.page(after, 3).unwrap(),
            some.copied().collect::<Vec<_>>()
        );
        for number in 1..30 {
            let found = catalogue.get(point(number, at).commit.point).unwrap();
            assert_eq!(found.as_ref(), model.get(&number));
        }
    }
}

fn disk() -> (tempfile::TempDir, Arc<dyn Vfs>) {
    let dir = tempfile::tempdir().unwrap();
    let vfs = RealFs::open(dir.path()).unwrap();
    vfs.make_dir(Path::new(layout::QUARANTINE)).unwrap();
    (dir, Arc::new(vfs))
}

fn memory_disk() -> MemFs {
    let fs = MemFs::new();
    fs.make_dir(Path::new(layout::QUARANTINE)).unwrap();
    fs
}

fn redb(fs: &MemFs) -> RedbCatalogue {
    RedbCatalogue::new(Arc::new(fs.clone()), Arc::new(SystemRng))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn sled_agrees_with_a_plain_map(turns in turns()) {
        let (dir, vfs) = disk();
        play(&turns, || SledCatalogue::new(dir.path(), vfs.clone(), Arc::new(SystemRng)));
    }

    #[test]
    fn redb_agrees_with_a_plain_map(turns in turns()) {
        let fs = memory_disk();
        play(&turns, || redb(&fs));
    }

    #[test]
    fn the_catalogue_in_memory_agrees_with_a_plain_map(
        turns in turns().prop_map(|mut turns| {
            turns.retain(|turn| !matches!(turn, Turn::Reopen));
            turns
        }),
    ) {
        play(&turns, MemoryCatalogue::default);
    }

    #[test]
    fn a_garbled_redb_tells_the_truth_or_is_made_anew(
        count in 0..20u64,
        at in any::<prop::sample::Index>(),
        length in 1..5000usize,
        byte in any::<u8>(),
    ) {
        let (fs, truth) = (memory_disk(), points(count));
        drop(Points::open(Box::new(redb(&fs)), &truth));
        let path = Path::new(layout::CATALOGUE_FILE);
        let mut bytes = fs.bytes(path).unwrap();
        let at = at.index(bytes.len());
        bytes.iter_mut().skip(at).take(length).for_each(|old| *old = byte);
        fs.set_bytes(path, bytes);
        let mut opened = Points::open(Box::new(redb(&fs)), &truth);
        check(&mut opened, &truth);
    }
}

#[test]
fn redb_keeps_what_it_committed_over_a_power_cut() {
    let (fs, truth) = (memory_disk(), points(5));
    fs.sync_dir(Path::new(".")).unwrap();
    drop(Points::open(Box::new(redb(&fs)), &truth));
    for seed in 0..32u32 {
        let mut coin = seed;
        let cut = fs.crash(&mut || {
            coin = coin.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            coin >> 31 == 1
        });
        let mut opened = Points::open(Box::new(redb(&cut)), &truth);
        check(&mut opened, &truth);
        assert_eq!(opened.rebuilt_count(), 0);
        assert_eq!(opened.ask(|inner| inner.count(), || Err(())), Ok(5));
    }
}
