//! What is left to a process that was shut in.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its setting too")]

use std::fs::File;
use std::io::{Read, Seek};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

/// Set for the process that goes to jail: nobody comes out again.
const INSIDE: &str = "STILLWATER_FILES_JAIL";

#[test]
fn nothing_can_be_opened_reached_started_or_read_but_standard_input() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let program = std::env::current_exe().unwrap();
    let test = "nothing_can_be_opened_reached_started_or_read_but_standard_input";
    let output = Command::new(program)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    for what in ["opened", "reached", "started", "read", "memory"] {
        assert!(said.contains(&format!("{what}: refused")), "{what}: {said}");
    }
    assert!(said.contains("a little memory: granted"), "{said}");
}

fn inside() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut open = tempfile::tempfile().unwrap();
    open.set_len(10).unwrap();
    open.rewind().unwrap();
    stillwater_files::enter().unwrap();
    tell("opened", File::open("/etc/passwd").is_err());
    tell("reached", TcpStream::connect(address).is_err());
    tell("started", Command::new("/bin/true").status().is_err());
    tell("read", open.read(&mut [0; 4]).is_err());
    let memory = |bytes: usize| Vec::<u8>::new().try_reserve_exact(bytes).is_err();
    tell("memory", memory(3 << 30));
    eprintln!(
        "a little memory: {}",
        if memory(1 << 20) {
            "refused"
        } else {
            "granted"
        }
    );
    std::process::exit(0);
}

fn tell(what: &str, refused: bool) {
    eprintln!("{what}: {}", if refused { "refused" } else { "granted" });
}
