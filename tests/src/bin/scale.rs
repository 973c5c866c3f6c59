//! Whether throughput grows with proxies: `make scale` (VMS=16 MIB=384 ROUNDS=3).
//!
//! Every disk is a source of 50 MB/s: nbdkit serves it and holds it back. Each proxy reads one disk at a time, so that
//! only more proxies can read more. What one, two and four of them read in a second is compared.

use std::time::Duration;

use anyhow::{Result, ensure};
use jiff::Timestamp;
use stillwater_tests::cluster::{Cluster, Role, text};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{DiskSpec, Lab, VmSpec};
use stillwater_tests::workspace::setting;

/// Bytes that a source gives in a second.
const SOURCE: u64 = 50_000_000;
/// What of linear growth is demanded.
const LEAST: f64 = 0.9;
/// The kernel's own address for all loopback.
const HOST: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// Nothing nearer than the command that serves disks.
const CONTROLLER: &str = "[transports]\nnfc = false\n";
const REPOSITORY: &str = "[store]\nreserve = \"256MiB\"";

struct Options {
    vms: usize,
    mib: u64,
    rounds: u32,
}

fn main() -> Result<()> {
    let options = Options {
        vms: setting("VMS", 16)?,
        mib: setting("MIB", 384)?,
        rounds: setting("ROUNDS", 3)?,
    };
    println!(
        "{} VMs with a disk of {} MiB each, sources of {} MB/s, median of {} rounds",
        options.vms,
        options.mib,
        SOURCE / 1_000_000,
        options.rounds
    );
    let mut one = None;
    for proxies in [1, 2, 4] {
        let mut rates = (0..options.rounds)
            .map(|_| round(&options, proxies))
            .collect::<Result<Vec<f64>>>()?;
        rates.sort_by(f64::total_cmp);
        let rate = rates[rates.len() / 2];
        let linear = rate / (*one.get_or_insert(rate) * proxies as f64);
        println!(
            "{proxies} proxies: {:.1} MB/s, {linear:.2} of linear",
            rate / 1e6
        );
        ensure!(linear >= LEAST, "less than {LEAST} of linear");
    }
    Ok(())
}

/// Bytes a second of all VMs' first backups, from the first start to the last end.
fn round(options: &Options, proxies: usize) -> Result<f64> {
    let disks = Disks::new()?;
    let length = options.mib << 20;
    let spec = |n: usize| {
        let mut disk = DiskSpec::new(disks.some(length, length, n as u64)?);
        disk.take = Some("move");
        Ok(VmSpec::new(&format!("vm-{n}"), vec![disk]))
    };
    let vms: Vec<VmSpec> = (0..options.vms).map(spec).collect::<Result<_>>()?;
    let lab = Lab::start(&vms, 64)?;
    let mut cluster = Cluster::control(HOST, CONTROLLER)?;
    cluster.join_and_start(Role::Repository, REPOSITORY)?;
    for n in 0..proxies {
        cluster.join_and_start(Role::FleetProxy(n), &proxy(&lab))?;
    }
    cluster.wait_online(1 + proxies)?;
    cluster.add_lab(&lab)?;
    let runs = vms
        .iter()
        .map(|vm| cluster.start_run(&["backup", &vm.name]));
    let (mut first, mut last) = (Timestamp::MAX, Timestamp::MIN);
    for run in runs.collect::<Result<Vec<_>>>()? {
        let ended = cluster.wait_run(&run, Duration::from_secs(900))?;
        ensure!(ended["state"] == "succeeded", "{ended:#}");
        ensure!(ended["disks"][0]["transport"] == "nbd", "{ended:#}");
        first = first.min(text(&ended, "started_at")?.parse()?);
        last = last.max(text(&ended, "ended_at")?.parse()?);
        // Kept copies would fill this machine.
        lab.prune()?;
    }
    let seconds = last.duration_since(first).as_secs_f64();
    Ok((length * options.vms as u64) as f64 / seconds)
}

/// A proxy with one slot that has the lab's datastore served to it, held back.
fn proxy(lab: &Lab) -> String {
    let mount = lab.dir().join("state/ds/lab-ds");
    let serve = format!(
        "f=${{2#*] }}; exec nbdkit --foreground --readonly --filter=rate --unix \"$1\" file \
         \"{}/${{f%.vmdk}}-flat.vmdk\" rate={} burstiness=0.1",
        mount.display(),
        SOURCE * 8
    );
    let serve = serve.replace('{', "{{").replace('}', "}}");
    format!(
        "[limits]\ntransfers = 1\n[transports]\n\
         nbd-command = [\"/bin/sh\", \"-c\", {serve:?}, \"sh\", \"{{socket}}\", \"{{file}}\"]\n"
    )
}
