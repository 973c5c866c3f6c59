//! The account that our roles describe does the whole job, and what it lacks is named.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stillwater_tests::Site;
use stillwater_tests::cluster::{Cluster, rows, text};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{ENFORCED, Lab, VmSpec, shipped_roles};

const RUN: Duration = Duration::from_secs(120);
/// Points can be deleted at once.
const UNLOCKED: &str = "[store]\nreserve = \"256MiB\"\nretention = \"0s\"";

/// A lab whose account holds these roles and nothing else, and a cluster that logs in with it.
fn site(roles: &[&str]) -> Result<(Site, Vec<String>)> {
    let disks = Disks::new()?;
    let web = VmSpec::new("web", vec![disks.small()?]);
    let lab = Lab::start_with(&[web], &ENFORCED)?;
    let allowed = shipped_roles(roles)?;
    lab.allow(&allowed)?;
    let cluster = Cluster::with_repository(UNLOCKED)?;
    cluster.add_lab(&lab)?;
    Ok((Site { lab, cluster }, allowed))
}

/// Takes one privilege from the account.
fn withhold(lab: &Lab, privileges: &[String], without: &str) -> Result<()> {
    let left = privileges.iter().filter(|held| *held != without);
    lab.allow(&left.cloned().collect::<Vec<_>>())
}

/// What preflight says that the account lacks, with its verdict.
fn lacking(site: &Site, arguments: &[&str]) -> Result<BTreeSet<(String, String)>> {
    let all = [&["vm", "preflight", "web", "-o", "json"], arguments].concat();
    let output = site.cluster.run(&all)?;
    let found: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{all:?}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let findings = rows(&found[0]["findings"]);
    let is_blocked = findings.iter().any(|f| f["verdict"] == "blocked");
    let code = if is_blocked { 3 } else { 0 };
    ensure!(output.status.code() == Some(code), "{found:#}");
    let named = findings
        .iter()
        .filter(|finding| finding["check"] == "PRIVILEGE" && finding["verdict"] != "ok");
    named
        .map(|f| Ok((text(f, "privilege")?, text(f, "verdict")?)))
        .collect()
}

#[test]
fn the_account_that_our_roles_describe_does_the_whole_job() -> Result<()> {
    let (site, _) = site(&["backup", "restore"])?;
    ensure!(lacking(&site, &["--restore"])?.is_empty());
    let first = site.back_up()?;
    site.lab.touch("web", 2000, 0.05, 1)?;
    let quiesced = ["backup", "web", "--quiesce", "file-system"];
    let run = site.cluster.start_run(&quiesced)?;
    let run = site.cluster.wait_run(&run, RUN)?;
    ensure!(
        run["state"] == "succeeded" && run["warnings"] == json!([]),
        "{run:#}"
    );
    let point = text(&run["backup"], "point_id")?;
    let shown = site.cluster.json(&["point", "show", &point])?;
    ensure!(
        shown["consistency"] == "file_system" && shown["readings"][0]["how"] == "increment",
        "{shown:#}"
    );
    let kept = site.cluster.json(&["point", "show", &point, "--config"])?;
    ensure!(kept["surroundings"]["remarks"] == json!([]), "{kept:#}");
    ensure!(kept["surroundings"]["nvram_file"].is_string(), "{kept:#}");
    site.check_equal_to_frozen("web", &point)?;
    let restore = ["restore", "vm", &point, "--name", "web-2", "--datastore"];
    let restore = [&restore[..], &["lab-ds", "--power-on"]].concat();
    let run = site.cluster.start_run(&restore)?;
    let run = site.cluster.wait_run(&run, RUN)?;
    ensure!(
        run["state"] == "succeeded" && run["warnings"] == json!([]),
        "{run:#}"
    );
    site.cluster.ok(&["point", "delete", &first, "--yes"])?;
    ensure!(site.lab.snapshots()?.is_empty(), "a snapshot was left");
    Ok(())
}

#[test]
fn each_privilege_that_is_lacking_is_named_alone() -> Result<()> {
    let (site, allowed) = site(&["backup", "restore"])?;
    for privilege in &allowed {
        withhold(&site.lab, &allowed, privilege)?;
        let found = lacking(&site, &["--restore"])?;
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        ensure!(names == [privilege], "without {privilege}: {found:?}");
    }
    site.lab.allow(&allowed)?;
    ensure!(lacking(&site, &["--restore"])?.is_empty());
    Ok(())
}

#[test]
fn what_a_guest_with_an_account_needs_is_named_too() -> Result<()> {
    let (site, allowed) = site(&["backup", "guest"])?;
    let guest = shipped_roles(&["guest"])?;
    let first = guest.first().context("a privilege")?;
    withhold(&site.lab, &allowed, first)?;
    ensure!(
        lacking(&site, &[])?.is_empty(),
        "nobody runs anything there"
    );
    let password = site.cluster.dir().join("guest.password");
    std::fs::write(&password, "guest")?;
    let file = password.to_str().context("utf-8")?;
    let set = ["guest-credential", "set", "web", "--username", "root"];
    let set = [&set[..], &["--password-file", file]].concat();
    site.cluster.ok(&set)?;
    for privilege in &guest {
        withhold(&site.lab, &allowed, privilege)?;
        let found = lacking(&site, &[])?;
        let expected = [(privilege.clone(), "warning".to_owned())];
        ensure!(found == expected.into(), "without {privilege}: {found:?}");
    }
    Ok(())
}

#[test]
fn a_run_without_a_privilege_ends_as_preflight_foretold_and_leaves_nothing() -> Result<()> {
    let (site, allowed) = site(&["backup"])?;
    site.back_up()?;
    for (seed, privilege) in allowed.iter().enumerate() {
        withhold(&site.lab, &allowed, privilege)?;
        let found = lacking(&site, &[])?;
        let (_, verdict) = found.first().context("named")?;
        site.lab.touch("web", 2000, 0.02, seed as u64)?;
        let run = site.cluster.start_run(&["backup", "web"])?;
        let run = site.cluster.wait_run(&run, RUN)?;
        check_foretold(privilege, verdict, &run)?;
        ensure!(
            site.lab.snapshots()?.is_empty(),
            "{privilege}: a snapshot was left"
        );
        if run["state"] == "succeeded" {
            let point = text(&run["backup"], "point_id")?;
            site.check_equal_to_frozen("web", &point)?;
        }
    }
    Ok(())
}

fn check_foretold(privilege: &str, verdict: &str, run: &Value) -> Result<()> {
    eprintln!("{privilege}: {verdict}, {}", run["state"]);
    if verdict == "blocked" {
        let fault = &run["fault"];
        let is_named = fault["message"].to_string().contains(privilege);
        ensure!(
            run["state"] == "failed" && fault["reason"] == "VCENTER_PRIVILEGE_MISSING" && is_named,
            "{privilege}: {run:#}"
        );
        return Ok(());
    }
    ensure!(run["state"] == "succeeded", "{privilege}: {run:#}");
    // Storage policies are kept where they can be seen: nobody is warned for them.
    let is_warned = run["warnings"].to_string().contains(privilege);
    ensure!(
        is_warned != privilege.starts_with("StorageProfile"),
        "{privilege}: {run:#}"
    );
    Ok(())
}
