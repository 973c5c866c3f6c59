//! The reader's side: asks for bytes, says what it found.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use stillwater_guestfs::{
    BlockSource, Content, Contents, Cursor, Disk, FileSystem, Kind, Limits, Links, Node, Time,
    Volume, resolve, volumes,
};

use crate::answer::{Cause, Entry, Event, Facts, Job, Lost, Moment, VolumeFacts, Wanted};
use crate::frame::{Ask, BYTES, CONTENT, EVENT, JOB, READ, READ_MAX, put, take};
use crate::pattern::Pattern;
use crate::tree::{Telling, Tree};

/// Both ends of what leads out.
struct Pipe<R, W> {
    from: R,
    to: W,
}

type Shared<R, W> = Arc<Mutex<Pipe<R, W>>>;

/// A disk whose bytes are asked for.
struct Remote<R, W> {
    number: u32,
    length: u64,
    pipe: Shared<R, W>,
}

impl<R: Read + Send, W: Write + Send> BlockSource for Remote<R, W> {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = offset;
        for part in buffer.chunks_mut(READ_MAX) {
            self.ask(at, part)?;
            at += part.len() as u64;
        }
        Ok(())
    }
}

impl<R: Read, W: Write> Remote<R, W> {
    fn ask(&self, offset: u64, part: &mut [u8]) -> io::Result<()> {
        let ask = Ask {
            disk: self.number,
            offset,
            length: part.len() as u32,
        };
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        put(&mut pipe.to, READ, &ask.to_bytes())?;
        let (letter, bytes) = take(&mut pipe.from)?;
        if letter != BYTES {
            return Err(io::Error::other(
                String::from_utf8_lossy(&bytes).into_owned(),
            ));
        }
        if bytes.len() != part.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        part.copy_from_slice(&bytes);
        Ok(())
    }
}

/// Takes one job from `from` and says on `to` what came of it.
///
/// # Errors
/// When the other side is gone or does not speak as it should. That something cannot be read is an event.
pub fn work<R, W>(mut from: R, to: W) -> io::Result<()>
where
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    let (letter, bytes) = take(&mut from)?;
    if letter != JOB {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let job: Job = serde_json::from_slice(&bytes)?;
    let pipe = Arc::new(Mutex::new(Pipe { from, to }));
    let disks = (0..).zip(&job.disks).map(|(number, &length)| {
        Arc::new(Remote {
            number,
            length,
            pipe: Arc::clone(&pipe),
        }) as Disk
    });
    let worker = Worker {
        disks: disks.collect(),
        limits: Limits::default(),
        pipe,
    };
    match worker.job(&job) {
        Ok(()) => worker.say(&Event::Done),
        Err(Trouble::Gone(error)) => Err(error),
        Err(Trouble::Told(cause, text)) => worker.say(&Event::Failed { cause, text }),
    }
}

/// Why a job ends early.
pub(crate) enum Trouble {
    /// Nobody listens any more.
    Gone(io::Error),
    /// Something that whoever asked is to know.
    Told(Cause, String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl From<stillwater_guestfs::Error> for Trouble {
    fn from(error: stillwater_guestfs::Error) -> Self {
        Self::Told(cause(&error), words(&error))
    }
}

const fn cause(error: &stillwater_guestfs::Error) -> Cause {
    use stillwater_guestfs::Error;
    match error {
        Error::NotFound => Cause::Missing,
        Error::NotADirectory | Error::NoContent | Error::NotALink => Cause::Asked,
        Error::Damaged { .. } | Error::Unsupported(_) | Error::Lost(_) | Error::Limit { .. } => {
            Cause::Unreadable
        }
        Error::Read { .. } => Cause::Disk,
    }
}

/// An error with what led to it.
pub(crate) fn words(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", words(source)),
        None => error.to_string(),
    }
}

pub(crate) struct Worker<R, W> {
    disks: Vec<Disk>,
    pub limits: Limits,
    pipe: Shared<R, W>,
}

impl<R: Read, W: Write> Worker<R, W> {
    fn put(&self, letter: u8, bytes: &[u8]) -> io::Result<()> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        put(&mut pipe.to, letter, bytes)
    }

    pub fn say(&self, event: &Event) -> io::Result<()> {
        self.put(EVENT, &serde_json::to_vec(event)?)
    }

    fn job(&self, job: &Job) -> Result<(), Trouble> {
        let all = volumes(&self.disks, &self.limits)?;
        if job.wanted == Wanted::Volumes {
            for volume in &all {
                self.say(&Event::Volume(facts_of_volume(volume)))?;
            }
            return Ok(());
        }
        if job.wanted == Wanted::Found {
            return self.find(&all, job);
        }
        let volume = chosen(&all, job.volume.as_deref())?;
        let system = volume.open()?;
        self.say(&Event::Volume(facts_of_system(volume, &*system)))?;
        let node = |links| resolve(&*system, &job.path, links, &self.limits);
        match job.wanted {
            Wanted::Content => self.content(&*system, node(Links::All)?),
            Wanted::Tree { copies } => {
                Tree::new(self, &*system, Telling::Whole { copies }).walk(node(Links::All)?)
            }
            _ => self.names(&*system, node(Links::OnTheWay)?, &job.path),
        }
    }

    /// Looks into one volume, or into all: one that cannot be read, or lacks the path, does not hide the others.
    fn find(&self, all: &[Volume], job: &Job) -> Result<(), Trouble> {
        let name = job.name.as_ref();
        let pattern = Pattern::new(
            name.map_or("*", |name| &name.pattern),
            name.is_some_and(|name| name.any_case),
        );
        if let Some(name) = &job.volume {
            let volume = chosen(all, Some(name))?;
            let system = volume.open()?;
            return self.find_in(volume, &*system, &job.path, &pattern);
        }
        let mut missing = None;
        let mut looked = false;
        for volume in all {
            let Ok(system) = volume.open() else {
                self.say(&Event::Volume(facts_of_volume(volume)))?;
                continue;
            };
            match self.find_in(volume, &*system, &job.path, &pattern) {
                Ok(()) => looked = true,
                Err(Trouble::Told(Cause::Missing, text)) => missing = Some(text),
                Err(Trouble::Told(_, what)) => {
                    let what = format!("{}: {what}", volume.place);
                    let path = Vec::new();
                    self.say(&Event::Lost(Lost { path, what }))?;
                }
                Err(gone) => return Err(gone),
            }
        }
        match missing {
            Some(text) if !looked => Err(Trouble::Told(Cause::Missing, text)),
            _ => Ok(()),
        }
    }

    fn find_in(
        &self,
        volume: &Volume,
        system: &dyn FileSystem,
        path: &[u8],
        pattern: &Pattern,
    ) -> Result<(), Trouble> {
        let top = resolve(system, path, Links::All, &self.limits)?;
        self.say(&Event::Volume(facts_of_system(volume, system)))?;
        Tree::new(self, system, Telling::Named(pattern)).walk(top)
    }

    /// The names of a directory; of anything else its own.
    fn names(&self, system: &dyn FileSystem, node: Node, path: &[u8]) -> Result<(), Trouble> {
        let facts = facts(system, node)?;
        if facts.kind != "directory" {
            let name = path.rsplit(|&byte| byte == b'/').next();
            let name = name.unwrap_or_default().to_vec();
            let facts = Ok(facts);
            return Ok(self.say(&Event::Entry(Entry { name, facts }))?);
        }
        let mut from = Some(Cursor::default());
        while let Some(cursor) = from {
            let page = system.read_dir(node, cursor)?;
            for entry in page.entries {
                let facts = facts_or_why(system, entry.node);
                let name = entry.name;
                self.say(&Event::Entry(Entry { name, facts }))?;
            }
            from = page.next;
        }
        Ok(())
    }

    /// What is known of a file, and all that is in it.
    fn content(&self, system: &dyn FileSystem, node: Node) -> Result<(), Trouble> {
        let content = system.open(node)?;
        self.say(&Event::File(facts(system, node)?))?;
        self.stream(&*content)
    }

    /// All bytes of a file, its holes as such.
    pub fn stream(&self, content: &dyn Content) -> Result<(), Trouble> {
        let mut buffer = vec![0; READ_MAX];
        let mut at = 0;
        while at < content.length() {
            let run = content.run_at(at);
            if run.length == 0 {
                let text = "the file has a stretch of no length".to_owned();
                return Err(Trouble::Told(Cause::Unreadable, text));
            }
            if !run.data {
                self.say(&Event::Zeros(run.length))?;
                at += run.length;
                continue;
            }
            let step = run.length.min(READ_MAX as u64) as usize;
            let part = buffer.get_mut(..step).unwrap_or_default();
            let count = content.read_at(at, part)?;
            if count < step {
                let text = "the file ends before its end".to_owned();
                return Err(Trouble::Told(Cause::Unreadable, text));
            }
            self.put(CONTENT, part)?;
            at += count as u64;
        }
        Ok(())
    }
}

/// The volume of that name, or else the only one that can be read.
fn chosen<'a>(all: &'a [Volume], name: Option<&str>) -> Result<&'a Volume, Trouble> {
    let told = |cause, what: String| {
        let names: Vec<_> = all.iter().map(|volume| volume.place.to_string()).collect();
        Trouble::Told(cause, format!("{what}; there are {}", names.join(", ")))
    };
    if let Some(name) = name {
        let mut named = all.iter().filter(|volume| volume.place.to_string() == name);
        return named
            .next()
            .ok_or_else(|| told(Cause::Missing, format!("there is no volume {name}")));
    }
    let is_readable = |volume: &&Volume| matches!(volume.contents, Contents::FileSystem(_));
    let mut readable = all.iter().filter(is_readable);
    match (readable.next(), readable.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(told(Cause::Unreadable, "no volume can be read".to_owned())),
        _ => Err(told(
            Cause::Asked,
            "several volumes can be read, say which one".to_owned(),
        )),
    }
}

fn facts_of_volume(volume: &Volume) -> VolumeFacts {
    let mut facts = VolumeFacts {
        name: volume.place.to_string(),
        bytes: volume.bytes,
        contents: match volume.contents {
            Contents::FileSystem(_) => "a file system".to_owned(),
            Contents::PhysicalVolume => "a part of a volume group".to_owned(),
            Contents::Unreadable(what) => what.to_owned(),
            Contents::Swap => "swap space".to_owned(),
            Contents::Unknown => "nothing known".to_owned(),
        },
        readable: false,
        label: None,
        losses: Vec::new(),
    };
    if !matches!(volume.contents, Contents::FileSystem(_)) {
        return facts;
    }
    match volume.open() {
        Ok(system) => return facts_of_system(volume, &*system),
        Err(error) => facts.contents = words(&error),
    }
    facts
}

fn facts_of_system(volume: &Volume, system: &dyn FileSystem) -> VolumeFacts {
    let described = system.describe();
    VolumeFacts {
        name: volume.place.to_string(),
        bytes: volume.bytes,
        contents: described.kind.to_owned(),
        readable: true,
        label: described.label,
        losses: described.losses.iter().map(ToString::to_string).collect(),
    }
}

/// One file that cannot be read does not hide the others.
fn facts_or_why(system: &dyn FileSystem, node: Node) -> Result<Facts, String> {
    facts(system, node).map_err(|error| words(&error))
}

pub(crate) fn facts(system: &dyn FileSystem, node: Node) -> stillwater_guestfs::Result<Facts> {
    let metadata = system.metadata(node)?;
    let target = match metadata.kind {
        Kind::Link => Some(system.read_link(node)?),
        _ => None,
    };
    Ok(Facts {
        kind: word(metadata.kind).to_owned(),
        bytes: metadata.size,
        mode: metadata.mode,
        owner: metadata.owner,
        group: metadata.group,
        modified: metadata.modified.map(moment),
        accessed: metadata.accessed.map(moment),
        links: metadata.links,
        device: metadata.device,
        target,
        losses: metadata.losses.iter().map(ToString::to_string).collect(),
    })
}

const fn moment(time: Time) -> Moment {
    Moment {
        seconds: time.seconds,
        nanoseconds: time.nanoseconds,
    }
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::Link => "link",
        Kind::CharacterDevice => "character device",
        Kind::BlockDevice => "block device",
        Kind::Pipe => "pipe",
        Kind::Socket => "socket",
        Kind::Reparse => "reparse point",
    }
}
