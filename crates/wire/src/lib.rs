//! The seam between generated messages and domain types that every API crate has.
//!
//! [`field`] checks what arrives and names the field that is wrong, [`serve`] takes a call apart
//! and puts its answer together, [`ask`] does the same at the calling end, and the macros write
//! down mirrors that differ in nothing but their names. Knows no message of any role.

pub mod ask;
pub mod field;
mod mirror;
pub mod serve;

pub use field::{FieldError, Word};
