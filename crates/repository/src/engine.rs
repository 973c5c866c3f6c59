//! The store of this repository: made on the first start, opened on every other.

use std::sync::Arc;

use stillwater_rpc::Identity;
use stillwater_service::state;
use stillwater_store::vfs::RealFs;
use stillwater_store::{
    Environment, Error, Identity as Owner, MemoryIndex, SledCatalogue, Store, SystemClock,
    SystemRng,
};
use stillwater_types::{Fault, Reason};

use crate::config::Config;

/// Opens the store, which is made if there is none. Blocks on the disk.
///
/// # Errors
/// `STORAGE_UNFIT` when the disk cannot keep promises or another process has it, and those of a
/// store that is damaged.
pub fn open(config: &Config, identity: &Identity) -> Result<Store, Fault> {
    let owner = Owner {
        cluster: identity.cluster(),
        node: identity.node(),
    };
    let options = config.store.options();
    state::prepare(&config.store_dir())?;
    let store = match Store::open(environment(config)?, options) {
        Err(Error::NotInitialised) => {
            Store::init(&environment(config)?, &options, owner)?;
            tracing::info!(dir = %config.store_dir().display(), "made a repository");
            Store::open(environment(config)?, options)?
        }
        opened => opened?,
    };
    if store.identity() != owner {
        tracing::warn!(node.id = %owner.node, "took over a repository of another node");
        store.adopt(owner)?;
    }
    Ok(store)
}

fn environment(config: &Config) -> Result<Environment, Fault> {
    let dir = config.store_dir();
    let failed = |act: &str, err: std::io::Error| {
        Fault::new(
            Reason::StorageFailed,
            format!("{act} {}: {err}", dir.display()),
        )
    };
    let vfs = Arc::new(RealFs::open(&dir).map_err(|err| failed("open", err))?);
    let rng = Arc::new(SystemRng);
    Ok(Environment {
        catalogue: Box::new(SledCatalogue::new(&dir, vfs.clone(), rng.clone())),
        clock: Arc::new(SystemClock::open().map_err(|err| failed("read the clock for", err))?),
        index: Arc::new(MemoryIndex::default()),
        vfs,
        rng,
    })
}
