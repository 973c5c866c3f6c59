//! The catalogue in sled.
//!
//! sled 0.34 may lose what it was told to flush, and may refuse to open after a crash. Both are
//! harmless here: see [`super::Points`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stillwater_format::commit::Entry;
use stillwater_types::PointId;

use super::{Catalogue, CatalogueError, Point, decode, fail};
use crate::vfs::Vfs;
use crate::{Rng, durable, layout};

const CACHE_BYTES: u64 = 16 << 20;
const BY_SEQUENCE: &str = "points by sequence";
const BY_ID: &str = "points by id";

/// Points in two trees: by sequence with the commit record, and by id with the sequence.
pub struct SledCatalogue {
    vfs: Arc<dyn Vfs>,
    rng: Arc<dyn Rng>,
    path: PathBuf,
    trees: Option<Trees>,
}

struct Trees {
    db: ::sled::Db,
    by_sequence: ::sled::Tree,
    by_id: ::sled::Tree,
}

impl SledCatalogue {
    /// A catalogue in the repository at `root`, whose own file system is `vfs`. It is opened later,
    /// so that what keeps it from opening is healed like anything else.
    pub fn new(root: &Path, vfs: Arc<dyn Vfs>, rng: Arc<dyn Rng>) -> Self {
        Self {
            vfs,
            rng,
            path: root.join(layout::CATALOGUE),
            trees: None,
        }
    }

    fn opened(&self) -> Result<&Trees, CatalogueError> {
        self.trees
            .as_ref()
            .ok_or_else(|| CatalogueError("it is not open".into()))
    }
}

impl Trees {
    fn open(path: &Path) -> Result<Self, CatalogueError> {
        let db = ::sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .open()?;
        let (by_sequence, by_id) = (db.open_tree(BY_SEQUENCE)?, db.open_tree(BY_ID)?);
        Ok(Self {
            db,
            by_sequence,
            by_id,
        })
    }
}

impl Catalogue for SledCatalogue {
    fn open(&mut self) -> Result<(), CatalogueError> {
        self.trees = Some(Trees::open(&self.path)?);
        Ok(())
    }

    fn insert(&mut self, point: &Point) -> Result<(), CatalogueError> {
        let trees = self.opened()?;
        let (_, record) = Entry::PointCommitted(point.commit).encode().map_err(fail)?;
        let sequence = point.sequence.to_be_bytes();
        trees.by_sequence.insert(sequence, record)?;
        trees
            .by_id
            .insert(point.commit.point.as_bytes(), &sequence)?;
        Ok(())
    }

    fn remove(&mut self, id: PointId) -> Result<(), CatalogueError> {
        let trees = self.opened()?;
        if let Some(sequence) = trees.by_id.remove(id.as_bytes())? {
            trees.by_sequence.remove(sequence)?;
        }
        Ok(())
    }

    fn get(&self, id: PointId) -> Result<Option<Point>, CatalogueError> {
        let trees = self.opened()?;
        let Some(sequence) = trees.by_id.get(id.as_bytes())? else {
            return Ok(None);
        };
        let Some(record) = trees.by_sequence.get(&sequence)? else {
            return Err(CatalogueError("an id leads nowhere".into()));
        };
        let point = decode_pair(&sequence, &record)?;
        if point.commit.point == id {
            Ok(Some(point))
        } else {
            Err(CatalogueError("an id leads to another point".into()))
        }
    }

    fn page(&self, sequence: u64, limit: usize) -> Result<Vec<Point>, CatalogueError> {
        let start = sequence.saturating_add(1).to_be_bytes();
        let range = self.opened()?.by_sequence.range(start..).take(limit);
        range
            .map(|pair| {
                pair.map_err(CatalogueError::from)
                    .and_then(|(k, v)| decode_pair(&k, &v))
            })
            .collect()
    }

    fn count(&self) -> Result<u64, CatalogueError> {
        let trees = self.opened()?;
        let (points, ids) = (trees.by_sequence.len(), trees.by_id.len());
        if points == ids {
            Ok(points as u64)
        } else {
            Err(CatalogueError("its trees differ".into()))
        }
    }

    fn reset(&mut self) -> Result<(), CatalogueError> {
        if let Some(trees) = self.trees.take() {
            // sled lets go of its files only when every handle is gone.
            drop((trees.by_sequence, trees.by_id));
            drop(trees.db);
        }
        let dir = Path::new(layout::CATALOGUE);
        if self.vfs.list(dir).is_ok() {
            durable::quarantine(&*self.vfs, &*self.rng, dir).map_err(fail)?;
        }
        self.open()
    }
}

impl From<::sled::Error> for CatalogueError {
    fn from(error: ::sled::Error) -> Self {
        fail(error)
    }
}

fn decode_pair(sequence: &[u8], record: &[u8]) -> Result<Point, CatalogueError> {
    let sequence = sequence
        .try_into()
        .map_err(|_| CatalogueError("a key is malformed".into()))?;
    decode(u64::from_be_bytes(sequence), record)
}
