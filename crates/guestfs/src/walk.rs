//! From a path to a node.

use crate::file_system::{FileSystem, Kind, Node};
use crate::{Error, Limits, Result};

/// What becomes of a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Those on the way are followed, the last component is not.
    OnTheWay,
    /// All are followed, the last component too.
    All,
}

/// The node at `path`, whose components stand between slashes.
///
/// `..` goes up to where the path came from and never beyond the root; links are followed inside this file
/// system, an absolute one from its root.
///
/// # Errors
/// When something on the way is not there, no directory, or beyond `limits`.
pub fn resolve(
    system: &dyn FileSystem,
    path: &[u8],
    links: Links,
    limits: &Limits,
) -> Result<Node> {
    let mut walk = Walk {
        system,
        way: vec![system.root()],
        ahead: Vec::new(),
        links: limits.links,
        limits,
    };
    walk.put_ahead(path)?;
    while let Some(name) = walk.ahead.pop() {
        walk.step(name, links)?;
    }
    Ok(walk.here())
}

struct Walk<'a> {
    system: &'a dyn FileSystem,
    way: Vec<Node>,
    /// Components that are still to go, the next one last.
    ahead: Vec<Vec<u8>>,
    links: usize,
    limits: &'a Limits,
}

impl Walk<'_> {
    fn here(&self) -> Node {
        self.way
            .last()
            .copied()
            .unwrap_or_else(|| self.system.root())
    }

    fn put_ahead(&mut self, path: &[u8]) -> Result<()> {
        let names = path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty());
        self.ahead.extend(names.rev().map(<[u8]>::to_vec));
        if self.ahead.len() > self.limits.depth {
            return Err(Error::Limit {
                what: "components of a path",
                limit: self.limits.depth as u64,
            });
        }
        Ok(())
    }

    fn step(&mut self, name: Vec<u8>, links: Links) -> Result<()> {
        match name.as_slice() {
            b"." => return Ok(()),
            b".." => {
                if self.way.len() > 1 {
                    self.way.pop();
                }
                return Ok(());
            }
            _ => {}
        }
        let node = self.system.child(self.here(), &name)?;
        let follow = links == Links::All || !self.ahead.is_empty();
        if follow && self.system.metadata(node)?.kind == Kind::Link {
            return self.follow(node);
        }
        self.way.push(node);
        Ok(())
    }

    fn follow(&mut self, link: Node) -> Result<()> {
        self.links = self.links.checked_sub(1).ok_or(Error::Limit {
            what: "symbolic links of a path",
            limit: self.limits.links as u64,
        })?;
        let target = self.system.read_link(link)?;
        if target.first() == Some(&b'/') {
            self.way.truncate(1);
        }
        self.put_ahead(&target)
    }
}
