//! Datastores: how full they are, what they are, and who can reach them.

use crate::client::Client;
use crate::collect::{Properties, Wanted};
use crate::xml::{Element, Problem};
use crate::{DatastoreRef, HostRef, Result};

const DATASTORES: [Wanted; 1] = [Wanted {
    kind: "Datastore",
    paths: &["name", "summary", "info", "host"],
}];

/// A datastore, as the server last saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatastoreFacts {
    /// The datastore.
    pub datastore: DatastoreRef,
    /// Its name, as file names carry it.
    pub name: String,
    /// What names it beyond one vCenter, such as `ds:///vmfs/volumes/64f0-…/`; none when it is not told.
    pub url: Option<String>,
    /// What it is.
    pub kind: DatastoreKind,
    /// Its size.
    pub capacity_bytes: u64,
    /// What is free.
    pub free_bytes: u64,
    /// Whether any host can reach it.
    pub is_accessible: bool,
    /// Hosts that mount it and can reach it.
    pub hosts: Vec<HostRef>,
}

/// What a datastore is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DatastoreKind {
    /// VMware's file system on block storage.
    Vmfs,
    /// A directory of a file server.
    Nfs {
        /// The server, as the hosts name it; empty when it is not told.
        remote_host: String,
        /// Its directory; empty when it is not told.
        remote_path: String,
        /// Whether NFS 4.1 is spoken, else NFS 3.
        is_v41: bool,
    },
    /// VMware's distributed storage: its disks are no files.
    Vsan,
    /// Virtual volumes: its disks are no files.
    Vvol,
    /// Something else; the server's word for it.
    Other(String),
}

impl Client {
    /// Every datastore, in the order of their names.
    pub async fn datastores(&self) -> Result<Vec<DatastoreFacts>> {
        let mut all = Vec::new();
        for object in self.list(&DATASTORES).await? {
            // One without a summary we may not see.
            if object.get("summary").is_some() {
                all.push(facts(&object).map_err(|problem| object.bad(problem))?);
            }
        }
        all.sort_by(|a, b| (&a.name, &a.datastore).cmp(&(&b.name, &b.datastore)));
        Ok(all)
    }

    /// One datastore.
    pub async fn datastore(&self, datastore: &DatastoreRef) -> Result<DatastoreFacts> {
        let [wanted] = DATASTORES;
        let read = self.read(&datastore.moref(), wanted.paths).await?;
        read.need("summary")?;
        facts(&read).map_err(|problem| read.bad(problem))
    }
}

fn facts(object: &Properties) -> Result<DatastoreFacts, Problem> {
    let none = Element::default();
    let summary = object.get("summary").unwrap_or(&none);
    let hosts = object.get("host").map(accessible).transpose()?;
    Ok(DatastoreFacts {
        datastore: DatastoreRef::new(&object.object.value),
        name: summary.string("name")?,
        url: summary.optional("url"),
        kind: kind(&summary.string("type")?, object.get("info")),
        capacity_bytes: summary.value("capacity")?,
        free_bytes: summary.value("freeSpace")?,
        is_accessible: summary.value("accessible")?,
        hosts: hosts.unwrap_or_default(),
    })
}

fn kind(word: &str, info: Option<&Element>) -> DatastoreKind {
    let nas = |field: &str| {
        let told = info.and_then(|info| info.optional(&format!("nas.{field}")));
        told.unwrap_or_default()
    };
    match word.to_ascii_lowercase().as_str() {
        "vmfs" => DatastoreKind::Vmfs,
        "nfs" | "nfs41" => DatastoreKind::Nfs {
            remote_host: nas("remoteHost"),
            remote_path: nas("remotePath"),
            is_v41: word.eq_ignore_ascii_case("nfs41"),
        },
        "vsan" | "vsand" => DatastoreKind::Vsan,
        "vvol" => DatastoreKind::Vvol,
        _ => DatastoreKind::Other(word.to_owned()),
    }
}

/// The hosts of a list of `DatastoreHostMount` that can reach the datastore. What is left out counts as
/// yes, as with old servers.
fn accessible(mounts: &Element) -> Result<Vec<HostRef>, Problem> {
    let mut hosts = Vec::new();
    for mount in &mounts.children {
        let is = |flag: &str| {
            let flag = mount.optional_value::<bool>(&format!("mountInfo.{flag}"))?;
            Ok::<_, Problem>(flag.unwrap_or(true))
        };
        if is("mounted")? && is("accessible")? {
            hosts.push(HostRef::new(mount.need_moref("key")?.value));
        }
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: &str, info: &str, expected: DatastoreKind) {
        let info = Element::parse(&format!("<val>{info}</val>")).expect("reads");
        assert_eq!(kind(word, Some(&info)), expected);
    }

    #[test]
    fn a_datastore_is_known_by_the_servers_word() {
        check("VMFS", "", DatastoreKind::Vmfs);
        check("vsan", "", DatastoreKind::Vsan);
        check("VVOL", "", DatastoreKind::Vvol);
        check("PMEM", "", DatastoreKind::Other("PMEM".into()));
        let nas = "<nas><type>NFS</type><remoteHost>10.0.0.1</remoteHost><remotePath>/vol/a</remotePath></nas>";
        let nfs = |is_v41| DatastoreKind::Nfs {
            remote_host: "10.0.0.1".into(),
            remote_path: "/vol/a".into(),
            is_v41,
        };
        check("NFS", nas, nfs(false));
        check("NFS41", nas, nfs(true));
    }

    #[test]
    fn only_hosts_that_reach_it_count() {
        let mount = |host: &str, flags: &str| {
            format!(
                r#"<DatastoreHostMount><key type="HostSystem">{host}</key><mountInfo>{flags}</mountInfo></DatastoreHostMount>"#
            )
        };
        let xml = format!(
            "<val>{}{}{}{}</val>",
            mount(
                "host-1",
                "<mounted>true</mounted><accessible>true</accessible>"
            ),
            mount(
                "host-2",
                "<mounted>true</mounted><accessible>false</accessible>"
            ),
            mount("host-3", "<mounted>false</mounted>"),
            mount("host-4", ""),
        );
        let hosts = accessible(&Element::parse(&xml).expect("reads")).expect("hosts");
        assert_eq!(hosts, [HostRef::new("host-1"), HostRef::new("host-4")]);
    }
}
