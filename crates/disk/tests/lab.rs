//! The data plane against VMware's simulator.

#[path = "../../vsphere/tests/support/simulator.rs"]
mod simulator;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use simulator::{MIB, PATIENCE, Simulator, find, image, noise, snapshot};
use stillwater_disk::folder::{FolderReader, FolderWriter};
use stillwater_disk::{DiskReader, DiskWriter, Error, Result, read_ahead};
use stillwater_types::{Extent, ExtentSet, Reason};
use stillwater_vsphere::{
    Client, CreatedVm, DataAccess, FrozenDisk, NewVm, PlacementSpec, Since, SnapshotRef, VmRef,
};

const LENGTH: u64 = 8 * MIB;

fn start() -> Simulator {
    let vms = |dir: &Path| json!([{"name": "web", "cbt": true, "disks": [{"file": image(dir, "web.img", LENGTH, 1)}]}]);
    Simulator::start_with(vms, &[])
}

/// A lab with a VM that has a snapshot, and the right to read its disks.
struct Frozen {
    lab: Simulator,
    client: Client,
    vm: VmRef,
    snapshot: SnapshotRef,
    disk: FrozenDisk,
    access: DataAccess,
}

impl Frozen {
    async fn new() -> Self {
        let lab = start();
        let client = lab.client().await;
        let vm = find(&client, "/DC0/vm/web").await.vm;
        let snapshot = snapshot(&client, &vm, "frozen").await;
        let disk = client
            .snapshot_config(&snapshot)
            .await
            .expect("a configuration")
            .disks
            .remove(0);
        let access = client.open_data_access(&vm).await.expect("access");
        Self {
            lab,
            client,
            vm,
            snapshot,
            disk,
            access,
        }
    }

    async fn reader(&self) -> Result<FolderReader> {
        FolderReader::open(&self.access, &self.disk.file_name, LENGTH).await
    }

    fn content(&self) -> Vec<u8> {
        let file = self.lab.frozen_disk(&self.snapshot, self.disk.key);
        std::fs::read(file).expect("the kept copy")
    }
}

/// Reads areas of a disk into zeros, several requests at once.
async fn read_all(reader: FolderReader, areas: ExtentSet) -> Vec<u8> {
    let mut content = vec![0; LENGTH as usize];
    let mut pieces = read_ahead(Arc::new(reader), areas, 300_000, 4);
    while let Some(piece) = pieces.next().await {
        let (offset, bytes) = piece.expect("a piece");
        content[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
    }
    content
}

#[tokio::test]
async fn a_frozen_disk_reads_as_it_was_while_its_vm_writes() {
    let frozen = Frozen::new().await;
    let expected = frozen.content();
    let live = frozen.lab.live_disk("web", 0);
    let live = OpenOptions::new().write(true).open(live).expect("a disk");
    live.write_all_at(&noise(200_000, 77), 0).expect("writes");
    live.write_all_at(&noise(200_000, 78), LENGTH - 200_000)
        .expect("writes");
    let reader = frozen.reader().await.expect("opens");
    assert!(read_all(reader, ExtentSet::whole(LENGTH)).await == expected);
    assert!(frozen.lab.calls("folder-get") > 20);
}

#[tokio::test]
async fn the_allocated_areas_are_all_that_is_not_zero() {
    let frozen = Frozen::new().await;
    let Frozen {
        client,
        vm,
        snapshot,
        disk,
        ..
    } = &frozen;
    let areas = client
        .changed_areas(vm, snapshot, disk.key, Since::Beginning, LENGTH)
        .await;
    let areas = areas.expect("a map").areas;
    assert!(areas.bytes() < LENGTH);
    let reader = frozen.reader().await.expect("opens");
    assert!(read_all(reader, areas).await == frozen.content());
}

#[tokio::test]
async fn a_range_that_is_answered_wrongly_is_refused() {
    let frozen = Frozen::new().await;
    let reader = frozen.reader().await.expect("opens");
    let extent = Extent::new(MIB, 65536);
    for kind in ["status-200", "wrong-range"] {
        frozen.lab.fault("folder-get", kind, 0, 1);
        let error = reader.read(extent).await.expect_err(kind);
        assert!(matches!(error, Error::BadRange { .. }), "{kind}: {error:?}");
        assert_eq!(error.fault().reason, Reason::DiskReadFailed);
    }
    // These pass: the third try is whole.
    for kind in ["short", "drop", "http-503"] {
        frozen.lab.fault("folder-get", kind, 0, 2);
        let bytes = reader.read(extent).await.expect(kind);
        assert!(
            bytes[..] == frozen.content()[MIB as usize..][..65536],
            "{kind}"
        );
    }
    frozen.lab.fault("folder-get", "short", 0, -1);
    let error = reader.read(extent).await.expect_err("always");
    assert!(matches!(error, Error::Transport { .. }), "{error:?}");
}

#[tokio::test]
async fn a_session_that_is_over_reads_nothing() {
    let frozen = Frozen::new().await;
    let reader = frozen.reader().await.expect("opens");
    frozen
        .client
        .close_data_access(&frozen.access)
        .await
        .expect("closed");
    let error = reader.read(Extent::new(0, 4096)).await.expect_err("over");
    assert!(
        matches!(error, Error::Refused { status: 401, .. }),
        "{error:?}"
    );
    // The control plane's session is another.
    frozen.client.keep_alive().await.expect("goes on");
}

#[tokio::test]
async fn a_disk_of_another_size_and_the_running_leaf_are_not_opened() {
    let frozen = Frozen::new().await;
    let open = |path: &str, length| {
        let (access, path) = (frozen.access.clone(), path.to_owned());
        async move { FolderReader::open(&access, &path, length).await.map(drop) }
    };
    let error = open(&frozen.disk.file_name, LENGTH + 512)
        .await
        .expect_err("another size");
    assert!(
        matches!(error, Error::WrongLength { found: LENGTH, .. }),
        "{error:?}"
    );
    let leaf = frozen
        .client
        .vm(&frozen.vm)
        .await
        .expect("a vm")
        .disks
        .remove(0)
        .file_name;
    // ESXi has a delta there; the lab a file that is locked while the VM runs.
    let error = open(&leaf, LENGTH).await.expect_err("in use");
    assert!(
        matches!(
            error,
            Error::NotFlat { .. } | Error::Status { status: 500, .. }
        ),
        "{error:?}"
    );
    let error = open("[lab-ds] web/none.vmdk", LENGTH)
        .await
        .expect_err("not there");
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    let error = open("[none] web/web.vmdk", LENGTH)
        .await
        .expect_err("not there");
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
}

/// A new VM with one empty disk, and the right to write it.
async fn restored(lab: &Simulator) -> (Client, CreatedVm, DataAccess) {
    let client = lab.client().await;
    let old = find(&client, "/DC0/vm/web").await.vm;
    let saved = client.vm(&old).await.expect("a vm").config_xml;
    let new = NewVm::from_config(&saved, "restored").expect("usable");
    let spec = PlacementSpec {
        datastore: "lab-ds".into(),
        ..PlacementSpec::default()
    };
    let placement = client.find_placement(&spec).await.expect("a place");
    let created = client
        .create_vm(&new, &placement, PATIENCE)
        .await
        .expect("a vm");
    let access = client.open_data_access(&created.vm).await.expect("access");
    (client, created, access)
}

#[tokio::test]
async fn a_restored_disk_is_byte_for_byte_what_was_written() {
    let lab = start();
    let (client, created, access) = restored(&lab).await;
    let path = &created.disks[0].file_name;
    let mut writer = Box::new(
        FolderWriter::open(&access, path, LENGTH)
            .await
            .expect("opens"),
    );
    let mut expected = vec![0; LENGTH as usize];
    for (seed, (offset, bytes)) in (1..).zip([(4096, 100_000), (3 * MIB, 700_000), (LENGTH - 9, 9)])
    {
        let data = noise(bytes, seed);
        expected[offset as usize..][..bytes].copy_from_slice(&data);
        writer
            .write(offset, Bytes::from(data))
            .await
            .expect("writes");
    }
    writer.finish().await.expect("finishes");
    assert!(std::fs::read(lab.live_disk("restored", 0)).expect("the flat file") == expected);
    // What the server says of it is the same.
    let reader = FolderReader::open(&access, path, LENGTH)
        .await
        .expect("opens");
    assert!(read_all(reader, ExtentSet::whole(LENGTH)).await == expected);
    client.close_data_access(&access).await.expect("closed");
}

#[tokio::test]
async fn an_upload_that_is_cut_is_never_finished() {
    let lab = start();
    let (_client, created, access) = restored(&lab).await;
    let path = &created.disks[0].file_name;
    for kind in ["short", "drop-after", "drop", "http-500"] {
        lab.fault("folder-put", kind, 0, 1);
        let opened = FolderWriter::open(&access, path, LENGTH).await;
        let mut writer = match opened {
            Ok(writer) => Box::new(writer),
            // The cut before left a short file: that is seen, too.
            Err(Error::WrongLength { .. }) => {
                lab.control("DELETE", "/faults", Value::Null);
                continue;
            }
            Err(error) => panic!("{kind}: {error:?}"),
        };
        let outcome = match writer.write(0, Bytes::from(noise(100_000, 5))).await {
            Ok(()) => writer.finish().await,
            error => error,
        };
        let error = outcome.expect_err(kind);
        assert_eq!(
            error.fault().reason,
            Reason::DiskWriteFailed,
            "{kind}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_disk_that_is_in_use_is_not_written() {
    let frozen = Frozen::new().await;
    let path = &frozen.disk.file_name;
    let writer = FolderWriter::open(&frozen.access, path, LENGTH)
        .await
        .expect("opens");
    let error = Box::new(writer).finish().await.expect_err("in use");
    assert_eq!(error.fault().reason, Reason::DiskWriteFailed, "{error:?}");
}

#[tokio::test]
async fn an_abandoned_upload_leaves_the_session_usable() {
    let lab = start();
    let (client, created, access) = restored(&lab).await;
    let path = &created.disks[0].file_name;
    let mut writer = Box::new(
        FolderWriter::open(&access, path, LENGTH)
            .await
            .expect("opens"),
    );
    writer
        .write(0, Bytes::from(noise(100_000, 5)))
        .await
        .expect("writes");
    writer.abort().await.expect("gives up");
    client
        .destroy_vm(&created.vm, PATIENCE)
        .await
        .expect("destroyed");
    client.close_data_access(&access).await.expect("closed");
}
