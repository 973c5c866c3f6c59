//! Who joins, stays and goes: the cluster's certificates.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use stillwater_controller_api as api;
use stillwater_rpc::{
    ADMIN_VALIDITY, Ca, NODE_VALIDITY, Peer, RemovedNodes, TOKEN_LIFETIME, Token,
};
use stillwater_service::config::is_address;
use stillwater_types::{Fault, NodeId, Reason, Role};
use tokio::time::Instant;

use super::limiter::Limiter;
use super::{Directory, Node, NodeEvent};
use crate::event::Actor;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::token::{TokenEvent, TokenHash};

/// How often a node says that it lives. A third of what makes it offline would do; this often, a
/// restarted controller knows its nodes again within seconds.
const HEARTBEAT_SECONDS: u32 = 5;

const NAME_CHARS_MAX: usize = 128;
const VERSION_CHARS_MAX: usize = 64;

/// What of the controller itself stands in the list of nodes and in tokens.
#[derive(Debug, Clone)]
pub struct Myself {
    /// The controller's node id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// `host:port` where nodes and administrators call it.
    pub address: String,
    /// When `init` made it.
    pub created_at: Timestamp,
}

/// Enrols, renews, lists and removes nodes.
pub struct Registry {
    memory: Memory,
    directory: Directory,
    authority: Arc<Ca>,
    grant_key: [u8; 32],
    myself: Myself,
    identity: stillwater_rpc::Identity,
    removed: RemovedNodes,
    limiter: Mutex<Limiter>,
    metrics: Metrics,
}

/// What a [`Registry`] is made of.
pub struct RegistryParts {
    /// Remembers who belongs to the cluster.
    pub memory: Memory,
    /// Hears who lives.
    pub directory: Directory,
    /// Signs certificates.
    pub authority: Arc<Ca>,
    /// What repositories check grants with.
    pub grant_key: [u8; 32],
    /// The controller.
    pub myself: Myself,
    /// The controller's own certificate.
    pub identity: stillwater_rpc::Identity,
    /// Whose certificates the port refuses.
    pub removed: RemovedNodes,
    /// Counts joins.
    pub metrics: Metrics,
}

impl Registry {
    /// Starts with the removed nodes of the memory shut out.
    pub fn new(parts: RegistryParts) -> Self {
        let RegistryParts {
            memory,
            directory,
            authority,
            grant_key,
            myself,
            identity,
            removed,
            metrics,
        } = parts;
        let state = memory.state();
        removed.set(
            state
                .nodes
                .iter()
                .filter(|n| n.removed_at.is_some())
                .map(|n| n.node),
        );
        let limiter = Mutex::default();
        Self {
            memory,
            directory,
            authority,
            grant_key,
            myself,
            identity,
            removed,
            limiter,
            metrics,
        }
    }

    /// Makes a join token for one node of `role`.
    pub async fn create_token(
        &self,
        by: Actor,
        role: Role,
    ) -> Result<api::CreateTokenResponse, Fault> {
        let (token, event, expires_at) = mint(
            &self.myself.address,
            &self.authority,
            role,
            self.memory.now(),
        )?;
        self.memory.append(by, event).await?;
        tracing::info!(%role, %by, %expires_at, "join token made");
        Ok(api::CreateTokenResponse {
            token: secret(&token),
            expires_at,
        })
    }

    /// Enrols whoever shows a token that may be used.
    pub async fn join(
        &self,
        remote: Option<SocketAddr>,
        request: api::JoinClusterRequest,
    ) -> Result<api::JoinClusterResponse, Fault> {
        // Without an address all share one count, which is the strict side.
        let from = remote.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |remote| remote.ip());
        self.admit(from)?;
        let joined = self.enrol(request).await;
        match &joined {
            Ok(response) => {
                self.limiter().forgive(from);
                tracing::info!(node.id = %response.node_id, %from, "node joined");
            }
            Err(fault) => tracing::warn!(%from, reason = %fault.reason, "join refused"),
        }
        self.metrics.join(joined.as_ref().err());
        joined
    }

    async fn enrol(
        &self,
        request: api::JoinClusterRequest,
    ) -> Result<api::JoinClusterResponse, Fault> {
        let api::JoinClusterRequest {
            token,
            certificate_request,
            name,
            address,
        } = request;
        let hash = TokenHash::of(&token.expose_secret().parse::<Token>()?);
        let now = self.memory.now();
        let role = self.memory.state().tokens.role(now, &hash)?;
        let name = check_name(&name)?;
        let address = check_address(role, address)?;
        let node = NodeId::mint();
        let issued = self.issue(&certificate_request, role, node, now)?;
        // The token is used up, durably, before anybody holds the certificate: a crash here costs
        // a token, the other order would let one token enrol two nodes.
        let by = Actor::Node { node, role };
        self.memory
            .append(by, TokenEvent::Used { hash, node })
            .await?;
        let certificate_expires_at = issued.expires_at;
        let joined = NodeEvent::Joined {
            node,
            role,
            name,
            address,
            certificate_expires_at,
        };
        self.memory.append(by, joined).await?;
        Ok(api::JoinClusterResponse {
            node_id: node,
            cluster_id: self.authority.cluster(),
            certificate_chain: issued.chain,
            grant_key: self.grant_key,
        })
    }

    /// Gives a member a new certificate for the role and id it has.
    pub async fn renew(&self, peer: &Peer, certificate_request: &[u8]) -> Result<String, Fault> {
        let role = self.memory.state().nodes.member(peer.node)?.role;
        let issued = self.issue(certificate_request, role, peer.node, self.memory.now())?;
        let event = NodeEvent::Renewed {
            node: peer.node,
            certificate_expires_at: issued.expires_at,
        };
        self.memory.append(actor(peer), event).await?;
        tracing::info!(node.id = %peer.node, %role, "certificate renewed");
        Ok(issued.chain)
    }

    /// Notes a heartbeat; answers after how many seconds the next is due.
    pub async fn heartbeat(
        &self,
        peer: &Peer,
        request: api::SendHeartbeatRequest,
    ) -> Result<u32, Fault> {
        let api::SendHeartbeatRequest {
            address,
            version,
            load,
            reach,
        } = request;
        let known = self.memory.state().nodes.member(peer.node)?.address.clone();
        let address = check_address(peer.role, Some(address))?;
        if address != known {
            tracing::info!(node.id = %peer.node, %address, "node is called at another address");
            let moved = NodeEvent::Moved {
                node: peer.node,
                address,
            };
            self.memory.append(actor(peer), moved).await?;
        }
        let version = version.chars().take(VERSION_CHARS_MAX).collect();
        self.directory.note(peer.node, version, load, reach);
        Ok(HEARTBEAT_SECONDS)
    }

    /// Shuts a node out. Succeeds when it is out already.
    pub async fn remove(&self, by: Actor, node: NodeId) -> Result<(), Fault> {
        if node == self.myself.node {
            let message = "the controller cannot remove itself; name another node";
            return Err(Fault::new(Reason::BadField, message).with("field", "node_id"));
        }
        self.memory.append(by, NodeEvent::Removed { node }).await?;
        self.removed.insert(node);
        self.directory.forget(node);
        tracing::info!(node.id = %node, %by, "node removed");
        Ok(())
    }

    /// Gives a proxy no new work, also after a restart. Succeeds when it drains already.
    pub async fn drain(&self, by: Actor, node: NodeId) -> Result<(), Fault> {
        self.memory
            .append(by, NodeEvent::DrainBegun { node })
            .await?;
        tracing::info!(node.id = %node, %by, "proxy drains");
        Ok(())
    }

    /// Gives a proxy work again. Succeeds when it does not drain.
    pub async fn undrain(&self, by: Actor, node: NodeId) -> Result<(), Fault> {
        self.memory
            .append(by, NodeEvent::DrainEnded { node })
            .await?;
        tracing::info!(node.id = %node, %by, "proxy takes work again");
        Ok(())
    }

    /// Every node, the controller first, then in the order in which they joined.
    pub fn list(&self) -> Vec<api::Node> {
        let state = self.memory.state();
        let others = state.nodes.iter().map(|node| self.describe(node));
        std::iter::once(self.describe_myself())
            .chain(others)
            .collect()
    }

    fn describe(&self, node: &Node) -> api::Node {
        let seen = self.directory.last(node.node);
        let online = seen.as_ref().is_some_and(super::Seen::is_fresh);
        let state = match (node.removed_at, online) {
            (Some(_), _) => api::NodeState::Removed,
            (None, true) => api::NodeState::Online,
            (None, false) => api::NodeState::Offline,
        };
        api::Node {
            node_id: node.node,
            role: node.role,
            name: node.name.clone(),
            address: Some(node.address.clone()).filter(|address| !address.is_empty()),
            state,
            joined_at: node.joined_at,
            seen_at: seen.as_ref().map(|seen| seen.at),
            certificate_expires_at: node.certificate_expires_at,
            version: seen.as_ref().map(|seen| seen.version.clone()),
            load: seen.as_ref().map(|seen| seen.load),
            reach: seen.and_then(|seen| seen.reach),
            draining_since: node.draining_since,
        }
    }

    fn describe_myself(&self) -> api::Node {
        let Myself {
            node,
            name,
            address,
            created_at,
        } = self.myself.clone();
        api::Node {
            node_id: node,
            role: Role::Controller,
            name,
            address: Some(address),
            state: api::NodeState::Online,
            joined_at: created_at,
            seen_at: Some(self.memory.now()),
            certificate_expires_at: timestamp(self.identity.not_after()),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            load: None,
            reach: None,
            draining_since: None,
        }
    }

    /// Signs a new certificate for the controller itself.
    pub fn renew_myself(&self, certificate_request: &[u8]) -> Result<String, Fault> {
        let now = self.memory.now();
        let issued = self.issue(certificate_request, Role::Controller, self.myself.node, now)?;
        tracing::info!(expires_at = %issued.expires_at, "own certificate renewed");
        Ok(issued.chain)
    }

    fn issue(
        &self,
        request: &[u8],
        role: Role,
        node: NodeId,
        now: Timestamp,
    ) -> Result<Issued, Fault> {
        let validity = validity(role);
        let now = SystemTime::from(now);
        let chain = self.authority.issue(request, role, node, validity, now)?;
        Ok(Issued {
            chain,
            expires_at: timestamp(now + validity),
        })
    }

    fn admit(&self, from: IpAddr) -> Result<(), Fault> {
        self.limiter().admit(Instant::now(), from).map_err(|wait| {
            let fault = limited(wait);
            self.metrics.join(Some(&fault));
            fault
        })
    }

    fn limiter(&self) -> std::sync::MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Issued {
    chain: String,
    expires_at: Timestamp,
}

/// A fresh token for `role`, and the event that makes it usable.
pub fn mint(
    controller: &str,
    authority: &Ca,
    role: Role,
    now: Timestamp,
) -> Result<(Token, TokenEvent, Timestamp), Fault> {
    if role == Role::Controller {
        let message = "a cluster has one controller; make a token for proxy, repository or admin";
        return Err(Fault::new(Reason::BadField, message).with("field", "role"));
    }
    let token = Token::mint(controller, authority.spki_pin(), role)?;
    let expires_at = now + TOKEN_LIFETIME;
    let event = TokenEvent::Created {
        hash: TokenHash::of(&token),
        role,
        expires_at,
    };
    Ok((token, event, expires_at))
}

/// How long a certificate of `role` is valid.
pub fn validity(role: Role) -> Duration {
    match role {
        Role::Admin => ADMIN_VALIDITY,
        Role::Controller | Role::Proxy | Role::Repository => NODE_VALIDITY,
    }
}

/// Who a call's certificate says the caller is.
pub fn actor(peer: &Peer) -> Actor {
    Actor::Node {
        node: peer.node,
        role: peer.role,
    }
}

fn secret(token: &Token) -> SecretString {
    SecretString::from(token.to_text().as_str())
}

fn limited(wait: Duration) -> Fault {
    let seconds = wait.as_secs() + 1;
    let message = format!("too many failed joins; wait {seconds} s and try again");
    Fault::new(Reason::RateLimited, message).with("retry_after_seconds", seconds)
}

/// Names and addresses end in tables, logs and file names of others.
fn check_name(name: &str) -> Result<String, Fault> {
    let name = name.trim();
    let fits = (1..=NAME_CHARS_MAX).contains(&name.chars().count());
    if fits && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    let message = format!("a node's name has 1 to {NAME_CHARS_MAX} printable characters");
    Err(Fault::new(Reason::BadField, message).with("field", "name"))
}

/// The address of a node that others call, or nothing for one that only calls.
fn check_address(role: Role, address: Option<String>) -> Result<String, Fault> {
    if role == Role::Admin {
        return Ok(String::new());
    }
    let address = address.unwrap_or_default();
    if is_address(&address) {
        return Ok(address);
    }
    let message = "say where the node can be called as host:port, such as proxy-1.example:7444";
    Err(Fault::new(Reason::BadField, message).with("field", "address"))
}

fn timestamp(time: SystemTime) -> Timestamp {
    // Certificates end within years, and a clock that jiff cannot hold is beyond year 9999.
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_need_an_address() {
        assert_eq!(
            check_address(Role::Admin, Some("ignored".into())),
            Ok(String::new())
        );
        for role in [Role::Proxy, Role::Repository] {
            assert_eq!(
                check_address(role, None).map_err(|f| f.reason),
                Err(Reason::BadField)
            );
            assert_eq!(check_address(role, Some("a:1".into())), Ok("a:1".into()));
        }
    }

    #[test]
    fn a_name_is_short_and_printable() {
        assert_eq!(check_name(" proxy 1 "), Ok("proxy 1".into()));
        for bad in ["", "  ", "a\nb", "a\u{1b}[31mb", &"x".repeat(129)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
