//! Nodes and join tokens.

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use stillwater_types::{NodeId, Role};
use stillwater_wire::{FieldError, Word, alike, empty, field, words, wraps};

use crate::model::*;
use crate::pb;

words! { pb: NodeState { Online, Offline, Removed } }

alike! { pb:
    NodeLoad { transfer_slots, transfer_count, writable_bytes, capacity_bytes, stored_bytes }
    SendHeartbeatResponse { interval_seconds }
    ProxyReach { vm_uuids, datastores, nbd }
}

empty! { pb: ListNodesRequest RemoveNodeResponse DrainProxyResponse UndrainProxyResponse }

wraps! { pb:
    messages ListNodesResponse.nodes: Vec<Node>;
    id RemoveNodeRequest.node_id: NodeId;
    id DrainProxyRequest.node_id: NodeId;
    id UndrainProxyRequest.node_id: NodeId;
}

/// Not [`Word`]: the role is a word of all crates.
fn role_number(role: Role) -> i32 {
    let role = match role {
        Role::Controller => pb::Role::Controller,
        Role::Proxy => pb::Role::Proxy,
        Role::Repository => pb::Role::Repository,
        Role::Admin => pb::Role::Admin,
    };
    role as i32
}

fn role(number: i32) -> Result<Role, FieldError> {
    let unknown = || FieldError::new("role", format_args!("has no meaning for {number}"));
    match pb::Role::try_from(number).map_err(|_| unknown())? {
        pb::Role::Unspecified => Err(unknown()),
        pb::Role::Controller => Ok(Role::Controller),
        pb::Role::Proxy => Ok(Role::Proxy),
        pb::Role::Repository => Ok(Role::Repository),
        pb::Role::Admin => Ok(Role::Admin),
    }
}

impl From<Node> for pb::Node {
    fn from(domain: Node) -> Self {
        let Node {
            node_id,
            role,
            name,
            address,
            state,
            joined_at,
            seen_at,
            certificate_expires_at,
            version,
            load,
            reach,
            draining_since,
        } = domain;
        Self {
            node_id: node_id.to_string(),
            role: role_number(role),
            name,
            address: address.unwrap_or_default(),
            state: state.number(),
            joined_at: Some(field::moment(joined_at)),
            seen_at: seen_at.map(field::moment),
            certificate_expires_at: Some(field::moment(certificate_expires_at)),
            version: version.unwrap_or_default(),
            load: load.map(Into::into),
            reach: reach.map(Into::into),
            draining_since: draining_since.map(field::moment),
        }
    }
}

impl TryFrom<pb::Node> for Node {
    type Error = FieldError;

    fn try_from(message: pb::Node) -> Result<Self, FieldError> {
        let pb::Node {
            node_id,
            role: role_number,
            name,
            address,
            state,
            joined_at,
            seen_at,
            certificate_expires_at,
            version,
            load,
            reach,
            draining_since,
        } = message;
        Ok(Self {
            node_id: field::id("node_id", &node_id)?,
            role: role(role_number)?,
            name: field::text("name", name)?,
            address: field::maybe_text(address),
            state: field::word("state", state)?,
            joined_at: field::time("joined_at", joined_at)?,
            seen_at: field::maybe_time("seen_at", seen_at)?,
            certificate_expires_at: field::time("certificate_expires_at", certificate_expires_at)?,
            version: field::maybe_text(version),
            load: field::maybe_message("load", load)?,
            reach: field::maybe_message("reach", reach)?,
            draining_since: field::maybe_time("draining_since", draining_since)?,
        })
    }
}

impl From<JoinClusterRequest> for pb::JoinClusterRequest {
    fn from(domain: JoinClusterRequest) -> Self {
        let JoinClusterRequest {
            token,
            certificate_request,
            name,
            address,
        } = domain;
        Self {
            token: token.expose_secret().to_owned(),
            certificate_request,
            name,
            address: address.unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::JoinClusterRequest> for JoinClusterRequest {
    type Error = FieldError;

    fn try_from(message: pb::JoinClusterRequest) -> Result<Self, FieldError> {
        let pb::JoinClusterRequest {
            token,
            certificate_request,
            name,
            address,
        } = message;
        Ok(Self {
            token: SecretString::from(field::text("token", token)?),
            certificate_request: certificate_request_of(certificate_request)?,
            name: field::text("name", name)?,
            address: field::maybe_text(address),
        })
    }
}

/// This is read before the caller has proven anything, so it must be small.
fn certificate_request_of(bytes: Bytes) -> Result<Bytes, FieldError> {
    field::bytes("certificate_request", bytes, CERTIFICATE_REQUEST_BYTES_MAX)
}

impl From<JoinClusterResponse> for pb::JoinClusterResponse {
    fn from(domain: JoinClusterResponse) -> Self {
        let JoinClusterResponse {
            node_id,
            cluster_id,
            certificate_chain,
            grant_key,
        } = domain;
        Self {
            node_id: node_id.to_string(),
            cluster_id: cluster_id.to_string(),
            certificate_chain,
            grant_key: Bytes::copy_from_slice(&grant_key),
        }
    }
}

impl TryFrom<pb::JoinClusterResponse> for JoinClusterResponse {
    type Error = FieldError;

    fn try_from(message: pb::JoinClusterResponse) -> Result<Self, FieldError> {
        let pb::JoinClusterResponse {
            node_id,
            cluster_id,
            certificate_chain,
            grant_key,
        } = message;
        Ok(Self {
            node_id: field::id("node_id", &node_id)?,
            cluster_id: field::id("cluster_id", &cluster_id)?,
            certificate_chain: field::text("certificate_chain", certificate_chain)?,
            grant_key: field::hash("grant_key", &grant_key)?,
        })
    }
}

impl From<Bytes> for pb::RenewCertificateRequest {
    fn from(certificate_request: Bytes) -> Self {
        Self {
            certificate_request,
        }
    }
}

impl TryFrom<pb::RenewCertificateRequest> for Bytes {
    type Error = FieldError;

    fn try_from(message: pb::RenewCertificateRequest) -> Result<Self, FieldError> {
        let pb::RenewCertificateRequest {
            certificate_request,
        } = message;
        certificate_request_of(certificate_request)
    }
}

impl From<RenewCertificateResponse> for pb::RenewCertificateResponse {
    fn from(domain: RenewCertificateResponse) -> Self {
        let RenewCertificateResponse { certificate_chain } = domain;
        Self { certificate_chain }
    }
}

impl TryFrom<pb::RenewCertificateResponse> for RenewCertificateResponse {
    type Error = FieldError;

    fn try_from(message: pb::RenewCertificateResponse) -> Result<Self, FieldError> {
        let pb::RenewCertificateResponse { certificate_chain } = message;
        Ok(Self {
            certificate_chain: field::text("certificate_chain", certificate_chain)?,
        })
    }
}

impl From<SendHeartbeatRequest> for pb::SendHeartbeatRequest {
    fn from(domain: SendHeartbeatRequest) -> Self {
        let SendHeartbeatRequest {
            address,
            version,
            load,
            reach,
        } = domain;
        Self {
            address,
            version,
            load: Some(load.into()),
            reach: reach.map(Into::into),
        }
    }
}

impl TryFrom<pb::SendHeartbeatRequest> for SendHeartbeatRequest {
    type Error = FieldError;

    fn try_from(message: pb::SendHeartbeatRequest) -> Result<Self, FieldError> {
        let pb::SendHeartbeatRequest {
            address,
            version,
            load,
            reach,
        } = message;
        Ok(Self {
            address: field::text("address", address)?,
            version: field::text("version", version)?,
            load: field::message("load", load)?,
            reach: field::maybe_message("reach", reach)?,
        })
    }
}

impl From<Role> for pb::CreateTokenRequest {
    fn from(role: Role) -> Self {
        Self {
            role: role_number(role),
        }
    }
}

impl TryFrom<pb::CreateTokenRequest> for Role {
    type Error = FieldError;

    fn try_from(message: pb::CreateTokenRequest) -> Result<Self, FieldError> {
        let pb::CreateTokenRequest { role: number } = message;
        role(number)
    }
}

impl From<CreateTokenResponse> for pb::CreateTokenResponse {
    fn from(domain: CreateTokenResponse) -> Self {
        let CreateTokenResponse { token, expires_at } = domain;
        Self {
            token: token.expose_secret().to_owned(),
            expires_at: Some(field::moment(expires_at)),
        }
    }
}

impl TryFrom<pb::CreateTokenResponse> for CreateTokenResponse {
    type Error = FieldError;

    fn try_from(message: pb::CreateTokenResponse) -> Result<Self, FieldError> {
        let pb::CreateTokenResponse { token, expires_at } = message;
        Ok(Self {
            token: SecretString::from(field::text("token", token)?),
            expires_at: field::time("expires_at", expires_at)?,
        })
    }
}
