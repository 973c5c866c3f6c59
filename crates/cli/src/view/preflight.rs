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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, verdicts: &[PreflightVerdict]) -> PreflightVmResponse {
        let finding = |verdict: &PreflightVerdict| PreflightFinding {
            check: "DISK".into(),
            verdict: *verdict,
            subject: "disk 2000 (\"Hard disk 1\")".into(),
            disk_key: Some(2000),
            privilege: None,
            message: format!("found {}", word(*verdict)),
        };
        PreflightVmResponse {
            summary: stillwater_controller_api::VmSummary {
                vm_id: "01020304-0506-7708-890a-0b0c0d0e0f10/vm-1"
                    .parse()
                    .expect("an id"),
                name: name.into(),
                path: format!("/DC0/vm/{name}"),
                vcenter_name: "main".into(),
                power: "poweredOn".into(),
                change_tracking: true,
                disk_count: 1,
            },
            findings: verdicts.iter().map(finding).collect(),
        }
    }

    #[test]
    fn of_many_vms_only_what_is_not_in_order_is_told() {
        use PreflightVerdict::{Blocked, Ok, Warning};
        let all = [
            found("sound", &[Ok, Ok]),
            found("odd", &[Ok, Warning]),
            found("stuck", &[Blocked, Warning]),
        ];
        let (few, each) = (show(&all, true), show(&all, false));
        assert!(!few.contains("found ok") && each.contains("found ok"));
        for text in [&few, &each] {
            assert!(text.contains("/DC0/vm/stuck") && text.contains("found blocked"));
            assert!(text.ends_with("3 vms: 1 in order, 1 with warnings, 1 blocked"));
        }
        let told = json(&all);
        let verdicts: Vec<_> = [0, 1, 2].map(|at| told[at]["verdict"].clone()).into();
        assert_eq!(verdicts, ["ok", "warning", "blocked"]);
        assert_eq!(told[2]["findings"][0]["disk_key"], 2000);
        assert_eq!(
            show(&all[..1], true),
            "1 vms: 1 in order, 0 with warnings, 0 blocked"
        );
    }
}
