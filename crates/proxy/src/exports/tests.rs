use futures::TryStreamExt;
use stillwater_proxy_api::{Backup, Reading, StartTransferRequest, TransferState, Work};
use stillwater_repository_api::RecordType;
use stillwater_types::TransferId;

use super::*;
use crate::transfer::fake::{FakeDisk, FakeReach, FakeStore, PATH, disk, order_disk, order_store};
use crate::transfers::Transfers;

pub(super) struct Setup {
    pub(super) reach: Arc<FakeReach>,
    pub(super) exports: Exports,
    slots: Slots,
    pub(super) request: OpenExportRequest,
}

/// A stored disk and an order to export it.
pub(super) async fn setup(seed: u64) -> Setup {
    let reach = FakeReach::new(FakeDisk::new(disk(seed)), FakeStore::default());
    let (slots, metrics) = (Slots::new(1), Metrics::default());
    let transfers = Transfers::new(
        reach.clone(),
        slots.clone(),
        Limits::default(),
        metrics.clone(),
    );
    let length_bytes = reach.disk.bytes.len() as u64;
    let backup = Backup {
        sources: vec![order_disk(PATH)],
        length_bytes,
        reading: Reading::Full { areas: None },
    };
    let begun = transfers.start(StartTransferRequest {
        transfer_id: TransferId::mint(),
        store: order_store(),
        work: Work::Backup(backup),
    });
    let id = begun.unwrap().transfer_id;
    let states: Vec<_> = transfers.watch(id).unwrap().try_collect().await.unwrap();
    let saved = states.last().unwrap();
    assert_eq!(saved.state, TransferState::Succeeded);
    let request = OpenExportRequest {
        export_id: ExportId::mint(),
        store: order_store(),
        root: saved.root.clone().unwrap(),
        ticket: Ticket::new([3; 32]),
    };
    let exports = Exports::new(reach.clone(), slots.clone(), Limits::default(), metrics);
    Setup {
        reach,
        exports,
        slots,
        request,
    }
}

impl Setup {
    pub(super) fn open(&self) -> bool {
        self.exports.open(self.request.clone()).unwrap().completed
    }

    fn read(&self) -> Result<Parts, Fault> {
        self.exports
            .read(self.request.export_id, &self.request.ticket)
    }

    #[track_caller]
    fn check_refused(&self, reason: Reason) {
        assert_eq!(
            self.read().map(|_| ()).map_err(|fault| fault.reason),
            Err(reason)
        );
    }
}

/// Puts the parts together as the tool does; gives the disk and whether the finish came.
fn join(parts: &[ExportPart]) -> (Vec<u8>, bool) {
    let Some(ExportPart::Header(header)) = parts.first() else {
        panic!("no header")
    };
    let mut bytes = Vec::new();
    let mut sent = 0;
    for part in &parts[1..] {
        match part {
            ExportPart::Data(data) => {
                assert!(
                    data.offset_bytes as usize >= bytes.len(),
                    "data must ascend"
                );
                assert!((1..=EXPORT_DATA_BYTES_MAX).contains(&data.data.len()));
                bytes.resize(data.offset_bytes as usize, 0);
                bytes.extend_from_slice(&data.data);
                sent += data.data.len() as u64;
            }
            ExportPart::Finish(finish) => {
                assert_eq!(finish.data_bytes, sent);
                bytes.resize(header.length_bytes as usize, 0);
                return (bytes, true);
            }
            ExportPart::Header(_) => panic!("a second header"),
        }
    }
    (bytes, false)
}

#[tokio::test]
async fn a_disk_is_read_to_its_end_once() {
    let setup = setup(1).await;
    assert!(!setup.open());
    assert_eq!(setup.slots.taken(), 1);
    let parts: Vec<ExportPart> = setup.read().unwrap().try_collect().await.unwrap();
    let (bytes, finished) = join(&parts);
    assert!(finished && bytes == setup.reach.disk.bytes);
    assert!(setup.open(), "opening it again tells that it was read");
    setup.check_refused(Reason::GrantInvalid);
    assert!(setup.exports.close(setup.request.export_id).completed);
    assert_eq!(setup.slots.taken(), 0);
    setup.check_refused(Reason::TransferNotFound);
    assert!(!setup.exports.close(setup.request.export_id).completed);
}

#[tokio::test]
async fn only_the_ticket_opens_it() {
    let mut setup = setup(2).await;
    setup.open();
    setup.request.ticket = Ticket::new([4; 32]);
    setup.check_refused(Reason::GrantInvalid);
    setup.request.export_id = ExportId::mint();
    setup.check_refused(Reason::TransferNotFound);
}

#[tokio::test]
async fn one_reader_at_a_time_and_one_that_broke_off_may_begin_again() {
    let setup = setup(3).await;
    setup.open();
    let mut first = setup.read().unwrap();
    assert!(matches!(
        first.next().await,
        Some(Ok(ExportPart::Header(_)))
    ));
    assert!(matches!(first.next().await, Some(Ok(ExportPart::Data(_)))));
    setup.check_refused(Reason::GrantInvalid);
    drop(first);
    assert!(!setup.open());
    let parts: Vec<ExportPart> = setup.read().unwrap().try_collect().await.unwrap();
    assert!(join(&parts).0 == setup.reach.disk.bytes);
}

#[tokio::test]
async fn a_damaged_chunk_ends_the_stream_with_a_fault_and_no_finish() {
    let setup = setup(4).await;
    setup.open();
    let id = setup.reach.store.ids(RecordType::Chunk)[0];
    setup
        .reach
        .store
        .tamper(&id, |record| record.record.counter += 1);
    let parts: Vec<Result<ExportPart, Fault>> = setup.read().unwrap().collect().await;
    let (last, before) = parts.split_last().unwrap();
    assert_eq!(last.as_ref().unwrap_err().reason, Reason::ChunkHashMismatch);
    let before: Vec<ExportPart> = before.iter().cloned().map(Result::unwrap).collect();
    assert!(!join(&before).1);
    assert!(!setup.open());
}

#[tokio::test]
async fn closing_ends_a_reader() {
    let setup = setup(5).await;
    setup.open();
    let mut parts = setup.read().unwrap();
    assert!(matches!(
        parts.next().await,
        Some(Ok(ExportPart::Header(_)))
    ));
    assert!(!setup.exports.close(setup.request.export_id).completed);
    let rest: Vec<Result<ExportPart, Fault>> = parts.collect().await;
    let fault = rest.last().unwrap().as_ref().unwrap_err();
    assert_eq!(fault.reason, Reason::RunCancelled);
    assert_eq!(setup.slots.taken(), 0);
}

#[tokio::test]
async fn slots_and_draining_count_for_exports_too() {
    let setup = setup(6).await;
    let taken = setup.slots.take().unwrap();
    let refused = |setup: &Setup| {
        setup
            .exports
            .open(setup.request.clone())
            .unwrap_err()
            .reason
    };
    assert_eq!(refused(&setup), Reason::NoProxySlot);
    drop(taken);
    setup.slots.drain();
    assert_eq!(refused(&setup), Reason::Draining);
}

#[tokio::test]
async fn an_export_tells_whether_somebody_is_reading_it() {
    let setup = setup(1).await;
    let reading = || setup.exports.open(setup.request.clone()).unwrap().reading;
    assert!(!reading() && !reading());
    let parts = setup.read().unwrap();
    assert!(reading());
    drop(parts);
    assert!(!reading());
}
