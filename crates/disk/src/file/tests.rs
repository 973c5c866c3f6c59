//! On a directory that plays a mounted datastore.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use stillwater_types::{Extent, Reason};
use tempfile::TempDir;

use super::FileReader;
use crate::{BlockPool, DiskReader, Error, Result};

const LENGTH: u64 = 1024 * 1024 + 512;

struct Datastore {
    dir: TempDir,
}

impl Datastore {
    /// With `web/web.vmdk`, a flat disk.
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let store = Self { dir };
        fs::create_dir_all(store.path("web")).expect("made");
        store.describe(|text| text);
        fs::write(store.path("web/web-flat.vmdk"), content()).expect("written");
        store
    }

    fn mount(&self) -> PathBuf {
        self.dir.path().join("mount")
    }

    fn path(&self, file: &str) -> PathBuf {
        self.mount().join(file)
    }

    fn describe(&self, change: impl Fn(String) -> String) {
        let text = format!(
            "# Disk DescriptorFile\nversion=1\nCID=8f1c02aa\nparentCID=ffffffff\ncreateType=\"vmfs\"\n\
             RW {} VMFS \"web-flat.vmdk\"\n",
            LENGTH / 512
        );
        fs::write(self.path("web/web.vmdk"), change(text)).expect("written");
    }

    async fn open(&self) -> Result<FileReader> {
        self.open_as("[ds] web/web.vmdk", LENGTH).await
    }

    async fn open_as(&self, path: &str, length: u64) -> Result<FileReader> {
        let pool = BlockPool::new(NonZeroUsize::new(4).expect("some"));
        FileReader::open(&self.mount(), path, length, &pool).await
    }

    /// Opening fails, with these words, for this reason.
    async fn check(&self, words: &str, reason: Reason) {
        let error = self.open().await.expect_err("refused");
        assert!(error.chain().contains(words), "{}", error.chain());
        assert_eq!(error.fault().reason, reason);
    }
}

fn content() -> Vec<u8> {
    (0..LENGTH).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn a_flat_disk_is_read_to_its_last_byte() {
    let store = Datastore::new();
    let reader = store.open().await.expect("opens");
    assert_eq!(reader.length(), LENGTH);
    let want = content();
    for (start, length) in [(0, LENGTH), (4097, 70_000), (LENGTH - 1, 1)] {
        let got = reader
            .read(Extent::new(start, length))
            .await
            .expect("reads");
        assert!(got == want[start as usize..(start + length) as usize]);
    }
}

#[tokio::test]
async fn nothing_is_written_and_no_lock_is_left() {
    let store = Datastore::new();
    let list = || {
        let entries = fs::read_dir(store.path("web")).expect("lists");
        let mut all: Vec<_> = entries
            .map(|entry| {
                let entry = entry.expect("an entry");
                let metadata = entry.metadata().expect("there");
                (
                    entry.file_name(),
                    metadata.len(),
                    metadata.modified().expect("known"),
                )
            })
            .collect();
        all.sort();
        all
    };
    let before = list();
    let reader = store.open().await.expect("opens");
    reader.read(Extent::new(0, LENGTH)).await.expect("reads");
    assert_eq!(list(), before);
}

#[tokio::test]
async fn chains_and_other_formats_are_left_to_the_hosts() {
    let store = Datastore::new();
    store.describe(|text| text.replace("\"vmfs\"", "\"seSparse\""));
    store
        .check("createType is \"seSparse\"", Reason::NotSupported)
        .await;
    store.describe(|text| text.replace("\"vmfs\"", "\"vmfsSparse\""));
    store.check("createType", Reason::NotSupported).await;
    store.describe(|text| text.replace("parentCID=ffffffff", "parentCID=8f1c02ab"));
    store.check("it has a parent", Reason::NotSupported).await;
    store.describe(|text| text.replace("VMFS", "SESPARSE"));
    store.check("its extent is", Reason::NotSupported).await;
    store.describe(|_| "x".repeat(70_000));
    store
        .check("larger than any descriptor", Reason::NotSupported)
        .await;
}

#[tokio::test]
async fn a_size_that_is_not_the_disks_is_refused() {
    let store = Datastore::new();
    let outcome = store.open_as("[ds] web/web.vmdk", LENGTH + 512).await;
    assert!(matches!(outcome, Err(Error::WrongLength { .. })));
    // The descriptor is right and the file is not.
    for bytes in [LENGTH - 512, LENGTH + 1] {
        fs::write(store.path("web/web-flat.vmdk"), vec![0; bytes as usize]).expect("written");
        let outcome = store.open().await;
        assert!(matches!(outcome, Err(Error::WrongLength { found, .. }) if found == bytes));
    }
}

#[tokio::test]
async fn no_path_leads_out_of_the_mount() {
    let store = Datastore::new();
    let outside = store.dir.path().join("outside");
    fs::create_dir(&outside).expect("made");
    fs::copy(store.path("web/web.vmdk"), outside.join("web.vmdk")).expect("copied");
    fs::copy(
        store.path("web/web-flat.vmdk"),
        outside.join("web-flat.vmdk"),
    )
    .expect("copied");
    symlink("../outside", store.path("link")).expect("linked");
    symlink(&outside, store.path("absolute")).expect("linked");
    for path in ["[ds] link/web.vmdk", "[ds] absolute/web.vmdk"] {
        let error = store.open_as(path, LENGTH).await.expect_err("refused");
        assert!(matches!(error, Error::Escapes { .. }), "{error:?}");
    }
    let error = store.open_as("[ds] ../outside/web.vmdk", LENGTH).await;
    assert!(matches!(error, Err(Error::BadPath { .. })));
    // A descriptor may be anybody's; the file that it names must be beside it.
    store.describe(|text| text.replace("web-flat", "../../outside/web-flat"));
    store.check("its extent is", Reason::NotSupported).await;
    store.describe(|text| text);
    fs::remove_file(store.path("web/web-flat.vmdk")).expect("removed");
    symlink(
        outside.join("web-flat.vmdk"),
        store.path("web/web-flat.vmdk"),
    )
    .expect("linked");
    store.check("leads out of", Reason::DiskReadFailed).await;
}

#[tokio::test]
async fn what_is_missing_or_no_file_is_told_apart() {
    let store = Datastore::new();
    fs::remove_file(store.path("web/web-flat.vmdk")).expect("removed");
    store
        .check(
            "[ds] web/web-flat.vmdk is not on the datastore",
            Reason::DiskReadFailed,
        )
        .await;
    fs::create_dir(store.path("web/web-flat.vmdk")).expect("made");
    let outcome = store.open().await;
    assert!(outcome.is_err());
    fs::remove_dir(store.path("web/web-flat.vmdk")).expect("removed");
    let pipe = store.path("web/web-flat.vmdk");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("made");
    store
        .check("it is no regular file", Reason::NotSupported)
        .await;
    fs::remove_dir_all(store.mount()).expect("removed");
    store.check("open ", Reason::DiskReadFailed).await;
}

#[tokio::test]
async fn a_file_that_is_written_while_it_is_read_is_not_frozen() {
    let store = Datastore::new();
    let reader = store.open().await.expect("opens");
    reader.read(Extent::new(0, 4096)).await.expect("reads");
    let mut bytes = content();
    bytes[LENGTH as usize - 1] = 0;
    fs::write(store.path("web/web-flat.vmdk"), bytes).expect("written");
    let outcome = reader.read(Extent::new(0, 4096)).await;
    assert!(matches!(outcome, Err(Error::Changed { .. })), "{outcome:?}");
}
