//! Retention: which points policies do not want any more, and asking the repositories to delete them.
//!
//! It only asks. What nobody can delete, and whether the time can be trusted, is the repository's alone to say; what
//! it refuses is told and asked again later. Points that no policy made, or one that was removed, are
//! nobody's to end: they stay until a person deletes them.

mod expiry;
#[cfg(test)]
mod fixture;
mod forecast;
mod judge;
mod locking;
mod words;

pub use expiry::{Expirer, Ledger, Outlook, Refusal};
pub use forecast::{Budget, forecast};
pub use judge::{Fate, Held, Judged, Present, Proof, Shelf, Stay, expired, judge, policies_of};
pub(crate) use words::keep;
pub use words::why;
