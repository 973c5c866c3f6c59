//! The seam between generated messages and domain types that every API crate has.
//!
//! [`field`] checks what arrives and names the field that is wrong, [`serve`] takes a call apart
//! and puts its answer together, [`ask`] does the same at the calling end, and the macros write
//! down mirrors that differ in nothing but their names. It knows no message of any role, but for those
//! that the controller passes on from repositories to administrators as they are: [`upkeep`] and
//! [`retention`].

#[cfg(feature = "fuzz")]
pub mod arrive;
pub mod ask;
mod calls;
pub mod field;
mod mirror;
mod passed_on;
pub mod retention;
pub mod serve;
pub mod upkeep;

pub use field::{FieldError, Word};
