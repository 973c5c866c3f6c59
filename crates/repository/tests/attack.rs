//! Controller, one administrator and the clock in an attacker's hands: every call, over real TLS, with
//! the wall clock set by ten years to either side, and not one byte inside a lock is freed.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its setting too")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use stillwater_format::Time;
use stillwater_format::commit::{Action, Signed, Statement};
use stillwater_format::manifest::{Consistency, Disk, Effort, Manifest};
use stillwater_format::node::{DiskRoot, Leaf, Node, tree_id};
use stillwater_format::pack::stored_hash;
use stillwater_repository::config::{Config, StoreSettings};
use stillwater_repository::serve::Repository;
use stillwater_repository::{engine, join};
use stillwater_repository_api::*;
use stillwater_rpc::grant::{Claims, GrantSigner, Verb};
use stillwater_rpc::signing::SigningKey;
use stillwater_rpc::{Ca, Identity, Target, connect};
use stillwater_store::{Environment, Store};
use stillwater_testkit::{FaultClock, identity};
use stillwater_types::{
    ChunkId, ClusterId, DatasetId, Fault, NodeId, PointId, Reason, Role, RunId, TaskId, VcenterId,
    VmId,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const DAY: Duration = Duration::from_secs(24 * 3600);
const TEN_YEARS_MILLIS: i64 = 10 * 365 * 24 * 3600 * 1000;
const CHUNK_LEN: usize = 40_000;

/// The repository's host: what the attacker does not have, but for its wall clock.
struct Host {
    config: Config,
    clock: Arc<FaultClock>,
    store_dir: PathBuf,
    _dir: tempfile::TempDir,
}

/// What the attacker has: the keys of the controller and of a proxy, and of one administrator.
struct Attacker {
    controller: Identity,
    proxy: Identity,
    grants: GrantSigner,
    admin: SigningKey,
    stranger: SigningKey,
    node: NodeId,
    dataset: DatasetId,
    run: RunId,
}

/// A repository that serves, and calls to it.
struct Served {
    as_controller: Client,
    as_proxy: Client,
    drain: CancellationToken,
    serving: JoinHandle<Result<(), Fault>>,
}

fn found() -> (Host, Attacker) {
    let authority = Ca::create(ClusterId::mint(), SystemTime::now()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        state_dir: dir.path().to_owned(),
        controller: Some("127.0.0.1:1".into()),
        store: StoreSettings {
            allow_volatile: true,
            ..StoreSettings::default()
        },
        ..Config::default()
    };
    let repository = identity(&authority, Role::Repository);
    let store_dir = config.store_dir();
    std::fs::create_dir(&store_dir).unwrap();
    let clock = Arc::new(FaultClock::default());
    let (admin, honest) = (
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    );
    let environment = || with_clock(&store_dir, &clock);
    Store::init(&environment(), &config.options(), join::owner(&repository)).unwrap();
    let store = Store::open(environment(), config.options()).unwrap();
    store
        .enrol_admin(admin.public_key(), "the attacker's")
        .unwrap();
    store
        .enrol_admin(honest.public_key(), "an honest one")
        .unwrap();
    // Raised by one of them, so that there is something to lower.
    let floor = Statement {
        id: [0xff; 16],
        node: repository.node(),
        action: Action::SetFloor {
            millis: 21 * 24 * 3600 * 1000,
        },
    };
    let statement = floor.encode().unwrap();
    let raised = store.submit(&Signed {
        key: honest.public_key(),
        signature: honest.sign(&statement),
        statement,
    });
    assert_eq!(raised.unwrap(), stillwater_store::StatementState::Done);
    drop(store);
    let grants = GrantSigner::generate().unwrap();
    let key = data_encoding::HEXLOWER.encode(&grants.public_key());
    std::fs::write(config.state_dir.join("grant-key"), key).unwrap();
    repository.save(&config.identity_dir()).unwrap();
    let attacker = Attacker {
        controller: identity(&authority, Role::Controller),
        proxy: identity(&authority, Role::Proxy),
        grants,
        admin,
        stranger: SigningKey::generate().unwrap(),
        node: repository.node(),
        dataset: DatasetId::mint(),
        run: RunId::mint(),
    };
    let host = Host {
        config,
        clock,
        store_dir,
        _dir: dir,
    };
    (host, attacker)
}

fn with_clock(dir: &Path, clock: &Arc<FaultClock>) -> Environment {
    Environment {
        clock: clock.clone(),
        ..engine::environment(dir).unwrap()
    }
}

impl Host {
    async fn serve(&self, attacker: &Attacker) -> Served {
        let repository = self.opened().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let call = |identity: &Identity| {
            let target = Target {
                address: address.clone(),
                role: Role::Repository,
                node: None,
            };
            Client::new(connect(identity, target).unwrap())
        };
        let drain = CancellationToken::new();
        Served {
            as_controller: call(&attacker.controller),
            as_proxy: call(&attacker.proxy),
            serving: tokio::spawn(repository.serve(listener, drain.clone())),
            drain,
        }
    }

    /// A look at stored data that runs on a thread of its own outlives the service it was begun by for a moment,
    /// and keeps the store open: a process would wait for it before it ends.
    async fn opened(&self) -> Repository {
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            let clock = self.clock.clone();
            let environment = move |dir: &Path| Ok(with_clock(dir, &clock));
            match Repository::open_in(self.config.clone(), environment).await {
                Err(fault) if fault.message.contains("has open") && Instant::now() < patience => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                opened => return opened.unwrap(),
            }
        }
    }

    /// Every file that holds data, with its content's hash.
    fn files(&self) -> BTreeMap<PathBuf, [u8; 32]> {
        let mut files = BTreeMap::new();
        for dir in ["packs", "manifests", "copy/manifests"] {
            for fan in std::fs::read_dir(self.store_dir.join(dir)).unwrap() {
                for entry in std::fs::read_dir(fan.unwrap().path()).unwrap() {
                    let path = entry.unwrap().path();
                    let content = std::fs::read(&path).unwrap();
                    files.insert(path, *blake3::hash(&content).as_bytes());
                }
            }
        }
        files
    }
}

impl Served {
    async fn stop(self) {
        self.drain.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

fn chunk(seed: u8) -> Record {
    let stored = Bytes::from(vec![seed; CHUNK_LEN]);
    Record {
        record_type: RecordType::Chunk,
        codec: Codec::Zstd,
        counter: u32::from(seed),
        plain_bytes: CHUNK_LEN as u32,
        id: [seed; 32],
        stored_hash: stored_hash(&stored),
        stored,
    }
}

fn tree(chunks: &[Record]) -> (Record, Node) {
    let leaf = |chunk: &Record| Leaf::Chunk {
        length: chunk.plain_bytes,
        id: ChunkId::from_bytes(chunk.id),
    };
    let node = Node::leaves(chunks.iter().map(leaf).collect()).unwrap();
    let stored = Bytes::from(node.encode());
    let record = Record {
        record_type: RecordType::Node,
        codec: Codec::Raw,
        counter: 0,
        plain_bytes: stored.len() as u32,
        id: *tree_id(&stored).as_bytes(),
        stored_hash: stored_hash(&stored),
        stored,
    };
    (record, node)
}

impl Attacker {
    fn authority(&self, run: RunId, fence: u64) -> Authority {
        let expires = SystemTime::now() + DAY;
        let claims = Claims {
            grant: [1; 16],
            run,
            dataset: self.dataset,
            repository: self.node,
            proxy: self.proxy.node(),
            verbs: [Verb::Find, Verb::Put, Verb::Read].into_iter().collect(),
            expires_at: expires.duration_since(UNIX_EPOCH).unwrap().as_secs(),
        };
        Authority {
            grant: self.grants.sign(&claims).into(),
            run_id: run,
            fence,
        }
    }

    async fn put(
        &self,
        served: &Served,
        (run, fence, salt): (RunId, u64, u8),
        records: Vec<Record>,
    ) -> Result<PutPackResponse, Fault> {
        let mut sender = served.as_proxy.put_pack(PackHeader {
            authority: self.authority(run, fence),
            dataset_id: self.dataset,
            salt: [salt; 32],
        });
        sender.send(RecordBatch { records }).await?;
        sender.finish().await
    }

    fn manifest(&self, run: RunId, point: PointId, node: &Node, name: &str) -> Bytes {
        let manifest = Manifest {
            point,
            dataset: self.dataset,
            run,
            vm: VmId {
                vcenter: VcenterId::from_bytes([7; 16]),
                moref: "vm-1".into(),
            },
            vm_name: name.into(),
            vcenter_instance: String::new(),
            taken_at: Time::default(),
            consistency: Consistency::Crash,
            whole: true,
            disks: vec![Disk {
                key: 2000,
                label: "Hard disk 1".into(),
                backing: None,
                change_id: None,
                root: DiskRoot {
                    length: node.span(),
                    cutter: "test".into(),
                    top: tree_id(&node.encode()),
                    level: 0,
                },
                effort: Effort::default(),
            }],
            sealed: Vec::new(),
        };
        manifest.encode().unwrap().into()
    }

    /// A backup as it should be, so that there is something to attack.
    async fn back_up(&self, served: &Served, chunks: &[Record]) -> (PointId, Point) {
        let dataset = Dataset {
            dataset_id: self.dataset,
            label: "default".into(),
            wrapped_key: Bytes::from_static(b"wrapped"),
        };
        served.as_controller.create_dataset(dataset).await.unwrap();
        let (run_id, dataset_id) = (self.run, self.dataset);
        let session = served
            .as_controller
            .open_session(OpenSessionRequest {
                run_id,
                dataset_id,
                expected_bytes: 1,
            })
            .await
            .unwrap();
        let fence = session.fence;
        let (record, node) = tree(chunks);
        let records = chunks.iter().cloned().chain([record]).collect();
        self.put(served, (run_id, fence, 1), records).await.unwrap();
        let point_id = PointId::mint();
        let manifest = self.manifest(run_id, point_id, &node, "web");
        let proposal = ProposePointRequest {
            run_id,
            fence,
            manifest,
        };
        served.as_controller.propose_point(proposal).await.unwrap();
        let commit = CommitPointRequest {
            run_id,
            fence,
            point_id,
        };
        let point = served.as_controller.commit_point(commit).await.unwrap();
        let close = CloseSessionRequest { run_id, fence };
        served.as_controller.close_session(close).await.unwrap();
        (point_id, point)
    }

    /// What one administrator can sign, and what nobody should be able to.
    async fn sign_everything(&self, served: &Served, round: u8) -> BTreeSet<Reason> {
        let now = Timestamp::now().as_millisecond().unsigned_abs();
        let far = Time::from_millis(now + TEN_YEARS_MILLIS.unsigned_abs());
        let actions = [
            Action::SetFloor { millis: 0 },
            Action::AllowSweep { bytes: u64::MAX },
            Action::AdvanceTime { to: far },
            Action::AddAdmin {
                key: self.stranger.public_key(),
                label: "me again".into(),
            },
            Action::RemoveAdmin {
                key: self.admin.public_key(),
            },
        ];
        let mut refusals = BTreeSet::new();
        for (number, action) in actions.into_iter().enumerate() {
            let id = [round ^ (number as u8) << 4; 16];
            let statement = Statement {
                id,
                node: self.node,
                action,
            };
            let statement = Bytes::from(statement.encode().unwrap());
            // Once as it is, once more, then as somebody else, then with a signature that is not his.
            let keys = [&self.admin, &self.admin, &self.stranger];
            for key in keys {
                let request = SubmitStatementRequest {
                    statement: statement.clone(),
                    key: key.public_key(),
                    signature: key.sign(&statement),
                };
                match served.as_controller.submit_statement(request).await {
                    Ok(answer) => assert_ne!(answer.state, StatementState::Done),
                    Err(fault) => drop(refusals.insert(fault.reason)),
                }
            }
        }
        refusals
    }

    /// Every call of the protocol, each as harmful as it can be made. Answers the names of the calls.
    async fn call_everything(
        &self,
        served: &Served,
        target: PointId,
        round: u8,
    ) -> Vec<&'static str> {
        let Served {
            as_controller,
            as_proxy,
            ..
        } = served;
        let mut called = Vec::new();
        macro_rules! attack {
            ($name:literal, $call:expr) => {{
                called.push($name);
                $call.await
            }};
        }
        let dataset = Dataset {
            dataset_id: self.dataset,
            label: "default".into(),
            wrapped_key: Bytes::from_static(b"another key"),
        };
        attack!("CreateDataset", as_controller.create_dataset(dataset)).unwrap_err();
        attack!("ListDatasets", as_controller.list_datasets()).unwrap();
        attack!("GetRepository", as_controller.get_repository()).unwrap();
        attack!("GetRetention", as_controller.get_retention()).unwrap();

        // The run of the point comes again, and its session lives and ends.
        let (run_id, dataset_id) = (self.run, self.dataset);
        let open = OpenSessionRequest {
            run_id,
            dataset_id,
            expected_bytes: 1,
        };
        let session = attack!("OpenSession", as_controller.open_session(open)).unwrap();
        let fence = session.fence;
        let renew = RenewSessionRequest { run_id, fence };
        attack!("RenewSession", as_controller.renew_session(renew)).unwrap();

        // Other bytes under the ids of the point's chunks.
        let false_chunk = Record {
            id: [1; 32],
            ..chunk(200)
        };
        let salt = 100 + round;
        attack!(
            "PutPack",
            self.put(served, (run_id, fence, salt), vec![false_chunk, chunk(201)])
        )
        .unwrap();
        let find = FindRecordsRequest {
            authority: self.authority(run_id, fence),
            record_type: RecordType::Chunk,
            ids: vec![[1; 32]],
        };
        let answer = attack!("FindRecords", as_proxy.find_records(find)).unwrap();
        assert_eq!(answer.found, [true]);

        // Another manifest for the same point.
        let (_, node) = tree(&[chunk(201)]);
        let proposal = ProposePointRequest {
            run_id,
            fence,
            manifest: self.manifest(run_id, target, &node, "nothing left"),
        };
        attack!("ProposePoint", as_controller.propose_point(proposal)).unwrap_err();
        let commit = CommitPointRequest {
            run_id,
            fence,
            point_id: target,
        };
        attack!("CommitPoint", as_controller.commit_point(commit)).unwrap();
        let close = CloseSessionRequest { run_id, fence };
        attack!("CloseSession", as_controller.close_session(close)).unwrap();

        let lock = LockPointRequest {
            point_id: target,
            until: Timestamp::UNIX_EPOCH,
        };
        attack!("LockPoint", as_controller.lock_point(lock)).unwrap();
        let refusals = attack!("SubmitStatement", self.sign_everything(served, round));
        assert!(refusals.contains(&Reason::StatementRefused), "{refusals:?}");
        let refusal = attack!("DeletePoint", as_controller.delete_point(target)).unwrap_err();
        let refused = [Reason::PointLocked, Reason::TimeFrozen].contains(&refusal.reason);
        assert!(refused, "{refusal}");

        for kind in [
            TaskKind::Collect,
            TaskKind::Scrub,
            TaskKind::Collect,
            TaskKind::Verify,
        ] {
            let request = StartTaskRequest {
                task_id: TaskId::mint(),
                kind,
                point_id: (kind == TaskKind::Verify).then_some(target),
                all: kind == TaskKind::Scrub,
            };
            attack!("StartTask", as_controller.start_task(request)).unwrap();
            let states = attack!("WatchTask", as_controller.watch_task(request.task_id)).unwrap();
            let states: Vec<_> = states.collect().await;
            let ended = states.into_iter().next_back().unwrap().unwrap();
            assert_eq!(ended.state, TaskState::Succeeded, "{ended:?}");
            if let Some(TaskResult::Verify(found)) = ended.result {
                assert!(found.whole, "{found:?}");
            }
            attack!("GetTask", as_controller.get_task(request.task_id)).unwrap();
            attack!("CancelTask", as_controller.cancel_task(request.task_id)).unwrap();
        }
        attack!(
            "ListPoints",
            as_controller.list_points(ListPointsRequest {
                page_size: 10,
                page_token: None,
            })
        )
        .unwrap();
        attack!("GetPoint", as_controller.get_point(target)).unwrap();
        let read = ReadRecordsRequest {
            authority: self.authority(run_id, 0),
            record_type: RecordType::Chunk,
            ids: (1..=4).map(|seed| [seed; 32]).collect(),
        };
        let answers = attack!("ReadRecords", as_proxy.read_records(read)).unwrap();
        let answers: Vec<_> = answers.collect().await;
        let records = answers
            .into_iter()
            .flat_map(|answer| answer.unwrap().records);
        let stored: Vec<_> = records.map(|salted| salted.record).collect();
        assert_eq!(stored, (1..=4).map(chunk).collect::<Vec<_>>());
        called
    }
}

/// The names of all calls that the protocol has.
fn calls_of_the_protocol() -> BTreeSet<String> {
    ACCESS
        .iter()
        .map(|access| access.path.rsplit('/').next().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_inside_a_lock_is_freed_whatever_is_called_and_whatever_the_clock_says() {
    let (host, attacker) = found();
    let served = host.serve(&attacker).await;
    let chunks: Vec<_> = (1..=4).map(chunk).collect();
    let (target, point) = attacker.back_up(&served, &chunks).await;
    assert_eq!(point.retain_until, point.committed_at + 21 * DAY);
    served.stop().await;
    let before = host.files();
    assert_eq!(before.len(), 3);

    // Hardly a day passes in truth, whatever the wall clock is set to.
    let jumps = [0, TEN_YEARS_MILLIS, -2 * TEN_YEARS_MILLIS, TEN_YEARS_MILLIS];
    for (round, jump) in (0..).zip(jumps.into_iter().cycle().take(8)) {
        let running = host.serve(&attacker).await;
        host.clock.set_wall_by(jump);
        host.clock.pass(Duration::from_secs(3600));
        let called = attacker.call_everything(&running, target, round).await;
        let called: BTreeSet<_> = called.into_iter().map(str::to_owned).collect();
        assert_eq!(called, calls_of_the_protocol(), "a call is not attacked");
        running.stop().await;
        if round % 3 == 2 {
            host.clock.reboot(Duration::ZERO);
            host.clock.set_wall_by(jump);
        }
        let after = host.files();
        for (path, hash) in &before {
            assert_eq!(
                after.get(path),
                Some(hash),
                "{} after round {round}",
                path.display()
            );
        }
    }

    // The test can succeed: once the lock is over in truth, the same call deletes the point.
    let off_by = Timestamp::from_millisecond(i64::try_from(wall(&host)).unwrap()).unwrap();
    let right = point.retain_until + DAY;
    host.clock
        .set_wall_by(right.as_millisecond() - off_by.as_millisecond());
    host.clock.reboot(Duration::ZERO);
    let served = host.serve(&attacker).await;
    // Only time in which the repository runs counts.
    host.clock.pass(20 * DAY);
    served.as_controller.delete_point(target).await.unwrap_err();
    host.clock.pass(2 * DAY);
    served.as_controller.delete_point(target).await.unwrap();
    served.stop().await;
}

fn wall(host: &Host) -> u64 {
    stillwater_store::Clock::wall(&*host.clock).millis()
}
