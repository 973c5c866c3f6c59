//! What the reader tells of a file or a tree, on its way to where it goes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use stillwater_files::{Event, Facts, Item};

use super::dress::dress;
use super::{Report, Tar, Target, Tree, Zip};

/// Where files go.
pub(crate) trait Sink: Send {
    /// A file, directory or link. Of a file the content follows, unless it was told by another name.
    fn item(&mut self, item: &Item, facts: &Facts, report: &mut Report) -> io::Result<()>;
    /// More of the file.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// More of the file, which is zeros.
    fn zeros(&mut self, count: u64) -> io::Result<()>;
    /// The end of the file, or why it cannot be read on.
    fn end(&mut self, broken: Option<&str>, report: &mut Report) -> io::Result<()>;
    /// All is there.
    fn finish(self: Box<Self>, report: &mut Report) -> io::Result<()>;
}

/// How what is taken is to arrive.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// As a file, or a directory of files.
    Files,
    /// As one tar archive, whose names begin with this.
    Tar { prefix: Vec<u8> },
    /// As one zip archive, likewise.
    Zip { prefix: Vec<u8> },
}

/// Believes nothing of what the reader says: somebody may have taken it over.
pub(crate) struct Taking {
    to: PathBuf,
    shape: Shape,
    sink: Option<Box<dyn Sink>>,
    /// What is still to come of a file.
    left: Option<u64>,
    pub report: Report,
}

impl Taking {
    pub fn new(to: PathBuf, shape: Shape) -> Self {
        Self {
            to,
            shape,
            sink: None,
            left: None,
            report: Report::default(),
        }
    }

    pub fn take(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Volume(volume) => self.report.volume(volume),
            Event::Lost(lost) => self.report.lost(&lost.path, lost.what),
            Event::Item(item) => return self.item(&item),
            Event::Bytes(bytes) => {
                self.came(bytes.len() as u64)?;
                self.report.bytes(bytes.len() as u64);
                return self.sink()?.bytes(&bytes);
            }
            Event::Zeros(count) => {
                self.came(count)?;
                self.report.bytes(count);
                return self.sink()?.zeros(count);
            }
            Event::End(broken) => {
                let left = self.left.take().ok_or_else(nonsense)?;
                if left > 0 && broken.is_none() {
                    return Err(nonsense());
                }
                let sink = self.sink.as_mut().ok_or_else(nonsense)?;
                return sink.end(broken.as_deref(), &mut self.report);
            }
            _ => return Err(nonsense()),
        }
        Ok(())
    }

    fn sink(&mut self) -> io::Result<&mut Box<dyn Sink>> {
        self.sink.as_mut().ok_or_else(nonsense)
    }

    fn came(&mut self, count: u64) -> io::Result<()> {
        let left = self.left.as_mut().ok_or_else(nonsense)?;
        *left = left.checked_sub(count).ok_or_else(nonsense)?;
        Ok(())
    }

    fn item(&mut self, item: &Item) -> io::Result<()> {
        let is_first = self.sink.is_none();
        let stays_inside = match item.path.is_empty() {
            true => is_first,
            false => !is_first && is_inside(&item.path),
        };
        let first_inside = item.first.as_deref().is_none_or(is_inside);
        if self.left.is_some() || !stays_inside || !first_inside {
            return Err(nonsense());
        }
        let facts = match &item.facts {
            Ok(facts) => facts,
            Err(why) if is_first => return Err(io::Error::other(why.clone())),
            Err(why) => {
                self.report
                    .lost(&item.path, format!("it cannot be read: {why}"));
                return Ok(());
            }
        };
        for loss in &facts.losses {
            self.report.lost(&item.path, loss.clone());
        }
        if is_first {
            self.sink = Some(self.begin(facts)?);
        }
        if facts.kind == "file" && item.first.is_none() {
            self.left = Some(facts.bytes);
        }
        let sink = self.sink.as_mut().ok_or_else(nonsense)?;
        sink.item(item, facts, &mut self.report)
    }

    fn begin(&self, facts: &Facts) -> io::Result<Box<dyn Sink>> {
        let is_stdout = self.to.as_path() == Path::new(super::STDOUT);
        let target =
            || Target::new(self.to.clone()).map_err(|fault| io::Error::other(fault.message));
        match (&self.shape, facts.kind.as_str()) {
            (Shape::Tar { prefix }, _) => Ok(Box::new(Packed {
                tar: Box::new(Tar::new(target()?, prefix)),
            })),
            (Shape::Zip { prefix }, _) => Ok(Box::new(Zipped {
                zip: Box::new(Zip::new(target()?, prefix)),
            })),
            (Shape::Files, "file") => Ok(Box::new(One {
                target: target()?,
                item: None,
            })),
            (Shape::Files, "directory") if is_stdout => Err(io::Error::other(
                "a directory cannot go to the standard output but as an archive: say --archive tar",
            )),
            (Shape::Files, "directory") => Ok(Box::new(Tree::new(self.to.clone())?)),
            (Shape::Files, kind) => {
                Err(io::Error::other(format!("a {kind} has no content to take")))
            }
        }
    }

    /// Gives what was taken its name.
    pub fn finish(mut self) -> io::Result<Report> {
        if self.left.is_some() {
            return Err(nonsense());
        }
        let sink = self.sink.take().ok_or_else(nonsense)?;
        sink.finish(&mut self.report)?;
        Ok(self.report)
    }
}

fn nonsense() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the reader of guests' files says what makes no sense",
    )
}

/// Whether a path goes down and nowhere else.
fn is_inside(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/')
        .all(|name| !matches!(name, b"" | b"." | b"..") && !name.contains(&0))
}

/// One file.
struct One {
    target: Target,
    item: Option<(Item, Facts)>,
}

impl Sink for One {
    fn item(&mut self, item: &Item, facts: &Facts, report: &mut Report) -> io::Result<()> {
        if self.item.is_some() {
            return Err(nonsense());
        }
        self.item = Some((item.clone(), facts.clone()));
        report.taken(facts);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.target.bytes(bytes)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        self.target.zeros(count)
    }

    fn end(&mut self, broken: Option<&str>, _report: &mut Report) -> io::Result<()> {
        match broken {
            Some(why) => Err(io::Error::other(why.to_owned())),
            None => Ok(()),
        }
    }

    fn finish(self: Box<Self>, report: &mut Report) -> io::Result<()> {
        let Some((item, facts)) = &self.item else {
            return Err(nonsense());
        };
        let kept = self.target.keep(|file| {
            dress(file, item, facts, report);
            Ok(())
        });
        kept.map_err(|fault| io::Error::other(fault.message))
    }
}

/// An archive, in its file.
struct Packed {
    tar: Box<Tar<Target>>,
}

impl Sink for Packed {
    fn item(&mut self, item: &Item, facts: &Facts, report: &mut Report) -> io::Result<()> {
        self.tar.item(item, facts, report)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tar.bytes(bytes)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        self.tar.zeros(count)
    }

    fn end(&mut self, broken: Option<&str>, report: &mut Report) -> io::Result<()> {
        self.tar.end(broken, report)
    }

    fn finish(self: Box<Self>, _report: &mut Report) -> io::Result<()> {
        let target = self.tar.close()?;
        let kept = target.keep(|_| Ok(()));
        kept.map_err(|fault| io::Error::other(fault.message))
    }
}

/// A zip archive, in its file.
struct Zipped {
    zip: Box<Zip<Target>>,
}

impl Sink for Zipped {
    fn item(&mut self, item: &Item, facts: &Facts, report: &mut Report) -> io::Result<()> {
        self.zip.item(item, facts, report)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.zip.bytes(bytes)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        self.zip.zeros(count)
    }

    fn end(&mut self, broken: Option<&str>, report: &mut Report) -> io::Result<()> {
        self.zip.end(broken, report);
        Ok(())
    }

    fn finish(self: Box<Self>, _report: &mut Report) -> io::Result<()> {
        let target = self.zip.close()?;
        let kept = target.keep(|_| Ok(()));
        kept.map_err(|fault| io::Error::other(fault.message))
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
