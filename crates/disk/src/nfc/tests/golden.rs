//! Whole sessions, byte for byte, from the file by which the lab's server is held too.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use super::super::connection::Connection;
use super::super::frame::{Access, Opened};
use super::super::setup;
use super::{Error, Options, options};

const FILE: &str = include_str!("../../../../../tests/lab/golden/nfc.txt");
const PATH: &str = "[lab-ds] golden/golden.vmdk";
const HANDLE: u64 = 0x1122_3344_5566_7788;

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Host,
}

#[derive(Debug, Clone)]
struct Message {
    side: Side,
    /// Type and words.
    name: &'static str,
    bytes: Vec<u8>,
}

/// Something within a session or a part.
enum Line {
    Message(Message),
    Part(&'static str),
}

/// Sessions and parts by their first lines.
fn blocks() -> BTreeMap<&'static str, Vec<Line>> {
    let mut blocks: BTreeMap<&str, Vec<Line>> = BTreeMap::new();
    let mut current = "";
    let lines = FILE.lines().filter(|line| !line.is_empty());
    for line in lines.filter(|line| !line.starts_with('#')) {
        if line.starts_with("session ") || line.starts_with("part ") {
            current = line;
        }
        let block = blocks.entry(current).or_default();
        let message = |side, name| {
            let bytes = Vec::new();
            Line::Message(Message { side, name, bytes })
        };
        match (line.split_at_checked(2), block.last_mut()) {
            _ if line == current => {}
            (Some(("> ", name)), _) => block.push(message(Side::Client, name)),
            (Some(("< ", name)), _) => block.push(message(Side::Host, name)),
            (Some(("= ", name)), _) => block.push(Line::Part(name)),
            (_, Some(Line::Message(message))) => append(&mut message.bytes, line),
            _ => panic!("bytes of no message: {line}"),
        }
    }
    blocks
}

/// Appends what a line of bytes has.
fn append(bytes: &mut Vec<u8>, line: &str) {
    let mut rest = line.trim();
    while !rest.is_empty() {
        let times = match rest.split_once('*') {
            Some((times, behind)) if times.bytes().all(|byte| byte.is_ascii_digit()) => {
                rest = behind;
                times.parse().expect("a number")
            }
            _ => 1,
        };
        let end = match rest.strip_prefix('"') {
            Some(text) => text.find('"').expect("its end") + 2,
            None => rest.find(' ').unwrap_or(rest.len()),
        };
        let (word, behind) = rest.split_at(end);
        rest = behind.trim_start();
        if let Some(length) = word.strip_prefix("..") {
            bytes.resize(length.parse().expect("a number"), 0);
        } else {
            bytes.extend(value(word).repeat(times));
        }
    }
}

fn value(word: &str) -> Vec<u8> {
    match word {
        "HANDLE" => HANDLE.to_le_bytes().into(),
        text if text.starts_with('"') => text.trim_matches('"').into(),
        digits => data_encoding::HEXLOWER
            .decode(digits.as_bytes())
            .expect("digits"),
    }
}

fn session(name: &str) -> Vec<Message> {
    let blocks = blocks();
    let of = |first: &str| blocks.get(first).unwrap_or_else(|| panic!("no {first}"));
    let messages = |lines: &[Line]| -> Vec<Message> {
        let message = |line: &Line| match line {
            Line::Message(message) => message.clone(),
            Line::Part(name) => panic!("{name} in a part"),
        };
        lines.iter().map(message).collect()
    };
    let session = of(&format!("session {name}")).iter();
    let expanded = session.flat_map(|line| match line {
        Line::Message(message) => vec![message.clone()],
        Line::Part(name) => messages(of(&format!("part {name}"))),
    });
    expanded.collect()
}

/// The kinds of messages that the protocol is known to have. One more is known by its number alone: 13
/// asks which blocks are allocated, what that looks like is not, and it is never said here.
const KINDS: [&str; 27] = [
    "> 43 handshake",
    "> 33 session parameters",
    "< 36 reply",
    "> 51 version",
    "< 51 version",
    "> 54 connection data",
    "> 55 features",
    "> 52 open aio",
    "< 52 open aio",
    "> 2 open session",
    "< 2 open session",
    "> 9 socket options",
    "< 9 socket options",
    "> 22 resource pool",
    "< 22 resource pool",
    "> 4 open file",
    "< 4 open file",
    "> 7 read",
    "< 7 fragment",
    "> 7 write",
    "< 7 written",
    "< 1 error",
    "> 5 close file",
    "< 5 close file",
    "> 3 close session",
    "< 3 close session",
    "> 4 session complete",
];

/// The sessions below, which are played in full against what is tested here.
const PLAYED: [&str; 4] = ["write", "read", "packed", "refused"];

#[test]
fn every_kind_of_message_has_its_bytes_written_down() {
    let named = |message: Message| match message.side {
        Side::Client => format!("> {}", message.name),
        Side::Host => format!("< {}", message.name),
    };
    let messages = PLAYED.into_iter().flat_map(session);
    let found: BTreeSet<String> = messages.map(named).collect();
    assert_eq!(found, KINDS.map(str::to_owned).into());
}

/// A host that says its part once it has heard ours, and nothing but ours.
fn host(messages: Vec<Message>) -> (DuplexStream, JoinHandle<()>) {
    let (ours, mut its) = tokio::io::duplex(1 << 20);
    let playing = async move {
        for (nth, message) in messages.into_iter().enumerate() {
            if message.side == Side::Host {
                its.write_all(&message.bytes).await.expect("a listener");
                continue;
            }
            let mut heard = vec![0; message.bytes.len()];
            let outcome = its.read_exact(&mut heard).await;
            let what = format!("message {nth} ({})", message.name);
            assert!(outcome.is_ok(), "{what} did not come whole");
            assert!(heard == message.bytes, "{what} was {heard:02x?}");
        }
        let mut more = Vec::new();
        its.read_to_end(&mut more).await.expect("the end");
        assert!(more.is_empty(), "{more:02x?} besides");
    };
    (ours, tokio::spawn(playing))
}

async fn opened(mut stream: DuplexStream, access: Access, options: &Options) -> Connection {
    let opened = setup::open(&mut stream, PATH, access).await.expect("opens");
    let expected = Opened {
        handle: HANDLE,
        capacity: 8 << 20,
        sector_bytes: 512,
    };
    assert_eq!(opened, expected);
    Connection::start(stream, opened, "golden".into(), options)
}

#[tokio::test]
async fn a_session_of_writes_is_what_was_written_down() {
    let (stream, host) = host(session("write"));
    let connection = opened(stream, Access::Write, &options()).await;
    let write = |offset, bytes: Vec<u8>| connection.write(offset, Bytes::from(bytes));
    write(0, vec![b'a'; 512]).await.expect("writes");
    let long = [vec![b'b'; 65536], vec![b'c'; 512]].concat();
    write(1 << 20, long).await.expect("writes");
    connection.close().await.expect("closes");
    drop(connection);
    host.await.expect("as written down");
}

async fn read(connection: &Connection, offset: u64, bytes: usize) -> Result<BytesMut, Error> {
    connection.read(offset, BytesMut::zeroed(bytes)).await
}

#[tokio::test]
async fn a_session_of_reads_is_what_was_written_down() {
    let (stream, host) = host(session("read"));
    let connection = opened(stream, Access::Read, &options()).await;
    let short = read(&connection, 0, 512).await.expect("reads");
    assert_eq!(short, vec![b'a'; 512]);
    let long = read(&connection, 1 << 20, 66048).await.expect("reads");
    assert_eq!(long, [vec![b'b'; 65536], vec![b'c'; 512]].concat());
    let beyond = read(&connection, (8 << 20) - 512, 1024).await;
    let error = beyond.expect_err("beyond the end");
    assert!(error.to_string().contains("error 0x01"), "{error}");
    connection.close().await.expect("closes");
    drop(connection);
    host.await.expect("as written down");
}

#[tokio::test]
async fn a_session_of_packed_reads_is_what_was_written_down() {
    let (stream, host) = host(session("packed"));
    let options = Options {
        compression: true,
        ..options()
    };
    let connection = opened(stream, Access::Read, &options).await;
    let packed = read(&connection, 0, 512).await.expect("reads");
    assert_eq!(packed, vec![b'a'; 512]);
    // Closed by being dropped.
    drop(connection);
    host.await.expect("as written down");
}

#[tokio::test]
async fn a_refused_disk_is_what_was_written_down() {
    let (mut stream, host) = host(session("refused"));
    let opening = setup::open(&mut stream, PATH, Access::Write).await;
    let error = opening.expect_err("a ticket for reading");
    assert!(error.to_string().contains("for reading only"), "{error}");
    drop(stream);
    host.await.expect("as written down");
}
