//! The controller's memory on disk: an append-only journal that is the truth and the audit log, and
//! a projection over sled that can be thrown away at any time.
//!
//! It does not know what the entries mean: the controller brings the event type and folds it.

mod clock;
mod entry;
mod error;
mod journal;
mod projection;
mod sled_store;

pub use clock::{Clock, SystemClock};
pub use entry::{Draft, Entry, VERSION};
pub use error::Error;
pub use journal::{Journal, Position, replay};
pub use projection::{KeyValue, Projection, Row, Write};
