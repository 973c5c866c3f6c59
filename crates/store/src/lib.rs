//! The repository engine: packs, chunk index, commit log and point catalogue.
//!
//! It keeps what was acknowledged whatever crashes, and decides alone what a point is. It knows
//! neither keys nor networks, and removes nothing but its own unfinished files and what the commit log
//! names.
//!
//! * A pack is acknowledged when its file, its name and its directory are durable; then, and only
//!   then, the index learns of it.
//! * A restore point exists if and only if its commit record is durable; both copies of its manifest
//!   and everything that it reaches were durable before.
//! * What nothing reaches leaves in steps, each of which is on the commit log before it is done. Whatever
//!   a session could see when it opened stays until it is over.
//! * A fence is the place of a session in the commit log, so no fence is ever given twice.
//! * The index and the catalogue are caches: they are made anew from packs and log, without a hand.
//! * All file I/O goes through [`vfs::Vfs`], all time through [`Clock`], all randomness through
//!   [`Rng`].

mod authority;
mod catalogue;
mod clock;
mod closure;
mod commit_log;
mod counters;
mod durable;
mod error;
mod fates;
mod fitness;
mod gc;
mod history;
mod index;
mod layout;
mod pack;
mod point;
mod retention;
mod scrub;
mod session;
mod store;
mod superblock;
mod time;
pub mod vfs;

#[cfg(test)]
mod tests;

pub use authority::{Admin, LOCK_MAX, SIGN_WITHIN, StatementState, VETO_WAIT, Verifier, Waiting};
pub use catalogue::{
    Catalogue, CatalogueError, MemoryCatalogue, Point, RedbCatalogue, SledCatalogue,
};
pub use clock::{Clock, Rng, SystemClock, SystemRng};
pub use counters::{Counters, Counts};
pub use error::Error;
pub use gc::{
    Amount, Blocking, Collected, Collection, CollectionCounts, Held, Phase, Progress, Watch,
};
pub use index::{
    Index, IndexCount, IndexLimits, IndexSize, Location, MemoryIndex, PackFacts, PackTable,
    SegmentIndex, Upkeep,
};
pub use layout::CATALOGUE;
pub use pack::{Appended, PackReceipt, PackWriter, StoredRecord};
pub use point::Proposed;
pub use retention::Retention;
pub use scrub::{DamagedExtent, EXTENTS_NAMED_MAX, Health, Scrubbed, Verification};
pub use session::{Session, SessionKey};
pub use store::{Environment, Identity, Options, STORE_FORMAT_VERSION, Store, Usage};
pub use time::{Frozen, Moved};
