//! One disk, read from a proxy as it is asked for.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use stillwater_controller_api::{ExportAccess, PointDisk};
use stillwater_nbd::{Errno, Export, Piece, Trouble};
use stillwater_proxy_api::{
    Client, ExportRangePart, FinishExportRequest, ReadExportRangeRequest, Ticket,
};
use stillwater_rpc::retry::{self, Backoff};
use stillwater_types::{Extent, Fault, Reason};
use tokio_util::sync::CancellationToken;

/// A proxy or a repository that is restarted is back by then.
const RESTART: Backoff = Backoff {
    first: Duration::from_millis(300),
    longest: Duration::from_secs(5),
    attempts: 15,
};

/// A disk of a point behind an export of a proxy.
pub(crate) struct ServedDisk {
    name: String,
    label: String,
    length: u64,
    proxy: Client,
    access: ExportAccess,
}

/// What came of a part.
#[derive(Default)]
struct Answer {
    /// Where bytes are, and the bytes unless only the places were asked for.
    areas: Vec<(Extent, Option<bytes::Bytes>)>,
    at: u64,
    finished: bool,
}

impl ServedDisk {
    /// The disk that `access` opens at `proxy`; clients ask for it by its key.
    pub fn new(disk: &PointDisk, proxy: Client, access: ExportAccess) -> Self {
        Self {
            name: disk.key.to_string(),
            label: disk.label.clone(),
            length: disk.length_bytes,
            proxy,
            access,
        }
    }

    /// Tells the proxy that somebody is there, although nothing is read.
    pub async fn stay(&self) -> Result<(), Fault> {
        self.ask(Extent::new(0, 0), false).await.map(drop)
    }

    /// Tells the proxy that nothing more will be read, so that the run succeeds.
    pub async fn finish(&self) -> Result<(), Fault> {
        let request = FinishExportRequest {
            export_id: self.access.export_id,
            ticket: self.ticket(),
        };
        self.proxy.finish_export(request).await
    }

    fn ticket(&self) -> Ticket {
        Ticket::new(*self.access.ticket.expose())
    }

    async fn ask(&self, range: Extent, areas_only: bool) -> Result<Answer, Fault> {
        let never = CancellationToken::new();
        retry::repeat(&RESTART, &never, async || {
            self.ask_once(range, areas_only).await
        })
        .await
    }

    async fn ask_once(&self, range: Extent, areas_only: bool) -> Result<Answer, Fault> {
        let request = ReadExportRangeRequest {
            export_id: self.access.export_id,
            ticket: self.ticket(),
            offset_bytes: range.start,
            length_bytes: u32::try_from(range.length).unwrap_or(u32::MAX),
            areas_only,
        };
        let asked = self.proxy.read_export_range(request).await;
        let mut parts = asked.map_err(reopened)?;
        let mut answer = Answer {
            at: range.start,
            ..Answer::default()
        };
        while let Some(part) = parts.next().await {
            answer.accept(part?, range)?;
        }
        match answer.finished {
            true => Ok(answer),
            false => Err(broken("it ended without a finish")),
        }
    }
}

impl Answer {
    /// Takes the next message; an answer that breaks its promises is none.
    fn accept(&mut self, part: ExportRangePart, range: Extent) -> Result<(), Fault> {
        let (area, bytes) = match part {
            _ if self.finished => return Err(broken("something follows its finish")),
            ExportRangePart::Finish(finish) => {
                let with_bytes = self.areas.iter().filter(|(_, bytes)| bytes.is_some());
                let sum: u64 = with_bytes.map(|(area, _)| area.length).sum();
                self.finished = true;
                return match sum == finish.data_bytes {
                    true => Ok(()),
                    false => Err(broken("bytes are missing")),
                };
            }
            ExportRangePart::Area(area) => {
                (Extent::new(area.offset_bytes, area.length_bytes), None)
            }
            ExportRangePart::Data(data) => {
                let area = Extent::new(data.offset_bytes, data.data.len() as u64);
                (area, Some(data.data))
            }
        };
        let end = area.start.checked_add(area.length);
        if area.start < self.at || area.length == 0 || end.is_none_or(|end| end > range.end()) {
            return Err(broken("its data overlaps or lies elsewhere"));
        }
        self.at = area.end();
        self.areas.push((area, bytes));
        Ok(())
    }

    /// What was told and the gaps between, over the whole range.
    fn tiles(self, range: Extent) -> Vec<(u64, Option<bytes::Bytes>, bool)> {
        let mut tiles = Vec::with_capacity(self.areas.len() * 2 + 1);
        let mut at = range.start;
        for (area, bytes) in self.areas {
            if area.start > at {
                tiles.push((area.start - at, None, true));
            }
            at = area.end();
            tiles.push((area.length, bytes, false));
        }
        if at < range.end() {
            tiles.push((range.end() - at, None, true));
        }
        tiles
    }
}

#[async_trait]
impl Export for ServedDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn description(&self) -> String {
        self.label.clone()
    }

    async fn read(&self, range: Extent) -> Result<Vec<Piece>, Trouble> {
        let answer = self
            .ask(range, false)
            .await
            .map_err(|fault| trouble(&fault))?;
        let piece = |(length, bytes, _): (u64, Option<bytes::Bytes>, bool)| {
            bytes.map_or(Piece::Zeros(length), Piece::Data)
        };
        Ok(answer.tiles(range).into_iter().map(piece).collect())
    }

    async fn holes(&self, range: Extent) -> Result<Vec<(u64, bool)>, Trouble> {
        let answer = self
            .ask(range, true)
            .await
            .map_err(|fault| trouble(&fault))?;
        let tiles = answer.tiles(range).into_iter();
        Ok(tiles
            .map(|(length, _, is_hole)| (length, is_hole))
            .collect())
    }
}

/// A proxy that was restarted knows the export again as soon as the controller has looked after it.
fn reopened(fault: Fault) -> Fault {
    match fault.reason {
        Reason::TransferNotFound => Fault::new(Reason::ProxyUnreachable, fault.message),
        _ => fault,
    }
}

fn trouble(fault: &Fault) -> Trouble {
    Trouble::new(Errno::Io, fault.to_string())
}

fn broken(why: &str) -> Fault {
    Fault::new(
        Reason::ProxyUnreachable,
        format!("the answer is not the part that was asked for: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use stillwater_proxy_api::{ExportData, ExportFinish};

    use super::*;

    fn data(offset_bytes: u64, count: usize) -> ExportRangePart {
        ExportRangePart::Data(ExportData {
            offset_bytes,
            data: Bytes::from(vec![7; count]),
        })
    }

    fn finish(data_bytes: u64) -> ExportRangePart {
        ExportRangePart::Finish(ExportFinish { data_bytes })
    }

    #[track_caller]
    fn check(parts: &[ExportRangePart], whole: bool) {
        let range = Extent::new(100, 50);
        let mut answer = Answer {
            at: range.start,
            ..Answer::default()
        };
        let taken = parts
            .iter()
            .try_for_each(|part| answer.accept(part.clone(), range));
        assert_eq!(taken.is_ok() && answer.finished, whole, "{taken:?}");
        if whole {
            let sum: u64 = answer.tiles(range).iter().map(|(length, ..)| length).sum();
            assert_eq!(sum, range.length);
        }
    }

    #[test]
    fn an_answer_is_ascending_data_in_the_range_and_a_finish() {
        check(&[finish(0)], true);
        check(&[data(100, 50), finish(50)], true);
        check(
            &[data(110, 10), data(120, 5), data(149, 1), finish(16)],
            true,
        );
    }

    #[test]
    fn an_answer_that_breaks_its_promises_is_none() {
        check(&[], false);
        check(&[data(100, 50)], false);
        check(&[data(99, 2), finish(2)], false);
        check(&[data(149, 2), finish(2)], false);
        check(&[data(110, 10), data(119, 5), finish(15)], false);
        check(&[data(110, 10), finish(11)], false);
        check(&[data(110, 0), finish(0)], false);
        check(&[data(u64::MAX, 2), finish(2)], false);
        check(&[finish(0), finish(0)], false);
    }
}
