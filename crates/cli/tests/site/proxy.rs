//! A proxy that has one disk to export.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use stillwater_proxy_api::*;
use stillwater_rpc::Peer;
use stillwater_types::{ExportId, Fault, Reason};

pub const DISK_LENGTH: u64 = 8 << 20;

/// The ticket that opens every export.
pub const TICKET: [u8; 32] = [0x5a; 32];

const PIECES: [(u64, usize); 3] = [(0, 4096), (1 << 20, 300_000), (DISK_LENGTH - 512, 512)];

/// The disk that is exported.
pub fn disk_bytes() -> Vec<u8> {
    let mut bytes = vec![0; DISK_LENGTH as usize];
    for (offset, length) in PIECES {
        bytes[offset as usize..][..length].fill(7);
    }
    bytes
}

#[derive(Default)]
pub struct Fake {
    broken: Mutex<Option<Fault>>,
    read: AtomicBool,
}

impl Fake {
    pub fn break_with(&self, fault: Fault) {
        *self.broken.lock().expect("not poisoned") = Some(fault);
    }

    /// Whether somebody was given the finish.
    pub fn was_read(&self) -> bool {
        self.read.load(Ordering::SeqCst)
    }

    fn parts(&self) -> Vec<Result<ExportPart, Fault>> {
        let header = ExportPart::Header(ExportHeader {
            length_bytes: DISK_LENGTH,
        });
        let data = PIECES.map(|(offset_bytes, length)| {
            let data = Bytes::from(vec![7; length]);
            ExportPart::Data(ExportData { offset_bytes, data })
        });
        let data_bytes = PIECES.iter().map(|(_, length)| *length as u64).sum();
        let mut parts: Vec<_> = [header].into_iter().chain(data).map(Ok).collect();
        match self.broken.lock().expect("not poisoned").clone() {
            Some(fault) => parts.push(Err(fault)),
            None => {
                self.read.store(true, Ordering::SeqCst);
                parts.push(Ok(ExportPart::Finish(ExportFinish { data_bytes })));
            }
        }
        parts
    }
}

#[async_trait]
impl ExportService for Fake {
    async fn open_export(
        &self,
        _: &Peer,
        _: OpenExportRequest,
    ) -> Result<OpenExportResponse, Fault> {
        Err(Fault::new(Reason::NotSupported, "not part of the test"))
    }

    async fn read_export(
        &self,
        _: &Peer,
        request: ReadExportRequest,
    ) -> Result<BoxStream<'static, Result<ExportPart, Fault>>, Fault> {
        if request.ticket != Ticket::new(TICKET) {
            return Err(Fault::new(Reason::GrantInvalid, "another ticket"));
        }
        Ok(stream::iter(self.parts()).boxed())
    }

    async fn read_export_range(
        &self,
        _: &Peer,
        _: ReadExportRangeRequest,
    ) -> Result<BoxStream<'static, Result<ExportRangePart, Fault>>, Fault> {
        Err(Fault::new(Reason::NotSupported, "not part of the test"))
    }

    async fn finish_export(&self, _: &Peer, _: FinishExportRequest) -> Result<(), Fault> {
        Err(Fault::new(Reason::NotSupported, "not part of the test"))
    }

    async fn close_export(&self, _: &Peer, _: ExportId) -> Result<CloseExportResponse, Fault> {
        Err(Fault::new(Reason::NotSupported, "not part of the test"))
    }
}
