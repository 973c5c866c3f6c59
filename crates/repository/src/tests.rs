//! What the role adds to the engine: grants, fences, streams, names of metrics.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prometheus_client::registry::Registry;
use stillwater_format::manifest::{Consistency, Disk, Effort, Manifest};
use stillwater_format::node::{DiskRoot, Leaf, Node, tree_id};
use stillwater_format::pack::stored_hash;
use stillwater_repository_api::*;
use stillwater_rpc::Peer;
use stillwater_rpc::grant::{Claims, GrantSigner, GrantVerifier, Verb};
use stillwater_store::{Identity, Options, Store};
use stillwater_types::{
    ChunkId, ClusterId, DatasetId, Fault, NodeId, PointId, Reason, Role, RunId, VcenterId, VmId,
};
use tokio_util::sync::CancellationToken;

use crate::delivery::Delivery;
use crate::engine::{self, Engine};
use crate::gate::Gate;
use crate::grpc::Services;
use crate::intake::Intake;
use crate::metrics::Board;
use crate::upkeep::Upkept;

const OPTIONS: Options = Options {
    allow_volatile: true,
    reserve_bytes: 0,
    retention: Duration::from_secs(60),
    session_term: Duration::from_secs(60),
    ..Options::DEFAULT
};

/// A repository without a port, its controller's key, and one proxy with one run.
struct World {
    services: Services,
    signer: GrantSigner,
    proxy: Peer,
    controller: Peer,
    run: RunId,
    dataset: DatasetId,
    dir: tempfile::TempDir,
}

fn peer(role: Role) -> Peer {
    let cluster = ClusterId::mint();
    Peer {
        cluster,
        role,
        node: NodeId::mint(),
        expires_at: SystemTime::now(),
    }
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = NodeId::mint();
        let owner = Identity {
            cluster: ClusterId::mint(),
            node,
        };
        Store::init(&engine::environment(dir.path()).unwrap(), &OPTIONS, owner).unwrap();
        let engine = Engine::new(engine::open(dir.path(), OPTIONS).unwrap());
        let signer = GrantSigner::generate().unwrap();
        let gate = Gate::new(GrantVerifier::new(signer.public_key()), node);
        let services = Services {
            node,
            intake: Intake::new(engine.clone(), gate.clone(), 2),
            delivery: Delivery::new(engine.clone(), gate.clone(), 2),
            engine,
            gate,
            tasks: crate::task::Tasks::default(),
            drain: CancellationToken::new(),
        };
        let (proxy, controller) = (peer(Role::Proxy), peer(Role::Controller));
        let (run, dataset) = (RunId::mint(), DatasetId::mint());
        let world = Self {
            services,
            signer,
            proxy,
            controller,
            run,
            dataset,
            dir,
        };
        let made = world
            .services
            .create_dataset(&world.controller, world.dataset())
            .await;
        assert_eq!(made, Ok(world.dataset()));
        world
    }

    fn dataset(&self) -> Dataset {
        let wrapped_key = Bytes::from_static(b"wrapped");
        Dataset {
            dataset_id: self.dataset,
            label: "default".into(),
            wrapped_key,
        }
    }

    async fn session(&self) -> Session {
        let (run_id, dataset_id) = (self.run, self.dataset);
        let request = OpenSessionRequest {
            run_id,
            dataset_id,
            expected_bytes: 1,
        };
        self.services
            .open_session(&self.controller, request)
            .await
            .unwrap()
    }

    fn claims(&self, verbs: &[Verb]) -> Claims {
        let in_a_minute = SystemTime::now() + Duration::from_secs(60);
        Claims {
            grant: [1; 16],
            run: self.run,
            dataset: self.dataset,
            repository: self.services.node,
            proxy: self.proxy.node,
            verbs: verbs.iter().copied().collect(),
            expires_at: in_a_minute.duration_since(UNIX_EPOCH).unwrap().as_secs(),
        }
    }

    fn authority(&self, claims: &Claims, fence: u64) -> Authority {
        Authority {
            grant: self.signer.sign(claims).into(),
            run_id: self.run,
            fence,
        }
    }

    fn all(&self, fence: u64) -> Authority {
        self.authority(&self.claims(&[Verb::Find, Verb::Put, Verb::Read]), fence)
    }

    async fn find(&self, authority: Authority, id: [u8; 32]) -> Result<Vec<bool>, Fault> {
        let record_type = RecordType::Chunk;
        let request = FindRecordsRequest {
            authority,
            record_type,
            ids: vec![id],
        };
        Ok(self
            .services
            .find_records(&self.proxy, request)
            .await?
            .found)
    }

    async fn put(
        &self,
        authority: Authority,
        salt: u8,
        parts: Vec<Result<PackPart, Fault>>,
    ) -> Result<PutPackResponse, Fault> {
        let header = PackHeader {
            authority,
            dataset_id: self.dataset,
            salt: [salt; 32],
        };
        self.services
            .put_pack(&self.proxy, header, stream::iter(parts).boxed())
            .await
    }

    async fn read(
        &self,
        authority: Authority,
        record_type: RecordType,
        ids: Vec<[u8; 32]>,
    ) -> Result<Vec<SaltedRecord>, Fault> {
        let request = ReadRecordsRequest {
            authority,
            record_type,
            ids,
        };
        let answers = self.services.read_records(&self.proxy, request).await?;
        let answers: Vec<_> = collect(answers).await;
        let answers: Result<Vec<_>, _> = answers.into_iter().collect();
        Ok(answers?
            .into_iter()
            .flat_map(|answer| answer.records)
            .collect())
    }

    /// No file but those of a repository at rest.
    fn unfinished(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("tmp"))
            .unwrap()
            .count()
    }
}

async fn collect<T>(stream: BoxStream<'static, T>) -> Vec<T> {
    stream.collect().await
}

fn chunk(seed: u8, length: usize) -> Record {
    let stored = Bytes::from(vec![seed; length]);
    Record {
        record_type: RecordType::Chunk,
        codec: Codec::Zstd,
        counter: u32::from(seed),
        plain_bytes: length as u32,
        id: [seed; 32],
        stored_hash: stored_hash(&stored),
        stored,
    }
}

fn node(node: &Node) -> Record {
    let stored = Bytes::from(node.encode());
    Record {
        record_type: RecordType::Node,
        codec: Codec::Raw,
        counter: 0,
        plain_bytes: stored.len() as u32,
        id: *tree_id(&stored).as_bytes(),
        stored_hash: stored_hash(&stored),
        stored,
    }
}

fn batch(records: Vec<Record>) -> Result<PackPart, Fault> {
    Ok(PackPart::Batch(RecordBatch { records }))
}

fn finish(record_count: u32) -> Result<PackPart, Fault> {
    Ok(PackPart::Finish(PackFinish { record_count }))
}

#[tokio::test]
async fn a_point_goes_in_and_comes_out() {
    let world = World::new().await;
    let session = world.session().await;
    let fence = session.fence;
    // Several messages, so that answers come in several as well.
    let chunks: Vec<_> = (1..=4).map(|seed| chunk(seed, 600_000)).collect();
    let leaf = |c: &Record| Leaf::Chunk {
        length: c.plain_bytes,
        id: ChunkId::from_bytes(c.id),
    };
    let top = Node::leaves(chunks.iter().map(leaf).collect()).unwrap();
    let parts = vec![
        batch(chunks[..2].to_vec()),
        batch(chunks[2..].to_vec()),
        batch(vec![node(&top)]),
        finish(5),
    ];
    let receipt = world.put(world.all(fence), 1, parts).await.unwrap();
    assert_eq!(receipt.known_count, 0);
    assert!(receipt.stored_bytes > 2_400_000);
    assert_eq!(world.find(world.all(fence), [1; 32]).await, Ok(vec![true]));
    assert_eq!(world.find(world.all(fence), [9; 32]).await, Ok(vec![false]));

    let (top_id, length) = (tree_id(&top.encode()), top.span());
    let point_id = PointId::mint();
    let manifest = Manifest {
        point: point_id,
        dataset: world.dataset,
        run: world.run,
        vm: VmId {
            vcenter: VcenterId::mint(),
            moref: "vm-1".into(),
        },
        vm_name: "vm".into(),
        vcenter_instance: String::new(),
        taken_at: stillwater_format::Time::default(),
        consistency: Consistency::Crash,
        whole: true,
        disks: vec![Disk {
            key: 2000,
            label: "Hard disk 1".into(),
            backing: None,
            change_id: None,
            root: DiskRoot {
                length,
                cutter: "test".into(),
                top: top_id,
                level: 0,
            },
            effort: Effort::default(),
        }],
        sealed: Vec::new(),
    };
    let manifest = Bytes::from(manifest.encode().unwrap());
    let (run_id, proposal) = (world.run, manifest.clone());
    let request = ProposePointRequest {
        run_id,
        fence,
        manifest: proposal,
    };
    let proposed = world
        .services
        .propose_point(&world.controller, request)
        .await
        .unwrap();
    assert_eq!(proposed.manifest_hash, *blake3::hash(&manifest).as_bytes());
    let request = CommitPointRequest {
        run_id,
        fence,
        point_id,
    };
    let point = world
        .services
        .commit_point(&world.controller, request)
        .await
        .unwrap();
    assert_eq!(point.retain_until, point.committed_at + OPTIONS.retention);
    let got = world
        .services
        .get_point(&world.controller, point_id)
        .await
        .unwrap();
    assert_eq!(
        got,
        GetPointResponse {
            point: point.clone(),
            manifest
        }
    );

    let list = |page_token| ListPointsRequest {
        page_size: 1,
        page_token,
    };
    let page = world
        .services
        .list_points(&world.controller, list(None))
        .await
        .unwrap();
    assert_eq!(page.points, [point]);
    let rest = world
        .services
        .list_points(&world.controller, list(page.next_page_token))
        .await
        .unwrap();
    assert_eq!((rest.points.len(), rest.next_page_token), (0, None));
    let bad = world
        .services
        .list_points(&world.controller, list(Some("x".into())))
        .await;
    assert_eq!(bad.unwrap_err().reason, Reason::BadField);

    let ids: Vec<_> = chunks.iter().rev().map(|chunk| chunk.id).collect();
    let read = world
        .read(world.all(0), RecordType::Chunk, ids)
        .await
        .unwrap();
    let expected: Vec<_> = chunks.iter().rev().cloned().collect();
    assert_eq!(
        read.iter().map(|r| r.record.clone()).collect::<Vec<_>>(),
        expected
    );
    assert!(read.iter().all(|read| read.salt == Some([1; 32])));
    let ids = vec![*top_id.as_bytes()];
    let read = world
        .read(world.all(0), RecordType::Node, ids)
        .await
        .unwrap();
    assert_eq!(
        read,
        [SaltedRecord {
            record: node(&top),
            salt: None
        }]
    );
    let request = CloseSessionRequest { run_id, fence };
    world
        .services
        .close_session(&world.controller, request)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_grant_opens_only_what_it_says_to_whom_it_names() {
    let world = World::new().await;
    let fence = world.session().await.fence;
    let good = world.claims(&[Verb::Find]);
    assert!(
        world
            .find(world.authority(&good, fence), [1; 32])
            .await
            .is_ok()
    );
    let other_run = Claims {
        run: RunId::mint(),
        ..good.clone()
    };
    let other_dataset = Claims {
        dataset: DatasetId::mint(),
        ..good.clone()
    };
    let other_proxy = Claims {
        proxy: NodeId::mint(),
        ..good.clone()
    };
    let other_repository = Claims {
        repository: NodeId::mint(),
        ..good.clone()
    };
    let expired = Claims {
        expires_at: 1,
        ..good.clone()
    };
    let other_verb = world.claims(&[Verb::Put, Verb::Read]);
    let wrong = [
        other_run,
        other_dataset,
        other_proxy,
        other_repository,
        expired,
        other_verb,
    ];
    for claims in wrong {
        let refused = world.find(world.authority(&claims, fence), [1; 32]).await;
        assert_eq!(
            refused.unwrap_err().reason,
            Reason::GrantInvalid,
            "{claims:?}"
        );
    }
    let forged = GrantSigner::generate().unwrap().sign(&good);
    let forged = Authority {
        grant: forged.into(),
        run_id: world.run,
        fence,
    };
    assert_eq!(
        world.find(forged, [1; 32]).await.unwrap_err().reason,
        Reason::GrantInvalid
    );
    let find_only = world.authority(&good, fence);
    let refused = world.put(find_only.clone(), 1, vec![finish(0)]).await;
    assert_eq!(refused.unwrap_err().reason, Reason::GrantInvalid);
    let refused = world
        .read(find_only, RecordType::Chunk, vec![[1; 32]])
        .await;
    assert_eq!(refused.unwrap_err().reason, Reason::GrantInvalid);
}

#[tokio::test]
async fn an_old_fence_is_refused_by_every_call_that_changes_or_promises() {
    let world = World::new().await;
    let old = world.session().await.fence;
    let new = world.session().await.fence;
    assert!(new > old);
    let stale = |outcome: Option<Fault>| {
        assert_eq!(outcome.map(|fault| fault.reason), Some(Reason::FenceStale));
    };
    stale(world.find(world.all(old), [1; 32]).await.err());
    stale(world.put(world.all(old), 1, vec![finish(0)]).await.err());
    let run_id = world.run;
    let renew = RenewSessionRequest { run_id, fence: old };
    stale(
        world
            .services
            .renew_session(&world.controller, renew)
            .await
            .err(),
    );
    let close = CloseSessionRequest { run_id, fence: old };
    stale(
        world
            .services
            .close_session(&world.controller, close)
            .await
            .err(),
    );
    let commit = CommitPointRequest {
        run_id,
        fence: old,
        point_id: PointId::mint(),
    };
    stale(
        world
            .services
            .commit_point(&world.controller, commit)
            .await
            .err(),
    );
    let renew = RenewSessionRequest { run_id, fence: new };
    world
        .services
        .renew_session(&world.controller, renew)
        .await
        .unwrap();
}

#[tokio::test]
async fn nothing_of_a_broken_pack_is_kept() {
    let world = World::new().await;
    let fence = world.session().await.fence;
    let mut flipped = chunk(2, 100);
    flipped.stored_hash[0] ^= 1;
    let gone = Fault::new(Reason::ProxyUnreachable, "gone");
    let cases = [
        (vec![batch(vec![chunk(1, 100)])], Reason::BadField),
        (
            vec![batch(vec![chunk(1, 100)]), finish(2)],
            Reason::BadField,
        ),
        (
            vec![batch(vec![chunk(1, 100)]), Err(gone)],
            Reason::ProxyUnreachable,
        ),
        (
            vec![batch(vec![chunk(1, 100), flipped]), finish(2)],
            Reason::ChunkHashMismatch,
        ),
    ];
    for (parts, reason) in cases {
        let refused = world.put(world.all(fence), 1, parts).await;
        assert_eq!(refused.unwrap_err().reason, reason);
        assert_eq!(world.find(world.all(fence), [1; 32]).await, Ok(vec![false]));
        assert_eq!(world.unfinished(), 0);
    }
    let parts = vec![batch(vec![chunk(1, 100)]), finish(1)];
    world.put(world.all(fence), 1, parts).await.unwrap();
    assert_eq!(world.find(world.all(fence), [1; 32]).await, Ok(vec![true]));
}

#[tokio::test]
async fn a_record_that_is_not_there_ends_the_answer_with_its_name() {
    let world = World::new().await;
    let fence = world.session().await.fence;
    let parts = vec![batch(vec![chunk(1, 100)]), finish(1)];
    world.put(world.all(fence), 1, parts).await.unwrap();
    let ids = vec![[1; 32], [7; 32]];
    let fault = world
        .read(world.all(0), RecordType::Chunk, ids)
        .await
        .unwrap_err();
    assert_eq!(fault.reason, Reason::ChunkNotFound);
    assert!(fault.details["record"].contains("0707"), "{fault:?}");
}

#[tokio::test]
async fn a_repository_that_stops_takes_no_new_work_and_ends_what_was_begun() {
    let world = World::new().await;
    let session = world.session().await;
    world.services.drain.cancel();
    let (run_id, dataset_id) = (RunId::mint(), world.dataset);
    let request = OpenSessionRequest {
        run_id,
        dataset_id,
        expected_bytes: 0,
    };
    let refused = world
        .services
        .open_session(&world.controller, request)
        .await;
    assert_eq!(refused.unwrap_err().reason, Reason::Draining);
    let refused = world
        .put(world.all(session.fence), 1, vec![finish(0)])
        .await;
    assert_eq!(refused.unwrap_err().reason, Reason::Draining);
    assert!(world.find(world.all(session.fence), [1; 32]).await.is_ok());
}

#[tokio::test]
async fn a_dataset_is_created_once_and_listed() {
    let world = World::new().await;
    let same = world
        .services
        .create_dataset(&world.controller, world.dataset())
        .await;
    assert_eq!(same, Ok(world.dataset()));
    let other = Dataset {
        label: "other".into(),
        ..world.dataset()
    };
    let refused = world
        .services
        .create_dataset(&world.controller, other)
        .await;
    assert_eq!(refused.unwrap_err().reason, Reason::BadField);
    let listed = world.services.list_datasets(&world.controller).await;
    assert_eq!(listed, Ok(vec![world.dataset()]));
}

#[tokio::test]
async fn these_are_all_the_metrics() {
    let world = World::new().await;
    let shown = world
        .services
        .get_repository(&world.controller)
        .await
        .unwrap();
    assert_eq!(
        (shown.node_id, shown.format_version),
        (world.services.node, 1)
    );
    let mut registry = Registry::default();
    let engine = world.services.engine.clone();
    let upkept = Upkept::default();
    let measured = upkept.clone();
    let measure = move |store: &Store| Ok(measured.measure(store));
    engine.call(measure).await.unwrap();
    registry.register_collector(Box::new(Board::new(engine, upkept)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let mut names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE stillwater_repository_"))
        .collect();
    names.sort_unstable();
    let expected = [
        "capacity_bytes gauge",
        "chunks gauge",
        "collections counter",
        "collections_blocked counter",
        "collections_braked counter",
        "collections_failed counter",
        "collections_frozen counter",
        "compacted_bytes counter",
        "condemned_bytes counter",
        "log_damaged gauge",
        "nodes gauge",
        "overdue_bytes gauge",
        "packs gauge",
        "packs_damaged gauge",
        "packs_set_aside gauge",
        "packs_unreadable gauge",
        "packs_written counter",
        "points gauge",
        "points_committed counter",
        "points_damaged gauge",
        "points_degraded gauge",
        "read_bytes counter",
        "records_damaged counter",
        "records_lost gauge",
        "records_read counter",
        "removed_bytes counter",
        "scrub_damaged_packs counter",
        "scrub_healed_copies counter",
        "scrub_packs counter",
        "scrub_read_bytes counter",
        "scrub_read_errors counter",
        "scrub_salvaged_records counter",
        "sessions gauge",
        "statements_waiting gauge",
        "stored_bytes gauge",
        "time_frozen gauge",
        "time_lag_seconds gauge",
        "unverified_bytes gauge",
        "upkeep_panics counter",
        "verified_age_seconds gauge",
        "writable gauge",
        "writable_bytes gauge",
        "written_bytes counter",
    ];
    assert_eq!(names, expected);
    stillwater_testkit::metrics::check_documented("repository", &text);
}
