//! `stillwater node`.

use stillwater_types::Fault;

use super::Desk;
use crate::arguments::Node;
use crate::exit::Outcome;
use crate::{output, resolve, view};

pub(super) async fn run(desk: &Desk, node: Node) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    match node {
        Node::List => {
            let nodes = controller.list_nodes().await?;
            let json = || nodes.iter().map(view::node::json).collect();
            output::print(desk.format, || view::node::list(&nodes), json)?;
        }
        Node::Remove { node } => {
            let node = resolve::node(controller, &node).await?;
            controller.remove_node(node).await?;
            output::say(&format!("node {node} is shut out"));
        }
    }
    Ok(Outcome::Done)
}
