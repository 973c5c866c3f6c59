//! Who may call what on the controller, tried over real TLS.

mod matrix;
#[allow(dead_code, reason = "each test file needs another part of it")]
mod support;

use stillwater_controller_api::{ACCESS, FILE_DESCRIPTOR_SET};
use stillwater_rpc::ClientCertificates;
use stillwater_types::Role;

use matrix::Subject;
use support::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_and_nobody_reach_what_the_table_names_and_nothing_else() {
    let mut cluster = Cluster::start().await;
    let keys = cluster.keys();
    let calls = matrix::check(&Subject {
        address: &cluster.address,
        role: Role::Controller,
        authority: &keys.authority,
        certificates: ClientCertificates::Optional,
        access: ACCESS,
        descriptors: FILE_DESCRIPTOR_SET,
    })
    .await;
    assert_eq!(calls, ACCESS.len() * (Role::ALL.len() + 1));
    cluster.stop().await;
}
