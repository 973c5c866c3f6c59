//! The projection's rows in sled.
//!
//! One sled tree holds all of them under `<tree> 0x00 <key>`: a batch is atomic within a tree, and
//! the watermark must move with the rows. sled's `flush` is no barrier after a power cut, so nothing
//! here relies on it: what comes back is some earlier batch with its own watermark.

use std::path::Path;

use crate::Position;
use crate::projection::{Broken, KeyValue, Row, Write};

/// The layout of rows; another one makes the rows be rebuilt.
const LAYOUT: u8 = 2;
const WATERMARK: &[u8] = b"\0watermark";
const CACHE_BYTES: u64 = 16 << 20;

struct SledStore {
    db: sled::Db,
}

/// Opens the rows in `dir`.
pub(crate) fn open(dir: &Path) -> Result<Box<dyn KeyValue>, Broken> {
    let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES);
    let db = config.open().map_err(broken)?;
    Ok(Box::new(SledStore { db }))
}

impl KeyValue for SledStore {
    fn load(&self, tree: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        let value = self.db.get(full_key(tree, key)).map_err(broken)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn page(&self, tree: &str, before: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, Broken> {
        let start = full_key(tree, &[]);
        let end = match before {
            Some(key) => full_key(tree, key),
            // The separator is 0x00, so 0x01 comes after every key of the tree.
            None => [tree.as_bytes(), &[1]].concat(),
        };
        self.db
            .range(start.clone()..end)
            .rev()
            .take(limit)
            .map(|row| {
                let (key, value) = row.map_err(broken)?;
                let key = key
                    .strip_prefix(start.as_slice())
                    .unwrap_or_default()
                    .to_vec();
                Ok((key, value.to_vec()))
            })
            .collect()
    }

    fn write(&self, writes: &[Write], watermark: Option<&Position>) -> Result<(), Broken> {
        let mut batch = sled::Batch::default();
        for write in writes {
            match write {
                Write::Put(tree, key, value) => {
                    batch.insert(full_key(tree, key), value.as_slice());
                }
                Write::Remove(tree, key) => batch.remove(full_key(tree, key)),
            }
        }
        if let Some(position) = watermark {
            batch.insert(WATERMARK, encode(position));
        }
        self.db.apply_batch(batch).map_err(broken)
    }

    fn watermark(&self) -> Result<Option<Position>, Broken> {
        let value = self.db.get(WATERMARK).map_err(broken)?;
        Ok(value.and_then(|value| decode(&value)))
    }
}

fn full_key(tree: &str, key: &[u8]) -> Vec<u8> {
    [tree.as_bytes(), &[0], key].concat()
}

fn encode(position: &Position) -> Vec<u8> {
    [
        &[LAYOUT][..],
        &position.sequence.to_le_bytes(),
        &position.hash,
    ]
    .concat()
}

fn decode(bytes: &[u8]) -> Option<Position> {
    let rest = bytes.strip_prefix(&[LAYOUT])?;
    let (sequence, hash) = rest.split_first_chunk::<8>()?;
    Some(Position {
        sequence: u64::from_le_bytes(*sequence),
        hash: hash.try_into().ok()?,
    })
}

fn broken(error: sled::Error) -> Broken {
    format!("sled: {error}")
}
