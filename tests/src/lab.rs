//! The lab: VMware's simulator with real disks, and what its control endpoint tells.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::process::Process;
use crate::{http, workspace};

/// Flags of a lab that clusters log in to with the account that holds a role.
pub const ENFORCED: [&str; 5] = [
    "--enforce-privileges",
    "--user",
    "backup@lab.local",
    "--password",
    "Backup1!",
];
/// Every role of vSphere has these.
const IN_EVERY_ROLE: [&str; 3] = ["System.Anonymous", "System.View", "System.Read"];

/// One disk of a VM that the lab is to have.
#[derive(Debug, Clone, Serialize)]
pub struct DiskSpec {
    /// Raw image; it becomes the live flat file of the disk. Empty for a disk of `mib` without content.
    #[serde(skip_serializing_if = "is_unnamed")]
    pub file: PathBuf,
    /// Size of a disk that begins without content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mib: Option<u64>,
    /// vSphere's disk mode.
    pub mode: &'static str,
    /// `physical` or `virtual` for a raw device mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdm: Option<&'static str>,
    /// How the file becomes the live one: `copy` if absent, `link`, `move`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub take: Option<&'static str>,
}

impl DiskSpec {
    /// An ordinary disk with the bytes of `file`.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            mib: None,
            mode: "persistent",
            rdm: None,
            take: None,
        }
    }

    /// A sparse disk without content.
    pub fn empty(mib: u64) -> Self {
        Self {
            mib: Some(mib),
            ..Self::new(PathBuf::new())
        }
    }

    /// A disk that snapshots pass over.
    pub fn independent(file: impl Into<PathBuf>) -> Self {
        Self {
            mode: "independent_persistent",
            ..Self::new(file)
        }
    }

    /// A raw device mapping in physical mode.
    pub fn physical_rdm(file: impl Into<PathBuf>) -> Self {
        Self {
            rdm: Some("physical"),
            ..Self::new(file)
        }
    }
}

/// One VM that the lab is to have.
#[derive(Debug, Clone, Serialize)]
pub struct VmSpec {
    /// Display name.
    pub name: String,
    /// Inventory folder below the datacenter's VM folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Disks in the order of their units.
    pub disks: Vec<DiskSpec>,
    /// `on` or `off`.
    pub power: &'static str,
    /// `running` or `absent`.
    pub tools: &'static str,
    /// Whether change tracking is on from the start.
    pub cbt: bool,
    /// Further fields of the lab's specification of a VM, as `tests/lab/README.md` has them.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl VmSpec {
    /// A running VM with VMware Tools and change tracking.
    pub fn new(name: &str, disks: Vec<DiskSpec>) -> Self {
        let name = name.to_owned();
        Self {
            name,
            folder: None,
            disks,
            power: "on",
            tools: "running",
            cbt: true,
            more: Map::new(),
        }
    }

    /// The same VM with one more field of the specification.
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.more.insert(field.to_owned(), value);
        self
    }

    /// The same VM with a tag, `CATEGORY:NAME`, which is made.
    pub fn with_tag(mut self, tag: &str) -> Self {
        self.more.insert("tags".to_owned(), vec![tag].into());
        self
    }

    /// The same VM in a folder.
    pub fn in_folder(self, folder: &str) -> Self {
        Self {
            folder: Some(folder.to_owned()),
            ..self
        }
    }
}

/// What the lab says when it is ready.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// `https://host:port` of the vCenter.
    pub url: String,
    /// `http://host:port` of the control endpoint.
    pub control: String,
    /// File with the PEM of the server's certificate.
    pub ca_pem: PathBuf,
    /// Fingerprint of that certificate.
    pub sha256: String,
    /// Account that may do everything.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Account that holds a role, and may do no more than that with `--enforce-privileges`.
    pub backup_user: String,
    /// Its password.
    pub backup_password: String,
    /// Name of the datastore.
    pub datastore: String,
}

/// A snapshot as vCenter knows it.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct Snapshot {
    /// Managed object reference.
    pub moref: String,
    /// Display name.
    pub name: String,
    /// Where a lease is written.
    pub description: String,
}

/// The kept copy of a disk as it was when a snapshot was made.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct Frozen {
    /// The snapshot that froze it.
    pub snapshot: String,
    /// Name of the VM.
    #[serde(rename = "vm_name")]
    pub vm: String,
    /// Device key.
    #[serde(rename = "disk_key")]
    pub key: i32,
    /// The copy.
    #[serde(rename = "path")]
    pub file: PathBuf,
}

/// A running lab. It and its files go when this is dropped.
#[derive(Debug)]
pub struct Lab {
    /// How to reach it.
    pub ready: Ready,
    process: Process,
    dir: TempDir,
}

impl Lab {
    /// Starts a lab with these VMs. Their image files are consumed: they become live disks.
    pub fn start(vms: &[VmSpec], areas_per_page: u32) -> Result<Self> {
        Self::start_with(vms, &["--max-areas", &areas_per_page.to_string()])
    }

    /// Starts a lab with these VMs and further flags.
    pub fn start_with(vms: &[VmSpec], flags: &[&str]) -> Result<Self> {
        Self::start_on(&["lab-ds"], vms, flags)
    }

    /// Starts a lab with these datastores and VMs, which are on the first one, and further flags.
    pub fn start_on(datastores: &[&str], vms: &[VmSpec], flags: &[&str]) -> Result<Self> {
        let roles = roles_from_outside()?;
        let dir = tempfile::Builder::new()
            .prefix("stillwater-lab-")
            .tempdir_in(scratch()?)?;
        let spec = dir.path().join("spec.json");
        serde_json::to_writer(
            File::create(&spec)?,
            &json!({"datastores": datastores, "vms": vms}),
        )?;
        let mut child = Command::new(workspace::lab_file("lab")?)
            .args([
                "--listen",
                "127.0.0.1:0",
                "--control",
                "127.0.0.1:0",
                "--die-with-parent",
            ])
            .args(flags)
            .args(flags_from_outside().split_whitespace())
            .args(if roles.is_some() { &ENFORCED[..] } else { &[] })
            .arg("--state")
            .arg(dir.path().join("state"))
            .arg("--spec")
            .arg(&spec)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(dir.path().join("lab.log"))?)
            .spawn()
            .context("start the lab")?;
        let ready = first_line(&mut child);
        let process = Process::adopt("lab", child, &dir.path().join("lab.log"));
        let ready = ready
            .and_then(|line| serde_json::from_str(&line).context(line))
            .with_context(|| format!("the lab did not start: {}", process.log()))?;
        let lab = Self {
            ready,
            process,
            dir,
        };
        if let Some(roles) = roles {
            lab.allow(&roles)?;
        }
        Ok(lab)
    }

    /// `host:port` of the vCenter.
    pub fn address(&self) -> &str {
        self.ready
            .url
            .trim_start_matches("https://")
            .trim_end_matches(['/'])
    }

    /// The lab's own directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Calls the control endpoint.
    pub fn control(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        http::call(&self.ready.control, method, path, body)
            .with_context(|| format!("the lab's log: {}", tail(&self.process.log())))
    }

    /// Every snapshot that exists now.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        Ok(serde_json::from_value(self.control(
            "GET",
            "/snapshots",
            None,
        )?)?)
    }

    /// Every freeze that was ever made.
    pub fn frozen(&self) -> Result<Vec<Frozen>> {
        Ok(serde_json::from_value(
            self.control("GET", "/frozen", None)?,
        )?)
    }

    /// The kept copies of the newest freeze of a VM, by device key.
    pub fn last_frozen(&self, vm: &str) -> Result<Vec<Frozen>> {
        let all: Vec<Frozen> = self.frozen()?.into_iter().filter(|f| f.vm == vm).collect();
        let newest = all
            .last()
            .with_context(|| format!("{vm} was never frozen"))?
            .snapshot
            .clone();
        Ok(all.into_iter().filter(|f| f.snapshot == newest).collect())
    }

    /// Injects a fault; see `tests/lab/README.md` for methods and kinds.
    pub fn fault(&self, method: &str, kind: &str, after: u32, times: i32) -> Result<()> {
        let fault = json!({"method": method, "kind": kind, "after": after, "times": times});
        self.control("POST", "/faults", Some(&fault)).map(drop)
    }

    /// Does something to a VM by the control endpoint: `action` is what follows its name in the path.
    pub fn act(&self, vm: &str, action: &str, body: &Value) -> Result<Value> {
        self.control("POST", &format!("/vm/{vm}/{action}"), Some(body))
    }

    /// Makes the change maps of a VM odd or untrue; `oddity` may have a `key`, else all disks are meant.
    pub fn spoil_map(&self, vm: &str, oddity: &Value) -> Result<()> {
        self.act(vm, "map", oddity).map(drop)
    }

    /// Makes the change maps of a VM honest again.
    pub fn mend_map(&self, vm: &str) -> Result<()> {
        self.control("DELETE", &format!("/vm/{vm}/map"), None)
            .map(drop)
    }

    /// Writes granules of 64 KiB all over a disk, 4 KiB in each, and tells how many bytes that were.
    pub fn touch(&self, vm: &str, key: i32, fraction: f64, seed: u64) -> Result<u64> {
        let body = json!({"fraction": fraction, "seed": seed});
        self.act(vm, &format!("disks/{key}/touch"), &body)?["bytes"]
            .as_u64()
            .context("the lab does not say how much it wrote")
    }

    /// Changes how the guest of a VM behaves, and tells the directory that plays it.
    pub fn guest(&self, vm: &str, behaviour: &Value) -> Result<PathBuf> {
        let report = self.act(vm, "guest", behaviour)?;
        let dir = report["dir"].as_str();
        Ok(dir.context("the lab names no directory")?.into())
    }

    /// The kinds of what happened to a guest, in order: `frozen`, `snapshot`, `thawed`, `hook-start` and so on.
    pub fn guest_events(&self, vm: &str) -> Result<Vec<String>> {
        let events = self.control("GET", &format!("/vm/{vm}/guest/events"), None)?;
        let kinds = events.as_array().into_iter().flatten();
        let kinds = kinds.filter_map(|event| Some(event["kind"].as_str()?.to_owned()));
        Ok(kinds.collect())
    }

    /// Gives the second account every privilege that backups and restores need, less these.
    pub fn withhold(&self, privileges: &[&str]) -> Result<()> {
        let body = json!({"without": privileges});
        self.control("POST", "/role", Some(&body)).map(drop)
    }

    /// Gives the second account these privileges, those that every role has, and nothing else.
    pub fn allow(&self, privileges: &[String]) -> Result<()> {
        let held = privileges.iter().map(String::as_str).chain(IN_EVERY_ROLE);
        let body = json!({"privileges": held.collect::<Vec<_>>()});
        self.control("POST", "/role", Some(&body)).map(drop)
    }

    /// Makes a snapshot that is not ours and whose creation lies so far back, and tells its reference.
    pub fn foreign_snapshot(&self, vm: &str, name: &str, age_seconds: u64) -> Result<String> {
        let body = json!({"name": name, "age_seconds": age_seconds});
        let made = self.act(vm, "snapshot", &body)?;
        let moref = made["snapshot"].as_str();
        Ok(moref.context("the lab names no snapshot")?.to_owned())
    }

    /// Lets a snapshot that exists have been made so long ago.
    pub fn age_snapshot(&self, moref: &str, age_seconds: u64) -> Result<()> {
        let body = json!({"snapshot": moref, "age_seconds": age_seconds});
        self.control("POST", "/snapshots/age", Some(&body))
            .map(drop)
    }

    /// Gives a snapshot that exists another description.
    pub fn describe_snapshot(&self, moref: &str, description: &str) -> Result<()> {
        let body = json!({"snapshot": moref, "description": description});
        self.control("POST", "/snapshots/describe", Some(&body))
            .map(drop)
    }

    /// Sets how much room a datastore says it has.
    pub fn free_space(&self, datastore: &str, bytes: u64) -> Result<()> {
        let body = json!({"free_bytes": bytes});
        self.control("POST", &format!("/datastore/{datastore}"), Some(&body))
            .map(drop)
    }

    /// Forgets the frozen copies that nothing needs any more.
    pub fn prune(&self) -> Result<()> {
        self.control("POST", "/frozen/prune", None).map(drop)
    }

    /// The live flat file of a VM's disk, counted from zero.
    pub fn live_disk(&self, vm: &str, index: usize) -> Result<PathBuf> {
        let vms = self.control("GET", "/vms", None)?;
        let found = vms
            .as_array()
            .into_iter()
            .flatten()
            .find(|v| v["name"] == vm);
        let file = found.and_then(|v| v["disks"][index]["live_file"].as_str());
        let file = file.with_context(|| format!("no disk {index} of {vm} in {vms}"))?;
        ensure!(Path::new(file).is_file(), "{file} is not there");
        Ok(file.into())
    }

    /// How often a SOAP method was called.
    pub fn calls(&self, method: &str) -> Result<u64> {
        Ok(self.control("GET", "/calls", None)?["count"][method]
            .as_u64()
            .unwrap_or(0))
    }
}

/// What the roles that we ship allow, each once.
pub fn shipped_roles(roles: &[&str]) -> Result<Vec<String>> {
    let mut all = BTreeSet::new();
    for role in roles {
        let file = workspace::root().join(format!("deploy/vsphere-role/{role}.txt"));
        let text = std::fs::read_to_string(&file);
        let text = text.with_context(|| format!("read {}", file.display()))?;
        all.extend(text.lines().map(str::to_owned));
    }
    Ok(all.into_iter().collect())
}

/// Roles that we ship, with commas: clusters log in to every lab of a test run with an account that holds
/// these and nothing else.
fn roles_from_outside() -> Result<Option<Vec<String>>> {
    match std::env::var("STILLWATER_LAB_ROLES") {
        Ok(roles) => shipped_roles(&roles.split(',').collect::<Vec<_>>()).map(Some),
        Err(_) => Ok(None),
    }
}

/// Flags for every lab of a test run; the last one of a kind counts. With the account that holds a role:
/// `--enforce-privileges --user backup@lab.local --password Backup1!`.
fn flags_from_outside() -> String {
    std::env::var("STILLWATER_LAB_FLAGS").unwrap_or_default()
}

fn is_unnamed(file: &Path) -> bool {
    file.as_os_str().is_empty()
}

/// A directory on a real file system: `/tmp` may be one that forgets.
pub fn scratch() -> Result<PathBuf> {
    let dir = workspace::root().join("target/scratch");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn first_line(child: &mut Child) -> Result<String> {
    let mut line = String::new();
    let stdout = child.stdout.as_mut().context("the lab has no stdout")?;
    BufReader::new(stdout).read_line(&mut line)?;
    ensure!(!line.is_empty(), "it ended without a word");
    Ok(line)
}

fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(2000);
    text.get(start..).unwrap_or(text)
}
