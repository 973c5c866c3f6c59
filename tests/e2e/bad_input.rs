//! What an administrator gets wrong ends in a typed reason, and nothing is lost or left.

use anyhow::{Result, ensure};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::VmSpec;
use stillwater_tests::{Cluster, Lab};

fn site() -> Result<(Lab, Cluster)> {
    let disks = Disks::new()?;
    let vms = [
        VmSpec::new("twin", vec![disks.small()?]).in_folder("east"),
        VmSpec::new("twin", vec![disks.small()?]).in_folder("west"),
        VmSpec::new("empty", vec![]),
    ];
    Ok((Lab::start(&vms, 16)?, Cluster::start()?))
}

fn add(cluster: &Cluster, lab: &Lab, password: &str, fingerprint: &str) -> Result<(i32, String)> {
    let file = cluster.dir().join("password");
    std::fs::write(&file, password)?;
    let args = [
        "vcenter",
        "add",
        "lab",
        lab.address(),
        "--username",
        &lab.ready.user,
    ];
    let mut command = cluster.command(&args)?;
    command
        .arg("--password-file")
        .arg(file)
        .args(["--fingerprint", fingerprint]);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code().unwrap_or(-1), text))
}

#[test]
fn each_mistake_has_its_reason_and_its_exit_code() -> Result<()> {
    let (lab, cluster) = site()?;

    let (code, text) = add(&cluster, &lab, "wrong", &lab.ready.sha256)?;
    ensure!(
        code == 5 && text.contains("VCENTER_LOGIN_REFUSED"),
        "wrong password: {code} {text}"
    );
    let other = "00:".repeat(31) + "00";
    let (code, text) = add(&cluster, &lab, &lab.ready.password, &other)?;
    ensure!(
        code == 6 && text.contains("CERTIFICATE_UNTRUSTED"),
        "wrong pin: {code} {text}"
    );
    ensure!(
        text.contains("docs/operations/errors/CERTIFICATE_UNTRUSTED.md"),
        "no page: {text}"
    );

    cluster.add_lab(&lab)?;
    let (_, text) = add(&cluster, &lab, &lab.ready.password, &lab.ready.sha256)?;
    ensure!(text.contains("VCENTER_EXISTS"), "twice: {text}");

    cluster.fails(&["backup", "nobody"], 4, "VM_NOT_FOUND")?;
    let text = cluster.fails(&["backup", "twin"], 2, "VM_AMBIGUOUS")?;
    ensure!(
        text.contains("east/twin") && text.contains("west/twin"),
        "both paths: {text}"
    );
    let run = cluster.run(&["backup", "empty", "--follow"])?;
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    ensure!(
        run.status.code() == Some(6) && text.contains("VM_WITHOUT_DISKS"),
        "{text}"
    );
    cluster.fails(
        &["run", "show", "00000000-0000-7000-8000-000000000000"],
        4,
        "RUN_NOT_FOUND",
    )?;
    cluster.fails(
        &["point", "show", "00000000-0000-7000-8000-000000000000"],
        4,
        "POINT_NOT_FOUND",
    )?;
    ensure!(cluster.run(&["backup"])?.status.code() == Some(2), "usage");

    // The path tells the twins apart.
    let vms = cluster.json(&["vm", "list"])?.to_string();
    let path = vms.split('"').find(|part| part.ends_with("east/twin"));
    let path = path.unwrap_or_default().to_owned();
    cluster.backup(&path, "succeeded")?;
    ensure!(lab.snapshots()?.is_empty(), "a snapshot was left");
    Ok(())
}

#[test]
fn a_password_never_comes_back() -> Result<()> {
    let (lab, cluster) = site()?;
    cluster.add_lab(&lab)?;
    let mut seen = cluster.ok(&["vcenter", "list", "-o", "json"])?;
    seen += &cluster.ok(&["vcenter", "test", "lab", "-o", "json"])?;
    for role in stillwater_tests::cluster::Role::ALL {
        seen += &cluster.log(role);
    }
    ensure!(
        !seen.contains(&lab.ready.password),
        "the password was shown"
    );
    for entry in walk(&cluster.state(stillwater_tests::cluster::Role::Controller))? {
        let bytes = std::fs::read(&entry)?;
        let needle = lab.ready.password.as_bytes();
        let found = bytes.windows(needle.len()).any(|window| window == needle);
        ensure!(!found, "{} holds the password in clear", entry.display());
    }
    Ok(())
}

fn walk(dir: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(walk(&path)?);
        } else if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}
