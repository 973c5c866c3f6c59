//! Joining, renewing and being removed, over real TLS.

#[allow(dead_code, reason = "each test file needs another part of it")]
mod support;

use std::time::Duration;

use secrecy::ExposeSecret;
use stillwater_controller::error::Error;
use stillwater_controller_api::{self as api, NodeState};
use stillwater_rpc::{PendingKey, Pin, Token};
use stillwater_types::{Fault, NodeId, Reason, Role};

use support::{Cluster, Joined};

fn reason<T>(result: Result<T, Fault>) -> Option<Reason> {
    result.err().map(|fault| fault.reason)
}

async fn token(cluster: &Cluster, admin: &Joined, role: Role) -> String {
    let created = cluster
        .client(&admin.identity)
        .create_token(role)
        .await
        .expect("a token");
    created.token.expose_secret().to_owned()
}

fn heartbeat(address: &str) -> api::SendHeartbeatRequest {
    api::SendHeartbeatRequest {
        address: address.to_owned(),
        version: "0.1.0".to_owned(),
        load: api::NodeLoad {
            transfer_slots: 4,
            ..api::NodeLoad::default()
        },
        reach: None,
    }
}

#[tokio::test]
async fn a_token_enrols_one_node_of_its_role_once() {
    let mut cluster = Cluster::start().await;
    let admin = cluster.login().await;
    for role in [Role::Proxy, Role::Repository, Role::Admin] {
        let token = token(&cluster, &admin, role).await;
        let joined = cluster
            .join(&token, Some("127.0.0.1:7444"))
            .await
            .expect("a good token");
        assert_eq!(
            (joined.identity.role(), joined.identity.node()),
            (role, joined.response.node_id)
        );
        assert_eq!(joined.identity.cluster(), joined.response.cluster_id);
        assert_eq!(
            joined.response.grant_key,
            cluster.keys().grants.public_key()
        );
        let again = cluster.join(&token, Some("127.0.0.1:7444")).await;
        assert_eq!(reason(again), Some(Reason::TokenInvalid));
    }
    let controller = cluster
        .client(&admin.identity)
        .create_token(Role::Controller)
        .await;
    assert_eq!(reason(controller), Some(Reason::BadField));
    cluster.stop().await;
}

#[tokio::test]
async fn two_nodes_that_race_for_one_token_do_not_both_win() {
    let mut cluster = Cluster::start().await;
    let admin = cluster.login().await;
    let token = token(&cluster, &admin, Role::Proxy).await;
    let (one, two) = tokio::join!(
        cluster.join(&token, Some("127.0.0.1:7444")),
        cluster.join(&token, Some("127.0.0.1:7445")),
    );
    assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1);
    let nodes = cluster
        .client(&admin.identity)
        .list_nodes()
        .await
        .expect("a list");
    assert_eq!(
        nodes.iter().filter(|node| node.role == Role::Proxy).count(),
        1
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_used_token_stays_used_after_a_restart() {
    let mut cluster = Cluster::start().await;
    let admin = cluster.login().await;
    let (used, unused) = (
        token(&cluster, &admin, Role::Proxy).await,
        token(&cluster, &admin, Role::Proxy).await,
    );
    cluster
        .join(&used, Some("127.0.0.1:7444"))
        .await
        .expect("a good token");
    cluster.stop().await;
    cluster.start_again().await;
    let again = cluster.join(&used, Some("127.0.0.1:7444")).await;
    assert_eq!(reason(again), Some(Reason::TokenInvalid));
    cluster
        .join(&unused, Some("127.0.0.1:7444"))
        .await
        .expect("still good");
    cluster.stop().await;
}

#[tokio::test]
async fn a_token_is_worth_nothing_after_fifteen_minutes() {
    let mut cluster = Cluster::start().await;
    let admin = cluster.login().await;
    let token = token(&cluster, &admin, Role::Proxy).await;
    cluster.clock.advance(Duration::from_secs(15 * 60));
    let late = cluster.join(&token, Some("127.0.0.1:7444")).await;
    assert_eq!(reason(late), Some(Reason::TokenInvalid));
    cluster.stop().await;
}

#[tokio::test]
async fn the_role_is_the_controllers_note_and_not_the_tokens_text() {
    let mut cluster = Cluster::start().await;
    let admin = cluster.login().await;
    let mut edited: Token = token(&cluster, &admin, Role::Proxy)
        .await
        .parse()
        .expect("a token");
    edited.role = Role::Admin;
    let joined = cluster
        .join(&edited.to_text(), Some("127.0.0.1:7444"))
        .await
        .expect("enrolled");
    assert_eq!(joined.identity.role(), Role::Proxy);
    let nodes = cluster.client(&joined.identity).list_nodes().await;
    assert_eq!(reason(nodes), Some(Reason::RoleNotAllowed));
    cluster.stop().await;
}

#[tokio::test]
async fn a_node_does_not_tell_its_token_to_a_controller_with_another_pin() {
    let mut cluster = Cluster::start().await;
    let admin = cluster.login().await;
    let good = token(&cluster, &admin, Role::Proxy).await;
    let mut wrong: Token = good.parse().expect("a token");
    wrong.ca_pin = Pin([7; 32]);
    let refused = cluster.join(&wrong.to_text(), Some("127.0.0.1:7444")).await;
    assert_eq!(reason(refused), Some(Reason::CertificateUntrusted));
    // The secret did not reach the controller, so that the token is still unused.
    cluster
        .join(&good, Some("127.0.0.1:7444"))
        .await
        .expect("unused");
    cluster.stop().await;
}

#[tokio::test]
async fn a_refused_request_does_not_use_the_token_up() {
    let mut cluster = Cluster::start().await;
    let admin = cluster.login().await;
    let token = token(&cluster, &admin, Role::Proxy).await;
    let without_address = cluster.join(&token, None).await;
    assert_eq!(reason(without_address), Some(Reason::BadField));
    cluster
        .join(&token, Some("127.0.0.1:7444"))
        .await
        .expect("still good");
    cluster.stop().await;
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let mut cluster = Cluster::start().await;
    let admin = cluster.login().await;
    let pin = cluster.keys().authority.spki_pin();
    let guess = || {
        Token::mint(&cluster.address, pin, Role::Admin)
            .expect("a token")
            .to_text()
    };
    for _ in 0..5 {
        let refused = cluster.join(&guess(), None).await;
        assert_eq!(reason(refused), Some(Reason::TokenInvalid));
    }
    assert_eq!(
        reason(cluster.join(&guess(), None).await),
        Some(Reason::RateLimited)
    );
    // Whoever has joined is not slowed down by who has not.
    cluster
        .client(&admin.identity)
        .list_nodes()
        .await
        .expect("a list");
    cluster.stop().await;
}

#[tokio::test]
async fn a_certificate_is_renewed_for_the_same_node_without_a_restart() {
    let mut cluster = Cluster::start().await;
    let admin = cluster.login().await;
    let proxy = cluster.enrol(&admin, Role::Proxy).await;
    let (node, first_end) = (proxy.identity.node(), proxy.identity.not_after());
    cluster.clock.advance(Duration::from_secs(10));
    let client = cluster.client(&proxy.identity);
    let (key, request) = PendingKey::generate().expect("a key");
    let renewed = client
        .renew_certificate(request.into())
        .await
        .expect("a certificate");
    proxy
        .identity
        .replace(key, &renewed.certificate_chain)
        .expect("it fits");
    assert_eq!(
        (proxy.identity.role(), proxy.identity.node()),
        (Role::Proxy, node)
    );
    assert!(proxy.identity.not_after() > first_end);
    // On the connection that was open before, and on a new one.
    client
        .send_heartbeat(heartbeat("127.0.0.1:7444"))
        .await
        .expect("heard");
    cluster
        .client(&proxy.identity)
        .send_heartbeat(heartbeat("127.0.0.1:7444"))
        .await
        .expect("heard");
    cluster.stop().await;
}

#[tokio::test]
async fn a_removed_node_is_refused_at_once_and_after_a_restart() {
    let mut cluster = Cluster::start().await;
    let admin = cluster.login().await;
    let proxy = cluster.enrol(&admin, Role::Proxy).await;
    let client = cluster.client(&proxy.identity);
    client
        .send_heartbeat(heartbeat("127.0.0.1:7444"))
        .await
        .expect("heard");
    let node = proxy.identity.node();
    let removal = cluster.client(&admin.identity);
    removal.remove_node(node).await.expect("removed");
    removal.remove_node(node).await.expect("removed already");
    assert_eq!(
        reason(removal.remove_node(NodeId::mint()).await),
        Some(Reason::NodeNotFound)
    );
    for round in 0..2 {
        let beat = client.send_heartbeat(heartbeat("127.0.0.1:7444")).await;
        assert_eq!(reason(beat), Some(Reason::NodeRemoved), "round {round}");
        let (_, request) = PendingKey::generate().expect("a key");
        let renewal = cluster
            .client(&proxy.identity)
            .renew_certificate(request.into())
            .await;
        assert_eq!(reason(renewal), Some(Reason::NodeRemoved), "round {round}");
        let nodes = cluster
            .client(&admin.identity)
            .list_nodes()
            .await
            .expect("a list");
        let found = nodes
            .iter()
            .find(|found| found.node_id == node)
            .expect("listed");
        assert_eq!(found.state, NodeState::Removed);
        cluster.stop().await;
        cluster.start_again().await;
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_node_is_online_when_it_was_heard_of_and_its_address_may_change() {
    let mut cluster = Cluster::start().await;
    let admin = cluster.login().await;
    let proxy = cluster.enrol(&admin, Role::Proxy).await;
    let state = async || {
        let nodes = cluster
            .client(&admin.identity)
            .list_nodes()
            .await
            .expect("a list");
        let node = nodes
            .into_iter()
            .find(|node| node.node_id == proxy.identity.node());
        let node = node.expect("listed");
        (node.state, node.address, node.load)
    };
    let joined = Some("127.0.0.1:7444".to_owned());
    assert_eq!(state().await, (NodeState::Offline, joined, None));
    let client = cluster.client(&proxy.identity);
    let beat = client
        .send_heartbeat(heartbeat("proxy.example:7444"))
        .await
        .expect("heard");
    assert!((1..=10).contains(&beat.interval_seconds));
    let load = Some(heartbeat("").load);
    let moved = Some("proxy.example:7444".to_owned());
    assert_eq!(state().await, (NodeState::Online, moved, load));
    let nowhere = client.send_heartbeat(heartbeat("nowhere")).await;
    assert_eq!(reason(nowhere), Some(Reason::BadField));
    cluster.stop().await;
}

#[tokio::test]
async fn a_lost_administrator_gets_in_again_while_the_service_is_stopped() {
    let mut cluster = Cluster::start().await;
    assert!(matches!(cluster.admin_token().await, Err(Error::InUse(_))));
    cluster.stop().await;
    let token = cluster.admin_token().await.expect("a token");
    cluster.start_again().await;
    let joined = cluster.join(&token, None).await.expect("a good token");
    assert_eq!(joined.identity.role(), Role::Admin);
    cluster.stop().await;
}
