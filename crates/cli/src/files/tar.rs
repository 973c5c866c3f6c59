//! A tar archive as POSIX has it (pax): names of any length and letters, times to the nanosecond, attributes.

use std::collections::HashSet;
use std::io::{self, Write};

use stillwater_files::{Facts, Item, Moment};

use super::acl;
use super::{Report, ZEROS};

const BLOCK: u64 = 512;
/// The largest numbers of fields of seven and eleven octal digits.
const SMALL_MAX: u64 = 0o7_777_777;
const SIZE_MAX: u64 = 0o77_777_777_777;

/// Writes members as they come, so that it can go to a pipe.
pub(crate) struct Tar<W> {
    to: W,
    /// What all names begin with.
    prefix: Vec<u8>,
    /// What is still to come of the open member, and how much its padding is.
    open: Option<Open>,
    /// Paths whose members are in the archive, for those that link to them. Only of files with several names.
    linked: HashSet<Vec<u8>>,
}

struct Open {
    path: Vec<u8>,
    left: u64,
    padding: u64,
}

impl<W: Write> Tar<W> {
    pub fn new(to: W, prefix: &[u8]) -> Self {
        Self {
            to,
            prefix: prefix.to_vec(),
            open: None,
            linked: HashSet::new(),
        }
    }

    fn name(&self, path: &[u8]) -> Vec<u8> {
        let parts = [self.prefix.as_slice(), path];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(&b'/')
    }

    fn zeros_to(&mut self, count: u64) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let step = left.min(ZEROS.len() as u64);
            let part = ZEROS.get(..step as usize).unwrap_or_default();
            self.to.write_all(part)?;
            left -= step;
        }
        Ok(())
    }

    fn took(&mut self, count: u64) -> io::Result<()> {
        let open = self.open.as_mut().ok_or(io::ErrorKind::InvalidData)?;
        let left = open.left.checked_sub(count);
        open.left = left.ok_or(io::ErrorKind::InvalidData)?;
        Ok(())
    }

    /// A member's records of what its header has no room for, if there are any, and its header.
    fn head(&mut self, member: &Member<'_>, records: &[u8]) -> io::Result<()> {
        if !records.is_empty() {
            let extended = Member {
                kind: b'x',
                name: b"PaxHeaders",
                target: b"",
                size: records.len() as u64,
                facts: member.facts,
            };
            self.to.write_all(&extended.block())?;
            self.to.write_all(records)?;
            self.zeros_to(padding(records.len() as u64))?;
        }
        self.to.write_all(&member.block())
    }
}

const fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

/// What stands in a header.
struct Member<'a> {
    kind: u8,
    name: &'a [u8],
    target: &'a [u8],
    size: u64,
    facts: &'a Facts,
}

impl Member<'_> {
    fn block(&self) -> [u8; BLOCK as usize] {
        let mut block = [0; BLOCK as usize];
        let mode = match self.facts.mode {
            Some(mode) => mode & 0o7777,
            None if self.kind == b'5' => 0o700,
            None => 0o600,
        };
        let seconds = self.facts.modified.map_or(0, |moment| moment.seconds);
        let small = |number: Option<u32>| u64::from(number.unwrap_or(0)).min(SMALL_MAX);
        let (major, minor) = self.facts.device.unwrap_or((0, 0));
        put(&mut block, 0, 100, self.name);
        put(&mut block, 100, 8, &octal(mode.into(), 7));
        put(&mut block, 108, 8, &octal(small(self.facts.owner), 7));
        put(&mut block, 116, 8, &octal(small(self.facts.group), 7));
        put(&mut block, 124, 12, &octal(self.size.min(SIZE_MAX), 11));
        let seconds = u64::try_from(seconds).unwrap_or(0).min(SIZE_MAX);
        put(&mut block, 136, 12, &octal(seconds, 11));
        put(&mut block, 148, 8, b"        ");
        put(&mut block, 156, 1, &[self.kind]);
        put(&mut block, 157, 100, self.target);
        put(&mut block, 257, 8, b"ustar\x0000");
        put(&mut block, 329, 8, &octal(small(Some(major)), 7));
        put(&mut block, 337, 8, &octal(small(Some(minor)), 7));
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        put(&mut block, 148, 8, &[&octal(sum, 6)[..], b"\0 "].concat());
        block
    }
}

fn octal(number: u64, digits: usize) -> Vec<u8> {
    format!("{number:0digits$o}").into_bytes()
}

fn put(block: &mut [u8], at: usize, room: usize, bytes: &[u8]) {
    let bytes = bytes.get(..room).unwrap_or(bytes);
    if let Some(place) = block.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(to: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    to.extend_from_slice(format!("{length} ").as_bytes());
    to.extend_from_slice(key);
    to.push(b'=');
    to.extend_from_slice(value);
    to.push(b'\n');
}

/// What a header cannot say, or not exactly.
fn records(member: &Member<'_>, item: &Item, report: &mut Report) -> Vec<u8> {
    let mut to = Vec::new();
    let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    if !is_text(member.name) || !is_text(member.target) {
        record(&mut to, b"hdrcharset", b"BINARY");
    }
    for (key, value) in [("path", member.name), ("linkpath", member.target)] {
        if value.len() > 100 || !value.is_ascii() {
            record(&mut to, key.as_bytes(), value);
        }
    }
    if member.size > SIZE_MAX {
        record(&mut to, b"size", member.size.to_string().as_bytes());
    }
    for (key, number) in [("uid", member.facts.owner), ("gid", member.facts.group)] {
        if let Some(number) = number.filter(|&number| u64::from(number) > SMALL_MAX) {
            record(&mut to, key.as_bytes(), number.to_string().as_bytes());
        }
    }
    for (key, moment) in [
        ("mtime", member.facts.modified),
        ("atime", member.facts.accessed),
    ] {
        if let Some(moment) = moment {
            record(&mut to, key.as_bytes(), decimal(moment).as_bytes());
        }
    }
    for (name, value) in &item.attributes {
        attribute(&mut to, name, value, item, report);
    }
    to
}

/// A list of access goes in as text, as `tar --acls` reads it; all else as it is.
fn attribute(to: &mut Vec<u8>, name: &[u8], value: &[u8], item: &Item, report: &mut Report) {
    let list = match name {
        b"system.posix_acl_access" => Some("SCHILY.acl.access"),
        b"system.posix_acl_default" => Some("SCHILY.acl.default"),
        _ => None,
    };
    if let Some((key, text)) = list.zip(acl::text(value)) {
        return record(to, key.as_bytes(), text.as_bytes());
    }
    if name.contains(&b'=') || name.contains(&0) {
        let name = String::from_utf8_lossy(name);
        let what = format!("its extended attribute {name} has a name that tar cannot hold");
        return report.lost(&item.path, what);
    }
    record(to, &[b"SCHILY.xattr.".as_slice(), name].concat(), value);
}

/// Seconds with what goes beyond them; of times before 1970 that counts backwards.
fn decimal(moment: Moment) -> String {
    let nanoseconds = moment.nanoseconds.min(999_999_999);
    if moment.seconds >= 0 || nanoseconds == 0 {
        return format!("{}.{nanoseconds:09}", moment.seconds);
    }
    let (seconds, beyond) = (moment.seconds + 1, 1_000_000_000 - nanoseconds);
    let sign = if seconds == 0 { "-" } else { "" };
    format!("{sign}{seconds}.{beyond:09}")
}

/// The same calls as those of a [`Sink`](super::Sink), but for its end.
impl<W: Write> Tar<W> {
    pub fn item(&mut self, item: &Item, facts: &Facts, report: &mut Report) -> io::Result<()> {
        let mut name = self.name(&item.path);
        if name.is_empty() {
            return Ok(());
        }
        let mut target = facts.target.clone().unwrap_or_default();
        let mut size = 0;
        let kind = match (facts.kind.as_str(), &item.first) {
            ("file", Some(first)) if self.linked.contains(first) => {
                target = self.name(first);
                b'1'
            }
            ("file", Some(_)) => {
                report.lost(&item.path, "the first of its names is not in the archive");
                return Ok(());
            }
            ("file", None) => {
                size = facts.bytes;
                b'0'
            }
            ("link", _) => b'2',
            ("character device", _) => b'3',
            ("block device", _) => b'4',
            ("directory", _) => {
                name.push(b'/');
                b'5'
            }
            ("pipe", _) => b'6',
            (kind, _) => {
                report.lost(&item.path, format!("an archive has no {kind}"));
                return Ok(());
            }
        };
        if facts.links > 1 && kind == b'0' {
            self.linked.insert(item.path.clone());
        }
        let member = Member {
            kind,
            name: &name,
            target: &target,
            size,
            facts,
        };
        let records = records(&member, item, report);
        self.head(&member, &records)?;
        if kind == b'0' {
            self.open = Some(Open {
                path: item.path.clone(),
                left: size,
                padding: padding(size),
            });
        }
        report.taken(facts);
        Ok(())
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.took(bytes.len() as u64)?;
        self.to.write_all(bytes)
    }

    pub fn zeros(&mut self, count: u64) -> io::Result<()> {
        self.took(count)?;
        self.zeros_to(count)
    }

    /// The header has promised a length: what cannot be read is filled with zeros, and said.
    pub fn end(&mut self, broken: Option<&str>, report: &mut Report) -> io::Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        if let Some(why) = broken {
            let what = format!("its last {} bytes are zeros here: {why}", open.left);
            report.lost(&open.path, what);
        } else if open.left > 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.zeros_to(open.left + open.padding)
    }

    /// Ends the archive.
    pub fn close(mut self) -> io::Result<W> {
        self.zeros_to(2 * BLOCK)?;
        self.to.flush()?;
        Ok(self.to)
    }
}
