//! Points end by the retention of the policy that made them, and only those.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;
use stillwater_tests::cluster::{Role, rows, text, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::VmSpec;
use stillwater_tests::{Cluster, Site};

const PATIENCE: Duration = Duration::from_secs(150);
/// Everything is looked at as often as that, so that tests need not wait for minutes.
const EAGER: &str = "[scheduler]\nlook-every = \"1s\"\nexpire-every = \"1s\"\n";
/// A repository that locks nothing by itself.
const UNLOCKED: &str = "[store]\nreserve = \"256MiB\"\nretention = \"0s\"\n";

fn site() -> Result<Site> {
    let mut cluster = Cluster::control(IpAddr::V4(Ipv4Addr::LOCALHOST), EAGER)?;
    cluster.join_and_start(Role::Repository, UNLOCKED)?;
    cluster.join_and_start(Role::Proxy, "")?;
    cluster.wait_online(2)?;
    let disks = Disks::new()?;
    let vms = [VmSpec::new("web", vec![disks.small()?]).in_folder("shop")];
    Site::of(&vms, cluster)
}

fn apply(site: &Site, retention: &str) -> Result<Value> {
    let file = site.cluster.dir().join("shop.toml");
    let policy = format!(
        "name = \"shop\"\n\
         [[scope.include]]\nfolder = \"/DC0/vm/shop\"\n\
         [consistency]\nladder = [{{ level = \"crash\" }}]\n\
         [schedule]\nrpo = \"1m\"\n\
         [retention]\n{retention}\n\
         [store]\nrepository = \"repository\"\n"
    );
    std::fs::write(&file, policy)?;
    let file = file.to_str().context("utf-8")?;
    site.cluster.json(&["policy", "apply", "-f", file, "--yes"])
}

/// The points, oldest first.
fn points(site: &Site) -> Result<Vec<String>> {
    let points = rows(&site.cluster.json(&["point", "list"])?);
    let ids = points.iter().rev().map(|point| text(point, "point_id"));
    ids.collect()
}

/// Waits until so many points were made since, and tells all that were seen, in the order in which they came.
fn wait_made(site: &Site, seen: &mut Vec<String>, count: usize) -> Result<()> {
    wait(&format!("{count} points were made"), 2 * PATIENCE, || {
        for point in points(site)? {
            if !seen.contains(&point) {
                seen.push(point);
            }
        }
        Ok((seen.len() >= count).then_some(()))
    })
}

/// What is told of the points of the policy.
fn fates(site: &Site) -> Result<Vec<Value>> {
    Ok(rows(&site.cluster.json(&[
        "policy",
        "retention",
        "shop",
    ])?))
}

/// Why a point stays or goes.
fn why(fates: &[Value], point: &str) -> Result<String> {
    let told = fates.iter().find(|told| told["point_id"] == point);
    let why = &told.with_context(|| format!("nothing is told of {point}"))?["why"];
    Ok(why.to_string())
}

#[test]
fn a_year_of_a_policy_that_is_not_applied_is_shown() -> Result<()> {
    let site = site()?;
    let file = site.cluster.dir().join("gold.toml");
    let policy = "name = \"gold\"\n[[scope.include]]\nname = \"*\"\n[schedule]\nrpo = \"15m\"\n\
                  [retention]\nkeep-last = 4\ndaily = 14\nmonthly = 12\n[store]\nrepository = \"none\"\n";
    std::fs::write(&file, policy)?;
    let file = file.to_str().context("utf-8")?;
    let began = std::time::Instant::now();
    let told = site.cluster.json(&["policy", "simulate", "-f", file])?;
    eprintln!(
        "{:?} for a year of points each quarter of an hour",
        began.elapsed()
    );
    let days = rows(&told["days"]);
    ensure!(
        days.len() == 365 && days[1]["made_count"] == 96,
        "{:#}",
        days[1]
    );
    // Four of today, thirteen days before it, and the ends of eleven or twelve months that are over.
    let kept = rows(&told["kept"]).len();
    ensure!((27..=29).contains(&kept), "{kept}");
    ensure!(days[364]["kept_count"] == kept, "{:#}", days[364]);
    site.cluster
        .fails(&["policy", "retention", "gold"], 4, "POLICY_NOT_FOUND")?;
    Ok(())
}

#[test]
fn points_of_a_policy_end_by_its_retention_but_no_locked_proved_or_foreign_one() -> Result<()> {
    let site = site()?;
    let by_hand = site.back_up()?;
    apply(&site, "keep-last = 9")?;
    let mut made = vec![by_hand.clone()];
    wait_made(&site, &mut made, 5)?;
    let [_, locked, proved, unwanted, ..] = made.as_slice() else {
        bail!("{made:?}");
    };
    site.cluster.ok(&["point", "lock", locked, "--for", "1d"])?;
    site.cluster.ok(&["point", "verify", proved])?;
    ensure!(
        points(&site)?.contains(unwanted),
        "nothing goes before its time"
    );
    let before = fates(&site)?;
    ensure!(
        before.iter().all(|point| point["is_expired"] == false) && why(&before, &by_hand).is_err(),
        "a point of nobody's is no matter of the policy, and none goes: {before:#?}"
    );
    let told = apply(&site, "keep-last = 1")?;
    ensure!(told["changes"][0]["is_weaker"] == true, "{told:#}");
    let there = wait("a point expires", PATIENCE, || {
        let there = points(&site)?;
        Ok((!there.contains(unwanted)).then_some(there))
    })?;
    for point in [&by_hand, locked, proved] {
        ensure!(there.contains(point), "{point} is gone, {there:?} are left");
    }
    ensure!(there.len() > 3, "the newest is gone: {there:?}");
    let after = fates(&site)?;
    ensure!(why(&after, locked)?.contains("locked until"), "{after:#?}");
    ensure!(
        why(&after, proved)?.contains("the newest good one"),
        "{after:#?}"
    );
    let log = site.cluster.log(Role::Controller);
    ensure!(
        log.contains("expired a restore point") && log.contains(unwanted),
        "whoever looks for a point finds why it is gone"
    );

    // What comes to exist without a policy, or outlives it, stays.
    site.cluster.ok(&["policy", "remove", "shop", "--yes"])?;
    let left = points(&site)?;
    site.cluster.ok(&["point", "verify", proved])?;
    let there = points(&site)?;
    ensure!(left.iter().all(|point| there.contains(point)), "{there:?}");
    Ok(())
}

#[test]
fn a_policy_that_locks_its_points_has_each_locked_for_so_long_and_nobody_deletes_one() -> Result<()>
{
    let site = site()?;
    apply(&site, "keep-last = 1\nlock = \"2d\"")?;
    let mut made = Vec::new();
    wait_made(&site, &mut made, 2)?;
    let hours = |point: &Value| -> Result<i64> {
        let time = |field: &str| Ok::<_, anyhow::Error>(text(point, field)?.parse::<Timestamp>()?);
        let lock = time("retain_until")?.duration_since(time("committed_at")?);
        Ok(lock.as_hours())
    };
    let locked = wait("both are locked", PATIENCE, || {
        let points = rows(&site.cluster.json(&["point", "list"])?);
        let locked = points.iter().map(hours).collect::<Result<Vec<_>>>()?;
        Ok(locked.iter().all(|hours| *hours == 48).then_some(points))
    })?;
    ensure!(locked.len() >= 2, "keep-last is 1, and no lock is over");
    site.cluster
        .fails(&["point", "delete", &made[0], "--yes"], 6, "POINT_LOCKED")?;
    // Neither a weaker policy nor none takes a lock back.
    apply(&site, "keep-last = 1")?;
    site.cluster.ok(&["policy", "remove", "shop", "--yes"])?;
    site.cluster
        .fails(&["point", "delete", &made[0], "--yes"], 6, "POINT_LOCKED")?;
    ensure!(points(&site)?.contains(&made[0]));
    Ok(())
}
