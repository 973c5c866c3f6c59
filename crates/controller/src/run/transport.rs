//! By which ways a frozen disk is read, best first, and why.
//!
//! Pure: what is known of the disk, of the proxy and of what the administrator allows goes in.

use std::collections::BTreeMap;

use stillwater_controller_api::ProxyReach;
use stillwater_policy::Way;
use stillwater_types::Fault;
use stillwater_vsphere::{DatastoreFacts, DatastoreKind, DiskTraits, Seat};

use super::act::{FOLDER, HOT_ADD, NFC};

/// How a disk is reached whose datastore the proxy has mounted.
pub(crate) const FILE: &str = "file";
/// How a disk is reached that a command of the proxy serves.
pub(crate) const NBD: &str = "nbd";

/// All ways, the best first.
pub(crate) const RANKS: [&str; 5] = [HOT_ADD, FILE, NFC, NBD, FOLDER];

/// Why a disk is attached to a proxy's VM.
pub(crate) const WHY_HOT_ADD: &str =
    "the proxy is a vm of the same vcenter that disks may be attached to";
/// Why the folder is taken.
pub(crate) const WHY_FOLDER: &str = "it needs nothing but vcenter";
/// Why no host is asked.
pub(crate) const NFC_IS_OFF: &str = "transports.nfc is off in the controller's configuration";

/// A way to a frozen disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Attached to the proxy's own VM.
    HotAdd,
    /// A file of a datastore that the proxy has mounted.
    File {
        /// What the proxy's configuration calls the datastore.
        datastore: String,
        /// Relative to the datastore.
        path: String,
    },
    /// Through port 902 of its host.
    Nfc,
    /// Through a command of the proxy that serves it over NBD.
    Nbd,
    /// Through the HTTPS folder of its datastore.
    Folder,
}

impl Transport {
    /// Its name in runs and points.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Transport::HotAdd => HOT_ADD,
            Transport::File { .. } => FILE,
            Transport::Nfc => NFC,
            Transport::Nbd => NBD,
            Transport::Folder => FOLDER,
        }
    }
}

/// A way that is taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The way.
    pub transport: Transport,
    /// Why it stands where it stands.
    pub reason: &'static str,
    /// Whether a better way is likely to be enough: nobody is to wait for this one.
    pub is_spare: bool,
}

/// What decides.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The frozen disk's file, such as `[ds] web/web.vmdk`.
    pub file: &'a str,
    /// How the disk is made.
    pub traits: &'a DiskTraits,
    /// What its datastore is, as far as vSphere told.
    pub datastore: Option<&'a DatastoreFacts>,
    /// By which ways its proxy reaches disks.
    pub reach: &'a ProxyReach,
    /// Whether the journal says that the disk is about to be attached to the proxy's VM; why not, else.
    pub attaching: Result<(), &'a str>,
    /// Whether disks may be read through their hosts.
    pub reads_nfc: bool,
    /// By which ways whoever asked allows; by all when none is written.
    pub allowed: &'a [Way],
}

/// The ways to take, best first, and why others are not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chosen {
    /// None when none of those that are allowed can be gone.
    pub ways: Vec<Choice>,
    /// Ways that cannot be gone, and why.
    pub passed: Vec<(&'static str, String)>,
}

impl Chosen {
    /// The way is gone after all that were offered before, or why it is not.
    fn offer(
        &mut self,
        way: Way,
        allowed: &[Way],
        offered: Result<(Transport, &'static str), String>,
    ) {
        let offered = offered.and_then(|offered| match may_go(way, allowed) {
            true => Ok(offered),
            false => Err(not_allowed(allowed)),
        });
        match offered {
            Ok((transport, reason)) => self.ways.push(Choice {
                transport,
                reason,
                // A host gives its room to those who have nothing else.
                is_spare: way == Way::Nfc && !self.ways.is_empty(),
            }),
            Err(why) => self.pass(way.as_str(), why),
        }
    }

    fn pass(&mut self, way: &'static str, why: impl Into<String>) {
        self.passed.push((way, why.into()));
    }
}

/// Whether whoever asked allows the way.
pub fn may_go(way: Way, allowed: &[Way]) -> bool {
    allowed.is_empty() || allowed.contains(&way)
}

/// What is told of a way that may not be gone.
pub fn not_allowed(allowed: &[Way]) -> String {
    format!("only {} is allowed", words(allowed))
}

/// Ways as one reads them.
pub fn words(ways: &[Way]) -> String {
    let words: Vec<&str> = ways.iter().map(|way| way.as_str()).collect();
    words.join(", ")
}

/// The ways to take, best first.
pub fn choose(facts: &Facts<'_>) -> Chosen {
    let (mut chosen, allowed) = (Chosen::default(), facts.allowed);
    let attached = facts.attaching.map(|()| (Transport::HotAdd, WHY_HOT_ADD));
    chosen.offer(Way::HotAdd, allowed, attached.map_err(str::to_owned));
    let file = mounted(facts).map(|file| (file, "its datastore is mounted on the proxy"));
    chosen.offer(Way::File, allowed, file);
    let nfc = match (facts.reads_nfc, chosen.ways.is_empty()) {
        (false, _) => Err(NFC_IS_OFF.to_owned()),
        (true, false) => Ok("the ways nearer to the disk than its host failed"),
        (true, true) => Ok("the proxy has no nearer way than the disk's host"),
    };
    chosen.offer(Way::Nfc, allowed, nfc.map(|why| (Transport::Nfc, why)));
    let nbd = match facts.reach.nbd {
        true => Ok((Transport::Nbd, "the proxy has a command that serves disks")),
        false => Err("the proxy has no transports.nbd-command".to_owned()),
    };
    chosen.offer(Way::Nbd, allowed, nbd);
    chosen.offer(Way::Folder, allowed, Ok((Transport::Folder, WHY_FOLDER)));
    chosen
}

/// What decides whether a disk may be attached to a proxy's VM.
#[derive(Debug, Clone, Copy)]
pub struct Attaching<'a> {
    /// How the disk is made.
    pub traits: &'a DiskTraits,
    /// What its datastore is, as far as vSphere told.
    pub datastore: Option<&'a DatastoreFacts>,
    /// Where its VM runs, if that is known.
    pub source: Option<&'a Seat>,
    /// Where the proxy's VM runs, if that is known.
    pub proxy: Option<&'a Seat>,
}

/// Whether vSphere attaches such a disk to the VM of a proxy, and to no harm. What is not known bars nothing: vSphere
/// refuses, and the next way is gone.
///
/// # Errors
/// Why not.
pub fn attachable(facts: &Attaching<'_>) -> Result<(), String> {
    let Attaching {
        traits,
        datastore,
        source,
        proxy,
    } = *facts;
    if traits.is_encrypted {
        return Err("the disk is encrypted".to_owned());
    }
    if traits.controller == "VirtualIDEController" {
        return Err("the disk is on an ide controller".to_owned());
    }
    let Some(proxy) = proxy else {
        return Ok(());
    };
    if traits.backing.contains("SeSparse") && proxy.is_on_vsan && is_older(proxy, SE_SPARSE_MENDED)
    {
        return Err(format!(
            "the disk is a space-efficient delta and the proxy's vm is on vsan, which go together from esxi 7.0 on; {} has {}",
            proxy.host_name, proxy.version
        ));
    }
    let Some(datastore) = datastore else {
        return Ok(());
    };
    if !proxy.datastores.is_empty() && !proxy.datastores.contains(&datastore.datastore) {
        return Err(format!(
            "the proxy's host {} does not mount datastore {}",
            proxy.host_name, datastore.name
        ));
    }
    if datastore.kind == DatastoreKind::Vsan && !proxy.is_on_vsan {
        return Err("the disk is on vsan and the proxy's vm is not".to_owned());
    }
    match (&datastore.kind, source) {
        (DatastoreKind::Nfs { is_v41: false, .. }, Some(source))
            if source.host != proxy.host && is_older(source, NFS_MENDED) =>
        {
            Err(format!(
                "the disk is on nfs 3, where its vm stands still for half a minute when the snapshot goes, unless the proxy runs on the same host or that has esxi 8.0 u2b; {} has {}",
                source.host_name, source.version
            ))
        }
        _ => Ok(()),
    }
}

/// A release of ESXi: version and build.
type Release = ([u32; 3], u32);

/// SEsparse disks and proxies on vSAN get along (knowledge.broadcom.com/external/article/306343).
const SE_SPARSE_MENDED: Release = ([7, 0, 0], 0);
/// ESXi 8.0 U2b: a VM on NFS 3 is not stunned when a disk is detached on another host (veeam.com/kb1681).
const NFS_MENDED: Release = ([8, 0, 2], 23_305_546);

/// Whether a host is known to have an older release.
fn is_older(seat: &Seat, release: Release) -> bool {
    let mut parts = seat.version.split('.').map(str::parse::<u32>);
    let mut version = [0; 3];
    for part in &mut version {
        match parts.next() {
            Some(Ok(number)) => *part = number,
            Some(Err(_)) => return false,
            None => {}
        }
    }
    let known = !seat.version.is_empty();
    // Of the same version, only the build tells, if it is told.
    known && (version, seat.build.unwrap_or(u32::MAX)) < release
}

/// What is known of the datastore that a file such as `[ds] web/web.vmdk` lies on.
pub fn datastore_of<'a>(
    file: &str,
    datastores: &'a [DatastoreFacts],
) -> Option<&'a DatastoreFacts> {
    let (name, _) = file.strip_prefix('[')?.split_once(']')?;
    datastores.iter().find(|datastore| datastore.name == name)
}

/// The disk's file where the proxy has its datastore mounted, if it can be read there: a mounted file
/// is the whole disk only when nothing lies below it, and readable only when it is not encrypted.
fn mounted(facts: &Facts<'_>) -> Result<Transport, String> {
    let bracketed = facts.file.strip_prefix('[');
    let Some((name, path)) = bracketed.and_then(|file| file.split_once(']')) else {
        return Err(format!("{} names no datastore", facts.file));
    };
    let kind = facts.datastore.map(|datastore| &datastore.kind);
    if let Some(DatastoreKind::Vsan | DatastoreKind::Vvol) = kind {
        return Err(format!("disks of datastore {name} are no files"));
    }
    let url = facts
        .datastore
        .and_then(|datastore| datastore.url.as_deref());
    let datastore = mount(&facts.reach.datastores, name, url)?;
    if facts.traits.is_encrypted {
        return Err("the disk is encrypted".to_owned());
    }
    if !facts.traits.parents.is_empty() {
        return Err("the disk lies on other snapshots".to_owned());
    }
    Ok(Transport::File {
        datastore: datastore.to_owned(),
        path: path.trim_start().to_owned(),
    })
}

/// What the proxy calls a datastore. Its url counts before its name: names repeat from one datacenter
/// to the next.
fn mount<'a>(mounts: &'a [String], name: &str, url: Option<&str>) -> Result<&'a str, String> {
    // vSphere ends urls with a slash, people may not.
    let bare = |text: &str| text.trim_end_matches('/').to_owned();
    let by_url = url.and_then(|url| mounts.iter().find(|mount| bare(mount) == bare(url)));
    let found = by_url.or_else(|| mounts.iter().find(|mount| *mount == name));
    found
        .map(String::as_str)
        .ok_or_else(|| format!("datastore {name} is not mounted on the proxy"))
}

/// Why a disk is moved by the way that it is moved by, and why not by a better one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    taken: BTreeMap<&'static str, String>,
    passed: BTreeMap<&'static str, String>,
}

impl Account {
    /// A way is among those that are gone.
    pub fn take(&mut self, way: &'static str, why: impl Into<String>) {
        self.taken.insert(way, why.into());
    }

    /// A way is not, or not any more.
    pub fn pass(&mut self, way: &'static str, why: impl Into<String>) {
        self.passed.insert(way, why.into());
    }

    /// A proxy gave up a way in the midst of a disk.
    pub fn fell(&mut self, cause: &Fault) {
        let way = cause.details.get("way").map(String::as_str).unwrap_or("");
        // Followed by what the way led to.
        let word = way.split(' ').next();
        if let Some(way) = RANKS.into_iter().find(|rank| Some(*rank) == word) {
            self.pass(way, &cause.message);
        }
    }

    /// Why a disk is moved by `way`.
    pub fn told(&self, way: &str) -> String {
        let why = self.taken.get(way).map(String::as_str).unwrap_or_default();
        let better = RANKS.into_iter().take_while(|rank| *rank != way);
        let passed = better.filter_map(|rank| {
            let why = self.passed.get(rank)?;
            Some(format!("not {rank}: {why}"))
        });
        let all = std::iter::once(why.to_owned()).chain(passed);
        let said: Vec<String> = all.filter(|text| !text.is_empty()).collect();
        said.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use stillwater_types::Reason;
    use stillwater_vsphere::{DatastoreRef, HostRef};

    use super::*;

    const URL: &str = "ds:///vmfs/volumes/6543-21/";

    struct World {
        traits: DiskTraits,
        datastore: Option<DatastoreFacts>,
        reach: ProxyReach,
        attaching: Result<(), &'static str>,
        reads_nfc: bool,
        allowed: Vec<Way>,
        file: &'static str,
    }

    fn world(change: impl FnOnce(&mut World)) -> World {
        let mut world = World {
            traits: DiskTraits::default(),
            datastore: None,
            reach: ProxyReach::default(),
            attaching: Err("hot-add is off"),
            reads_nfc: false,
            allowed: Vec::new(),
            file: "[ds] web/web.vmdk",
        };
        change(&mut world);
        world
    }

    fn datastore(kind: DatastoreKind) -> DatastoreFacts {
        DatastoreFacts {
            datastore: DatastoreRef::new("datastore-1"),
            name: "ds".into(),
            url: Some(URL.into()),
            kind,
            capacity_bytes: 1,
            free_bytes: 1,
            is_accessible: true,
            hosts: Vec::new(),
        }
    }

    fn chosen(world: &World) -> Chosen {
        choose(&Facts {
            file: world.file,
            traits: &world.traits,
            datastore: world.datastore.as_ref(),
            reach: &world.reach,
            attaching: world.attaching,
            reads_nfc: world.reads_nfc,
            allowed: &world.allowed,
        })
    }

    /// Every way is either taken or passed over with a reason, and nothing is both.
    #[track_caller]
    fn check(expected: &[&str], change: impl FnOnce(&mut World)) -> Chosen {
        let chosen = chosen(&world(change));
        let names: Vec<&str> = chosen
            .ways
            .iter()
            .map(|way| way.transport.as_str())
            .collect();
        assert_eq!(names, expected);
        assert!(chosen.ways.iter().all(|way| !way.reason.is_empty()));
        let passed: Vec<&str> = chosen.passed.iter().map(|(way, _)| *way).collect();
        let left: Vec<&str> = RANKS
            .into_iter()
            .filter(|way| !names.contains(way))
            .collect();
        assert_eq!(passed, left);
        chosen
    }

    fn mounts(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_nearest_way_comes_first_and_the_folder_last() {
        check(&["folder"], |_| {});
        check(&["nfc", "folder"], |world| world.reads_nfc = true);
        check(&["file", "nfc", "nbd", "folder"], |world| {
            world.reads_nfc = true;
            world.reach.datastores = mounts(&["ds"]);
            world.reach.nbd = true;
        });
        check(&["hotadd", "file", "nfc", "nbd", "folder"], |world| {
            world.reads_nfc = true;
            world.reach.datastores = mounts(&["ds"]);
            world.reach.nbd = true;
            world.attaching = Ok(());
        });
    }

    #[test]
    fn only_what_is_allowed_is_gone_and_the_rest_says_so() {
        let all = |world: &mut World| {
            world.reads_nfc = true;
            world.reach.datastores = mounts(&["ds"]);
            world.reach.nbd = true;
            world.attaching = Ok(());
        };
        let chosen = check(&["nfc", "folder"], |world| {
            all(world);
            world.allowed = vec![Way::Folder, Way::Nfc];
        });
        let why = |way: &str| {
            let mut passed = chosen.passed.iter();
            passed.find_map(|(passed, why)| (*passed == way).then_some(why.as_str()))
        };
        assert_eq!(why("file"), Some("only folder, nfc is allowed"));
        // What is not allowed is no nearer way that may be enough.
        assert!(!chosen.ways[0].is_spare);
        // Why it cannot be gone counts before that it may not.
        check(&[], |world| {
            all(world);
            world.reach.nbd = false;
            world.allowed = vec![Way::Nbd];
        });
    }

    #[test]
    fn nobody_waits_for_a_host_behind_a_nearer_way() {
        let spare = |change: fn(&mut World)| {
            let ways = chosen(&world(change)).ways;
            let nfc = ways.into_iter().find(|way| way.transport == Transport::Nfc);
            nfc.map(|way| way.is_spare)
        };
        assert_eq!(spare(|world| world.reads_nfc = true), Some(false));
        let behind = spare(|world| {
            world.reads_nfc = true;
            world.attaching = Ok(());
        });
        assert_eq!(behind, Some(true));
    }

    #[test]
    fn a_mounted_file_is_read_only_when_it_is_the_whole_disk_in_the_clear() {
        let here = |world: &mut World| world.reach.datastores = mounts(&["ds"]);
        check(&["file", "folder"], here);
        check(&["folder"], |world| {
            here(world);
            world.traits.parents = vec!["[ds] web/web.vmdk".into()];
        });
        check(&["folder"], |world| {
            here(world);
            world.traits.is_encrypted = true;
        });
        check(&["folder"], |world| {
            here(world);
            world.file = "no path";
        });
        check(&["folder"], |world| {
            world.reach.datastores = mounts(&["ds2"]);
        });
        for kind in [DatastoreKind::Vsan, DatastoreKind::Vvol] {
            check(&["folder"], |world| {
                here(world);
                world.datastore = Some(datastore(kind));
            });
        }
    }

    #[test]
    fn a_mount_is_found_by_url_before_name() {
        let by_url = URL.trim_end_matches('/');
        let chosen = check(&["file", "folder"], |world| {
            world.reach.datastores = mounts(&["ds", by_url]);
            world.datastore = Some(datastore(DatastoreKind::Vmfs));
        });
        let expected = Transport::File {
            datastore: by_url.into(),
            path: "web/web.vmdk".into(),
        };
        assert_eq!(chosen.ways[0].transport, expected);
        // Without the url, a mount of that url is not known to be the datastore's.
        check(&["folder"], |world| {
            world.reach.datastores = mounts(&[by_url]);
        });
    }

    /// A disk, its datastore, and where its VM and the proxy's run.
    struct Around {
        traits: DiskTraits,
        datastore: DatastoreFacts,
        source: Option<Seat>,
        proxy: Option<Seat>,
    }

    fn seat(host: &str, version: &str, build: u32) -> Seat {
        Seat {
            host: HostRef::new(host),
            host_name: host.into(),
            version: version.into(),
            build: Some(build),
            datastores: vec![DatastoreRef::new("datastore-1")],
            is_on_vsan: false,
        }
    }

    const NFS3: DatastoreKind = DatastoreKind::Nfs {
        remote_host: String::new(),
        remote_path: String::new(),
        is_v41: false,
    };

    /// None for a disk that may be attached, else a part of the reason.
    #[track_caller]
    fn check_attaching(expected: Option<&str>, change: impl FnOnce(&mut Around)) {
        let mut around = Around {
            traits: DiskTraits::default(),
            datastore: datastore(DatastoreKind::Vmfs),
            source: Some(seat("esx-1", "8.0.3", 24_022_510)),
            proxy: Some(seat("esx-2", "8.0.3", 24_022_510)),
        };
        change(&mut around);
        let attachable = attachable(&Attaching {
            traits: &around.traits,
            datastore: Some(&around.datastore),
            source: around.source.as_ref(),
            proxy: around.proxy.as_ref(),
        });
        match (expected, attachable) {
            (None, Ok(())) => {}
            (Some(part), Err(why)) => assert!(why.contains(part), "{why}"),
            (expected, found) => panic!("{expected:?} and not {found:?}"),
        }
    }

    #[test]
    fn a_disk_is_attached_where_the_host_of_the_proxy_reaches_it() {
        check_attaching(None, |_| {});
        check_attaching(Some("does not mount"), |around| {
            around.datastore.datastore = DatastoreRef::new("datastore-2");
        });
        check_attaching(Some("on vsan"), |around| {
            around.datastore.kind = DatastoreKind::Vsan;
        });
        check_attaching(None, |around| {
            around.datastore.kind = DatastoreKind::Vsan;
            around.proxy.as_mut().unwrap().is_on_vsan = true;
        });
        check_attaching(Some("ide"), |around| {
            around.traits.controller = "VirtualIDEController".into();
        });
        check_attaching(Some("encrypted"), |around| {
            around.traits.is_encrypted = true
        });
        // Nothing is known of where the proxy runs, or of what its host mounts.
        check_attaching(None, |around| around.proxy = None);
        check_attaching(None, |around| {
            around.proxy.as_mut().unwrap().datastores.clear()
        });
    }

    #[test]
    fn on_nfs_3_an_older_host_than_8_0_u2b_bars_a_proxy_on_another() {
        let nfs = |version: &'static str, build: u32| {
            move |around: &mut Around| {
                around.datastore.kind = NFS3;
                around.source = Some(seat("esx-1", version, build));
            }
        };
        for (version, build) in [("6.7.0", 1), ("7.0.3", 99_999_999), ("8.0.1", 99_999_999)] {
            check_attaching(Some("half a minute"), nfs(version, build));
        }
        check_attaching(Some("half a minute"), nfs("8.0.2", 23_305_545));
        check_attaching(None, nfs("8.0.2", 23_305_546));
        check_attaching(None, nfs("8.0.3", 1));
        check_attaching(None, nfs("9.0.0", 1));
        // What cannot be read bars nothing.
        check_attaching(None, nfs("", 1));
        check_attaching(None, nfs("8.x", 1));
        check_attaching(None, |around| {
            nfs("7.0.3", 1)(around);
            around.proxy = around.source.clone();
        });
        check_attaching(None, |around| {
            nfs("7.0.3", 1)(around);
            around.datastore.kind = DatastoreKind::Nfs {
                remote_host: String::new(),
                remote_path: String::new(),
                is_v41: true,
            };
        });
        check_attaching(None, |around| {
            nfs("7.0.3", 1)(around);
            around.source = None;
        });
    }

    #[test]
    fn a_space_efficient_delta_is_not_attached_to_a_proxy_on_vsan_before_7_0() {
        let sparse = |version: &'static str, is_on_vsan: bool| {
            move |around: &mut Around| {
                around.traits.backing = "VirtualDiskSeSparseBackingInfo".into();
                around.proxy = Some(Seat {
                    is_on_vsan,
                    ..seat("esx-2", version, 1)
                });
            }
        };
        check_attaching(Some("space-efficient"), sparse("6.7.0", true));
        check_attaching(None, sparse("6.7.0", false));
        check_attaching(None, sparse("7.0.0", true));
        check_attaching(None, sparse("7.0.3", true));
    }

    #[test]
    fn what_is_told_names_every_better_way_and_no_worse_one() {
        let mut account = Account::default();
        account.pass(HOT_ADD, "hot-add is off");
        account.pass(NBD, "no command");
        account.take(FILE, "its datastore is mounted");
        account.take(NFC, "nothing nearer");
        assert_eq!(
            account.told(FILE),
            "its datastore is mounted; not hotadd: hot-add is off"
        );
        let fault = Fault::new(Reason::DiskReadFailed, "stale handle");
        account.fell(&fault.with("way", "file [ds] web/web.vmdk"));
        assert_eq!(
            account.told(NFC),
            "nothing nearer; not hotadd: hot-add is off; not file: stale handle"
        );
        assert_eq!(Account::default().told(NFC), "");
    }
}
