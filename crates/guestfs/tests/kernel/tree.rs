//! A tree of all that is hard, and two views of it held against each other.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs as sys;
use stillwater_guestfs::{Content, Cursor, Entry, FileSystem, Kind, Node, Time};

use crate::lab::run;

/// Bytes that compress a little and differ for each `seed`.
pub fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(format!("{:x} still ", state >> 40).as_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// What a file system can hold, beside files and directories.
#[derive(Clone, Copy)]
pub struct Holds {
    /// Names that are no text.
    pub any_names: bool,
    /// Attributes in `user.`, with values up to this long, and lists of access.
    pub attributes: Option<usize>,
    /// The first second that its tools show rightly.
    pub earliest: i64,
}

/// Fills a directory with about 3200 files: wide, deep, sparse, fragmented, linked, named in every way.
pub fn fill(root: &Path, holds: Holds) {
    wide(root);
    deep(root);
    sparse(root);
    fragmented(root);
    linked(root);
    names(root, holds);
    if let Some(longest) = holds.attributes {
        attributes(root, longest);
    }
    times(root, holds.earliest);
}

fn wide(root: &Path) {
    let wide = root.join("wide");
    fs::create_dir(&wide).unwrap();
    for number in 0..2900_u64 {
        let path = wide.join(format!("file-{number:05}-with-a-name-of-some-length.txt"));
        let length = (number * number % 9000) as usize;
        fs::write(&path, text(number, length)).unwrap();
        let mode = 0o400 | (number as u32 * 7) & 0o7777;
        std::os::unix::fs::chown(&path, Some(number as u32 * 31), Some(number as u32 * 17))
            .unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    for number in (0..2900).step_by(3) {
        if number % 2 == 0 {
            let path = wide.join(format!("file-{number:05}-with-a-name-of-some-length.txt"));
            fs::remove_file(path).unwrap();
        }
    }
    for number in 0..600 {
        fs::write(wide.join(format!("{number}")), []).unwrap();
    }
}

pub fn deep(root: &Path) {
    let mut path = root.join("deep");
    for level in 0..60 {
        fs::create_dir(&path).unwrap();
        fs::write(path.join("here"), text(level, 50)).unwrap();
        path = path.join(format!("level-{level}"));
    }
}

fn sparse(root: &Path) {
    let file = File::create(root.join("sparse")).unwrap();
    for place in [0_u64, 3 << 20, 17 << 20, (40 << 20) + 12_345] {
        file.write_all_at(&text(place, 5000), place).unwrap();
    }
    file.set_len(64 << 20).unwrap();
    let allocated = File::create(root.join("allocated")).unwrap();
    let flags = sys::FallocateFlags::empty();
    if sys::fallocate(&allocated, flags, 0, 1 << 20).is_ok() {
        allocated.write_all_at(b"in the middle", 500_000).unwrap();
    }
    fs::write(root.join("large"), text(77, 9 << 20)).unwrap();
}

/// Two files that grow in turn, each step on the disk before the next.
fn fragmented(root: &Path) {
    let files = [0, 1].map(|number| File::create(root.join(format!("fragment-{number}"))).unwrap());
    for block in 0..300_u64 {
        for (number, file) in (0..).zip(&files) {
            let place = block * 8192 + (block % 3) * 4096;
            file.write_all_at(&text(block * 2 + number, 4096), place)
                .unwrap();
            sys::fdatasync(file).unwrap();
        }
    }
}

fn linked(root: &Path) {
    let links = root.join("links");
    fs::create_dir(&links).unwrap();
    fs::write(links.join("first"), "one file").unwrap();
    for number in 0..5 {
        fs::hard_link(links.join("first"), links.join(format!("also-{number}"))).unwrap();
    }
    for length in [1, 20, 58, 59, 60, 61, 156, 400, 900] {
        let target = "t".repeat(length);
        symlink(target, links.join(format!("to-{length}"))).unwrap();
    }
    symlink("../wide/0", links.join("relative")).unwrap();
    symlink("/links/relative", links.join("absolute")).unwrap();
    symlink("round", links.join("round")).unwrap();
}

fn names(root: &Path, holds: Holds) {
    let names = root.join("names");
    fs::create_dir(&names).unwrap();
    let long = "n".repeat(255);
    for name in [
        long.as_str(),
        "ümlaut-ß-日本語-🦀",
        " blank ",
        "-rf",
        "a\nb",
        ".hidden",
    ] {
        fs::write(names.join(name), name).unwrap();
    }
    if holds.any_names {
        for name in [&b"\xff\xfe\x80 not text"[..], b"\xed\xa0\x80", b"\xc3\x28"] {
            fs::write(names.join(OsStr::from_bytes(name)), name).unwrap();
        }
    }
    let special = root.join("special");
    fs::create_dir(&special).unwrap();
    run("mkfifo", &[special.join("pipe").to_str().unwrap()]);
    for (name, kind, major, minor) in [("null", "c", "1", "3"), ("large", "b", "259", "70000")] {
        let path = special.join(name);
        run("mknod", &[path.to_str().unwrap(), kind, major, minor]);
    }
    std::os::unix::net::UnixListener::bind(special.join("socket")).unwrap();
}

fn attributes(root: &Path, longest: usize) {
    let directory = root.join("attributes");
    fs::create_dir(&directory).unwrap();
    for (file, count, length) in [
        ("none", 0, 0),
        ("one", 1, 10),
        ("some", 5, 40),
        ("many", longest / 100, 40),
        ("long", 1, longest),
    ] {
        let path = directory.join(file);
        fs::write(&path, file).unwrap();
        for number in 0..count {
            let name = format!("user.attribute-{number}");
            let value = text(number as u64, length);
            sys::lsetxattr(&path, name.as_str(), &value, sys::XattrFlags::empty()).unwrap();
        }
    }
    let path = directory.join("listed");
    fs::write(&path, "who may what").unwrap();
    run(
        "setfacl",
        &["-m", "u:1234:rw,g:4321:r", path.to_str().unwrap()],
    );
    run(
        "setfacl",
        &["-d", "-m", "u:77:rwx", directory.to_str().unwrap()],
    );
}

fn times(root: &Path, earliest: i64) {
    let times = root.join("times");
    fs::create_dir(&times).unwrap();
    for seconds in [
        -86_400_i64,
        0,
        1,
        1_000_000_000,
        i32::MAX.into(),
        1 << 31,
        4_000_000_000,
    ] {
        let seconds = seconds.max(earliest);
        let path = times.join(format!("{seconds}"));
        fs::write(&path, "when").unwrap();
        let moment = |tv_nsec| sys::Timespec {
            tv_sec: seconds,
            tv_nsec,
        };
        let both = sys::Timestamps {
            last_access: moment(123_456_789),
            last_modification: moment(987_654_321),
        };
        sys::utimensat(sys::CWD, &path, &both, sys::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// What two views of one tree are held against each other for.
#[derive(Clone, Copy)]
pub struct Compared {
    /// Mode, owner and group.
    pub owners: bool,
    /// Times, to this many nanoseconds; none is not at all.
    pub times: Option<i64>,
    /// Extended attributes.
    pub attributes: bool,
    /// Names that only we show.
    pub ignored: &'static [&'static [u8]],
}

/// All that is there, to the last bit.
pub const ALL: Compared = Compared {
    owners: true,
    times: Some(1),
    attributes: true,
    ignored: &[],
};

/// Holds what `system` shows against what the kernel shows at `mounted`. Says how many names there are.
#[track_caller]
pub fn compare(system: &dyn FileSystem, mounted: &Path, compared: Compared) -> usize {
    let mut count = 0;
    let mut ahead = vec![(system.root(), mounted.to_owned())];
    while let Some((node, path)) = ahead.pop() {
        let ours = list(system, node);
        let mut theirs: Vec<_> = fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
            .collect();
        theirs.sort();
        let names: Vec<_> = ours
            .keys()
            .filter(|name| !compared.ignored.contains(&name.as_slice()))
            .cloned()
            .collect();
        assert_eq!(names, theirs, "names in {}", path.display());
        for name in theirs {
            count += 1;
            let child = path.join(OsStr::from_bytes(&name));
            let entry = &ours[&name];
            if same(system, entry, &child, compared) == Kind::Directory {
                ahead.push((entry.node, child));
            }
        }
    }
    count
}

/// All names of a directory.
pub fn list(system: &dyn FileSystem, node: Node) -> BTreeMap<Vec<u8>, Entry> {
    let mut all = BTreeMap::new();
    let mut from = Some(Cursor::default());
    while let Some(cursor) = from {
        let page = system.read_dir(node, cursor).unwrap();
        for entry in page.entries {
            let before = all.insert(entry.name.clone(), entry);
            assert!(before.is_none(), "twice in one directory: {before:?}");
        }
        from = page.next;
    }
    all
}

#[track_caller]
fn same(system: &dyn FileSystem, entry: &Entry, path: &Path, compared: Compared) -> Kind {
    let shown = path.display();
    let theirs = fs::symlink_metadata(path).unwrap();
    let ours = system
        .metadata(entry.node)
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert!(
        entry.kind.is_none_or(|kind| kind == ours.kind),
        "{shown}: {:?}",
        entry.kind
    );
    let kind = theirs.file_type();
    let kinds = [
        (kind.is_file(), Kind::File),
        (kind.is_dir(), Kind::Directory),
        (kind.is_symlink(), Kind::Link),
        (kind.is_fifo(), Kind::Pipe),
        (kind.is_socket(), Kind::Socket),
        (kind.is_char_device(), Kind::CharacterDevice),
        (kind.is_block_device(), Kind::BlockDevice),
    ];
    assert!(
        kinds.contains(&(true, ours.kind)),
        "{shown}: {:?}",
        ours.kind
    );
    if compared.owners {
        let have = (ours.mode, ours.owner, ours.group, ours.links, ours.inode);
        let want = (
            Some(theirs.mode() & 0o7777),
            Some(theirs.uid()),
            Some(theirs.gid()),
            theirs.nlink(),
            theirs.ino(),
        );
        assert_eq!(have, want, "{shown}");
    }
    if let Some(grain) = compared.times {
        near(
            ours.modified,
            theirs.mtime(),
            theirs.mtime_nsec(),
            grain,
            path,
        );
        if grain == 1 {
            near(
                ours.accessed,
                theirs.atime(),
                theirs.atime_nsec(),
                grain,
                path,
            );
            near(
                ours.changed,
                theirs.ctime(),
                theirs.ctime_nsec(),
                grain,
                path,
            );
        }
    }
    match ours.kind {
        Kind::File => {
            assert_eq!(ours.size, theirs.len(), "{shown}");
            let content = system
                .open(entry.node)
                .unwrap_or_else(|error| panic!("{shown}: {error}"));
            same_bytes(&*content, path);
        }
        Kind::Link => {
            let target = system.read_link(entry.node).unwrap();
            assert_eq!(
                target,
                fs::read_link(path).unwrap().as_os_str().as_bytes(),
                "{shown}"
            );
        }
        Kind::CharacterDevice | Kind::BlockDevice => {
            let number = theirs.rdev();
            let want = (sys::major(number), sys::minor(number));
            assert_eq!(ours.device, Some(want), "{shown}");
        }
        _ => {}
    }
    if compared.attributes {
        let mut ours: Vec<_> = system
            .attributes(entry.node)
            .unwrap_or_else(|error| panic!("{shown}: {error}"))
            .into_iter()
            .map(|attribute| (attribute.name, attribute.value))
            .collect();
        ours.sort();
        assert_eq!(ours, attributes_of(path), "{shown}");
    }
    ours.kind
}

#[track_caller]
fn near(ours: Option<Time>, seconds: i64, nanoseconds: i64, grain: i64, path: &Path) {
    let ours = ours.unwrap_or_else(|| panic!("{} has no such time", path.display()));
    let nanos = |seconds: i64, more: i64| i128::from(seconds) * 1_000_000_000 + i128::from(more);
    let apart = nanos(ours.seconds, ours.nanoseconds.into()) - nanos(seconds, nanoseconds);
    assert!(
        apart.abs() < i128::from(grain),
        "{}: {ours:?}, not {seconds}.{nanoseconds:09}",
        path.display()
    );
}

/// Reads in steps that fit no block, and holds holes against what is there.
#[track_caller]
fn same_bytes(content: &dyn Content, path: &Path) {
    let theirs = fs::read(path).unwrap();
    assert_eq!(content.length(), theirs.len() as u64, "{}", path.display());
    let step = if theirs.len() > 100_000 {
        1 << 20
    } else {
        3001
    };
    let mut buffer = vec![0xaa; step];
    let mut at = 0;
    while at < theirs.len() {
        let count = content
            .read_at(at as u64, &mut buffer)
            .unwrap_or_else(|error| panic!("{} at {at}: {error}", path.display()));
        assert_eq!(count, step.min(theirs.len() - at), "{}", path.display());
        if buffer[..count] != theirs[at..at + count] {
            let first = (0..count).find(|&index| buffer[index] != theirs[at + index]);
            panic!("{} differs at {}", path.display(), at + first.unwrap());
        }
        at += count;
    }
    assert_eq!(content.read_at(at as u64, &mut buffer).unwrap(), 0);
    let mut at = 0;
    while at < theirs.len() as u64 {
        let run = content.run_at(at);
        assert!(run.length > 0, "{}: an empty run at {at}", path.display());
        let bytes = &theirs[at as usize..(at + run.length) as usize];
        assert!(
            run.data || bytes.iter().all(|&byte| byte == 0),
            "{}: the hole at {at} has data",
            path.display()
        );
        at += run.length;
    }
}

fn attributes_of(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; 65536];
    let count = match sys::llistxattr(path, &mut names) {
        Ok(count) => count,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let mut all = Vec::new();
    for name in names[..count]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; 65536];
        let name = CString::new(name).unwrap();
        let length = sys::lgetxattr(path, &name, &mut value).unwrap();
        value.truncate(length);
        all.push((name.into_bytes(), value));
    }
    all.sort();
    all
}
