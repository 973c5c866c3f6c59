//! Names in directories: as programs see them, as they are durable, and what lies between.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::sync::Arc;

use crate::Dice;

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Dir(usize),
    File(usize),
}

type Dir = BTreeMap<Arc<str>, Node>;

/// How a file system may order changes of names that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// One journal: all changes up to some moment. As ext4 and XFS do.
    Ordered,
    /// Any of the changes; a rename is one. As file systems do that log what was synced by itself.
    Scattered,
    /// Any of the changes, and the two directories of a rename each for themselves. Weaker than
    /// any journal, and what POSIX promises.
    Torn,
}

/// One directory's part of a change.
#[derive(Debug, Clone)]
struct Half {
    dir: usize,
    name: Arc<str>,
    value: Option<Node>,
    is_synced: bool,
}

/// Directories by number; the first is the root.
#[derive(Debug, Clone)]
pub(super) struct Names {
    live: Vec<Arc<Dir>>,
    durable: Vec<Arc<Dir>>,
    changes: Vec<Vec<Half>>,
}

impl Default for Names {
    fn default() -> Self {
        let root = vec![Arc::default()];
        Self {
            live: root.clone(),
            durable: root,
            changes: Vec::new(),
        }
    }
}

impl Names {
    /// What a path leads to.
    pub(super) fn find(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Dir(0);
        for name in components(path) {
            let Node::Dir(dir) = node else {
                return Err(ErrorKind::NotADirectory.into());
            };
            let found = name.and_then(|name| self.live[dir].get(name));
            node = *found.ok_or(ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<usize> {
        match self.find(path)? {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn find_dir(&self, path: &Path) -> io::Result<usize> {
        match self.find(path)? {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    /// The directory of a path, and its last name.
    fn split(&self, path: &Path) -> io::Result<(usize, Arc<str>)> {
        let dir = self.find_dir(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().and_then(|name| name.to_str());
        Ok((dir, Arc::from(name.ok_or(ErrorKind::InvalidInput)?)))
    }

    fn split_free(&self, path: &Path) -> io::Result<(usize, Arc<str>)> {
        let (dir, name) = self.split(path)?;
        if self.live[dir].contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        Ok((dir, name))
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<(Arc<str>, bool)>> {
        let dir = self.find_dir(path)?;
        let is_dir = |node: &Node| matches!(node, Node::Dir(_));
        let names = self.live[dir].iter();
        Ok(names
            .map(|(name, node)| (name.clone(), is_dir(node)))
            .collect())
    }

    pub(super) fn create(&mut self, path: &Path, file: usize) -> io::Result<()> {
        let (dir, name) = self.split_free(path)?;
        self.change(vec![(dir, name, Some(Node::File(file)))]);
        Ok(())
    }

    pub(super) fn make_dir(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.split_free(path)?;
        let made = self.live.len();
        self.live.push(Arc::default());
        self.durable.push(Arc::default());
        self.change(vec![(dir, name, Some(Node::Dir(made)))]);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<usize> {
        let file = self.find_file(path)?;
        let (dir, name) = self.split(path)?;
        self.change(vec![(dir, name, None)]);
        Ok(file)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        let (old_dir, old) = self.split(from)?;
        let (new_dir, new) = self.split_free(to)?;
        self.change(vec![(new_dir, new, Some(node)), (old_dir, old, None)]);
        Ok(())
    }

    fn change(&mut self, halves: Vec<(usize, Arc<str>, Option<Node>)>) {
        let half = |(dir, name, value)| Half {
            dir,
            name,
            value,
            is_synced: false,
        };
        let halves: Vec<_> = halves.into_iter().map(half).collect();
        halves.iter().for_each(|half| half.apply(&mut self.live));
        self.changes.push(halves);
    }

    pub(super) fn sync(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.find_dir(path)?;
        let halves = self.changes.iter_mut().flatten();
        for half in halves.filter(|half| half.dir == dir) {
            half.is_synced = true;
        }
        let is_done = |halves: &Vec<Half>| halves.iter().all(|half| half.is_synced);
        let done = self
            .changes
            .iter()
            .take_while(|halves| is_done(halves))
            .count();
        for half in self.changes.drain(..done).flatten() {
            half.apply(&mut self.durable);
        }
        Ok(())
    }

    /// Whether a sync of a directory would change what a crash leaves.
    pub(super) fn is_durable(&self) -> bool {
        self.changes.is_empty()
    }

    /// What a power cut leaves: what is durable, and of the rest what the dice say.
    pub(super) fn crash(&self, journal: Journal, dice: &mut Dice) -> Self {
        let mut left = self.durable.clone();
        // The ends are worth more tries than chance would give them.
        let all_or_nothing = match dice.below(4) {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        let synced = |halves: &Vec<Half>| halves.iter().any(|half| half.is_synced);
        let last = self.changes.iter().rposition(synced).map_or(0, |at| at + 1);
        let ordered = last + dice.place(self.changes.len() - last + 1);
        for (at, halves) in self.changes.iter().enumerate() {
            let drawn = all_or_nothing.unwrap_or_else(|| dice.one_in(2));
            for half in halves {
                let arrives = match journal {
                    Journal::Ordered => {
                        at < all_or_nothing
                            .map_or(ordered, |all| if all { usize::MAX } else { last })
                    }
                    Journal::Scattered => synced(halves) || drawn,
                    Journal::Torn => {
                        half.is_synced || all_or_nothing.unwrap_or_else(|| dice.one_in(2))
                    }
                };
                if arrives {
                    half.apply(&mut left);
                }
            }
        }
        Self {
            live: left.clone(),
            durable: left,
            changes: Vec::new(),
        }
    }

    /// Every file, with its path.
    pub(super) fn files(&self) -> Vec<(String, usize)> {
        let (mut files, mut dirs) = (Vec::new(), vec![(String::new(), 0)]);
        while let Some((path, dir)) = dirs.pop() {
            for (name, node) in self.live[dir].iter() {
                let path = format!("{path}{name}");
                match node {
                    Node::File(file) => files.push((path, *file)),
                    Node::Dir(dir) => dirs.push((format!("{path}/"), *dir)),
                }
            }
        }
        files.sort_unstable();
        files
    }

    /// Takes a name out of what is seen and of what is durable.
    pub(super) fn erase(&mut self, path: &Path) -> io::Result<usize> {
        let file = self.remove(path)?;
        for half in self.changes.drain(..).flatten() {
            half.apply(&mut self.durable);
        }
        Ok(file)
    }
}

impl Half {
    fn apply(&self, dirs: &mut [Arc<Dir>]) {
        let dir = Arc::make_mut(&mut dirs[self.dir]);
        match self.value {
            Some(node) => drop(dir.insert(self.name.clone(), node)),
            None => drop(dir.remove(&self.name)),
        }
    }
}

fn components(path: &Path) -> impl Iterator<Item = Option<&str>> {
    path.components().filter_map(|part| match part {
        Component::CurDir => None,
        Component::Normal(name) => Some(name.to_str()),
        Component::ParentDir | Component::RootDir | Component::Prefix(_) => Some(None),
    })
}
