#![allow(clippy::unwrap_used, reason = "a test may panic, in its setting too")]
//! Clients that others have written read and write what is served.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_nbd::{Errno, Export, Piece, Trouble, serve};
use stillwater_types::Extent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::process::Command;
use tokio::task::JoinHandle;

const BLOCK: u64 = 4096;

/// A disk in memory whose zero blocks are holes.
struct Memory {
    bytes: Mutex<Vec<u8>>,
    is_writable: bool,
    /// A read that touches this fails.
    bad: Option<u64>,
}

impl Memory {
    fn new(length: usize, is_writable: bool) -> Self {
        let mut bytes = vec![0; length];
        let mut state = 7u64;
        for block in bytes.chunks_mut(BLOCK as usize) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            if state >> 62 != 0 {
                let word = state.to_le_bytes();
                block
                    .iter_mut()
                    .zip(word.iter().cycle())
                    .for_each(|(to, from)| *to = *from);
            }
        }
        Self {
            bytes: Mutex::new(bytes),
            is_writable,
            bad: None,
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    /// Runs of blocks that are zeros or not.
    fn runs(&self, range: Extent) -> Vec<(Extent, bool)> {
        let bytes = self.bytes.lock().unwrap();
        let mut runs: Vec<(Extent, bool)> = Vec::new();
        let mut at = range.start;
        while at < range.end() {
            let end = (at / BLOCK * BLOCK + BLOCK).min(range.end());
            let is_hole = bytes[at as usize..end as usize]
                .iter()
                .all(|byte| *byte == 0);
            match runs.last_mut() {
                Some((last, kind)) if *kind == is_hole => {
                    *last = Extent::new(last.start, end - last.start)
                }
                _ => runs.push((Extent::new(at, end - at), is_hole)),
            }
            at = end;
        }
        runs
    }
}

#[async_trait]
impl Export for Memory {
    fn name(&self) -> &str {
        "disk"
    }

    fn length(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }

    fn description(&self) -> String {
        "a disk in memory".into()
    }

    fn is_writable(&self) -> bool {
        self.is_writable
    }

    async fn read(&self, range: Extent) -> Result<Vec<Piece>, Trouble> {
        if self
            .bad
            .is_some_and(|bad| (range.start..range.end()).contains(&bad))
        {
            return Err(Trouble::new(Errno::Io, "chunk 4711 is damaged"));
        }
        let piece = |(run, is_hole): (Extent, bool)| match is_hole {
            true => Piece::Zeros(run.length),
            false => {
                let bytes = self.bytes.lock().unwrap();
                Piece::Data(Bytes::copy_from_slice(
                    &bytes[run.start as usize..run.end() as usize],
                ))
            }
        };
        Ok(self.runs(range).into_iter().map(piece).collect())
    }

    async fn holes(&self, range: Extent) -> Result<Vec<(u64, bool)>, Trouble> {
        let runs = self.runs(range).into_iter();
        Ok(runs.map(|(run, is_hole)| (run.length, is_hole)).collect())
    }

    async fn write(&self, offset: u64, new: Bytes) -> Result<(), Trouble> {
        let start = offset as usize;
        self.bytes.lock().unwrap()[start..start + new.len()].copy_from_slice(&new);
        Ok(())
    }

    async fn zero(&self, range: Extent) -> Result<(), Trouble> {
        self.bytes.lock().unwrap()[range.start as usize..range.end() as usize].fill(0);
        Ok(())
    }
}

/// A server on a socket in a directory of its own.
struct Server {
    dir: tempfile::TempDir,
    disk: Arc<Memory>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    fn start(disk: Memory) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("nbd")).unwrap();
        let disk = Arc::new(disk);
        let exports: Vec<Arc<dyn Export>> = vec![disk.clone()];
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await?;
                let exports = exports.clone();
                tokio::spawn(async move { serve(stream, &exports).await });
            }
        });
        Self { dir, disk, task }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("nbd")
    }

    fn uri(&self, name: &str) -> String {
        format!("nbd+unix:///{name}?socket={}", self.socket().display())
    }

    fn copy(&self) -> PathBuf {
        self.dir.path().join("copy.raw")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output().await;
    output.unwrap_or_else(|error| {
        panic!("{program} cannot be run, `tests/setup.sh` installs it: {error}")
    })
}

async fn works(program: &str, args: &[&str]) -> String {
    let output = run(program, args).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nbdcopy_and_qemu_img_read_the_same_bytes() {
    let server = Server::start(Memory::new((4 << 20) + 512, false));
    let copy = server.copy();
    works("nbdcopy", &[&server.uri("disk"), text(&copy)]).await;
    assert!(
        std::fs::read(&copy).unwrap() == server.disk.snapshot(),
        "nbdcopy"
    );
    // Without structured replies, in one connection, with small requests.
    let args = [
        "--connections=1",
        "--request-size=4096",
        &server.uri(""),
        text(&copy),
    ];
    works("nbdcopy", &args).await;
    assert!(
        std::fs::read(&copy).unwrap() == server.disk.snapshot(),
        "nbdcopy in small requests"
    );
    works(
        "qemu-img",
        &[
            "compare",
            "-f",
            "raw",
            "-F",
            "raw",
            &server.uri("disk"),
            text(&copy),
        ],
    )
    .await;
    std::fs::File::options()
        .write(true)
        .open(&copy)
        .unwrap()
        .set_len(4 << 20)
        .unwrap();
    let differs = run(
        "qemu-img",
        &[
            "compare",
            "-s",
            "-f",
            "raw",
            "-F",
            "raw",
            &server.uri("disk"),
            text(&copy),
        ],
    )
    .await;
    assert!(!differs.status.success(), "another length is another disk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nbdinfo_sees_what_it_is_and_where_its_holes_are() {
    let server = Server::start(Memory::new(8 << 20, false));
    let info = works("nbdinfo", &["--json", &server.uri("disk")]).await;
    for words in [
        "\"structured\": true",
        "\"export-size\": 8388608",
        "\"is_read_only\": true",
        "\"can_multi_conn\": true",
        "\"description\": \"a disk in memory\"",
    ] {
        assert!(info.contains(words), "no {words} in {info}");
    }
    let list = works("nbdinfo", &["--list", &server.uri("")]).await;
    assert!(list.contains("export=\"disk\""), "{list}");
    let map = works("nbdinfo", &["--map", &server.uri("disk")]).await;
    let told: Vec<(u64, u64, bool)> = map
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (
                fields[0].parse().unwrap(),
                fields[1].parse().unwrap(),
                fields[2] == "3",
            )
        })
        .collect();
    let runs = server.disk.runs(Extent::new(0, 8 << 20));
    let want: Vec<(u64, u64, bool)> = runs
        .iter()
        .map(|(run, hole)| (run.start, run.length, *hole))
        .collect();
    assert_eq!(told, want);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_disk_refuses_writes_and_a_writable_one_keeps_them() {
    let server = Server::start(Memory::new(1 << 20, false));
    let before = server.disk.snapshot();
    let write = [
        "-f",
        "raw",
        "-c",
        "write -P 0x5a 4096 8192",
        &server.uri("disk"),
    ];
    assert!(!run("qemu-io", &write).await.status.success());
    assert_eq!(before, server.disk.snapshot());

    let server = Server::start(Memory::new(1 << 20, true));
    let uri = server.uri("disk");
    let script = [
        "-f",
        "raw",
        "-c",
        "write -P 0x5a 4000 8192",
        "-c",
        "write -z 65536 65536",
        "-c",
        "flush",
        "-c",
        "read -P 0x5a 4000 8192",
        &uri,
    ];
    let said = works("qemu-io", &script).await;
    assert!(!said.contains("Pattern verification failed"), "{said}");
    let after = server.disk.snapshot();
    assert!(after[4000..12192].iter().all(|byte| *byte == 0x5a));
    assert!(after[65536..131_072].iter().all(|byte| *byte == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_fails_alone() {
    let mut disk = Memory::new(4 << 20, false);
    disk.bad = Some(2 << 20);
    let server = Server::start(disk);
    let uri = server.uri("disk");
    let said = run(
        "qemu-io",
        &[
            "-r",
            "-f",
            "raw",
            "-c",
            "read 2097152 512",
            "-c",
            "read 0 4096",
            &uri,
        ],
    )
    .await;
    let said =
        String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(said.contains("Input/output error"), "{said}");
    assert!(said.contains("read 4096/4096"), "{said}");
    let copied = run("nbdcopy", &[&uri, text(&server.copy())]).await;
    assert!(
        !copied.status.success(),
        "a copy with an unread byte is no copy"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_name_is_refused() {
    let server = Server::start(Memory::new(1 << 20, false));
    let refused = run("nbdinfo", &[&server.uri("other")]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("No such file or directory for export"),
        "{said}"
    );
}

/// Bytes of any client, good beginnings among them, end a connection or are answered; nothing panics or waits.
#[test]
fn no_bytes_of_a_client_do_harm() {
    use proptest::prelude::*;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let option = |kind: u32, data: Vec<u8>| {
        let mut bytes = 0x4948_4156_454f_5054_u64.to_be_bytes().to_vec();
        bytes.extend(kind.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes
    };
    let go = option(7, [&4u32.to_be_bytes()[..], b"disk", &[0, 0]].concat());
    let beginning = prop_oneof![
        Just(vec![]),
        Just(3u32.to_be_bytes().to_vec()),
        Just([&3u32.to_be_bytes()[..], &go].concat()),
        Just([&3u32.to_be_bytes()[..], &option(8, vec![]), &go].concat()),
    ];
    let request = (
        any::<u16>(),
        0..9u16,
        any::<u64>(),
        0..(3u64 << 20),
        0..(2u32 << 20),
    )
        .prop_map(|(flags, command, handle, offset, length)| {
            let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
            bytes.extend(flags.to_be_bytes());
            bytes.extend(command.to_be_bytes());
            bytes.extend(handle.to_be_bytes());
            bytes.extend(offset.to_be_bytes());
            bytes.extend(length.to_be_bytes());
            bytes
        });
    let part = prop_oneof![
        request,
        (0..12u32, proptest::collection::vec(any::<u8>(), 0..64))
            .prop_map(move |(kind, data)| option(kind, data)),
        proptest::collection::vec(any::<u8>(), 0..64),
    ];
    let parts = (beginning, proptest::collection::vec(part, 0..6));
    proptest!(ProptestConfig::with_cases(300), |((beginning, parts) in parts)| {
        let bytes = [beginning, parts.concat()].concat();
        runtime.block_on(async {
            let exports: Vec<Arc<dyn Export>> = vec![Arc::new(Memory::new(1 << 20, false))];
            let (client, server) = tokio::io::duplex(1 << 16);
            let (mut reading, mut writing) = tokio::io::split(client);
            let serving = tokio::spawn(async move { serve(server, &exports).await });
            let drain = tokio::spawn(async move {
                let mut all = Vec::new();
                reading.read_to_end(&mut all).await
            });
            // It may hang up before it has read all.
            writing.write_all(&bytes).await.ok();
            writing.shutdown().await.ok();
            drop(writing);
            let ended = tokio::time::timeout(std::time::Duration::from_secs(10), serving).await;
            drain.abort();
            // Any end will do, but it must not be a panic.
            prop_assert!(matches!(ended, Ok(Ok(_))), "{ended:?}");
            Ok(())
        })?;
    });
}
