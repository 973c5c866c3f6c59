//! Everything below a directory, in one go.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::vec;

use stillwater_guestfs::{Cursor, Entry, FileSystem, Kind, Node};

use crate::answer::{Event, Facts, Item, Lost};
use crate::pattern::Pattern;
use crate::work::{Trouble, Worker, facts, words};

/// Directories that one walk remembers, so that none is gone through twice.
const DIRECTORIES_MAX: usize = 1 << 22;
/// Bytes of names that are remembered because their files have others.
const NAMES_BYTES_MAX: usize = 128 << 20;
/// Bytes of extended attributes of one file; Linux allows no more of one.
const ATTRIBUTES_BYTES_MAX: usize = 256 << 10;

/// A directory on the way down.
struct Level {
    node: Node,
    entries: vec::IntoIter<Entry>,
    next: Option<Cursor>,
    /// How much of the path leads here.
    path_length: usize,
}

/// What is told of each thing that is met.
#[derive(Clone, Copy)]
pub(crate) enum Telling<'a> {
    /// All of it, content too. Of a file with several names the content comes once, unless `copies`.
    Whole { copies: bool },
    /// What is known of it, if its name is like this.
    Named(&'a Pattern),
}

/// A walk through one file system.
pub(crate) struct Tree<'a, R, W> {
    worker: &'a Worker<R, W>,
    system: &'a dyn FileSystem,
    telling: Telling<'a>,
    path: Vec<u8>,
    levels: Vec<Level>,
    seen: HashSet<Node>,
    /// The first names of files that have others.
    first: HashMap<Node, Vec<u8>>,
    first_bytes: usize,
}

impl<'a, R: Read, W: Write> Tree<'a, R, W> {
    pub fn new(worker: &'a Worker<R, W>, system: &'a dyn FileSystem, telling: Telling<'a>) -> Self {
        Self {
            worker,
            system,
            telling,
            path: Vec::new(),
            levels: Vec::new(),
            seen: HashSet::new(),
            first: HashMap::new(),
            first_bytes: 0,
        }
    }

    /// Tells `top` and what is below it.
    pub fn walk(mut self, top: Node) -> Result<(), Trouble> {
        if let Telling::Whole { .. } = self.telling {
            self.whole(top)?;
        }
        if self.system.metadata(top)?.kind == Kind::Directory {
            self.enter(top)?;
        }
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_length);
            match level.entries.next() {
                Some(entry) => self.meet(entry)?,
                None => self.turn_page()?,
            }
        }
        Ok(())
    }

    fn turn_page(&mut self) -> Result<(), Trouble> {
        let Some(level) = self.levels.last_mut() else {
            return Ok(());
        };
        let Some(cursor) = level.next.take() else {
            self.levels.pop();
            return Ok(());
        };
        match self.system.read_dir(level.node, cursor) {
            Ok(page) => {
                level.entries = page.entries.into_iter();
                level.next = page.next;
                Ok(())
            }
            Err(error) => {
                let text = format!("not all of this directory is shown: {}", words(&error));
                self.lost(text)
            }
        }
    }

    fn lost(&self, what: String) -> Result<(), Trouble> {
        let path = self.path.clone();
        Ok(self.worker.say(&Event::Lost(Lost { path, what }))?)
    }

    fn meet(&mut self, entry: Entry) -> Result<(), Trouble> {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&entry.name);
        if matches!(entry.name.as_slice(), b"" | b"." | b"..")
            || entry.name.iter().any(|byte| matches!(byte, b'/' | 0))
        {
            return self.lost("it has a name that no file can have".to_owned());
        }
        match self.telling {
            Telling::Whole { .. } => self.whole(entry.node)?,
            Telling::Named(pattern) if pattern.matches(&entry.name) => self.named(entry.node)?,
            Telling::Named(_) => {}
        }
        let kind = match entry.kind {
            Some(kind) => Some(kind),
            None => self
                .system
                .metadata(entry.node)
                .ok()
                .map(|known| known.kind),
        };
        match kind {
            Some(Kind::Directory) => self.enter(entry.node),
            _ => Ok(()),
        }
    }

    /// A directory that is its own ancestor, or has two names, is gone through once.
    fn enter(&mut self, node: Node) -> Result<(), Trouble> {
        if self.levels.len() >= self.worker.limits.depth {
            return self.lost("what is in this directory lies too deep to be read".to_owned());
        }
        if !self.seen.insert(node) {
            return self.lost("this directory is shown at another place already".to_owned());
        }
        if self.seen.len() > DIRECTORIES_MAX {
            let limit = DIRECTORIES_MAX as u64;
            let what = "directories below one";
            return Err(stillwater_guestfs::Error::Limit { what, limit }.into());
        }
        self.levels.push(Level {
            node,
            entries: Vec::new().into_iter(),
            next: Some(Cursor::default()),
            path_length: self.path.len(),
        });
        Ok(())
    }

    fn named(&self, node: Node) -> Result<(), Trouble> {
        let facts = facts(self.system, node).map_err(|error| words(&error));
        self.tell(facts, None, Vec::new())
    }

    fn tell(
        &self,
        facts: Result<Facts, String>,
        first: Option<Vec<u8>>,
        attributes: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<(), Trouble> {
        Ok(self.worker.say(&Event::Item(Item {
            path: self.path.clone(),
            facts,
            first,
            attributes,
        }))?)
    }

    fn whole(&mut self, node: Node) -> Result<(), Trouble> {
        let mut known = match facts(self.system, node) {
            Ok(known) => known,
            Err(error) => return self.tell(Err(words(&error)), None, Vec::new()),
        };
        let first = self.first_name(node, &mut known);
        if first.is_some() {
            return self.tell(Ok(known), first, Vec::new());
        }
        let attributes = self.attributes(node, &mut known);
        if let Ok(streams) = self.system.streams(node) {
            for stream in streams {
                let name = String::from_utf8_lossy(&stream.name);
                let text = format!("its stream {name} of {} bytes is left out", stream.size);
                known.losses.push(text);
            }
        }
        if known.kind != "file" {
            return self.tell(Ok(known), None, attributes);
        }
        let content = match self.system.open(node) {
            Ok(content) => content,
            Err(error) => return self.tell(Err(words(&error)), None, Vec::new()),
        };
        known.bytes = content.length();
        self.tell(Ok(known), None, attributes)?;
        let end = match self.worker.stream(&*content) {
            Ok(()) => None,
            Err(Trouble::Told(_, text)) => Some(text),
            Err(gone) => return Err(gone),
        };
        Ok(self.worker.say(&Event::End(end))?)
    }

    /// The name by which this file was told already.
    fn first_name(&mut self, node: Node, known: &mut Facts) -> Option<Vec<u8>> {
        if known.links < 2
            || known.kind != "file"
            || matches!(self.telling, Telling::Whole { copies: true })
        {
            return None;
        }
        if let Some(first) = self.first.get(&node) {
            return Some(first.clone());
        }
        if self.first_bytes + self.path.len() > NAMES_BYTES_MAX {
            let text = "more files have several names than can be remembered: it is by itself";
            known.losses.push(text.to_owned());
            return None;
        }
        self.first_bytes += self.path.len() + size_of::<Vec<u8>>();
        self.first.insert(node, self.path.clone());
        None
    }

    fn attributes(&self, node: Node, known: &mut Facts) -> Vec<(Vec<u8>, Vec<u8>)> {
        let attributes = match self.system.attributes(node) {
            Ok(attributes) => attributes,
            Err(error) => {
                let text = format!("its extended attributes are left out: {}", words(&error));
                known.losses.push(text);
                return Vec::new();
            }
        };
        let mut room = ATTRIBUTES_BYTES_MAX;
        let mut kept = Vec::new();
        for attribute in attributes {
            let bytes = attribute.name.len() + attribute.value.len();
            if bytes > room {
                let name = String::from_utf8_lossy(&attribute.name);
                known
                    .losses
                    .push(format!("its extended attribute {name} is too long"));
                continue;
            }
            room -= bytes;
            kept.push((attribute.name, attribute.value));
        }
        kept
    }
}
