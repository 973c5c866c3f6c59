//! A VM, its points and policies for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use stillwater_policy::Policy;
use stillwater_types::{NodeId, PointId, VcenterId, VmId};

use super::judge::{Held, Proof, Shelf};
use crate::schedule::{Member, Promise, Promises};

pub(super) const MAIN: NodeId = NodeId::from_bytes([7; 16]);
pub(super) const SECOND: NodeId = NodeId::from_bytes([8; 16]);

pub(super) fn vm(number: u8) -> VmId {
    VmId {
        vcenter: VcenterId::from_bytes([1; 16]),
        moref: format!("vm-{number}"),
    }
}

pub(super) fn day(number: i64) -> Timestamp {
    let begin: Timestamp = "2026-03-02T00:00:00Z".parse().expect("is a moment");
    begin
        .checked_add(SignedDuration::from_hours(24 * number))
        .expect("is a moment")
}

/// A point of a policy, made on that day.
pub(super) fn point(number: u8, policy: Option<&str>) -> Held {
    let at = day(i64::from(number));
    Held {
        point: PointId::from_bytes([number; 16]),
        vm: vm(1),
        vm_name: "web".into(),
        repository: MAIN,
        policy: policy.map(str::to_owned),
        at,
        committed_at: at,
        retain_until: at,
        is_whole: true,
        proof: Proof::None,
        is_in_use: false,
    }
}

pub(super) fn points(numbers: impl IntoIterator<Item = u8>) -> Vec<Held> {
    let each = numbers.into_iter();
    each.map(|number| point(number, Some("gold"))).collect()
}

pub(super) fn promise(name: &str, retention: &str, repository: &str, members: &[u8]) -> Promise {
    let text = format!(
        "name = '{name}'\n[[scope.include]]\nname = '*'\n[schedule]\nrpo = '1d'\n[retention]\n{retention}\n[store]\nrepository = '{repository}'\n"
    );
    let member = |number: &u8| Member {
        vm: vm(*number),
        name: "web".into(),
        host: None,
        disks: Vec::new(),
        excluded: Vec::new(),
    };
    Promise {
        policy: Arc::new(Policy::parse(&text).expect("is a policy")),
        since: day(0),
        members: members.iter().map(member).collect(),
    }
}

pub(super) fn promises(policies: Vec<Promise>) -> Promises {
    Promises {
        policies,
        unread: BTreeSet::new(),
        untagged: BTreeSet::new(),
    }
}

pub(super) fn gold(retention: &str) -> Promises {
    promises(vec![promise("gold", retention, "main", &[1])])
}

/// The repositories `main` and `second`, whose clocks are right.
pub(super) fn shelves() -> BTreeMap<NodeId, Shelf> {
    let shelf = |name: &str| Shelf {
        name: name.to_owned(),
        lag: SignedDuration::ZERO,
    };
    [(MAIN, shelf("main")), (SECOND, shelf("second"))].into()
}
