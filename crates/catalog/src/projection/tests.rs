use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const AT: Position = Position {
    sequence: 7,
    hash: [9; 32],
};

fn put(key: u8, value: &str) -> Write {
    Write::Put("runs", vec![key], value.as_bytes().to_vec())
}

/// A rebuild that writes one row and counts how often it ran.
fn rebuild(count: &Arc<AtomicU32>) -> impl Fn(&dyn KeyValue) -> Result<(), Broken> + use<> {
    let count = Arc::clone(count);
    move |store| {
        count.fetch_add(1, Ordering::SeqCst);
        store.write(&[put(1, "rebuilt")], Some(&AT))
    }
}

fn open(dir: &Path, count: &Arc<AtomicU32>) -> Projection {
    Projection::open(dir, |watermark| *watermark == AT, rebuild(count))
}

#[test]
fn rows_survive_and_are_paged_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let count = Arc::default();
    let projection = open(&dir.path().join("p"), &count);
    let writes: Vec<_> = (2..6).map(|key| put(key, "kept")).collect();
    projection.write(&writes, Some(&AT));
    projection.write(
        &[
            Write::Put("run", vec![1], vec![]),
            Write::Remove("runs", vec![3]),
        ],
        None,
    );
    drop(projection);
    let projection = open(&dir.path().join("p"), &count);
    assert_eq!(
        count.load(Ordering::SeqCst),
        1,
        "only the first opening had to rebuild"
    );
    let keys = |before: Option<&[u8]>, limit| -> Vec<u8> {
        projection
            .page("runs", before, limit)
            .into_iter()
            .map(|(key, _)| key[0])
            .collect()
    };
    assert_eq!(keys(None, 3), [5, 4, 2]);
    assert_eq!(keys(Some(&[4]), 9), [2, 1]);
    assert_eq!(projection.load("runs", &[5]).unwrap(), b"kept");
    assert_eq!(projection.load("runs", &[3]), None);
}

#[test]
fn rows_of_another_journal_are_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let count = Arc::default();
    let projection = open(dir.path(), &count);
    projection.write(&[put(9, "stale")], Some(&Position { sequence: 8, ..AT }));
    drop(projection);
    let projection = open(dir.path(), &count);
    assert_eq!(projection.load("runs", &[9]), None);
    assert_eq!(projection.load("runs", &[1]).unwrap(), b"rebuilt");
    assert_eq!(projection.watermark(), Some(AT));
}

#[test]
fn a_directory_of_garbage_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let rows = dir.path().join("p");
    let count = Arc::default();
    drop(open(&rows, &count));
    for file in ["db", "conf"] {
        std::fs::write(rows.join(file), [0x5a; 4096]).unwrap();
    }
    let projection = open(&rows, &count);
    assert_eq!(projection.load("runs", &[1]).unwrap(), b"rebuilt");
}

/// A store that breaks its n-th call, by an error or by a panic.
struct Brittle {
    below: Box<dyn KeyValue>,
    calls: Arc<AtomicU32>,
    panics: bool,
}

impl Brittle {
    fn pass(&self) -> Result<&dyn KeyValue, Broken> {
        match self.calls.fetch_sub(1, Ordering::SeqCst) {
            0 if self.panics => panic!("planned"),
            0 => Err("planned".into()),
            _ => Ok(self.below.as_ref()),
        }
    }
}

impl KeyValue for Brittle {
    fn load(&self, tree: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        self.pass()?.load(tree, key)
    }
    fn page(&self, tree: &str, before: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, Broken> {
        self.pass()?.page(tree, before, limit)
    }
    fn write(&self, writes: &[Write], watermark: Option<&Position>) -> Result<(), Broken> {
        self.pass()?.write(writes, watermark)
    }
    fn watermark(&self) -> Result<Option<Position>, Broken> {
        self.pass()?.watermark()
    }
}

#[test]
fn a_failure_or_panic_at_any_call_is_healed_by_a_rebuild() {
    for panics in [false, true] {
        for fails_at in 0..6 {
            let dir = tempfile::tempdir().unwrap();
            let calls = Arc::new(AtomicU32::new(fails_at));
            let opener = {
                let calls = Arc::clone(&calls);
                move |dir: &Path| -> Result<Box<dyn KeyValue>, Broken> {
                    let below = sled_store::open(dir)?;
                    Ok(Box::new(Brittle {
                        below,
                        calls: Arc::clone(&calls),
                        panics,
                    }))
                }
            };
            let count = Arc::default();
            let rebuild = Box::new(rebuild(&count));
            let projection =
                Projection::open_with(Box::new(opener), dir.path(), |at| *at == AT, rebuild);
            projection.write(&[put(2, "cached")], None);
            assert_eq!(projection.load("runs", &[1]).unwrap(), b"rebuilt");
            assert_eq!(projection.page("runs", None, 9).last().unwrap().0, [1]);
            assert_eq!(projection.watermark(), Some(AT));
        }
    }
}
