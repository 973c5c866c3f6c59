//! A point is called what its evidence proves, whatever was asked for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stillwater_tests::Site;
use stillwater_tests::cluster::{rows, text};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::VmSpec;

const RUN: Duration = Duration::from_secs(120);

/// What a guest does, what is asked of it, and what must come of that.
struct Case {
    guest: Value,
    asked: &'static str,
    /// The label of the point; none when the run must fail.
    consistency: Option<&'static str>,
    is_downgraded: bool,
}

fn site(guest_id: &str) -> Result<Site> {
    let disks = Disks::new()?;
    let spec = VmSpec::new("web", vec![disks.small()?]).with("guest_id", json!(guest_id));
    Site::with(&[spec])
}

fn check(site: &Site, case: &Case) -> Result<()> {
    let Case {
        guest,
        asked,
        consistency,
        is_downgraded,
    } = case;
    site.lab.guest("web", guest)?;
    let mut arguments = vec!["backup", "web", "--quiesce-tries", "1"];
    if !asked.is_empty() {
        arguments.extend(["--quiesce", asked]);
    }
    let run = site.cluster.start_run(&arguments)?;
    let ended = site.cluster.wait_run(&run, RUN)?;
    ensure!(site.lab.snapshots()?.is_empty(), "a snapshot was left");
    let Some(consistency) = consistency else {
        ensure!(
            ended["state"] == "failed" && ended["fault"]["reason"] == "QUIESCE_FAILED",
            "{ended:#}"
        );
        return Ok(());
    };
    ensure!(ended["state"] == "succeeded", "{ended:#}");
    let warned = ended["warnings"]
        .to_string()
        .contains("CONSISTENCY_DOWNGRADED");
    ensure!(
        warned == *is_downgraded,
        "a downgrade is never silent: {ended:#}"
    );
    let point = text(&ended["backup"], "point_id")?;
    let shown = site.cluster.json(&["point", "show", &point])?;
    let evidence = &shown["quiescence"];
    ensure!(
        shown["consistency"] == *consistency,
        "should be {consistency}: {evidence:#}"
    );
    ensure!(
        *consistency != "application" || !rows(&evidence["writers"]).is_empty(),
        "no application without its writers: {evidence:#}"
    );
    ensure!(
        !is_downgraded || evidence["achieved"] == *consistency,
        "{evidence:#}"
    );
    Ok(())
}

fn case(guest: Value, asked: &'static str, consistency: &'static str, is_downgraded: bool) -> Case {
    Case {
        guest,
        asked,
        consistency: Some(consistency),
        is_downgraded,
    }
}

fn fails(guest: Value, asked: &'static str) -> Case {
    Case {
        guest,
        asked,
        consistency: None,
        is_downgraded: false,
    }
}

/// What a well guest does; each case starts from it.
fn well() -> Value {
    json!({"tools": "running", "freeze_script": "ok", "freeze_seconds": 0, "minute_seconds": 1,
        "hold_seconds": 0, "hold_limit_seconds": 0, "downgrade": false, "vss": "ok"})
}

fn with(field: &str, value: Value) -> Value {
    let mut guest = well();
    guest[field] = value;
    guest
}

fn check_all(site: &Site, cases: &[Case]) -> Result<()> {
    for case in cases {
        check(site, case).with_context(|| format!("{} asked of {}", case.asked, case.guest))?;
        site.lab.prune()?;
    }
    Ok(())
}

#[test]
fn linux_guests_are_called_what_they_are() -> Result<()> {
    let site = site("debian11_64Guest")?;
    let all = "application,file-system,crash";
    check_all(
        &site,
        &[
            case(well(), "", "file_system", false),
            case(well(), "file-system", "file_system", false),
            case(well(), "crash", "crash", false),
            // Scripts of Tools run, but nothing proves what they did.
            case(well(), all, "file_system", true),
            case(with("freeze_script", json!("fails")), "", "crash", true),
            fails(with("freeze_script", json!("fails")), "file-system"),
            // Longer than the budget of five minutes, which last a second each here.
            case(
                with("freeze_seconds", json!(7)),
                "file-system,crash",
                "crash",
                true,
            ),
            case(
                with("downgrade", json!(true)),
                "file-system,crash",
                "crash",
                true,
            ),
            fails(with("downgrade", json!(true)), "file-system"),
            case(
                with("tools", json!("absent")),
                "file-system,crash",
                "crash",
                true,
            ),
            case(with("tools", json!("absent")), "", "crash", false),
            fails(with("tools", json!("not-running")), "file-system"),
            case(
                with("tools", json!("old")),
                "file-system",
                "file_system",
                false,
            ),
        ],
    )
}

#[test]
fn windows_guests_are_called_what_their_writers_prove() -> Result<()> {
    let site = site("windows2019srv_64Guest")?;
    let failed = json!([{"name": "SqlServerWriter", "id": "a65faa63-5ea8-4ebc-9dbd-a0c4db26912a",
        "state": "failed", "components": ["shop"], "path": "D:\\MSSQL"}]);
    check_all(
        &site,
        &[
            case(well(), "", "application", false),
            case(well(), "application", "application", false),
            case(well(), "file-system", "file_system", false),
            case(
                with("vss", json!("bcd-only")),
                "application,file-system",
                "file_system",
                true,
            ),
            fails(with("vss", json!("bcd-only")), "application"),
            case(
                with("vss", json!("failing")),
                "application,file-system",
                "file_system",
                true,
            ),
            fails(with("vss", json!("failing")), "application"),
            case(
                with("tools", json!("absent")),
                "application,crash",
                "crash",
                true,
            ),
            case(
                with("writers", failed),
                "application,file-system",
                "file_system",
                true,
            ),
        ],
    )
}
