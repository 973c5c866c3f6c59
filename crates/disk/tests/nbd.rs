//! Against nbdkit and qemu-nbd, which tests/setup.sh installs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use stillwater_disk::nbd::{
    CommandLine, CommandValues, Endpoint, NbdCommand, NbdError, NbdReader, NbdWriter, Settings, Tls,
};
use stillwater_disk::{DiskReader, DiskWriter, Error, Result, Unwritten, read_ahead};
use stillwater_types::{Extent, ExtentSet, Reason};
use stillwater_vsphere::{Fingerprint, Trust};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const LENGTH: u64 = 8 * MIB + 512;

fn content() -> Vec<u8> {
    (0..LENGTH).map(|at| (at * 7 % 253) as u8).collect()
}

/// A server that is killed with the test.
struct Server {
    child: Child,
    dir: TempDir,
}

impl Server {
    /// Starts a program; `{dir}` in its arguments is a directory, in which it listens at `nbd`.
    fn start(program: &str, arguments: &[&str]) -> Self {
        Self::start_in(TempDir::new().expect("a directory"), program, arguments)
    }

    fn start_in(dir: TempDir, program: &str, arguments: &[&str]) -> Self {
        let path = dir.path().display().to_string();
        let arguments = arguments.iter().map(|text| text.replace("{dir}", &path));
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; tests/setup.sh installs it"));
        Self { child, dir }
    }

    fn nbdkit(arguments: &[&str]) -> Self {
        let all = [&["-f", "-U", "{dir}/nbd"], arguments].concat();
        Self::start("nbdkit", &all)
    }

    fn qemu(dir: TempDir, arguments: &[&str]) -> Self {
        let first = [
            "--socket={dir}/nbd",
            "--persistent",
            "--shared=8",
            "--format=raw",
        ];
        Self::start_in(dir, "qemu-nbd", &[&first, arguments].concat())
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::unix(self.dir.path().join("nbd"))
    }

    async fn open(&self, length: u64) -> Result<NbdReader> {
        NbdReader::open(&self.endpoint(), length, settings()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn settings() -> Settings {
    Settings {
        starting: Duration::from_secs(20),
        ..Settings::default()
    }
}

/// A directory with a disk in it.
fn disk(bytes: &[u8]) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("disk"), bytes).expect("written");
    dir
}

async fn read(reader: &NbdReader, start: u64, length: u64) -> Result<Bytes> {
    reader.read(Extent::new(start, length)).await
}

async fn read_all(reader: NbdReader, request_bytes: u32, in_flight: usize) -> Vec<u8> {
    let length = reader.length();
    let mut bytes = Vec::new();
    let mut parts = read_ahead(
        std::sync::Arc::new(reader),
        ExtentSet::whole(length),
        request_bytes,
        in_flight,
    );
    while let Some(part) = parts.next().await {
        bytes.extend_from_slice(&part.expect("reads").1);
    }
    bytes
}

#[tokio::test]
async fn qemu_nbd_is_read_to_the_last_byte() {
    let server = Server::qemu(disk(&content()), &["--read-only", "{dir}/disk"]);
    let reader = server.open(LENGTH).await.expect("opens");
    assert!(reader.client().export().structured);
    let want = content();
    for (start, length) in [(0, 1), (511, 1026), (LENGTH - 513, 513), (0, LENGTH)] {
        let got = read(&reader, start, length).await.expect("reads");
        assert!(got == want[start as usize..(start + length) as usize]);
    }
    assert!(read_all(reader, 300_001, 8).await == want);
    let outcome =
        NbdWriter::open(&server.endpoint(), LENGTH, settings(), Unwritten::AreZeros).await;
    assert!(matches!(outcome, Err(Error::Nbd(NbdError::ReadOnly))));
    let outcome = server.open(LENGTH + 512).await;
    assert!(matches!(outcome, Err(Error::WrongLength { .. })));
}

#[tokio::test]
async fn an_export_is_asked_for_by_its_name() {
    let server = Server::qemu(disk(&content()), &["--export-name=web", "{dir}/disk"]);
    let named = server.endpoint().export("web");
    let reader = NbdReader::open(&named, LENGTH, settings()).await;
    assert_eq!(reader.expect("opens").length(), LENGTH);
    let other = server.endpoint().export("db");
    let outcome = NbdReader::open(&other, LENGTH, settings()).await;
    assert!(
        matches!(outcome, Err(Error::Nbd(NbdError::Refused { .. }))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn what_is_written_over_nbd_is_on_the_disk() {
    for old in [false, true] {
        let server = Server::qemu(
            disk(&vec![if old { 0xaa } else { 0 }; LENGTH as usize]),
            &["{dir}/disk"],
        );
        let unwritten = if old {
            Unwritten::BecomeZeros
        } else {
            Unwritten::AreZeros
        };
        let writer = NbdWriter::open(&server.endpoint(), LENGTH, settings(), unwritten).await;
        let mut writer = Box::new(writer.expect("opens"));
        let mut want = vec![0; LENGTH as usize];
        let all = content();
        for (start, length) in [(100, 5000), (MIB, 3 * MIB), (LENGTH - 700, 700)] {
            let range = start as usize..(start + length) as usize;
            let bytes = Bytes::copy_from_slice(&all[range.clone()]);
            writer.write(start, bytes).await.expect("writes");
            want[range.clone()].copy_from_slice(&all[range]);
        }
        writer.finish().await.expect("finishes");
        assert!(fs::read(server.dir.path().join("disk")).expect("reads") == want);
    }
}

#[tokio::test]
async fn what_the_server_calls_zeros_is_a_hint_that_can_be_had() {
    let dir = disk(&[]);
    let file = fs::File::create(dir.path().join("disk")).expect("made");
    file.set_len(LENGTH).expect("sized");
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 65536], 4 * MIB).expect("written");
    let server = Server::qemu(dir, &["{dir}/disk"]);
    let reader = server.open(LENGTH).await.expect("opens");
    let allocation = reader.allocation().await.expect("asks").expect("tells");
    assert_eq!(allocation.zero_bytes + allocation.data.bytes(), LENGTH);
    let data: Vec<Extent> = allocation.data.iter().collect();
    assert_eq!(data, [Extent::new(4 * MIB, 65536)]);
    // One that does not tell.
    let server = Server::nbdkit(&["--no-sr", "memory", "1M"]);
    let reader = server.open(MIB).await.expect("opens");
    assert!(!reader.client().export().structured);
    assert_eq!(reader.allocation().await.expect("asks"), None);
    assert!(
        read(&reader, 5, 5000)
            .await
            .expect("reads")
            .iter()
            .all(|byte| *byte == 0)
    );
}

#[tokio::test]
async fn a_large_disk_with_little_in_it_is_told_in_few_questions() {
    let server = Server::nbdkit(&["memory", "100G"]);
    let length = 100 << 30;
    let reader = server.open(length).await.expect("opens");
    let allocation = reader.allocation().await.expect("asks").expect("tells");
    assert_eq!((allocation.zero_bytes, allocation.data.len()), (length, 0));
}

#[tokio::test]
async fn nbdkit_is_read_over_several_connections_at_once() {
    let server = Server::nbdkit(&["-r", "--filter=delay", "pattern", "64M", "rdelay=50ms"]);
    let reader = server.open(64 * MIB).await.expect("opens");
    assert_eq!(reader.client().connections(), 4);
    let began = Instant::now();
    let reads = join_all((0..32).map(|at| read(&reader, at * MIB, 4096))).await;
    // One after another would take 1.6 s.
    assert!(
        began.elapsed() < Duration::from_millis(800),
        "{:?}",
        began.elapsed()
    );
    for (at, got) in reads.into_iter().enumerate() {
        let want: Vec<u8> = (0..512)
            .flat_map(|word| (at as u64 * MIB + word * 8).to_be_bytes())
            .collect();
        assert!(got.expect("reads") == want);
    }
}

#[tokio::test]
async fn blocks_that_the_server_demands_are_what_it_is_asked_for() {
    let policy = [
        "--filter=blocksize-policy",
        "pattern",
        "8M",
        "blocksize-minimum=64K",
    ];
    let sizes = [
        "blocksize-maximum=256K",
        "blocksize-preferred=64K",
        "blocksize-error-policy=error",
    ];
    let server = Server::nbdkit(&[&policy[..], &sizes].concat());
    let reader = server.open(8 * MIB).await.expect("opens");
    let got = read(&reader, 70_001, 900_000).await.expect("reads");
    let all: Vec<u8> = (0..MIB).flat_map(|word| (word * 8).to_be_bytes()).collect();
    assert!(got == all[70_001..970_001]);
}

#[tokio::test]
async fn errors_of_the_server_are_errors_and_nothing_is_made_up() {
    let faulty = [
        "--filter=error",
        "pattern",
        "64M",
        "error-pread=EIO",
        "error-pread-rate=30%",
    ];
    let server = Server::nbdkit(&faulty);
    let reader = server.open(64 * MIB).await.expect("opens");
    let (mut good, mut bad) = (0, 0);
    for at in 0..100 {
        match read(&reader, at * 4096, 4096).await {
            Ok(bytes) => {
                let want: Vec<u8> = (0..512)
                    .flat_map(|word| (at * 4096 + word * 8).to_be_bytes())
                    .collect();
                assert!(bytes == want);
                good += 1;
            }
            Err(error) => {
                assert!(
                    matches!(error, Error::Nbd(NbdError::Server { .. })),
                    "{error}"
                );
                assert_eq!(error.fault().reason, Reason::DiskReadFailed);
                bad += 1;
            }
        }
    }
    assert!(good > 20 && bad > 5, "{good} and {bad}");
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_is_told_at_once() {
    let mut server = Server::nbdkit(&["--filter=delay", "memory", "64M", "rdelay=30"]);
    let reader = server.open(64 * MIB).await.expect("opens");
    let reads = join_all((0..16).map(|at| read(&reader, at * 4096, 4096)));
    let kill = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.child.kill().expect("killed");
        Instant::now()
    };
    let (outcomes, killed) = futures::join!(reads, kill);
    assert!(killed.elapsed() < Duration::from_secs(5));
    for outcome in outcomes {
        assert!(
            matches!(outcome, Err(Error::Nbd(NbdError::Lost { .. }))),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_disk_that_was_cut_is_another_size_and_one_that_shrinks_fails() {
    let server = Server::nbdkit(&["--filter=truncate", "memory", "8M", "truncate=4M"]);
    let outcome = server.open(8 * MIB).await;
    assert!(matches!(outcome, Err(Error::WrongLength { found, .. }) if found == 4 * MIB));
    let dir = disk(&content());
    let path = dir.path().join("disk");
    let server = Server::start_in(
        dir,
        "nbdkit",
        &["-f", "-U", "{dir}/nbd", "file", "{dir}/disk"],
    );
    let reader = server.open(LENGTH).await.expect("opens");
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("opens")
        .set_len(MIB)
        .expect("cut");
    assert_eq!(read(&reader, 0, 4096).await.expect("there").len(), 4096);
    assert!(read(&reader, 2 * MIB, 4096).await.is_err());
}

/// An authority and a server's certificate, in files as nbdkit wants them.
struct Pki {
    dir: TempDir,
    authority: String,
    server: Fingerprint,
}

impl Pki {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).expect("signed");
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["nbd.example".to_owned()]).expect("parameters");
        let server = params.signed_by(&key, &issuer).expect("signed");
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
        put("ca-cert.pem", &authority.pem());
        put("server-cert.pem", &server.pem());
        put("server-key.pem", &key.serialize_pem());
        Self {
            server: Fingerprint::of(server.der()),
            authority: authority.pem(),
            dir,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

fn tls(trust: Trust, server_name: &str) -> Tls {
    Tls {
        trust,
        server_name: server_name.to_owned(),
    }
}

#[tokio::test]
async fn tls_is_spoken_with_whom_is_trusted_and_never_given_up() {
    let pki = Pki::new();
    let certificates = format!("--tls-certificates={}", pki.path().display());
    let server = Server::nbdkit(&["--tls=require", &certificates, "pattern", "1M"]);
    let authority = || Trust::Ca(pki.authority.clone().into_bytes());
    for good in [
        tls(authority(), "nbd.example"),
        tls(Trust::Fingerprint(pki.server), "other.example"),
    ] {
        let endpoint = server.endpoint().tls(good);
        let reader = NbdReader::open(&endpoint, MIB, settings())
            .await
            .expect("trusted");
        let got = read(&reader, 8, 8).await.expect("reads");
        assert_eq!(got.as_ref(), [0, 0, 0, 0, 0, 0, 0, 8]);
    }
    let stranger = Pki::new();
    for bad in [
        tls(authority(), "other.example"),
        tls(
            Trust::Ca(stranger.authority.clone().into_bytes()),
            "nbd.example",
        ),
        tls(Trust::Fingerprint(stranger.server), "nbd.example"),
    ] {
        let endpoint = server.endpoint().tls(bad);
        let error = NbdReader::open(&endpoint, MIB, settings())
            .await
            .expect_err("untrusted");
        assert!(
            matches!(error, Error::Nbd(NbdError::Untrusted { .. })),
            "{error:?}"
        );
        assert_eq!(error.fault().reason, Reason::CertificateUntrusted);
    }
    let error = server.open(MIB).await.expect_err("demands tls");
    assert!(error.to_string().contains("demands tls"), "{error}");
    let plain = Server::nbdkit(&["pattern", "1M"]);
    let endpoint = plain.endpoint().tls(tls(authority(), "nbd.example"));
    let error = NbdReader::open(&endpoint, MIB, settings())
        .await
        .expect_err("no tls there");
    assert!(
        matches!(error, Error::Nbd(NbdError::NoTls { .. })),
        "{error:?}"
    );
}

fn line(words: &[&str]) -> CommandLine {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    CommandLine::parse(&words).expect("a command")
}

fn values() -> CommandValues {
    CommandValues {
        vm: "vm-16".into(),
        snapshot: Some("snapshot-23".into()),
        file: "[ds] a b/web.vmdk".into(),
        server: "vc.example".into(),
        user: Some("backup".into()),
        password: Some("Secret 1!".to_owned().into()),
        thumbprint: None,
        cookie: Some("52 quoted".to_owned().into()),
    }
}

async fn start(line: &CommandLine, scratch: &Path) -> Result<NbdCommand> {
    NbdCommand::start(line, &values(), scratch, Duration::from_secs(20)).await
}

#[tokio::test]
async fn a_command_serves_a_disk_as_long_as_it_is_read() {
    let scratch = TempDir::new().expect("a directory");
    // A shell only because nbdkit's own plugin for vSphere cannot be here: it notes what it was
    // given, leaves a process behind and becomes the server.
    let script = "id=$0; (for a; do echo \"$a\"; done; cat \"$4\" \"$5\"; stat -c %a \"$4\" \"$5\"; env) >\"$id\"; \
                  sleep 1000 & echo $$ $! >\"$id.pids\"; echo 'it begins' >&2; exec nbdkit -f -U \"$1\" pattern 1M";
    let note = scratch.path().join("note");
    let command = line(&[
        "/bin/sh",
        "-c",
        script,
        &note.display().to_string(),
        "{socket}",
        "{vm}/{snapshot}",
        "{{{file}}}",
        "{password_file}",
        "{cookie_file}",
        "{user}@{server}",
    ]);
    let command = start(&command, scratch.path()).await.expect("starts");
    let reader = NbdReader::start(command, MIB, settings())
        .await
        .expect("opens");
    assert_eq!(read(&reader, 8, 8).await.expect("reads")[7], 8);
    let noted = fs::read_to_string(&note).expect("noted");
    for want in [
        "vm-16/snapshot-23\n",
        "{[ds] a b/web.vmdk}\n",
        "backup@vc.example\n",
        "Secret 1!52 quoted600\n600\n",
    ] {
        assert!(noted.contains(want), "{noted}");
    }
    assert!(!noted.contains("CARGO"), "the environment is its own");
    let pids = fs::read_to_string(scratch.path().join("note.pids")).expect("noted");
    let alive = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    assert!(pids.split_whitespace().all(alive));
    drop(reader);
    let began = Instant::now();
    while pids.split_whitespace().any(alive) {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "something of it is left"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut left: Vec<_> = fs::read_dir(scratch.path()).expect("lists").collect();
    left.retain(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir()));
    assert!(left.is_empty(), "socket and secrets are gone: {left:?}");
}

#[tokio::test]
async fn a_command_that_serves_nothing_says_why() {
    let scratch = TempDir::new().expect("a directory");
    let check = async |words: &[&str], expected: &str| {
        let error = start(&line(words), scratch.path())
            .await
            .expect_err("fails");
        assert!(error.to_string().contains(expected), "{error}");
    };
    let script = "echo 'libdir is wrong' >&2; exit 3";
    check(
        &["/bin/sh", "-c", script, "{socket}"],
        "exit status: 3; it said: libdir is wrong",
    )
    .await;
    let endless = "yes no | head -c 100000 >&2; echo the end >&2; exit 1";
    check(&["/bin/sh", "-c", endless, "{socket}"], "the end").await;
    check(&["/nonexistent/nbdkit", "{socket}"], "No such file").await;
    check(
        &["/bin/true", "{socket}", "{thumbprint}"],
        "no value for {thumbprint}",
    )
    .await;
    let hasty = Duration::from_millis(200);
    let silent = line(&["/bin/sleep", "1000", "{socket}"]);
    // sleep refuses the path; one that does neither serve nor end takes a shell.
    assert!(
        NbdCommand::start(&silent, &values(), scratch.path(), hasty)
            .await
            .is_err()
    );
    let silent = line(&["/bin/sh", "-c", "sleep 1000", "{socket}"]);
    let error = NbdCommand::start(&silent, &values(), scratch.path(), hasty).await;
    let error = error.expect_err("gives up").to_string();
    assert!(error.contains("its socket is not there after"), "{error}");
    assert_eq!(fs::read_dir(scratch.path()).expect("lists").count(), 0);
}

#[tokio::test]
async fn a_command_that_dies_in_the_middle_is_in_the_error() {
    let scratch = TempDir::new().expect("a directory");
    let script = "nbdkit -f -U \"$0\" --filter=delay memory 1M rdelay=30 & sleep 0.7; \
                  echo 'out of licences' >&2; kill -9 $!; exit 9";
    let command = start(
        &line(&["/bin/sh", "-c", script, "{socket}"]),
        scratch.path(),
    )
    .await;
    let reader = NbdReader::start(command.expect("starts"), MIB, settings()).await;
    let error = read(&reader.expect("opens"), 0, 512)
        .await
        .expect_err("dies");
    assert!(error.to_string().contains("out of licences"), "{error}");
    assert_eq!(error.fault().reason, Reason::DiskReadFailed);
}

#[test]
fn command_lines_that_cannot_work_are_refused_when_they_are_read() {
    for (words, expected) in [
        (&[][..], "empty"),
        (&["nbdkit", "{socket}"], "no absolute path"),
        (
            &["/usr/bin/nbdkit", "-U", "/tmp/sock"],
            "must be told {socket}",
        ),
        (
            &["/usr/bin/nbdkit", "{socket}", "{password}"],
            "{password} is none of",
        ),
        (&["/usr/bin/nbdkit", "{socket"], "is alone"),
        (&["/usr/bin/nbdkit", "{socket}", "a}b"], "is alone"),
    ] {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let error = CommandLine::parse(&words).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn the_directory_of_secrets_is_for_nobody_else() {
    let scratch = TempDir::new().expect("a directory");
    let command = line(&["/usr/sbin/nbdkit", "-f", "-U", "{socket}", "memory", "1M"]);
    let command = match Path::new("/usr/sbin/nbdkit").exists() {
        true => command,
        false => line(&["/usr/bin/nbdkit", "-f", "-U", "{socket}", "memory", "1M"]),
    };
    let command = start(&command, scratch.path()).await.expect("starts");
    let entry = fs::read_dir(scratch.path()).expect("lists").next();
    let path = entry.expect("one").expect("an entry").path();
    let mode = fs::metadata(path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    command.stop().await;
    assert_eq!(fs::read_dir(scratch.path()).expect("lists").count(), 0);
}
