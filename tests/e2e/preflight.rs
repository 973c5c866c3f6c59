//! What keeps a VM from being protected is told before a run and in the words of a run, and a point
//! keeps the whole VM.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stillwater_tests::cluster::{Role, rows, text};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{DiskSpec, VmSpec};
use stillwater_tests::{Site, workspace};

const MIB: u64 = 1 << 20;

/// What preflight finds, whatever its exit code, which must be this.
fn preflight(site: &Site, arguments: &[&str], code: i32) -> Result<Vec<Value>> {
    let all = [&["vm", "preflight", "-o", "json"], arguments].concat();
    let output = site.cluster.run(&all)?;
    ensure!(
        output.status.code() == Some(code),
        "{all:?} should end with {code}: {} {}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    let found: Value = serde_json::from_slice(&output.stdout)?;
    Ok(found.as_array().context("a list of vms")?.clone())
}

/// What is not in order with a VM: check, verdict, and the key of the disk.
fn problems(vm: &Value) -> Vec<(String, String, Option<i64>)> {
    let findings = vm["findings"].as_array().into_iter().flatten();
    let problems = findings.filter(|finding| finding["verdict"] != "ok");
    let word = |finding: &Value, field: &str| finding[field].as_str().unwrap_or("").to_owned();
    problems
        .map(|f| (word(f, "check"), word(f, "verdict"), f["disk_key"].as_i64()))
        .collect()
}

fn problem(check: &str, verdict: &str, key: Option<i64>) -> (String, String, Option<i64>) {
    (check.to_owned(), verdict.to_owned(), key)
}

#[test]
fn what_is_wrong_with_a_vm_is_told_before_a_run_and_in_its_words() -> Result<()> {
    let disks = Disks::new()?;
    let db = vec![
        disks.small()?,
        DiskSpec::independent(disks.tiny(4 * MIB)?),
        DiskSpec::physical_rdm(disks.tiny(4 * MIB)?),
    ];
    let mut mute = VmSpec::new("mute", vec![DiskSpec::empty(8)]);
    mute.tools = "absent";
    mute.cbt = false;
    let site = Site::with(&[
        VmSpec::new("web", vec![DiskSpec::empty(8)]),
        VmSpec::new("db", db),
        mute,
    ])?;
    site.lab.foreign_snapshot("mute", "before update", 60)?;
    site.lab
        .act("web", "consolidation-needed", &json!({"needed": true}))?;

    let web = preflight(&site, &["web"], 0)?;
    let needed = problem("CONSOLIDATION", "warning", None);
    ensure!(problems(&web[0]) == [needed], "{web:#?}");
    let db = preflight(&site, &["db"], 3)?;
    let blocked = |key| problem("DISK", "blocked", Some(key));
    ensure!(
        problems(&db[0]) == [blocked(2001), blocked(2002)],
        "{db:#?}"
    );
    let mute = preflight(&site, &["mute"], 0)?;
    let found = problems(&mute[0]);
    for check in ["CHANGE_TRACKING", "TOOLS"] {
        let told = problem(check, "warning", None);
        ensure!(found.contains(&told), "{check}: {mute:#?}");
    }
    let all = preflight(&site, &["--all"], 3)?;
    ensure!(all.len() == 3, "{all:#?}");

    // A run says the same.
    let run = site.cluster.start_run(&["backup", "db"])?;
    let run = site
        .cluster
        .wait_run(&run, std::time::Duration::from_secs(120))?;
    ensure!(run["state"] == "incomplete", "{run:#}");
    let told = run["warnings"].to_string();
    let blocked = rows(&db[0]["findings"]).into_iter();
    for finding in blocked.filter(|finding| finding["verdict"] == "blocked") {
        let words = text(&finding, "message")?;
        ensure!(told.contains(&words), "{words}: {told}");
    }
    let run = site.cluster.backup("web", "succeeded")?;
    ensure!(
        run["warnings"].to_string().contains("consolidation"),
        "{run:#}"
    );
    Ok(())
}

#[test]
fn a_point_keeps_the_whole_vm_and_tells_what_it_could_not_read() -> Result<()> {
    let disks = Disks::new()?;
    let spec = VmSpec::new("web", vec![disks.small()?])
        .in_folder("prod/eu")
        .with("pool", json!("gold"))
        .with("firmware", json!("efi"))
        .with("networks", json!(["VM Network", "DC0_DVPG0"]))
        .with("custom", json!({"owner": "sales & co"}))
        .with("tags", json!(["tier:gold", "zone:eu"]))
        .with("policy", json!("aa6d5a82-1c88-45da-85d3-3d74b91a5bad"));
    let site = Site::with(&[spec])?;
    let first = site.back_up()?;
    let kept = site.cluster.json(&["point", "show", &first, "--config"])?;
    let around = &kept["surroundings"];
    let expected = json!({
        "folder": "/DC0/vm/prod/eu",
        "resource_pool": "/DC0/host/DC0_C0/Resources/gold",
        "cluster": "DC0_C0",
        "datastores": ["lab-ds"],
        "tags": [{"category": "tier", "name": "gold"}, {"category": "zone", "name": "eu"}],
        "attributes": [{"name": "owner", "value": "sales & co"}],
        "home_policy": "aa6d5a82-1c88-45da-85d3-3d74b91a5bad",
        "disk_policies": [{"disk_key": 2000, "policy": "aa6d5a82-1c88-45da-85d3-3d74b91a5bad"}],
        "remarks": [],
    });
    for (field, value) in expected.as_object().into_iter().flatten() {
        ensure!(around[field] == *value, "{field}: {around:#}");
    }
    let networks: Vec<_> = rows(&around["networks"])
        .iter()
        .map(|network| {
            (
                network["name"].clone(),
                network["portgroup_key"].is_string(),
            )
        })
        .collect();
    ensure!(
        networks == [(json!("VM Network"), false), (json!("DC0_DVPG0"), true)],
        "{around:#}"
    );
    let nvram = nvram(&site, around)?;
    check_types(&text(&kept, "config_xml")?)?;

    // What cannot be read is told, and nothing else is lost for it.
    site.lab.fault("rest-post", "http-403", 0, -1)?;
    site.lab.fault("folder-get", "http-404", 0, 1)?;
    let run = site.cluster.backup("web", "succeeded")?;
    let point = text(&run["backup"], "point_id")?;
    let kept = site.cluster.json(&["point", "show", &point, "--config"])?;
    let around = &kept["surroundings"];
    let remarks = around["remarks"].to_string();
    for what in ["tags", "storage policies"] {
        ensure!(remarks.contains(what), "{what}: {remarks}");
    }
    ensure!(around["folder"] == "/DC0/vm/prod/eu", "{around:#}");
    check_recovered(site, &first, &nvram)
}

/// The repository's files and the recovery key give the same back.
fn check_recovered(mut site: Site, point: &str, nvram: &[u8]) -> Result<()> {
    site.cluster.stop_role(Role::Repository)?;
    let to = site.cluster.dir().join("recovered");
    let key = site.cluster.dir().join("recovery.key");
    std::fs::write(&key, &site.cluster.recovery_key)?;
    let recovered = Command::new(workspace::binary("stillwater-repository")?)
        .arg("recover")
        .arg(site.cluster.state(Role::Repository).join("store"))
        .arg("--key-file")
        .arg(&key)
        .args(["restore", point, "--to"])
        .arg(&to)
        .output()?;
    ensure!(
        recovered.status.success(),
        "{}",
        String::from_utf8_lossy(&recovered.stderr)
    );
    ensure!(
        std::fs::read(to.join("vm.nvram"))? == nvram,
        "another nvram"
    );
    let told: Value = serde_json::from_slice(&std::fs::read(to.join("point.json"))?)?;
    let around = &told["surroundings"];
    ensure!(
        around["folder"] == "/DC0/vm/prod/eu" && around["tags"][0]["name"] == "gold",
        "{told:#}"
    );
    Ok(())
}

/// The NVRAM in the point, which is the file that the lab has.
fn nvram(site: &Site, around: &Value) -> Result<Vec<u8>> {
    let vms = site.lab.control("GET", "/vms", None)?;
    let vms = vms.as_array().context("a list")?;
    let file = text(vms.first().context("a vm")?, "nvram")?;
    ensure!(around["nvram_file"] == *file, "{}", around["nvram_file"]);
    let (datastore, path) = file
        .strip_prefix('[')
        .and_then(|file| file.split_once("] "))
        .context("a path in a datastore")?;
    let file = site.lab.dir().join("state/ds").join(datastore).join(path);
    let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    ensure!(!bytes.is_empty(), "{} is empty", file.display());
    let kept = text(around, "nvram_base64")?;
    let kept = data_encoding::BASE64.decode(kept.as_bytes())?;
    ensure!(
        kept == bytes,
        "{} bytes kept of {}",
        kept.len(),
        bytes.len()
    );
    Ok(kept)
}

/// The kept configuration names the types of its devices by the schema's own prefix, which it declares.
fn check_types(xml: &str) -> Result<()> {
    for part in [
        "http://www.w3.org/2001/XMLSchema-instance",
        "VirtualDisk\"",
        "ParaVirtualSCSIController\"",
        "VirtualVmxnet3\"",
        "VirtualDiskFlatVer2BackingInfo\"",
        "VirtualEthernetCardDistributedVirtualPortBackingInfo\"",
    ] {
        ensure!(xml.contains(part), "the configuration lacks {part}: {xml}");
    }
    Ok(())
}
