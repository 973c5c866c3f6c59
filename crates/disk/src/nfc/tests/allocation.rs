//! What the arrival of a fragment costs in memory: nothing.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;

use super::super::connection::Connection;
use super::super::frame::Opened;
use super::host::{HANDLE, Io, fragment};
use super::options;
use crate::nfc::Options;

/// The largest fragment, and the largest request.
const LARGEST: u32 = 64 << 10;
const LENGTH: u32 = 2 << 20;
const REQUEST_BYTES: usize = 60;

/// A host whose answers lie ready: as soon as it has heard a request, the bytes of its answer can be
/// read. It allocates nothing itself.
#[derive(Clone)]
struct Ready(Arc<Inner>);

struct Inner {
    answers: Vec<Vec<u8>>,
    heard: AtomicUsize,
    /// Which answer is being read, and from where.
    place: Mutex<(usize, usize)>,
    reader: Mutex<Option<Waker>>,
}

impl AsyncRead for Ready {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut place = self.0.place.lock().expect("a place");
        let (nth, at) = *place;
        *self.0.reader.lock().expect("a waker") = Some(context.waker().clone());
        let is_asked = self.0.heard.load(Ordering::SeqCst) >= (nth + 1) * REQUEST_BYTES;
        let Some(answer) = self.0.answers.get(nth).filter(|_| is_asked) else {
            return Poll::Pending;
        };
        let bytes = to.remaining().min(answer.len() - at);
        to.put_slice(&answer[at..at + bytes]);
        *place = match at + bytes == answer.len() {
            true => (nth + 1, 0),
            false => (nth, at + bytes),
        };
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ready {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.heard.fetch_add(bytes.len(), Ordering::SeqCst);
        if let Some(reader) = self.0.reader.lock().expect("a waker").take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The answer to read number `nth`, of `length` bytes: fragments of `size` bytes, every other one first, which leaves as
/// many stretches apart as can be.
fn answer(nth: u32, length: u32, size: u32, is_packed: bool) -> Vec<u8> {
    let io = Io {
        nth: 0,
        operation: 4 + nth,
        is_write: false,
        compression: 0,
        offset: 0,
        total: length,
        at: 0,
        length,
    };
    let every_other = |first: u32| (first..length / size).step_by(2);
    let order = every_other(0).chain(every_other(1));
    let one = |n: u32| match is_packed {
        true => fragment(&io, n * size, size, 2, &packed(size)),
        false => fragment(&io, n * size, size, 0, &vec![7; size as usize]),
    };
    order.flat_map(one).collect()
}

/// FastLZ: a literal 7, and matches at distance 1.
fn packed(size: u32) -> Vec<u8> {
    let mut block = vec![0, 7];
    let mut left = size - 1;
    while left > 0 {
        // The last is not to be shorter than a match may be.
        let step = match left {
            ..=264 => left,
            265..300 => left - 30,
            _ => 264,
        };
        block.extend([0xe0, (step - 9) as u8, 0]);
        left -= step;
    }
    block
}

/// How often a read of `length` bytes allocates whose answer has fragments of `size` bytes. The first read of a
/// connection makes what later ones use again.
fn allocations(length: u32, size: u32, is_packed: bool) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let inner = Inner {
        answers: (0..2)
            .map(|nth| answer(nth, length, size, is_packed))
            .collect(),
        heard: AtomicUsize::new(0),
        place: Mutex::default(),
        reader: Mutex::default(),
    };
    let opened = Opened {
        handle: HANDLE,
        capacity: LENGTH.into(),
        sector_bytes: 512,
    };
    let options = Options {
        compression: is_packed,
        in_flight_bytes: LENGTH,
        ..options()
    };
    let start =
        async { Connection::start(Ready(Arc::new(inner)), opened, "here".into(), &options) };
    let connection = runtime.block_on(start);
    read(&runtime, &connection, length);
    let mut measured = 0;
    let info = measure(|| measured = read(&runtime, &connection, length));
    assert_eq!(measured, length as usize);
    info.count_total
}

/// Reads all, and sees that the bytes are where the buffer has always been.
fn read(runtime: &Runtime, connection: &Connection, length: u32) -> usize {
    let buffer = BytesMut::zeroed(length as usize);
    let place = buffer.as_ptr();
    let filled = runtime.block_on(connection.read(0, buffer)).expect("reads");
    assert!(filled.iter().all(|byte| *byte == 7));
    assert_eq!(filled.as_ptr(), place, "it was filled where it lay");
    filled.len()
}

#[test]
fn no_fragment_of_a_read_allocates_and_its_bytes_go_straight_to_their_place() {
    for is_packed in [false, true] {
        let one = allocations(LARGEST, LARGEST, is_packed);
        let usual = allocations(LENGTH, LARGEST, is_packed);
        assert_eq!(usual, one, "32 fragments and one");
        // A host that sends odd sizes leaves more stretches apart than a read begins with room for,
        // and that doubles four times.
        let odd = allocations(LENGTH, LARGEST / 16, is_packed);
        assert!(odd <= one + 4, "{odd} for 512 fragments, {one} for one");
    }
}
