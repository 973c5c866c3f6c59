//! The catalogue in redb, a second engine behind the same trait.
//!
//! All of its I/O goes through [`Vfs`], so that tests can fail and tear it like everything else. What
//! it lost or garbled is found by comparing it with the log; see [`super::Points`].

use std::io;
use std::path::Path;
use std::sync::Arc;

use ::redb::{
    Builder, Database, ReadableDatabase, ReadableTableMetadata, StorageBackend, TableDefinition,
};
use stillwater_format::commit::Entry;
use stillwater_types::PointId;

use super::{Catalogue, CatalogueError, Point, decode, fail};
use crate::vfs::{Access, File, Vfs};
use crate::{Rng, durable, layout};

const CACHE_BYTES: usize = 16 << 20;
const BY_SEQUENCE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("points by sequence");
const BY_ID: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("points by id");

/// Points in two tables: by sequence with the commit record, and by id with the sequence.
pub struct RedbCatalogue {
    vfs: Arc<dyn Vfs>,
    rng: Arc<dyn Rng>,
    db: Option<Database>,
}

impl RedbCatalogue {
    /// A catalogue in the repository whose file system is `vfs`. It is opened later, so that what keeps
    /// it from opening is healed like anything else.
    pub fn new(vfs: Arc<dyn Vfs>, rng: Arc<dyn Rng>) -> Self {
        Self { vfs, rng, db: None }
    }

    fn opened(&self) -> Result<&Database, CatalogueError> {
        self.db
            .as_ref()
            .ok_or_else(|| CatalogueError("it is not open".into()))
    }

    fn file(&self) -> io::Result<Box<dyn File>> {
        let path = Path::new(layout::CATALOGUE_FILE);
        match self.vfs.open(path, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = self.vfs.create_new(path)?;
                self.vfs.sync_dir(Path::new("."))?;
                Ok(file)
            }
            opened => opened,
        }
    }
}

impl Catalogue for RedbCatalogue {
    fn open(&mut self) -> Result<(), CatalogueError> {
        let backend = Backend(self.file().map_err(fail)?);
        let db = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(fail)?;
        // So that readers find the tables.
        let write = db.begin_write().map_err(fail)?;
        write.open_table(BY_SEQUENCE).map_err(fail)?;
        write.open_table(BY_ID).map_err(fail)?;
        write.commit().map_err(fail)?;
        self.db = Some(db);
        Ok(())
    }

    fn insert(&mut self, point: &Point) -> Result<(), CatalogueError> {
        self.insert_all(std::slice::from_ref(point))
    }

    fn insert_all(&mut self, points: &[Point]) -> Result<(), CatalogueError> {
        let write = self.opened()?.begin_write().map_err(fail)?;
        {
            let mut by_sequence = write.open_table(BY_SEQUENCE).map_err(fail)?;
            let mut by_id = write.open_table(BY_ID).map_err(fail)?;
            for point in points {
                let (_, record) = Entry::PointCommitted(point.commit).encode().map_err(fail)?;
                by_sequence
                    .insert(point.sequence, record.as_slice())
                    .map_err(fail)?;
                by_id
                    .insert(point.commit.point.as_bytes(), point.sequence)
                    .map_err(fail)?;
            }
        }
        write.commit().map_err(fail)
    }

    fn remove(&mut self, id: PointId) -> Result<(), CatalogueError> {
        let write = self.opened()?.begin_write().map_err(fail)?;
        {
            let mut by_id = write.open_table(BY_ID).map_err(fail)?;
            let sequence = by_id.remove(id.as_bytes()).map_err(fail)?;
            if let Some(sequence) = sequence.map(|found| found.value()) {
                let mut by_sequence = write.open_table(BY_SEQUENCE).map_err(fail)?;
                by_sequence.remove(sequence).map_err(fail)?;
            }
        }
        write.commit().map_err(fail)
    }

    fn get(&self, id: PointId) -> Result<Option<Point>, CatalogueError> {
        let read = self.opened()?.begin_read().map_err(fail)?;
        let by_id = read.open_table(BY_ID).map_err(fail)?;
        let Some(sequence) = by_id.get(id.as_bytes()).map_err(fail)? else {
            return Ok(None);
        };
        let by_sequence = read.open_table(BY_SEQUENCE).map_err(fail)?;
        let Some(record) = by_sequence.get(sequence.value()).map_err(fail)? else {
            return Err(CatalogueError("an id leads nowhere".into()));
        };
        let point = decode(sequence.value(), record.value())?;
        if point.commit.point == id {
            Ok(Some(point))
        } else {
            Err(CatalogueError("an id leads to another point".into()))
        }
    }

    fn page(&self, sequence: u64, limit: usize) -> Result<Vec<Point>, CatalogueError> {
        let read = self.opened()?.begin_read().map_err(fail)?;
        let by_sequence = read.open_table(BY_SEQUENCE).map_err(fail)?;
        let range = by_sequence
            .range(sequence.saturating_add(1)..)
            .map_err(fail)?;
        range
            .take(limit)
            .map(|pair| {
                let (sequence, record) = pair.map_err(fail)?;
                decode(sequence.value(), record.value())
            })
            .collect()
    }

    fn count(&self) -> Result<u64, CatalogueError> {
        let read = self.opened()?.begin_read().map_err(fail)?;
        let points = read.open_table(BY_SEQUENCE).map_err(fail)?;
        let ids = read.open_table(BY_ID).map_err(fail)?;
        let (points, ids) = (points.len().map_err(fail)?, ids.len().map_err(fail)?);
        if points == ids {
            Ok(points)
        } else {
            Err(CatalogueError("its tables differ".into()))
        }
    }

    fn reset(&mut self) -> Result<(), CatalogueError> {
        drop(self.db.take());
        let path = Path::new(layout::CATALOGUE_FILE);
        match self.vfs.open(path, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => {
                durable::quarantine(&*self.vfs, &*self.rng, path).map_err(fail)?;
            }
        }
        self.open()
    }
}

/// A file of ours as redb wants it.
struct Backend(Box<dyn File>);

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(layout::CATALOGUE_FILE)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}
