//! `stillwater proxy`.

use futures::StreamExt;
use stillwater_controller_api::ProbeVmRequest;
use stillwater_types::Fault;

use super::Desk;
use crate::arguments::{Probe, Proxy};
use crate::exit::Outcome;
use crate::{output, view};

pub(super) async fn run(desk: &Desk, proxy: Proxy) -> Result<Outcome, Fault> {
    match proxy {
        Proxy::Probe(asked) => probe(desk, asked).await,
    }
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
                output::say(&format!("measured {} by {}", probe.proxy_name, probe.way));
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
