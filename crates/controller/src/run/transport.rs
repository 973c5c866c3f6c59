//! By which ways a frozen disk is read, best first, and why.
//!
//! Pure: what is known of the disk, of the proxy and of what the administrator allows goes in.

use stillwater_controller_api::ProxyReach;
use stillwater_vsphere::DiskTraits;

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
            Transport::HotAdd => super::act::HOT_ADD,
            Transport::File { .. } => "file",
            Transport::Nfc => super::act::NFC,
            Transport::Nbd => "nbd",
            Transport::Folder => super::act::FOLDER,
        }
    }
}

/// A way that is taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The way.
    pub transport: Transport,
    /// Why it stands where it stands.
    pub reason: String,
}

/// What decides.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The frozen disk's file, such as `[ds] web/web.vmdk`.
    pub file: &'a str,
    /// How the disk is made.
    pub traits: &'a DiskTraits,
    /// By which ways its proxy reaches disks.
    pub reach: &'a ProxyReach,
    /// Whether the journal says that the disk is about to be attached to the proxy's VM.
    pub is_attachable: bool,
    /// Whether disks may be read through their hosts.
    pub reads_nfc: bool,
}

/// The ways to take, best first; never none.
pub fn choose(facts: &Facts<'_>) -> Vec<Choice> {
    let mut ways = Vec::new();
    let mut add = |transport, reason: String| ways.push(Choice { transport, reason });
    if facts.is_attachable {
        let reason = "the proxy is a vm of the same vcenter that disks may be attached to";
        add(Transport::HotAdd, reason.to_owned());
    }
    let file = mounted(facts);
    let is_nearer = facts.is_attachable || file.is_some();
    if let Some((datastore, path)) = file {
        let reason = format!("datastore {datastore} is mounted on the proxy");
        add(Transport::File { datastore, path }, reason);
    }
    // A share of the host would lie idle behind a better way.
    if facts.reads_nfc && !is_nearer {
        let reason = "the proxy has no nearer way than the disk's host";
        add(Transport::Nfc, reason.to_owned());
    }
    if facts.reach.nbd {
        let reason = "the proxy has a command that serves disks";
        add(Transport::Nbd, reason.to_owned());
    }
    add(Transport::Folder, "it needs nothing but vcenter".to_owned());
    ways
}

/// The disk's file where the proxy has its datastore mounted, if it can be read there: a mounted file
/// is the whole disk only when nothing lies below it, and readable only when it is not encrypted.
fn mounted(facts: &Facts<'_>) -> Option<(String, String)> {
    let (datastore, path) = facts.file.strip_prefix('[')?.split_once(']')?;
    let is_plain = facts.traits.parents.is_empty() && !facts.traits.is_encrypted;
    let is_mounted = facts.reach.datastores.iter().any(|name| name == datastore);
    let found = (datastore.to_owned(), path.trim_start().to_owned());
    (is_plain && is_mounted).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(datastores: &[&str], nbd: bool) -> ProxyReach {
        ProxyReach {
            vm_uuids: Vec::new(),
            datastores: datastores.iter().map(|&name| name.to_owned()).collect(),
            nbd,
        }
    }

    #[track_caller]
    fn check(facts: Facts<'_>, expected: &[&str]) {
        let chosen = choose(&facts);
        let names: Vec<&str> = chosen.iter().map(|way| way.transport.as_str()).collect();
        assert_eq!(names, expected);
        assert!(chosen.iter().all(|way| !way.reason.is_empty()));
    }

    #[test]
    fn the_nearest_way_comes_first_and_the_folder_last() {
        let plain = DiskTraits::default();
        let (nothing, all) = (reach(&[], false), reach(&["ds"], true));
        let facts = Facts {
            file: "[ds] web/web.vmdk",
            traits: &plain,
            reach: &nothing,
            is_attachable: false,
            reads_nfc: false,
        };
        let through_nfc = Facts {
            reads_nfc: true,
            ..facts
        };
        check(facts, &["folder"]);
        check(through_nfc, &["nfc", "folder"]);
        let near = Facts {
            reach: &all,
            ..through_nfc
        };
        check(near, &["file", "nbd", "folder"]);
        let nearest = Facts {
            is_attachable: true,
            ..near
        };
        check(nearest, &["hotadd", "file", "nbd", "folder"]);
    }

    #[test]
    fn a_mounted_file_is_read_only_when_it_is_the_whole_disk_in_the_clear() {
        let plain = DiskTraits::default();
        let chain = DiskTraits {
            parents: vec!["[ds] web/web.vmdk".into()],
            ..plain.clone()
        };
        let encrypted = DiskTraits {
            is_encrypted: true,
            ..plain.clone()
        };
        let (here, elsewhere) = (reach(&["ds"], false), reach(&["ds2"], false));
        let facts = |traits, reach, file| Facts {
            file,
            traits,
            reach,
            is_attachable: false,
            reads_nfc: true,
        };
        let file = "[ds] web/web.vmdk";
        check(facts(&plain, &here, file), &["file", "folder"]);
        check(facts(&chain, &here, file), &["nfc", "folder"]);
        check(facts(&encrypted, &here, file), &["nfc", "folder"]);
        check(facts(&plain, &elsewhere, file), &["nfc", "folder"]);
        check(facts(&plain, &here, "no path"), &["nfc", "folder"]);
    }
}
