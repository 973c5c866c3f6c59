//! Proxies and repositories over the network.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use stillwater_proxy_api as proxy_api;
use stillwater_repository_api as repository_api;
use stillwater_rpc::{Identity, Target, connect};
use stillwater_types::{ExportId, Fault, NodeId, PointId, Role, TransferId};
use tonic::transport::Channel;

use super::outside::{Proxies, Repositories};
use crate::node::Directory;

/// Calls the members of the cluster. One channel for each node and address, kept while it is used:
/// connecting costs a TLS handshake on both sides.
pub struct Peers {
    identity: Identity,
    nodes: Directory,
    channels: Mutex<HashMap<NodeId, (String, Channel)>>,
}

impl Peers {
    /// Calls as `identity` whom `nodes` knows.
    pub fn new(identity: Identity, nodes: Directory) -> Self {
        Self {
            identity,
            nodes,
            channels: Mutex::default(),
        }
    }

    fn proxy(&self, node: NodeId) -> Result<proxy_api::Client, Fault> {
        self.channel(node, Role::Proxy).map(proxy_api::Client::new)
    }

    pub(crate) fn repository(&self, node: NodeId) -> Result<repository_api::Client, Fault> {
        self.channel(node, Role::Repository)
            .map(repository_api::Client::new)
    }

    fn channel(&self, node: NodeId, role: Role) -> Result<Channel, Fault> {
        let address = self.nodes.member(node)?.address;
        // Every change is one insert, so a panic elsewhere leaves nothing half done.
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        match channels.get(&node) {
            Some((known, channel)) if *known == address => Ok(channel.clone()),
            _ => {
                let target = Target {
                    address: address.clone(),
                    role,
                    node: Some(node),
                };
                let channel = connect(&self.identity, target)?;
                channels.insert(node, (address, channel.clone()));
                Ok(channel)
            }
        }
    }
}

#[async_trait]
impl Proxies for Peers {
    async fn start_transfer(
        &self,
        proxy: NodeId,
        request: proxy_api::StartTransferRequest,
    ) -> Result<proxy_api::Transfer, Fault> {
        self.proxy(proxy)?.start_transfer(request).await
    }

    async fn watch_transfer(
        &self,
        proxy: NodeId,
        transfer: TransferId,
    ) -> Result<BoxStream<'static, Result<proxy_api::Transfer, Fault>>, Fault> {
        self.proxy(proxy)?.watch_transfer(transfer).await
    }

    async fn cancel_transfer(&self, proxy: NodeId, transfer: TransferId) -> Result<(), Fault> {
        self.proxy(proxy)?
            .cancel_transfer(transfer)
            .await
            .map(|_| ())
    }

    async fn probe_disk(
        &self,
        proxy: NodeId,
        request: proxy_api::ProbeDiskRequest,
    ) -> Result<proxy_api::ProbeDiskResponse, Fault> {
        self.proxy(proxy)?.probe_disk(request).await
    }

    async fn open_export(
        &self,
        proxy: NodeId,
        request: proxy_api::OpenExportRequest,
    ) -> Result<proxy_api::OpenExportResponse, Fault> {
        self.proxy(proxy)?.open_export(request).await
    }

    async fn close_export(&self, proxy: NodeId, export: ExportId) -> Result<bool, Fault> {
        self.proxy(proxy)?
            .close_export(export)
            .await
            .map(|answer| answer.completed)
    }
}

#[async_trait]
impl Repositories for Peers {
    async fn create_dataset(
        &self,
        repository: NodeId,
        dataset: repository_api::Dataset,
    ) -> Result<(), Fault> {
        self.repository(repository)?
            .create_dataset(dataset)
            .await
            .map(|_| ())
    }

    async fn open_session(
        &self,
        repository: NodeId,
        request: repository_api::OpenSessionRequest,
    ) -> Result<repository_api::Session, Fault> {
        self.repository(repository)?.open_session(request).await
    }

    async fn renew_session(
        &self,
        repository: NodeId,
        request: repository_api::RenewSessionRequest,
    ) -> Result<repository_api::Session, Fault> {
        self.repository(repository)?.renew_session(request).await
    }

    async fn close_session(
        &self,
        repository: NodeId,
        request: repository_api::CloseSessionRequest,
    ) -> Result<(), Fault> {
        self.repository(repository)?.close_session(request).await
    }

    async fn propose_point(
        &self,
        repository: NodeId,
        request: repository_api::ProposePointRequest,
    ) -> Result<(), Fault> {
        self.repository(repository)?
            .propose_point(request)
            .await
            .map(|_| ())
    }

    async fn commit_point(
        &self,
        repository: NodeId,
        request: repository_api::CommitPointRequest,
    ) -> Result<repository_api::Point, Fault> {
        self.repository(repository)?.commit_point(request).await
    }

    async fn list_points(
        &self,
        repository: NodeId,
        page_token: Option<String>,
    ) -> Result<repository_api::ListPointsResponse, Fault> {
        let page_size = repository_api::PAGE_SIZE_MAX;
        let request = repository_api::ListPointsRequest {
            page_size,
            page_token,
        };
        self.repository(repository)?.list_points(request).await
    }

    async fn get_point(
        &self,
        repository: NodeId,
        point: PointId,
    ) -> Result<repository_api::GetPointResponse, Fault> {
        self.repository(repository)?.get_point(point).await
    }
}
