//! How fast earlier restores were.

use jiff::Timestamp;

use crate::run::{Outcome, Run, Stage, Work};

/// Bytes that earlier restores of VMs wrote in a second, all together; none when none was measured.
pub(super) fn written_per_second(runs: &[Run]) -> Option<u64> {
    let restores = runs.iter().filter(|run| {
        matches!(run.work, Work::RestoreVm(_))
            && matches!(run.ending, Some(Outcome::Succeeded | Outcome::Incomplete))
    });
    let (mut bytes, mut millis) = (0_u64, 0_u64);
    for run in restores {
        let Some(took) = transferred_millis(&run.path) else {
            continue;
        };
        let moved = run.disks.values().filter_map(|disk| disk.moved.as_ref());
        bytes = moved.fold(bytes, |sum, moved| {
            sum.saturating_add(moved.counts.sent_bytes)
        });
        millis = millis.saturating_add(took);
    }
    bytes
        .saturating_mul(1000)
        .checked_div(millis)
        .filter(|rate| *rate > 0)
}

/// How long disks were moved.
fn transferred_millis(path: &[(Timestamp, Stage)]) -> Option<u64> {
    let at = |stage: Stage| path.iter().find(|(_, s)| *s == stage).map(|(at, _)| *at);
    let took = at(Stage::Detaching)?.duration_since(at(Stage::Transferring)?);
    u64::try_from(took.as_millis())
        .ok()
        .filter(|took| *took > 0)
}
