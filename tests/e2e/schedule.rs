//! Policies keep their promises without anybody typing `backup`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stillwater_tests::cluster::{Role, rows, text, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::VmSpec;
use stillwater_tests::{Cluster, Site};

const PATIENCE: Duration = Duration::from_secs(90);
/// Scopes are looked at as often as that, so that tests need not wait for a minute.
const EAGER: &str = "[scheduler]\nlook-every = \"1s\"\n";

/// Two VMs in the folder that the policy names, one beside it, and a cluster that looks often.
fn site() -> Result<Site> {
    let disks = Disks::new()?;
    let shop =
        |name| -> Result<VmSpec> { Ok(VmSpec::new(name, vec![disks.small()?]).in_folder("shop")) };
    let vms = [
        shop("web")?,
        shop("db")?,
        VmSpec::new("other", vec![disks.small()?]),
    ];
    Site::of(&vms, Cluster::with_controller(EAGER)?)
}

fn apply(site: &Site, rpo: &str) -> Result<Value> {
    apply_scope(site, "[[scope.include]]\nfolder = \"/DC0/vm/shop\"\n", rpo)
}

fn apply_scope(site: &Site, scope: &str, rpo: &str) -> Result<Value> {
    let file = site.cluster.dir().join("shop.toml");
    let policy = format!(
        "name = \"shop\"\n\
         {scope}\
         [consistency]\nladder = [{{ level = \"crash\" }}]\n\
         [schedule]\nrpo = \"{rpo}\"\n\
         [retention]\nkeep-last = 5\n\
         [store]\nrepository = \"repository\"\n"
    );
    std::fs::write(&file, policy)?;
    let file = file.to_str().context("utf-8")?;
    site.cluster.json(&["policy", "apply", "-f", file, "--yes"])
}

fn jobs(site: &Site) -> Result<Vec<Value>> {
    Ok(rows(&site.cluster.json(&["job", "list"])?))
}

fn points(site: &Site, vm: &str) -> Result<Vec<Value>> {
    let points = rows(&site.cluster.json(&["point", "list"])?);
    let of = points.into_iter().filter(|point| point["vm_name"] == vm);
    Ok(of.collect())
}

fn wait_points(site: &Site, vm: &str, count: usize) -> Result<Vec<Value>> {
    wait(&format!("{vm} has {count} points"), PATIENCE, || {
        let points = points(site, vm)?;
        Ok((points.len() >= count).then_some(points))
    })
}

fn standing(site: &Site) -> Result<Vec<Value>> {
    Ok(rows(&site.cluster.json(&["alarm", "list"])?))
}

#[test]
fn a_policy_protects_its_folder_and_what_comes_into_it_and_a_restart_keeps_its_promises()
-> Result<()> {
    let mut site = site()?;
    let told = apply(&site, "1m")?;
    ensure!(told["is_new"] == true, "{told:#}");
    ensure!(rows(&told["enter"]).len() == 2, "{told:#}");
    let newest = wait_points(&site, "web", 1)?.remove(0);
    wait_points(&site, "db", 1)?;
    site.check_equal_to_frozen("web", &text(&newest, "point_id")?)?;
    // The promise is one minute: further points come without a word.
    wait_points(&site, "web", 2)?;
    wait_points(&site, "db", 2)?;
    let first = points(&site, "web")?.pop().context("a point")?;

    // A VM that comes into the folder is protected with no edit.
    let point = text(&first, "point_id")?;
    let restore = ["restore", "vm", &point, "--name", "late", "--datastore"];
    let place = ["lab-ds", "--folder", "/DC0/vm/shop", "--follow"];
    site.cluster.ok(&[&restore[..], &place[..]].concat())?;
    wait_points(&site, "late", 1)?;

    site.cluster.kill_role(Role::Controller)?;
    let before = Instant::now();
    site.cluster.start_role(Role::Controller)?;
    site.cluster.wait_online(2)?;
    let count = points(&site, "web")?.len();
    wait_points(&site, "web", count + 1)?;
    eprintln!("{:?} from the restart to the next point", before.elapsed());
    // What was achieved before the restart is not forgotten by it.
    let kept = jobs(&site)?;
    ensure!(kept.len() == 3, "{kept:#?}");
    let web = kept.iter().find(|job| job["vm_name"] == "web");
    let web = web.context("a job of web")?;
    ensure!(web["achieved_p50_seconds"].is_u64(), "{web:#}");
    ensure!(
        web["failure_count"] == 0 || web["run_id"].is_string(),
        "{web:#}"
    );
    ensure!(
        points(&site, "other")?.is_empty(),
        "nobody promised anything"
    );

    // Whatever leaves scope is left in peace, and keeps its points.
    site.cluster.ok(&["policy", "remove", "shop", "--yes"])?;
    wait("nothing is promised", PATIENCE, || {
        let runs = rows(&site.cluster.json(&["run", "list"])?);
        let at_work = |run: &Value| run["state"] == "running" || run["state"] == "pending";
        Ok((jobs(&site)?.is_empty() && !runs.iter().any(at_work)).then_some(()))
    })?;
    ensure!(points(&site, "web")?.len() > count, "points stay");
    wait("no snapshot is left", PATIENCE, || {
        Ok(site.lab.snapshots()?.is_empty().then_some(()))
    })
}

#[test]
fn a_policy_by_tag_protects_who_has_it_and_not_who_is_excluded_by_one() -> Result<()> {
    let disks = Disks::new()?;
    let vm =
        |name, tag| -> Result<VmSpec> { Ok(VmSpec::new(name, vec![disks.small()?]).with_tag(tag)) };
    let vms = [
        vm("web", "Backup:Gold")?,
        vm("db", "Backup:Never")?,
        VmSpec::new("other", vec![disks.small()?]),
    ];
    let site = Site::of(&vms, Cluster::with_controller(EAGER)?)?;
    let scope = "include = [{ tag = \"Backup/*\" }]\nexclude = [{ tag = \"Backup/Never\" }]";
    let told = apply_scope(&site, &format!("[scope]\n{scope}\n"), "1m")?;
    ensure!(rows(&told["enter"]).len() == 1, "{told:#}");
    let members = rows(&site.cluster.json(&["policy", "members", "shop", "--all"])?);
    let why = |name: &str| {
        let path = format!("/DC0/vm/{name}");
        let member = members
            .iter()
            .find(|member| member["path"] == path.as_str());
        member
            .and_then(|member| member["why"].as_str())
            .context("a member")
    };
    ensure!(why("web")?.starts_with("in by"), "{members:#?}");
    ensure!(why("db")?.starts_with("left out by"), "{members:#?}");
    wait_points(&site, "web", 1)?;
    ensure!(points(&site, "db")?.is_empty() && points(&site, "other")?.is_empty());
    Ok(())
}

#[test]
fn a_promise_that_cannot_be_kept_is_an_alarm_that_says_what_is_missing_until_it_is_there()
-> Result<()> {
    let mut site = site()?;
    site.cluster.ok(&["proxy", "drain", "proxy"])?;
    apply(&site, "1m")?;
    let alarm = wait("the broken promise is an alarm", 2 * PATIENCE, || {
        let alarms = standing(&site)?;
        let about = |alarm: &Value| alarm["kind"] == "PROMISE_BROKEN";
        Ok(alarms.into_iter().find(about))
    })?;
    let message = text(&alarm, "message")?;
    ensure!(message.contains("policy shop"), "{message}");
    ensure!(message.contains("add a proxy that reads"), "{message}");
    ensure!(
        site.lab.calls("CreateSnapshotEx_Task")? == 0,
        "nothing is frozen for nothing"
    );
    let waiting = jobs(&site)?;
    let waits = |job: &Value| {
        job["waits_for"]
            .as_str()
            .is_some_and(|why| why.contains("proxy"))
    };
    ensure!(
        waiting.len() == 2 && waiting.iter().all(waits),
        "{waiting:#?}"
    );
    site.cluster.ok(&["proxy", "undrain", "proxy"])?;
    for vm in ["web", "db"] {
        wait_points(&site, vm, 1)?;
    }
    wait("the alarms are over", PATIENCE, || {
        Ok(standing(&site)?.is_empty().then_some(()))
    })?;
    site.cluster.stop_role(Role::Controller)
}

#[test]
fn a_killed_proxy_breaks_no_promise_while_another_is_there() -> Result<()> {
    let disks = Disks::new()?;
    let shop =
        |name| -> Result<VmSpec> { Ok(VmSpec::new(name, vec![disks.small()?]).in_folder("shop")) };
    let mut cluster = Cluster::with_controller(EAGER)?;
    cluster.add_proxy()?;
    let mut site = Site::of(&[shop("web")?, shop("db")?], cluster)?;
    apply(&site, "1m")?;
    let vms = ["web", "db"];
    vms.iter()
        .try_for_each(|vm| wait_points(&site, vm, 1).map(drop))?;
    site.cluster.kill_role(Role::Proxy)?;
    vms.iter()
        .try_for_each(|vm| wait_points(&site, vm, 3).map(drop))?;
    for job in jobs(&site)? {
        let achieved = job["achieved_most_seconds"].as_u64().context("achieved")?;
        eprintln!("{}: {achieved} s at most, {}", job["vm_name"], job["pace"]);
        ensure!(achieved < 90, "{job:#}");
    }
    for run in rows(&site.cluster.json(&["run", "list"])?) {
        ensure!(run["state"] != "failed", "{run:#}");
    }
    Ok(())
}
