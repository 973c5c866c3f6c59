//! A repository and its client over mutual TLS on the loopback interface.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use stillwater_repository_api::*;
use stillwater_rpc::{
    Ca, ClientCertificates, Identity, Peer, PendingKey, RemovedNodes, Server, Target,
};
use stillwater_types::{ClusterId, DatasetId, Fault, NodeId, PackId, Reason, Role, RunId};
use tokio::net::TcpListener;
use tonic::service::Routes;

/// What a fake repository does with packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Stores,
    RefusesAfterTheHeader,
    RefusesAfterOneBatch,
    Hangs,
}

struct Records {
    mood: Mood,
    kept: Mutex<Option<(NodeId, PackHeader, Vec<Record>)>>,
    broken: Mutex<Option<Fault>>,
}

#[async_trait]
impl RecordService for Records {
    async fn find_records(
        &self,
        _: &Peer,
        request: FindRecordsRequest,
    ) -> Result<FindRecordsResponse, Fault> {
        if self.mood == Mood::Hangs {
            std::future::pending::<()>().await;
        }
        let found = request
            .ids
            .iter()
            .map(|id| id[0].is_multiple_of(2))
            .collect();
        Ok(FindRecordsResponse { found })
    }

    async fn put_pack(
        &self,
        peer: &Peer,
        header: PackHeader,
        mut parts: BoxStream<'static, Result<PackPart, Fault>>,
    ) -> Result<PutPackResponse, Fault> {
        let full = || Fault::new(Reason::RepositoryFull, "no room").with("free", 0);
        if self.mood == Mood::RefusesAfterTheHeader {
            return Err(full());
        }
        let mut records = Vec::new();
        while let Some(part) = parts.next().await {
            match part {
                Ok(PackPart::Batch(batch)) => records.extend(batch.records),
                Ok(PackPart::Finish(finish)) => {
                    assert_eq!(finish.record_count as usize, records.len());
                }
                Err(fault) => {
                    *self.broken.lock().expect("not poisoned") = Some(fault.clone());
                    return Err(fault);
                }
            }
            if self.mood == Mood::RefusesAfterOneBatch {
                return Err(full());
            }
        }
        let stored_bytes = records
            .iter()
            .map(|record| record.stored.len() as u64)
            .sum();
        *self.kept.lock().expect("not poisoned") = Some((peer.node, header, records));
        Ok(PutPackResponse {
            pack_id: PackId::mint(),
            stored_bytes,
            known_count: 0,
        })
    }

    async fn read_records(
        &self,
        _: &Peer,
        request: ReadRecordsRequest,
    ) -> Result<BoxStream<'static, Result<ReadRecordsResponse, Fault>>, Fault> {
        let answer = |id| {
            let record = Record { id, ..record(0, 4) };
            ReadRecordsResponse {
                records: vec![SaltedRecord {
                    record,
                    salt: Some([5; 32]),
                }],
            }
        };
        let answers: Vec<_> = request.ids.into_iter().map(|id| Ok(answer(id))).collect();
        let gone = Err(Fault::new(Reason::ChunkNotFound, "one is gone"));
        Ok(stream::iter(answers).chain(stream::iter([gone])).boxed())
    }
}

fn record(counter: u32, length: usize) -> Record {
    Record {
        record_type: RecordType::Chunk,
        codec: Codec::Raw,
        counter,
        plain_bytes: 1,
        id: [counter as u8; 32],
        stored_hash: [1; 16],
        stored: Bytes::from(vec![counter as u8; length]),
    }
}

struct Site {
    client: Client,
    records: Arc<Records>,
    proxy: NodeId,
}

impl Site {
    async fn start(mood: Mood) -> Self {
        let ca = Ca::create(ClusterId::mint(), SystemTime::now()).expect("an authority");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (kept, broken) = (Mutex::new(None), Mutex::new(None));
        let records = Arc::new(Records { mood, kept, broken });
        let server = Server {
            identity: identity(&ca, Role::Repository),
            client_certificates: ClientCertificates::Required,
            access: &[ACCESS],
            removed: RemovedNodes::default(),
            drain: Duration::ZERO,
        };
        let routes = Routes::new(record_service(records.clone()));
        tokio::spawn(server.serve(listener, routes, std::future::pending()));
        let proxy = identity(&ca, Role::Proxy);
        let target = Target {
            address,
            role: Role::Repository,
            node: None,
        };
        let channel = stillwater_rpc::connect(&proxy, target).expect("a channel");
        Self {
            client: Client::new(channel),
            records,
            proxy: proxy.node(),
        }
    }
}

fn identity(ca: &Ca, role: Role) -> Identity {
    let (key, request) = PendingKey::generate().expect("a key");
    let hour = Duration::from_secs(3600);
    let chain = ca.issue(&request, role, NodeId::mint(), hour, SystemTime::now());
    key.certify(&chain.expect("a certificate"))
        .expect("an identity")
}

fn authority() -> Authority {
    Authority {
        grant: Bytes::from_static(b"grant"),
        run_id: RunId::mint(),
        fence: 7,
    }
}

fn header() -> PackHeader {
    PackHeader {
        authority: authority(),
        dataset_id: DatasetId::mint(),
        salt: [3; 32],
    }
}

fn batch(records: std::ops::Range<u32>, length: usize) -> RecordBatch {
    RecordBatch {
        records: records.map(|counter| record(counter, length)).collect(),
    }
}

#[tokio::test]
async fn a_pack_arrives_whole_and_from_whom_it_came() {
    let site = Site::start(Mood::Stores).await;
    let header = header();
    let mut pack = site.client.put_pack(header.clone());
    // More than any window, so that flow control has its part.
    for first in 0..12 {
        pack.send(batch(first * 3..first * 3 + 3, 1 << 20))
            .await
            .expect("sent");
    }
    let answer = pack.finish().await.expect("durable");
    assert_eq!(answer.stored_bytes, 36 << 20);
    let (node, kept, records) = site
        .records
        .kept
        .lock()
        .expect("not poisoned")
        .take()
        .expect("kept");
    assert_eq!((node, kept), (site.proxy, header));
    assert!(
        records
            == (0..36)
                .map(|counter| record(counter, 1 << 20))
                .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_refusal_reaches_the_sender_and_not_as_a_broken_stream() {
    for mood in [Mood::RefusesAfterTheHeader, Mood::RefusesAfterOneBatch] {
        let site = Site::start(mood).await;
        let mut pack = site.client.put_pack(header());
        let fault = loop {
            if let Err(fault) = pack.send(batch(0..3, 1 << 20)).await {
                break fault;
            }
        };
        assert_eq!(
            fault,
            Fault::new(Reason::RepositoryFull, "no room").with("free", 0)
        );
    }
}

#[tokio::test]
async fn a_pack_whose_sender_gives_up_is_no_pack() {
    let site = Site::start(Mood::Stores).await;
    let mut pack = site.client.put_pack(header());
    pack.send(batch(0..3, 10)).await.expect("sent");
    // The batch has arrived when a second call was answered.
    let ids = vec![[0; 32]];
    let find = FindRecordsRequest {
        authority: authority(),
        record_type: RecordType::Chunk,
        ids,
    };
    site.client.find_records(find.clone()).await.expect("found");
    drop(pack);
    while site.records.broken.lock().expect("not poisoned").is_none() {
        site.client.find_records(find.clone()).await.expect("found");
    }
    assert!(site.records.kept.lock().expect("not poisoned").is_none());
}

#[tokio::test]
async fn answers_come_in_the_order_asked_and_a_fault_ends_them() {
    let site = Site::start(Mood::Stores).await;
    let ids = vec![[9; 32], [1; 32], [4; 32]];
    let (authority, record_type) = (authority(), RecordType::Chunk);
    let find = FindRecordsRequest {
        authority: authority.clone(),
        record_type,
        ids: ids.clone(),
    };
    let found = site.client.find_records(find).await.expect("found").found;
    assert_eq!(found, [false, false, true]);
    let read = ReadRecordsRequest {
        authority,
        record_type,
        ids: ids.clone(),
    };
    let answers: Vec<_> = site
        .client
        .read_records(read)
        .await
        .expect("read")
        .collect()
        .await;
    let (last, answers) = answers.split_last().expect("answers");
    let read: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().expect("records").records[0].record.id)
        .collect();
    assert_eq!(read, ids);
    assert_eq!(last, &Err(Fault::new(Reason::ChunkNotFound, "one is gone")));
}

#[tokio::test]
async fn more_ids_than_allowed_are_refused_by_name() {
    let site = Site::start(Mood::Stores).await;
    let ids = vec![[0; 32]; FIND_IDS_MAX + 1];
    let find = FindRecordsRequest {
        authority: authority(),
        record_type: RecordType::Node,
        ids,
    };
    let fault = site.client.find_records(find).await.expect_err("refused");
    assert_eq!(fault.reason, Reason::BadField);
    assert_eq!(fault.details.get("field").map(String::as_str), Some("ids"));
}

#[tokio::test]
async fn a_silent_repository_is_a_deadline_and_an_absent_one_is_unreachable() {
    let site = Site::start(Mood::Hangs).await;
    let find = FindRecordsRequest {
        authority: authority(),
        record_type: RecordType::Node,
        ids: vec![[0; 32]],
    };
    let hasty = site
        .client
        .clone()
        .with_deadline(Duration::from_millis(200));
    assert_eq!(
        hasty
            .find_records(find.clone())
            .await
            .expect_err("late")
            .reason,
        Reason::Deadline
    );

    let ca = Ca::create(ClusterId::mint(), SystemTime::now()).expect("an authority");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let target = Target {
        address,
        role: Role::Repository,
        node: None,
    };
    let channel = stillwater_rpc::connect(&identity(&ca, Role::Proxy), target).expect("a channel");
    let fault = Client::new(channel)
        .find_records(find)
        .await
        .expect_err("absent");
    assert_eq!(fault.reason, Reason::RepositoryUnreachable, "{fault}");
}
