//! The real binary: what `init` prints, what it refuses, how it ends, and what it logs.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use stillwater_rpc::Token;
use stillwater_seal::RecoveryKey;
use stillwater_types::Role;

const PATIENCE: Duration = Duration::from_secs(30);

fn controller(config: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stillwater-controller"));
    command
        .arg("--config")
        .arg(config)
        .args(args)
        .stdin(Stdio::null());
    command
}

fn run(config: &Path, args: &[&str]) -> Output {
    controller(config, args).output().expect("the binary runs")
}

/// A configuration for a free port, and the address.
fn configure(dir: &Path) -> (std::path::PathBuf, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let config = dir.join("controller.toml");
    let state = dir.join("state");
    let text = format!("listen = {address:?}\nadvertise = {address:?}\nstate-dir = {state:?}\n");
    fs::write(&config, text).expect("write");
    (config, address)
}

/// Ends the process with the test, whatever the test finds.
struct Running(Child);

impl Running {
    fn start(config: &Path, address: &str) -> Self {
        let child = controller(config, &["run"]).stderr(Stdio::piped()).spawn();
        let mut running = Self(child.expect("the binary runs"));
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            let ended = running.0.try_wait().expect("a child");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "it does not listen: {ended:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    /// Asks it to end as systemd does; answers whether it did so well, and its log.
    fn terminate(mut self) -> (bool, String) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("it runs");
        let mut log = String::new();
        self.0
            .stderr
            .take()
            .expect("piped")
            .read_to_string(&mut log)
            .expect("a text");
        (self.0.wait().expect("a child").success(), log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already, which is what is wanted.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn init_tells_scripts_the_keys_once_and_the_log_never_has_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let (config, address) = configure(dir.path());
    let told = run(&config, &["init", "--advertise", &address, "--json"]);
    assert!(
        told.status.success(),
        "{}",
        String::from_utf8_lossy(&told.stderr)
    );
    let told: Value = serde_json::from_slice(&told.stdout).expect("json");
    let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
    text("recovery_key")
        .parse::<RecoveryKey>()
        .expect("a recovery key");
    let token: Token = text("admin_token").parse().expect("a token");
    assert_eq!(
        (token.controller.as_str(), token.role),
        (address.as_str(), Role::Admin)
    );
    assert_eq!(
        text("login_command"),
        format!("stillwater login {}", text("admin_token"))
    );

    let again = run(&config, &["init", "--advertise", &address, "--json"]);
    assert_eq!((again.status.code(), again.stdout), (Some(1), Vec::new()));
    assert!(String::from_utf8_lossy(&again.stderr).contains("already holds a cluster"));

    let (ended_well, log) = Running::start(&config, &address).terminate();
    assert!(ended_well, "{log}");
    assert!(log.contains("serving"), "{log}");
    for secret in [text("recovery_key"), text("admin_token")] {
        assert!(!log.contains(&secret));
    }
}

#[test]
fn init_tells_a_person_what_to_keep_and_what_to_type() {
    let dir = tempfile::tempdir().expect("a directory");
    let (config, _) = configure(dir.path());
    let told = run(&config, &["init"]);
    let text = String::from_utf8(told.stdout).expect("a text");
    assert!(told.status.success());
    for part in [
        "RECOVERY KEY",
        "SWRK1-",
        "    stillwater login swt1.",
        "paper",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

#[test]
fn two_controllers_do_not_share_a_state_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let (config, address) = configure(dir.path());
    assert!(run(&config, &["init"]).status.success());
    let running = Running::start(&config, &address);
    for act in ["run", "admin-token", "init"] {
        let refused = run(&config, &[act]);
        assert_eq!(refused.status.code(), Some(1), "{act}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("another controller process"), "{act}: {said}");
    }
    assert!(running.terminate().0);
    let told = run(&config, &["admin-token", "--json"]);
    let told: Value = serde_json::from_slice(&told.stdout).expect("json");
    assert!(
        told["admin_token"]
            .as_str()
            .is_some_and(|token| token.starts_with("swt1."))
    );
    assert!(told.get("recovery_key").is_none());
}

#[test]
fn a_controller_without_a_cluster_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let (config, _) = configure(dir.path());
    let refused = run(&config, &["run"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("stillwater-controller init --advertise"),
        "{said}"
    );
}

#[test]
fn check_config_tells_every_fault_with_its_line_and_starts_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (config, _) = configure(dir.path());
    let good = run(&config, &["--check-config"]);
    assert_eq!(
        (good.status.code(), good.stdout),
        (Some(0), b"ok\n".to_vec())
    );
    fs::write(
        &config,
        "advertise = \"nowhere\"\nstate-dir = \"here\"\ndrain = \"1h\"\n",
    )
    .expect("write");
    let bad = run(&config, &["--check-config"]);
    let said = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert_eq!(bad.status.code(), Some(2), "{said}");
    for line in [
        "controller.toml:1",
        "controller.toml:2",
        "controller.toml:3",
    ] {
        assert!(said.contains(line), "{line} is not in:\n{said}");
    }
    assert!(!dir.path().join("state").exists());
}

#[test]
fn a_metrics_port_that_is_taken_ends_the_controller_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let (config, _) = configure(dir.path());
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let metrics = taken.local_addr().expect("an address").to_string();
    let text = fs::read_to_string(&config).expect("read");
    fs::write(&config, format!("{text}[metrics]\nlisten = {metrics:?}\n")).expect("write");
    assert!(run(&config, &["init"]).status.success());
    let refused = run(&config, &["run"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&metrics), "{said}");
}

#[test]
fn an_init_that_was_cut_short_is_told_of_and_done_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (config, address) = configure(dir.path());
    // A reader that is gone ends init before the cluster is put in force.
    let cut = controller(&config, &["init"])
        .stdout(Stdio::from(closed_pipe()))
        .output();
    let cut = cut.expect("the binary runs");
    let said = String::from_utf8_lossy(&cut.stderr).into_owned();
    assert_eq!(cut.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing was made"), "{said}");
    let refused = run(&config, &["run"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("holds no cluster"));
    let again = run(&config, &["init"]);
    assert!(again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("removed an unfinished init"));
    assert!(Running::start(&config, &address).terminate().0);
}

/// The writing end of a pipe that nobody reads.
fn closed_pipe() -> std::io::PipeWriter {
    let (_, writer) = std::io::pipe().expect("a pipe");
    writer
}
