//! Incremental for ever: what is read and stored follows what changed, every point is whole, and a
//! change map is believed no further than it was checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stillwater_tests::Site;
use stillwater_tests::cluster::{Cluster, Role, hash, rows, text};
use stillwater_tests::guest::{Disks, Writer};
use stillwater_tests::lab::{DiskSpec, VmSpec};
use stillwater_tests::sparse;
use stillwater_types::TreeId;

use nodes::Nodes;

mod nodes;

const MIB: u64 = 1 << 20;

/// What a backup of `web` cost, and the point it made.
struct Made {
    run: Value,
    point: String,
    readings: Vec<Value>,
    read_bytes: u64,
    stored_bytes: u64,
    took: Duration,
}

fn back_up(site: &Site, arguments: &[&str]) -> Result<Made> {
    let began = Instant::now();
    let run = site
        .cluster
        .start_run(&[&["backup", "web"], arguments].concat())?;
    let run = site.cluster.wait_run(&run, Duration::from_secs(300))?;
    let took = began.elapsed();
    ensure!(run["state"] == "succeeded", "{run:#}");
    ensure!(site.lab.snapshots()?.is_empty(), "a snapshot was left");
    let point = text(&run["backup"], "point_id")?;
    let shown = site.cluster.json(&["point", "show", &point])?;
    let sum = |field: &str| -> u64 {
        let disks = rows(&shown["disks"]);
        disks.iter().filter_map(|disk| disk[field].as_u64()).sum()
    };
    Ok(Made {
        readings: rows(&shown["readings"]),
        read_bytes: sum("read_bytes"),
        stored_bytes: sum("stored_bytes"),
        run,
        point,
        took,
    })
}

impl Made {
    /// Demands that every disk was read in this way and for this reason.
    fn check(&self, how: &str, reason: &str) -> Result<()> {
        ensure!(!self.readings.is_empty(), "no readings");
        for reading in &self.readings {
            let told = text(reading, "reason").unwrap_or_default();
            ensure!(
                reading["how"] == how && told.contains(reason),
                "should be read as {how} because {reason:?}: {reading:#}"
            );
        }
        Ok(())
    }

    fn sum(&self, field: &str) -> u64 {
        let readings = self.readings.iter();
        readings.filter_map(|reading| reading[field].as_u64()).sum()
    }
}

/// Compares every disk of a point with the copy that the lab kept of its freeze, data only.
fn check_equal(site: &Site, point: &str) -> Result<()> {
    for disk in site.lab.last_frozen("web")? {
        let key = disk.key.to_string();
        let file = site.cluster.dir().join(format!("{point}-{key}.raw"));
        let to = file.to_str().context("utf-8")?;
        site.cluster
            .ok(&["restore", "disk", point, "--disk", &key, "--to", to])?;
        sparse::check_equal(&file, &disk.file)?;
        std::fs::remove_file(&file)?;
    }
    Ok(())
}

fn gib(default: u64) -> u64 {
    std::env::var("INCREMENT_GIB")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn prune(site: &Site) -> Result<()> {
    site.lab.control("POST", "/frozen/prune", None).map(drop)
}

#[test]
fn an_increment_costs_what_changed() -> Result<()> {
    let site = Site::with(&[VmSpec::new("web", vec![DiskSpec::empty(gib(4) * 1024)])])?;
    // What a guest has: a part that is full, and files all over the rest.
    let dense = json!({"granule_bytes": 65_536, "fraction": 1.0, "seed": 1, "write_bytes": 65_536,
        "start": 0, "length": 256 * MIB});
    site.lab.act("web", "disks/2000/touch", &dense)?;
    site.lab.touch("web", 2000, 0.01, 2)?;
    let first = back_up(&site, &[])?;
    first.check("full", "no earlier point")?;
    check_equal(&site, &first.point)?;
    prune(&site)?;

    let unchanged = back_up(&site, &[])?;
    unchanged.check("increment", "")?;
    ensure!(
        unchanged.took < Duration::from_secs(5) && unchanged.stored_bytes < MIB,
        "an unchanged VM costs {:?} and {} bytes",
        unchanged.took,
        unchanged.stored_bytes
    );
    prune(&site)?;

    // One granule in a hundred all over the disk, one in a hundred where it is full, a grown file.
    site.lab.touch("web", 2000, 0.01, 3)?;
    let scattered = json!({"granule_bytes": 65_536, "fraction": 0.01, "seed": 4, "write_bytes": 4096,
        "start": 0, "length": 256 * MIB});
    site.lab.act("web", "disks/2000/touch", &scattered)?;
    let grown = json!({"granule_bytes": 65_536, "fraction": 1.0, "seed": 5, "write_bytes": 65_536,
        "start": 1024 * MIB, "length": 16 * MIB});
    site.lab.act("web", "disks/2000/touch", &grown)?;
    let made = back_up(&site, &[])?;
    made.check("increment", "")?;
    let changed = made.sum("changed_bytes");
    ensure!(changed > 20 * MIB, "the map names {changed} bytes");
    eprintln!(
        "{} GiB disk: map {} MiB, read {:.2}x, stored {:.2}x, {:?}; unchanged {:?}, {} bytes",
        gib(4),
        changed / MIB,
        made.read_bytes as f64 / changed as f64,
        made.stored_bytes as f64 / changed as f64,
        made.took,
        unchanged.took,
        unchanged.stored_bytes
    );
    ensure!(
        made.read_bytes <= 2 * changed && made.stored_bytes <= changed,
        "read {} and stored {} of {changed}",
        made.read_bytes,
        made.stored_bytes
    );
    check_equal(&site, &made.point)
}

/// A disk of a point as it was frozen.
struct Kept {
    point: String,
    disk: i32,
    hash: String,
}

/// Backs `web` up and notes what was frozen of these disks; the copies are then forgotten, as fifty are
/// many.
fn back_up_and_note(site: &Site, disks: &[i32]) -> Result<Vec<Kept>> {
    let run = site.cluster.backup("web", "succeeded")?;
    let point = text(&run["backup"], "point_id")?;
    let frozen = site.lab.last_frozen("web")?.into_iter();
    let frozen: Vec<_> = frozen.filter(|disk| disks.contains(&disk.key)).collect();
    let notes = frozen.iter().map(|disk| {
        Ok(Kept {
            point: point.clone(),
            disk: disk.key,
            hash: hash(&disk.file)?,
        })
    });
    let notes = notes.collect::<Result<_>>()?;
    prune(site)?;
    Ok(notes)
}

/// Copies of the disks that were frozen last, by key.
fn keep_frozen(site: &Site, name: &str) -> Result<BTreeMap<i32, PathBuf>> {
    let frozen = site.lab.last_frozen("web")?.into_iter();
    let copies = frozen.map(|disk| {
        let to = site.cluster.dir().join(format!("{name}-{}", disk.key));
        std::fs::copy(&disk.file, &to)?;
        Ok((disk.key, to))
    });
    copies.collect()
}

fn check_kept(site: &Site, kept: &Kept) -> Result<()> {
    let Kept {
        point,
        disk,
        hash: frozen,
    } = kept;
    let (key, file) = (
        disk.to_string(),
        site.cluster.dir().join(format!("{point}-{disk}.raw")),
    );
    let to = file.to_str().context("utf-8")?;
    site.cluster
        .ok(&["restore", "disk", point, "--disk", &key, "--to", to])?;
    ensure!(
        hash(&file)? == *frozen,
        "disk {disk} of {point} differs from its freeze"
    );
    std::fs::remove_file(&file).map_err(Into::into)
}

/// Verifies in as many threads as there are cores here.
fn check_all(site: &Site, kept: &[Kept]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(kept) = kept.get(next.fetch_add(1, Ordering::Relaxed)) {
            check_kept(site, kept)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        let ended = threads.into_iter().map(|thread| match thread.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.collect()
    })
}

/// The root of a point's disk.
fn root(site: &Site, point: &str, disk: i32) -> Result<TreeId> {
    let shown = site.cluster.json(&["point", "show", point])?;
    let disks = rows(&shown["disks"]);
    let found = disks.iter().find(|shown| shown["key"] == disk);
    Ok(text(found.context("the disk")?, "root")?.parse()?)
}

/// How many nodes of the last tree cover nothing that was touched since the first one, and how many of
/// these the first tree has as they are.
fn shared(
    nodes: &Nodes,
    first: TreeId,
    last: TreeId,
    touched: &BTreeSet<u64>,
) -> Result<(usize, usize)> {
    let known: BTreeSet<TreeId> = nodes.of(first)?.iter().map(|node| node.id).collect();
    let all = nodes.of(last)?;
    // A node of one hole is one of thousands that are the same.
    let mut untouched = nodes::untouched(&all, touched);
    untouched.retain(|node| nodes.chunk_count(node) > 0);
    let kept = untouched.iter().filter(|node| known.contains(&node.id));
    Ok((untouched.len(), kept.count()))
}

#[test]
fn fifty_increments_under_a_writer_each_restore_exactly_and_share_what_was_not_touched()
-> Result<()> {
    let disks = Disks::new()?;
    let vm = VmSpec::new("web", vec![disks.small()?, DiskSpec::empty(224)]);
    let site = Site::with(&[vm])?;
    let dense = json!({"granule_bytes": 65_536, "fraction": 1.0, "seed": 1, "write_bytes": 65_536,
        "start": 0, "length": 224 * MIB});
    site.lab.act("web", "disks/2001/touch", &dense)?;
    let writer = Writer::start(&site.lab.live_disk("web", 0)?, 3)?;
    let began = Instant::now();
    let mut made = back_up_and_note(&site, &[2000, 2001])?;
    let first = keep_frozen(&site, "first")?;
    for round in 1..51 {
        let scattered = json!({"granule_bytes": 65_536, "fraction": 0.02, "seed": round, "write_bytes": 4096,
            "start": 96 * MIB, "length": 16 * MIB});
        site.lab.act("web", "disks/2001/touch", &scattered)?;
        // Of the disk that no guest writes to the ends of the history will do.
        let noted = if round == 50 {
            &[2000, 2001][..]
        } else {
            &[2000]
        };
        made.extend(back_up_and_note(&site, noted)?);
    }
    let backed_up = began.elapsed();
    ensure!(writer.stop()? > 50, "the writer hardly wrote");
    let last = keep_frozen(&site, "last")?;
    let (one, fifty) = match (made.first(), made.last()) {
        (Some(first), Some(last)) => (first.point.clone(), last.point.clone()),
        _ => anyhow::bail!("no points"),
    };
    let nodes = Nodes::read(&site.cluster.state(Role::Repository).join("store"))?;
    let (mut untouched, mut kept) = (0, 0);
    for (disk, file) in &first {
        let touched = nodes::touched(file, last.get(disk).context("the disk")?)?;
        ensure!(!touched.is_empty(), "disk {disk} was not touched");
        let (of, same) = shared(
            &nodes,
            root(&site, &one, *disk)?,
            root(&site, &fifty, *disk)?,
            &touched,
        )?;
        eprintln!(
            "disk {disk}: {} blocks touched, {same} of {of} untouched nodes shared",
            touched.len()
        );
        (untouched, kept) = (untouched + of, kept + same);
    }
    ensure!(
        untouched >= 15 && kept * 100 >= untouched * 95,
        "{kept} of {untouched} untouched nodes are shared"
    );
    ensure!(made.len() == 53, "{} disks to verify", made.len());
    check_all(&site, &made)?;
    eprintln!(
        "51 points in {backed_up:?}, all with measure and verification {:?}",
        began.elapsed()
    );
    Ok(())
}

#[test]
fn odd_maps_cost_reading_and_never_a_byte() -> Result<()> {
    let disks = Disks::new()?;
    let site = Site::with(&[VmSpec::new("web", vec![disks.small()?])])?;
    back_up(&site, &[])?;
    let odd = [
        (json!({"overlap": true}), "increment"),
        (json!({"unsorted": true}), "increment"),
        (json!({"beyond_end": true}), "increment"),
        (json!({"empty_pages": true}), "increment"),
        (
            json!({"stop_at": 32 * MIB, "stop_with": "FileFault"}),
            "compare",
        ),
        (
            json!({"stop_at": 32 * MIB, "stop_with": "length-0"}),
            "compare",
        ),
        (json!({"shift_offset": 65_536}), "compare"),
    ];
    for (seed, (oddity, how)) in odd.into_iter().enumerate() {
        site.lab.touch("web", 2000, 0.05, seed as u64)?;
        site.lab.spoil_map("web", &oddity)?;
        let made = back_up(&site, &[]).with_context(|| oddity.to_string())?;
        made.check(how, "").with_context(|| oddity.to_string())?;
        check_equal(&site, &made.point).with_context(|| oddity.to_string())?;
        site.lab.mend_map("web")?;
        prune(&site)?;
    }
    Ok(())
}

#[test]
fn what_makes_a_map_worthless_has_the_disk_read_whole_and_is_told() -> Result<()> {
    let disks = Disks::new()?;
    let site = Site::with(&[VmSpec::new("web", vec![disks.small()?])])?;
    back_up(&site, &[])?;
    site.lab.act("web", "reset-tracking", &json!({}))?;
    back_up(&site, &[])?.check("compare", "began anew")?;
    back_up(&site, &[])?.check("increment", "")?;
    site.lab.act(
        "web",
        "grow",
        &json!({"key": 2000, "bytes": 8 * MIB, "forget": true}),
    )?;
    site.lab.touch("web", 2000, 0.05, 9)?;
    let grown = back_up(&site, &[])?;
    grown.check("compare", "another size")?;
    check_equal(&site, &grown.point)?;
    back_up(&site, &["--full"])?.check("compare", "asked for")?;
    // A snapshot of somebody else's, then a revert to it.
    site.lab
        .act("web", "snapshot", &json!({"name": "before update"}))?;
    let with_foreign = back_up_beside_foreign(&site)?;
    with_foreign.check("compare", "snapshots of others")?;
    site.lab.touch("web", 2000, 0.05, 10)?;
    back_up_beside_foreign(&site)?.check("compare", "revert")?;
    let revert = json!({"snapshot": "before update", "keep_tracking": true});
    site.lab.act("web", "revert", &revert)?;
    let reverted = back_up_beside_foreign(&site)?;
    reverted.check("compare", "revert")?;
    check_equal(&site, &reverted.point)
}

/// As [`back_up`], while one snapshot that is not ours is there and stays.
fn back_up_beside_foreign(site: &Site) -> Result<Made> {
    let run = site.cluster.backup("web", "succeeded")?;
    let snapshots = site.lab.snapshots()?;
    ensure!(
        snapshots.len() == 1 && snapshots[0].name == "before update",
        "{snapshots:?}"
    );
    let point = text(&run["backup"], "point_id")?;
    let shown = site.cluster.json(&["point", "show", &point])?;
    Ok(Made {
        readings: rows(&shown["readings"]),
        read_bytes: 0,
        stored_bytes: 0,
        run,
        point,
        took: Duration::ZERO,
    })
}

#[test]
fn storage_vmotion_costs_no_full_reading() -> Result<()> {
    let disks = Disks::new()?;
    let site = Site::with(&[VmSpec::new("web", vec![disks.small()?])])?;
    back_up(&site, &[])?;
    let moved = json!({"datastore": "lab-ds", "base": "moved", "reset_tracking": false});
    site.lab.act("web", "storage-vmotion", &moved)?;
    site.lab.touch("web", 2000, 0.02, 5)?;
    let made = back_up(&site, &[])?;
    made.check("increment", "")?;
    check_equal(&site, &made.point)
}

#[test]
fn a_lie_is_found_by_a_sample_told_healed_and_remembered() -> Result<()> {
    let disks = Disks::new()?;
    let site = Site::with(&[VmSpec::new("web", vec![disks.small()?])])?;
    back_up(&site, &[])?;
    // Half of what changes is not told: a sample of 8 MiB of this disk finds that at once.
    site.lab
        .spoil_map("web", &json!({"omit_fraction": 0.5, "seed": 1}))?;
    site.lab.touch("web", 2000, 0.5, 11)?;
    let lied = back_up(&site, &[])?;
    ensure!(
        lied.run["warnings"].to_string().contains("CHANGE_MAP_LIED"),
        "{:#}",
        lied.run
    );
    ensure!(lied.sum("lie_bytes") > 0, "{:?}", lied.readings);
    check_equal(&site, &lied.point)?;
    site.lab.mend_map("web")?;
    let next = back_up(&site, &[])?;
    next.check("compare", "")?;
    ensure!(next.sum("lie_count") == 1, "{:?}", next.readings);
    check_equal(&site, &next.point)?;
    back_up(&site, &[])?.check("increment", "")
}

#[test]
fn a_lie_too_small_for_a_sample_is_found_by_the_next_compare() -> Result<()> {
    let disks = Disks::new()?;
    let cluster = Cluster::with_controller("[change-maps]\ncompare-after-points = 3")?;
    let site = Site::of(&[VmSpec::new("web", vec![disks.small()?])], cluster)?;
    back_up(&site, &[])?;
    // One block of 64 KiB in 96 MiB: the sample of 8 MiB mostly misses it.
    let one = json!({"granule_bytes": 65_536, "fraction": 1.0, "seed": 1, "write_bytes": 4096,
        "start": 40 * MIB, "length": 65_536});
    let omit = json!({"omit_ranges": [{"start": 40 * MIB, "length": 65_536}]});
    site.lab.spoil_map("web", &omit)?;
    site.lab.act("web", "disks/2000/touch", &one)?;
    let mut last = back_up(&site, &[])?;
    site.lab.mend_map("web")?;
    for _ in 0..4 {
        if last.sum("lie_bytes") > 0 || last.run["warnings"].to_string().contains("LIED") {
            break;
        }
        last = back_up(&site, &[])?;
    }
    ensure!(
        last.run["warnings"].to_string().contains("CHANGE_MAP_LIED"),
        "found within the bound: {:#}",
        last.run
    );
    check_equal(&site, &last.point)
}
