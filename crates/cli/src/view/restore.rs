//! What a restore would do.

use serde_json::{Value, json};
use stillwater_controller_api::{
    DiskProvisioning, PlanRestoreVmResponse, RestorePlan, RestorePlanCard, RestorePlanDisk,
};

use crate::output::{Field, sheet, size, table};

pub(crate) fn show(planned: &PlanRestoreVmResponse) -> String {
    let PlanRestoreVmResponse { plan, refusals } = planned;
    let mut parts: Vec<String> = plan.iter().flat_map(parts).collect();
    let refusals = refusals
        .iter()
        .map(|fault| format!("{}: {}", fault.reason, fault.message));
    parts.extend(block("It would be refused:", refusals));
    parts.join("\n\n")
}

fn parts(plan: &RestorePlan) -> Vec<String> {
    let RestorePlan {
        name,
        vcenter,
        folder,
        host,
        datastore,
        disks,
        cards,
        write_bytes,
        bytes_per_second,
        seconds,
        steps,
        losses,
    } = plan;
    let time = match *bytes_per_second {
        0 => "not known: no restore was measured yet".to_owned(),
        rate => format!(
            "about {seconds} s, at the {}/s of earlier restores",
            size(rate)
        ),
    };
    let mut parts = vec![sheet(&[
        ("name", name.clone()),
        ("vcenter", vcenter.clone()),
        ("folder", folder.clone()),
        ("host", host.clone()),
        ("datastore", datastore.clone()),
        ("to write", size(*write_bytes)),
        ("time", time),
    ])];
    if !disks.is_empty() {
        let header = ["KEY", "DISK", "SIZE", "TO WRITE", "DATASTORE", "FORMAT"];
        parts.push(table(header, disks.iter().map(disk)));
    }
    if !cards.is_empty() {
        let header = ["CARD", "FROM", "TO", "CONNECTED", "MAC ADDRESS"];
        parts.push(table(header, cards.iter().map(card)));
    }
    parts.extend(block("What is done:", steps.iter().cloned()));
    match losses.is_empty() {
        true => parts.push("Nothing would be lost.".to_owned()),
        false => parts.extend(block("What the new vm would lack:", losses.iter().cloned())),
    }
    parts
}

fn disk(disk: &RestorePlanDisk) -> [Field; 6] {
    [
        Field::text(disk.key),
        Field::text(&disk.label),
        Field::bytes(disk.capacity_bytes),
        Field::bytes(disk.write_bytes),
        Field::text(&disk.datastore),
        Field::text(provisioning(disk.provisioning)),
    ]
}

fn card(card: &RestorePlanCard) -> [Field; 5] {
    let maybe = |text: &String| Field::maybe((!text.is_empty()).then_some(text));
    [
        Field::text(&card.label),
        maybe(&card.from),
        Field::text(&card.to),
        Field::text(if card.connected { "yes" } else { "no" }),
        match card.mac_address.is_empty() {
            true => Field::text("new"),
            false => Field::text(&card.mac_address),
        },
    ]
}

/// A heading and lines below it; nothing without lines.
pub(super) fn block(heading: &str, lines: impl Iterator<Item = String>) -> Option<String> {
    let lines: Vec<String> = lines
        .map(|line| format!("  {}", crate::output::plain(&line)))
        .collect();
    (!lines.is_empty()).then(|| format!("{heading}\n{}", lines.join("\n")))
}

const fn provisioning(provisioning: DiskProvisioning) -> &'static str {
    match provisioning {
        DiskProvisioning::Thin => "thin",
        DiskProvisioning::Thick => "thick",
        DiskProvisioning::Eager => "eager",
    }
}

pub(crate) fn json(planned: &PlanRestoreVmResponse) -> Value {
    let PlanRestoreVmResponse { plan, refusals } = planned;
    json!({
        "plan": plan.as_ref().map(plan_json),
        "refusals": refusals.iter().map(super::run::fault).collect::<Vec<_>>(),
    })
}

fn plan_json(plan: &RestorePlan) -> Value {
    let disk = |disk: &RestorePlanDisk| {
        json!({
            "key": disk.key,
            "label": disk.label,
            "capacity_bytes": disk.capacity_bytes,
            "write_bytes": disk.write_bytes,
            "datastore": disk.datastore,
            "provisioning": provisioning(disk.provisioning),
        })
    };
    let card = |card: &RestorePlanCard| {
        json!({
            "label": card.label,
            "from": card.from,
            "to": card.to,
            "connected": card.connected,
            "mac_address": card.mac_address,
        })
    };
    let known = |figure: u64| (plan.bytes_per_second > 0).then_some(figure);
    json!({
        "name": plan.name,
        "vcenter": plan.vcenter,
        "folder": plan.folder,
        "host": plan.host,
        "datastore": plan.datastore,
        "disks": plan.disks.iter().map(disk).collect::<Vec<_>>(),
        "cards": plan.cards.iter().map(card).collect::<Vec<_>>(),
        "write_bytes": plan.write_bytes,
        "bytes_per_second": known(plan.bytes_per_second),
        "seconds": known(plan.seconds),
        "steps": plan.steps,
        "losses": plan.losses,
    })
}

#[cfg(test)]
mod tests {
    use stillwater_types::{Fault, Reason};

    use super::*;

    fn planned() -> PlanRestoreVmResponse {
        PlanRestoreVmResponse {
            plan: Some(RestorePlan {
                name: "web-2".into(),
                vcenter: "vc-2".into(),
                folder: "/DC0/vm/restored".into(),
                host: "esx-9".into(),
                datastore: "big".into(),
                disks: vec![RestorePlanDisk {
                    key: 2000,
                    label: "Hard disk 1".into(),
                    capacity_bytes: 40 << 30,
                    write_bytes: 6 << 30,
                    datastore: "fast".into(),
                    provisioning: DiskProvisioning::Thin,
                }],
                cards: vec![RestorePlanCard {
                    label: "Network adapter 1".into(),
                    from: "lan".into(),
                    to: "quarantine".into(),
                    connected: false,
                    mac_address: String::new(),
                }],
                write_bytes: 6 << 30,
                bytes_per_second: 200 << 20,
                seconds: 31,
                steps: vec!["make vm web-2".into(), "write the disks".into()],
                losses: vec!["tag tier:gold is not there".into()],
            }),
            refusals: vec![Fault::new(Reason::VmExists, "choose another name")],
        }
    }

    #[test]
    fn a_plan_says_what_is_done_how_long_it_takes_and_what_is_lost() {
        let expected = [
            "name       web-2",
            "vcenter    vc-2",
            "folder     /DC0/vm/restored",
            "host       esx-9",
            "datastore  big",
            "to write   6.0 GiB",
            "time       about 31 s, at the 200.0 MiB/s of earlier restores",
            "",
            "KEY   DISK         SIZE      TO WRITE  DATASTORE  FORMAT",
            "2000  Hard disk 1  40.0 GiB   6.0 GiB  fast       thin",
            "",
            "CARD               FROM  TO          CONNECTED  MAC ADDRESS",
            "Network adapter 1  lan   quarantine  no         new",
            "",
            "What is done:",
            "  make vm web-2",
            "  write the disks",
            "",
            "What the new vm would lack:",
            "  tag tier:gold is not there",
            "",
            "It would be refused:",
            "  VM_EXISTS: choose another name",
        ];
        assert_eq!(show(&planned()), expected.join("\n"));
    }

    #[test]
    fn a_time_that_nobody_measured_is_not_made_up() {
        let mut unmeasured = planned();
        let plan = unmeasured.plan.as_mut().expect("a plan");
        (plan.bytes_per_second, plan.seconds) = (0, 0);
        assert!(show(&unmeasured).contains("not known"));
        assert_eq!(json(&unmeasured)["plan"]["seconds"], Value::Null);
        assert_eq!(json(&planned())["plan"]["seconds"], 31);
    }
}
