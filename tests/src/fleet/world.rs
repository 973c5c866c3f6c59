//! The machines, the VMs and the policies of a fleet.

use std::path::PathBuf;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Role, rows};
use crate::guest::{Disks, Random};
use crate::lab::{DiskSpec, Lab, VmSpec};
use crate::machine::{HOSTS, HUB, Machine, become_hub};
use crate::site::Site;

/// Proxies that are there from the start.
const PROXIES: usize = 4;
/// VMs that the policy with the tight promise is for.
const GOLD: usize = 5;
/// Bytes of a VM's one disk, and of what is written in it.
const DISK_MIB: u64 = 16;
const DATA_BYTES: u64 = 3 << 20;
/// Each proxy takes so many disks at a time, so that none can take all.
const PROXY: &str = "[limits]\ntransfers = 2\n";
const CONTROLLER: &str = "[scheduler]\nlook-every = \"5s\"\n";
/// What is left of the file system when a test repository takes no more.
const REPOSITORY: &str = "[store]\nreserve = \"256MiB\"";

/// A vCenter with many VMs, and a cluster whose proxies have machines of their own.
#[derive(Debug)]
pub struct World {
    site: Site,
    vms: Vec<String>,
    /// When policies were applied, and when they were removed, in seconds since 1970 on the accelerated clock.
    pub promised: Option<i64>,
    pub released: Option<i64>,
}

impl std::ops::Deref for World {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl World {
    /// Starts it all. The calling process must be in a network namespace of its own.
    pub fn make(vms: usize) -> Result<Self> {
        become_hub()?;
        let disks = Disks::new()?;
        let specs: Vec<VmSpec> = (0..vms).map(|n| vm(&disks, n)).collect::<Result<_>>()?;
        let listen = format!("{HUB}:0");
        let hosts = HOSTS.to_string();
        let flags = [
            "--max-areas",
            "64",
            "--listen",
            &listen,
            "--nfc-network",
            &hosts,
        ];
        let lab = Lab::start_with(&specs, &flags)?;
        let mut cluster = Cluster::control(HUB, CONTROLLER)?;
        for role in [Role::Repository, Role::OtherRepository] {
            cluster.join_and_start(role, REPOSITORY)?;
        }
        for n in 0..PROXIES {
            cluster.add_machine(Role::FleetProxy(n), machine(n)?, PROXY)?;
        }
        cluster.wait_online(2 + PROXIES)?;
        cluster.add_lab(&lab)?;
        Ok(Self {
            site: Site { lab, cluster },
            vms: specs.into_iter().map(|vm| vm.name).collect(),
            promised: None,
            released: None,
        })
    }

    /// Applies the policies: by folder, each to a repository of its own, and by tag.
    pub fn promise(&mut self) -> Result<()> {
        self.promised = Some(Timestamp::now().as_second());
        self.apply(
            "east",
            "folder = \"/DC0/vm/fleet/east\"",
            "15m",
            "repository",
        )?;
        self.apply(
            "west",
            "folder = \"/DC0/vm/fleet/west\"",
            "15m",
            "other-repository",
        )?;
        self.apply("gold", "tag = \"Promise/Gold\"", "1m", "repository")
    }

    /// Removes them.
    pub fn release(&mut self) -> Result<()> {
        self.released = Some(Timestamp::now().as_second());
        for policy in ["east", "west", "gold"] {
            self.cluster.ok(&["policy", "remove", policy, "--yes"])?;
        }
        Ok(())
    }

    fn apply(&self, name: &str, clause: &str, rpo: &str, repository: &str) -> Result<()> {
        let file = self.cluster.dir().join(format!("{name}.toml"));
        let policy = format!(
            "name = \"{name}\"\n\
             [[scope.include]]\n{clause}\n\
             [consistency]\nladder = [{{ level = \"crash\" }}]\n\
             [schedule]\nrpo = \"{rpo}\"\n\
             [retention]\nkeep-last = 3\nhourly = 2\n\
             [store]\nrepository = \"{repository}\"\n"
        );
        std::fs::write(&file, policy)?;
        let file = file.to_str().context("utf-8")?;
        self.cluster
            .ok(&["policy", "apply", "-f", file, "--yes"])
            .map(drop)
    }

    /// The guests of some VMs write.
    pub fn write(&self, random: &mut Random) -> Result<()> {
        let some = self.vms.len().div_ceil(super::CALM);
        for _ in 0..some {
            let vm = &self.vms[random.next() as usize % self.vms.len()];
            self.lab.touch(vm, 2000, 0.02, random.next() >> 1)?;
        }
        // Kept copies would fill this machine.
        self.lab.prune()
    }

    /// Every promise with how it is kept.
    pub fn jobs(&self) -> Result<Vec<Value>> {
        Ok(rows(&self.cluster.json(&["job", "list"])?))
    }

    /// Every run that ever was.
    pub fn runs(&self) -> Result<Vec<Value>> {
        let all = ["run", "list", "--limit", "1000000"];
        Ok(rows(&self.cluster.json(&all)?))
    }

    /// Every proxy as the controller sees it.
    pub fn proxies(&self) -> Result<Vec<Value>> {
        Ok(rows(&self.cluster.json(&["proxy", "list"])?))
    }

    pub fn kill(&mut self, proxy: usize) -> Result<()> {
        self.site.cluster.kill_role(Role::FleetProxy(proxy))
    }

    pub fn start(&mut self, proxy: usize) -> Result<()> {
        self.site.cluster.start_role(Role::FleetProxy(proxy))
    }

    pub fn add(&mut self, proxy: usize) -> Result<()> {
        let role = Role::FleetProxy(proxy);
        self.site.cluster.add_machine(role, machine(proxy)?, PROXY)
    }

    pub fn tell_proxy(&mut self, word: &str, proxy: usize) -> Result<()> {
        let name = Role::FleetProxy(proxy).name();
        self.cluster.ok(&["proxy", word, name]).map(drop)
    }

    pub fn unplug(&mut self, proxy: usize) -> Result<()> {
        self.cluster.machine(Role::FleetProxy(proxy))?.unplug()
    }

    pub fn plug_in(&mut self, proxy: usize) -> Result<()> {
        self.cluster.machine(Role::FleetProxy(proxy))?.plug_in()
    }

    pub fn restart_controller(&mut self) -> Result<()> {
        self.site.cluster.kill_role(Role::Controller)?;
        self.site.cluster.start_role(Role::Controller)
    }
}

/// The first few are gold, wherever they are.
fn vm(disks: &Disks, n: usize) -> Result<VmSpec> {
    let folder = if n.is_multiple_of(2) {
        "fleet/east"
    } else {
        "fleet/west"
    };
    let disk: PathBuf = disks.some(DISK_MIB << 20, DATA_BYTES, n as u64)?;
    let mut disk = DiskSpec::new(disk);
    disk.take = Some("move");
    // Those have the repository of their folder.
    let gold = n.is_multiple_of(2) && n / 2 < GOLD;
    let vm = VmSpec::new(&format!("guest-{n:03}"), vec![disk]).in_folder(folder);
    Ok(if gold {
        vm.with("tags", json!(["Promise:Gold"]))
    } else {
        vm
    })
}

fn machine(proxy: usize) -> Result<Machine> {
    Machine::new(u8::try_from(proxy + 1)?)
}
