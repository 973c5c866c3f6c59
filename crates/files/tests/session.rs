//! The program itself, on small disks that need no mount.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its setting too")]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use stillwater_files::{Cause, Error, Event, Job, NamePattern, Session, Wanted};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_stillwater-files");
const DISK_BYTES: u64 = 16 << 20;

/// A disk with an ext4 file system of a few files.
struct Guest {
    directory: TempDir,
}

impl Guest {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("etc/deep")).unwrap();
        fs::write(tree.join("etc/hosts"), "127.0.0.1 guest\n").unwrap();
        fs::set_permissions(tree.join("etc/hosts"), PermissionsExt::from_mode(0o640)).unwrap();
        fs::hard_link(tree.join("etc/hosts"), tree.join("etc/again")).unwrap();
        symlink("etc/hosts", tree.join("link")).unwrap();
        let sparse = File::create(tree.join("sparse")).unwrap();
        sparse.write_all_at(&[7; 5000], 3 << 20).unwrap();
        sparse.set_len(9 << 20).unwrap();
        let this = Self { directory };
        File::create(this.disk())
            .unwrap()
            .set_len(DISK_BYTES)
            .unwrap();
        let made = Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-L", "root", "-d"])
            .args([&tree, &this.disk()])
            .status();
        assert!(made.unwrap().success());
        this
    }

    fn disk(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    fn job(path: &str, wanted: Wanted) -> Job {
        Job {
            disks: vec![DISK_BYTES],
            volume: None,
            path: path.into(),
            wanted,
            name: None,
        }
    }

    fn ask(&self, job: &Job) -> Result<Vec<Event>, Error> {
        let disk = File::open(self.disk()).unwrap();
        let mut events = Vec::new();
        Session::start(Path::new(PROGRAM))?.run(
            job,
            &mut |_, offset, buffer| disk.read_exact_at(buffer, offset),
            &mut |event| {
                events.push(event);
                Ok(())
            },
        )?;
        Ok(events)
    }

    fn names(&self, path: &str) -> Vec<String> {
        let events = self.ask(&Self::job(path, Wanted::Names)).unwrap();
        let name = |event: &Event| match event {
            Event::Entry(entry) => Some(String::from_utf8(entry.name.clone()).unwrap()),
            Event::Volume(_) => None,
            other => panic!("{other:?}"),
        };
        let mut names: Vec<_> = events.iter().filter_map(name).collect();
        names.sort();
        names
    }
}

/// The content that events stand for.
fn content(events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        match event {
            Event::Bytes(more) => bytes.extend_from_slice(more),
            Event::Zeros(count) => bytes.resize(bytes.len() + *count as usize, 0),
            Event::File(_) | Event::Volume(_) => {}
            other => panic!("{other:?}"),
        }
    }
    bytes
}

#[test]
fn volumes_names_and_content_are_shown() {
    let guest = Guest::new();
    let volumes = guest.ask(&Guest::job("", Wanted::Volumes)).unwrap();
    let [Event::Volume(volume)] = volumes.as_slice() else {
        panic!("{volumes:?}");
    };
    assert_eq!(
        (volume.name.as_str(), volume.contents.as_str()),
        ("disk0", "ext4")
    );
    assert_eq!(
        (volume.label.as_deref(), volume.readable),
        (Some("root"), true)
    );
    assert_eq!(guest.names("/"), ["etc", "link", "lost+found", "sparse"]);
    assert_eq!(guest.names("/etc/hosts"), ["hosts"]);
    let events = guest.ask(&Guest::job("/link", Wanted::Content)).unwrap();
    assert!(matches!(&events[1], Event::File(facts) if facts.mode == Some(0o640)));
    assert_eq!(content(&events), b"127.0.0.1 guest\n");
    let events = guest.ask(&Guest::job("/sparse", Wanted::Content)).unwrap();
    let mut expected = vec![0; 9 << 20];
    expected[3 << 20..][..5000].fill(7);
    assert!(content(&events) == expected);
    let data: usize = events
        .iter()
        .map(|event| {
            if let Event::Bytes(bytes) = event {
                bytes.len()
            } else {
                0
            }
        })
        .sum();
    assert!(data < 10_000, "{data} bytes for a hole");
}

#[test]
fn what_is_not_there_is_said_and_so_is_what_may_be_meant() {
    let guest = Guest::new();
    let check = |job: &Job, expected: Cause, words: &str| match guest.ask(job) {
        Err(Error::Failed { cause, text }) => {
            assert!(
                cause == expected && text.contains(words),
                "{cause:?}: {text}"
            );
        }
        other => panic!("{other:?}"),
    };
    let none = Guest::job("/etc/none", Wanted::Names);
    check(&none, Cause::Missing, "no such file");
    check(
        &Guest::job("/etc", Wanted::Content),
        Cause::Asked,
        "no content",
    );
    let elsewhere = Job {
        volume: Some("disk7".into()),
        ..Guest::job("/", Wanted::Names)
    };
    let words = "there is no volume disk7; there are disk0";
    check(&elsewhere, Cause::Missing, words);
}

#[test]
fn the_reader_is_shut_in_before_it_gets_a_byte() {
    let guest = Guest::new();
    let session = Session::start(Path::new(PROGRAM)).unwrap();
    let process = format!("/proc/{}", session.process());
    let disk = File::open(guest.disk()).unwrap();
    let mut looked = false;
    let mut read = |_, offset, buffer: &mut [u8]| {
        let status = fs::read_to_string(format!("{process}/status"))?;
        let word = |name: &str| {
            status
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap()
                .to_owned()
        };
        assert_eq!(word("Seccomp:"), "Seccomp:\t2");
        assert_eq!(word("NoNewPrivs:"), "NoNewPrivs:\t1");
        let limits = fs::read_to_string(format!("{process}/limits"))?;
        let limit = limits
            .lines()
            .find(|line| line.starts_with("Max open files"))
            .unwrap();
        assert_eq!(limit.split_whitespace().nth(3), Some("0"));
        assert_eq!(fs::read_to_string(format!("{process}/environ"))?, "");
        looked = true;
        disk.read_exact_at(buffer, offset)
    };
    session
        .run(&Guest::job("/", Wanted::Names), &mut read, &mut |_| Ok(()))
        .unwrap();
    assert!(looked);
}

#[test]
fn a_disk_that_cannot_be_read_is_said() {
    let session = Session::start(Path::new(PROGRAM)).unwrap();
    let mut read = |_, _, _: &mut [u8]| Err(io::Error::other("the proxy is gone"));
    let outcome = session.run(&Guest::job("/", Wanted::Names), &mut read, &mut |_| Ok(()));
    let said = outcome.unwrap_err().to_string();
    assert!(said.contains("the proxy is gone"), "{said}");
}

#[test]
fn a_reader_that_dies_is_that_sessions_error() {
    let guest = Guest::new();
    let session = Session::start(Path::new(PROGRAM)).unwrap();
    let process = session.process().to_string();
    let mut read = |_, _, _: &mut [u8]| {
        Command::new("kill").args(["-SEGV", &process]).status()?;
        Ok(())
    };
    let outcome = session.run(&Guest::job("/", Wanted::Names), &mut read, &mut |_| Ok(()));
    assert!(
        matches!(&outcome, Err(Error::Ended(how)) if how.contains("11")),
        "{outcome:?}"
    );
    assert_eq!(guest.names("/").len(), 4);
}

/// A reader that somebody took over asks for what it may not have.
#[test]
fn a_reader_that_asks_for_more_than_its_disks_is_ended() {
    let directory = TempDir::new().unwrap();
    let check = |says: &str| {
        let program = directory.path().join("reader");
        fs::write(
            &program,
            format!("#!/bin/sh\nprintf '{says}'\nexec /bin/sleep 60\n"),
        )
        .unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let session = Session::start(&program).unwrap();
        let mut read = |_, _, _: &mut [u8]| panic!("it was given bytes");
        let outcome = session.run(&Guest::job("/", Wanted::Names), &mut read, &mut |_| Ok(()));
        assert!(matches!(outcome, Err(Error::Nonsense)), "{outcome:?}");
    };
    let zeros = |count: usize| "\\000".repeat(count);
    let head = "R\\020\\000\\000\\000";
    // Another disk; beyond the end; more than at a time; a frame that never ends; a letter that is none.
    check(&format!("{head}\\001{}\\001{}", zeros(11), zeros(3)));
    check(&format!(
        "{head}{}\\377{}\\001{}",
        zeros(8),
        zeros(3),
        zeros(3)
    ));
    check(&format!("{head}{}\\377", zeros(15)));
    check("E\\377\\377\\377\\377");
    check(&format!("X{}", zeros(4)));
}

/// All events of a tree, as words.
fn told(events: &[Event]) -> Vec<String> {
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let word = |event: &Event| match event {
        Event::Item(item) => {
            let facts = item.facts.as_ref().unwrap();
            let first = item.first.as_deref().map(text).unwrap_or_default();
            format!("{} {} {first}", facts.kind, text(&item.path))
        }
        Event::End(end) => format!("end {end:?}"),
        Event::Bytes(bytes) => text(bytes),
        Event::Zeros(count) => format!("{count} zeros"),
        Event::Volume(volume) => format!("volume {}", volume.name),
        other => panic!("{other:?}"),
    };
    events.iter().map(word).collect()
}

#[test]
fn a_tree_comes_with_all_that_is_in_it() {
    let guest = Guest::new();
    let tree = |copies| {
        guest
            .ask(&Guest::job("/etc", Wanted::Tree { copies }))
            .unwrap()
    };
    let once = told(&tree(false));
    assert_eq!(once[0], "volume disk0");
    assert_eq!(once[1], "directory  ");
    let content = "127.0.0.1 guest\n".to_owned();
    let count = |all: &[String]| all.iter().filter(|word| **word == content).count();
    assert_eq!((count(&once), count(&told(&tree(true)))), (1, 2));
    let names: Vec<_> = once
        .iter()
        .filter(|word| word.starts_with("file "))
        .collect();
    assert_eq!(names.len(), 2, "{once:#?}");
    let linked = names.iter().any(|name| {
        [
            &"file again hosts".to_owned(),
            &"file hosts again".to_owned(),
        ]
        .contains(name)
    });
    assert!(linked, "{once:#?}");
    assert!(once.contains(&"directory deep ".to_owned()));
    // Of a link its file is taken.
    let one = guest
        .ask(&Guest::job("/link", Wanted::Tree { copies: false }))
        .unwrap();
    assert!(matches!(&one[1], Event::Item(item) if item.path.is_empty()));
    assert_eq!(told(&one)[2..], [content, "end None".to_owned()]);
}

#[test]
fn names_are_found_wherever_they_are() {
    let guest = Guest::new();
    let found = |path: &str, volume: Option<&str>, pattern: &str| {
        let job = Job {
            volume: volume.map(str::to_owned),
            name: Some(NamePattern {
                pattern: pattern.to_owned(),
                any_case: false,
            }),
            ..Guest::job(path, Wanted::Found)
        };
        let mut words = told(&guest.ask(&job).unwrap());
        words.remove(0);
        words.sort();
        words
    };
    assert_eq!(found("", None, "h*s"), ["file etc/hosts "]);
    assert_eq!(found("/etc", Some("disk0"), "deep"), ["directory deep "]);
    assert_eq!(found("/", None, "nothing*"), Vec::<String>::new());
    let missing = Guest::job("/none", Wanted::Found);
    assert!(matches!(
        guest.ask(&missing),
        Err(Error::Failed {
            cause: Cause::Missing,
            ..
        })
    ));
}
