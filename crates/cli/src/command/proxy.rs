//! `stillwater proxy`.

use futures::StreamExt;
use stillwater_controller_api::{NodeState, ProbeVmRequest};
use stillwater_types::{Fault, NodeId, Role};

use super::Desk;
use crate::arguments::{Probe, Proxy};
use crate::exit::Outcome;
use crate::{output, resolve, view};

pub(super) async fn run(desk: &Desk, proxy: Proxy) -> Result<Outcome, Fault> {
    match proxy {
        Proxy::List => list(desk).await,
        Proxy::Drain { proxy } => drain(desk, &proxy).await,
        Proxy::Undrain { proxy } => undrain(desk, &proxy).await,
        Proxy::Probe(asked) => probe(desk, asked).await,
    }
}

async fn list(desk: &Desk) -> Result<Outcome, Fault> {
    let mut proxies = desk.session.controller.list_nodes().await?;
    proxies.retain(|node| node.role == Role::Proxy && node.state != NodeState::Removed);
    let json = || proxies.iter().map(view::node::json).collect();
    output::print(desk.format, || view::proxy::list(&proxies), json)?;
    Ok(Outcome::Done)
}

async fn drain(desk: &Desk, text: &str) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    let proxy = resolve::proxy(controller, text).await?;
    controller.drain_proxy(proxy).await?;
    output::say(&format!(
        "proxy {proxy} gets no new work; `stillwater proxy list` shows what it still has"
    ));
    show(desk, proxy).await
}

async fn undrain(desk: &Desk, text: &str) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    let proxy = resolve::proxy(controller, text).await?;
    controller.undrain_proxy(proxy).await?;
    output::say(&format!("proxy {proxy} gets work again"));
    show(desk, proxy).await
}

async fn show(desk: &Desk, proxy: NodeId) -> Result<Outcome, Fault> {
    let mut nodes = desk.session.controller.list_nodes().await?;
    nodes.retain(|node| node.node_id == proxy);
    let json = || nodes.iter().map(view::node::json).collect();
    output::print(desk.format, || view::proxy::list(&nodes), json)?;
    Ok(Outcome::Done)
}

async fn probe(desk: &Desk, asked: Probe) -> Result<Outcome, Fault> {
    let Probe { vm, disk, read } = asked;
    let request = ProbeVmRequest {
        vm,
        disk_key: disk,
        read_bytes: read << 20,
    };
    let mut told = desk.session.controller.probe_vm(request).await?;
    let (mut probes, mut broken) = (Vec::new(), None);
    while let Some(next) = told.next().await {
        match next {
            Ok(probe) => {
                let done = match probe.passed_over {
                    Some(_) => "passed over",
                    None => "measured",
                };
                output::say(&format!("{done} {} by {}", probe.proxy_name, probe.way));
                probes.push(probe);
            }
            Err(fault) => broken = broken.or(Some(fault)),
        }
    }
    // What was measured is shown even when the snapshot could not be removed.
    if !probes.is_empty() || broken.is_none() {
        let text = || view::probe::list(&probes);
        output::print(desk.format, text, || view::probe::json(&probes))?;
    }
    match broken {
        Some(fault) => Err(fault),
        None if probes.iter().any(|probe| probe.fault.is_some()) => Ok(Outcome::Warned),
        None => Ok(Outcome::Done),
    }
}
