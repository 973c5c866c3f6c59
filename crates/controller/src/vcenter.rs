//! Placeholder of the part; its owner fills it in.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_types::Fault;

use crate::event::Part;

/// What happens to this part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VcenterEvent {}

/// The part's state.
#[derive(Debug, Clone, Default)]
pub struct Vcenters {}

impl Part for Vcenters {
    type Event = VcenterEvent;

    fn check(&self, _at: Timestamp, event: &VcenterEvent) -> Result<(), Fault> {
        match *event {}
    }

    fn apply(&mut self, _at: Timestamp, event: &VcenterEvent) {
        match *event {}
    }
}
