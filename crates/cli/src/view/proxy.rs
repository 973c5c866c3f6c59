//! Proxies.

use stillwater_controller_api::Node;

use super::node::{load, reach, state};
use crate::output::{Field, moment, table};

pub(crate) fn list(proxies: &[Node]) -> String {
    let header = [
        "ID",
        "NAME",
        "ADDRESS",
        "STATE",
        "SEEN",
        "DRAINS SINCE",
        "LOAD",
        "ALSO REACHES",
    ];
    table(header, proxies.iter().map(row))
}

fn row(proxy: &Node) -> [Field; 8] {
    [
        Field::text(proxy.node_id),
        Field::text(&proxy.name),
        Field::maybe(proxy.address.as_ref()),
        Field::text(state(proxy)),
        Field::maybe(proxy.seen_at.map(moment)),
        Field::maybe(proxy.draining_since.map(moment)),
        Field::maybe(load(proxy)),
        Field::maybe(reach(proxy)),
    ]
}
