//! Placeholder of the part; its owner fills it in.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_types::Fault;

use crate::event::Part;

/// What happens to this part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenEvent {}

/// The part's state.
#[derive(Debug, Clone, Default)]
pub struct Tokens {}

impl Part for Tokens {
    type Event = TokenEvent;

    fn check(&self, _at: Timestamp, event: &TokenEvent) -> Result<(), Fault> {
        match *event {}
    }

    fn apply(&mut self, _at: Timestamp, event: &TokenEvent) {
        match *event {}
    }
}
