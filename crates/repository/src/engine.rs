//! The store, called from asynchronous code.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use stillwater_format::commit::AdminKey;
use stillwater_rpc::signing;
use stillwater_store::vfs::{RealFs, Vfs};
use stillwater_store::{
    Clock, Environment, Error, Options, Rng, SegmentIndex, SledCatalogue, Store, SystemClock,
    SystemRng, Usage, Verifier,
};
use stillwater_types::{Fault, Reason};

use crate::error::fault;

/// The store on threads of its own, with what was last known of its usage.
#[derive(Clone)]
pub struct Engine {
    store: Store,
    usage: Arc<RwLock<Option<Usage>>>,
}

impl Engine {
    /// Takes an open store.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            usage: Arc::default(),
        }
    }

    /// Calls the store where blocking does no harm.
    ///
    /// # Errors
    /// What the store refused, in words that cross roles.
    pub async fn call<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Fault> {
        let store = self.store.clone();
        blocking(move || act(&store).map_err(fault)).await
    }

    /// The store, for those who are on a thread of their own.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Measures the usage anew.
    ///
    /// # Errors
    /// When the file system does not tell.
    pub async fn measure(&self) -> Result<Usage, Fault> {
        let usage = self.call(Store::usage).await?;
        *self.usage.write().unwrap_or_else(PoisonError::into_inner) = Some(usage);
        Ok(usage)
    }

    /// The usage as it was measured last.
    pub fn measured(&self) -> Option<Usage> {
        *self.usage.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `act` on a thread that may block.
///
/// # Errors
/// `BUG` when it panicked.
pub async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(act)
        .await
        .unwrap_or_else(|_| Err(Fault::new(Reason::Bug, "a call to the store panicked")))
}

/// Checks signatures of administrators.
struct Ed25519;

impl Verifier for Ed25519 {
    fn verify(&self, key: &AdminKey, message: &[u8], signature: &[u8; 64]) -> bool {
        signing::verify(key, message, signature)
    }
}

/// What a store in the directory `dir` takes from this machine. Blocks on the disk.
///
/// # Errors
/// `STORAGE_UNFIT` when the directory is not there.
pub fn environment(dir: &Path) -> Result<Environment, Fault> {
    let unfit = |act: &str, error: std::io::Error| {
        Fault::new(
            Reason::StorageUnfit,
            format!("{act} {}: {error}", dir.display()),
        )
    };
    let vfs: Arc<dyn Vfs> = Arc::new(RealFs::open(dir).map_err(|e| unfit("open", e))?);
    let clock: Arc<dyn Clock> =
        Arc::new(SystemClock::open().map_err(|e| unfit("ask for the boot id, for", e))?);
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    let catalogue = Box::new(SledCatalogue::new(dir, Arc::clone(&vfs), Arc::clone(&rng)));
    let index = Arc::new(SegmentIndex::new(Arc::clone(&vfs), Arc::clone(&rng)));
    Ok(Environment {
        vfs,
        clock,
        rng,
        catalogue,
        index,
        verifier: Arc::new(Ed25519),
    })
}

/// Opens the store in `dir`. Blocks on the disk.
///
/// # Errors
/// Why it cannot be opened.
pub fn open(dir: &Path, options: Options) -> Result<Store, Fault> {
    Store::open(environment(dir)?, options).map_err(fault)
}
