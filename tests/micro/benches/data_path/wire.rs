//! A pack on its way from a proxy to a repository: real TLS 1.3 with both certificates, on loopback. What is
//! counted is both ends; the receiving one drops what it gets.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use criterion::{Criterion, Throughput};
use futures::StreamExt;
use futures::stream::BoxStream;
use stillwater_format::pack::stored_hash;
use stillwater_repository_api::{
    ACCESS, Authority, Client, Codec, FindRecordsRequest, FindRecordsResponse, PackHeader,
    PackPart, PutPackResponse, ReadRecordsRequest, ReadRecordsResponse, Record, RecordBatch,
    RecordService, RecordType, record_service,
};
use stillwater_rpc::{Ca, ClientCertificates, Peer, RemovedNodes, Server, Target, connect};
use stillwater_testkit::identity;
use stillwater_types::{ClusterId, DatasetId, Fault, PackId, Reason, Role, RunId};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::chunk::encoded;
use crate::content::Content;
use crate::cpu::CpuTime;

/// Stored bytes of one message, about.
const BATCH_BYTES: usize = 1 << 20;

pub fn bench(criterion: &mut Criterion<CpuTime>, content: &Content) {
    let batches = batches(content);
    let bytes = batches.iter().flat_map(|batch| &batch.records);
    let bytes: usize = bytes.map(|record| record.stored.len()).sum();
    let runtime = Runtime::new().expect("threads");
    let client = runtime.block_on(serve());
    let mut group = criterion.benchmark_group("grpc with mutual tls");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("a pack", |bench| {
        bench.iter(|| runtime.block_on(send(&client, &batches)));
    });
    group.finish();
}

async fn send(client: &Client, batches: &[RecordBatch]) {
    let mut pack = client.put_pack(PackHeader {
        authority: Authority {
            grant: Bytes::from_static(b"grant"),
            run_id: RunId::mint(),
            fence: 1,
        },
        dataset_id: DatasetId::from_bytes([0xda; 16]),
        salt: [7; 32],
    });
    for batch in batches {
        pack.send(batch.clone()).await.expect("a taken batch");
    }
    pack.finish().await.expect("a taken pack");
}

fn batches(content: &Content) -> Vec<RecordBatch> {
    let mut batches = vec![RecordBatch::default()];
    let mut room = BATCH_BYTES;
    for (counter, chunk) in (0..).zip(encoded(content)) {
        if chunk.text.len() > room {
            batches.push(RecordBatch::default());
            room = BATCH_BYTES;
        }
        room = room.saturating_sub(chunk.text.len());
        let record = Record {
            record_type: RecordType::Chunk,
            codec: Codec::Zstd,
            counter,
            plain_bytes: chunk.plain_len,
            id: *chunk.id.as_bytes(),
            stored_hash: stored_hash(&chunk.text),
            stored: chunk.text.into(),
        };
        if let Some(batch) = batches.last_mut() {
            batch.records.push(record);
        }
    }
    batches
}

/// A repository that drops what it gets, and a proxy's client of it.
async fn serve() -> Client {
    let ca = Ca::create(ClusterId::mint(), SystemTime::now()).expect("an authority");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let server = Server {
        identity: identity(&ca, Role::Repository),
        client_certificates: ClientCertificates::Required,
        access: &[ACCESS],
        removed: RemovedNodes::default(),
        drain: Duration::from_millis(100),
    };
    let routes = Routes::new(record_service(Arc::new(Void)));
    let never = CancellationToken::new();
    tokio::spawn(server.serve(listener, routes, never.cancelled_owned()));
    let target = Target {
        address,
        role: Role::Repository,
        node: None,
    };
    Client::new(connect(&identity(&ca, Role::Proxy), target).expect("a channel"))
}

struct Void;

#[async_trait]
impl RecordService for Void {
    async fn find_records(
        &self,
        _: &Peer,
        _: FindRecordsRequest,
    ) -> Result<FindRecordsResponse, Fault> {
        Err(no("finds"))
    }

    async fn put_pack(
        &self,
        _: &Peer,
        _: PackHeader,
        mut parts: BoxStream<'static, Result<PackPart, Fault>>,
    ) -> Result<PutPackResponse, Fault> {
        let mut stored_bytes = 0;
        while let Some(part) = parts.next().await {
            if let PackPart::Batch(batch) = part? {
                let stored = batch
                    .records
                    .iter()
                    .map(|record| record.stored.len() as u64);
                stored_bytes += stored.sum::<u64>();
            }
        }
        Ok(PutPackResponse {
            pack_id: PackId::mint(),
            stored_bytes,
            known_count: 0,
        })
    }

    async fn read_records(
        &self,
        _: &Peer,
        _: ReadRecordsRequest,
    ) -> Result<BoxStream<'static, Result<ReadRecordsResponse, Fault>>, Fault> {
        Err(no("reads"))
    }
}

fn no(what: &str) -> Fault {
    Fault::new(Reason::NotSupported, format!("it never {what}"))
}
