//! Locks that policies promise and points do not have yet.
//!
//! A point is born with the lock that its repository gives to all. What a policy promises beyond that is asked for
//! here; the repository alone keeps it, and nothing shortens it afterwards, the policy neither.

use std::collections::BTreeSet;

use jiff::Timestamp;
use stillwater_policy::retention::Keep;
use stillwater_repository_api::LockPointRequest;
use stillwater_types::{NodeId, PointId};

use super::expiry::{Expirer, is_of_all};
use super::judge::{Fate, Judged, Stay};

/// A lock to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    point: PointId,
    repository: NodeId,
    until: Timestamp,
}

/// Every lock that a policy wants to last longer than the one that the point has.
fn due(judged: &[Judged]) -> Vec<Due> {
    judged.iter().filter_map(wanted).collect()
}

fn wanted(judged: &Judged) -> Option<Due> {
    let Fate::Keep(reasons) = &judged.fate else {
        return None;
    };
    let locks = reasons.iter().filter_map(|stay| match stay {
        Stay::Wanted(_, Keep::Locked(until)) => Some(*until),
        _ => None,
    });
    let held = &judged.held;
    let until = locks.max().filter(|until| *until > held.retain_until)?;
    Some(Due {
        point: held.point,
        repository: held.repository,
        until,
    })
}

impl Expirer {
    /// Asks for the locks that are due; whether a repository gave one.
    pub(super) async fn lock(&self, judged: &[Judged]) -> bool {
        let mut silent = BTreeSet::new();
        let mut is_changed = false;
        for Due {
            point,
            repository,
            until,
        } in due(judged)
        {
            if silent.contains(&repository) {
                continue;
            }
            let request = LockPointRequest {
                point_id: point,
                until,
            };
            match self.upkeep.lock_point(repository, request).await {
                Ok(_) => {
                    tracing::info!(point.id = %point, %until, "locked a restore point as its policy says");
                    is_changed = true;
                }
                Err(fault) => {
                    tracing::warn!(point.id = %point, %until, %fault, "cannot lock a restore point as its policy says");
                    if is_of_all(&fault) {
                        silent.insert(repository);
                    }
                }
            }
        }
        is_changed
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::super::judge::{Present, judge};
    use super::*;

    /// The locks that are due on day 10 of points of gold and of nobody.
    #[track_caller]
    fn check(retention: &str, born_locked_until: i64, expected: &[(u8, i64)]) {
        let mut held = points([8, 9]);
        held.push(point(7, None));
        held.iter_mut()
            .for_each(|held| held.retain_until = day(born_locked_until));
        let (promises, repositories) = (gold(retention), shelves());
        let present = Present {
            promises: &promises,
            repositories: &repositories,
            now: day(10),
        };
        let due = due(&judge(held, &present));
        let found: Vec<_> = due.iter().map(|due| (due.point, due.until)).collect();
        let expected = expected
            .iter()
            .map(|(number, until)| (point(*number, None).point, day(*until)));
        assert_eq!(found, expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_lock_is_due_where_a_policy_wants_a_longer_one_than_there_is() {
        check("keep-last = 9\nlock = '30d'", 22, &[(8, 38), (9, 39)]);
        // Only where the repository's own is shorter.
        check("keep-last = 9\nlock = '30d'", 38, &[(9, 39)]);
        check("keep-last = 9\nlock = '5d'", 22, &[]);
        check("keep-last = 9", 22, &[]);
        // What would be over by now is not asked for.
        check("keep-last = 9\nlock = '12h'", 5, &[]);
    }
}
