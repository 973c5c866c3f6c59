//! From what a person types to an id.

use std::fmt::Display;
use std::str::FromStr;

use stillwater_controller_api::{
    Client, ListPointsRequest, ListRunsRequest, Node, NodeState, Point, Run,
};
use stillwater_types::{Fault, NodeId, PointId, Reason, Role, RunId};

/// Fewer characters than this fit too much by accident.
const PREFIX_CHARS_MIN: usize = 8;

/// Entries asked for at a time: a page of VMs with many disks must fit in one message.
const PAGE_SIZE: u32 = 200;

/// The run with this id, or with the only id that begins so.
pub(crate) async fn run(controller: &Client, text: &str) -> Result<RunId, Fault> {
    let Wanted::Prefix(prefix) = wanted(text, "run")? else {
        return whole(text, "run");
    };
    let runs = runs(controller, usize::MAX).await?;
    only(
        &prefix,
        "run",
        Reason::RunNotFound,
        runs.iter().map(|run| run.run_id),
    )
}

/// The restore point with this id, or with the only id that begins so.
pub(crate) async fn point(controller: &Client, text: &str) -> Result<PointId, Fault> {
    let Wanted::Prefix(prefix) = wanted(text, "restore point")? else {
        return whole(text, "restore point");
    };
    let points = points(controller, None, usize::MAX).await?;
    let ids = points.iter().map(|point| point.point_id);
    only(&prefix, "restore point", Reason::PointNotFound, ids)
}

/// The node with this id, or with the only id that begins so.
pub(crate) async fn node(controller: &Client, text: &str) -> Result<NodeId, Fault> {
    let Wanted::Prefix(prefix) = wanted(text, "node")? else {
        return whole(text, "node");
    };
    let nodes = controller.list_nodes().await?;
    only(
        &prefix,
        "node",
        Reason::NodeNotFound,
        nodes.iter().map(|node| node.node_id),
    )
}

/// The repository with this name, this id, or the only id that begins so.
pub(crate) async fn repository(controller: &Client, text: &str) -> Result<NodeId, Fault> {
    let mut nodes = controller.list_nodes().await?;
    nodes.retain(|node| node.role == Role::Repository);
    named(&nodes, ("repository", "repositories"), text)
}

/// The proxy with this name, this id, or the only id that begins so; a removed one only by its id.
pub(crate) async fn proxy(controller: &Client, text: &str) -> Result<NodeId, Fault> {
    let mut nodes = controller.list_nodes().await?;
    let is_removed = |node: &Node| node.state == NodeState::Removed && node.name == text;
    nodes.retain(|node| node.role == Role::Proxy && !is_removed(node));
    named(&nodes, ("proxy", "proxies"), text)
}

fn named(nodes: &[Node], (one, many): (&str, &str), text: &str) -> Result<NodeId, Fault> {
    let named: Vec<_> = nodes.iter().filter(|node| node.name == text).collect();
    if let [only] = named.as_slice() {
        return Ok(only.node_id);
    }
    if text.len() >= PREFIX_CHARS_MIN && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
        let ids = nodes.iter().map(|node| node.node_id);
        return only(&text.to_ascii_lowercase(), one, Reason::NodeNotFound, ids);
    }
    let message = match named.len() {
        0 => format!("no {one} is called {text}; `stillwater {one} list` names them"),
        count => format!("{count} {many} are called {text}; name the one by its id"),
    };
    Err(Fault::new(Reason::NodeNotFound, message))
}

/// At most `limit` runs, newest first.
pub(crate) async fn runs(controller: &Client, limit: usize) -> Result<Vec<Run>, Fault> {
    let mut runs = Vec::new();
    let mut page_token = None;
    loop {
        let page_size = page_size(limit - runs.len());
        let page = controller
            .list_runs(ListRunsRequest {
                page_size,
                page_token,
            })
            .await?;
        runs.extend(page.runs);
        page_token = page.next_page_token;
        if page_token.is_none() || runs.len() >= limit {
            runs.truncate(limit);
            return Ok(runs);
        }
    }
}

/// At most `limit` points, newest first.
pub(crate) async fn points(
    controller: &Client,
    vm: Option<String>,
    limit: usize,
) -> Result<Vec<Point>, Fault> {
    let mut points = Vec::new();
    let mut page_token = None;
    loop {
        let page_size = page_size(limit - points.len());
        let request = ListPointsRequest {
            vm: vm.clone(),
            page_size,
            page_token,
        };
        let page = controller.list_points(request).await?;
        points.extend(page.points);
        page_token = page.next_page_token;
        if page_token.is_none() || points.len() >= limit {
            points.truncate(limit);
            return Ok(points);
        }
    }
}

fn page_size(left: usize) -> u32 {
    u32::try_from(left).unwrap_or(PAGE_SIZE).clamp(1, PAGE_SIZE)
}

enum Wanted {
    Whole,
    Prefix(String),
}

fn wanted(text: &str, what: &str) -> Result<Wanted, Fault> {
    let text = text.to_ascii_lowercase();
    let hex = text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    match text.len() {
        36 if hex => Ok(Wanted::Whole),
        PREFIX_CHARS_MIN..36 if hex => Ok(Wanted::Prefix(text)),
        _ => Err(Fault::new(
            Reason::BadField,
            format!(
                "{text:?} is no {what} id: give at least its first {PREFIX_CHARS_MIN} characters"
            ),
        )),
    }
}

fn whole<T: FromStr<Err: Display>>(text: &str, what: &str) -> Result<T, Fault> {
    let bad = |err| Fault::new(Reason::BadField, format!("read the {what} id: {err}"));
    text.to_ascii_lowercase().parse().map_err(bad)
}

fn only<T: Display>(
    prefix: &str,
    what: &str,
    absent: Reason,
    ids: impl Iterator<Item = T>,
) -> Result<T, Fault> {
    let mut fitting: Vec<T> = ids
        .filter(|id| id.to_string().starts_with(prefix))
        .collect();
    match fitting.len() {
        0 => Err(Fault::new(
            absent,
            format!("no {what} id begins with {prefix}"),
        )),
        1 => Ok(fitting.remove(0)),
        count => {
            let some: Vec<String> = fitting.iter().take(5).map(T::to_string).collect();
            Err(Fault::new(
                Reason::BadField,
                format!(
                    "{count} {what} ids begin with {prefix}, type more: {}",
                    some.join(", ")
                ),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [&str; 3] = [
        "0190a5c2-0000-7000-8000-000000000001",
        "0190a5c2-0000-7000-8000-000000000002",
        "0190a5c3-0000-7000-8000-000000000003",
    ];

    #[track_caller]
    fn check(text: &str, expected: Result<&str, Reason>) {
        let found = wanted(text, "run").and_then(|wanted| match wanted {
            Wanted::Whole => whole::<RunId>(text, "run"),
            Wanted::Prefix(prefix) => {
                let ids = IDS.iter().map(|id| id.parse::<RunId>().expect("an id"));
                only(&prefix, "run", Reason::RunNotFound, ids)
            }
        });
        let found = found.map(|id| id.to_string()).map_err(|fault| fault.reason);
        assert_eq!(found.as_deref().map_err(|reason| *reason), expected);
    }

    #[test]
    fn a_whole_id_is_taken_as_it_is() {
        check(
            "0190a5c2-0000-7000-8000-00000000000f",
            Ok("0190a5c2-0000-7000-8000-00000000000f"),
        );
        check(&IDS[2].to_uppercase(), Ok(IDS[2]));
    }

    #[test]
    fn a_beginning_must_fit_one_id() {
        check("0190a5c3", Ok(IDS[2]));
        check("0190A5C3-00", Ok(IDS[2]));
        check("0190a5c2", Err(Reason::BadField));
        check("0190a5c4", Err(Reason::RunNotFound));
    }

    #[test]
    fn what_is_too_short_or_no_id_is_refused() {
        for bad in [
            "",
            "0190a5c",
            "web-server",
            "0190a5c2-0000-7000-8000-0000000000010",
        ] {
            check(bad, Err(Reason::BadField));
        }
    }
}
