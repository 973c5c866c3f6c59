//! The lab as a test needs it: one of its own, with disks that the test makes.
//!
//! Used by the integration tests of `vsphere` and of `disk`; neither uses all of it.
#![allow(dead_code)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use stillwater_vsphere::{
    Client, Endpoint, Quiesce, SnapshotRef, SnapshotSpec, Trust, VmRef, VmSummary,
};
use tempfile::TempDir;

/// Long enough for a busy machine; nothing waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const MIB: u64 = 1024 * 1024;

/// A running lab; it and its files go when this is dropped.
pub struct Simulator {
    child: Child,
    ready: Value,
    pub dir: TempDir,
}

impl Simulator {
    /// Starts a lab. Each VM is what `tests/lab` takes in its specification.
    pub fn start(vms: Value) -> Self {
        Self::start_with(|_| vms, &[])
    }

    /// The same with more arguments; `vms` gets a directory for its disks.
    pub fn start_with(vms: impl FnOnce(&Path) -> Value, arguments: &[&str]) -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let spec = dir.path().join("spec.json");
        let vms = vms(dir.path());
        std::fs::write(
            &spec,
            json!({"datastores": ["lab-ds"], "vms": vms}).to_string(),
        )
        .expect("a specification");
        let log = File::create(dir.path().join("lab.log")).expect("a log");
        let mut child = Command::new(binary())
            .args([
                "--listen",
                "127.0.0.1:0",
                "--control",
                "127.0.0.1:0",
                "--die-with-parent",
            ])
            .args([
                "--state",
                dir.path().join("state").to_str().expect("utf-8"),
                "--spec",
            ])
            .arg(&spec)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("starts");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(dir.path().join("lab.log")).unwrap_or_default();
            panic!("the lab is not ready ({error}): {line}\n{log}")
        });
        Self { child, ready, dir }
    }

    pub fn text(&self, field: &str) -> &str {
        self.ready[field]
            .as_str()
            .unwrap_or_else(|| panic!("no {field} in {}", self.ready))
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            address: self
                .text("url")
                .trim_start_matches("https://")
                .trim_end_matches('/')
                .into(),
            username: self.text("user").into(),
            password: SecretString::from(self.text("password").to_owned()),
            trust: Trust::Fingerprint(self.text("sha256").parse().expect("a fingerprint")),
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.endpoint()).await.expect("connects")
    }

    /// Calls the control endpoint.
    pub fn control(&self, method: &str, path: &str, body: Value) -> Value {
        let address = self.text("control").trim_start_matches("http://");
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut stream = TcpStream::connect(address).expect("the control endpoint");
        // HTTP/1.0: the answer ends with the connection.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: lab\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("sends");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        assert!(
            head.lines()
                .next()
                .is_some_and(|line| line.contains(" 200 ")),
            "{path}: {answer}"
        );
        serde_json::from_str(body).expect("json")
    }

    pub fn fault(&self, method: &str, kind: &str, after: u32, times: i32) {
        let fault = json!({"method": method, "kind": kind, "after": after, "times": times});
        self.control("POST", "/faults", fault);
    }

    /// How often a method was called.
    pub fn calls(&self, method: &str) -> u64 {
        self.control("GET", "/calls", Value::Null)["count"][method]
            .as_u64()
            .unwrap_or(0)
    }

    /// The file that holds a disk's bytes as the running VM writes them.
    pub fn live_disk(&self, vm: &str, index: usize) -> PathBuf {
        let vms = self.control("GET", "/vms", Value::Null);
        let vm = vms
            .as_array()
            .expect("a list")
            .iter()
            .find(|other| other["name"] == vm);
        let vm = vm.unwrap_or_else(|| panic!("not in {vms}"));
        vm["disks"][index]["live_file"]
            .as_str()
            .expect("a file")
            .into()
    }

    /// The kept copy of a disk as a snapshot froze it.
    pub fn frozen_disk(&self, snapshot: &SnapshotRef, key: i32) -> PathBuf {
        let all = self.control("GET", "/frozen", Value::Null);
        let found = all.as_array().expect("a list").iter().find(|frozen| {
            frozen["snapshot"] == snapshot.as_str() && frozen["disk_key"] == i64::from(key)
        });
        found.unwrap_or_else(|| panic!("not in {all}"))["path"]
            .as_str()
            .expect("a path")
            .into()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // Either may fail only when it has ended by itself.
        if self.child.kill().is_ok() {
            self.child.wait().expect("ends");
        }
    }
}

/// The lab's program.
pub fn binary() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/lab/build/lab");
    let path = std::env::var_os("STILLWATER_LAB").map_or_else(built, PathBuf::from);
    assert!(
        path.is_file(),
        "{} is not there: run `make lab`",
        path.display()
    );
    path
}

/// Makes a disk image with some data in it, the same for the same seed.
pub fn image(dir: &Path, name: &str, length: u64, seed: u64) -> PathBuf {
    let path = dir.join(name);
    let file = File::create(&path).expect("an image");
    file.set_len(length).expect("a length");
    // Every third 64 KiB: the rest are holes.
    for block in (0..length / 65536).step_by(3) {
        file.write_all_at(&noise(65536, seed + block), block * 65536)
            .expect("writes");
    }
    path
}

/// Bytes that look random and are the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

pub async fn find(client: &Client, path: &str) -> VmSummary {
    let all = client.inventory().await.expect("an inventory");
    let found = all.iter().find(|vm| vm.path == path).cloned();
    found.unwrap_or_else(|| panic!("{path} is not among {all:?}"))
}

pub async fn snapshot(client: &Client, vm: &VmRef, description: &str) -> SnapshotRef {
    let spec = SnapshotSpec {
        name: "stillwater".into(),
        description: description.into(),
        quiesce: Quiesce::None,
    };
    client
        .take_snapshot(vm, &spec, PATIENCE)
        .await
        .expect("a snapshot")
}
