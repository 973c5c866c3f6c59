//! A guest's directory as one of this machine, which appears under its name when all of it is there.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags, linkat, mkdirat, openat2, renameat_with,
    symlinkat, syncfs, unlinkat,
};
use rustix::io::Errno;
use stillwater_files::{Facts, Item};
use tempfile::TempDir;

use super::dress::{DIRECTORY, dress, dress_link};
use super::{Report, Sink};

const INSIDE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// A directory that things are being put into. It gets its mode and times when it is left.
struct Level {
    name: Vec<u8>,
    open: OwnedFd,
    item: Item,
    facts: Facts,
}

/// The file that is being written.
struct Writing {
    file: File,
    length: u64,
    item: Item,
    facts: Facts,
}

/// Puts what it gets below a directory of its own, and nothing anywhere else.
pub(crate) struct Tree {
    top: TempDir,
    to: PathBuf,
    levels: Vec<Level>,
    writing: Option<Writing>,
}

impl Tree {
    /// A directory beside `to`, which takes that name in the end.
    pub fn new(to: PathBuf) -> io::Result<Self> {
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
        let top = tempfile::Builder::new()
            .prefix(".stillwater-files-")
            .tempdir_in(parent.unwrap_or(Path::new(".")))?;
        Ok(Self {
            top,
            to,
            levels: Vec::new(),
            writing: None,
        })
    }

    /// Leaves all directories that do not lead to `way`.
    fn leave(&mut self, way: &[&[u8]], report: &mut Report) {
        let is_on_way = |(level, name): (&Level, &&[u8])| level.name == **name;
        let below_top = self.levels.iter().skip(1);
        let kept = below_top
            .zip(way)
            .take_while(|&(level, name)| is_on_way((level, name)))
            .count();
        while self.levels.len() > kept + 1 {
            if let Some(level) = self.levels.pop() {
                dress(&level.open, &level.item, &level.facts, report);
            }
        }
    }

    /// The directory that the last of these names is to be in; none if it could not be made.
    fn parent(&mut self, way: &[&[u8]], report: &mut Report) -> Option<&OwnedFd> {
        self.leave(way, report);
        let level = self.levels.last()?;
        (self.levels.len() == way.len() + 1).then_some(&level.open)
    }

    fn make(&mut self, item: &Item, facts: &Facts, report: &mut Report) -> io::Result<()> {
        let names: Vec<&[u8]> = item.path.split(|&byte| byte == b'/').collect();
        let Some((name, way)) = names.split_last() else {
            return Ok(());
        };
        let top = match &item.first {
            Some(_) => self.levels.first().map(|top| top.open.try_clone()),
            None => None,
        };
        let Some(parent) = self.parent(way, report) else {
            report.lost(&item.path, "the directory that it is in could not be made");
            return Ok(());
        };
        let made = match (facts.kind.as_str(), &item.first, top) {
            ("file", Some(first), Some(top)) => link(&top?, first, parent, name).map(|()| None),
            ("file", ..) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                openat2(parent, *name, flags, Mode::RUSR | Mode::WUSR, INSIDE).map(Some)
            }
            ("directory", ..) => mkdirat(parent, *name, Mode::RWXU)
                .and_then(|()| openat2(parent, *name, DIRECTORY, Mode::empty(), INSIDE))
                .map(Some),
            ("link", ..) => {
                let target = facts.target.as_deref().unwrap_or_default();
                let made = symlinkat(target, parent, *name);
                if made.is_ok() {
                    dress_link(parent, name, item, facts, report);
                }
                made.map(|()| None)
            }
            (kind, ..) => {
                report.lost(&item.path, format!("a {kind} is not made here"));
                return Ok(());
            }
        };
        match made {
            Ok(open) => self.made(open, name.to_vec(), item, facts),
            Err(error) if is_of_one(error) => {
                let error = io::Error::from(error);
                report.lost(&item.path, format!("it cannot be made here: {error}"));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        report.taken(facts);
        Ok(())
    }

    fn made(&mut self, open: Option<OwnedFd>, name: Vec<u8>, item: &Item, facts: &Facts) {
        let Some(open) = open else { return };
        let (item, facts) = (item.clone(), facts.clone());
        if facts.kind == "directory" {
            self.levels.push(Level {
                name,
                open,
                item,
                facts,
            });
            return;
        }
        self.writing = Some(Writing {
            file: open.into(),
            length: 0,
            item,
            facts,
        });
    }
}

/// Errors of one name, after which others may still be made.
fn is_of_one(error: Errno) -> bool {
    [
        Errno::EXIST,
        Errno::NAMETOOLONG,
        Errno::INVAL,
        Errno::ILSEQ,
        Errno::NOENT,
        Errno::NOTDIR,
        Errno::LOOP,
        Errno::XDEV,
        Errno::MLINK,
        Errno::PERM,
        Errno::ACCESS,
    ]
    .contains(&error)
}

/// Gives a file another name. The way to the first one is gone step by step, as it may be longer than a path.
fn link(top: &OwnedFd, first: &[u8], parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    let names: Vec<&[u8]> = first.split(|&byte| byte == b'/').collect();
    let (last, way) = names.split_last().ok_or(Errno::NOENT)?;
    let mut here = top.try_clone().map_err(|_| Errno::NFILE)?;
    for step in way {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        here = openat2(&here, *step, flags, Mode::empty(), INSIDE)?;
    }
    linkat(here.as_fd(), *last, parent, name, AtFlags::empty())
}

impl Sink for Tree {
    fn item(&mut self, item: &Item, facts: &Facts, report: &mut Report) -> io::Result<()> {
        if !item.path.is_empty() {
            return self.make(item, facts, report);
        }
        let open = openat2(
            CWD,
            self.top.path(),
            DIRECTORY,
            Mode::empty(),
            ResolveFlags::empty(),
        )?;
        self.made(Some(open), Vec::new(), item, facts);
        report.taken(facts);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(writing) = &mut self.writing else {
            return Ok(());
        };
        writing.length += bytes.len() as u64;
        writing.file.write_all(bytes)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        let Some(writing) = &mut self.writing else {
            return Ok(());
        };
        writing.length += count;
        writing.file.seek(SeekFrom::Start(writing.length)).map(drop)
    }

    /// A file that is not whole does not stay.
    fn end(&mut self, broken: Option<&str>, report: &mut Report) -> io::Result<()> {
        let Some(writing) = self.writing.take() else {
            return Ok(());
        };
        if let Some(why) = broken {
            let parent = self.levels.last();
            let name = writing.item.path.rsplit(|&byte| byte == b'/').next();
            if let (Some(parent), Some(name)) = (parent, name) {
                unlinkat(&parent.open, name, AtFlags::empty())?;
            }
            report.lost(&writing.item.path, format!("it cannot be read: {why}"));
            return Ok(());
        }
        writing.file.set_len(writing.length)?;
        dress(&writing.file, &writing.item, &writing.facts, report);
        Ok(())
    }

    fn finish(mut self: Box<Self>, report: &mut Report) -> io::Result<()> {
        self.leave(&[], report);
        let Some(top) = self.levels.pop() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        dress(&top.open, &top.item, &top.facts, report);
        syncfs(&top.open)?;
        renameat_with(CWD, self.top.path(), CWD, &self.to, RenameFlags::NOREPLACE)?;
        // It has its name: nothing is left to remove.
        drop(self.top.keep());
        Ok(())
    }
}
