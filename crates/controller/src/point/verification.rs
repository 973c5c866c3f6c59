//! When which point was proved last with the key, folded from the runs that did it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use stillwater_controller_api::PointVerification;
use stillwater_types::PointId;

use crate::run::Run;

/// The last verification of each point; clones are cheap, for every state has one.
///
/// Points that are gone stay in it: an entry is small, and the journal is what it is folded from.
#[derive(Debug, Clone, Default)]
pub struct Verifications(Arc<BTreeMap<PointId, PointVerification>>);

impl Verifications {
    /// What came of the last one.
    pub fn of(&self, point: PointId) -> Option<&PointVerification> {
        self.0.get(&point)
    }

    /// Takes in a run that ended. One that did not look at every disk proves nothing.
    pub fn note(&mut self, at: Timestamp, ended: &Run) {
        if let Some((point, damage)) = ended.verified() {
            let verification = PointVerification {
                run_id: ended.id,
                verified_at: at,
                damaged_bytes: damage.bytes,
            };
            Arc::make_mut(&mut self.0).insert(point, verification);
        }
    }
}
