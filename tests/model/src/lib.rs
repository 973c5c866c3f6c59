//! The rules by which the repository deletes, as a model that is checked exhaustively.
//!
//! It says nothing about bytes, files or threads: a step of the model is what the store does under one
//! hold of its ledger's lock, or one file made durable. Between any two steps any other step may come,
//! and a crash. docs/concurrency.md has the rules in words, and names for each the test here that shows
//! what is lost without it.
//!
//! # What is left out, on purpose
//! * Time. Each wait is taken as over whenever that does the most harm, and each lock of a point as
//!   run out: what holds here does not lean on a clock.
//! * Trees. An id stands for a subtree with all below it, so "shared without asking" is a proposal of an
//!   id that the session never looked up. Any session may propose at any time: what a proxy believes
//!   cannot do harm.
//! * Lookups. What an open session can see it must go on seeing, which is more than that each answer it
//!   was given stays true.
//! * Places in the log. Only their order counts, so a condemned pack has the set of the sessions that
//!   were open before it was condemned and still are.

mod checks;
mod cycle;
mod rules;
mod runs;
mod scrub;
mod state;

pub use checks::Violation;
pub use rules::Rule;
pub use runs::{Act, Bounds, Protocol};
pub use state::State;
