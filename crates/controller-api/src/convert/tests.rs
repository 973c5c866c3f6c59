use std::fmt::Debug;

use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;
use prost::Message;
use stillwater_types::{
    ClusterId, ExportId, Fault, NodeId, PointId, Reason, RequestId, Role, RunId, TaskId, TreeId,
    VcenterId, VmId,
};
use stillwater_wire::FieldError;

use crate::model::*;
use crate::{Ticket, pb};

/// Fills messages from a seed: every field, every variant and every absence comes up.
struct Gen(u64);

impl Gen {
    fn u64(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn u32(&mut self) -> u32 {
        (self.u64() >> 32) as u32
    }

    fn hash<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.u64() as u8)
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.u64() as usize % all.len()]
    }

    fn bytes(&mut self) -> Bytes {
        let length = 1 + self.u64() as usize % 200;
        (0..length).map(|_| self.u64() as u8).collect()
    }

    fn flag(&mut self) -> bool {
        self.u64().is_multiple_of(2)
    }

    fn text(&mut self) -> String {
        self.pick(&["web", "Größe", "a b", "x"]).to_owned()
    }

    fn maybe<T>(&mut self, fill: impl Fn(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| fill(self))
    }

    fn list<T>(&mut self, fill: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.u64() % 4).map(|_| fill(self)).collect()
    }

    fn repository(&mut self) -> Repository {
        Repository {
            node_id: NodeId::from_bytes(self.hash()),
            name: self.text(),
            address: self.text(),
            online: self.flag(),
            usage: self.maybe(|g| RepositoryUsage {
                writable_bytes: g.u64(),
                capacity_bytes: g.u64(),
                stored_bytes: g.u64(),
                chunk_count: g.u64(),
                point_count: g.u64(),
                format_version: g.u32(),
                health: g.health(),
            }),
            fault: self.maybe(|g| Fault::new(Reason::RepositoryUnreachable, g.text())),
        }
    }

    fn health(&mut self) -> Health {
        Health {
            verified_since: self.maybe(Gen::time),
            overdue_bytes: self.u64(),
            degraded_point_ids: self.list(Gen::point_id),
            degraded_point_count: self.u64(),
            collected_at: self.maybe(Gen::time),
            held: self.text(),
            ..Health::default()
        }
    }

    fn task(&mut self) -> Task {
        let result = |g: &mut Self| {
            TaskResult::Verify(VerifyResult {
                whole: g.flag(),
                read_bytes: g.u64(),
                ..VerifyResult::default()
            })
        };
        Task {
            task_id: TaskId::from_bytes(self.hash()),
            kind: TaskKind::Verify,
            point_id: self.maybe(Gen::point_id),
            state: self.pick(&[TaskState::Running, TaskState::Failed, TaskState::Cancelled]),
            phase: self.text(),
            done: self.u64(),
            total: self.u64(),
            unit: self.text(),
            started_at: self.time(),
            ended_at: self.maybe(Gen::time),
            result: self.maybe(result),
            fault: self.maybe(|g| Fault::new(Reason::StorageFailed, g.text()).with("a", "b")),
        }
    }

    fn waiting(&mut self) -> WaitingStatement {
        WaitingStatement {
            statement_id: self.hash(),
            demand: self.text(),
            signers: self.list(Gen::hash),
            needed_signer_count: self.u32(),
            effective_at: self.maybe(Gen::time),
        }
    }

    fn retention(&mut self) -> Retention {
        Retention {
            floor_seconds: self.u64(),
            configured_floor_seconds: self.u64(),
            demanded_floor_seconds: self.u64(),
            trusted_time: self.time(),
            wall_time: self.time(),
            frozen: self.text(),
            admins: self.list(|g| RepositoryAdmin {
                key: g.hash(),
                label: g.text(),
                since: g.time(),
            }),
            waiting: self.list(Gen::waiting),
        }
    }

    fn time(&mut self) -> Timestamp {
        let second = (self.u64() % 8_000_000_000) as i64 - 4_000_000_000;
        Timestamp::new(second, 0).expect("in range")
    }

    fn vm_id(&mut self) -> VmId {
        VmId {
            vcenter: VcenterId::from_bytes(self.hash()),
            moref: format!("vm-{}", self.u32()),
        }
    }

    fn point_id(&mut self) -> PointId {
        PointId::from_bytes(self.hash())
    }

    fn fault(&mut self) -> Fault {
        Fault::new(self.pick(Reason::ALL), self.text()).with("disk", self.u32())
    }

    fn run_disk(&mut self) -> RunDisk {
        RunDisk {
            key: self.u32() as i32,
            label: self.text(),
            length_bytes: self.u64(),
            done_bytes: self.u64(),
            read_bytes: self.u64(),
            new_bytes: self.u64(),
            sent_bytes: self.u64(),
            hole_bytes: self.u64(),
            chunk_count: self.u64(),
            new_chunk_count: self.u64(),
            transport: self.text(),
            proxy_name: self.text(),
            reading: self.text(),
            reading_reason: self.text(),
            transport_reason: self.text(),
        }
    }

    fn access(&mut self) -> ExportAccess {
        ExportAccess {
            export_id: ExportId::from_bytes(self.hash()),
            proxy_node_id: NodeId::from_bytes(self.hash()),
            address: self.text(),
            ticket: Ticket::new(self.hash()),
        }
    }

    fn run_kind(&mut self) -> RunKind {
        match self.u64() % 5 {
            3 => RunKind::VerifyPoint(VerifyPointRun {
                point_id: self.point_id(),
                vm_name: self.text(),
                damaged_bytes: self.u64(),
                damaged_chunk_count: self.u64(),
            }),
            4 => RunKind::RestoreInPlace(RestoreInPlaceRun {
                point_id: self.point_id(),
                vm_id: self.vm_id(),
                vm_name: self.text(),
            }),
            0 => RunKind::Backup(BackupRun {
                vm_id: self.vm_id(),
                vm_name: self.text(),
                point_id: self.maybe(Gen::point_id),
            }),
            1 => RunKind::RestoreVm(RestoreVmRun {
                point_id: self.point_id(),
                vm_name: self.text(),
                vm_id: self.maybe(Gen::vm_id),
            }),
            _ => RunKind::ExportDisk(ExportDiskRun {
                point_id: self.point_id(),
                disk_key: self.u32() as i32,
                access: self.maybe(Gen::access),
            }),
        }
    }

    fn run(&mut self) -> Run {
        Run {
            run_id: RunId::from_bytes(self.hash()),
            kind: self.run_kind(),
            state: self.pick(&[
                RunState::Pending,
                RunState::Running,
                RunState::Succeeded,
                RunState::Incomplete,
                RunState::Failed,
                RunState::Cancelled,
            ]),
            phase: self.maybe(|g| {
                g.pick(&[
                    RunPhase::Planning,
                    RunPhase::Reserving,
                    RunPhase::Freezing,
                    RunPhase::Mapping,
                    RunPhase::Transferring,
                    RunPhase::Proposing,
                    RunPhase::Releasing,
                    RunPhase::Committing,
                    RunPhase::CreatingVm,
                    RunPhase::CleaningUp,
                ])
            }),
            disks: self.list(Gen::run_disk),
            started_at: self.time(),
            ended_at: self.maybe(Gen::time),
            fault: self.maybe(Gen::fault),
            warnings: self.list(Gen::fault),
            phases: self.list(|g| RunPhaseStart {
                phase: g.pick(&[RunPhase::Freezing, RunPhase::Transferring]),
                started_at: g.time(),
            }),
        }
    }

    fn start_kind(&mut self) -> StartKind {
        match self.u64() % 3 {
            0 => StartKind::Backup(StartBackup {
                vm: self.text(),
                exclude_disk_keys: self.list(|g| g.u32() as i32),
                full_read: self.flag(),
                quiesce: self.list(|g| QuiesceRung {
                    level: g.consistency(),
                    tries: g.u32(),
                    budget_minutes: g.u32(),
                }),
                hooks: self.list(|g| Hook {
                    name: g.text(),
                    phase: g.hook_phase(),
                    program: g.text(),
                    arguments: g.list(Gen::text),
                    timeout_seconds: g.u32(),
                    on_failure: g.pick(&[
                        HookFailure::Fail,
                        HookFailure::Warn,
                        HookFailure::Ignore,
                    ]),
                }),
                hook_budget_seconds: self.u32(),
                ways: self.list(Gen::text),
            }),
            1 => StartKind::RestoreVm(StartRestoreVm {
                point_id: self.point_id(),
                name: self.text(),
                vcenter: self.maybe(Gen::text),
                datastore: self.text(),
                folder: self.maybe(Gen::text),
                resource_pool: self.maybe(Gen::text),
                host: self.maybe(Gen::text),
                power_on: self.flag(),
                datacenter: self.maybe(Gen::text),
                cluster: self.maybe(Gen::text),
                disk_datastores: self.list(|g| DiskDatastore {
                    disk: g.text(),
                    datastore: g.text(),
                }),
                networks: self.list(|g| NetworkChange {
                    from: g.text(),
                    to: g.text(),
                }),
                identity: self
                    .maybe(|g| g.pick(&[RestoreIdentity::New, RestoreIdentity::Original])),
                provisioning: self.maybe(Gen::provisioning),
                template: self.flag(),
            }),
            _ if self.flag() => StartKind::RestoreInPlace(StartRestoreInPlace {
                point_id: self.point_id(),
                discard_changes: self.flag(),
            }),
            _ if self.flag() => StartKind::VerifyPoint(StartVerifyPoint {
                point_id: self.point_id(),
            }),
            _ => StartKind::ExportDisk(StartExportDisk {
                point_id: self.point_id(),
                disk_key: self.u32() as i32,
            }),
        }
    }

    fn provisioning(&mut self) -> DiskProvisioning {
        self.pick(&[
            DiskProvisioning::Thin,
            DiskProvisioning::Thick,
            DiskProvisioning::Eager,
        ])
    }

    fn restore_plan(&mut self) -> RestorePlan {
        RestorePlan {
            name: self.text(),
            vcenter: self.text(),
            folder: self.text(),
            host: self.text(),
            datastore: self.text(),
            disks: self.list(|g| RestorePlanDisk {
                key: g.u32() as i32,
                label: g.text(),
                capacity_bytes: g.u64(),
                write_bytes: g.u64(),
                datastore: g.text(),
                provisioning: g.provisioning(),
            }),
            cards: self.list(|g| RestorePlanCard {
                label: g.text(),
                from: g.text(),
                to: g.text(),
                connected: g.flag(),
                mac_address: g.text(),
            }),
            write_bytes: self.u64(),
            bytes_per_second: self.u64(),
            seconds: self.u64(),
            steps: self.list(Gen::text),
            losses: self.list(Gen::text),
        }
    }

    fn load(&mut self) -> NodeLoad {
        NodeLoad {
            transfer_slots: self.u32(),
            transfer_count: self.u32(),
            writable_bytes: self.u64(),
            capacity_bytes: self.u64(),
            stored_bytes: self.u64(),
        }
    }

    fn node(&mut self) -> Node {
        Node {
            node_id: NodeId::from_bytes(self.hash()),
            role: self.pick(&Role::ALL),
            name: self.text(),
            address: self.maybe(Gen::text),
            state: self.pick(&[NodeState::Online, NodeState::Offline, NodeState::Removed]),
            joined_at: self.time(),
            seen_at: self.maybe(Gen::time),
            certificate_expires_at: self.time(),
            version: self.maybe(Gen::text),
            load: self.maybe(Gen::load),
            reach: self.maybe(Gen::reach),
            draining_since: self.maybe(Gen::time),
        }
    }

    fn reach(&mut self) -> ProxyReach {
        ProxyReach {
            vm_uuids: self.list(Gen::text),
            datastores: self.list(Gen::text),
            nbd: self.flag(),
        }
    }

    fn point_disk(&mut self) -> PointDisk {
        PointDisk {
            key: self.u32() as i32,
            label: self.text(),
            length_bytes: self.u64(),
            root: TreeId::from_bytes(self.hash()),
            read_bytes: self.u64(),
            new_bytes: self.u64(),
            stored_bytes: self.u64(),
            hole_bytes: self.u64(),
            chunk_count: self.u64(),
            new_chunk_count: self.u64(),
        }
    }

    fn consistency(&mut self) -> Consistency {
        self.pick(&[
            Consistency::Crash,
            Consistency::FileSystem,
            Consistency::Application,
            Consistency::Offline,
        ])
    }

    fn quiescence(&mut self) -> Quiescence {
        Quiescence {
            asked: self.list(Gen::consistency),
            achieved: self.consistency(),
            tries: self.list(|g| QuiesceTry {
                level: g.consistency(),
                problem: g.text(),
            }),
            tools: self.text(),
            quiesced: self.flag(),
            writers: self.list(|g| QuiesceWriter {
                name: g.text(),
                failure: g.maybe(Gen::text),
                component_count: g.u32(),
            }),
            stun_micros: self.maybe(Gen::u64),
            freeze_millis: self.maybe(Gen::u64),
            has_report: self.flag(),
            remarks: self.list(Gen::text),
            hooks: self.list(|g| HookRun {
                name: g.text(),
                phase: g.hook_phase(),
                started_at: g.time(),
                ended_at: g.time(),
                exit_code: g.maybe(|g| g.u32() as i32),
                timed_out: g.flag(),
                output: g.text(),
                truncated: g.flag(),
            }),
            hook_release: self.maybe(|g| HookRelease {
                by_watchdog: g.flag(),
                released_at: g.time(),
            }),
        }
    }

    fn hook_phase(&mut self) -> HookPhase {
        self.pick(&[HookPhase::Before, HookPhase::During, HookPhase::After])
    }

    fn guest_subject(&mut self) -> GuestSubject {
        match self.flag() {
            true => GuestSubject::Vm(self.text()),
            false => GuestSubject::Folder(GuestFolder {
                vcenter: self.maybe(Gen::text),
                path: self.text(),
            }),
        }
    }

    fn guest_credential(&mut self) -> GuestCredential {
        GuestCredential {
            subject: self.guest_subject(),
            username: self.text(),
        }
    }

    fn set_guest_credential(&mut self) -> SetGuestCredentialRequest {
        SetGuestCredentialRequest {
            subject: self.guest_subject(),
            username: self.text(),
            password: self.text().into(),
        }
    }

    fn finding(&mut self) -> PreflightFinding {
        PreflightFinding {
            check: self.text(),
            verdict: self.pick(&[
                PreflightVerdict::Ok,
                PreflightVerdict::Warning,
                PreflightVerdict::Blocked,
            ]),
            subject: self.text(),
            disk_key: self.maybe(|g| g.u32() as i32),
            privilege: self.maybe(Gen::text),
            message: self.text(),
        }
    }

    fn surroundings(&mut self) -> Surroundings {
        Surroundings {
            vcenter: self.text(),
            folder: self.maybe(Gen::text),
            resource_pool: self.maybe(Gen::text),
            host: self.maybe(Gen::text),
            cluster: self.maybe(Gen::text),
            datastores: self.list(Gen::text),
            networks: self.list(|g| PointNetwork {
                name: g.text(),
                kind: g.text(),
                reference: g.text(),
                portgroup_key: g.maybe(Gen::text),
                switch_uuid: g.maybe(Gen::text),
            }),
            tags: self.list(|g| PointTag {
                category: g.text(),
                name: g.text(),
            }),
            attributes: self.list(|g| PointAttribute {
                name: g.text(),
                value: g.text(),
            }),
            home_policy: self.maybe(Gen::text),
            disk_policies: self.list(|g| PointPolicy {
                disk_key: g.u32() as i32,
                policy: g.text(),
            }),
            nvram_file: self.maybe(Gen::text),
            nvram: self.bytes(),
            remarks: self.list(Gen::text),
        }
    }

    fn disk_reading(&mut self) -> DiskReading {
        DiskReading {
            disk_key: self.u32() as i32,
            how: self.text(),
            reason: self.text(),
            remarks: self.list(Gen::text),
            base_point_id: self.maybe(Gen::point_id),
            changed_bytes: self.maybe(Gen::u64),
            compared_bytes: self.u64(),
            lie_bytes: self.u64(),
            checked_at: self.time(),
            points_since: self.u32(),
            lie_count: self.u32(),
            last_lie_at: self.maybe(Gen::time),
        }
    }

    fn point(&mut self) -> Point {
        Point {
            point_id: self.point_id(),
            vm_id: self.vm_id(),
            vm_name: self.text(),
            run_id: RunId::from_bytes(self.hash()),
            repository_name: self.text(),
            committed_at: self.time(),
            retain_until: self.time(),
            consistency: self.consistency(),
            complete: self.flag(),
            disks: self.list(Gen::point_disk),
            missing: self.list(Gen::text),
            verification: self.maybe(|g| PointVerification {
                run_id: RunId::from_bytes(g.hash()),
                verified_at: g.time(),
                damaged_bytes: g.u64(),
            }),
        }
    }

    fn evidence(&mut self) -> Evidence {
        Evidence {
            lines: self.list(|g| EvidenceLine {
                name: g.text(),
                value: g.text(),
            }),
        }
    }

    fn summary(&mut self) -> VmSummary {
        VmSummary {
            vm_id: self.vm_id(),
            name: self.text(),
            path: self.text(),
            vcenter_name: self.text(),
            power: self.text(),
            change_tracking: self.flag(),
            disk_count: self.u32(),
        }
    }

    fn vm(&mut self) -> Vm {
        Vm {
            summary: self.summary(),
            guest_id: self.text(),
            tools: self.text(),
            disks: self.list(|g| VmDisk {
                key: g.u32() as i32,
                label: g.text(),
                capacity_bytes: g.u64(),
                file: g.text(),
                unprotectable: g.maybe(Gen::text),
            }),
            snapshots: self.list(|g| VmSnapshot {
                name: g.text(),
                created_at: g.text(),
                ours: g.flag(),
            }),
        }
    }

    fn trust(&mut self) -> VcenterTrust {
        match self.flag() {
            true => VcenterTrust::CaPem(self.bytes()),
            false => VcenterTrust::CertificateSha256(self.hash()),
        }
    }

    fn vcenter(&mut self) -> Vcenter {
        Vcenter {
            vcenter_id: VcenterId::from_bytes(self.hash()),
            name: self.text(),
            address: self.text(),
            username: self.text(),
            trust: self.trust(),
            about: self.maybe(|g| VcenterAbout {
                full_name: g.text(),
                api_version: g.text(),
                instance_uuid: g.text(),
            }),
        }
    }

    fn add_vcenter(&mut self) -> AddVcenterRequest {
        AddVcenterRequest {
            request_id: RequestId::from_bytes(self.hash()),
            name: self.text(),
            address: self.text(),
            username: self.text(),
            password: self.text().into(),
            trust: self.trust(),
        }
    }

    fn join(&mut self) -> JoinClusterRequest {
        JoinClusterRequest {
            token: self.text().into(),
            certificate_request: self.bytes(),
            name: self.text(),
            address: self.maybe(Gen::text),
        }
    }
}

/// Sends a value as bytes and takes it back.
#[track_caller]
fn check<P, T>(value: T)
where
    P: Message + Default + From<T>,
    T: TryFrom<P, Error = FieldError> + Clone + PartialEq + Debug,
{
    let sent = P::from(value.clone()).encode_to_vec();
    let read = T::try_from(P::decode(sent.as_slice()).expect("decodes"));
    assert_eq!(read, Ok(value));
}

/// As [`check`] for values that hold secrets, which cannot be compared: they are sent twice.
#[track_caller]
fn check_secret<P, T>(value: T)
where
    P: Message + Default + From<T> + PartialEq,
    T: TryFrom<P, Error = FieldError> + Clone + Debug,
{
    let first = P::from(value.clone());
    let read = P::decode(first.encode_to_vec().as_slice()).expect("decodes");
    let second = P::from(T::try_from(read).expect("a good message"));
    assert!(first == second, "{value:?} changed on its way");
}

fn page(g: &mut Gen) -> u32 {
    1 + g.u32() % PAGE_SIZE_MAX
}

proptest! {
    #[test]
    fn runs_arrive_as_they_were_sent(seed: u64) {
        let g = &mut Gen(seed);
        let run_id = RunId::from_bytes(g.hash());
        check::<pb::GetRunRequest, _>(run_id);
        check::<pb::WatchRunRequest, _>(run_id);
        check::<pb::CancelRunRequest, _>(run_id);
        check::<pb::StartRunResponse, _>(g.run());
        check::<pb::GetRunResponse, _>(g.run());
        check::<pb::WatchRunResponse, _>(g.run());
        check::<pb::CancelRunResponse, _>(g.run());
        let request_id = RequestId::from_bytes(g.hash());
        let refusals = g.list(Gen::fault);
        check::<pb::PlanRestoreVmResponse, _>(PlanRestoreVmResponse { plan: g.maybe(Gen::restore_plan), refusals });
        check::<pb::PlanRestoreInPlaceRequest, _>(PlanRestoreInPlaceRequest {
            restore: StartRestoreInPlace { point_id: g.point_id(), discard_changes: g.flag() },
        });
        check::<pb::PlanRestoreInPlaceResponse, _>(PlanRestoreInPlaceResponse {
            vm_id: g.vm_id(),
            vm_name: g.text(),
            disks: g.list(|g| RestoreInPlaceDisk {
                key: g.u32() as i32,
                label: g.text(),
                length_bytes: g.u64(),
                compares_all: g.flag(),
            }),
            steps: g.list(Gen::text),
            losses: g.list(Gen::text),
            refusals: g.list(Gen::fault),
        });
        check::<pb::StartRunRequest, _>(StartRunRequest { request_id, kind: g.start_kind() });
        check::<pb::ListRunsRequest, _>(ListRunsRequest {
            page_size: page(g),
            page_token: g.maybe(Gen::text),
        });
        check::<pb::ListRunsResponse, _>(ListRunsResponse {
            runs: g.list(Gen::run),
            next_page_token: g.maybe(Gen::text),
        });
    }

    #[test]
    fn nodes_and_tokens_arrive_as_they_were_sent(seed: u64) {
        let g = &mut Gen(seed);
        check::<pb::ListNodesRequest, _>(());
        check::<pb::ListNodesResponse, _>(g.list(Gen::node));
        check::<pb::RemoveNodeRequest, _>(NodeId::from_bytes(g.hash()));
        check::<pb::RemoveNodeResponse, _>(());
        check::<pb::DrainProxyRequest, _>(NodeId::from_bytes(g.hash()));
        check::<pb::DrainProxyResponse, _>(());
        check::<pb::UndrainProxyRequest, _>(NodeId::from_bytes(g.hash()));
        check::<pb::UndrainProxyResponse, _>(());
        check_secret::<pb::JoinClusterRequest, _>(g.join());
        check::<pb::JoinClusterResponse, _>(JoinClusterResponse {
            node_id: NodeId::from_bytes(g.hash()),
            cluster_id: ClusterId::from_bytes(g.hash()),
            certificate_chain: g.text(),
            grant_key: g.hash(),
        });
        check::<pb::RenewCertificateRequest, _>(g.bytes());
        check::<pb::RenewCertificateResponse, _>(RenewCertificateResponse {
            certificate_chain: g.text(),
        });
        check::<pb::SendHeartbeatRequest, _>(SendHeartbeatRequest {
            address: g.text(),
            version: g.text(),
            load: g.load(),
            reach: g.maybe(Gen::reach),
        });
        check::<pb::SendHeartbeatResponse, _>(SendHeartbeatResponse { interval_seconds: g.u32() });
        check::<pb::CreateTokenRequest, _>(g.pick(&Role::ALL));
        check_secret::<pb::CreateTokenResponse, _>(CreateTokenResponse {
            token: g.text().into(),
            expires_at: g.time(),
        });
    }

    #[test]
    fn points_and_vms_arrive_as_they_were_sent(seed: u64) {
        let g = &mut Gen(seed);
        check::<pb::GetPointRequest, _>(g.point_id());
        check::<pb::GetPointResponse, _>(GetPointResponse {
            point: g.point(),
            evidence: g.evidence(),
            readings: g.list(Gen::disk_reading),
            quiescence: g.maybe(Gen::quiescence),
        });
        check::<pb::ListPointsRequest, _>(ListPointsRequest {
            vm: g.maybe(Gen::text),
            page_size: page(g),
            page_token: g.maybe(Gen::text),
        });
        check::<pb::ListPointsResponse, _>(ListPointsResponse {
            points: g.list(Gen::point),
            next_page_token: g.maybe(Gen::text),
        });
        check::<pb::ListVmsRequest, _>(g.maybe(Gen::text));
        check::<pb::ListVmsResponse, _>(g.list(Gen::summary));
        check::<pb::GetVmRequest, _>(g.text());
        check::<pb::GetVmResponse, _>(g.vm());
        check::<pb::ProbeVmRequest, _>(ProbeVmRequest {
            vm: g.text(),
            disk_key: g.maybe(Gen::u32).map(|key| key as i32),
            read_bytes: g.u64() % (PROBE_BYTES_MAX + 1),
        });
        check::<pb::ProbeVmResponse, _>(Probe {
            proxy_name: g.text(),
            disk_key: g.u32() as i32,
            way: g.text(),
            read_bytes: g.u64(),
            elapsed_micros: g.u64(),
            open_micros: g.u64(),
            latency_median_micros: g.u64(),
            latency_p99_micros: g.u64(),
            fault: g.maybe(Gen::fault),
            passed_over: g.maybe(Gen::text),
        });
        check::<pb::PreflightVmRequest, _>(PreflightVmRequest {
            vm: g.text(),
            restore: g.flag(),
        });
        check::<pb::PreflightVmResponse, _>(PreflightVmResponse {
            summary: g.summary(),
            findings: g.list(Gen::finding),
        });
        check::<pb::GetPointConfigurationRequest, _>(g.point_id());
        check::<pb::GetPointConfigurationResponse, _>(PointConfiguration {
            config_xml: g.text(),
            surroundings: g.maybe(Gen::surroundings),
        });
    }

    #[test]
    fn repositories_arrive_as_they_were_sent(seed: u64) {
        let g = &mut Gen(seed);
        check::<pb::ListRepositoriesRequest, _>(());
        check::<pb::ListRepositoriesResponse, _>(g.list(Gen::repository));
        check::<pb::GetRepositoryRequest, _>(NodeId::from_bytes(g.hash()));
        check::<pb::GetRepositoryResponse, _>(GetRepositoryResponse {
            repository: g.repository(),
            retention: g.retention(),
        });
        check::<pb::StartTaskRequest, _>(StartTaskRequest {
            task_id: TaskId::from_bytes(g.hash()),
            kind: g.pick(&[TaskKind::Scrub, TaskKind::Collect, TaskKind::Verify]),
            node_id: g.maybe(|g| NodeId::from_bytes(g.hash())),
            point_id: g.maybe(Gen::point_id),
            all: g.flag(),
        });
        check::<pb::StartTaskResponse, _>(StartTaskResponse {
            task: g.task(),
            node_id: NodeId::from_bytes(g.hash()),
        });
        let (node_id, task_id) = (NodeId::from_bytes(g.hash()), TaskId::from_bytes(g.hash()));
        check::<pb::WatchTaskRequest, _>(WatchTaskRequest { node_id, task_id });
        check::<pb::WatchTaskResponse, _>(g.task());
        check::<pb::CancelTaskRequest, _>(CancelTaskRequest { node_id, task_id });
        check::<pb::CancelTaskResponse, _>(g.task());
        check::<pb::SubmitStatementRequest, _>(SubmitStatementRequest {
            node_id,
            statement: g.bytes(),
            key: g.hash(),
            signature: g.hash(),
        });
        check::<pb::SubmitStatementResponse, _>(SubmitStatementResponse {
            state: g.pick(&[StatementState::Waiting, StatementState::Done, StatementState::Vetoed]),
            waiting: g.maybe(Gen::waiting),
        });
        check::<pb::LockPointRequest, _>(LockPointRequest { point_id: g.point_id(), until: g.time() });
        check::<pb::LockPointResponse, _>(g.point());
        check::<pb::DeletePointRequest, _>(g.point_id());
        check::<pb::DeletePointResponse, _>(());
    }

    #[test]
    fn alarms_arrive_as_they_were_sent(seed: u64) {
        let g = &mut Gen(seed);
        check::<pb::ListAlarmsRequest, _>(ListAlarmsRequest {
            include_cleared: g.flag(),
        });
        check::<pb::ListAlarmsResponse, _>(g.list(|g| Alarm {
            kind: g.text(),
            subject: g.text(),
            vm_id: g.maybe(Gen::vm_id),
            disk_key: g.maybe(|g| g.u32() as i32),
            node_id: g.maybe(|g| NodeId::from_bytes(g.hash())),
            message: g.text(),
            raised_at: g.time(),
            changed_at: g.time(),
            cleared_at: g.maybe(Gen::time),
        }));
    }

    #[test]
    fn events_arrive_as_they_were_sent(seed: u64) {
        let g = &mut Gen(seed);
        let severity = |g: &mut Gen| {
            g.pick(&[
                EventSeverity::Info,
                EventSeverity::Warning,
                EventSeverity::Error,
            ])
        };
        let event = |g: &mut Gen| Event {
            number: g.u64(),
            kind: g.text(),
            severity: severity(g),
            at: g.time(),
            by: g.text(),
            by_name: g.maybe(Gen::text),
            message: g.text(),
            vm_id: g.maybe(Gen::vm_id),
            vm_name: g.maybe(Gen::text),
            run_id: g.maybe(|g| RunId::from_bytes(g.hash())),
            point_id: g.maybe(Gen::point_id),
            node_id: g.maybe(|g| NodeId::from_bytes(g.hash())),
            policy: g.maybe(Gen::text),
            alarm: g.maybe(Gen::text),
        };
        let filter = |g: &mut Gen| EventFilter {
            kinds: g.list(Gen::text),
            severity: g.maybe(severity),
            vm: g.maybe(Gen::text),
            run_id: g.maybe(|g| RunId::from_bytes(g.hash())),
            policy: g.maybe(Gen::text),
        };
        check::<pb::ListEventsRequest, _>(ListEventsRequest {
            filter: filter(g),
            since: g.maybe(Gen::time),
            page_size: 1 + g.u32() % PAGE_SIZE_MAX,
            page_token: g.maybe(Gen::text),
        });
        check::<pb::ListEventsResponse, _>(ListEventsResponse {
            events: g.list(event),
            next_page_token: g.maybe(Gen::text),
        });
        check::<pb::WatchEventsRequest, _>(WatchEventsRequest {
            filter: filter(g),
            after: g.maybe(Gen::u64),
        });
        check::<pb::WatchEventsResponse, _>(event(g));
    }

    #[test]
    fn policies_arrive_as_they_were_sent(seed: u64) {
        let g = &mut Gen(seed);
        let policy = |g: &mut Gen| Policy {
            name: g.text(),
            promise: g.text(),
            repository: g.text(),
            priority: g.u32(),
            since: g.time(),
            changed_at: g.time(),
            file: g.text(),
        };
        check::<pb::ApplyPolicyRequest, _>(ApplyPolicyRequest {
            file: g.text(),
            dry_run: g.flag(),
        });
        check::<pb::ApplyPolicyResponse, _>(ApplyPolicyResponse {
            name: g.text(),
            is_new: g.flag(),
            changes: g.list(|g| PolicyChange {
                key: g.text(),
                before: g.maybe(Gen::text),
                after: g.maybe(Gen::text),
                is_weaker: g.flag(),
            }),
            enter: g.list(Gen::text),
            leave: g.list(Gen::text),
        });
        check::<pb::ListPoliciesRequest, _>(());
        check::<pb::ListPoliciesResponse, _>(g.list(policy));
        check::<pb::GetPolicyRequest, _>(g.text());
        check::<pb::GetPolicyResponse, _>(policy(g));
        check::<pb::RemovePolicyRequest, _>(g.text());
        check::<pb::RemovePolicyResponse, _>(());
        check::<pb::ListPolicyMembersRequest, _>(g.text());
        check::<pb::ListPolicyMembersResponse, _>(g.list(|g| PolicyMember {
            vm_id: g.vm_id(),
            path: g.text(),
            is_in: g.flag(),
            why: g.text(),
        }));
        check::<pb::SimulatePolicyRequest, _>(SimulatePolicyRequest {
            name: g.text(),
            file: g.text(),
            days: g.u32(),
        });
        check::<pb::SimulatePolicyResponse, _>(SimulatePolicyResponse {
            name: g.text(),
            days: g.list(|g| SimulatedDay {
                date: g.text(),
                over_at: g.time(),
                made_count: g.u32(),
                kept_count: g.u32(),
                oldest_at: g.maybe(Gen::time),
            }),
            kept: g.list(|g| SimulatedPoint {
                at: g.time(),
                why: g.list(Gen::text),
            }),
        });
        check::<pb::ListPolicyPointsRequest, _>(ListPolicyPointsRequest {
            policy: g.text(),
            vm: g.text(),
        });
        check::<pb::ListPolicyPointsResponse, _>(ListPolicyPointsResponse {
            points: g.list(|g| PolicyPoint {
                point_id: g.point_id(),
                vm_id: g.vm_id(),
                vm_name: g.text(),
                repository_name: g.text(),
                at: g.time(),
                is_expired: g.flag(),
                why: g.list(Gen::text),
                gone_by: g.maybe(Gen::time),
                refusal: g.maybe(Gen::text),
            }),
            left_off_count: g.u32(),
        });
    }

    #[test]
    fn jobs_arrive_as_they_were_sent(seed: u64) {
        let g = &mut Gen(seed);
        check::<pb::ListJobsRequest, _>(ListJobsRequest {
            policy: g.maybe(Gen::text),
            page_size: 1 + g.u32() % PAGE_SIZE_MAX,
            page_token: g.maybe(Gen::text),
        });
        check::<pb::ListJobsResponse, _>(ListJobsResponse {
            jobs: g.list(|g| Job {
                policy: g.text(),
                vm_id: g.vm_id(),
                vm_name: g.text(),
                promise: g.text(),
                rpo_seconds: g.maybe(Gen::u32),
                last_point_at: g.maybe(Gen::time),
                achieved_p50_seconds: g.maybe(Gen::u32),
                achieved_p99_seconds: g.maybe(Gen::u32),
                achieved_most_seconds: g.maybe(Gen::u32),
                due_at: g.maybe(Gen::time),
                deadline: g.maybe(Gen::time),
                run_id: g.maybe(|g| RunId::from_bytes(g.hash())),
                waits_for: g.maybe(Gen::text),
                broken_since: g.maybe(Gen::time),
                broken_by: g.maybe(Gen::text),
                failure_count: g.u32(),
                pace: g.text(),
            }),
            next_page_token: g.maybe(Gen::text),
        });
    }

    #[test]
    fn guest_credentials_arrive_as_they_were_sent(seed: u64) {
        let g = &mut Gen(seed);
        check_secret::<pb::SetGuestCredentialRequest, _>(g.set_guest_credential());
        check::<pb::SetGuestCredentialResponse, _>(g.guest_credential());
        check::<pb::ListGuestCredentialsRequest, _>(());
        check::<pb::ListGuestCredentialsResponse, _>(g.list(Gen::guest_credential));
        check::<pb::RemoveGuestCredentialRequest, _>(g.guest_subject());
        check::<pb::RemoveGuestCredentialResponse, _>(());
    }

    #[test]
    fn vcenters_arrive_as_they_were_sent(seed: u64) {
        let g = &mut Gen(seed);
        check_secret::<pb::AddVcenterRequest, _>(g.add_vcenter());
        check::<pb::AddVcenterResponse, _>(g.vcenter());
        check::<pb::ListVcentersRequest, _>(());
        check::<pb::ListVcentersResponse, _>(g.list(Gen::vcenter));
        check::<pb::TestVcenterRequest, _>(g.text());
        check::<pb::TestVcenterResponse, _>(TestVcenterResponse {
            vcenter: g.vcenter(),
            vm_count: g.u32(),
        });
        check::<pb::RemoveVcenterRequest, _>(g.text());
        check::<pb::RemoveVcenterResponse, _>(());
        check::<pb::ProbeVcenterRequest, _>(g.text());
        check::<pb::ProbeVcenterResponse, _>(ProbeVcenterResponse {
            certificate_sha256: g.hash(),
            certificate_pem: g.text(),
            subject: g.text(),
            not_after: g.text(),
        });
    }
}

/// Spoils one field of a good message and demands that the fault names it.
#[track_caller]
fn refuses<P, T>(value: T, field: &str, spoil: impl Fn(&mut P))
where
    P: From<T>,
    T: TryFrom<P, Error = FieldError> + Debug,
{
    let mut message = P::from(value);
    spoil(&mut message);
    let fault = Fault::from(T::try_from(message).expect_err(field));
    assert_eq!(fault.reason, Reason::BadField);
    assert_eq!(
        fault.details.get("field").map(String::as_str),
        Some(field),
        "{fault}"
    );
}

fn restore(g: &mut Gen) -> StartRunRequest {
    let kind = StartKind::RestoreVm(StartRestoreVm {
        point_id: g.point_id(),
        name: g.text(),
        vcenter: None,
        datastore: g.text(),
        folder: None,
        resource_pool: None,
        host: None,
        power_on: false,
        datacenter: None,
        cluster: None,
        disk_datastores: Vec::new(),
        networks: Vec::new(),
        identity: None,
        provisioning: None,
        template: false,
    });
    StartRunRequest {
        request_id: RequestId::from_bytes(g.hash()),
        kind,
    }
}

fn export(g: &mut Gen) -> Run {
    let kind = RunKind::ExportDisk(ExportDiskRun {
        point_id: g.point_id(),
        disk_key: 2000,
        access: Some(g.access()),
    });
    Run { kind, ..g.run() }
}

#[test]
fn a_wrong_field_of_a_run_is_refused_by_name() {
    let g = &mut Gen(5);
    refuses::<pb::StartRunRequest, _>(restore(g), "request_id", |m| m.request_id.clear());
    refuses::<pb::StartRunRequest, _>(restore(g), "kind", |m| m.kind = None);
    let start = |m: &mut pb::StartRunRequest, act: fn(&mut pb::StartRestoreVm)| match &mut m.kind {
        Some(pb::start_run_request::Kind::RestoreVm(start)) => act(start),
        other => panic!("{other:?}"),
    };
    refuses::<pb::StartRunRequest, _>(restore(g), "restore_vm.point_id", |m| {
        start(m, |start| start.point_id = "latest".into());
    });
    refuses::<pb::StartRunRequest, _>(restore(g), "restore_vm.name", |m| {
        start(m, |start| start.name.clear());
    });
    refuses::<pb::StartRunRequest, _>(restore(g), "restore_vm.datastore", |m| {
        start(m, |start| start.datastore.clear());
    });
    refuses::<pb::GetRunResponse, Run>(export(g), "run", |m| m.run = None);
    refuses::<pb::Run, _>(export(g), "state", |m| m.state = 0);
    refuses::<pb::Run, _>(export(g), "phase", |m| m.phase = 99);
    refuses::<pb::Run, _>(export(g), "started_at", |m| m.started_at = None);
    refuses::<pb::Run, _>(export(g), "phases.phase", |m| {
        m.phases = vec![pb::RunPhaseStart::default()];
    });
    refuses::<pb::Run, _>(export(g), "export_disk.access.ticket", |m| {
        if let Some(pb::run::Kind::ExportDisk(export)) = &mut m.kind {
            export.access.as_mut().expect("set").ticket = Bytes::new();
        }
    });
}

#[test]
fn a_wrong_field_of_anything_else_is_refused_by_name() {
    let g = &mut Gen(6);
    refuses::<pb::JoinClusterRequest, _>(g.join(), "token", |m| m.token.clear());
    refuses::<pb::JoinClusterRequest, _>(g.join(), "name", |m| m.name.clear());
    refuses::<pb::JoinClusterRequest, _>(g.join(), "certificate_request", |m| {
        m.certificate_request = vec![0; CERTIFICATE_REQUEST_BYTES_MAX + 1].into();
    });
    refuses::<pb::CreateTokenRequest, Role>(Role::Proxy, "role", |m| m.role = 0);
    refuses::<pb::CreateTokenRequest, Role>(Role::Proxy, "role", |m| m.role = 17);
    refuses::<pb::Node, _>(g.node(), "joined_at", |m| m.joined_at = None);
    refuses::<pb::GetVmRequest, String>(g.text(), "vm", |m| m.vm.clear());
    refuses::<pb::PreflightFinding, _>(g.finding(), "verdict", |m| m.verdict = 0);
    refuses::<pb::Vm, _>(g.vm(), "summary.vm_id", |m| {
        m.summary.as_mut().expect("set").vm_id = "vm-16".into();
    });
    refuses::<pb::AddVcenterRequest, _>(g.add_vcenter(), "password", |m| m.password.clear());
    let credential = g.set_guest_credential();
    refuses::<pb::SetGuestCredentialRequest, _>(credential.clone(), "password", |m| {
        m.password.clear();
    });
    refuses::<pb::SetGuestCredentialRequest, _>(credential, "subject.subject", |m| {
        m.subject.as_mut().expect("set").subject = None;
    });
    refuses::<pb::AddVcenterRequest, _>(g.add_vcenter(), "trust", |m| m.trust = None);
    refuses::<pb::AddVcenterRequest, _>(g.add_vcenter(), "trust.anchor", |m| {
        m.trust.as_mut().expect("set").anchor = None;
    });
    refuses::<pb::AddVcenterRequest, _>(g.add_vcenter(), "trust.ca_pem", |m| {
        let pem = vec![0; CA_PEM_BYTES_MAX + 1].into();
        m.trust.as_mut().expect("set").anchor = Some(pb::vcenter_trust::Anchor::CaPem(pem));
    });
    refuses::<pb::PointDisk, _>(g.point_disk(), "root", |m| m.root = Bytes::new());
    refuses::<pb::Point, _>(g.point(), "consistency", |m| m.consistency = 0);
}

#[test]
fn secrets_are_not_shown() {
    let g = &mut Gen(9);
    let ticket = Ticket::new([0xab; 32]);
    let join = JoinClusterRequest {
        token: "swt1.hidden".into(),
        ..g.join()
    };
    let add = AddVcenterRequest {
        password: "hidden".into(),
        ..g.add_vcenter()
    };
    let made = CreateTokenResponse {
        token: "swt1.hidden".into(),
        expires_at: g.time(),
    };
    let shown = format!("{ticket:?} {join:?} {add:?} {made:?}");
    assert!(
        !shown.contains("hidden") && !shown.contains("171"),
        "{shown}"
    );
    assert_eq!(ticket, ticket.clone());
    assert_ne!(ticket, Ticket::new([0xac; 32]));
}
