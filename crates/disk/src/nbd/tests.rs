//! Against a server on a socket that answers as each test wants. Real ones are in `tests/nbd.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use proptest::prelude::*;
use stillwater_types::Extent;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::{Endpoint, NbdError, NbdReader, NbdWriter, Settings};
use crate::task::Running;
use crate::{DiskReader, DiskWriter, Error, Result, Unwritten};

const LENGTH: u64 = 1 << 20;
/// Has flags, flush, multi-conn.
const FLAGS: u16 = 0x0105;
const WRITE: u16 = 1;
const FLUSH: u16 = 3;

#[derive(Debug, Clone)]
struct Request {
    command: u16,
    handle: u64,
    offset: u64,
    length: u32,
    payload: Vec<u8>,
}

/// What a server sends; it closes after an empty one.
type Words = Vec<Vec<u8>>;

/// Gets all requests that are there at once, and which connection it is.
type Respond = dyn Fn(&[Request], usize) -> Words + Send + Sync;

struct Server {
    dir: TempDir,
    _running: Running<()>,
}

impl Server {
    /// A server that waits for so many requests before it answers them.
    fn start(
        structured: bool,
        batch: usize,
        respond: impl Fn(&[Request], usize) -> Words + Send + Sync + 'static,
    ) -> Self {
        let dir = TempDir::new().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("nbd")).expect("binds");
        let respond: Arc<Respond> = Arc::new(respond);
        let accept = async move {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (respond, number) = (Arc::clone(&respond), connections.len());
                connections.push(Running::spawn(async move {
                    // Clients come and go as tests want.
                    drop(serve(stream, structured, batch, &*respond, number).await);
                }));
            }
        };
        Self {
            dir,
            _running: Running::spawn(accept),
        }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::unix(self.dir.path().join("nbd")).export("disk")
    }

    async fn reader(&self, connections: usize) -> NbdReader {
        let settings = settings(connections);
        let opened = NbdReader::open(&self.endpoint(), LENGTH, settings).await;
        opened.expect("opens")
    }
}

fn settings(connections: usize) -> Settings {
    Settings {
        connections,
        in_flight: 8,
        answer: Duration::from_millis(700),
        ..Settings::default()
    }
}

async fn serve(
    mut stream: UnixStream,
    structured: bool,
    batch: usize,
    respond: &Respond,
    number: usize,
) -> std::io::Result<()> {
    stream.write_all(b"NBDMAGICIHAVEOPT\0\x03").await?;
    stream.read_u32().await?;
    loop {
        stream.read_u64().await?;
        let (option, length) = (stream.read_u32().await?, stream.read_u32().await?);
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data).await?;
        let mut words = Vec::new();
        match option {
            8 if structured => words.extend(answer(8, 1, &[])),
            10 if structured => {
                words.extend(answer(10, 4, b"\0\0\0\x07base:allocation"));
                words.extend(answer(10, 1, &[]));
            }
            7 => {
                let mut info = vec![0, 0];
                info.extend(LENGTH.to_be_bytes());
                info.extend(FLAGS.to_be_bytes());
                words.extend(answer(7, 3, &info));
                words.extend(answer(7, 1, &[]));
            }
            other => words.extend(answer(other, (1 << 31) + 1, &[])),
        }
        stream.write_all(&words).await?;
        if option == 7 {
            break;
        }
    }
    loop {
        let mut requests = Vec::new();
        while requests.len() < batch {
            requests.push(request(&mut stream).await?);
        }
        for words in respond(&requests, number) {
            if words.is_empty() {
                return Ok(());
            }
            stream.write_all(&words).await?;
        }
    }
}

async fn request(stream: &mut UnixStream) -> std::io::Result<Request> {
    assert_eq!(stream.read_u32().await?, 0x2560_9513);
    stream.read_u16().await?;
    let mut request = Request {
        command: stream.read_u16().await?,
        handle: stream.read_u64().await?,
        offset: stream.read_u64().await?,
        length: stream.read_u32().await?,
        payload: Vec::new(),
    };
    if request.command == WRITE {
        request.payload = vec![0; request.length as usize];
        stream.read_exact(&mut request.payload).await?;
    }
    Ok(request)
}

fn answer(option: u32, kind: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn simple(handle: u64, error: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = 0x6744_6698_u32.to_be_bytes().to_vec();
    bytes.extend(error.to_be_bytes());
    bytes.extend(handle.to_be_bytes());
    bytes.extend(content);
    bytes
}

fn chunk(handle: u64, done: bool, kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = 0x668e_33ef_u32.to_be_bytes().to_vec();
    bytes.extend(u16::from(done).to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(handle.to_be_bytes());
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn data(request: &Request, done: bool, from: u64, length: u64) -> Vec<u8> {
    let mut body = from.to_be_bytes().to_vec();
    body.extend(content(from, length));
    chunk(request.handle, done, 1, &body)
}

fn all(request: &Request) -> Vec<u8> {
    data(request, true, request.offset, u64::from(request.length))
}

fn content(from: u64, length: u64) -> Vec<u8> {
    (from..from + length)
        .map(|at| (at % 251) as u8 + 1)
        .collect()
}

async fn read(reader: &NbdReader, start: u64, length: u64) -> Result<Bytes> {
    reader.read(Extent::new(start, length)).await
}

#[track_caller]
fn check_lost<T: std::fmt::Debug>(outcome: Result<T>, words: &str) {
    match outcome {
        Err(Error::Nbd(error)) if error.to_string().contains(words) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn many_requests_are_under_way_and_answers_come_in_any_order() {
    let server = Server::start(true, 8, |requests, _| {
        requests.iter().rev().map(all).collect()
    });
    let reader = server.reader(1).await;
    let reads = (0..8).map(|at| read(&reader, at * 4096 + 7, 4096));
    for (at, got) in join_all(reads).await.into_iter().enumerate() {
        assert!(got.expect("reads") == content(at as u64 * 4096 + 7, 4096));
    }
}

#[tokio::test]
async fn a_server_without_chunks_is_read_as_well() {
    let server = Server::start(false, 2, |requests, _| {
        let answers = requests.iter().rev();
        answers
            .map(|one| simple(one.handle, 0, &content(one.offset, one.length.into())))
            .collect()
    });
    let reader = server.reader(1).await;
    let (one, two) = futures::join!(read(&reader, 0, 100), read(&reader, 5000, 9000));
    assert!(one.expect("reads") == content(0, 100));
    assert!(two.expect("reads") == content(5000, 9000));
}

#[tokio::test]
async fn an_answer_in_parts_with_holes_is_put_together() {
    let server = Server::start(true, 1, |requests, _| {
        let one = &requests[0];
        if one.offset != 0 {
            return vec![all(one)];
        }
        let mut hole = (one.offset + 1000).to_be_bytes().to_vec();
        hole.extend(500u32.to_be_bytes());
        vec![
            data(one, false, one.offset + 1500, u64::from(one.length) - 1500),
            chunk(one.handle, false, 2, &hole),
            data(one, false, one.offset, 1000),
            chunk(one.handle, true, 0, &[]),
        ]
    });
    let reader = server.reader(1).await;
    let mut want = content(0, 4000);
    want[1000..1500].fill(0);
    for _ in 0..3 {
        // Leaves a buffer that has content, which the next read gets.
        assert!(read(&reader, 4000, 4000).await.expect("reads") == content(4000, 4000));
        assert!(read(&reader, 0, 4000).await.expect("reads") == want);
    }
}

#[tokio::test]
async fn an_error_of_the_server_is_that_requests_alone() {
    let server = Server::start(true, 1, |requests, _| {
        let one = &requests[0];
        match one.offset {
            0 => {
                let body = [&5u32.to_be_bytes()[..], &[0, 4], b"oops"].concat();
                vec![chunk(one.handle, true, (1 << 15) + 1, &body)]
            }
            4096 => {
                let first = data(one, false, 4096, 10);
                let mut body = [&5u32.to_be_bytes()[..], &[0, 0]].concat();
                body.extend(4106u64.to_be_bytes());
                vec![first, chunk(one.handle, true, (1 << 15) + 2, &body)]
            }
            _ => vec![all(one)],
        }
    });
    let reader = server.reader(1).await;
    check_lost(
        read(&reader, 0, 512).await,
        "failed to read 0+512: i/o error: oops",
    );
    check_lost(
        read(&reader, 4096, 512).await,
        "failed to read 4096+512: i/o error",
    );
    assert_eq!(read(&reader, 8192, 512).await.expect("goes on").len(), 512);
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_not_believed_again() {
    type Lie = fn(&Request) -> Vec<u8>;
    let lies: [(Lie, &str); 9] = [
        (
            |one| chunk(one.handle, true, 0, &[]),
            "answers only parts when asked to read 512+512",
        ),
        (|one| data(one, true, one.offset, 511), "answers only parts"),
        (
            |one| data(one, true, one.offset + 1, 512),
            "was not asked for",
        ),
        (
            |one| data(one, true, one.offset - 1, 512),
            "was not asked for",
        ),
        (
            |one| [data(one, false, one.offset, 9), all(one)].concat(),
            "answers a part twice",
        ),
        (
            |one| simple(one.handle, 0, &content(0, 512)),
            "answers a read without chunks",
        ),
        (
            |one| {
                all(&Request {
                    handle: one.handle + 1,
                    ..one.clone()
                })
            },
            "answers what was not asked",
        ),
        (
            |one| chunk(one.handle, true, 5, &[0; 12]),
            "a chunk that does not fit",
        ),
        (|_| vec![0x55; 16], "an answer begins wrongly"),
    ];
    for (lie, words) in lies {
        let server = Server::start(true, 1, move |requests, _| vec![lie(&requests[0])]);
        let reader = server.reader(1).await;
        check_lost(read(&reader, 512, 512).await, words);
        check_lost(read(&reader, 512, 512).await, words);
    }
}

#[tokio::test]
async fn a_length_that_nobody_asked_for_is_not_believed() {
    let server = Server::start(true, 1, |requests, _| {
        let mut words = chunk(requests[0].handle, true, (1 << 15) + 1, &[]);
        let at = words.len() - 4;
        words[at..].copy_from_slice(&u32::MAX.to_be_bytes());
        vec![words]
    });
    let reader = server.reader(1).await;
    check_lost(read(&reader, 0, 512).await, "a chunk has 4294967295 bytes");
}

#[tokio::test]
async fn when_a_server_dies_all_who_wait_are_told() {
    let server = Server::start(true, 4, |requests, _| {
        vec![
            data(&requests[0], false, requests[0].offset, 100),
            Vec::new(),
        ]
    });
    let reader = server.reader(1).await;
    let reads = (0..4).map(|at| read(&reader, at * 4096, 4096));
    for outcome in join_all(reads).await {
        check_lost(outcome, "was lost: it was closed");
    }
    check_lost(read(&reader, 0, 512).await, "was lost: it was closed");
}

#[tokio::test]
async fn what_one_connection_lost_another_reads() {
    let server = Server::start(true, 1, |requests, number| match number {
        0 => vec![
            data(&requests[0], false, requests[0].offset, 100),
            Vec::new(),
        ],
        _ => vec![all(&requests[0])],
    });
    let reader = server.reader(3).await;
    assert_eq!(reader.client().connections(), 3);
    for at in 0..9 {
        let got = read(&reader, at * 4096, 4096).await.expect("another does");
        assert!(got == content(at * 4096, 4096));
    }
}

/// What a server says that its ranges hold, in the context of that number.
fn ranges(request: &Request, context: u32, ranges: &[(u32, u32)]) -> Words {
    let mut body = context.to_be_bytes().to_vec();
    for (length, flags) in ranges {
        body.extend(length.to_be_bytes());
        body.extend(flags.to_be_bytes());
    }
    vec![chunk(request.handle, true, 5, &body)]
}

#[tokio::test]
async fn only_what_reads_as_zeros_is_left_out_and_a_hole_need_not() {
    let server = Server::start(true, 1, |requests, _| match requests[0].offset {
        // Data, a hole of unknown content, zeros that are allocated.
        0 => ranges(&requests[0], 7, &[(4096, 0), (4096, 1), (8192, 2)]),
        // A hole of zeros, and data that goes on behind the disk.
        16384 => ranges(&requests[0], 7, &[(16384, 3), (u32::MAX, 0)]),
        other => panic!("{other}"),
    });
    let allocation = server.reader(1).await.allocation().await;
    let allocation = allocation.expect("asks").expect("tells");
    let data: Vec<Extent> = allocation.data.iter().collect();
    assert_eq!(
        data,
        [Extent::new(0, 8192), Extent::new(32768, LENGTH - 32768)]
    );
    assert_eq!(allocation.zero_bytes, 8192 + 16384);
}

#[tokio::test]
async fn ranges_of_another_context_or_without_end_are_not_believed() {
    let server = Server::start(true, 1, |requests, _| ranges(&requests[0], 8, &[(4096, 2)]));
    let outcome = server.reader(1).await.allocation().await;
    check_lost(outcome, "it tells what it was not asked about");
    let server = Server::start(true, 1, |requests, _| ranges(&requests[0], 7, &[(0, 2)]));
    let outcome = server.reader(1).await.allocation().await;
    check_lost(outcome, "it tells what ranges hold wrongly");
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let server = Server::start(true, 1, |_, _| Vec::new());
    let reader = server.reader(1).await;
    check_lost(read(&reader, 0, 512).await, "did not answer for 0 s");
    check_lost(read(&reader, 0, 512).await, "did not answer");
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_agreed_even_if_nobody_waits_for_them() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    // One of eight more than are allowed would be answered.
    let server = Server::start(true, 1, move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Vec::new()
    });
    let reader = server.reader(1).await;
    for _ in 0..2 {
        let reads = join_all((0..40).map(|at| read(&reader, at * 512, 512)));
        let given_up = tokio::time::timeout(Duration::from_millis(150), reads).await;
        assert!(given_up.is_err());
    }
    assert_eq!(seen.load(Ordering::SeqCst), 8);
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_harms_no_other() {
    let server = Server::start(true, 2, |requests, _| requests.iter().map(all).collect());
    let reader = server.reader(1).await;
    let first = read(&reader, 0, 4096);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), first)
            .await
            .is_err()
    );
    assert!(read(&reader, 8192, 4096).await.expect("reads") == content(8192, 4096));
}

#[tokio::test]
async fn what_lies_beyond_the_disk_is_not_asked_for() {
    let server = Server::start(true, 1, |_, _| panic!("asked"));
    let reader = server.reader(1).await;
    for (start, length) in [(LENGTH, 1), (0, LENGTH + 1), (u64::MAX, 2)] {
        let outcome = read(&reader, start, length).await;
        assert!(matches!(outcome, Err(Error::BeyondDisk { .. })));
    }
    assert!(read(&reader, LENGTH, 0).await.expect("nothing").is_empty());
}

#[tokio::test]
async fn writes_are_flushed_before_they_count_and_a_full_server_is_told() {
    let log = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&log);
    let server = Server::start(true, 1, move |requests, _| {
        let one = &requests[0];
        let sum = one.payload.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        noted
            .lock()
            .expect("fine")
            .push((one.command, one.offset, one.length, sum));
        let full = one.command == WRITE && one.payload.contains(&0xee);
        vec![simple(one.handle, if full { 28 } else { 0 }, &[])]
    });
    let endpoint = server.endpoint();
    let open = || NbdWriter::open(&endpoint, LENGTH, settings(1), Unwritten::AreZeros);
    let mut writer = Box::new(open().await.expect("opens"));
    writer
        .write(10, Bytes::from_static(&[1; 100]))
        .await
        .expect("writes");
    writer
        .write(200 * 1024, Bytes::from_static(&[2; 512]))
        .await
        .expect("writes");
    writer.finish().await.expect("finishes");
    let want = [
        (WRITE, 0, 4096, 100),
        (WRITE, 200 * 1024, 4096, 1024),
        (FLUSH, 0, 0, 0),
    ];
    assert_eq!(*log.lock().expect("fine"), want);
    let mut writer = Box::new(open().await.expect("opens"));
    writer
        .write(0, Bytes::from_static(&[0xee]))
        .await
        .expect("gathered");
    let outcome = writer.finish().await;
    assert!(
        matches!(outcome, Err(Error::DatastoreFull { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_or_says_nothing_is_told() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("nbd");
    let outcome = NbdReader::open(&Endpoint::unix(&path), 1, settings(1)).await;
    assert!(matches!(outcome, Err(Error::Nbd(NbdError::Connect { .. }))));
    let _listener = UnixListener::bind(&path).expect("binds");
    let hasty = Settings {
        connect: Duration::from_millis(50),
        ..settings(1)
    };
    let outcome = NbdReader::open(&Endpoint::unix(&path), 1, hasty).await;
    check_lost(outcome, "it does not answer");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_answers_make_a_client_panic_or_give_what_was_not_sent(
        parts in proptest::collection::vec(
            (any::<bool>(), 0..7u16, any::<bool>(), 0..3u64, proptest::collection::vec(any::<u8>(), 0..40)),
            1..8,
        ),
        tail in any::<Vec<u8>>(),
        structured in any::<bool>(),
    ) {
        let respond = move |requests: &[Request], _| {
            let base = requests[0].handle;
            let mut words: Words = parts.iter().map(|(done, kind, error, skew, body)| {
                let kind = kind | u16::from(*error) << 15;
                chunk(base + skew, *done, kind, body)
            }).collect();
            words.push(tail.clone());
            words.push(Vec::new());
            words
        };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let server = Server::start(structured, 1, respond);
            let reader = server.reader(1).await;
            // Nothing of 600 bytes can come of parts of 40.
            assert!(read(&reader, 0, 600).await.is_err());
        });
    }
}
