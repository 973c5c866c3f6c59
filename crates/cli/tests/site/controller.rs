//! A controller that certifies for real and pretends the rest.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use stillwater_controller_api::*;
use stillwater_rpc::{Ca, Peer, Token};
use stillwater_types::{
    ExportId, Fault, NodeId, PointId, Reason, Role, RunId, TreeId, VcenterId, VmId,
};

use super::{proxy, repository};

pub struct Fake {
    ca: Ca,
    address: String,
    proxy: (NodeId, String),
    exports: Arc<proxy::Fake>,
    validity: Duration,
    point: Point,
    pub upkeep: repository::Upkeep,
    state: Mutex<State>,
}

struct State {
    tokens: Vec<Token>,
    admins: Vec<NodeId>,
    runs: Vec<Run>,
    vcenters: Vec<Vcenter>,
    password: String,
    refusal: Option<(Fault, bool)>,
    end: (RunState, Option<Fault>),
    warnings: Vec<Fault>,
    page_size: usize,
    vm_name: String,
}

impl Fake {
    pub fn new(
        ca: Ca,
        address: String,
        proxy: (NodeId, String),
        validity: Duration,
        exports: Arc<proxy::Fake>,
    ) -> Self {
        let state = State {
            tokens: Vec::new(),
            admins: Vec::new(),
            runs: Vec::new(),
            vcenters: Vec::new(),
            password: String::new(),
            refusal: None,
            end: (RunState::Succeeded, None),
            warnings: Vec::new(),
            page_size: 1000,
            vm_name: "web".into(),
        };
        let state = Mutex::new(state);
        Self {
            ca,
            address,
            proxy,
            exports,
            validity,
            point: point(),
            upkeep: repository::Upkeep::default(),
            state,
        }
    }

    pub fn token(&self, role: Role) -> Token {
        let token = Token::mint(&self.address, self.ca.spki_pin(), role).expect("a token");
        self.state
            .lock()
            .expect("not poisoned")
            .tokens
            .push(token.clone());
        token
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn point(&self) -> &Point {
        &self.point
    }

    pub fn runs(&self) -> Vec<Run> {
        self.state.lock().expect("not poisoned").runs.clone()
    }

    pub fn password(&self) -> String {
        self.state.lock().expect("not poisoned").password.clone()
    }

    /// Refuses every run from now on.
    pub fn refuse(&self, fault: Fault) {
        self.state.lock().expect("not poisoned").refusal = Some((fault, false));
    }

    /// Refuses the next run.
    pub fn refuse_once(&self, fault: Fault) {
        self.state.lock().expect("not poisoned").refusal = Some((fault, true));
    }

    pub fn end_runs_as(&self, state: RunState, fault: Option<Fault>) {
        self.state.lock().expect("not poisoned").end = (state, fault);
    }

    pub fn warn(&self, fault: Fault) {
        self.state
            .lock()
            .expect("not poisoned")
            .warnings
            .push(fault);
    }

    pub fn page_size(&self, page_size: usize) {
        self.state.lock().expect("not poisoned").page_size = page_size;
    }

    pub fn rename_vms(&self, name: &str) {
        self.state.lock().expect("not poisoned").vm_name = name.to_owned();
    }

    fn find(&self, run_id: RunId) -> Result<Run, Fault> {
        let runs = self.runs();
        let found = runs.into_iter().find(|run| run.run_id == run_id);
        found.ok_or_else(|| Fault::new(Reason::RunNotFound, "no such run"))
    }

    fn change(&self, run_id: RunId, change: impl Fn(&mut Run)) -> Result<Run, Fault> {
        let mut state = self.state.lock().expect("not poisoned");
        let found = state.runs.iter_mut().find(|run| run.run_id == run_id);
        let run = found.ok_or_else(|| Fault::new(Reason::RunNotFound, "no such run"))?;
        change(run);
        Ok(run.clone())
    }

    fn summary(&self) -> VmSummary {
        let name = self.state.lock().expect("not poisoned").vm_name.clone();
        VmSummary {
            vm_id: self.point.vm_id.clone(),
            path: format!("/DC0/vm/{name}"),
            name,
            vcenter_name: "lab".into(),
            power: "poweredOn".into(),
            change_tracking: true,
            disk_count: 1,
        }
    }
}

fn point() -> Point {
    let disk = PointDisk {
        key: 2000,
        label: "Hard disk 1".into(),
        length_bytes: proxy::DISK_LENGTH,
        root: TreeId::from_bytes([3; 32]),
        read_bytes: 1,
        new_bytes: 1,
        stored_bytes: 1,
        hole_bytes: 1,
        chunk_count: 1,
        new_chunk_count: 1,
    };
    Point {
        point_id: PointId::mint(),
        vm_id: VmId {
            vcenter: VcenterId::mint(),
            moref: "vm-1".into(),
        },
        vm_name: "web".into(),
        run_id: RunId::mint(),
        repository_name: "store".into(),
        committed_at: Timestamp::now(),
        retain_until: Timestamp::now(),
        consistency: Consistency::Crash,
        complete: true,
        disks: vec![disk],
        missing: vec![],
        verification: None,
    }
}

#[async_trait]
impl RunService for Fake {
    async fn start_run(&self, _: &Peer, request: StartRunRequest) -> Result<Run, Fault> {
        let mut state = self.state.lock().expect("not poisoned");
        if let Some((fault, once)) = state.refusal.clone() {
            if once {
                state.refusal = None;
            }
            return Err(fault);
        }
        let kind = match request.kind {
            StartKind::Backup(start) => RunKind::Backup(BackupRun {
                vm_id: self.point.vm_id.clone(),
                vm_name: start.vm,
                point_id: None,
            }),
            StartKind::RestoreVm(start) => RunKind::RestoreVm(RestoreVmRun {
                point_id: start.point_id,
                vm_name: start.name,
                vm_id: None,
            }),
            StartKind::ExportDisk(start) => RunKind::ExportDisk(ExportDiskRun {
                point_id: start.point_id,
                disk_key: start.disk_key,
                access: None,
            }),
            StartKind::RestoreInPlace(start) => RunKind::RestoreInPlace(RestoreInPlaceRun {
                point_id: start.point_id,
                vm_id: self.point.vm_id.clone(),
                vm_name: self.point.vm_name.clone(),
            }),
            StartKind::VerifyPoint(start) => RunKind::VerifyPoint(VerifyPointRun {
                point_id: start.point_id,
                vm_name: self.point.vm_name.clone(),
                damaged_bytes: 0,
                damaged_chunk_count: 0,
            }),
        };
        let run = Run {
            run_id: RunId::mint(),
            kind,
            state: RunState::Pending,
            phase: None,
            disks: vec![],
            started_at: Timestamp::now(),
            ended_at: None,
            fault: None,
            warnings: vec![],
            phases: vec![],
        };
        state.runs.insert(0, run.clone());
        Ok(run)
    }

    async fn plan_restore_vm(
        &self,
        _: &Peer,
        request: PlanRestoreVmRequest,
    ) -> Result<PlanRestoreVmResponse, Fault> {
        let StartRestoreVm {
            name, datastore, ..
        } = request.restore;
        let is_taken = name == self.point.vm_name;
        let refusal = is_taken.then(|| Fault::new(Reason::VmExists, "there is such a vm"));
        Ok(PlanRestoreVmResponse {
            plan: Some(RestorePlan {
                name,
                datastore,
                write_bytes: 3 << 30,
                bytes_per_second: 64 << 20,
                seconds: 48,
                ..RestorePlan::default()
            }),
            refusals: refusal.into_iter().collect(),
        })
    }

    async fn plan_restore_in_place(
        &self,
        _: &Peer,
        request: PlanRestoreInPlaceRequest,
    ) -> Result<PlanRestoreInPlaceResponse, Fault> {
        let is_kept = request.restore.discard_changes;
        let refusal = (!is_kept).then(|| Fault::new(Reason::VmNotOff, "the vm runs"));
        Ok(PlanRestoreInPlaceResponse {
            vm_id: self.point.vm_id.clone(),
            vm_name: self.point.vm_name.clone(),
            disks: vec![],
            steps: vec!["a proxy compares".into()],
            losses: vec![],
            refusals: refusal.into_iter().collect(),
        })
    }

    async fn get_run(&self, _: &Peer, run_id: RunId) -> Result<Run, Fault> {
        self.find(run_id)
    }

    async fn list_runs(
        &self,
        _: &Peer,
        request: ListRunsRequest,
    ) -> Result<ListRunsResponse, Fault> {
        let state = self.state.lock().expect("not poisoned");
        let from: usize = request
            .page_token
            .map_or(0, |token| token.parse().expect("ours"));
        let size = state.page_size.min(request.page_size as usize);
        let runs: Vec<Run> = state.runs.iter().skip(from).take(size).cloned().collect();
        let next = from + runs.len();
        let next_page_token = (next < state.runs.len()).then(|| next.to_string());
        Ok(ListRunsResponse {
            runs,
            next_page_token,
        })
    }

    async fn watch_run(
        &self,
        _: &Peer,
        run_id: RunId,
    ) -> Result<BoxStream<'static, Result<Run, Fault>>, Fault> {
        let running = self.change(run_id, |run| {
            run.state = RunState::Running;
            run.phase = Some(RunPhase::Transferring);
            run.disks = vec![RunDisk {
                key: 2000,
                label: "Hard disk 1".into(),
                length_bytes: 100,
                done_bytes: 50,
                ..RunDisk::default()
            }];
            if let RunKind::ExportDisk(export) = &mut run.kind {
                export.access = Some(ExportAccess {
                    export_id: ExportId::mint(),
                    proxy_node_id: self.proxy.0,
                    address: self.proxy.1.clone(),
                    ticket: Ticket::new(proxy::TICKET),
                });
            }
        })?;
        if matches!(running.kind, RunKind::ExportDisk(_)) && !self.exports.was_read() {
            let waiting = stream::iter([Ok(running)]).chain(stream::pending());
            return Ok(waiting.boxed());
        }
        let (end, warnings) = {
            let state = self.state.lock().expect("not poisoned");
            (state.end.clone(), state.warnings.clone())
        };
        let ended = self.change(run_id, |run| {
            (run.state, run.fault) = end.clone();
            run.warnings = warnings.clone();
            run.ended_at = Some(Timestamp::now());
        })?;
        Ok(stream::iter([Ok(running), Ok(ended)]).boxed())
    }

    async fn cancel_run(&self, _: &Peer, run_id: RunId) -> Result<Run, Fault> {
        self.change(run_id, |run| run.state = RunState::Cancelled)
    }
}

#[async_trait]
impl NodeService for Fake {
    async fn join_cluster(
        &self,
        _: Option<SocketAddr>,
        request: JoinClusterRequest,
    ) -> Result<JoinClusterResponse, Fault> {
        let invalid = || Fault::new(Reason::TokenInvalid, "unknown");
        let token: Token = request.token.expose_secret().parse()?;
        let mut state = self.state.lock().expect("not poisoned");
        let known = state
            .tokens
            .iter()
            .position(|known| *known == token)
            .ok_or_else(invalid)?;
        state.tokens.remove(known);
        let node_id = NodeId::mint();
        state.admins.push(node_id);
        let now = SystemTime::now();
        let request = &request.certificate_request;
        let certificate_chain = self
            .ca
            .issue(request, token.role, node_id, self.validity, now)?;
        let cluster_id = self.ca.cluster();
        Ok(JoinClusterResponse {
            node_id,
            cluster_id,
            certificate_chain,
            grant_key: [0; 32],
        })
    }

    async fn renew_certificate(
        &self,
        peer: &Peer,
        request: Bytes,
    ) -> Result<RenewCertificateResponse, Fault> {
        let now = SystemTime::now();
        let chain = self
            .ca
            .issue(&request, peer.role, peer.node, self.validity, now)?;
        Ok(RenewCertificateResponse {
            certificate_chain: chain,
        })
    }

    async fn send_heartbeat(
        &self,
        _: &Peer,
        _: SendHeartbeatRequest,
    ) -> Result<SendHeartbeatResponse, Fault> {
        Ok(SendHeartbeatResponse {
            interval_seconds: 10,
        })
    }

    async fn list_nodes(&self, _: &Peer) -> Result<Vec<Node>, Fault> {
        let node = |node_id, role, address| Node {
            node_id,
            role,
            name: "somebody".into(),
            address,
            state: NodeState::Online,
            joined_at: Timestamp::now(),
            seen_at: None,
            certificate_expires_at: Timestamp::now(),
            version: None,
            load: None,
            reach: None,
            draining_since: None,
        };
        let state = self.state.lock().expect("not poisoned");
        let admins = state.admins.iter().map(|id| node(*id, Role::Admin, None));
        let proxy = node(self.proxy.0, Role::Proxy, Some(self.proxy.1.clone()));
        let repository = node(self.upkeep.node, Role::Repository, None);
        Ok(admins.chain([proxy, repository]).collect())
    }

    async fn remove_node(&self, _: &Peer, _: NodeId) -> Result<(), Fault> {
        Ok(())
    }

    async fn drain_proxy(&self, _: &Peer, _: NodeId) -> Result<(), Fault> {
        Ok(())
    }

    async fn undrain_proxy(&self, _: &Peer, _: NodeId) -> Result<(), Fault> {
        Ok(())
    }
}

#[async_trait]
impl TokenService for Fake {
    async fn create_token(&self, _: &Peer, role: Role) -> Result<CreateTokenResponse, Fault> {
        let token = self.token(role).to_text().to_string().into();
        Ok(CreateTokenResponse {
            token,
            expires_at: Timestamp::now(),
        })
    }
}

#[async_trait]
impl PointService for Fake {
    async fn list_points(
        &self,
        _: &Peer,
        _: ListPointsRequest,
    ) -> Result<ListPointsResponse, Fault> {
        Ok(ListPointsResponse {
            points: vec![self.point.clone()],
            next_page_token: None,
        })
    }

    async fn get_point(&self, _: &Peer, point_id: PointId) -> Result<GetPointResponse, Fault> {
        if point_id != self.point.point_id {
            return Err(Fault::new(Reason::PointNotFound, "no such point"));
        }
        Ok(GetPointResponse {
            point: self.point.clone(),
            evidence: Evidence::default(),
            readings: Vec::new(),
            quiescence: None,
        })
    }

    async fn get_point_configuration(
        &self,
        _: &Peer,
        _: PointId,
    ) -> Result<PointConfiguration, Fault> {
        Ok(PointConfiguration {
            config_xml: "<config/>".into(),
            surroundings: Some(Surroundings {
                folder: Some("/DC0/vm/web".into()),
                ..Surroundings::default()
            }),
        })
    }

    async fn lock_point(&self, _: &Peer, request: LockPointRequest) -> Result<Point, Fault> {
        let retain_until = self.point.retain_until.max(request.until);
        Ok(Point {
            retain_until,
            ..self.point.clone()
        })
    }

    async fn delete_point(&self, _: &Peer, _: PointId) -> Result<(), Fault> {
        self.upkeep.delete()
    }
}

#[async_trait]
impl VmService for Fake {
    async fn list_vms(&self, _: &Peer, _: Option<String>) -> Result<Vec<VmSummary>, Fault> {
        Ok(vec![self.summary()])
    }

    async fn get_vm(&self, _: &Peer, _: String) -> Result<Vm, Fault> {
        Ok(Vm {
            summary: self.summary(),
            guest_id: "debian12_64Guest".into(),
            tools: "toolsOk".into(),
            disks: vec![],
            snapshots: vec![],
        })
    }

    async fn preflight_vm(
        &self,
        _: &Peer,
        request: PreflightVmRequest,
    ) -> Result<PreflightVmResponse, Fault> {
        let verdict = match request.restore {
            true => PreflightVerdict::Blocked,
            false => PreflightVerdict::Warning,
        };
        Ok(PreflightVmResponse {
            summary: self.summary(),
            findings: vec![PreflightFinding {
                check: "TOOLS".into(),
                verdict,
                subject: "vm".into(),
                disk_key: None,
                privilege: None,
                message: "start them".into(),
            }],
        })
    }
}

#[async_trait]
impl AlarmService for Fake {
    async fn list_alarms(
        &self,
        _: &Peer,
        _request: ListAlarmsRequest,
    ) -> Result<Vec<Alarm>, Fault> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl PolicyService for Fake {
    /// A file that says `weaker` takes something away.
    async fn apply_policy(
        &self,
        _: &Peer,
        request: ApplyPolicyRequest,
    ) -> Result<ApplyPolicyResponse, Fault> {
        Ok(ApplyPolicyResponse {
            name: "gold".into(),
            is_new: false,
            changes: vec![PolicyChange {
                key: "priority".into(),
                before: Some("5".into()),
                after: Some(if request.dry_run { "6" } else { "7" }.into()),
                is_weaker: request.file.contains("weaker"),
            }],
            enter: Vec::new(),
            leave: Vec::new(),
        })
    }

    async fn list_policies(&self, _: &Peer) -> Result<Vec<Policy>, Fault> {
        Ok(Vec::new())
    }

    async fn get_policy(&self, _: &Peer, name: String) -> Result<Policy, Fault> {
        Err(Fault::new(Reason::PolicyNotFound, "no policy").with("policy", name))
    }

    async fn remove_policy(&self, _: &Peer, _name: String) -> Result<(), Fault> {
        Ok(())
    }

    async fn list_policy_members(
        &self,
        _: &Peer,
        _name: String,
    ) -> Result<Vec<PolicyMember>, Fault> {
        Ok(Vec::new())
    }

    async fn simulate_policy(
        &self,
        _: &Peer,
        request: SimulatePolicyRequest,
    ) -> Result<SimulatePolicyResponse, Fault> {
        Ok(SimulatePolicyResponse {
            name: request.name + &request.file,
            days: Vec::new(),
            kept: Vec::new(),
        })
    }

    async fn list_policy_points(
        &self,
        _: &Peer,
        _request: ListPolicyPointsRequest,
    ) -> Result<ListPolicyPointsResponse, Fault> {
        Ok(ListPolicyPointsResponse {
            points: Vec::new(),
            left_off_count: 0,
        })
    }
}

#[async_trait]
impl EventService for Fake {
    async fn list_events(
        &self,
        _: &Peer,
        _request: ListEventsRequest,
    ) -> Result<ListEventsResponse, Fault> {
        Ok(ListEventsResponse {
            events: Vec::new(),
            next_page_token: None,
        })
    }

    async fn watch_events(
        &self,
        _: &Peer,
        _request: WatchEventsRequest,
    ) -> Result<BoxStream<'static, Result<Event, Fault>>, Fault> {
        Ok(stream::pending().boxed())
    }
}

#[async_trait]
impl JobService for Fake {
    async fn list_jobs(
        &self,
        _: &Peer,
        _request: ListJobsRequest,
    ) -> Result<ListJobsResponse, Fault> {
        Ok(ListJobsResponse {
            jobs: Vec::new(),
            next_page_token: None,
        })
    }
}

#[async_trait]
impl VcenterService for Fake {
    async fn add_vcenter(&self, _: &Peer, request: AddVcenterRequest) -> Result<Vcenter, Fault> {
        let AddVcenterRequest {
            name,
            address,
            username,
            password,
            trust,
            ..
        } = request;
        let vcenter_id = VcenterId::mint();
        let vcenter = Vcenter {
            vcenter_id,
            name,
            address,
            username,
            trust,
            about: None,
        };
        let mut state = self.state.lock().expect("not poisoned");
        state.password = password.expose_secret().to_owned();
        state.vcenters.push(vcenter.clone());
        Ok(vcenter)
    }

    async fn list_vcenters(&self, _: &Peer) -> Result<Vec<Vcenter>, Fault> {
        Ok(self.state.lock().expect("not poisoned").vcenters.clone())
    }

    async fn test_vcenter(&self, _: &Peer, _: String) -> Result<TestVcenterResponse, Fault> {
        Err(Fault::new(Reason::VcenterNotFound, "none"))
    }

    async fn remove_vcenter(&self, _: &Peer, _: String) -> Result<(), Fault> {
        Ok(())
    }

    async fn probe_vcenter(&self, _: &Peer, _: String) -> Result<ProbeVcenterResponse, Fault> {
        Ok(ProbeVcenterResponse {
            certificate_sha256: [0xab; 32],
            certificate_pem: "-----BEGIN CERTIFICATE-----".into(),
            subject: "CN=vc.example".into(),
            not_after: "2030-01-01T00:00:00Z".into(),
        })
    }
}
