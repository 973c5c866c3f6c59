//! The golden repository of format version 1, read through the store and without it.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its setting too")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stillwater_chunking::{Decompressor, Step, TreeReader, identify};
use stillwater_compat::{Expected, ExpectedPoint, Hands, Seeded};
use stillwater_format::commit::{AdminKey, Entry, Fate};
use stillwater_format::log::Scanner;
use stillwater_format::manifest::{Disk, Manifest};
use stillwater_format::node::{DiskRoot, Leaf};
use stillwater_format::pack::{Codec, RecordId, RecordKind, scan};
use stillwater_recovery::{Error, ImageFormat, Recovery, Restored};
use stillwater_seal::{ChunkContext, DatasetKey, Opener, RecoveryKey, WrappedDatasetKey};
use stillwater_store::vfs::RealFs;
use stillwater_store::{Environment, MemoryCatalogue, MemoryIndex, Options, Store, Verifier};
use stillwater_types::{DatasetId, Extent, PointId};
use tempfile::TempDir;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("v1/repository")
}

fn expected() -> Expected {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("v1/expected.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn key() -> RecoveryKey {
    expected().recovery_key.parse().unwrap()
}

/// A copy to be damaged.
struct Copied(TempDir);

impl Copied {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(&golden(), dir.path());
        Self(dir)
    }

    /// With the empty directories that a version control system drops.
    fn complete(self) -> Self {
        let fixed = [
            "tmp",
            "quarantine",
            "packs",
            "copy",
            "manifests",
            "copy/manifests",
        ];
        let fans = ["packs", "manifests", "copy/manifests"];
        let fanned = fans
            .iter()
            .flat_map(|dir| (0..=255).map(move |n| format!("{dir}/{n:02x}")));
        for dir in fixed.iter().map(|dir| (*dir).to_owned()).chain(fanned) {
            fs::create_dir_all(self.path(&dir)).unwrap();
        }
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn remove(&self, name: &str) {
        let path = self.path(name);
        match path.is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }

    /// Flips a byte.
    fn flip(&self, name: &str, at: u64) {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(self.path(name))
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[!byte[0]], at).unwrap();
    }

    fn packs(&self) -> Vec<String> {
        let mut found = Vec::new();
        for dir in fs::read_dir(self.path("packs")).unwrap() {
            for pack in fs::read_dir(dir.unwrap().path()).unwrap() {
                let path = pack.unwrap().path();
                found.push(
                    path.strip_prefix(self.0.path())
                        .unwrap()
                        .display()
                        .to_string(),
                );
            }
        }
        found.sort();
        found
    }

    /// The pack with most bytes, which holds the first disk.
    fn largest(&self) -> String {
        let length = |pack: &String| self.path(pack).metadata().unwrap().len();
        self.packs().into_iter().max_by_key(length).unwrap()
    }

    fn open(&self) -> Recovery {
        open(self.0.path()).unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn open(dir: &Path) -> Result<Recovery, Error> {
    Recovery::open(dir, &key(), &mut |_| {})
}

/// The hash of a disk after it was restored.
fn restore(
    recovery: &mut Recovery,
    point: PointId,
    key: i32,
    fill_zeros: bool,
) -> Result<(Restored, Vec<u8>), Error> {
    let manifest = recovery.manifest(point, true)?;
    let disk = manifest.disks.iter().find(|disk| disk.key == key).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.raw");
    let target = (path.as_path(), ImageFormat::Raw);
    let (draft, restored) = recovery.restore(&manifest, disk, target, fill_zeros, &mut |_| {})?;
    draft.publish()?;
    Ok((restored, fs::read(path).unwrap()))
}

#[track_caller]
fn check_point(recovery: &mut Recovery, point: &ExpectedPoint) {
    let manifest = recovery.manifest(point.point_id, true).unwrap();
    assert_eq!(manifest.vm_name, point.vm_name);
    let section = recovery.section(&manifest).unwrap().expect("a section");
    assert_eq!(section.config_xml, point.config_xml);
    assert_eq!(manifest.disks.len(), point.disks.len());
    for (disk, found) in point.disks.iter().zip(&manifest.disks) {
        assert_eq!((disk.key, disk.length), (found.key, found.root.length));
        assert_eq!(recovery.survey(found), vec![]);
        let (restored, bytes) = restore(recovery, point.point_id, disk.key, false).unwrap();
        assert_eq!(restored.zero_filled, vec![]);
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), disk.blake3);
    }
}

#[track_caller]
fn check_all(recovery: &mut Recovery) {
    let expected = expected();
    let found = recovery.points().to_vec();
    assert_eq!(found.len(), expected.points.len());
    for (point, found) in expected.points.iter().zip(&found) {
        assert_eq!(point.point_id, found.commit.point);
        assert_eq!(point.deleted, found.deleted_at.is_some());
        assert_eq!(point.retain_until, found.commit.retain_until.millis());
        check_point(recovery, point);
    }
}

struct Nobody;

impl Verifier for Nobody {
    fn verify(&self, _: &AdminKey, _: &[u8], _: &[u8; 64]) -> bool {
        false
    }
}

fn store(copied: &Copied) -> Store {
    let env = Environment {
        vfs: Arc::new(RealFs::open(copied.0.path()).unwrap()),
        clock: Arc::new(Hands::default()),
        rng: Arc::new(Seeded::default()),
        catalogue: Box::new(MemoryCatalogue::default()),
        index: Arc::new(MemoryIndex::default()),
        verifier: Arc::new(Nobody),
    };
    let options = Options {
        allow_volatile: true,
        reserve_bytes: 0,
        ..Options::DEFAULT
    };
    Store::open(env, options).unwrap()
}

/// Reads a disk as a proxy does.
fn read_disk(store: &Store, dataset: DatasetId, key: &DatasetKey, root: &DiskRoot) -> Vec<u8> {
    let mut disk = vec![0; root.length as usize];
    let mut reader = TreeReader::whole(root).unwrap();
    let mut decompressor = Decompressor::new().unwrap();
    let id_key = key.id_key().unwrap();
    loop {
        match reader.step().unwrap() {
            Step::Done => return disk,
            Step::Nodes(nodes) => nodes.into_iter().for_each(|id| {
                let node = store.read(dataset, RecordId::from(id)).unwrap();
                reader.supply(&node.stored).unwrap();
            }),
            Step::Leaf {
                leaf: Leaf::Hole { .. },
                ..
            } => {}
            Step::Leaf {
                offset,
                leaf: Leaf::Chunk { length, id },
            } => {
                let record = store.read(dataset, RecordId::from(id)).unwrap();
                let opener = Opener::new(key, dataset, record.salt.unwrap()).unwrap();
                let codec = record.header.codec;
                let context = ChunkContext {
                    codec: codec.number(),
                    id,
                    plain_len: length,
                };
                let text = opener
                    .open(&context, record.header.counter, record.stored)
                    .unwrap();
                let plain = decompressor.decompress(codec, &text, length).unwrap();
                assert_eq!(identify(id_key.expose(), &plain), id);
                disk[offset as usize..][..plain.len()].copy_from_slice(&plain);
            }
        }
    }
}

#[test]
fn the_store_reads_every_disk_of_it() {
    let copied = Copied::new().complete();
    let store = store(&copied);
    let [dataset] = &store.datasets()[..] else {
        panic!("not one dataset")
    };
    let wrapped = WrappedDatasetKey::from_slice(&dataset.wrapped_key).unwrap();
    let dataset_key = key().unwrap(dataset.id, &wrapped).unwrap();
    let points = store.points(0, 100).unwrap();
    let expected = expected();
    let kept: Vec<_> = expected
        .points
        .iter()
        .filter(|point| !point.deleted)
        .collect();
    assert_eq!(points.len(), kept.len());
    for (point, found) in kept.iter().zip(&points) {
        assert_eq!(point.point_id, found.commit.point);
        assert_eq!(point.retain_until, found.commit.retain_until.millis());
        let manifest = Manifest::decode(&store.manifest(point.point_id).unwrap()).unwrap();
        for (disk, found) in point.disks.iter().zip(&manifest.disks) {
            let bytes = read_disk(&store, dataset.id, &dataset_key, &found.root);
            assert_eq!(blake3::hash(&bytes).to_hex().as_str(), disk.blake3);
        }
    }
    let retention = store.retention();
    let labels: Vec<_> = retention
        .admins
        .iter()
        .map(|admin| admin.label.as_str())
        .collect();
    assert_eq!(labels, ["first", "second"]);
    assert_eq!(retention.demanded_floor.as_secs(), 20 * 24 * 3600);
}

#[test]
fn the_recovery_reader_restores_every_disk_of_it_and_the_deleted_one_from_quarantine() {
    let mut recovery = open(&golden()).unwrap();
    assert_eq!(recovery.notes().take(), Vec::<String>::new());
    check_all(&mut recovery);
    let deleted = expected()
        .points
        .into_iter()
        .find(|point| point.deleted)
        .unwrap();
    let refused = recovery.manifest(deleted.point_id, false);
    assert!(matches!(refused, Err(Error::PointDeleted(_))));
}

fn entries() -> Vec<Entry> {
    let log = fs::read(golden().join("commit.log")).unwrap();
    let mut scanner = Scanner::new(&log);
    let mut entries = Vec::new();
    while let Some(frame) = scanner.read().unwrap() {
        entries.push(Entry::decode(frame.kind, frame.payload).unwrap());
    }
    entries
}

#[test]
fn it_holds_what_it_is_meant_to_hold() {
    let mut recovery = open(&golden()).unwrap();
    let points = recovery.points().to_vec();
    let manifests: Vec<Manifest> = points
        .iter()
        .map(|point| recovery.manifest(point.commit.point, true).unwrap())
        .collect();
    let disk = |point: usize, disk: usize| -> &Disk { &manifests[point].disks[disk] };
    // A tree of levels, a clone of it, and one that shares all but some nodes.
    assert!(disk(0, 0).root.level >= 1);
    assert_eq!(disk(0, 0).root, disk(2, 0).root);
    assert_ne!(disk(0, 0).root, disk(1, 0).root);
    assert!(disk(1, 0).effort.new_bytes < disk(0, 0).effort.new_bytes / 10);
    assert!(disk(0, 0).effort.zero_bytes > 0);
    let mut codecs = Vec::new();
    for pack in Copied::new().packs() {
        let bytes = fs::read(golden().join(pack)).unwrap();
        let chunks = scan(&bytes).filter(|(entry, _)| entry.kind == RecordKind::Chunk);
        codecs.extend(chunks.map(|(entry, _)| entry.codec));
    }
    assert!(codecs.contains(&Codec::Raw) && codecs.contains(&Codec::Zstd));
    let entries = entries();
    for fate in [Fate::Condemned, Fate::Quarantined, Fate::Damaged] {
        let decided = |entry: &Entry| matches!(entry, Entry::Packs(d) if d.fate == fate);
        assert!(entries.iter().any(decided), "{fate:?}");
    }
    let is_there: [fn(&Entry) -> bool; 9] = [
        |entry| matches!(entry, Entry::PointLocked { .. }),
        |entry| matches!(entry, Entry::PointDeleted { .. }),
        |entry| matches!(entry, Entry::RecordsLost(_)),
        |entry| matches!(entry, Entry::CycleEnded(_)),
        |entry| matches!(entry, Entry::AdminAdded { .. }),
        |entry| matches!(entry, Entry::AdminRemoved { .. }),
        |entry| matches!(entry, Entry::Signed { .. }),
        |entry| matches!(entry, Entry::FloorSet { .. }),
        |entry| matches!(entry, Entry::SweepAllowed { .. }),
    ];
    for (number, is_there) in is_there.iter().enumerate() {
        assert!(entries.iter().any(is_there), "kind {number} of the list");
    }
}

#[test]
fn it_is_read_without_services_projections_and_one_of_each_two_copies() {
    let copies = [
        ["super.a", "commit.log", "manifests"],
        ["super.b", "copy/commit.log", "copy/manifests"],
        ["super.a", "copy/commit.log", "manifests"],
    ];
    for lost in copies {
        let copied = Copied::new().complete();
        drop(store(&copied));
        copied.remove("lock");
        lost.iter().for_each(|name| copied.remove(name));
        check_all(&mut copied.open());
    }
}

#[test]
fn logs_that_are_damaged_in_different_places_complete_each_other() {
    let copied = Copied::new();
    copied.flip("commit.log", 512 * 3 + 70);
    copied.flip("commit.log", 512 * 9 + 4);
    copied.flip("copy/commit.log", 512 * 6 + 70);
    copied.remove("super.a");
    copied.remove("super.b");
    let mut recovery = copied.open();
    check_all(&mut recovery);
    let notes = recovery.notes().take().join("\n");
    assert!(
        notes.contains("no superblock is valid") && !notes.contains("in every copy"),
        "{notes}"
    );
}

#[test]
fn points_behind_a_place_that_is_lost_in_both_logs_are_found_and_the_loss_is_told() {
    let copied = Copied::new();
    // The third frame opens the first session.
    for log in ["commit.log", "copy/commit.log"] {
        copied.flip(log, 512 * 2 + 70);
    }
    let mut recovery = copied.open();
    check_all(&mut recovery);
    let notes = recovery.notes().take().join("\n");
    assert!(
        notes.contains("damaged at byte 1024 in every copy"),
        "{notes}"
    );
}

#[test]
fn a_log_that_was_cut_short_is_told() {
    let copied = Copied::new();
    for log in ["commit.log", "copy/commit.log"] {
        let file = fs::File::options()
            .write(true)
            .open(copied.path(log))
            .unwrap();
        file.set_len(512 * 8 + 100).unwrap();
    }
    let mut recovery = copied.open();
    assert!(recovery.points().len() < expected().points.len());
    let notes = recovery.notes().take().join("\n");
    assert!(notes.contains("that the superblock has seen"), "{notes}");
}

#[test]
fn packs_without_trailers_are_read_record_by_record() {
    let copied = Copied::new();
    for pack in copied.packs() {
        let path = copied.path(&pack);
        let length = path.metadata().unwrap().len();
        copied.flip(&pack, length - 100);
        copied.flip(&pack, 3);
    }
    let mut recovery = copied.open();
    check_all(&mut recovery);
    assert!(
        recovery
            .notes()
            .take()
            .iter()
            .any(|note| note.contains("record by record"))
    );
}

#[test]
fn records_with_damaged_headers_are_read_by_their_trailer() {
    let copied = Copied::new();
    for pack in copied.packs() {
        let bytes = fs::read(copied.path(&pack)).unwrap();
        let entries: Vec<_> = scan(&bytes).map(|(entry, _)| entry).collect();
        entries
            .iter()
            .for_each(|entry| copied.flip(&pack, entry.offset + 5));
    }
    check_all(&mut copied.open());
}

#[test]
fn a_pack_that_was_set_aside_is_read_in_quarantine() {
    let copied = Copied::new();
    for pack in copied.packs() {
        let name = Path::new(&pack)
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        fs::rename(
            copied.path(&pack),
            copied.path(&format!("quarantine/{name}.aside")),
        )
        .unwrap();
    }
    check_all(&mut copied.open());
}

#[test]
fn damaged_content_is_named_and_never_given_out() {
    let copied = Copied::new();
    let pack = copied.largest();
    let bytes = fs::read(copied.path(&pack)).unwrap();
    let chunk = scan(&bytes)
        .map(|(entry, _)| entry)
        .find(|entry| entry.kind == RecordKind::Chunk);
    let chunk = chunk.unwrap();
    copied.flip(&pack, chunk.offset + 72 + 8);
    let mut recovery = copied.open();
    let point = expected().points[0].clone();
    let Err(Error::Damaged { key, lost }) = restore(&mut recovery, point.point_id, 2000, false)
    else {
        panic!("damage was not noticed");
    };
    assert_eq!(key, 2000);
    assert_eq!(
        lost.iter().map(|extent| extent.length).sum::<u64>(),
        u64::from(chunk.plain_len)
    );
    let (restored, bytes) = restore(&mut recovery, point.point_id, 2000, true).unwrap();
    assert_eq!(restored.zero_filled, lost);
    let (_, whole) = restore(&mut open(&golden()).unwrap(), point.point_id, 2000, false).unwrap();
    check_zeros(&bytes, &whole, &lost);
}

/// Zeros where it was lost, the truth everywhere else.
#[track_caller]
fn check_zeros(bytes: &[u8], whole: &[u8], lost: &[Extent]) {
    let mut filled = whole.to_vec();
    for extent in lost {
        filled[extent.start as usize..extent.end() as usize].fill(0);
    }
    assert!(bytes == filled && bytes != whole);
}

#[test]
fn a_lost_pack_is_known_before_anything_is_read() {
    let copied = Copied::new();
    copied.remove(&copied.largest());
    let mut recovery = copied.open();
    let expected = expected();
    let manifest = recovery
        .manifest(expected.points[0].point_id, false)
        .unwrap();
    let lost = recovery.survey(&manifest.disks[0]);
    assert_eq!(lost, [Extent::new(0, 32 << 20)]);
    assert_eq!(recovery.survey(&manifest.disks[1]), []);
    let (restored, bytes) =
        restore(&mut recovery, expected.points[0].point_id, 2000, true).unwrap();
    assert_eq!(restored.zero_filled, lost);
    assert!(bytes.len() == 32 << 20 && bytes.iter().all(|byte| *byte == 0));
    // Others are not touched by it.
    check_point(&mut recovery, expected.points.last().unwrap());
}

#[test]
fn a_stored_chunk_never_stands_for_another() {
    // The stored bytes of one chunk, with its header, under the trailer's entry of another.
    let copied = Copied::new();
    let pack = copied.largest();
    let bytes = fs::read(copied.path(&pack)).unwrap();
    let mut chunks: Vec<_> = scan(&bytes)
        .map(|(entry, _)| entry)
        .filter(|entry| entry.kind == RecordKind::Chunk)
        .collect();
    chunks.sort_by_key(|entry| entry.stored_len);
    let alike = chunks
        .windows(2)
        .find(|two| two[0].stored_len == two[1].stored_len);
    let Some([first, second]) = alike else {
        panic!("no two chunks of one stored length")
    };
    let length = 72 + first.stored_len as usize;
    let from = &bytes[second.offset as usize..][..length];
    let file = fs::File::options()
        .write(true)
        .open(copied.path(&pack))
        .unwrap();
    file.write_all_at(from, first.offset).unwrap();
    let point = expected().points[0].point_id;
    let refused = restore(&mut copied.open(), point, 2000, false);
    assert!(matches!(refused, Err(Error::Damaged { .. })));
}

#[test]
fn a_wrong_key_and_an_empty_directory_are_refused() {
    let other = RecoveryKey::generate().unwrap();
    let refused = Recovery::open(&golden(), &other, &mut |_| {}).err();
    assert!(matches!(refused, Some(Error::Key(_))), "{refused:?}");
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(open(empty.path()), Err(Error::NoRepository(_))));
}

#[test]
fn a_flipped_byte_anywhere_is_proved_away_or_does_not_matter() {
    let point = expected().points.pop().unwrap();
    let (_, whole) = restore(&mut open(&golden()).unwrap(), point.point_id, 2000, false).unwrap();
    let copied = Copied::new();
    // The large packs would only take time.
    let length = |pack: &String| copied.path(pack).metadata().unwrap().len();
    let (small, large): (Vec<_>, Vec<_>) = copied
        .packs()
        .into_iter()
        .partition(|pack| length(pack) < 4096);
    large.iter().for_each(|pack| copied.remove(pack));
    let pack = small.into_iter().max_by_key(length).unwrap();
    copied.remove("quarantine");
    let length = copied.path(&pack).metadata().unwrap().len();
    for at in (0..length).step_by(11) {
        copied.flip(&pack, at);
        match restore(&mut copied.open(), point.point_id, 2000, false) {
            Ok((_, bytes)) => assert!(bytes == whole, "wrong bytes with byte {at} flipped"),
            Err(Error::Damaged { .. }) => {}
            Err(error) => panic!("byte {at}: {error}"),
        }
        copied.flip(&pack, at);
    }
}
