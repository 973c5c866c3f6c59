//! The same frozen disk by every way that runs use, and on by the next way where one fails.

use anyhow::{Result, ensure};
use serde_json::Value;
use stillwater_tests::Site;
use stillwater_tests::cluster::{Cluster, rows, text};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::VmSpec;

fn site() -> Result<Site> {
    let disks = Disks::new()?;
    let cluster = Cluster::with_controller("[transports]\nnfc = true")?;
    Site::of(&[VmSpec::new("web", disks.set("small")?)], cluster)
}

/// Protects `web`, demands this way for every disk, and answers the run and the roots.
fn back_up(site: &Site, arguments: &[&str], transport: &str) -> Result<(Value, Vec<Value>)> {
    let run = site
        .cluster
        .start_run(&[&["backup", "web"], arguments].concat())?;
    let run = site
        .cluster
        .wait_run(&run, std::time::Duration::from_secs(150))?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    ensure!(site.lab.snapshots()?.is_empty(), "a snapshot was left");
    for disk in rows(&run["disks"]) {
        ensure!(
            disk["transport"] == transport,
            "not by {transport}: {disk:#}"
        );
    }
    let point = text(&run["backup"], "point_id")?;
    site.check_equal_to_frozen("web", &point)?;
    let shown = site.cluster.json(&["point", "show", &point])?;
    let roots = rows(&shown["disks"]);
    Ok((
        run,
        roots.into_iter().map(|disk| disk["root"].clone()).collect(),
    ))
}

#[test]
fn nfc_and_the_folder_give_the_same_roots() -> Result<()> {
    let site = site()?;
    let (run, through_nfc) = back_up(&site, &[], "nfc")?;
    ensure!(rows(&run["warnings"]).is_empty(), "{run:#}");
    ensure!(
        site.lab.calls("folder-get")? < 20,
        "the disks came by folder"
    );
    site.lab.fault("nfc-open", "error:1", 0, -1)?;
    let (run, through_folder) = back_up(&site, &["--full"], "folder")?;
    ensure!(
        run["warnings"].to_string().contains("another way"),
        "a fallback is told: {run:#}"
    );
    ensure!(through_nfc == through_folder, "the roots differ");
    Ok(())
}

#[test]
fn where_a_host_goes_in_mid_read_the_folder_goes_on() -> Result<()> {
    let site = site()?;
    // A few reads are answered, then every connection is closed, with whatever ticket.
    site.lab.fault("nfc-read", "close-mid", 5, -1)?;
    let (run, _) = back_up(&site, &[], "folder")?;
    ensure!(
        run["warnings"].to_string().contains("another way"),
        "a fallback is told: {run:#}"
    );
    Ok(())
}
