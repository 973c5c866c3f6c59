//! A conversation with the cluster of a context.

use std::time::SystemTime;

use bytes::Bytes;
use stillwater_controller_api::{Client, JoinClusterRequest};
use stillwater_rpc::{Identity, PendingKey, Target, Token};
use stillwater_types::{Fault, NodeId, Reason, Role};

use crate::context::Context;
use crate::output;

/// The controller, and the right to speak to it.
pub(crate) struct Session {
    /// Calls the controller.
    pub controller: Client,
    identity: Identity,
}

impl Session {
    /// Opens a conversation, and renews the certificate when two thirds of its time are over.
    pub async fn open(context: Context) -> Result<Self, Fault> {
        let Context {
            dir,
            controller,
            identity,
        } = context;
        let now = SystemTime::now();
        if now >= identity.not_after() {
            let message = "the certificate of this context has expired: ask another administrator \
                           for a token and run `stillwater login TOKEN`";
            return Err(Fault::new(Reason::NoCertificate, message));
        }
        let target = Target {
            address: controller,
            role: Role::Controller,
            node: None,
        };
        let controller = Client::new(stillwater_rpc::connect(&identity, target)?);
        if identity.needs_renewal(now) {
            // There is a third of its time left to try again.
            let renewed = renew(&controller, &identity)
                .await
                .and_then(|()| identity.save(&dir));
            if let Err(fault) = renewed {
                output::say(&format!("warning: renew the certificate: {fault}"));
            }
        }
        Ok(Self {
            controller,
            identity,
        })
    }

    /// A proxy that the controller named.
    pub fn proxy(
        &self,
        address: String,
        node: NodeId,
    ) -> Result<stillwater_proxy_api::Client, Fault> {
        let target = Target {
            address,
            role: Role::Proxy,
            node: Some(node),
        };
        let channel = stillwater_rpc::connect(&self.identity, target)?;
        Ok(stillwater_proxy_api::Client::new(channel))
    }
}

async fn renew(controller: &Client, identity: &Identity) -> Result<(), Fault> {
    let (key, request) = PendingKey::generate()?;
    let answer = controller.renew_certificate(Bytes::from(request)).await?;
    identity.replace(key, &answer.certificate_chain)
}

/// Joins a cluster as an administrator; answers the controller's address and who the user is now.
pub(crate) async fn join(token: &Token) -> Result<(String, Identity), Fault> {
    if token.role != Role::Admin {
        let message = format!(
            "this token is for a {}: run `stillwater-{0} join`",
            token.role
        );
        return Err(Fault::new(Reason::TokenInvalid, message));
    }
    let (key, certificate_request) = PendingKey::generate()?;
    let channel = stillwater_rpc::connect_pinned(&token.controller, token.ca_pin)?;
    let request = JoinClusterRequest {
        token: token.to_text().to_string().into(),
        certificate_request: Bytes::from(certificate_request),
        name: own_name(),
        address: None,
    };
    let answer = Client::new(channel).join_cluster(request).await?;
    let identity = key.certify(&answer.certificate_chain)?;
    let name = identity.name();
    let asked = name.role == Role::Admin
        && name.node == answer.node_id
        && name.cluster == answer.cluster_id
        && identity.ca_pin() == token.ca_pin;
    if !asked {
        let message = format!("the controller gave a certificate that was not asked for: {name}");
        return Err(Fault::new(Reason::CertificateUntrusted, message));
    }
    Ok((token.controller.clone(), identity))
}

/// `user@host`, which `stillwater node list` shows.
fn own_name() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "admin".to_owned());
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    format!("{user}@{host}")
}
