use std::collections::BTreeSet;

use jiff::Timestamp;
use stillwater_policy::Policy;
use stillwater_types::{NodeId, PointId, Reason, RequestId, Role, RunId, VcenterId, VmId};

use super::*;
use crate::alarm::{AlarmEvent, AlarmKind};
use crate::event::Event;
use crate::guest::{CredentialEvent, Subject};
use crate::memory::State;
use crate::node::NodeEvent;
use crate::policy::PolicyEvent;
use crate::run::{BackupWork, Cause, CommittedPoint, InPlaceWork, Outcome, RunEvent, Work};
use crate::token::{TokenEvent, TokenHash};
use crate::vcenter::VcenterEvent;

const RUN: RunId = RunId::from_bytes([1; 16]);
const NODE: NodeId = NodeId::from_bytes([2; 16]);
const POINT: PointId = PointId::from_bytes([3; 16]);

fn vm() -> VmId {
    VmId {
        vcenter: VcenterId::from_bytes([4; 16]),
        moref: "vm-7".into(),
    }
}

fn backup(policy: Option<&str>) -> Work {
    Work::Backup(BackupWork {
        policy: policy.map(str::to_owned),
        ..BackupWork::new(vm(), "web")
    })
}

fn of_run(event: RunEvent) -> Event {
    Event::Run {
        run: RUN,
        event: Box::new(event),
    }
}

fn started(work: Work) -> Event {
    of_run(RunEvent::Started {
        request: RequestId::from_bytes([5; 16]),
        work,
    })
}

fn joined() -> Event {
    Event::Node(NodeEvent::Joined {
        node: NODE,
        role: Role::Proxy,
        name: "proxy-1".into(),
        address: "10.0.0.1:7444".into(),
        certificate_expires_at: Timestamp::MAX,
    })
}

/// What the last of these events tells after the others happened.
fn last(events: &[Event]) -> Option<Notice> {
    let mut state = State::default();
    let mut told = None;
    for event in events {
        told = state.apply(Timestamp::UNIX_EPOCH, "console", event).notice;
    }
    told
}

#[track_caller]
fn check(events: &[Event], kind: NoticeKind, message: &str) -> About {
    let notice = last(events).expect("it tells something");
    assert_eq!(
        (notice.told.kind, notice.told.message.as_str()),
        (kind, message)
    );
    assert_eq!(notice.number, events.len() as u64);
    let row = serde_json::to_vec(&notice).unwrap();
    assert_eq!(serde_json::from_slice::<Notice>(&row).unwrap(), notice);
    notice.told.about
}

#[test]
fn a_run_is_told_from_its_beginning_to_each_end() {
    let begin = started(backup(Some("gold")));
    let about = check(
        std::slice::from_ref(&begin),
        NoticeKind::RunStarted,
        "backup of web for policy gold begins",
    );
    assert_eq!((about.vm, about.run), (Some(vm()), Some(RUN)));
    assert_eq!(
        (about.vm_name.as_str(), about.policy.as_str()),
        ("web", "gold")
    );
    let ended = |outcome| [begin.clone(), of_run(RunEvent::Ended(outcome))];
    let what = "backup of web for policy gold";
    check(
        &ended(Outcome::Succeeded),
        NoticeKind::RunSucceeded,
        &format!("{what} succeeded"),
    );
    check(
        &ended(Outcome::Cancelled),
        NoticeKind::RunCancelled,
        &format!("{what} was cancelled"),
    );
    check(
        &ended(Outcome::Failed(Cause::new(
            Reason::DatastoreFull,
            "no room",
        ))),
        NoticeKind::RunFailed,
        &format!("{what} failed: DATASTORE_FULL no room"),
    );
    check(
        &ended(Outcome::Incomplete),
        NoticeKind::RunIncomplete,
        &format!(
            "{what} is incomplete: something of the vm is not in its point; see `stillwater run show {RUN}`"
        ),
    );
    assert_eq!(
        last(&[begin, of_run(RunEvent::CommitIntended)]),
        None,
        "steps in between are nobody's business"
    );
}

#[test]
fn a_point_is_told_with_the_run_that_made_it() {
    let committed = RunEvent::Committed(CommittedPoint {
        point: POINT,
        sequence: 1,
        committed_at: Timestamp::UNIX_EPOCH,
    });
    let about = check(
        &[started(backup(None)), of_run(committed)],
        NoticeKind::PointCommitted,
        &format!("backup of web made point {POINT}"),
    );
    assert_eq!((about.point, about.run), (Some(POINT), Some(RUN)));
}

#[test]
fn a_policy_is_told_as_applied_and_then_as_changed() {
    let text = "name = 'gold'\n[[scope.include]]\nname = '*'\n[schedule]\nrpo = '1h'\n\
                [retention]\nkeep-last = 3\n[store]\nrepository = 'main'\n";
    let policy = Box::new(Policy::parse(text).unwrap());
    let applied = Event::Policy(PolicyEvent::Applied { policy });
    let told = |events: &[Event], word| {
        let message = format!("policy gold was {word}");
        let about = check(events, NoticeKind::PolicyApplied, &message);
        assert_eq!(about.policy, "gold");
    };
    told(std::slice::from_ref(&applied), "applied");
    told(&[applied.clone(), applied], "changed");
}

#[test]
fn what_is_removed_is_told_by_the_name_that_it_had() {
    let removed = Event::Node(NodeEvent::Removed { node: NODE });
    let about = check(
        &[joined(), removed],
        NoticeKind::NodeRemoved,
        "proxy proxy-1 was removed",
    );
    assert_eq!(about.node, Some(NODE));
    let unknown = Event::Vcenter(VcenterEvent::Removed {
        vcenter: VcenterId::from_bytes([4; 16]),
    });
    let id = VcenterId::from_bytes([4; 16]);
    check(
        &[unknown],
        NoticeKind::VcenterRemoved,
        &format!("vcenter {id} was removed"),
    );
}

#[test]
fn an_alarm_is_told_with_its_kind_and_what_it_is_about() {
    let raised = Event::Alarm(AlarmEvent::Raised {
        kind: AlarmKind::LeftoverSnapshot,
        subject: vm().into(),
        message: "remove it".into(),
    });
    let about = check(
        &[raised],
        NoticeKind::AlarmRaised,
        &format!("LEFTOVER_SNAPSHOT: vm {}: remove it", vm()),
    );
    assert_eq!(
        (about.vm, about.alarm.as_str()),
        (Some(vm()), "LEFTOVER_SNAPSHOT")
    );
}

#[test]
fn what_a_person_did_is_told_and_no_secret_with_it() {
    let created = TokenEvent::Created {
        hash: TokenHash::try_from("07".repeat(32)).unwrap(),
        role: Role::Admin,
        expires_at: Timestamp::UNIX_EPOCH,
    };
    let told = last(&[Event::Token(created)]).unwrap();
    assert_eq!(told.by, "console");
    assert_eq!(
        told.told.message,
        "a token was made for one admin to join until 1970-01-01T00:00:00Z"
    );
    let forgotten = CredentialEvent::Removed {
        subject: Subject::Vm(vm()),
    };
    check(
        &[Event::Credential(forgotten)],
        NoticeKind::CredentialRemoved,
        &format!("the account for the guests of vm {} was forgotten", vm()),
    );
    let begun = Work::RestoreInPlace(InPlaceWork {
        point: POINT,
        repository: NODE,
        vm: vm(),
        vm_name: "web".into(),
        discard_changes: false,
    });
    check(
        &[started(begun), of_run(RunEvent::InPlaceBegun)],
        NoticeKind::DisksOverwritten,
        &format!("restore of web in place, to point {POINT} is about to write over the vm's disks"),
    );
    let refused = PolicyEvent::ExpiryRefused {
        point: POINT,
        repository: NODE,
        vm: vm(),
        why: "it is locked".into(),
    };
    check(
        &[Event::Policy(refused)],
        NoticeKind::ExpiryRefused,
        &format!("point {POINT} stays: it is locked"),
    );
}

#[test]
fn every_kind_is_in_the_operators_document_with_its_severity() {
    let document = include_str!("../../../../docs/operations/events.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let listed: BTreeSet<(String, String)> = rows
        .map(|row| {
            let mut cells = row
                .split('|')
                .skip(1)
                .map(|cell| cell.trim().replace('`', ""));
            let mut next = || cells.next().expect("a cell");
            (next(), next())
        })
        .collect();
    let severity = |kind: &NoticeKind| match kind.severity() {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let known = NoticeKind::ALL.iter();
    let known = known.map(|kind| (kind.as_str().to_owned(), severity(kind).to_owned()));
    assert_eq!(listed, known.collect());
}
