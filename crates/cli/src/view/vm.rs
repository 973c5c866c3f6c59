//! VMs.

use serde_json::{Value, json};
use stillwater_controller_api::{Alarm, Vm, VmDisk, VmSnapshot, VmSummary};

use crate::output::{Field, sheet, table};

pub(crate) fn list(vms: &[VmSummary]) -> String {
    let row = |vm: &VmSummary| {
        [
            Field::text(&vm.name),
            Field::text(&vm.path),
            Field::text(&vm.vcenter_name),
            Field::text(&vm.power),
            Field::count(vm.disk_count),
            Field::text(if vm.change_tracking { "on" } else { "off" }),
            Field::text(&vm.vm_id),
        ]
    };
    table(
        [
            "NAME", "PATH", "VCENTER", "POWER", "DISKS", "TRACKING", "ID",
        ],
        vms.iter().map(row),
    )
}

/// A VM with the alarms that stand on it.
pub(crate) fn show(vm: &Vm, alarms: &[Alarm]) -> String {
    let summary = &vm.summary;
    let head = sheet(&[
        ("id", summary.vm_id.to_string()),
        ("name", summary.name.clone()),
        ("path", summary.path.clone()),
        ("vcenter", summary.vcenter_name.clone()),
        ("power", summary.power.clone()),
        (
            "change tracking",
            if summary.change_tracking { "on" } else { "off" }.to_owned(),
        ),
        ("guest", vm.guest_id.clone()),
        ("tools", vm.tools.clone()),
    ]);
    let mut text = format!("{head}\n\n{}", disks(&vm.disks));
    if !vm.snapshots.is_empty() {
        text.push_str(&format!("\n\n{}", snapshots(&vm.snapshots)));
    }
    if !alarms.is_empty() {
        text.push_str(&format!("\n\n{}", super::alarm::list(alarms)));
    }
    text
}

fn disks(disks: &[VmDisk]) -> String {
    let row = |disk: &VmDisk| {
        [
            Field::text(disk.key),
            Field::text(&disk.label),
            Field::bytes(disk.capacity_bytes),
            Field::text(&disk.file),
            Field::text(disk.unprotectable.as_deref().unwrap_or("yes")),
        ]
    };
    table(
        ["KEY", "DISK", "SIZE", "FILE", "PROTECTABLE"],
        disks.iter().map(row),
    )
}

fn snapshots(snapshots: &[VmSnapshot]) -> String {
    let row = |snapshot: &VmSnapshot| {
        [
            Field::text(&snapshot.name),
            Field::text(&snapshot.created_at),
            Field::text(if snapshot.ours { "yes" } else { "no" }),
        ]
    };
    table(["SNAPSHOT", "CREATED", "OURS"], snapshots.iter().map(row))
}

pub(crate) fn summary_json(vm: &VmSummary) -> Value {
    json!({
        "vm_id": vm.vm_id.to_string(),
        "name": vm.name,
        "path": vm.path,
        "vcenter_name": vm.vcenter_name,
        "power": vm.power,
        "change_tracking": vm.change_tracking,
        "disk_count": vm.disk_count,
    })
}

pub(crate) fn json(vm: &Vm, alarms: &[Alarm]) -> Value {
    let disk = |disk: &VmDisk| {
        json!({
            "key": disk.key,
            "label": disk.label,
            "capacity_bytes": disk.capacity_bytes,
            "file": disk.file,
            "unprotectable": disk.unprotectable,
        })
    };
    let snapshot = |snapshot: &VmSnapshot| {
        json!({
            "name": snapshot.name,
            "created_at": snapshot.created_at,
            "ours": snapshot.ours,
        })
    };
    json!({
        "summary": summary_json(&vm.summary),
        "guest_id": vm.guest_id,
        "tools": vm.tools,
        "disks": vm.disks.iter().map(disk).collect::<Vec<_>>(),
        "snapshots": vm.snapshots.iter().map(snapshot).collect::<Vec<_>>(),
        "alarms": super::alarm::json(alarms),
    })
}
