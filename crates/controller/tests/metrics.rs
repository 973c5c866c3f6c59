//! The names of all metrics, so that a rename is seen in review: dashboards and alerts use them.

#[allow(dead_code, reason = "each test file needs another part of it")]
mod support;

use stillwater_types::{Fault, Reason};

use support::Cluster;

#[tokio::test]
async fn the_metrics_have_these_names_and_types() {
    let mut cluster = Cluster::start().await;
    cluster.stop().await;
    let controller = cluster.open().await;
    let metrics = &controller.resources().metrics;
    let fault = Fault::new(Reason::TokenInvalid, "a fault");
    metrics.join(Some(&fault));
    metrics.login(None);
    metrics.run_ended("backup", "failed", Some(&fault));
    metrics.run_scheduled();
    metrics.point_expired(None);
    metrics.jobs_wait([("proxy", 2)]);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &controller.metrics()).expect("a text");
    let mut types: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    types.sort_unstable();
    insta::assert_snapshot!(types.join("\n"), @"
    stillwater_controller_alarms gauge
    stillwater_controller_certificate_expiry_timestamp_seconds gauge
    stillwater_controller_jobs_waiting gauge
    stillwater_controller_joins counter
    stillwater_controller_nodes gauge
    stillwater_controller_points_expired counter
    stillwater_controller_runs_active gauge
    stillwater_controller_runs_ended counter
    stillwater_controller_runs_scheduled counter
    stillwater_controller_vcenter_logins counter
    stillwater_controller_vcenters gauge
    ");
    for sample in [
        r#"stillwater_controller_joins_total{outcome="TOKEN_INVALID"} 1"#,
        r#"stillwater_controller_vcenter_logins_total{outcome="ok"} 1"#,
        r#"stillwater_controller_runs_ended_total{kind="backup",state="failed",reason="TOKEN_INVALID"} 1"#,
        "stillwater_controller_runs_active 0",
        "stillwater_controller_runs_scheduled_total 1",
        r#"stillwater_controller_points_expired_total{outcome="ok"} 1"#,
        r#"stillwater_controller_jobs_waiting{resource="proxy"} 2"#,
        r#"stillwater_controller_alarms{kind="LEFTOVER_SNAPSHOT"} 0"#,
    ] {
        assert!(text.contains(sample), "{sample} is not in:\n{text}");
    }
    stillwater_testkit::metrics::check_documented("controller", &text);
}
