//! The repository as a transfer sees it.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use stillwater_repository_api::{
    Authority, Client, FindRecordsRequest, PackHeader, PackSender, PutPackResponse,
    ReadRecordsRequest, Record, RecordBatch, RecordType, SaltedRecord,
};
use stillwater_rpc::{Identity, Target, connect};
use stillwater_types::{DatasetId, Fault, Role};

/// Finds, stores and reads records of one dataset.
#[async_trait]
pub trait RecordStore: Send + Sync {
    /// Tells which ids are stored; one answer for each, in that order.
    async fn find(&self, kind: RecordType, ids: Vec<[u8; 32]>) -> Result<Vec<bool>, Fault>;

    /// Begins a pack whose chunks are sealed under `salt`.
    fn begin_pack(&self, salt: [u8; 32]) -> Box<dyn PackStream>;

    /// Reads records, answered in the order asked.
    async fn read(
        &self,
        kind: RecordType,
        ids: Vec<[u8; 32]>,
    ) -> Result<BoxStream<'static, Result<Vec<SaltedRecord>, Fault>>, Fault>;
}

/// A pack on its way. Dropped before [`PackStream::finish`] answered, nothing of it counts.
#[async_trait]
pub trait PackStream: Send {
    /// Sends records; waits while the repository is behind.
    async fn send(&mut self, records: Vec<Record>) -> Result<(), Fault>;

    /// Ends the pack and waits until every record of it is durable.
    async fn finish(self: Box<Self>) -> Result<PutPackResponse, Fault>;
}

/// The real one: calls with a grant, for one run.
pub struct Repository {
    client: Client,
    authority: Authority,
    dataset: DatasetId,
}

impl Repository {
    /// Connects as `identity` to where the controller said, and to that node only.
    pub fn connect(
        identity: &Identity,
        store: &stillwater_proxy_api::Store,
    ) -> Result<Self, Fault> {
        let target = Target {
            address: store.address.clone(),
            role: Role::Repository,
            node: Some(store.repository_node_id),
        };
        let authority = Authority {
            grant: store.grant.clone(),
            run_id: store.run_id,
            fence: store.fence,
        };
        let client = Client::new(connect(identity, target)?);
        Ok(Self {
            client,
            authority,
            dataset: store.dataset_id,
        })
    }
}

#[async_trait]
impl RecordStore for Repository {
    async fn find(&self, kind: RecordType, ids: Vec<[u8; 32]>) -> Result<Vec<bool>, Fault> {
        let authority = self.authority.clone();
        let request = FindRecordsRequest {
            authority,
            record_type: kind,
            ids,
        };
        Ok(self.client.find_records(request).await?.found)
    }

    fn begin_pack(&self, salt: [u8; 32]) -> Box<dyn PackStream> {
        let authority = self.authority.clone();
        let header = PackHeader {
            authority,
            dataset_id: self.dataset,
            salt,
        };
        Box::new(self.client.put_pack(header))
    }

    async fn read(
        &self,
        kind: RecordType,
        ids: Vec<[u8; 32]>,
    ) -> Result<BoxStream<'static, Result<Vec<SaltedRecord>, Fault>>, Fault> {
        let authority = self.authority.clone();
        let request = ReadRecordsRequest {
            authority,
            record_type: kind,
            ids,
        };
        let answers = self.client.read_records(request).await?;
        Ok(answers
            .map(|answer| answer.map(|answer| answer.records))
            .boxed())
    }
}

#[async_trait]
impl PackStream for PackSender {
    async fn send(&mut self, records: Vec<Record>) -> Result<(), Fault> {
        PackSender::send(self, RecordBatch { records }).await
    }

    async fn finish(self: Box<Self>) -> Result<PutPackResponse, Fault> {
        PackSender::finish(*self).await
    }
}
