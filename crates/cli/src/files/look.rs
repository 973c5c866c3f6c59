//! What was found in points, and the versions of a file.

use std::io;

use blake3::Hasher;
use jiff::Timestamp;
use stillwater_files::{Event, Facts};
use stillwater_types::PointId;

use super::ZEROS;

/// Something with a name like that.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Find {
    pub volume: String,
    /// From the directory on that was searched.
    pub path: Vec<u8>,
    pub facts: Result<Facts, String>,
}

/// What was found in one point.
#[derive(Debug, Default)]
pub(crate) struct Finds {
    volume: String,
    pub found: Vec<Find>,
    /// What was not searched, and why.
    pub lost: Vec<String>,
}

impl Finds {
    pub fn take(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Volume(volume) => self.volume = volume.name,
            Event::Item(item) => self.found.push(Find {
                volume: self.volume.clone(),
                path: item.path,
                facts: item.facts,
            }),
            Event::Lost(lost) => {
                let path = super::shown(&lost.path);
                self.lost
                    .push(format!("{}:{path}: {}", self.volume, lost.what));
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(())
    }
}

/// A file as one point has it.
#[derive(Debug)]
pub(crate) struct Version {
    pub point_id: PointId,
    pub committed_at: Timestamp,
    /// Nothing if the point has no such file; or why that cannot be told.
    pub content: Result<Option<Content>, String>,
}

/// What is known of a file, and a hash of all that is in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub facts: Facts,
    pub hash: String,
}

/// A file on its way through the hash.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    facts: Option<Facts>,
    hasher: Hasher,
}

impl Reading {
    /// A hole counts as the zeros that it reads as.
    pub fn take(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Volume(_) => {}
            Event::File(facts) => self.facts = Some(facts),
            Event::Bytes(bytes) => drop(self.hasher.update(&bytes)),
            Event::Zeros(count) => {
                let mut left = count;
                while left > 0 {
                    let step = left.min(ZEROS.len() as u64);
                    self.hasher
                        .update(ZEROS.get(..step as usize).unwrap_or_default());
                    left -= step;
                }
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(())
    }

    pub fn version(self) -> Option<Content> {
        let hash = self.hasher.finalize().to_hex().to_string();
        self.facts.map(|facts| Content { facts, hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_and_its_zeros_are_one_content() {
        let hash = |events: Vec<Event>| {
            let mut reading = Reading::default();
            for event in events {
                reading.take(event).unwrap();
            }
            reading.hasher.finalize()
        };
        let zeros = Event::Bytes(vec![0; 100_000]);
        assert_eq!(hash(vec![Event::Zeros(100_000)]), hash(vec![zeros]));
        assert_ne!(hash(vec![Event::Zeros(100_000)]), hash(Vec::new()));
    }
}
