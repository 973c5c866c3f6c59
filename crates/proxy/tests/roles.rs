//! Who may call what on a proxy, tried over real TLS.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its setting too")]

use std::time::SystemTime;

use stillwater_proxy::config::Config;
use stillwater_proxy::serve::Proxy;
use stillwater_proxy_api::FILE_DESCRIPTOR_SET;
use stillwater_rpc::{Ca, ClientCertificates};
use stillwater_testkit::identity;
use stillwater_testkit::matrix::{self, Subject};
use stillwater_types::{ClusterId, Role};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const CALLERS: &str = "\
ExportService/OpenExport: controller
ExportService/ReadExport: admin
ExportService/ReadExportRange: admin
ExportService/FinishExport: admin
ExportService/CloseExport: controller
ProbeService/ProbeDisk: controller
TransferService/StartTransfer: controller
TransferService/GetTransfer: controller
TransferService/WatchTransfer: controller
TransferService/CancelTransfer: controller
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_and_nobody_reach_what_they_should_and_nothing_else() {
    let authority = Ca::create(ClusterId::mint(), SystemTime::now()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let config = Config {
        // Nobody answers there, and a proxy works on without its controller.
        controller: Some("127.0.0.1:1".into()),
        ..Config::default()
    };
    let proxy = Proxy::new(config, identity(&authority, Role::Proxy)).unwrap();
    let drain = CancellationToken::new();
    let serving = tokio::spawn(proxy.serve(listener, drain.clone()));
    let subject = Subject {
        address: &address,
        role: Role::Proxy,
        authority: &authority,
        certificates: ClientCertificates::Required,
        descriptors: FILE_DESCRIPTOR_SET,
    };
    matrix::check(&subject, CALLERS).await;
    drain.cancel();
    serving.await.unwrap().unwrap();
}
