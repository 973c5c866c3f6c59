//! Nodes.

use serde_json::{Value, json};
use stillwater_controller_api::{Node, NodeState};
use stillwater_types::Role;

use crate::output::{Field, moment, size, table};

pub(crate) fn list(nodes: &[Node]) -> String {
    let header = [
        "ID",
        "ROLE",
        "NAME",
        "ADDRESS",
        "STATE",
        "SEEN",
        "CERTIFICATE ENDS",
        "LOAD",
        "ALSO REACHES",
    ];
    table(header, nodes.iter().map(row))
}

fn row(node: &Node) -> [Field; 9] {
    [
        Field::text(node.node_id),
        Field::text(node.role),
        Field::text(&node.name),
        Field::maybe(node.address.as_ref()),
        Field::text(state(node)),
        Field::maybe(node.seen_at.map(moment)),
        Field::text(moment(node.certificate_expires_at)),
        Field::maybe(load(node)),
        Field::maybe(reach(node)),
    ]
}

pub(super) fn load(node: &Node) -> Option<String> {
    let load = node.load.as_ref()?;
    match node.role {
        Role::Proxy => Some(format!(
            "{} of {} slots",
            load.transfer_count, load.transfer_slots
        )),
        Role::Repository => Some(format!(
            "{} stored, {} free",
            size(load.stored_bytes),
            size(load.writable_bytes)
        )),
        Role::Controller | Role::Admin => None,
    }
}

/// The ways to disks that not every proxy has.
pub(super) fn reach(node: &Node) -> Option<String> {
    let reach = node.reach.as_ref()?;
    let hot_add = (!reach.vm_uuids.is_empty()).then(|| "hot-add".to_owned());
    let files = reach
        .datastores
        .iter()
        .map(|datastore| format!("file {datastore}"));
    let nbd = reach.nbd.then(|| "nbd".to_owned());
    let ways: Vec<String> = hot_add.into_iter().chain(files).chain(nbd).collect();
    (!ways.is_empty()).then(|| ways.join(", "))
}

pub(crate) fn json(node: &Node) -> Value {
    json!({
        "node_id": node.node_id.to_string(),
        "role": node.role.as_str(),
        "name": node.name,
        "address": node.address,
        "state": word(node.state),
        "joined_at": node.joined_at.to_string(),
        "seen_at": node.seen_at.map(|time| time.to_string()),
        "certificate_expires_at": node.certificate_expires_at.to_string(),
        "version": node.version,
        "load": node.load.map(|load| json!({
            "transfer_slots": load.transfer_slots,
            "transfer_count": load.transfer_count,
            "writable_bytes": load.writable_bytes,
            "capacity_bytes": load.capacity_bytes,
            "stored_bytes": load.stored_bytes,
        })),
        "reach": node.reach.as_ref().map(|reach| json!({
            "vm_uuids": reach.vm_uuids,
            "datastores": reach.datastores,
            "nbd": reach.nbd,
        })),
        "draining_since": node.draining_since.map(|time| time.to_string()),
    })
}

/// The state in a table: that a proxy drains goes before that it is online.
pub(super) fn state(node: &Node) -> &'static str {
    match (node.state, node.draining_since) {
        (NodeState::Online, Some(_)) => "draining",
        (NodeState::Offline, Some(_)) => "offline, draining",
        (state, _) => word(state),
    }
}

const fn word(state: NodeState) -> &'static str {
    match state {
        NodeState::Online => "online",
        NodeState::Offline => "offline",
        NodeState::Removed => "removed",
    }
}
