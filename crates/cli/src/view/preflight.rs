//! Whether VMs can be protected.

use serde_json::{Value, json};
use stillwater_controller_api::{PreflightFinding, PreflightVerdict, PreflightVmResponse};

use crate::output::{Field, table};

/// Every VM with what was found; of `many` only what is not in order.
pub(crate) fn show(found: &[PreflightVmResponse], many: bool) -> String {
    let told = found
        .iter()
        .flat_map(|vm| vm.findings.iter().map(move |finding| (vm, finding)))
        .filter(|(_, finding)| !many || finding.verdict != PreflightVerdict::Ok);
    let rows: Vec<_> = told.map(|(vm, finding)| row(vm, finding)).collect();
    let header = ["VM", "VERDICT", "CHECK", "SUBJECT", "FOUND"];
    let count = |verdict| {
        let is_worst = |vm: &&PreflightVmResponse| worst(vm) == verdict;
        found.iter().filter(is_worst).count()
    };
    let summary = format!(
        "{} vms: {} in order, {} with warnings, {} blocked",
        found.len(),
        count(PreflightVerdict::Ok),
        count(PreflightVerdict::Warning),
        count(PreflightVerdict::Blocked),
    );
    match rows.is_empty() {
        true => summary,
        false => format!("{}\n\n{summary}", table(header, rows)),
    }
}

fn row(vm: &PreflightVmResponse, finding: &PreflightFinding) -> [Field; 5] {
    [
        Field::text(&vm.summary.path),
        Field::text(word(finding.verdict)),
        Field::text(&finding.check),
        Field::text(&finding.subject),
        Field::text(&finding.message),
    ]
}

fn worst(vm: &PreflightVmResponse) -> PreflightVerdict {
    let verdicts = vm.findings.iter().map(|finding| finding.verdict);
    verdicts.max().unwrap_or(PreflightVerdict::Ok)
}

pub(crate) fn json(found: &[PreflightVmResponse]) -> Value {
    let finding = |finding: &PreflightFinding| {
        json!({
            "check": finding.check,
            "verdict": word(finding.verdict),
            "subject": finding.subject,
            "disk_key": finding.disk_key,
            "privilege": finding.privilege,
            "message": finding.message,
        })
    };
    let vm = |vm: &PreflightVmResponse| {
        json!({
            "vm": super::vm::summary_json(&vm.summary),
            "verdict": word(worst(vm)),
            "findings": vm.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    };
    found.iter().map(vm).collect()
}

const fn word(verdict: PreflightVerdict) -> &'static str {
    match verdict {
        PreflightVerdict::Ok => "ok",
        PreflightVerdict::Warning => "warning",
        PreflightVerdict::Blocked => "blocked",
    }
}
