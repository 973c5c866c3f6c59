//! The main job, end to end, as an administrator would do it.
//!
//! Starts the lab and the three roles as separate processes with mutual TLS, protects a bootable
//! Debian with two disks while a writer changes both, restores it as a new VM and as files, and
//! compares every byte with what was frozen.
//!
//! `demo --guest small` uses small disks without a boot loader and no sibling; `demo --keep` leaves
//! everything running at the end, and tells how to try the tool by hand.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use stillwater_tests::cluster::{Role, hash, rows, text, wait};
use stillwater_tests::guest::{Disks, Writer};
use stillwater_tests::lab::{Frozen, VmSpec};
use stillwater_tests::{Cluster, Lab};

const PATIENCE: Duration = Duration::from_secs(900);

struct Options {
    guest: String,
    keep: bool,
}

fn main() -> Result<()> {
    let options = options()?;
    let with_sibling = options.guest == "debian";
    step("start a vCenter with a guest of two disks, and its sibling");
    let disks = Disks::new()?;
    let mut vms = vec![VmSpec::new("debian", disks.set(&options.guest)?)];
    if with_sibling {
        vms.push(VmSpec::new("sibling", disks.set("sibling")?));
    }
    let lab = Lab::start(&vms, 2000)?;

    step("start controller, repository and proxy; each joins with a single-use token");
    let cluster = Cluster::start()?;
    cluster.add_lab(&lab)?;
    print!(
        "{}{}",
        cluster.ok(&["node", "list"])?,
        cluster.ok(&["vm", "list"])?
    );

    step("back up the running VM while a writer changes both disks");
    let writers = [0, 1].map(|index| {
        lab.live_disk("debian", index)
            .and_then(|disk| Writer::start(&disk, index as u64 + 1))
    });
    let (first, took) = backup(&cluster, "debian")?;
    for (index, writer) in writers.into_iter().enumerate() {
        let blocks = writer?.stop()?;
        ensure!(blocks > 0, "the writer of disk {index} never wrote");
        println!("disk {index}: {blocks} blocks changed meanwhile");
    }
    ensure!(lab.snapshots()?.is_empty(), "a snapshot was left");
    println!("snapshots left: 0");
    let frozen = hashed(lab.last_frozen("debian")?)?;
    report(&cluster, &first, took)?;

    step("restore it as a new VM");
    let begin = Instant::now();
    let args = [
        "restore",
        "vm",
        &first,
        "--name",
        "debian-restored",
        "--datastore",
        "lab-ds",
    ];
    let run = cluster.wait_run(&cluster.start_run(&args)?, PATIENCE)?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    finish(begin);
    for (index, (disk, want)) in frozen.iter().enumerate() {
        compare(disk, want, &lab.live_disk("debian-restored", index)?)?;
    }

    step("restore its disks as files");
    for (disk, want) in &frozen {
        let key = disk.key.to_string();
        let file = cluster.dir().join(format!("debian-{key}.raw"));
        let to = file.to_str().context("utf-8")?;
        let begin = Instant::now();
        cluster.ok(&["restore", "disk", &first, "--disk", &key, "--to", to])?;
        finish(begin);
        compare(disk, want, &file)?;
        std::fs::remove_file(&file)?;
    }

    step("back it up again: what did not change is not stored again");
    let (second, took) = backup(&cluster, "debian")?;
    report(&cluster, &second, took)?;

    if with_sibling {
        step("back up the sibling, a clone with other packages: it shares what it can");
        let (sibling, took) = backup(&cluster, "sibling")?;
        report(&cluster, &sibling, took)?;
    }

    step("what the roles have used");
    for role in Role::ALL {
        let used = cluster.usage(role)?;
        println!(
            "{:<10}  {:>5.1} CPU s, at most {:>5.1} MiB of memory",
            role.name(),
            used.cpu_seconds,
            used.peak_bytes as f64 / 1_048_576.0
        );
    }

    println!("\nThe demo is over: every restored disk was identical to what was frozen.");
    if options.keep {
        keep(&cluster)?;
    }
    Ok(())
}

fn options() -> Result<Options> {
    let mut options = Options {
        guest: "debian".into(),
        keep: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--keep" => options.keep = true,
            "--guest" => options.guest = args.next().context("--guest needs a name")?,
            _ => bail!("usage: demo [--guest debian|small] [--keep]"),
        }
    }
    Ok(options)
}

fn keep(cluster: &Cluster) -> Result<()> {
    let command = cluster.command(&[])?;
    println!("\nEverything keeps running until you press Enter. To try the tool by hand:\n");
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            println!("  export {}={}", name.display(), value.display());
        }
    }
    println!("  {} vm list", command.get_program().display());
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

fn step(what: &str) {
    println!("\n== {what}");
}

fn finish(begin: Instant) {
    println!("took {:.1} s", begin.elapsed().as_secs_f64());
}

fn backup(cluster: &Cluster, vm: &str) -> Result<(String, Duration)> {
    let begin = Instant::now();
    let run = cluster.start_run(&["backup", vm])?;
    let ended = wait("the backup ends", PATIENCE, || {
        let shown = cluster.json(&["run", "show", &run])?;
        let state = text(&shown, "state")?;
        Ok((state != "pending" && state != "running").then_some(shown))
    })?;
    ensure!(ended["state"] == "succeeded", "{ended:#}");
    Ok((text(&ended["backup"], "point_id")?, begin.elapsed()))
}

fn report(cluster: &Cluster, point: &str, took: Duration) -> Result<()> {
    let shown = cluster.json(&["point", "show", point])?;
    let sum = |field: &str| -> u64 {
        rows(&shown["disks"])
            .iter()
            .filter_map(|disk: &Value| disk[field].as_u64())
            .sum()
    };
    let mib = |field: &str| sum(field) as f64 / 1_048_576.0;
    println!(
        "point {point}: disks {:.0} MiB, read {:.1} MiB, new {:.1} MiB, stored {:.1} MiB, {:.1} s",
        mib("length_bytes"),
        mib("read_bytes"),
        mib("new_bytes"),
        mib("stored_bytes"),
        took.as_secs_f64()
    );
    Ok(())
}

/// Each kept copy with the BLAKE3 of its bytes.
fn hashed(frozen: Vec<Frozen>) -> Result<Vec<(Frozen, String)>> {
    frozen
        .into_iter()
        .map(|disk| hash(&disk.file).map(|hash| (disk, hash)))
        .collect()
}

fn compare(frozen: &Frozen, want: &str, restored: &Path) -> Result<()> {
    let got = hash(restored)?;
    ensure!(
        want == got,
        "disk {} differs: frozen {want}, restored {got}",
        frozen.key
    );
    println!(
        "disk {}: identical to the frozen content, BLAKE3 {want}",
        frozen.key
    );
    Ok(())
}
