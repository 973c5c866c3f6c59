//! `stillwater vm`.

use stillwater_types::Fault;

use super::Desk;
use crate::arguments::Vm;
use crate::exit::Outcome;
use crate::{output, view};

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
            output::print(desk.format, || view::vm::show(&vm), || view::vm::json(&vm))?;
        }
    }
    Ok(Outcome::Done)
}
