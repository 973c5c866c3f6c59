//! What a restore over the disks of the VM itself would do.

use serde_json::{Value, json};
use stillwater_controller_api::{PlanRestoreInPlaceResponse, RestoreInPlaceDisk};

use super::restore::block;
use crate::output::{Field, sheet, table};

pub(crate) fn show(planned: &PlanRestoreInPlaceResponse) -> String {
    let PlanRestoreInPlaceResponse {
        vm_id,
        vm_name,
        disks,
        steps,
        losses,
        refusals,
    } = planned;
    let mut parts = vec![sheet(&[("vm", vm_name.clone()), ("id", vm_id.to_string())])];
    if !disks.is_empty() {
        let header = ["KEY", "DISK", "SIZE", "IS COMPARED"];
        parts.push(table(header, disks.iter().map(disk)));
    }
    parts.extend(block("What is done:", steps.iter().cloned()));
    parts.extend(block("What is lost or stays:", losses.iter().cloned()));
    let refusals = refusals
        .iter()
        .map(|fault| format!("{}: {}", fault.reason, fault.message));
    parts.extend(block("It would be refused:", refusals));
    parts.join("\n\n")
}

fn disk(disk: &RestoreInPlaceDisk) -> [Field; 4] {
    [
        Field::text(disk.key),
        Field::text(&disk.label),
        Field::bytes(disk.length_bytes),
        Field::text(match disk.compares_all {
            true => "all of it",
            false => "where it may differ",
        }),
    ]
}

pub(crate) fn json(planned: &PlanRestoreInPlaceResponse) -> Value {
    let disk = |disk: &RestoreInPlaceDisk| {
        json!({
            "key": disk.key,
            "label": disk.label,
            "length_bytes": disk.length_bytes,
            "compares_all": disk.compares_all,
        })
    };
    json!({
        "vm_id": planned.vm_id.to_string(),
        "vm_name": planned.vm_name,
        "disks": planned.disks.iter().map(disk).collect::<Vec<_>>(),
        "steps": planned.steps,
        "losses": planned.losses,
        "refusals": planned.refusals.iter().map(super::run::fault).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use stillwater_types::{Fault, Reason, VcenterId, VmId};

    use super::*;

    fn planned() -> PlanRestoreInPlaceResponse {
        let disk = |key, label: &str, compares_all| RestoreInPlaceDisk {
            key,
            label: label.into(),
            length_bytes: 40 << 30,
            compares_all,
        };
        PlanRestoreInPlaceResponse {
            vm_id: VmId {
                vcenter: VcenterId::from_bytes([2; 16]),
                moref: "vm-7".into(),
            },
            vm_name: "web\u{1b}".into(),
            disks: vec![
                disk(2000, "Hard disk 1", false),
                disk(2001, "Hard disk 2", true),
            ],
            steps: vec!["a snapshot is made".into()],
            losses: vec!["what no point has".into()],
            refusals: vec![Fault::new(Reason::VmNotOff, "the vm is not powered off")],
        }
    }

    #[test]
    fn a_plan_tells_disks_steps_losses_and_refusals() {
        insta::assert_snapshot!("in_place_plan", show(&planned()));
        insta::assert_json_snapshot!("in_place_plan_json", json(&planned()));
    }
}
