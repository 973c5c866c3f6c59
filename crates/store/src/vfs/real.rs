//! The file system of the machine.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{
    self as sys, AtFlags, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags,
    ResolveFlags,
};
use rustix::io::Errno;

use super::{Access, File, Medium, Name, Room, Vfs};

const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;
const OVERLAYFS: u64 = 0x794c_7630;

/// A directory of the machine. Every path is resolved beneath it and through no symbolic link.
#[derive(Debug)]
pub struct RealFs {
    root: OwnedFd,
}

impl RealFs {
    /// Opens the directory.
    ///
    /// # Errors
    /// When it does not exist or may not be read.
    pub fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: sys::open(root, flags, Mode::empty())?,
        })
    }

    fn at(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = flags | OFlags::CLOEXEC;
        Ok(rustix::io::retry_on_intr(|| {
            sys::openat2(&self.root, path, flags, mode, resolve)
        })?)
    }

    fn dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }
}

/// Files hold sealed chunks and names of VMs: for the service's own user only.
fn private() -> Mode {
    Mode::RUSR | Mode::WUSR
}

impl Vfs for RealFs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = self.at(
            path,
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            private(),
        )?;
        Ok(Box::new(RealFile(file.into())))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
        Ok(Box::new(RealFile(
            self.at(path, flags, Mode::empty())?.into(),
        )))
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(sys::renameat_with(
            &self.root,
            from,
            &self.root,
            to,
            RenameFlags::NOREPLACE,
        )?)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        Ok(sys::unlinkat(&self.root, path, AtFlags::empty())?)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        Ok(sys::mkdirat(&self.root, path, private() | Mode::XUSR)?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Name>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(self.dir(dir)?)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name != "." && name != ".." {
                let is_dir = entry.file_type() == FileType::Directory;
                names.push(Name {
                    name: name.to_owned(),
                    is_dir,
                });
            }
        }
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Ok(sys::fsync(self.dir(dir)?)?)
    }

    fn room(&self) -> io::Result<Room> {
        let found = sys::fstatvfs(&self.root)?;
        Ok(Room {
            capacity_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    fn medium(&self) -> io::Result<Medium> {
        // The type of the field differs between targets.
        let magic = sys::fstatfs(&self.root)?.f_type as u64;
        Ok(match magic {
            TMPFS => Medium::Volatile("tmpfs"),
            RAMFS => Medium::Volatile("ramfs"),
            OVERLAYFS => Medium::Volatile("overlay"),
            _ => Medium::Lasting,
        })
    }
}

struct RealFile(std::fs::File);

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|found| found.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        match sys::fallocate(self.0.as_fd(), FallocateFlags::KEEP_SIZE, offset, length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        match sys::flock(self.0.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
