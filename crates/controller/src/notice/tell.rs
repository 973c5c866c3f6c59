//! What an entry of the journal has to tell.

use super::{About, NoticeKind, Told};
use crate::alarm::{AlarmEvent, Subject};
use crate::event::Event;
use crate::guest::CredentialEvent;
use crate::memory::State;
use crate::node::NodeEvent;
use crate::policy::PolicyEvent;
use crate::run::{Outcome, RunEvent, Work};
use crate::token::TokenEvent;
use crate::vcenter::VcenterEvent;

use stillwater_types::{NodeId, PointId, RunId, VcenterId, VmId};

/// What an event tells that is about to change `before`; none for what is of interest to the controller alone.
pub fn tell(before: &State, event: &Event) -> Option<Told> {
    match event {
        Event::Run { run, event } => of_run(before, *run, event),
        Event::Alarm(event) => Some(of_alarm(event)),
        Event::Node(event) => Some(of_node(before, event)),
        Event::Policy(event) => Some(of_policy(before, event)),
        Event::Vcenter(event) => Some(of_vcenter(before, event)),
        Event::Credential(event) => Some(of_credential(event)),
        Event::Token(event) => of_token(event),
        // Keys of datasets come and go with their repositories.
        Event::Dataset(_) => None,
    }
}

fn of_run(before: &State, run: RunId, event: &RunEvent) -> Option<Told> {
    if let RunEvent::Started { work, .. } = event {
        let started = told(NoticeKind::RunStarted, format!("{} begins", words(work)));
        return Some(about_run(started, run, work));
    }
    // Most events of a run tell nothing: its words are made where they are told.
    let known = before.runs.find(run)?;
    let what = || words(&known.work);
    let mut told = match event {
        RunEvent::Ended(Outcome::Succeeded) => {
            told(NoticeKind::RunSucceeded, format!("{} succeeded", what()))
        }
        RunEvent::Ended(Outcome::Incomplete) => {
            let missing = "something of the vm is not in its point";
            told(
                NoticeKind::RunIncomplete,
                format!(
                    "{} is incomplete: {missing}; see `stillwater run show {run}`",
                    what()
                ),
            )
        }
        RunEvent::Ended(Outcome::Failed(cause)) => told(
            NoticeKind::RunFailed,
            format!("{} failed: {} {}", what(), cause.0.reason, cause.0.message),
        ),
        RunEvent::Ended(Outcome::Cancelled) => told(
            NoticeKind::RunCancelled,
            format!("{} was cancelled", what()),
        ),
        RunEvent::Committed(committed) => {
            let point = committed.point;
            let mut told = told(
                NoticeKind::PointCommitted,
                format!("{} made point {point}", what()),
            );
            told.about.point = Some(point);
            told
        }
        RunEvent::InPlaceBegun => told(
            NoticeKind::DisksOverwritten,
            format!("{} is about to write over the vm's disks", what()),
        ),
        _ => return None,
    };
    told.about.node = known.target.as_ref().map(|target| target.repository);
    Some(about_run(told, run, &known.work))
}

/// A run as people speak of it.
fn words(work: &Work) -> String {
    match work {
        Work::Backup(work) => match &work.policy {
            Some(policy) => format!("backup of {} for policy {policy}", work.vm_name),
            None => format!("backup of {}", work.vm_name),
        },
        Work::RestoreVm(work) => format!("restore of point {} as {}", work.point, work.name),
        Work::RestoreInPlace(work) => {
            format!(
                "restore of {} in place, to point {}",
                work.vm_name, work.point
            )
        }
        Work::ExportDisk(work) => format!("export of disk {} of point {}", work.disk, work.point),
        Work::VerifyPoint(work) => {
            format!("verification of point {} of {}", work.point, work.vm_name)
        }
    }
}

fn about_run(mut told: Told, run: RunId, work: &Work) -> Told {
    let about = &mut told.about;
    about.run = Some(run);
    match work {
        Work::Backup(work) => {
            about.vm = Some(work.vm.clone());
            about.vm_name.clone_from(&work.vm_name);
            about.policy = work.policy.clone().unwrap_or_default();
        }
        Work::RestoreVm(work) => {
            about.vm_name.clone_from(&work.name);
            about.point = Some(work.point);
        }
        Work::RestoreInPlace(work) => {
            about.vm = Some(work.vm.clone());
            about.vm_name.clone_from(&work.vm_name);
            about.point = Some(work.point);
        }
        Work::ExportDisk(work) => about.point = Some(work.point),
        Work::VerifyPoint(work) => {
            about.vm_name.clone_from(&work.vm_name);
            about.point = Some(work.point);
        }
    }
    told
}

fn of_alarm(event: &AlarmEvent) -> Told {
    let (kind, subject, told) = match event {
        AlarmEvent::Raised {
            kind,
            subject,
            message,
        } => (
            kind,
            subject,
            told(
                NoticeKind::AlarmRaised,
                format!("{kind}: {subject}: {message}"),
            ),
        ),
        AlarmEvent::Cleared { kind, subject } => (
            kind,
            subject,
            told(
                NoticeKind::AlarmCleared,
                format!("{kind}: {subject}: it is over"),
            ),
        ),
    };
    let (vm, node) = match subject {
        Subject::Vm(vm) => (Some(vm.clone()), None),
        Subject::Disk(disk) => (Some(disk.vm.clone()), None),
        Subject::Node(node) => (None, Some(*node)),
    };
    Told {
        about: About {
            vm,
            node,
            alarm: kind.as_str().to_owned(),
            ..About::default()
        },
        ..told
    }
}

fn of_node(before: &State, event: &NodeEvent) -> Told {
    let named = |node: NodeId| {
        let found = before.nodes.find(node);
        found.map_or_else(
            || node.to_string(),
            |found| format!("{} {}", found.role, found.name),
        )
    };
    let (node, mut told) = match event {
        NodeEvent::Joined {
            node,
            role,
            name,
            address,
            ..
        } => {
            let at = match address.is_empty() {
                true => String::new(),
                false => format!(" at {address}"),
            };
            let message = format!("{role} {name} joined{at}");
            (node, told(NoticeKind::NodeJoined, message))
        }
        NodeEvent::Renewed {
            node,
            certificate_expires_at,
        } => {
            let message = format!(
                "{} has a certificate until {certificate_expires_at:.0}",
                named(*node)
            );
            (node, told(NoticeKind::CertificateRenewed, message))
        }
        NodeEvent::Moved { node, address } => {
            let message = format!("{} is called at {address}", named(*node));
            (node, told(NoticeKind::NodeMoved, message))
        }
        NodeEvent::Removed { node } => {
            let message = format!("{} was removed", named(*node));
            (node, told(NoticeKind::NodeRemoved, message))
        }
        NodeEvent::DrainBegun { node } => {
            let message = format!("{} gets no new work", named(*node));
            (node, told(NoticeKind::ProxyDrained, message))
        }
        NodeEvent::DrainEnded { node } => {
            let message = format!("{} gets work again", named(*node));
            (node, told(NoticeKind::ProxyUndrained, message))
        }
    };
    told.about.node = Some(*node);
    told
}

fn of_policy(before: &State, event: &PolicyEvent) -> Told {
    match event {
        PolicyEvent::Applied { policy } => {
            let anew = before.policies.find(&policy.name).is_err();
            let word = if anew { "applied" } else { "changed" };
            about_policy(
                told(
                    NoticeKind::PolicyApplied,
                    format!("policy {} was {word}", policy.name),
                ),
                &policy.name,
            )
        }
        PolicyEvent::Removed { name } => about_policy(
            told(
                NoticeKind::PolicyRemoved,
                format!("policy {name} was removed"),
            ),
            name,
        ),
        PolicyEvent::Expired {
            point,
            repository,
            vm,
            why,
        } => {
            let message = format!("point {point} was deleted: {why}");
            about_point(
                told(NoticeKind::PointExpired, message),
                *point,
                *repository,
                vm,
            )
        }
        PolicyEvent::ExpiryRefused {
            point,
            repository,
            vm,
            why,
        } => {
            let message = format!("point {point} stays: {why}");
            about_point(
                told(NoticeKind::ExpiryRefused, message),
                *point,
                *repository,
                vm,
            )
        }
    }
}

fn about_point(mut told: Told, point: PointId, repository: NodeId, vm: &VmId) -> Told {
    told.about.point = Some(point);
    told.about.node = Some(repository);
    told.about.vm = Some(vm.clone());
    told
}

fn about_policy(mut told: Told, name: &str) -> Told {
    told.about.policy = name.to_owned();
    told
}

fn of_vcenter(before: &State, event: &VcenterEvent) -> Told {
    let named = |vcenter: VcenterId| {
        let found = before.vcenters.find(vcenter);
        found.map_or_else(|_| vcenter.to_string(), |found| found.name.clone())
    };
    match event {
        VcenterEvent::Added {
            name,
            address,
            username,
            ..
        } => told(
            NoticeKind::VcenterAdded,
            format!("vcenter {name} at {address} was added, with account {username}"),
        ),
        VcenterEvent::Removed { vcenter } => told(
            NoticeKind::VcenterRemoved,
            format!("vcenter {} was removed", named(*vcenter)),
        ),
    }
}

fn of_credential(event: &CredentialEvent) -> Told {
    match event {
        CredentialEvent::Set {
            subject, username, ..
        } => told(
            NoticeKind::CredentialSet,
            format!("account {username} is kept for the guests of {subject}"),
        ),
        CredentialEvent::Removed { subject } => told(
            NoticeKind::CredentialRemoved,
            format!("the account for the guests of {subject} was forgotten"),
        ),
    }
}

fn of_token(event: &TokenEvent) -> Option<Told> {
    match event {
        TokenEvent::Created {
            role, expires_at, ..
        } => Some(told(
            NoticeKind::TokenCreated,
            format!("a token was made for one {role} to join until {expires_at:.0}"),
        )),
        // The node that joined with it is told.
        TokenEvent::Used { .. } => None,
    }
}

fn told(kind: NoticeKind, message: String) -> Told {
    Told {
        kind,
        message,
        about: About::default(),
    }
}
