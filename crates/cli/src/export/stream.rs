//! The stream of an export, held against its own promises.

use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use stillwater_proxy_api::{ExportData, ExportHeader, ExportPart};
use stillwater_types::{Fault, Reason};
use tokio::sync::mpsc;

use super::file::{Target, Writer};
use super::pipe::{Pipe, PipeWriter};

/// Messages that may wait for the disk: 16 of at most 1 MiB bound the memory.
const QUEUE: usize = 16;

/// Where a disk goes.
#[derive(Debug)]
pub(crate) enum Place {
    /// To a file that appears when it is whole.
    File(Target),
    /// To a pipe.
    Pipe(Pipe),
}

enum Sink {
    File(Box<Writer>),
    Pipe(PipeWriter),
}

impl Place {
    fn open(self, length: u64) -> Result<Sink, Fault> {
        match self {
            Place::File(target) => target
                .open(length)
                .map(|writer| Sink::File(Box::new(writer))),
            Place::Pipe(pipe) => pipe.open(length).map(Sink::Pipe),
        }
    }
}

impl Sink {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        match self {
            Sink::File(writer) => writer.write(offset, bytes),
            Sink::Pipe(writer) => writer.write(offset, bytes),
        }
    }

    fn finish(self) -> Result<(), Fault> {
        match self {
            Sink::File(writer) => writer.finish(),
            Sink::Pipe(writer) => writer.finish(),
        }
    }
}

/// Receives a whole disk into `target`; `seen` hears of each byte count that was reached.
pub(crate) async fn receive(
    parts: BoxStream<'static, Result<ExportPart, Fault>>,
    target: Place,
    seen: impl Fn(u64, u64),
) -> Result<(), Fault> {
    let (queue, waiting) = mpsc::channel(QUEUE);
    // Files block: they are written on a thread of their own.
    let writing = tokio::task::spawn_blocking(move || write(target, waiting));
    let fed = feed(parts, queue, seen).await;
    let written = match writing.await {
        Ok(written) => written,
        Err(err) => Err(Fault::new(
            Reason::Bug,
            format!("the writing thread ended: {err}"),
        )),
    };
    // When the disk is full, the queue closes and that is what feeding notices; why it closed is
    // the better answer.
    match (fed, written) {
        (Ok(()), written) => written,
        (Err(Stop::Fault(fault)), _) => Err(fault),
        (Err(Stop::WriterGone), Err(fault)) => Err(fault),
        (Err(Stop::WriterGone), Ok(())) => {
            Err(Fault::new(Reason::Bug, "the writing thread ended early"))
        }
    }
}

/// A proxy that sends nothing for this long will not send any more.
const SILENCE_MAX: Duration = Duration::from_secs(300);

enum Message {
    Length(u64),
    Data(ExportData),
    Finish,
}

enum Stop {
    Fault(Fault),
    WriterGone,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

async fn feed(
    mut parts: BoxStream<'static, Result<ExportPart, Fault>>,
    queue: mpsc::Sender<Message>,
    seen: impl Fn(u64, u64),
) -> Result<(), Stop> {
    let mut check = Check::Opening;
    while let Some(part) = next(&mut parts).await? {
        let (next, message) = check.accept(part)?;
        check = next;
        if let Check::Open { at, length, .. } = check {
            seen(at, length);
        }
        queue.send(message).await.map_err(|_| Stop::WriterGone)?;
    }
    match check {
        Check::Finished => Ok(()),
        Check::Opening | Check::Open { .. } => Err(broken("it ended without a finish").into()),
    }
}

async fn next(
    parts: &mut BoxStream<'static, Result<ExportPart, Fault>>,
) -> Result<Option<ExportPart>, Fault> {
    match tokio::time::timeout(SILENCE_MAX, parts.next()).await {
        Ok(part) => part.transpose(),
        Err(_) => Err(broken("nothing came for five minutes")),
    }
}

fn write(target: Place, mut waiting: mpsc::Receiver<Message>) -> Result<(), Fault> {
    // When the sender gives up, what was written is dropped, and with it the file.
    let Some(Message::Length(length)) = waiting.blocking_recv() else {
        return Ok(());
    };
    let mut writer = target.open(length)?;
    while let Some(message) = waiting.blocking_recv() {
        match message {
            Message::Data(data) => writer.write(data.offset_bytes, &data.data)?,
            Message::Finish => return writer.finish(),
            Message::Length(_) => {
                return Err(Fault::new(
                    Reason::Bug,
                    "an export was written out of order",
                ));
            }
        }
    }
    Ok(())
}

/// Where an export's stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Opening,
    Open { length: u64, at: u64, data: u64 },
    Finished,
}

impl Check {
    /// Takes the next message; a stream that breaks its promises is not the disk.
    fn accept(self, part: ExportPart) -> Result<(Self, Message), Fault> {
        match (self, part) {
            (Check::Opening, ExportPart::Header(ExportHeader { length_bytes })) => {
                let open = Check::Open {
                    length: length_bytes,
                    at: 0,
                    data: 0,
                };
                Ok((open, Message::Length(length_bytes)))
            }
            (Check::Open { length, at, data }, ExportPart::Data(part)) => {
                let count = part.data.len() as u64;
                let end = part.offset_bytes.checked_add(count);
                match end {
                    Some(end) if part.offset_bytes >= at && end <= length => {
                        let open = Check::Open {
                            length,
                            at: end,
                            data: data + count,
                        };
                        Ok((open, Message::Data(part)))
                    }
                    _ => Err(broken("its data overlaps or lies beyond the disk")),
                }
            }
            (Check::Open { data, .. }, ExportPart::Finish(finish)) if finish.data_bytes == data => {
                Ok((Check::Finished, Message::Finish))
            }
            (Check::Open { .. }, ExportPart::Finish(_)) => Err(broken("bytes are missing")),
            _ => Err(broken("its messages are out of order")),
        }
    }
}

fn broken(why: &str) -> Fault {
    Fault::new(
        Reason::ProxyUnreachable,
        format!("the export is not the whole disk: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use stillwater_proxy_api::ExportFinish;

    use super::*;

    fn header(length_bytes: u64) -> ExportPart {
        ExportPart::Header(ExportHeader { length_bytes })
    }

    fn data(offset_bytes: u64, count: usize) -> ExportPart {
        ExportPart::Data(ExportData {
            offset_bytes,
            data: Bytes::from(vec![7; count]),
        })
    }

    fn finish(data_bytes: u64) -> ExportPart {
        ExportPart::Finish(ExportFinish { data_bytes })
    }

    #[track_caller]
    fn check(parts: &[ExportPart], whole: bool) {
        let mut state = Ok(Check::Opening);
        for part in parts {
            state = state.and_then(|check| check.accept(part.clone()).map(|(next, _)| next));
        }
        assert_eq!(state == Ok(Check::Finished), whole, "{state:?}");
    }

    #[test]
    fn a_disk_is_a_header_ascending_data_and_a_finish() {
        check(&[header(100), finish(0)], true);
        check(
            &[
                header(100),
                data(0, 10),
                data(10, 5),
                data(90, 10),
                finish(25),
            ],
            true,
        );
    }

    #[test]
    fn a_stream_that_breaks_its_promises_is_no_disk() {
        check(&[], false);
        check(&[header(100)], false);
        check(&[data(0, 1)], false);
        check(&[finish(0)], false);
        check(&[header(100), header(100)], false);
        check(&[header(100), data(0, 10), finish(9)], false);
        check(&[header(100), data(0, 10), data(9, 10)], false);
        check(&[header(100), data(95, 10)], false);
        check(&[header(100), data(u64::MAX, 10)], false);
        check(&[header(100), finish(0), data(0, 1)], false);
    }
}
