//! The controller's services: convert, call, convert.

use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_controller_api as api;
use stillwater_rpc::Peer;
use stillwater_types::{Fault, NodeId, Role};

use crate::node::{self, actor};
use crate::preflight;
use crate::vcenter;

#[async_trait]
impl api::NodeService for node::Registry {
    async fn join_cluster(
        &self,
        remote: Option<SocketAddr>,
        request: api::JoinClusterRequest,
    ) -> Result<api::JoinClusterResponse, Fault> {
        self.join(remote, request).await
    }

    async fn renew_certificate(
        &self,
        peer: &Peer,
        certificate_request: Bytes,
    ) -> Result<api::RenewCertificateResponse, Fault> {
        let certificate_chain = self.renew(peer, &certificate_request).await?;
        Ok(api::RenewCertificateResponse { certificate_chain })
    }

    async fn send_heartbeat(
        &self,
        peer: &Peer,
        request: api::SendHeartbeatRequest,
    ) -> Result<api::SendHeartbeatResponse, Fault> {
        let interval_seconds = self.heartbeat(peer, request).await?;
        Ok(api::SendHeartbeatResponse { interval_seconds })
    }

    async fn list_nodes(&self, _peer: &Peer) -> Result<Vec<api::Node>, Fault> {
        Ok(self.list())
    }

    async fn remove_node(&self, peer: &Peer, node_id: NodeId) -> Result<(), Fault> {
        self.remove(actor(peer), node_id).await
    }

    async fn drain_proxy(&self, peer: &Peer, node_id: NodeId) -> Result<(), Fault> {
        self.drain(actor(peer), node_id).await
    }

    async fn undrain_proxy(&self, peer: &Peer, node_id: NodeId) -> Result<(), Fault> {
        self.undrain(actor(peer), node_id).await
    }
}

#[async_trait]
impl api::TokenService for node::Registry {
    async fn create_token(
        &self,
        peer: &Peer,
        role: Role,
    ) -> Result<api::CreateTokenResponse, Fault> {
        node::Registry::create_token(self, actor(peer), role).await
    }
}

#[async_trait]
impl api::VcenterService for vcenter::Registry {
    async fn add_vcenter(
        &self,
        peer: &Peer,
        request: api::AddVcenterRequest,
    ) -> Result<api::Vcenter, Fault> {
        self.add(actor(peer), request).await
    }

    async fn list_vcenters(&self, _peer: &Peer) -> Result<Vec<api::Vcenter>, Fault> {
        Ok(self.list())
    }

    async fn test_vcenter(
        &self,
        _peer: &Peer,
        vcenter: String,
    ) -> Result<api::TestVcenterResponse, Fault> {
        self.test(&vcenter).await
    }

    async fn remove_vcenter(&self, peer: &Peer, vcenter: String) -> Result<(), Fault> {
        self.remove(actor(peer), &vcenter).await
    }

    async fn probe_vcenter(
        &self,
        _peer: &Peer,
        address: String,
    ) -> Result<api::ProbeVcenterResponse, Fault> {
        self.probe(&address).await
    }
}

#[async_trait]
impl api::VmService for preflight::Service {
    async fn list_vms(
        &self,
        _peer: &Peer,
        vcenter: Option<String>,
    ) -> Result<Vec<api::VmSummary>, Fault> {
        self.inventory().list(vcenter.as_deref()).await
    }

    async fn get_vm(&self, _peer: &Peer, vm: String) -> Result<api::Vm, Fault> {
        self.inventory().show(&vm).await
    }

    async fn preflight_vm(
        &self,
        _peer: &Peer,
        request: api::PreflightVmRequest,
    ) -> Result<api::PreflightVmResponse, Fault> {
        self.preflight(request).await
    }
}
