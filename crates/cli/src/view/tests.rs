use clap::CommandFactory;
use insta::{assert_json_snapshot, assert_snapshot};
use jiff::Timestamp;
use stillwater_controller_api::*;
use stillwater_types::{Fault, NodeId, PointId, Reason, Role, RunId, TreeId, VcenterId, VmId};

use super::{alarm, event, job, node, point, policy, probe, proxy, run, vcenter, vm};
use crate::arguments::Arguments;

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_795_000_000 + second, 123_456_789).expect("in range")
}

fn id(last: u8) -> [u8; 16] {
    let mut id = [
        0x01, 0x90, 0xa5, 0xc2, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0,
    ];
    id[15] = last;
    id
}

fn vm_id() -> VmId {
    VmId {
        vcenter: VcenterId::from_bytes(id(1)),
        moref: "vm-16".into(),
    }
}

fn run_disk(key: i32) -> RunDisk {
    RunDisk {
        key,
        label: format!("Hard disk {}", key - 1999),
        length_bytes: 40 << 30,
        done_bytes: 10 << 30,
        read_bytes: 4 << 30,
        new_bytes: 300 << 20,
        sent_bytes: 100 << 20,
        hole_bytes: 6 << 30,
        chunk_count: 131_072,
        new_chunk_count: 9_600,
        transport: "https".into(),
        proxy_name: "proxy-1".into(),
        reading: "compare".into(),
        reading_reason: "it was asked for".into(),
        transport_reason: "it needs nothing but vcenter; not hotadd: it is off".into(),
    }
}

fn runs() -> Vec<Run> {
    let running = Run {
        run_id: RunId::from_bytes(id(2)),
        kind: RunKind::Backup(BackupRun {
            vm_id: vm_id(),
            vm_name: "web".into(),
            point_id: Some(PointId::from_bytes(id(3))),
        }),
        state: RunState::Incomplete,
        phase: Some(RunPhase::CleaningUp),
        disks: vec![run_disk(2000), run_disk(2001)],
        started_at: at(0),
        ended_at: Some(at(83)),
        fault: None,
        warnings: vec![
            Fault::new(Reason::DiskUnprotectable, "disk 2002 is independent").with("disk", 2002),
        ],
        phases: [
            (0, RunPhase::Planning),
            (1, RunPhase::Freezing),
            (2, RunPhase::Transferring),
            (80, RunPhase::CleaningUp),
        ]
        .map(|(second, phase)| RunPhaseStart {
            phase,
            started_at: at(second),
        })
        .to_vec(),
    };
    let failed = Run {
        run_id: RunId::from_bytes(id(4)),
        kind: RunKind::RestoreVm(RestoreVmRun {
            point_id: PointId::from_bytes(id(3)),
            vm_name: "web-2".into(),
            vm_id: None,
        }),
        state: RunState::Failed,
        phase: Some(RunPhase::CreatingVm),
        disks: vec![],
        fault: Some(Fault::new(Reason::DatastoreFull, "ds1 has 1 GiB left").with("free", 1 << 30)),
        warnings: vec![],
        phases: vec![],
        ..running.clone()
    };
    let export = Run {
        run_id: RunId::from_bytes(id(5)),
        kind: RunKind::ExportDisk(ExportDiskRun {
            point_id: PointId::from_bytes(id(3)),
            disk_key: 2000,
            access: Some(ExportAccess {
                export_id: stillwater_types::ExportId::from_bytes(id(6)),
                proxy_node_id: NodeId::from_bytes(id(7)),
                address: "proxy-1.example:7444".into(),
                ticket: Ticket::new([0xab; 32]),
            }),
        }),
        state: RunState::Pending,
        phase: None,
        ended_at: None,
        fault: None,
        ..failed.clone()
    };
    vec![running, failed, export]
}

fn shown_point() -> GetPointResponse {
    let disk = PointDisk {
        key: 2000,
        label: "Hard disk 1".into(),
        length_bytes: 40 << 30,
        root: TreeId::from_bytes([0x5a; 32]),
        read_bytes: 4 << 30,
        new_bytes: 300 << 20,
        stored_bytes: 100 << 20,
        hole_bytes: 30 << 30,
        chunk_count: 131_072,
        new_chunk_count: 9_600,
    };
    let point = Point {
        point_id: PointId::from_bytes(id(3)),
        vm_id: vm_id(),
        vm_name: "web".into(),
        run_id: RunId::from_bytes(id(2)),
        repository_name: "store-1".into(),
        committed_at: at(80),
        retain_until: at(80 + 14 * 86_400),
        consistency: Consistency::FileSystem,
        complete: false,
        disks: vec![disk],
        missing: vec!["disk 2002 (Hard disk 3): independent".into()],
        verification: Some(PointVerification {
            run_id: RunId::from_bytes(id(4)),
            verified_at: at(90),
            damaged_bytes: 0,
        }),
    };
    let line = |name: &str, value: &str| EvidenceLine {
        name: name.into(),
        value: value.into(),
    };
    let lines = vec![
        line("quiesce", "asked, done by tools"),
        line("transport", "https"),
    ];
    let reading = DiskReading {
        disk_key: 2000,
        how: "increment".into(),
        reason: String::new(),
        remarks: vec!["an area beyond the disk's end was cut off".into()],
        base_point_id: Some(PointId::from_bytes(id(4))),
        changed_bytes: Some(300 << 20),
        compared_bytes: 20 << 20,
        lie_bytes: 0,
        checked_at: at(0),
        points_since: 7,
        lie_count: 1,
        last_lie_at: Some(at(1)),
    };
    GetPointResponse {
        point,
        evidence: Evidence { lines },
        readings: vec![reading],
        quiescence: Some(Quiescence {
            asked: vec![Consistency::Application, Consistency::Crash],
            achieved: Consistency::FileSystem,
            tries: vec![QuiesceTry {
                level: Consistency::Application,
                problem: "writers failed: SqlServerWriter (VSS_WS_FAILED_AT_FREEZE)".into(),
            }],
            tools: "Running, Current".into(),
            quiesced: true,
            writers: vec![QuiesceWriter {
                name: "SqlServerWriter".into(),
                failure: Some("VSS_WS_FAILED_AT_FREEZE".into()),
                component_count: 3,
            }],
            stun_micros: Some(123_456),
            freeze_millis: Some(2_300),
            hooks: vec![HookRun {
                name: "hold".into(),
                phase: HookPhase::Before,
                started_at: at(0),
                ended_at: at(1),
                exit_code: Some(3),
                timed_out: false,
                output: "looking\nno such\u{7} table\n".into(),
                truncated: true,
            }],
            hook_release: Some(HookRelease {
                by_watchdog: true,
                released_at: at(1),
            }),
            has_report: true,
            remarks: vec![],
        }),
    }
}

fn nodes() -> Vec<Node> {
    let load = NodeLoad {
        transfer_slots: 4,
        transfer_count: 1,
        writable_bytes: 3 << 40,
        capacity_bytes: 4 << 40,
        stored_bytes: 1 << 40,
    };
    let proxy = Node {
        node_id: NodeId::from_bytes(id(7)),
        role: Role::Proxy,
        name: "proxy-1".into(),
        address: Some("proxy-1.example:7444".into()),
        state: NodeState::Online,
        joined_at: at(-1000),
        seen_at: Some(at(0)),
        certificate_expires_at: at(30 * 86_400),
        version: Some("0.1.0".into()),
        load: Some(load),
        reach: Some(ProxyReach {
            vm_uuids: vec!["4221c0de-0000-0000-0000-000000000001".into()],
            datastores: vec!["nfs-1".into()],
            nbd: true,
        }),
        draining_since: None,
    };
    let repository = Node {
        node_id: NodeId::from_bytes(id(8)),
        role: Role::Repository,
        name: "store-1".into(),
        state: NodeState::Offline,
        reach: None,
        ..proxy.clone()
    };
    let admin = Node {
        node_id: NodeId::from_bytes(id(9)),
        role: Role::Admin,
        name: "ada@desk".into(),
        address: None,
        state: NodeState::Removed,
        seen_at: None,
        version: None,
        load: None,
        reach: None,
        ..proxy.clone()
    };
    vec![proxy, repository, admin]
}

/// A proxy at work, one that drains, and one that drains and is not heard of.
fn proxies() -> Vec<Node> {
    let proxy = nodes().swap_remove(0);
    let draining = Node {
        node_id: NodeId::from_bytes(id(10)),
        name: "proxy-2".into(),
        draining_since: Some(at(-60)),
        ..proxy.clone()
    };
    let gone = Node {
        node_id: NodeId::from_bytes(id(11)),
        name: "proxy-3".into(),
        state: NodeState::Offline,
        load: None,
        reach: None,
        ..draining.clone()
    };
    vec![proxy, draining, gone]
}

fn alarms() -> Vec<Alarm> {
    let lied = Alarm {
        kind: "CHANGE_MAP_LIED".into(),
        subject: format!("vm {} disk 2000", vm_id()),
        vm_id: Some(vm_id()),
        disk_key: Some(2000),
        node_id: None,
        message: "disk 2000 of web: the change map left out 65536 changed bytes".into(),
        raised_at: at(0),
        changed_at: at(10),
        cleared_at: None,
    };
    let over = Alarm {
        kind: "LEFTOVER_SNAPSHOT".into(),
        subject: format!("vm {}", vm_id()),
        disk_key: None,
        cleared_at: Some(at(60)),
        ..lied.clone()
    };
    vec![lied, over]
}

fn events() -> Vec<Event> {
    let failed = Event {
        number: 4711,
        kind: "RUN_FAILED".into(),
        severity: EventSeverity::Error,
        at: at(0),
        by: "controller".into(),
        by_name: None,
        message: "backup of web for policy gold failed: DATASTORE_FULL no room".into(),
        vm_id: Some(vm_id()),
        vm_name: Some("web".into()),
        run_id: Some(RunId::from_bytes([9; 16])),
        point_id: None,
        node_id: None,
        policy: Some("gold".into()),
        alarm: None,
    };
    let applied = Event {
        number: 4712,
        kind: "POLICY_APPLIED".into(),
        severity: EventSeverity::Info,
        by: format!("admin/{}", NodeId::from_bytes([7; 16])),
        by_name: Some("alice\u{1b}[2J".into()),
        message: "policy gold was applied".into(),
        vm_id: None,
        vm_name: None,
        run_id: None,
        ..failed.clone()
    };
    vec![applied, failed]
}

#[test]
fn events_are_told_in_lines_that_obey_no_terminal() {
    assert_snapshot!("events_table", event::list(&events()));
    let lines: Vec<String> = events().iter().map(event::line).collect();
    assert_snapshot!("events_lines", lines.join("\n"));
    let json: Vec<_> = events().iter().map(event::json).collect();
    assert_json_snapshot!("events_json", json);
}

fn applied() -> ApplyPolicyResponse {
    let change = |key: &str, before: Option<&str>, after: Option<&str>, is_weaker| PolicyChange {
        key: key.into(),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
        is_weaker,
    };
    ApplyPolicyResponse {
        name: "gold".into(),
        is_new: false,
        changes: vec![
            change(
                "schedule",
                Some("never older than 15m"),
                Some("never older than 1h"),
                true,
            ),
            change("limits.runs", None, Some("4"), false),
        ],
        enter: (0..22).map(|n| format!("/DC0/vm/shop/web-{n}")).collect(),
        leave: vec!["/DC0/vm/old".into()],
    }
}

fn jobs() -> Vec<Job> {
    let kept = Job {
        policy: "gold".into(),
        vm_id: vm_id(),
        vm_name: "web".into(),
        promise: "never older than 15m".into(),
        rpo_seconds: Some(900),
        last_point_at: Some(at(0)),
        achieved_p50_seconds: Some(70),
        achieved_p99_seconds: Some(800),
        achieved_most_seconds: Some(850),
        due_at: Some(at(600)),
        deadline: Some(at(900)),
        run_id: None,
        waits_for: None,
        broken_since: None,
        broken_by: None,
        failure_count: 0,
        pace: "calm".into(),
    };
    let running = Job {
        run_id: Some(RunId::from_bytes(id(3))),
        due_at: None,
        achieved_p50_seconds: Some(90_000),
        achieved_p99_seconds: Some(200_000),
        ..kept.clone()
    };
    let missing = "add a proxy that reads datastore ds1: none that takes work does";
    let waiting = Job {
        waits_for: Some(missing.into()),
        ..kept.clone()
    };
    let broken = Job {
        last_point_at: None,
        achieved_p50_seconds: None,
        achieved_p99_seconds: None,
        achieved_most_seconds: None,
        broken_since: Some(at(900)),
        broken_by: Some("3 runs in a row failed; see `stillwater run list`".into()),
        failure_count: 3,
        ..kept.clone()
    };
    vec![kept, running, waiting, broken]
}

fn probes() -> Vec<Probe> {
    let measured = Probe {
        proxy_name: "proxy-1".into(),
        disk_key: 2000,
        way: "nfc".into(),
        read_bytes: 64 << 20,
        elapsed_micros: 500_000,
        open_micros: 12_345,
        latency_median_micros: 2_100,
        latency_p99_micros: 9_900,
        fault: None,
        passed_over: None,
    };
    let nothing = Probe {
        read_bytes: 0,
        elapsed_micros: 0,
        open_micros: 0,
        latency_median_micros: 0,
        latency_p99_micros: 0,
        ..measured.clone()
    };
    let passed = Probe {
        way: "file".into(),
        passed_over: Some("datastore vmfs-1 is not mounted on the proxy".into()),
        ..nothing.clone()
    };
    let failed = Probe {
        way: "nbd".into(),
        fault: Some(Fault::new(Reason::DiskReadFailed, "the command ended")),
        ..nothing
    };
    vec![passed, measured, failed]
}

fn vcenters() -> Vec<Vcenter> {
    let pinned = Vcenter {
        vcenter_id: VcenterId::from_bytes(id(1)),
        name: "main".into(),
        address: "vc.example".into(),
        username: "backup@vsphere.local".into(),
        trust: VcenterTrust::CertificateSha256([0xab; 32]),
        about: Some(VcenterAbout {
            full_name: "VMware vCenter Server 8.0.3 build-24022515".into(),
            api_version: "8.0.3.0".into(),
            instance_uuid: "b2f4".into(),
        }),
    };
    let by_authority = Vcenter {
        vcenter_id: VcenterId::from_bytes(id(10)),
        name: "branch".into(),
        trust: VcenterTrust::CaPem("-----BEGIN CERTIFICATE-----".into()),
        about: None,
        ..pinned.clone()
    };
    vec![pinned, by_authority]
}

fn one_vm() -> Vm {
    let disk = |key: i32, unprotectable: Option<&str>| VmDisk {
        key,
        label: format!("Hard disk {}", key - 1999),
        capacity_bytes: 40 << 30,
        file: format!("[ds1] web/web_{key}.vmdk"),
        unprotectable: unprotectable.map(str::to_owned),
    };
    Vm {
        summary: VmSummary {
            vm_id: vm_id(),
            name: "web".into(),
            path: "/DC0/vm/prod/web".into(),
            vcenter_name: "main".into(),
            power: "poweredOn".into(),
            change_tracking: true,
            disk_count: 2,
        },
        guest_id: "debian12_64Guest".into(),
        tools: "toolsOk".into(),
        disks: vec![disk(2000, None), disk(2001, Some("independent_persistent"))],
        snapshots: vec![VmSnapshot {
            name: "before-upgrade".into(),
            created_at: "2026-11-01T08:00:00Z".into(),
            ours: false,
        }],
    }
}

/// So many days of a policy that makes a point each day and keeps ten.
fn simulated(days: i8) -> SimulatePolicyResponse {
    let begin: jiff::civil::Date = "2026-11-01".parse().expect("is a date");
    let day = |number: i8| {
        let date = begin.saturating_add(jiff::ToSpan::days(i64::from(number)));
        SimulatedDay {
            date: date.to_string(),
            over_at: at(43_200),
            made_count: 1,
            kept_count: (u32::try_from(number).unwrap_or_default() + 1).min(10),
            oldest_at: Some(at(0)),
        }
    };
    SimulatePolicyResponse {
        name: "gold".into(),
        days: (0..days).map(day).collect(),
        kept: vec![SimulatedPoint {
            at: at(0),
            why: vec!["the newest".into(), "the newest good one".into()],
        }],
    }
}

fn policy_points() -> Vec<PolicyPoint> {
    let point = |number: u8, why: &str| PolicyPoint {
        point_id: PointId::from_bytes([number; 16]),
        vm_id: vm_id(),
        vm_name: "web".into(),
        repository_name: "main".into(),
        at: at(0),
        is_expired: false,
        why: vec![format!("gold: {why}")],
        gone_by: None,
        refusal: None,
    };
    vec![
        PolicyPoint {
            is_expired: true,
            ..point(1, "not proved good, and would go if it were")
        },
        PolicyPoint {
            is_expired: true,
            refusal: Some("TIME_FROZEN: no; asked again at 2026-11-22T10:10:00Z".into()),
            ..point(2, "damaged, and there is better")
        },
        PolicyPoint {
            gone_by: Some(at(864_000)),
            ..point(3, "the last of day 2026-11-01")
        },
        point(4, "the newest good one"),
    ]
}

#[test]
fn tables_are_as_people_know_them() {
    assert_snapshot!("runs", run::list(&runs()));
    assert_snapshot!("points", point::list(&[shown_point().point]));
    assert_snapshot!("nodes", node::list(&nodes()));
    assert_snapshot!("proxies", proxy::list(&proxies()));
    assert_snapshot!("vcenters", vcenter::list(&vcenters()));
    assert_snapshot!("jobs", job::list(&jobs()));
    assert_snapshot!("policy_applied", policy::applied(&applied()));
    assert_json_snapshot!("policy_applied_json", policy::applied_json(&applied()));
    assert_snapshot!("policy_simulated", policy::simulated(&simulated(40)));
    assert_snapshot!("policy_simulated_days", policy::simulated(&simulated(3)));
    assert_json_snapshot!(
        "policy_simulated_json",
        policy::simulated_json(&simulated(1))
    );
    assert_snapshot!("policy_points", policy::points(&policy_points()));
    assert_json_snapshot!(
        "policy_points_json",
        policy_points()
            .iter()
            .map(policy::point_json)
            .collect::<Vec<_>>()
    );
    assert_json_snapshot!(
        "jobs_json",
        jobs().iter().map(job::json).collect::<Vec<_>>()
    );
    assert_snapshot!("alarms", alarm::list(&alarms()));
    assert_snapshot!("probes", probe::list(&probes()));
    assert_json_snapshot!("probes_json", probe::json(&probes()));
    assert_json_snapshot!("alarms_json", alarm::json(&alarms()));
    assert_snapshot!("vms", vm::list(&[one_vm().summary]));
}

#[test]
fn one_of_each_is_shown_with_all_that_it_has() {
    let runs = runs()
        .iter()
        .map(run::show)
        .collect::<Vec<_>>()
        .join("\n\n---\n\n");
    assert_snapshot!("run", runs);
    assert_snapshot!("point", point::show(&shown_point()));
    assert_snapshot!("vm", vm::show(&one_vm(), &alarms()[..1]));
    let tested = TestVcenterResponse {
        vcenter: vcenters().remove(0),
        vm_count: 42,
    };
    assert_snapshot!("vcenter", vcenter::tested(&tested));
}

#[test]
fn json_keeps_its_names() {
    assert_json_snapshot!(
        "runs_json",
        runs().iter().map(run::json).collect::<Vec<_>>()
    );
    assert_json_snapshot!("point_json", point::shown_json(&shown_point()));
    assert_json_snapshot!(
        "nodes_json",
        nodes().iter().map(node::json).collect::<Vec<_>>()
    );
    let vcenters: Vec<_> = vcenters().iter().map(vcenter::json).collect();
    assert_json_snapshot!("vcenters_json", vcenters);
    assert_json_snapshot!("vm_json", vm::json(&one_vm(), &alarms()[..1]));
}

#[test]
fn a_ticket_is_shown_in_no_form() {
    let export = runs().remove(2);
    let shown = run::show(&export) + &run::json(&export).to_string();
    assert!(!shown.contains("ab ab") && !shown.contains("171") && !shown.contains("ticket"));
}

/// The help of every command, in the order of the tool's own help.
#[test]
fn help_is_as_documented() {
    let mut tool = Arguments::command().term_width(100);
    tool.build();
    let mut pages = Vec::new();
    let mut waiting = vec![tool];
    while let Some(mut command) = waiting.pop() {
        pages.push(command.render_help().to_string());
        let mut below: Vec<_> = command
            .get_subcommands()
            .filter(|c| c.get_name() != "help")
            .cloned()
            .collect();
        below.reverse();
        waiting.extend(below);
    }
    assert_snapshot!("help", pages.join("\n===\n\n"));
}
