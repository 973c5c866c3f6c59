//! Who may take something out of restore points.

use std::collections::BTreeSet;

use stillwater_controller_api::StartKind;
use stillwater_types::{Fault, NodeId, Reason};

/// The administrators who may restore: every one, or some.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restorers(Option<BTreeSet<NodeId>>);

impl Restorers {
    /// Those that a configuration lists; every one when it lists none.
    pub fn new(listed: Option<&[NodeId]>) -> Self {
        Self(listed.map(|listed| listed.iter().copied().collect()))
    }

    /// Whether an administrator may start a run.
    ///
    /// # Errors
    /// `ROLE_NOT_ALLOWED` when the run takes something out of a point and they may not.
    pub fn check(&self, administrator: NodeId, kind: &StartKind) -> Result<(), Fault> {
        let takes_out = matches!(
            kind,
            StartKind::RestoreVm(_) | StartKind::ExportDisk(_) | StartKind::RestoreInPlace(_)
        );
        let is_listed = |listed: &BTreeSet<NodeId>| listed.contains(&administrator);
        if !takes_out || self.0.as_ref().is_none_or(is_listed) {
            return Ok(());
        }
        Err(Fault::new(
            Reason::RoleNotAllowed,
            "this administrator may not restore; `restores.administrators` in the controller's configuration lists who may",
        )
        .with("administrator", administrator))
    }
}

#[cfg(test)]
mod tests {
    use stillwater_controller_api::{StartBackup, StartExportDisk};
    use stillwater_types::PointId;

    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 16])
    }

    #[track_caller]
    fn check(listed: Option<&[NodeId]>, may_restore: bool) {
        let restorers = Restorers::new(listed);
        let export = StartKind::ExportDisk(StartExportDisk {
            point_id: PointId::from_bytes([1; 16]),
            disk_key: 2000,
        });
        let backup = StartKind::Backup(StartBackup {
            vm: "web".into(),
            exclude_disk_keys: vec![],
            full_read: false,
            quiesce: vec![],
            hooks: vec![],
            hook_budget_seconds: 0,
            ways: vec![],
        });
        let refused = restorers.check(node(1), &export).err();
        assert_eq!(refused.is_none(), may_restore);
        assert!(refused.is_none_or(|fault| fault.reason == Reason::RoleNotAllowed));
        assert_eq!(restorers.check(node(1), &backup), Ok(()));
    }

    #[test]
    fn only_those_who_are_listed_may_restore_and_everybody_may_back_up() {
        check(None, true);
        check(Some(&[]), false);
        check(Some(&[node(2)]), false);
        check(Some(&[node(2), node(1)]), true);
    }
}
