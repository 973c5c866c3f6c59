//! A model world performs effects in any order, with any outcome, and is interrupted at will.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use stillwater_types::{
    ClusterId, DatasetId, ExportId, PointId, RequestId, RunId, TreeId, VcenterId, VmId,
};

use super::*;
use crate::guest::{Hook, Hooks, OnFailure};
use crate::run::event::{
    BackupWork, CommittedPoint, Counts, ExportWork, Findings, InPlaceWork, Placement,
    RestoreOptions, RestoreWork, Root, Target, VerifyWork,
};
use crate::run::lease::Lease;

fn vm() -> VmId {
    VmId {
        vcenter: VcenterId::from_bytes([1; 16]),
        moref: "vm-1".into(),
    }
}

fn backup() -> Work {
    Work::Backup(BackupWork::new(vm(), "web"))
}

fn hooked() -> Work {
    let hook = Hook {
        name: "hold".into(),
        phase: Phase::Before,
        program: "/bin/true".into(),
        arguments: vec![],
        timeout_seconds: 60,
        on_failure: OnFailure::Fail,
    };
    match backup() {
        Work::Backup(work) => Work::Backup(BackupWork {
            hooks: Some(Hooks {
                hooks: vec![hook],
                budget_seconds: 300,
            }),
            ..work
        }),
        other => other,
    }
}

fn restore(power_on: bool) -> Work {
    Work::RestoreVm(Box::new(RestoreWork {
        point: PointId::from_bytes([2; 16]),
        repository: node(9),
        name: "web-2".into(),
        placement: Placement {
            vcenter: VcenterId::from_bytes([1; 16]),
            datastore: "ds".into(),
            folder: None,
            resource_pool: None,
            host: None,
            datacenter: None,
            cluster: None,
        },
        power_on,
        options: RestoreOptions::default(),
    }))
}

fn export() -> Work {
    let point = PointId::from_bytes([2; 16]);
    Work::ExportDisk(ExportWork {
        point,
        repository: node(9),
        disk: 2000,
    })
}

fn verify() -> Work {
    Work::VerifyPoint(VerifyWork {
        point: PointId::from_bytes([2; 16]),
        repository: node(9),
        vm_name: "web".into(),
    })
}

fn in_place() -> Work {
    Work::RestoreInPlace(InPlaceWork {
        point: PointId::from_bytes([2; 16]),
        repository: node(9),
        vm: vm(),
        vm_name: "web".into(),
        discard_changes: false,
    })
}

fn works() -> [Work; 7] {
    [
        backup(),
        hooked(),
        restore(false),
        restore(true),
        export(),
        verify(),
        in_place(),
    ]
}

fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 16])
}

fn lease() -> Lease {
    let expires_at = "2026-11-23T12:00:00Z".parse().unwrap();
    let (cluster, run) = (ClusterId::from_bytes([3; 16]), RunId::from_bytes([4; 16]));
    Lease {
        cluster,
        run,
        expires_at,
    }
}

fn cause(reason: Reason) -> Cause {
    Cause::new(reason, "planned")
}

fn root() -> Root {
    Root {
        length_bytes: 4096,
        cutter: "c".into(),
        top: TreeId::from_bytes([0; 32]),
        level: 0,
    }
}

/// What an act meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Luck {
    Good,
    /// It fails before anything happens in the world.
    Refused,
    /// It happens in the world, but the answer is lost.
    AnswerLost,
}

/// The world as far as runs change it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct World {
    session: bool,
    /// Whether hooks hold the guest, and how often they began to and were ended.
    guest: bool,
    guest_holds: u32,
    guest_releases: u32,
    snapshot: bool,
    vm: bool,
    access: bool,
    transfers: BTreeSet<TransferId>,
    export: bool,
    proposal: bool,
    point: bool,
    /// Whether it is known in memory what to write over.
    mapped: bool,
    /// Whether a VM's own disks may have been written to.
    overwritten: bool,
    next_id: u8,
}

impl World {
    fn fresh(&mut self) -> [u8; 16] {
        self.next_id = self.next_id.wrapping_add(1);
        [self.next_id; 16]
    }

    /// Performs an effect as the loop would: what it did to the world, and the event it ends in.
    fn perform(&mut self, run: &Run, effect: &Effect, luck: Luck) -> Vec<RunEvent> {
        if let Effect::LetGo(hold) = effect {
            return self.let_go(*hold, luck);
        }
        let mut before = self.clone();
        if let Effect::Transfer { transfer, .. } = effect {
            // The act stops a transfer that it gives up.
            before.transfers.remove(transfer);
        }
        let event = self.forward(run, effect);
        match luck {
            Luck::Good => vec![event],
            Luck::Refused => {
                *self = before;
                vec![failure(effect)]
            }
            Luck::AnswerLost => vec![failure(effect)],
        }
    }

    fn forward(&mut self, run: &Run, effect: &Effect) -> RunEvent {
        match effect {
            Effect::Record(event) => RunEvent::clone(event),
            Effect::Halt => RunEvent::Halted,
            Effect::Plan => planned(run),
            Effect::Reserve => {
                self.session = true;
                RunEvent::Reserved { fence: 7 }
            }
            Effect::HoldGuest => {
                assert!(self.session, "a guest is held before the storage is ready");
                assert!(
                    run.guest_held,
                    "a guest is held without a journalled intent"
                );
                self.guest = true;
                self.guest_holds += 1;
                RunEvent::HooksRan {
                    phase: Phase::Before,
                    warnings: vec![],
                }
            }
            Effect::UseHeldGuest => {
                assert!(self.guest && self.snapshot);
                RunEvent::HooksRan {
                    phase: Phase::During,
                    warnings: vec![],
                }
            }
            Effect::IntendSnapshot => RunEvent::SnapshotIntended {
                lease: lease(),
                ladder: vec![],
            },
            Effect::CreateSnapshot => {
                assert!(self.session, "a vm is frozen before the storage is ready");
                assert_eq!(self.guest, hooks(run), "hooks come before the snapshot");
                assert!(
                    run.snapshot.is_some(),
                    "a snapshot without a journalled intent"
                );
                self.snapshot = true;
                RunEvent::SnapshotCreated {
                    snapshot: "snapshot-1".into(),
                    warnings: vec![],
                    stun_micros: None,
                }
            }
            Effect::Map => {
                assert!(
                    !self.guest,
                    "a guest is held longer than its snapshot needs"
                );
                self.mapped = true;
                RunEvent::Mapped {
                    readings: BTreeMap::new(),
                    missing: vec![],
                    warnings: vec![],
                }
            }
            Effect::BeginInPlace => {
                assert!(!self.snapshot, "begun while there is a snapshot");
                assert!(self.mapped, "begun by a process that knows no map");
                RunEvent::InPlaceBegun
            }
            Effect::CreateVm => {
                assert_eq!(
                    run.vm,
                    Some(NewVm::Intended),
                    "a vm without a journalled intent"
                );
                self.vm = true;
                RunEvent::VmCreated {
                    vm: vm(),
                    warnings: vec![],
                }
            }
            Effect::OpenAccess => {
                assert!(run.access_held);
                self.access = true;
                RunEvent::AccessOpened
            }
            Effect::Assign { disk } => {
                let transfer = TransferId::from_bytes(self.fresh());
                RunEvent::Assigned {
                    disk: *disk,
                    proxy: node(5),
                    transfer,
                    attachment: None,
                }
            }
            Effect::Transfer { disk, transfer, .. } => {
                let is_proof = matches!(run.work, Work::VerifyPoint(_));
                assert_ne!(
                    self.access, is_proof,
                    "access to disks is for those who move them"
                );
                if matches!(run.work, Work::RestoreInPlace(_)) {
                    assert!(!self.snapshot, "written below a snapshot");
                    assert!(run.in_place_begun, "written before that was journalled");
                    self.overwritten = true;
                }
                self.transfers.remove(transfer);
                RunEvent::Transferred {
                    transport: String::new(),
                    transport_reason: Box::default(),
                    findings: Findings::default(),
                    disk: *disk,
                    transfer: *transfer,
                    root: root(),
                    counts: Counts::default(),
                }
            }
            Effect::Propose => {
                assert!(run.disks.values().all(|disk| disk.moved.is_some()));
                assert!(
                    !self.access,
                    "proposed while a reader may hold the snapshot"
                );
                self.proposal = true;
                RunEvent::Proposed {
                    point: PointId::from_bytes([8; 16]),
                }
            }
            Effect::Commit => {
                assert!(self.proposal && self.session);
                self.point = true;
                RunEvent::Committed(CommittedPoint {
                    point: PointId::from_bytes([8; 16]),
                    sequence: 1,
                    committed_at: Timestamp::UNIX_EPOCH,
                })
            }
            Effect::Dress => {
                assert!(!self.access, "dressed while its disks may be written");
                assert!(matches!(run.vm, Some(NewVm::Created(_))));
                RunEvent::Dressed { warnings: vec![] }
            }
            Effect::PowerOn => {
                assert!(
                    matches!(run.vm, Some(NewVm::Kept(_))),
                    "powered on before it was whole"
                );
                RunEvent::PoweredOn { warning: None }
            }
            Effect::IntendExport => RunEvent::ExportIntended {
                export: ExportId::from_bytes(self.fresh()),
                proxy: node(5),
            },
            Effect::OpenExport => {
                assert!(run.export.is_some());
                self.export = true;
                RunEvent::ExportOpened
            }
            Effect::ServeExport => RunEvent::ExportRead,
            Effect::LetGo(_) => unreachable!("handled by the caller"),
        }
    }

    fn let_go(&mut self, hold: Hold, luck: Luck) -> Vec<RunEvent> {
        if luck == Luck::Refused {
            // Bounded retries inside the act; here it is the reaper's turn, which finds it.
            self.reap(hold);
            return vec![RunEvent::Stuck {
                hold,
                cause: cause(Reason::VcenterUnreachable),
            }];
        }
        self.reap(hold);
        vec![RunEvent::LetGo { hold }]
    }

    fn release_guest(&mut self) {
        self.guest_releases += u32::from(self.guest);
        self.guest = false;
    }

    fn reap(&mut self, hold: Hold) {
        match hold {
            Hold::Guest => self.release_guest(),
            Hold::Transfers => self.transfers.clear(),
            Hold::Export => self.export = false,
            // A transfer whose data session ended cannot go on.
            Hold::Access => {
                self.access = false;
                self.transfers.clear();
            }
            Hold::Snapshot => {
                assert!(
                    !self.guest,
                    "the guest waits for its snapshot to be removed"
                );
                assert!(
                    !self.access,
                    "a snapshot is removed while its disks are open"
                );
                assert!(self.transfers.is_empty());
                self.snapshot = false;
            }
            Hold::Vm => self.vm = false,
            Hold::Session => {
                self.session = false;
                self.proposal = false;
            }
        }
    }
}

fn hooks(run: &Run) -> bool {
    matches!(&run.work, Work::Backup(work) if work.hooks.is_some())
}

fn planned(run: &Run) -> RunEvent {
    let keys: &[i32] = if matches!(run.work, Work::ExportDisk(_)) {
        &[2000]
    } else {
        &[2000, 2001]
    };
    let disks = keys
        .iter()
        .map(|&key| PlannedDisk {
            key,
            label: format!("disk {key}"),
            length_bytes: 4096,
        })
        .collect();
    let target = Target {
        repository: node(9),
        dataset: DatasetId::from_bytes([6; 16]),
    };
    RunEvent::Planned {
        target,
        disks,
        missing: vec![],
        warnings: vec![],
    }
}

fn failure(effect: &Effect) -> RunEvent {
    match effect {
        Effect::Transfer { disk, transfer, .. } => RunEvent::TransferFailed {
            goes_another_way: false,
            disk: *disk,
            transfer: *transfer,
            cause: cause(Reason::ProxyUnreachable),
        },
        Effect::PowerOn => RunEvent::PoweredOn {
            warning: Some(cause(Reason::VcenterTaskFailed)),
        },
        // Journalling does not fail: a loop whose journal fails stops.
        Effect::Record(event) => RunEvent::clone(event),
        Effect::Halt => RunEvent::Halted,
        _ => RunEvent::Failed(cause(Reason::RepositoryUnreachable)),
    }
}

/// A loop over the model world.
struct Machine {
    run: Run,
    world: World,
    in_flight: Vec<Effect>,
    is_halting: bool,
    history: Vec<RunEvent>,
}

impl Machine {
    fn new(work: Work) -> Self {
        let (id, request) = (RunId::from_bytes([4; 16]), RequestId::from_bytes([5; 16]));
        Self {
            run: Run::new(id, Timestamp::UNIX_EPOCH, request, work),
            world: World::default(),
            in_flight: vec![Effect::Plan],
            is_halting: false,
            history: Vec::new(),
        }
    }

    fn take(&mut self, event: RunEvent) {
        let (next, effects) = step(&self.run, Timestamp::UNIX_EPOCH, &event);
        self.run = next;
        self.history.push(event);
        for effect in effects {
            match effect {
                Effect::Halt => self.is_halting = true,
                Effect::Transfer { transfer, .. } => {
                    self.world.transfers.insert(transfer);
                    self.in_flight.push(effect);
                }
                effect => self.in_flight.push(effect),
            }
        }
    }

    /// Ends one act; true while there is something to do.
    fn advance(&mut self, pick: usize, luck: Luck) -> bool {
        if self.in_flight.is_empty() {
            if self.is_halting {
                self.is_halting = false;
                self.take(RunEvent::Halted);
                return true;
            }
            return false;
        }
        let effect = self.in_flight.remove(pick % self.in_flight.len());
        if self.is_halting && matches!(effect, Effect::Transfer { .. }) && luck == Luck::Refused {
            // A transfer that is told to halt says nothing; it stays held and is stopped later.
            return true;
        }
        for event in self.world.perform(&self.run, &effect, luck) {
            self.take(event);
        }
        true
    }

    /// Kills the loop: acts in flight happened or did not, and nobody says which.
    fn restart(&mut self, happened: bool) {
        for effect in std::mem::take(&mut self.in_flight) {
            if happened && !matches!(effect, Effect::Record(_)) {
                self.world.perform(&self.run, &effect, Luck::AnswerLost);
            }
        }
        self.is_halting = false;
        self.world.mapped = false;
        self.run = replay(&self.run, &self.history);
        if !self.run.is_over() {
            self.take(RunEvent::Restarted);
        }
    }

    fn finish(&mut self) {
        for _ in 0..200 {
            if !self.advance(0, Luck::Good) {
                break;
            }
        }
        self.check_end();
    }

    #[track_caller]
    fn check_end(&self) {
        let trace = &self.history;
        assert!(
            self.run.is_over(),
            "the run hangs at {:?} after {trace:?}",
            self.run.stage
        );
        let World {
            session,
            snapshot,
            access,
            vm,
            transfers,
            export,
            point,
            guest,
            guest_holds,
            guest_releases,
            ..
        } = &self.world;
        assert!(!guest, "a guest is held after {trace:?}");
        assert_eq!(guest_holds, guest_releases, "{trace:?}");
        assert!(!snapshot, "a snapshot is left after {trace:?}");
        assert!(
            !access && !export && transfers.is_empty(),
            "readers are left after {trace:?}"
        );
        assert!(!session, "a session is left after {trace:?}");
        let succeeded = matches!(
            self.run.ending,
            Some(Outcome::Succeeded | Outcome::Incomplete)
        );
        match &self.run.work {
            // A commit whose answer is lost for good is told as a failure that says so.
            Work::Backup(_) => assert!(!succeeded || *point, "falsely good after {trace:?}"),
            Work::RestoreVm(_) => assert_eq!(succeeded, *vm, "{trace:?}"),
            Work::ExportDisk(_) => {}
            Work::VerifyPoint(_) => assert!(
                !succeeded || self.run.verified().is_some(),
                "falsely proved after {trace:?}"
            ),
            Work::RestoreInPlace(_) => {
                assert_eq!(succeeded, self.run.is_taken_back(), "{trace:?}");
                assert!(
                    self.run.in_place_begun || !self.world.overwritten,
                    "written over and nobody knows after {trace:?}"
                );
            }
        }
        if !succeeded {
            assert!(!vm, "a vm is left after {trace:?}");
        }
    }
}

fn replay(run: &Run, history: &[RunEvent]) -> Run {
    let fresh = Run::new(run.id, run.started_at, run.request, run.work.clone());
    history.iter().fold(fresh, |run, event| {
        step(&run, Timestamp::UNIX_EPOCH, event).0
    })
}

#[test]
fn with_luck_every_kind_of_run_succeeds_and_leaves_what_it_should() {
    for work in works() {
        let mut machine = Machine::new(work.clone());
        machine.finish();
        assert_eq!(machine.run.ending, Some(Outcome::Succeeded), "{work:?}");
        assert_eq!(machine.world.point, matches!(work, Work::Backup(_)));
        assert_eq!(machine.run.ended_at, Some(Timestamp::UNIX_EPOCH));
    }
}

/// A verification whose disks were all given to proxies.
fn proving() -> Machine {
    let mut machine = Machine::new(verify());
    while !machine
        .run
        .disks
        .values()
        .all(|disk| disk.transfer.is_some())
        || machine.run.disks.is_empty()
    {
        assert!(machine.advance(0, Luck::Good), "nothing is assigned");
    }
    machine
}

fn found(disk: i32, transfer: TransferId) -> RunEvent {
    RunEvent::DamageFound {
        disk,
        transfer,
        damage: Damage {
            bytes: 4096,
            chunk_count: 1,
        },
        parts: vec![cause(Reason::ChunkHashMismatch)],
    }
}

#[test]
fn a_point_with_damage_is_looked_at_whole_and_its_run_fails() {
    let mut machine = proving();
    let (&disk, held) = machine.run.disks.iter().next().unwrap();
    let transfer = held.transfer.unwrap().transfer;
    machine.take(found(disk, transfer));
    assert_eq!(machine.run.ending, None, "the other disks are not proved");
    machine.finish();
    let Some(Outcome::Failed(cause)) = &machine.run.ending else {
        panic!("{:?}", machine.run.ending);
    };
    assert_eq!(cause.0.reason, Reason::ChunkHashMismatch);
    let (_, damage) = machine.run.verified().expect("every disk was looked at");
    assert_eq!((damage.bytes, damage.chunk_count), (4096, 1));
    assert_eq!(machine.run.warnings.len(), 1);
}

#[test]
fn damage_that_another_attempt_told_of_is_not_counted() {
    let mut machine = proving();
    machine.take(found(2000, TransferId::from_bytes([0xee; 16])));
    machine.finish();
    assert_eq!(machine.run.ending, Some(Outcome::Succeeded));
}

#[test]
fn a_verification_that_was_stopped_proves_nothing() {
    for event in [RunEvent::CancelRequested, RunEvent::Restarted] {
        let mut machine = proving();
        machine.in_flight.clear();
        machine.take(event);
        machine.finish();
        assert_eq!(machine.run.verified(), None);
        assert_ne!(machine.run.ending, Some(Outcome::Succeeded));
    }
}

#[test]
fn a_backup_takes_its_steps_in_the_order_of_the_design() {
    let mut machine = Machine::new(backup());
    machine.finish();
    let at = |wanted: fn(&RunEvent) -> bool| machine.history.iter().position(wanted).unwrap();
    let order = [
        at(|event| matches!(event, RunEvent::Planned { .. })),
        at(|event| matches!(event, RunEvent::Reserved { .. })),
        at(|event| matches!(event, RunEvent::SnapshotIntended { .. })),
        at(|event| matches!(event, RunEvent::SnapshotCreated { .. })),
        at(|event| matches!(event, RunEvent::Mapped { .. })),
        at(|event| matches!(event, RunEvent::AccessOpened)),
        at(|event| matches!(event, RunEvent::Transferred { .. })),
        at(|event| matches!(event, RunEvent::LetGo { hold: Hold::Access })),
        at(|event| matches!(event, RunEvent::Proposed { .. })),
        at(|event| matches!(event, RunEvent::ReleaseIntended)),
        at(|event| {
            matches!(
                event,
                RunEvent::LetGo {
                    hold: Hold::Snapshot
                }
            )
        }),
        at(|event| matches!(event, RunEvent::CommitIntended)),
        at(|event| matches!(event, RunEvent::Committed(_))),
        at(|event| {
            matches!(
                event,
                RunEvent::LetGo {
                    hold: Hold::Session
                }
            )
        }),
        at(|event| matches!(event, RunEvent::Ended(_))),
    ];
    assert!(order.is_sorted(), "{:?}", machine.history);
}

#[test]
fn hooks_hold_the_guest_around_its_snapshot_and_no_longer() {
    let mut machine = Machine::new(hooked());
    machine.finish();
    let at = |wanted: fn(&RunEvent) -> bool| machine.history.iter().position(wanted).unwrap();
    let ran = |event: &RunEvent, wanted| matches!(event, RunEvent::HooksRan { phase, .. } if *phase == wanted);
    let order = [
        at(|event| matches!(event, RunEvent::Reserved { .. })),
        at(|event| matches!(event, RunEvent::GuestIntended)),
        machine
            .history
            .iter()
            .position(|event| ran(event, Phase::Before))
            .unwrap(),
        at(|event| matches!(event, RunEvent::SnapshotCreated { .. })),
        machine
            .history
            .iter()
            .position(|event| ran(event, Phase::During))
            .unwrap(),
        at(|event| matches!(event, RunEvent::LetGo { hold: Hold::Guest })),
        at(|event| matches!(event, RunEvent::Mapped { .. })),
    ];
    assert!(order.is_sorted(), "{:?}", machine.history);
    assert_eq!(machine.world.guest_releases, 1);
}

#[test]
fn a_missing_disk_makes_the_run_incomplete() {
    let mut machine = Machine::new(backup());
    machine.in_flight.clear();
    let RunEvent::Planned { target, disks, .. } = planned(&machine.run) else {
        unreachable!()
    };
    let missing = vec![cause(Reason::DiskUnprotectable)];
    machine.take(RunEvent::Planned {
        target,
        disks,
        missing,
        warnings: vec![],
    });
    machine.finish();
    assert_eq!(machine.run.ending, Some(Outcome::Incomplete));
}

/// Runs one act after the other up to `acts`, then interrupts, then lets everything go well.
fn interrupted(work: Work, acts: usize, interrupt: impl Fn(&mut Machine)) -> Machine {
    let mut machine = Machine::new(work);
    for _ in 0..acts {
        machine.advance(0, Luck::Good);
    }
    interrupt(&mut machine);
    machine.finish();
    machine
}

/// More acts than any run takes.
const ACTS_MAX: usize = 40;

#[test]
fn a_cancellation_at_any_moment_leaves_nothing_unless_the_commit_was_asked_for() {
    for work in works() {
        for acts in 0..ACTS_MAX {
            let machine = interrupted(work.clone(), acts, |machine| {
                machine.take(RunEvent::CancelRequested)
            });
            let commit_asked = machine
                .history
                .iter()
                .take_while(|event| **event != RunEvent::CancelRequested)
                .any(|event| {
                    // From here on the run is decided: its point, its VM or its copy is whole.
                    matches!(
                        event,
                        RunEvent::LetGo {
                            hold: Hold::Snapshot
                        } | RunEvent::ExportRead
                    ) || matches!(work, Work::RestoreVm(_))
                        && matches!(event, RunEvent::Dressed { .. })
                });
            // An export that was read before it could be stopped is a copy all the same.
            let is_read = machine.history.contains(&RunEvent::ExportRead);
            // And so is a point whose last disk was proved meanwhile.
            let is_proved = machine.run.verified().is_some();
            let is_taken_back = machine.run.is_taken_back();
            let commit_asked = commit_asked && !matches!(work, Work::RestoreInPlace(_));
            let expected = if commit_asked || is_read || is_proved || is_taken_back {
                Outcome::Succeeded
            } else {
                Outcome::Cancelled
            };
            assert_eq!(
                machine.run.ending,
                Some(expected),
                "{work:?} after {acts} acts"
            );
        }
    }
}

#[test]
fn a_fault_of_any_act_leaves_nothing() {
    for luck in [Luck::Refused, Luck::AnswerLost] {
        for work in works() {
            for acts in 0..ACTS_MAX {
                interrupted(work.clone(), acts, |machine| {
                    machine.advance(0, luck);
                });
            }
        }
    }
}

#[test]
fn a_restart_at_any_moment_finishes_what_was_proposed_and_cleans_up_the_rest() {
    for happened in [false, true] {
        for work in works() {
            for acts in 0..ACTS_MAX {
                let machine = interrupted(work.clone(), acts, |machine| machine.restart(happened));
                let proposed = machine
                    .history
                    .iter()
                    .any(|event| matches!(event, RunEvent::Proposed { .. }));
                if proposed {
                    assert!(machine.world.point, "a proposed point was given up");
                    assert_eq!(machine.run.ending, Some(Outcome::Succeeded));
                }
            }
        }
    }
}

#[test]
fn every_prefix_of_a_journal_leads_to_a_recovery_that_leaves_nothing() {
    for work in works() {
        let mut whole = Machine::new(work.clone());
        whole.finish();
        for length in 0..=whole.history.len() {
            // The world as it was at that entry, rebuilt by running up to it.
            let mut machine = Machine::new(work.clone());
            while machine.history.len() < length {
                machine.advance(0, Luck::Good);
            }
            for happened in [false, true] {
                let mut crashed = Machine {
                    run: machine.run.clone(),
                    world: machine.world.clone(),
                    in_flight: machine.in_flight.clone(),
                    is_halting: machine.is_halting,
                    history: machine.history.clone(),
                };
                crashed.restart(happened);
                crashed.finish();
            }
        }
    }
}

#[test]
fn a_disk_is_given_to_a_proxy_a_bounded_number_of_times() {
    let mut machine = Machine::new(backup());
    let mut failed = 0;
    for _ in 0..200 {
        let is_transfer = matches!(
            machine.in_flight.first(),
            Some(Effect::Transfer { disk: 2000, .. })
        );
        failed += u32::from(is_transfer);
        let luck = if is_transfer {
            Luck::Refused
        } else {
            Luck::Good
        };
        machine.advance(0, luck);
    }
    assert_eq!(failed, ATTEMPTS_MAX);
    machine.check_end();
    let Some(Outcome::Failed(cause)) = &machine.run.ending else {
        panic!("not failed")
    };
    assert_eq!(cause.0.reason, Reason::ProxyUnreachable);
}

#[test]
fn a_lasting_fault_of_a_transfer_is_not_tried_again() {
    let mut machine = Machine::new(backup());
    while !matches!(machine.in_flight.first(), Some(Effect::Transfer { .. })) {
        machine.advance(0, Luck::Good);
    }
    let Effect::Transfer { disk, transfer, .. } = machine.in_flight.remove(0) else {
        unreachable!()
    };
    machine.take(RunEvent::TransferFailed {
        goes_another_way: false,
        disk,
        transfer,
        cause: cause(Reason::RepositoryFull),
    });
    assert_eq!(machine.run.stage, Stage::Halting);
    assert_eq!(
        machine.run.ending,
        Some(Outcome::Failed(cause(Reason::RepositoryFull)))
    );
}

#[test]
fn a_late_answer_of_an_earlier_attempt_changes_nothing() {
    let mut machine = Machine::new(backup());
    while !matches!(machine.in_flight.first(), Some(Effect::Transfer { .. })) {
        machine.advance(0, Luck::Good);
    }
    let stale = RunEvent::Transferred {
        transport: String::new(),
        transport_reason: Box::default(),
        findings: Findings::default(),
        disk: 2000,
        transfer: TransferId::from_bytes([0xee; 16]),
        root: root(),
        counts: Counts::default(),
    };
    let before = machine.run.clone();
    machine.take(stale);
    assert_eq!(machine.run, before);
}

/// Every event there is, with values that fit the model.
fn alphabet() -> Vec<RunEvent> {
    let holds = [
        Hold::Transfers,
        Hold::Export,
        Hold::Access,
        Hold::Snapshot,
        Hold::Vm,
        Hold::Session,
    ];
    let transfer = TransferId::from_bytes([1; 16]);
    let mut events = vec![
        RunEvent::Started {
            request: RequestId::from_bytes([5; 16]),
            work: backup(),
        },
        planned(&Machine::new(backup()).run),
        RunEvent::Reserved { fence: 8 },
        RunEvent::SnapshotIntended {
            lease: lease(),
            ladder: vec![],
        },
        RunEvent::SnapshotCreated {
            snapshot: "snapshot-1".into(),
            warnings: vec![],
            stun_micros: None,
        },
        RunEvent::Mapped {
            readings: BTreeMap::new(),
            missing: vec![],
            warnings: vec![],
        },
        RunEvent::VmIntended,
        RunEvent::VmCreated {
            vm: vm(),
            warnings: vec![],
        },
        RunEvent::AccessOpened,
        RunEvent::Assigned {
            disk: 2000,
            proxy: node(5),
            transfer,
            attachment: None,
        },
        RunEvent::Transferred {
            transport: String::new(),
            transport_reason: Box::default(),
            findings: Findings::default(),
            disk: 2000,
            transfer,
            root: root(),
            counts: Counts::default(),
        },
        RunEvent::TransferFailed {
            goes_another_way: false,
            disk: 2000,
            transfer,
            cause: cause(Reason::ProxyUnreachable),
        },
        RunEvent::Proposed {
            point: PointId::from_bytes([8; 16]),
        },
        RunEvent::ReleaseIntended,
        RunEvent::CommitIntended,
        RunEvent::Dressed { warnings: vec![] },
        RunEvent::PoweredOn { warning: None },
        RunEvent::ExportIntended {
            export: ExportId::from_bytes([1; 16]),
            proxy: node(5),
        },
        RunEvent::ExportOpened,
        RunEvent::ExportRead,
        RunEvent::Warned(cause(Reason::VcenterTaskFailed)),
        RunEvent::CancelRequested,
        RunEvent::Failed(cause(Reason::Bug)),
        RunEvent::Halted,
        RunEvent::Restarted,
        RunEvent::Ended(Outcome::Cancelled),
    ];
    for hold in holds {
        events.push(RunEvent::LetGo { hold });
        events.push(RunEvent::Stuck {
            hold,
            cause: cause(Reason::VcenterUnreachable),
        });
    }
    events
}

/// What a state promises about its effects, whichever event led to it.
#[track_caller]
fn check_effects(run: &Run, effects: &[Effect]) {
    for effect in effects {
        match effect {
            Effect::CreateSnapshot => assert!(run.snapshot.is_some(), "{run:?}"),
            Effect::CreateVm => assert!(run.vm.is_some(), "{run:?}"),
            Effect::OpenAccess => assert!(run.access_held, "{run:?}"),
            Effect::OpenExport => assert!(run.export.is_some(), "{run:?}"),
            Effect::Reserve => assert!(run.session_held, "{run:?}"),
            Effect::Transfer { disk, .. } => {
                assert!(
                    run.disks
                        .get(disk)
                        .is_some_and(|disk| disk.transfer.is_some())
                );
            }
            Effect::LetGo(hold) => assert!(
                run.holds().contains(hold) || run.stage < Stage::Halting,
                "lets go of nothing: {run:?}"
            ),
            Effect::Record(event) if matches!(**event, RunEvent::Ended(_)) => {
                assert_eq!(run.holds(), [], "ends while it holds something");
            }
            _ => {}
        }
    }
}

#[test]
fn every_state_takes_every_event() {
    for work in works() {
        for acts in 0..ACTS_MAX {
            for event in alphabet() {
                let mut machine = Machine::new(work.clone());
                for _ in 0..acts {
                    machine.advance(0, Luck::Good);
                }
                let (next, effects) = step(&machine.run, Timestamp::UNIX_EPOCH, &event);
                check_effects(&next, &effects);
                // Whatever was held before is held after, unless the event says that it was given
                // back or the transfer ended.
                let gave_back = matches!(
                    event,
                    RunEvent::LetGo { .. }
                        | RunEvent::Stuck { .. }
                        | RunEvent::Transferred { .. }
                        | RunEvent::TransferFailed { .. }
                        | RunEvent::Planned { .. }
                        // From here on it is nobody's to remove.
                        | RunEvent::Dressed { .. }
                );
                if !gave_back {
                    for hold in machine.run.holds() {
                        assert!(next.holds().contains(&hold), "{event:?} loses {hold}");
                    }
                }
            }
        }
    }
}

#[test]
fn events_survive_json() {
    for event in alphabet() {
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(
            serde_json::from_str::<RunEvent>(&json).unwrap(),
            event,
            "{json}"
        );
    }
}

#[derive(Debug, Clone, Copy)]
enum Move {
    Act(usize, u8),
    Cancel,
    Restart(bool),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        20 => (0..4usize, 0..12u8).prop_map(|(pick, luck)| Move::Act(pick, luck)),
        1 => Just(Move::Cancel),
        1 => any::<bool>().prop_map(Move::Restart),
    ];
    prop::collection::vec(one, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_happens_a_run_ends_and_leaves_nothing(kind in 0..4usize, moves in moves()) {
        let mut machine = Machine::new(works()[kind].clone());
        for next in moves {
            let luck = |luck| match luck {
                0 => Luck::Refused,
                1 => Luck::AnswerLost,
                _ => Luck::Good,
            };
            match next {
                Move::Act(pick, drawn) => {
                    machine.advance(pick, luck(drawn));
                }
                Move::Cancel => machine.take(RunEvent::CancelRequested),
                Move::Restart(happened) => machine.restart(happened),
            }
            prop_assert_eq!(&machine.run, &replay(&machine.run, &machine.history));
        }
        machine.finish();
    }
}

#[test]
fn nothing_is_written_below_a_snapshot_that_could_not_be_removed() {
    let mut machine = Machine::new(in_place());
    while machine.run.stage != Stage::Releasing || machine.in_flight.is_empty() {
        assert!(machine.advance(0, Luck::Good));
    }
    machine.advance(0, Luck::Good);
    assert_eq!(machine.in_flight, [Effect::LetGo(Hold::Snapshot)]);
    machine.advance(0, Luck::Refused);
    machine.finish();
    let stuck = Outcome::Failed(cause(Reason::VcenterUnreachable));
    assert_eq!(machine.run.ending, Some(stuck));
    assert!(!machine.run.in_place_begun && !machine.world.overwritten);
}
