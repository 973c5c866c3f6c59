use std::fmt::Debug;

use jiff::Timestamp;
use proptest::prelude::*;
use prost::Message;
use stillwater_types::{DatasetId, Fault, NodeId, PackId, Reason, RunId, TaskId};

use super::*;

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

    fn text(&mut self) -> String {
        self.pick(&["web", "Größe", "a b", "x"]).to_owned()
    }

    fn maybe<T>(&mut self, fill: impl Fn(&mut Self) -> T) -> Option<T> {
        self.u64().is_multiple_of(2).then(|| fill(self))
    }

    fn list<T>(&mut self, fill: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.u64() % 4).map(|_| fill(self)).collect()
    }

    fn time(&mut self) -> Timestamp {
        let second = (self.u64() % 8_000_000_000) as i64 - 4_000_000_000;
        Timestamp::new(second, 0).expect("in range")
    }

    fn run(&mut self) -> RunId {
        RunId::from_bytes(self.hash())
    }

    fn dataset_id(&mut self) -> DatasetId {
        DatasetId::from_bytes(self.hash())
    }

    fn point_id(&mut self) -> PointId {
        PointId::from_bytes(self.hash())
    }

    fn dataset(&mut self) -> Dataset {
        Dataset {
            dataset_id: self.dataset_id(),
            label: self.text(),
            wrapped_key: self.bytes(),
        }
    }

    fn authority(&mut self) -> Authority {
        Authority {
            grant: self.bytes(),
            run_id: self.run(),
            fence: self.u64(),
        }
    }

    fn record(&mut self) -> Record {
        let record_type = self.pick(&[RecordType::Chunk, RecordType::Node]);
        Record {
            record_type,
            codec: self.pick(&[Codec::Raw, Codec::Zstd]),
            counter: if record_type == RecordType::Chunk {
                self.u32()
            } else {
                0
            },
            plain_bytes: self.u32(),
            id: self.hash(),
            stored_hash: self.hash(),
            stored: self.bytes(),
        }
    }

    fn salted(&mut self) -> SaltedRecord {
        let record = self.record();
        let salt = (record.record_type == RecordType::Chunk).then(|| self.hash());
        SaltedRecord { record, salt }
    }

    fn header(&mut self) -> PackHeader {
        PackHeader {
            authority: self.authority(),
            dataset_id: self.dataset_id(),
            salt: self.hash(),
        }
    }

    fn session(&mut self) -> Session {
        Session {
            run_id: self.run(),
            dataset_id: self.dataset_id(),
            fence: self.u64(),
            expires_at: self.time(),
        }
    }

    fn point(&mut self) -> Point {
        Point {
            point_id: self.point_id(),
            dataset_id: self.dataset_id(),
            run_id: self.run(),
            sequence: self.u64(),
            committed_at: self.time(),
            retain_until: self.time(),
            manifest_hash: self.hash(),
        }
    }

    fn health(&mut self) -> Health {
        Health {
            verified_since: self.maybe(Gen::time),
            overdue_bytes: self.u64(),
            damaged_pack_count: self.u64(),
            lost_record_count: self.u64(),
            degraded_point_ids: self.list(Gen::point_id),
            degraded_point_count: self.u64(),
            condemned_bytes: self.u64(),
            quarantined_bytes: self.u64(),
            collected_at: self.maybe(Gen::time),
            held: self.text(),
        }
    }

    fn task_id(&mut self) -> TaskId {
        TaskId::from_bytes(self.hash())
    }

    fn task_kind(&mut self) -> TaskKind {
        self.pick(&[TaskKind::Scrub, TaskKind::Collect, TaskKind::Verify])
    }

    fn task(&mut self) -> Task {
        let states = [
            TaskState::Running,
            TaskState::Succeeded,
            TaskState::Failed,
            TaskState::Cancelled,
        ];
        Task {
            task_id: self.task_id(),
            kind: self.task_kind(),
            point_id: self.maybe(Gen::point_id),
            state: self.pick(&states),
            phase: self.text(),
            done: self.u64(),
            total: self.u64(),
            unit: self.text(),
            started_at: self.time(),
            ended_at: self.maybe(Gen::time),
            result: self.maybe(Gen::task_result),
            fault: self.maybe(|g| Fault::new(Reason::StorageFailed, g.text()).with("a", "b")),
        }
    }

    fn task_result(&mut self) -> TaskResult {
        match self.task_kind() {
            TaskKind::Scrub => TaskResult::Scrub(ScrubResult {
                pack_count: self.u64(),
                read_bytes: self.u64(),
                damaged_pack_count: self.u64(),
                lost_record_count: self.u64(),
                salvaged_record_count: self.u64(),
            }),
            TaskKind::Collect => TaskResult::Collect(CollectResult {
                live_bytes: self.u64(),
                stored_bytes: self.u64(),
                condemned_pack_count: self.u64(),
                condemned_bytes: self.u64(),
                spared_pack_count: self.u64(),
                quarantined_pack_count: self.u64(),
                removed_pack_count: self.u64(),
                removed_bytes: self.u64(),
                compacted_bytes: self.u64(),
                held: self.text(),
                held_bytes: self.u64(),
            }),
            TaskKind::Verify => TaskResult::Verify(VerifyResult {
                whole: self.pick(&[true, false]),
                read_bytes: self.u64(),
                extents: self.list(|g| DamagedExtent {
                    disk_key: g.u32() as i32,
                    offset_bytes: g.u64(),
                    length_bytes: g.u64(),
                }),
                damaged_extent_count: self.u64(),
                damaged_bytes: self.u64(),
            }),
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

proptest! {
    #[test]
    fn what_is_sent_is_what_arrives(seed: u64) {
        let g = &mut Gen(seed);
        check::<pb::GetRepositoryRequest, _>(());
        check::<pb::ListDatasetsRequest, _>(());
        check::<pb::CloseSessionResponse, _>(());
        check::<pb::GetRepositoryResponse, _>(Repository {
            node_id: NodeId::from_bytes(g.hash()),
            writable_bytes: g.u64(),
            capacity_bytes: g.u64(),
            stored_bytes: g.u64(),
            chunk_count: g.u64(),
            point_count: g.u64(),
            format_version: g.u32(),
            health: g.health(),
        });
        check::<pb::CreateDatasetRequest, _>(g.dataset());
        check::<pb::CreateDatasetResponse, _>(g.dataset());
        check::<pb::ListDatasetsResponse, _>(g.list(Gen::dataset));
        check::<pb::OpenSessionRequest, _>(OpenSessionRequest {
            run_id: g.run(),
            dataset_id: g.dataset_id(),
            expected_bytes: g.u64(),
        });
        check::<pb::OpenSessionResponse, _>(g.session());
        check::<pb::RenewSessionRequest, _>(RenewSessionRequest { run_id: g.run(), fence: g.u64() });
        check::<pb::RenewSessionResponse, _>(g.session());
        check::<pb::CloseSessionRequest, _>(CloseSessionRequest { run_id: g.run(), fence: g.u64() });
        check::<pb::FindRecordsRequest, _>(FindRecordsRequest {
            authority: g.authority(),
            record_type: g.pick(&[RecordType::Chunk, RecordType::Node]),
            ids: g.list(Gen::hash),
        });
        check::<pb::FindRecordsResponse, _>(FindRecordsResponse {
            found: g.list(|g| g.pick(&[true, false])),
        });
        check::<pb::PutPackRequest, _>(g.header());
        check::<pb::PutPackRequest, _>(PackPart::Batch(RecordBatch { records: g.list(Gen::record) }));
        check::<pb::PutPackRequest, _>(PackPart::Finish(PackFinish { record_count: g.u32() }));
        check::<pb::PutPackResponse, _>(PutPackResponse {
            pack_id: PackId::from_bytes(g.hash()),
            stored_bytes: g.u64(),
            known_count: g.u32(),
        });
        check::<pb::ReadRecordsRequest, _>(ReadRecordsRequest {
            authority: g.authority(),
            record_type: g.pick(&[RecordType::Chunk, RecordType::Node]),
            ids: g.list(Gen::hash),
        });
        check::<pb::ReadRecordsResponse, _>(ReadRecordsResponse { records: g.list(Gen::salted) });
        check::<pb::ProposePointRequest, _>(ProposePointRequest {
            run_id: g.run(),
            fence: g.u64(),
            manifest: g.bytes(),
        });
        check::<pb::ProposePointResponse, _>(ProposePointResponse {
            manifest_hash: g.hash(),
            walked_count: g.u64(),
        });
        check::<pb::CommitPointRequest, _>(CommitPointRequest {
            run_id: g.run(),
            fence: g.u64(),
            point_id: g.point_id(),
        });
        check::<pb::CommitPointResponse, _>(g.point());
        check::<pb::ListPointsRequest, _>(ListPointsRequest {
            page_size: 1 + g.u32() % PAGE_SIZE_MAX,
            page_token: g.maybe(Gen::text),
        });
        check::<pb::ListPointsResponse, _>(ListPointsResponse {
            points: g.list(Gen::point),
            next_page_token: g.maybe(Gen::text),
        });
        check::<pb::GetPointRequest, _>(g.point_id());
        check::<pb::GetPointResponse, _>(GetPointResponse { point: g.point(), manifest: g.bytes() });
        check::<pb::LockPointRequest, _>(LockPointRequest { point_id: g.point_id(), until: g.time() });
        check::<pb::LockPointResponse, _>(g.point());
        check::<pb::DeletePointRequest, _>(g.point_id());
        check::<pb::DeletePointResponse, _>(());
    }

    #[test]
    fn what_is_said_of_upkeep_is_what_arrives(seed: u64) {
        let g = &mut Gen(seed);
        check::<pb::StartTaskRequest, _>(StartTaskRequest {
            task_id: g.task_id(),
            kind: g.task_kind(),
            point_id: g.maybe(Gen::point_id),
            all: g.pick(&[true, false]),
        });
        check::<pb::StartTaskResponse, _>(g.task());
        check::<pb::GetTaskRequest, _>(g.task_id());
        check::<pb::GetTaskResponse, _>(g.task());
        check::<pb::WatchTaskRequest, _>(g.task_id());
        check::<pb::WatchTaskResponse, _>(g.task());
        check::<pb::CancelTaskRequest, _>(g.task_id());
        check::<pb::CancelTaskResponse, _>(g.task());
        check::<pb::GetRetentionRequest, _>(());
        check::<pb::GetRetentionResponse, _>(g.retention());
        check::<pb::SubmitStatementRequest, _>(SubmitStatementRequest {
            statement: g.bytes(),
            key: g.hash(),
            signature: g.hash(),
        });
        check::<pb::SubmitStatementResponse, _>(SubmitStatementResponse {
            state: g.pick(&[StatementState::Waiting, StatementState::Done, StatementState::Vetoed]),
            waiting: g.maybe(Gen::waiting),
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
    assert_eq!(
        fault.details.get("field").map(String::as_str),
        Some(field),
        "{fault}"
    );
}

#[test]
fn a_wrong_field_is_refused_by_name() {
    let g = &mut Gen(7);
    let request = |g: &mut Gen| FindRecordsRequest {
        authority: g.authority(),
        record_type: RecordType::Chunk,
        ids: vec![g.hash()],
    };
    refuses::<pb::FindRecordsRequest, _>(request(g), "authority", |m| m.authority = None);
    refuses::<pb::FindRecordsRequest, _>(request(g), "authority.grant", |m| {
        m.authority.as_mut().expect("set").grant = Bytes::new();
    });
    refuses::<pb::FindRecordsRequest, _>(request(g), "authority.grant", |m| {
        m.authority.as_mut().expect("set").grant = vec![0; GRANT_BYTES_MAX + 1].into();
    });
    refuses::<pb::FindRecordsRequest, _>(request(g), "authority.run_id", |m| {
        m.authority.as_mut().expect("set").run_id = "run".into();
    });
    refuses::<pb::FindRecordsRequest, _>(request(g), "type", |m| m.r#type = 0);
    refuses::<pb::FindRecordsRequest, _>(request(g), "type", |m| m.r#type = 99);
    refuses::<pb::FindRecordsRequest, _>(request(g), "ids", |m| m.ids = vec![0; 33].into());
    refuses::<pb::FindRecordsRequest, _>(request(g), "ids", |m| {
        m.ids = vec![0; 32 * (FIND_IDS_MAX + 1)].into();
    });
    refuses::<pb::FindRecordsResponse, _>(
        FindRecordsResponse { found: vec![true] },
        "found",
        |m| m.found = vec![1, 2].into(),
    );
    let header = g.header();
    refuses::<pb::PutPackRequest, _>(header.clone(), "part", |m| m.part = None);
    refuses::<pb::PutPackRequest, _>(header.clone(), "part", |m| {
        *m = PackPart::Finish(PackFinish { record_count: 0 }).into();
    });
    refuses::<pb::PutPackRequest, _>(PackPart::Batch(RecordBatch::default()), "part", |m| {
        *m = header.clone().into();
    });
    let node = SaltedRecord {
        record: Record {
            record_type: RecordType::Node,
            counter: 0,
            ..g.record()
        },
        salt: None,
    };
    let chunk = SaltedRecord {
        record: Record {
            record_type: RecordType::Chunk,
            ..g.record()
        },
        salt: Some(g.hash()),
    };
    refuses::<pb::SaltedRecord, _>(node.clone(), "salt", |m| m.salt = vec![0; 32].into());
    refuses::<pb::SaltedRecord, _>(chunk.clone(), "salt", |m| m.salt = Bytes::new());
    refuses::<pb::Record, _>(node.record.clone(), "counter", |m| m.counter = 1);
    refuses::<pb::Record, _>(chunk.record.clone(), "codec", |m| m.codec = 0);
    refuses::<pb::Record, _>(chunk.record.clone(), "id", |m| m.id = vec![0; 31].into());
    refuses::<pb::Record, _>(chunk.record.clone(), "stored_hash", |m| {
        m.stored_hash = Bytes::new()
    });
    refuses::<pb::Record, _>(chunk.record, "stored", |m| m.stored = Bytes::new());
    refuses::<pb::Dataset, _>(g.dataset(), "wrapped_key", |m| {
        m.wrapped_key = vec![0; WRAPPED_KEY_BYTES_MAX + 1].into();
    });
    refuses::<pb::ListDatasetsResponse, _>(vec![g.dataset()], "datasets.dataset_id", |m| {
        m.datasets[0].dataset_id.clear();
    });
    refuses::<pb::Session, _>(g.session(), "expires_at", |m| m.expires_at = None);
    refuses::<pb::ProposePointRequest, _>(
        ProposePointRequest {
            run_id: g.run(),
            fence: 1,
            manifest: g.bytes(),
        },
        "manifest",
        |m| m.manifest = vec![0; MANIFEST_BYTES_MAX + 1].into(),
    );
    refuses::<pb::GetPointResponse, _>(
        GetPointResponse {
            point: g.point(),
            manifest: g.bytes(),
        },
        "point.manifest_hash",
        |m| m.point.as_mut().expect("set").manifest_hash = Bytes::new(),
    );
}

#[test]
fn a_page_is_never_empty_and_never_too_long() {
    let size = |page_size| {
        let message = pb::ListPointsRequest {
            page_size,
            page_token: String::new(),
        };
        ListPointsRequest::try_from(message).map(|request| request.page_size)
    };
    assert_eq!(
        [0, 1, 5000].map(size),
        [Ok(PAGE_SIZE_MAX), Ok(1), Ok(PAGE_SIZE_MAX)]
    );
}
