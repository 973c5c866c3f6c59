//! One connection under two TLS sessions, one after the other.
//!
//! Both sides drop the first session without closing the connection, and then agree on a second. A host
//! may still send the first one's last records; and TLS, left alone, reads more than it needs. So the
//! first session gets whole records and no byte beyond, and what is left of it before the second one's
//! first record is thrown away.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const RECORD_HEADER_BYTES: usize = 5;
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;
/// An alert that is not encrypted has two bytes; a handshake that fails may begin with one.
const PLAIN_ALERT_BYTES: usize = 2;
/// So many records of the first session may be left.
const LEFT_OVER_MAX: u32 = 16;

/// A connection that is handed from one TLS session to the next.
#[derive(Debug)]
pub(super) struct Handover<S> {
    stream: S,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Everything is passed on.
    Open,
    /// Records are passed on one by one.
    First(Record),
    /// Records of the first session are thrown away.
    Between { record: Record, thrown: u32 },
    /// The header of the second session's first record is passed on.
    Second(Record),
}

impl<S> Handover<S> {
    /// Passes everything on.
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            state: State::Open,
        }
    }

    /// From here on the first session speaks.
    pub(super) fn begin_first(&mut self) {
        self.state = State::First(Record::default());
    }

    /// From here on the second session speaks. The first one must not have been given up within a
    /// record.
    pub(super) fn begin_second(&mut self) {
        self.state = State::Between {
            record: Record::default(),
            thrown: 0,
        };
    }
}

/// A record that is being read.
#[derive(Debug, Default, Clone, Copy)]
struct Record {
    header: [u8; RECORD_HEADER_BYTES],
    /// How much of the header is here.
    read: usize,
    /// How much of the header was passed on.
    passed: usize,
    /// Bytes of the body that are not yet read; known once the header is.
    left: usize,
}

impl Record {
    /// Reads up to the end of the header; false at the end of the connection.
    fn poll_header<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        while let Some(rest) = self.header.get_mut(self.read..).filter(|r| !r.is_empty()) {
            match ready!(poll_part(stream, context, rest))? {
                0 => return Poll::Ready(Ok(false)),
                bytes => self.read += bytes,
            }
            let [_, _, _, high, low] = self.header;
            self.left = u16::from_be_bytes([high, low]).into();
        }
        Poll::Ready(Ok(true))
    }

    fn is_left_over(&self) -> bool {
        let [kind, ..] = self.header;
        kind == APPLICATION_DATA || (kind == ALERT && self.left > PLAIN_ALERT_BYTES)
    }

    /// Passes on what is left of the header; false when all of it was.
    fn pass_header(&mut self, to: &mut ReadBuf<'_>) -> bool {
        let here = self.header.get(self.passed..).unwrap_or_default();
        let bytes = here.len().min(to.remaining());
        to.put_slice(here.get(..bytes).unwrap_or_default());
        self.passed += bytes;
        bytes > 0
    }

    /// Reads a part of the body, and begins anew behind its end.
    fn poll_body<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
        to: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let most = self.left.min(to.len());
        let part = to.get_mut(..most).unwrap_or_default();
        let bytes = ready!(poll_part(stream, context, part))?;
        self.left -= bytes;
        self.begin_anew_at_end();
        Poll::Ready(Ok(bytes))
    }

    fn begin_anew_at_end(&mut self) {
        if self.left == 0 {
            *self = Self::default();
        }
    }
}

fn poll_part<S: AsyncRead + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    to: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut to = ReadBuf::new(to);
    ready!(Pin::new(stream).poll_read(context, &mut to))?;
    Poll::Ready(Ok(to.filled().len()))
}

impl<S: AsyncRead + Unpin> AsyncRead for Handover<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, state } = self.get_mut();
        if to.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match state {
                State::Open => return Pin::new(stream).poll_read(context, to),
                State::First(record) => {
                    if !ready!(record.poll_header(stream, context))? {
                        return Poll::Ready(Ok(()));
                    }
                    if record.pass_header(to) {
                        return Poll::Ready(Ok(()));
                    }
                    if record.left == 0 {
                        record.begin_anew_at_end();
                        continue;
                    }
                    let room = to.remaining().min(record.left);
                    let part = to.initialize_unfilled_to(room);
                    let bytes = ready!(record.poll_body(stream, context, part))?;
                    to.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                State::Between { record, thrown } => {
                    if !ready!(record.poll_header(stream, context))? {
                        return Poll::Ready(Ok(()));
                    }
                    if !record.is_left_over() {
                        *state = State::Second(*record);
                        continue;
                    }
                    let mut away = [0; 512];
                    if ready!(record.poll_body(stream, context, &mut away))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    *thrown += 1;
                    if *thrown > LEFT_OVER_MAX {
                        return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                    }
                }
                State::Second(record) => {
                    if record.pass_header(to) {
                        return Poll::Ready(Ok(()));
                    }
                    *state = State::Open;
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Handover<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let [high, low] = (body.len() as u16).to_be_bytes();
        [&[kind, 3, 3, high, low], body].concat()
    }

    /// Reads with a buffer of `room` bytes until `enough` bytes came or the stream ended.
    async fn read(handover: &mut Handover<&[u8]>, room: usize, enough: usize) -> Vec<u8> {
        let mut all = Vec::new();
        let mut part = vec![0; room];
        while all.len() < enough {
            match handover.read(&mut part).await.expect("reads") {
                0 => break,
                bytes => all.extend(&part[..bytes]),
            }
        }
        all
    }

    #[tokio::test]
    async fn the_first_session_gets_whole_records_and_nothing_beyond() {
        for room in [1, 3, 5, 7, 4096] {
            let first = [record(22, b"hello"), record(20, b""), record(23, b"lines")].concat();
            let rest = record(23, b"and so on");
            let all = [b"220 hi\n".as_slice(), &first, &rest].concat();
            let mut handover = Handover::new(all.as_slice());
            let mut greeting = [0; 7];
            handover.read_exact(&mut greeting).await.expect("a line");
            assert_eq!(&greeting, b"220 hi\n");
            handover.begin_first();
            assert_eq!(read(&mut handover, room, first.len()).await, first);
            assert_eq!(handover.stream, rest);
        }
    }

    #[tokio::test]
    async fn what_is_left_of_the_first_session_is_thrown_away() {
        let left = [record(23, &[7; 2000]), record(21, &[7; 24])].concat();
        let second = [
            record(22, b"hello"),
            record(23, b"data"),
            record(21, &[1, 0]),
        ]
        .concat();
        for left in [left.as_slice(), &[]] {
            for room in [1, 4, 4096] {
                let all = [left, &second].concat();
                let mut handover = Handover::new(all.as_slice());
                handover.begin_second();
                assert_eq!(read(&mut handover, room, usize::MAX).await, second);
            }
        }
    }

    #[tokio::test]
    async fn a_refusal_of_the_second_session_is_not_thrown_away() {
        let refusal = record(21, &[2, 40]);
        let mut handover = Handover::new(refusal.as_slice());
        handover.begin_second();
        assert_eq!(read(&mut handover, 64, usize::MAX).await, refusal);
    }

    #[tokio::test]
    async fn a_host_that_never_begins_the_second_session_is_given_up() {
        let endless = record(23, b"x").repeat(100);
        let mut handover = Handover::new(endless.as_slice());
        handover.begin_second();
        assert!(handover.read_u8().await.is_err());
    }
}
