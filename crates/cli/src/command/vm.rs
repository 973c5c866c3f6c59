//! `stillwater vm`.

use futures::stream::{self, StreamExt, TryStreamExt};
use stillwater_controller_api::{
    ListAlarmsRequest, PreflightVerdict, PreflightVmRequest, PreflightVmResponse,
};
use stillwater_types::Fault;

use super::Desk;
use crate::arguments::{Preflight, Vm};
use crate::exit::Outcome;
use crate::{output, view};

/// How many VMs are looked at together.
const PARALLEL: usize = 4;

pub(super) async fn run(desk: &Desk, vm: Vm) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    match vm {
        Vm::List { vcenter } => {
            let vms = controller.list_vms(vcenter).await?;
            let json = || vms.iter().map(view::vm::summary_json).collect();
            output::print(desk.format, || view::vm::list(&vms), json)?;
        }
        Vm::Show { vm } => {
            let vm = controller.get_vm(vm).await?;
            let standing = ListAlarmsRequest {
                include_cleared: false,
            };
            let mut alarms = controller.list_alarms(standing).await?;
            alarms.retain(|alarm| alarm.vm_id.as_ref() == Some(&vm.summary.vm_id));
            let text = || view::vm::show(&vm, &alarms);
            output::print(desk.format, text, || view::vm::json(&vm, &alarms))?;
        }
        Vm::Preflight(asked) => return preflight(desk, asked).await,
    }
    Ok(Outcome::Done)
}

async fn preflight(desk: &Desk, asked: Preflight) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    let Preflight {
        vms,
        all,
        vcenter,
        restore,
    } = asked;
    let names = match all {
        false => vms,
        true => {
            let listed = controller.list_vms(vcenter).await?;
            listed.iter().map(|vm| vm.vm_id.to_string()).collect()
        }
    };
    let looks = names
        .into_iter()
        .map(|vm| controller.preflight_vm(PreflightVmRequest { vm, restore }));
    let found: Vec<PreflightVmResponse> =
        stream::iter(looks).buffered(PARALLEL).try_collect().await?;
    let text = || view::preflight::show(&found, all);
    output::print(desk.format, text, || view::preflight::json(&found))?;
    let mut findings = found.iter().flat_map(|vm| &vm.findings);
    match findings.any(|finding| finding.verdict == PreflightVerdict::Blocked) {
        true => Ok(Outcome::Warned),
        false => Ok(Outcome::Done),
    }
}
