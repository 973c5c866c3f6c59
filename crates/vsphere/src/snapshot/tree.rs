//! A VM's snapshots as a list.

use jiff::Timestamp;

use crate::SnapshotRef;
use crate::xml::{Element, Problem};

/// A snapshot in a VM's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The snapshot.
    pub snapshot: SnapshotRef,
    /// Display name.
    pub name: String,
    /// Description.
    pub description: String,
    /// When it was made, as the server writes it (RFC 3339).
    pub created_at: String,
    /// Whether the guest was quiesced; a request to quiesce can be ignored silently.
    pub quiesced: bool,
    /// The snapshot below which it lies.
    pub parent: Option<SnapshotRef>,
    /// Whether it is the one that the VM's disks stand on.
    pub is_current: bool,
    /// The file in which the guest's agent told what took part in the freeze, below
    /// [`VmFacts::snapshot_directory`](crate::VmFacts::snapshot_directory). It goes with the snapshot.
    pub backup_manifest: Option<String>,
}

impl SnapshotInfo {
    /// When it was made by the server's clock; none when the server's words are no time.
    pub fn created(&self) -> Option<Timestamp> {
        self.created_at.parse().ok()
    }
}

/// Flattens a `VirtualMachineSnapshotInfo`.
pub(crate) fn tree(info: &Element) -> Result<Vec<SnapshotInfo>, Problem> {
    let current = info.optional("currentSnapshot");
    let mut flat = Vec::new();
    let mut open: Vec<(&Element, Option<SnapshotRef>)> = info
        .all("rootSnapshotList")
        .map(|root| (root, None))
        .collect();
    open.reverse();
    while let Some((node, parent)) = open.pop() {
        let found = snapshot(node, parent, current.as_deref())?;
        let children = node.all("childSnapshotList");
        let below = open.len();
        open.extend(children.map(|child| (child, Some(found.snapshot.clone()))));
        // The last one pushed is taken first: keep the server's order.
        if let Some(children) = open.get_mut(below..) {
            children.reverse();
        }
        flat.push(found);
    }
    Ok(flat)
}

fn snapshot(
    node: &Element,
    parent: Option<SnapshotRef>,
    current: Option<&str>,
) -> Result<SnapshotInfo, Problem> {
    let snapshot = SnapshotRef::new(node.need_moref("snapshot")?.value);
    Ok(SnapshotInfo {
        is_current: current == Some(snapshot.as_str()),
        snapshot,
        name: node.string("name")?,
        // Left out by some servers when it is empty.
        description: node.optional("description").unwrap_or_default(),
        created_at: node.string("createTime")?,
        quiesced: node.value("quiesced")?,
        parent,
        backup_manifest: node.optional("backupManifest"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32, inside: &str) -> String {
        format!(
            r#"<snapshot type="VirtualMachineSnapshot">snapshot-{id}</snapshot><vm type="VirtualMachine">vm-1</vm><name>s{id}</name><description></description><id>{id}</id><createTime>2026-11-22T10:00:00.5Z</createTime><state>poweredOn</state><quiesced>false</quiesced>{inside}"#
        )
    }

    fn read(xml: &str) -> Vec<SnapshotInfo> {
        tree(&Element::parse(xml).expect("reads")).expect("a tree")
    }

    #[test]
    fn a_tree_is_flattened_parents_first_in_the_servers_order() {
        let child = |id, inside: &str| {
            format!(
                "<childSnapshotList>{}</childSnapshotList>",
                node(id, inside)
            )
        };
        let flat = read(&format!(
            "<val><currentSnapshot type=\"VirtualMachineSnapshot\">snapshot-3</currentSnapshot><rootSnapshotList>{}</rootSnapshotList><rootSnapshotList>{}</rootSnapshotList></val>",
            node(1, &(child(2, &child(3, "")) + &child(4, ""))),
            node(5, "")
        ));
        let rows: Vec<(&str, Option<&str>, bool)> = flat
            .iter()
            .map(|s| {
                let parent = s.parent.as_ref().map(SnapshotRef::as_str);
                (s.name.as_str(), parent, s.is_current)
            })
            .collect();
        let expected = [
            ("s1", None, false),
            ("s2", Some("snapshot-1"), false),
            ("s3", Some("snapshot-2"), true),
            ("s4", Some("snapshot-1"), false),
            ("s5", None, false),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_snapshot_tells_its_time_and_its_manifest() {
        let inside = "<backupManifest>web-vss_manifests7.zip</backupManifest>";
        let flat = read(&format!(
            "<val><rootSnapshotList>{}</rootSnapshotList></val>",
            node(1, inside)
        ));
        let first = flat.first().expect("a snapshot");
        let created = first.created().expect("a time");
        assert_eq!(created.as_millisecond(), 1_795_341_600_500);
        assert_eq!(
            first.backup_manifest.as_deref(),
            Some("web-vss_manifests7.zip")
        );
        let odd = SnapshotInfo {
            created_at: "yesterday".into(),
            ..first.clone()
        };
        assert_eq!(odd.created(), None);
    }
}
