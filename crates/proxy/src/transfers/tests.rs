use std::sync::Arc;

use futures::TryStreamExt;
use stillwater_proxy_api::{Backup as BackupOrder, Restore as RestoreOrder};
use tokio::sync::Notify;

use super::*;
use crate::transfer::fake::{FakeDisk, FakeReach, FakeStore, PATH, disk, order_disk, order_store};

fn transfers(reach: Arc<FakeReach>, slots: u32) -> Transfers {
    Transfers::new(
        reach,
        Slots::new(slots),
        Limits::default(),
        Metrics::default(),
    )
}

fn backup(path: &str, reach: &FakeReach) -> StartTransferRequest {
    let length_bytes = reach.disk.bytes.len() as u64;
    let work = BackupOrder {
        sources: vec![order_disk(path)],
        length_bytes,
        reading: api::Reading::Full { areas: None },
    };
    order(Work::Backup(work))
}

fn order(work: Work) -> StartTransferRequest {
    StartTransferRequest {
        transfer_id: TransferId::mint(),
        store: order_store(),
        work,
    }
}

/// A reach whose repository takes nothing, so that a backup never ends.
fn stuck() -> Arc<FakeReach> {
    let gate = Some(Arc::new(Notify::new()));
    FakeReach::new(
        FakeDisk::new(disk(1)),
        FakeStore {
            gate,
            ..FakeStore::default()
        },
    )
}

async fn last(transfers: &Transfers, transfer_id: TransferId) -> Transfer {
    let states: Vec<Transfer> = transfers
        .watch(transfer_id)
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let (last, before) = states.split_last().unwrap();
    assert!(last.state.is_final() && before.iter().all(|transfer| !transfer.state.is_final()));
    last.clone()
}

#[tokio::test]
async fn an_increment_tells_what_it_found_out() {
    let reach = FakeReach::new(FakeDisk::new(disk(2)), FakeStore::default());
    let transfers = transfers(reach.clone(), 1);
    let full = backup(PATH, &reach);
    let id = transfers.start(full.clone()).unwrap().transfer_id;
    let saved = last(&transfers, id).await;
    assert_eq!(saved.findings, Some(api::TransferFindings::default()));
    let base = saved.root.unwrap();
    let Work::Backup(order_full) = full.work else {
        panic!("a backup was ordered");
    };
    let increment = BackupOrder {
        reading: api::Reading::Increment {
            base: base.clone(),
            changed: Default::default(),
            sample_bytes: 500_000,
            sample_seed: 3,
        },
        ..order_full
    };
    let id = transfers
        .start(order(Work::Backup(increment.clone())))
        .unwrap()
        .transfer_id;
    let saved = last(&transfers, id).await;
    let length = base.length_bytes;
    assert_eq!(
        (saved.root, saved.progress.done_bytes),
        (Some(base.clone()), length)
    );
    assert!(saved.findings.unwrap().compared_bytes > 100_000);

    let wrong = BackupOrder {
        reading: api::Reading::Compare {
            base: api::DiskRoot { level: 300, ..base },
            changed: None,
        },
        ..increment
    };
    let id = transfers
        .start(order(Work::Backup(wrong)))
        .unwrap()
        .transfer_id;
    let failed = last(&transfers, id).await;
    assert_eq!(failed.fault.unwrap().reason, Reason::BadField);
}

#[tokio::test]
async fn a_disk_goes_to_the_repository_and_to_a_new_disk() {
    let reach = FakeReach::new(FakeDisk::new(disk(2)), FakeStore::default());
    let transfers = transfers(reach.clone(), 1);
    let request = backup(PATH, &reach);
    let begun = transfers.start(request.clone()).unwrap();
    assert_eq!(begun.state, TransferState::Running);
    let saved = last(&transfers, begun.transfer_id).await;
    assert_eq!((saved.state, saved.fault), (TransferState::Succeeded, None));
    assert_eq!(saved.progress.done_bytes, reach.disk.bytes.len() as u64);

    // The slot was free before the end was told; the same request only tells it again.
    let root = saved.root.unwrap();
    assert_eq!(transfers.start(request).unwrap().root.as_ref(), Some(&root));
    let work = RestoreOrder {
        root,
        target: order_disk("[ds] new/new.vmdk"),
    };
    let begun = transfers.start(order(Work::Restore(work))).unwrap();
    let restored = last(&transfers, begun.transfer_id).await;
    assert_eq!(
        (restored.state, restored.root),
        (TransferState::Succeeded, None)
    );
    let written = reach.written.lock().unwrap()[0].clone();
    assert!(written.lock().unwrap().bytes == reach.disk.bytes);
}

#[tokio::test]
async fn slots_run_out_and_a_cancelled_transfer_frees_its_own() {
    let reach = stuck();
    let transfers = transfers(reach.clone(), 1);
    let first = transfers.start(backup(PATH, &reach)).unwrap();
    let refused = transfers.start(backup(PATH, &reach)).unwrap_err();
    assert_eq!(refused.reason, Reason::NoProxySlot);
    let cancelled = transfers.cancel(first.transfer_id).await.unwrap();
    assert_eq!(
        (cancelled.state, &cancelled.root),
        (TransferState::Cancelled, &None)
    );
    reach.disk.let_go().await;
    assert_eq!(
        transfers.cancel(first.transfer_id).await.unwrap(),
        cancelled
    );
    assert_eq!(last(&transfers, first.transfer_id).await, cancelled);
    assert!(transfers.start(backup(PATH, &reach)).is_ok());
}

#[tokio::test]
async fn a_fault_is_told_and_the_slot_is_free() {
    let mut disk = FakeDisk::new(disk(3));
    disk.broken_at = Some(0);
    let reach = FakeReach::new(disk, FakeStore::default());
    let transfers = transfers(reach.clone(), 1);
    for _ in 0..3 {
        let begun = transfers.start(backup(PATH, &reach)).unwrap();
        let failed = last(&transfers, begun.transfer_id).await;
        assert_eq!((failed.state, failed.root), (TransferState::Failed, None));
        let fault = failed.fault.unwrap();
        assert_eq!(
            (fault.reason, fault.details["disk"].as_str()),
            (Reason::DiskReadFailed, PATH)
        );
    }
}

#[tokio::test]
async fn a_panic_is_a_failure_that_is_told() {
    let reach = FakeReach::new(FakeDisk::new(disk(4)), FakeStore::default());
    let transfers = transfers(reach.clone(), 1);
    let begun = transfers.start(backup("panic", &reach)).unwrap();
    let failed = last(&transfers, begun.transfer_id).await;
    assert_eq!(failed.fault.map(|fault| fault.reason), Some(Reason::Bug));
    assert!(transfers.start(backup(PATH, &reach)).is_ok());
}

#[tokio::test]
async fn a_root_that_breaks_the_format_is_refused() {
    let reach = FakeReach::new(FakeDisk::new(disk(5)), FakeStore::default());
    let transfers = transfers(reach, 1);
    let top = stillwater_types::TreeId::from_bytes([1; 32]);
    let root = api::DiskRoot {
        length_bytes: 1,
        cutter: "block".into(),
        top,
        level: 300,
    };
    let work = RestoreOrder {
        root,
        target: order_disk(PATH),
    };
    let begun = transfers.start(order(Work::Restore(work))).unwrap();
    let failed = last(&transfers, begun.transfer_id).await;
    assert_eq!(
        failed.fault.map(|fault| fault.reason),
        Some(Reason::BadField)
    );
}

#[tokio::test]
async fn an_unknown_transfer_is_not_found() {
    let transfers = transfers(stuck(), 1);
    let id = TransferId::mint();
    assert_eq!(
        transfers.get(id).unwrap_err().reason,
        Reason::TransferNotFound
    );
    assert!(transfers.watch(id).is_err());
    assert!(transfers.cancel(id).await.is_err());
}

#[tokio::test]
async fn the_oldest_ended_transfers_are_forgotten_and_running_ones_are_not() {
    let entry = |state| {
        let transfer_id = TransferId::mint();
        let progress = Progress::new(0).snapshot();
        let transfer = Transfer {
            transfer_id,
            state,
            progress,
            root: None,
            fault: None,
            findings: None,
        };
        let (told, state) = watch::channel(transfer);
        (
            told,
            transfer_id,
            Entry {
                state,
                cancel: CancellationToken::new(),
            },
        )
    };
    let mut known = Known::default();
    let (_told, running, first) = entry(TransferState::Running);
    known.add(running, first);
    let mut oldest = None;
    for _ in 0..ENDED_MAX {
        let (_, id, ended) = entry(TransferState::Succeeded);
        oldest.get_or_insert(id);
        known.add(id, ended);
    }
    assert_eq!(known.transfers.len(), ENDED_MAX);
    assert!(known.transfers.contains_key(&running));
    assert!(!known.transfers.contains_key(&oldest.unwrap()));
}

#[tokio::test]
async fn a_source_that_cannot_be_opened_is_told_and_the_next_is_taken() {
    let reach = FakeReach::new(FakeDisk::new(disk(1)), FakeStore::default());
    let transfers = transfers(reach.clone(), 1);
    let mut request = backup(PATH, &reach);
    if let Work::Backup(order) = &mut request.work {
        order.sources.insert(0, order_disk("closed/web.vmdk"));
    }
    let begun = transfers.start(request).unwrap();
    let ended = last(&transfers, begun.transfer_id).await;
    assert_eq!(ended.state, TransferState::Succeeded, "{ended:?}");
    let findings = ended.findings.unwrap();
    assert_eq!(findings.source_index, 1);
    let way = findings.fallbacks[0].details.get("way").map(String::as_str);
    assert_eq!(way, Some("closed/web.vmdk"));
    let mut nowhere = backup("closed/web.vmdk", &reach);
    nowhere.transfer_id = TransferId::mint();
    let begun = transfers.start(nowhere).unwrap();
    let ended = last(&transfers, begun.transfer_id).await;
    assert_eq!(ended.fault.unwrap().reason, Reason::DiskReadFailed);
}
