//! A file that is whole or absent.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use stillwater_types::{Fault, Reason};
use tempfile::NamedTempFile;

use super::qcow2::Qcow2;
use super::vmdk::Vmdk;
use super::vmdk_stream::VmdkStream;
use crate::arguments::DiskFormat;

/// A file to write.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    dir: PathBuf,
    format: DiskFormat,
    force: bool,
    unfinished: NamedTempFile,
}

/// A file that is being written.
pub(crate) struct Writer {
    target: Target,
    content: Content,
}

enum Content {
    Raw,
    Vmdk(Box<Vmdk>),
    VmdkStream(Box<VmdkStream>),
    Qcow2(Box<Qcow2>),
}

impl Target {
    /// Makes sure that the file can be written, before anything is asked of the cluster.
    pub fn prepare(path: &Path, format: DiskFormat, force: bool) -> Result<Self, Fault> {
        let bad = |why: &str| {
            Fault::new(
                Reason::BadField,
                format!("cannot write {}: {why}", path.display()),
            )
        };
        if path.file_name().is_none() || path.is_dir() {
            return Err(bad("it is a directory, name a file"));
        }
        if !force && path.symlink_metadata().is_ok() {
            return Err(bad("it exists, give --force to replace it"));
        }
        if matches!(format, DiskFormat::Vmdk | DiskFormat::VmdkStream) {
            Vmdk::check_name(&name(path)).map_err(bad)?;
        }
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
            _ => PathBuf::from("."),
        };
        let unfinished = tempfile::Builder::new()
            .prefix(".stillwater-")
            .suffix(".part")
            .tempfile_in(&dir)
            .map_err(|err| failed("make a file beside", path, &err))?;
        Ok(Self {
            path: path.to_owned(),
            dir,
            format,
            force,
            unfinished,
        })
    }

    /// Begins a disk of `length` bytes.
    pub(super) fn open(self, length: u64) -> Result<Writer, Fault> {
        let mut file = self.unfinished.as_file();
        let content = match self.format {
            // What is never written stays a hole.
            DiskFormat::Raw => file.set_len(length).map(|()| Content::Raw),
            DiskFormat::Vmdk => Vmdk::begin(file, length, &name(&self.path))
                .map(|vmdk| Content::Vmdk(Box::new(vmdk))),
            DiskFormat::VmdkStream => VmdkStream::begin(&mut file, length, &name(&self.path))
                .map(|vmdk| Content::VmdkStream(Box::new(vmdk))),
            DiskFormat::Qcow2 => Qcow2::begin(length).map(|qcow2| Content::Qcow2(Box::new(qcow2))),
        };
        match content {
            Ok(content) => Ok(Writer {
                target: self,
                content,
            }),
            Err(err) => Err(failed("write", &self.path, &err)),
        }
    }
}

impl Writer {
    /// Writes bytes of the disk; offsets ascend.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        let mut file = self.target.unfinished.as_file();
        let written = match &mut self.content {
            Content::Raw => file.write_all_at(bytes, offset),
            Content::Vmdk(vmdk) => vmdk.write(file, offset, bytes),
            Content::VmdkStream(vmdk) => vmdk.write(&mut file, offset, bytes),
            Content::Qcow2(qcow2) => qcow2.write(file, offset, bytes),
        };
        written.map_err(|err| failed("write", &self.target.path, &err))
    }

    /// Brings the file to the disk and under its name.
    pub(super) fn finish(self) -> Result<(), Fault> {
        let Self { target, content } = self;
        let Target {
            path,
            dir,
            force,
            unfinished,
            ..
        } = target;
        let synced = match content {
            Content::Raw => Ok(()),
            Content::Vmdk(vmdk) => vmdk.finish(unfinished.as_file()),
            Content::VmdkStream(vmdk) => vmdk.finish(&mut unfinished.as_file()),
            Content::Qcow2(qcow2) => qcow2.finish(unfinished.as_file()),
        };
        synced
            .and_then(|()| unfinished.as_file().sync_all())
            .and_then(|()| publish(unfinished, &path, force))
            // Without it the name itself may be lost in a crash.
            .and_then(|()| File::open(&dir)?.sync_all())
            .map_err(|err| failed("write", &path, &err))
    }
}

fn publish(unfinished: NamedTempFile, path: &Path, force: bool) -> io::Result<()> {
    let published = match force {
        true => unfinished.persist(path),
        // Somebody may have made the file meanwhile.
        false => unfinished.persist_noclobber(path),
    };
    published.map(drop).map_err(|err| err.error)
}

fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn failed(act: &str, path: &Path, err: &io::Error) -> Fault {
    Fault::new(
        Reason::DiskWriteFailed,
        format!("{act} {}: {err}", path.display()),
    )
}
