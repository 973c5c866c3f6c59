use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use stillwater_files::{Lost, Moment, VolumeFacts};

use super::*;

fn facts(kind: &str, bytes: u64) -> Facts {
    let moment = |seconds| {
        Some(Moment {
            seconds,
            nanoseconds: 123_456_789,
        })
    };
    Facts {
        kind: kind.to_owned(),
        bytes,
        mode: Some(0o640),
        owner: None,
        group: None,
        modified: moment(1_000_000_000),
        accessed: moment(1_100_000_000),
        links: 1,
        device: None,
        target: None,
        losses: Vec::new(),
    }
}

fn item(path: impl AsRef<[u8]>, facts: Facts) -> Event {
    Event::Item(Item {
        path: path.as_ref().to_vec(),
        facts: Ok(facts),
        first: None,
        attributes: Vec::new(),
    })
}

fn directory(path: impl AsRef<[u8]>) -> Event {
    let facts = Facts {
        mode: Some(0o750),
        ..facts("directory", 0)
    };
    item(path, facts)
}

fn volume() -> Event {
    Event::Volume(VolumeFacts {
        name: "disk0".to_owned(),
        bytes: 0,
        contents: "ext4".to_owned(),
        readable: true,
        label: None,
        losses: Vec::new(),
    })
}

/// A tree with one of everything.
fn tree() -> Vec<Event> {
    let several = Facts {
        links: 2,
        ..facts("file", 5)
    };
    let again = Event::Item(Item {
        path: b"again".to_vec(),
        facts: Ok(several.clone()),
        first: Some(b"sub/file".to_vec()),
        attributes: Vec::new(),
    });
    let link = Facts {
        target: Some(b"/etc/passwd".to_vec()),
        ..facts("link", 11)
    };
    let with_attribute = Event::Item(Item {
        path: b"sparse".to_vec(),
        facts: Ok(facts("file", 300_003)),
        first: None,
        attributes: vec![(b"user.some".to_vec(), b"a=b\n\0c".to_vec())],
    });
    vec![
        volume(),
        directory(""),
        directory("sub"),
        item("sub/file", several),
        Event::Bytes(b"he".to_vec()),
        Event::Bytes(b"llo".to_vec()),
        Event::End(None),
        item(b"sub/not \xff text", facts("file", 0)),
        Event::End(None),
        item("sub/link", link),
        again,
        with_attribute,
        Event::Zeros(300_000),
        Event::Bytes(b"end".to_vec()),
        Event::End(None),
        item("pipe", facts("pipe", 0)),
        item("broken", facts("file", 600)),
        Event::Bytes(vec![1; 100]),
        Event::End(Some("its map is damaged".to_owned())),
        item("last", facts("file", 4)),
        Event::Bytes(b"last".to_vec()),
        Event::End(None),
        Event::Lost(Lost {
            path: b"sub".to_vec(),
            what: "a page is damaged".to_owned(),
        }),
    ]
}

fn take(events: Vec<Event>, to: &Path, shape: Shape) -> io::Result<Report> {
    let mut taking = Taking::new(to.to_owned(), shape);
    for event in events {
        taking.take(event)?;
    }
    taking.finish()
}

/// What has to be there wherever a tree was put.
fn check_tree(root: &Path) {
    let file = root.join("sub/file");
    assert_eq!(fs::read(&file).unwrap(), b"hello");
    let known = fs::metadata(&file).unwrap();
    assert_eq!(known.permissions().mode() & 0o7777, 0o640);
    assert_eq!(
        (known.mtime(), known.mtime_nsec()),
        (1_000_000_000, 123_456_789)
    );
    assert_eq!(fs::metadata(root.join("again")).unwrap().ino(), known.ino());
    let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"sub/not \xff text");
    assert!(root.join(odd).exists());
    assert_eq!(fs::read(root.join("last")).unwrap(), b"last");
    let top = fs::metadata(root).unwrap();
    assert_eq!((top.mode() & 0o7777, top.mtime()), (0o750, 1_000_000_000));
    let link = root.join("sub/link");
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("/etc/passwd"));
    let mut sparse = vec![0; 300_000];
    sparse.extend_from_slice(b"end");
    assert!(fs::read(root.join("sparse")).unwrap() == sparse);
    let sub = fs::metadata(root.join("sub")).unwrap();
    assert_eq!((sub.mode() & 0o7777, sub.mtime()), (0o750, 1_000_000_000));
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(root.join("sparse"), "user.some", &mut value);
    if let Ok(length) = length {
        assert_eq!(&value[..length], b"a=b\n\0c");
    }
}

#[test]
fn a_tree_becomes_files_and_what_cannot_is_listed() {
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("taken");
    let report = take(tree(), &to, Shape::Files).unwrap();
    check_tree(&to);
    assert!(!to.join("broken").exists() && !to.join("pipe").exists());
    let notes = report.notes().join("\n");
    for what in [
        "a pipe is not made",
        "its map is damaged",
        "a page is damaged",
    ] {
        assert!(notes.contains(what), "{notes}");
    }
    let json = report.json();
    assert_eq!(
        (&json["files"], &json["directories"], &json["links"]),
        (&6.into(), &2.into(), &1.into())
    );
    assert_eq!(
        fs::read_dir(place.path()).unwrap().count(),
        1,
        "something is left beside it"
    );
    assert!(
        take(tree(), &to, Shape::Files).is_err(),
        "it was written over"
    );
}

#[test]
fn a_tree_becomes_an_archive_that_tar_reads() {
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("taken.tar");
    let prefix = b"etc".to_vec();
    let report = take(tree(), &to, Shape::Tar { prefix }).unwrap();
    let unpacked = Command::new("tar")
        .args(["--xattrs", "-xpf"])
        .arg(&to)
        .current_dir(place.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&unpacked.stderr);
    assert!(unpacked.status.success(), "{said}");
    let root = place.path().join("etc");
    check_tree(&root);
    let mut broken = vec![0; 600];
    broken[..100].fill(1);
    assert!(fs::read(root.join("broken")).unwrap() == broken);
    let notes = report.notes().join("\n");
    assert!(
        notes.contains("its last 500 bytes are zeros here"),
        "{notes}"
    );
    let pipe = fs::symlink_metadata(root.join("pipe")).unwrap();
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&pipe.file_type()));
}

#[test]
fn a_tree_becomes_a_zip_archive_that_others_read() {
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("taken.zip");
    let mut events = tree();
    // What a reader that was asked for copies tells of the second name.
    let again = |event: &Event| matches!(event, Event::Item(item) if item.first.is_some());
    let at = events.iter().position(again).unwrap();
    let copy = vec![
        item("again", facts("file", 5)),
        Event::Bytes(b"hello".to_vec()),
        Event::End(None),
    ];
    events.splice(at..=at, copy);
    let prefix = b"etc".to_vec();
    let report = take(events, &to, Shape::Zip { prefix }).unwrap();
    let unpacked = Command::new("unzip")
        .arg("-q")
        .arg(&to)
        .current_dir(place.path())
        .env("TZ", "UTC")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&unpacked.stderr);
    assert!(unpacked.status.success(), "{said}");
    let root = place.path().join("etc");
    for name in ["sub/file", "again"] {
        let file = root.join(name);
        assert_eq!(fs::read(&file).unwrap(), b"hello");
        let known = fs::metadata(&file).unwrap();
        assert_eq!(
            (known.mode() & 0o7777, known.mtime()),
            (0o640, 1_000_000_000)
        );
    }
    let link = fs::read_link(root.join("sub/link")).unwrap();
    assert_eq!(link, Path::new("/etc/passwd"));
    assert_eq!(fs::read(root.join("sparse")).unwrap().len(), 300_003);
    assert_eq!(fs::read(root.join("last")).unwrap(), b"last");
    let notes = report.notes().join("\n");
    for what in [
        "user.some is left out",
        "no pipe",
        "ends after 100 bytes",
        "no text",
        "no owners",
    ] {
        assert!(notes.contains(what), "{what}: {notes}");
    }
}

#[test]
fn names_of_any_length_are_in_an_archive() {
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("taken.tar");
    let name = "n".repeat(250);
    let way = [name.as_str(); 4].join("/");
    let mut events = vec![volume(), directory("")];
    let mut path = String::new();
    for part in way.split('/') {
        path = if path.is_empty() {
            part.to_owned()
        } else {
            format!("{path}/{part}")
        };
        events.push(directory(&path));
    }
    let target = Facts {
        target: Some(path.clone().into_bytes()),
        modified: Some(Moment {
            seconds: -2,
            nanoseconds: 250_000_000,
        }),
        ..facts("link", 1003)
    };
    events.push(item("link", target));
    take(events, &to, Shape::Tar { prefix: Vec::new() }).unwrap();
    let listed = Command::new("tar")
        .args(["--full-time", "-tvf"])
        .arg(&to)
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains(&format!(" {path}/\n")), "{listed}");
    assert!(listed.contains(&format!("link -> {path}")), "{listed}");
}

/// A reader that somebody took over.
#[test]
fn no_path_leads_out_and_nonsense_ends_it() {
    let check = |events: Vec<Event>| {
        for shape in [Shape::Files, Shape::Tar { prefix: Vec::new() }] {
            let place = tempfile::tempdir().unwrap();
            let to = place.path().join("inner/taken");
            fs::create_dir(place.path().join("inner")).unwrap();
            let mut all = vec![volume(), directory("")];
            all.extend(events.clone());
            let taken = take(all, &to, shape);
            assert!(taken.is_err(), "{events:?}");
            let left = fs::read_dir(place.path().join("inner")).unwrap().count();
            assert_eq!((left, fs::read_dir(place.path()).unwrap().count()), (0, 1));
        }
    };
    for path in ["../out", "/etc/out", "a/../../out", "a//b", ".", "a\0b", ""] {
        check(vec![item(path, facts("file", 0)), Event::End(None)]);
    }
    check(vec![Event::Bytes(vec![1])]);
    check(vec![
        item("a", facts("file", 1)),
        Event::Bytes(vec![1, 2]),
        Event::End(None),
    ]);
    check(vec![
        item("a", facts("file", 2)),
        Event::Bytes(vec![1]),
        Event::End(None),
    ]);
    check(vec![
        item("a", facts("file", 2)),
        item("b", facts("file", 0)),
    ]);
    check(vec![item("a", facts("file", 2))]);
    let out = Event::Item(Item {
        path: b"a".to_vec(),
        facts: Ok(facts("file", 2)),
        first: Some(b"../../secret".to_vec()),
        attributes: Vec::new(),
    });
    check(vec![out]);
}

/// A name below a link: nothing goes to where it leads.
#[test]
fn nothing_is_written_through_a_link() {
    let place = tempfile::tempdir().unwrap();
    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let to = place.path().join("taken");
    let link = Facts {
        target: Some(outside.to_str().unwrap().as_bytes().to_vec()),
        ..facts("link", 9)
    };
    let several = Event::Item(Item {
        path: b"stolen".to_vec(),
        facts: Ok(facts("file", 9)),
        first: Some(b"way/secret".to_vec()),
        attributes: Vec::new(),
    });
    fs::write(outside.join("secret"), "secret").unwrap();
    let events = vec![
        volume(),
        directory(""),
        item("way", link),
        item("way/file", facts("file", 0)),
        Event::End(None),
        directory("way"),
        item("way/more", facts("file", 0)),
        Event::End(None),
        several,
    ];
    let report = take(events, &to, Shape::Files).unwrap();
    assert!(!report.is_whole());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert!(!to.join("stolen").exists());
}

#[test]
fn a_file_by_itself_is_whole_or_not_there() {
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("file");
    let begin = || {
        vec![
            volume(),
            item("", facts("file", 3)),
            Event::Bytes(b"abc".to_vec()),
        ]
    };
    let broken = [begin(), vec![Event::End(Some("damaged".to_owned()))]].concat();
    assert!(take(broken, &to, Shape::Files).is_err() && !to.exists());
    take(
        [begin(), vec![Event::End(None)]].concat(),
        &to,
        Shape::Files,
    )
    .unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"abc");
    assert_eq!(fs::metadata(&to).unwrap().mtime(), 1_000_000_000);
}
