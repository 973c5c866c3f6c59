//! Secrets stay where they belong: sealed at rest, never in an answer, never in a log.

#[allow(dead_code, reason = "each test file needs another part of it")]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use stillwater_controller::error::Error;
use stillwater_controller::init::Draft;
use stillwater_controller_api as api;
use stillwater_types::{Reason, RequestId, Role};

use support::Cluster;

const CANARY: &str = "canary-7f3a-password";

/// Every file below `dir` with its mode and bytes.
fn files(dir: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let meta = fs::metadata(&path).expect("there");
        let mode = meta.permissions().mode() & 0o777;
        match meta.is_dir() {
            true => found.extend(files(&path)),
            false => {
                let bytes = fs::read(&path).expect("readable");
                found.push((path.display().to_string(), mode, bytes));
            }
        }
    }
    found
}

#[track_caller]
fn assert_absent(cluster: &Cluster, secret: &[u8], what: &str) {
    for (path, _, bytes) in files(&cluster.config.state_dir) {
        let found = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!found, "{path} holds {what}");
    }
}

#[tokio::test]
async fn what_init_tells_once_is_nowhere_on_disk() {
    let mut cluster = Cluster::start().await;
    cluster.login().await;
    let keys = cluster.keys();
    cluster.stop().await;
    let authority = keys.authority.key_pem();
    let body: String = authority
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let pkcs8 = keys.grants.to_pkcs8();
    assert_absent(
        &cluster,
        cluster.recovery_key.as_bytes(),
        "the recovery key",
    );
    assert_absent(&cluster, cluster.admin_token.as_bytes(), "the admin token");
    assert_absent(&cluster, authority.as_bytes(), "the authority's key");
    assert_absent(&cluster, body.as_bytes(), "the authority's key");
    assert_absent(&cluster, &pkcs8, "the grant key");
}

#[tokio::test]
async fn others_on_the_host_can_read_nothing() {
    let mut cluster = Cluster::start().await;
    cluster.stop().await;
    let dir = fs::metadata(&cluster.config.state_dir).expect("there");
    assert_eq!(dir.permissions().mode() & 0o777, 0o700);
    for name in [
        "kek",
        "cluster/charter.json",
        "cluster/identity/identity.pem",
        "lock",
    ] {
        let mode = fs::metadata(cluster.state(name))
            .expect(name)
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_token_is_told_once_and_kept_as_a_hash() {
    let mut cluster = Cluster::start().await;
    let admin = cluster.login().await;
    let client = cluster.client(&admin.identity);
    let created = client.create_token(Role::Proxy).await.expect("a token");
    let token = created.token.expose_secret();
    assert!(!format!("{created:?}").contains(token));
    let nodes = client.list_nodes().await.expect("a list");
    assert!(!format!("{nodes:?}").contains(token));
    cluster.stop().await;
    assert_absent(&cluster, token.as_bytes(), "the token");
}

#[tokio::test]
async fn a_password_that_was_refused_is_neither_answered_nor_kept() {
    let mut cluster = Cluster::start().await;
    let admin = cluster.login().await;
    let client = cluster.client(&admin.identity);
    let request = |name: &str| api::AddVcenterRequest {
        request_id: RequestId::mint(),
        name: name.to_owned(),
        // Nothing listens on the discard port of loopback.
        address: "127.0.0.1:9".to_owned(),
        username: "backup@vsphere.local".to_owned(),
        password: SecretString::from(CANARY),
        trust: api::VcenterTrust::CertificateSha256([1; 32]),
    };
    assert!(!format!("{:?}", request("lab")).contains(CANARY));
    let unreachable = client
        .add_vcenter(request("lab"))
        .await
        .expect_err("nobody is there");
    assert_eq!(unreachable.reason, Reason::VcenterUnreachable);
    let bad = client
        .add_vcenter(request("a/b"))
        .await
        .expect_err("a bad name");
    assert_eq!(bad.reason, Reason::BadField);
    for fault in [unreachable, bad] {
        assert!(!format!("{fault:?}").contains(CANARY));
    }
    assert_eq!(client.list_vcenters().await.expect("a list"), []);
    cluster.stop().await;
    assert_absent(&cluster, CANARY.as_bytes(), "the password");
}

#[tokio::test]
async fn the_wrong_key_opens_nothing_and_is_not_replaced() {
    let mut cluster = Cluster::start().await;
    cluster.stop().await;
    let kek = cluster.state("kek");
    let right = fs::read(&kek).expect("the key");
    fs::write(&kek, "0".repeat(64)).expect("write");
    let refused = cluster.admin_token().await.expect_err("the wrong key");
    assert_eq!(refused.reason(), Some(Reason::SecretUnreadable));
    fs::remove_file(&kek).expect("remove");
    assert!(cluster.admin_token().await.is_err());
    assert!(
        !kek.exists(),
        "a lost key must not be replaced by a fresh one"
    );
    fs::write(&kek, right).expect("write");
    cluster.admin_token().await.expect("the right key");
}

#[tokio::test]
async fn init_makes_one_cluster_and_an_unfinished_one_is_no_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = stillwater_controller::config::Config {
        state_dir: dir.path().join("state"),
        ..Default::default()
    };
    let make = || {
        let config = config.clone();
        std::thread::spawn(move || Draft::make(&config, Some("127.0.0.1:7443"), None))
            .join()
            .expect("no panic")
    };
    let unfinished = make().map(|draft| draft.handover.cluster).expect("made");
    let finished = make().expect("made again");
    assert_ne!(finished.handover.cluster, unfinished);
    finished.finish().expect("in force");
    assert!(matches!(make().err(), Some(Error::Initialised(_))));
}
