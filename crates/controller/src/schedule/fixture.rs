//! A small cluster for tests: one repository, two proxies, VMs on one host.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use stillwater_controller_api::ProxyReach;
use stillwater_policy::Policy;
use stillwater_scheduler::Standing;
use stillwater_types::{DatasetId, NodeId, PointId, Reason, RequestId, RunId, VcenterId, VmId};

use super::book::Book;
use super::facts::{
    Limits, Member, MemberDisk, NodesNow, Promise, Promises, ProxyNow, RepositoryNow, Ways,
};
use crate::run::{BackupWork, Cause, CommittedPoint, Outcome, Run, Stage, Target, Work};

pub(super) fn at(secs: i64) -> Timestamp {
    let begin: Timestamp = "2026-03-02T00:00:00Z".parse().expect("is a moment");
    begin
        .checked_add(SignedDuration::from_secs(secs))
        .expect("is a moment")
}

pub(super) fn vcenter() -> VcenterId {
    VcenterId::from_bytes([1; 16])
}

pub(super) fn vm(number: u8) -> VmId {
    VmId {
        vcenter: vcenter(),
        moref: format!("vm-{number}"),
    }
}

pub(super) fn member(number: u8) -> Member {
    Member {
        vm: vm(number),
        name: format!("web-{number}"),
        host: Some("esx".into()),
        disks: vec![MemberDisk {
            key: 2000,
            datastore: "ds".into(),
            capacity_bytes: 1 << 30,
        }],
        excluded: Vec::new(),
    }
}

pub(super) fn policy(name: &str, rpo: &str) -> Arc<Policy> {
    let text = format!(
        "name = '{name}'\n[[scope.include]]\nname = '*'\n[schedule]\nrpo = '{rpo}'\n[retention]\nkeep-last = 3\n[store]\nrepository = 'main'\n"
    );
    Arc::new(Policy::parse(&text).expect("is a policy"))
}

pub(super) fn promise(name: &str, members: &[u8]) -> Promise {
    Promise {
        policy: policy(name, "1h"),
        since: at(-86_400),
        members: members.iter().copied().map(member).collect(),
    }
}

pub(super) fn promises(policies: &[(&str, &[u8])]) -> Promises {
    let each = policies.iter();
    Promises {
        policies: each.map(|(name, members)| promise(name, members)).collect(),
        unread: BTreeSet::new(),
        untagged: BTreeSet::new(),
    }
}

pub(super) fn repository() -> NodeId {
    NodeId::from_bytes([7; 16])
}

pub(super) fn nodes() -> NodesNow {
    let proxy = |number| ProxyNow {
        node: NodeId::from_bytes([number; 16]),
        slots: 2,
        taken: 0,
        standing: Standing::Online,
        reach: ProxyReach::default(),
    };
    NodesNow {
        repositories: vec![RepositoryNow {
            node: repository(),
            name: "main".into(),
            accepts: true,
        }],
        proxies: vec![proxy(1), proxy(2)],
    }
}

pub(super) fn book() -> Book {
    let mut book = Book::new(Limits::default(), Ways::default());
    book.tell_nodes(nodes());
    book
}

pub(super) fn run_id(number: u8) -> RunId {
    RunId::from_bytes([number; 16])
}

/// A run of a VM that was asked for at a moment.
pub(super) fn run(number: u8, of: u8, policy: Option<&str>, started: i64) -> Run {
    let work = Work::Backup(BackupWork {
        repository: Some(repository()),
        policy: policy.map(str::to_owned),
        ..BackupWork::new(vm(of), format!("web-{of}"))
    });
    let request = RequestId::from_bytes([number; 16]);
    let mut run = Run::new(run_id(number), at(started), request, work);
    run.target = Some(Target {
        repository: repository(),
        dataset: DatasetId::from_bytes([1; 16]),
    });
    run.path.push((at(started + 1), Stage::Freezing));
    run.path.push((at(started + 3), Stage::Mapping));
    run
}

/// The same with a point, ten seconds later.
pub(super) fn whole(mut run: Run) -> Run {
    let ended = run.started_at + SignedDuration::from_secs(10);
    run.ended_at = Some(ended);
    run.ending = Some(Outcome::Succeeded);
    run.committed = Some(CommittedPoint {
        point: PointId::from_bytes([1; 16]),
        sequence: 1,
        committed_at: ended,
    });
    run
}

pub(super) fn failed(mut run: Run) -> Run {
    run.ended_at = Some(run.started_at + SignedDuration::from_secs(10));
    run.ending = Some(Outcome::Failed(Cause::new(
        Reason::DatastoreFull,
        "no room",
    )));
    run
}
