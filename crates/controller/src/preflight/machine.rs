//! What holds for a VM as a whole.

use stillwater_types::Reason;
use stillwater_vsphere::{Connection, Power, Tools, ToolsVersion, Vm, VmFacts};

use super::{Check, Finding, Subject, Verdict};

/// The first hardware version that tracks changes.
const TRACKING_SINCE: u32 = 7;
/// What a backup calls on a VM and another product can disable.
const METHODS: [&str; 4] = [
    "CreateSnapshotEx_Task",
    "CreateSnapshot_Task",
    "RemoveSnapshot_Task",
    "ReconfigVM_Task",
];

pub(super) fn examine(vm: &Vm) -> Vec<Finding> {
    let facts = &vm.facts;
    vec![
        connection(facts.connection),
        blocked_when(
            Check::Template,
            vm.template,
            "the vm is a template, which takes no snapshot; convert it to a vm first",
            "the vm is no template",
        ),
        blocked_when(
            Check::FaultTolerance,
            facts.is_fault_tolerant,
            "the vm is fault tolerant, which allows no snapshots; turn fault tolerance off",
            "fault tolerance is off",
        ),
        blocked_when(
            Check::SnapshotSupport,
            facts.snapshots_supported == Some(false),
            "vsphere says that the vm allows no snapshots; look for devices of its host that are passed through, and remove them",
            "vsphere allows snapshots",
        ),
        disabled(facts),
        blocked_when(
            Check::Question,
            facts.has_question,
            "the vm waits for an answer to a question; answer it in vsphere",
            "no question waits",
        ),
        power(vm.power),
        hardware(&facts.hardware_version),
        tracking(vm),
        tools(vm),
        encryption(facts),
        tpm(facts),
        consolidation(vm),
    ]
}

fn ok(check: Check, message: impl Into<String>) -> Finding {
    Finding::new(check, Verdict::Ok, Subject::Vm, message)
}

fn warning(check: Check, message: impl Into<String>) -> Finding {
    Finding::new(check, Verdict::Warning, Subject::Vm, message)
}

fn blocked(check: Check, message: impl Into<String>) -> Finding {
    Finding::new(check, Verdict::Blocked, Subject::Vm, message)
}

fn blocked_when(check: Check, is_so: bool, problem: &str, fine: &str) -> Finding {
    match is_so {
        true => blocked(check, problem),
        false => ok(check, fine),
    }
}

fn connection(connection: Connection) -> Finding {
    let words = match connection {
        Connection::Connected => return ok(Check::Connection, "vcenter can reach the vm"),
        Connection::Disconnected => "its host is disconnected; reconnect it",
        Connection::Inaccessible => "its files cannot be reached; look at its datastore",
        Connection::Invalid => "its configuration cannot be read; repair or register it anew",
        Connection::Orphaned => "it is no longer registered on its host; register it anew",
    };
    blocked(
        Check::Connection,
        format!("vcenter cannot reach the vm: {words}"),
    )
}

fn disabled(facts: &VmFacts) -> Finding {
    let disabled: Vec<&str> = METHODS
        .into_iter()
        .filter(|method| facts.disables(method))
        .collect();
    match disabled.is_empty() {
        true => ok(
            Check::DisabledMethods,
            "nothing that a backup calls is disabled",
        ),
        false => blocked(
            Check::DisabledMethods,
            format!(
                "another product has disabled {} of the vm; end its work, or enable them in vsphere",
                disabled.join(", ")
            ),
        ),
    }
}

fn power(power: Power) -> Finding {
    match power {
        Power::On => ok(Check::Power, "the vm runs"),
        Power::Off => ok(Check::Power, "the vm is powered off"),
        Power::Suspended => warning(
            Check::Power,
            "the vm is suspended: what its guest holds in memory is not in a point; resume it, or shut it down",
        ),
    }
}

fn hardware(version: &str) -> Finding {
    let number = version
        .rsplit('-')
        .next()
        .and_then(|n| n.parse::<u32>().ok());
    match number {
        Some(number) if number < TRACKING_SINCE => warning(
            Check::HardwareVersion,
            format!(
                "hardware version {version} is too old to track changes: every run reads everything; upgrade it"
            ),
        ),
        Some(_) => ok(Check::HardwareVersion, version),
        None => ok(Check::HardwareVersion, "vsphere does not say"),
    }
}

fn tracking(vm: &Vm) -> Finding {
    let check = Check::ChangeTracking;
    match (vm.cbt_supported, vm.cbt_enabled, vm.snapshots.is_empty()) {
        (false, ..) => warning(
            check,
            "changes of the vm cannot be tracked: every run reads everything",
        ),
        (true, true, _) => ok(check, "on"),
        (true, false, true) => ok(check, "off; the next backup turns it on"),
        (true, false, false) => warning(
            check,
            "off, and it cannot be turned on while the vm has snapshots: every run reads everything; remove them",
        ),
    }
}

fn tools(vm: &Vm) -> Finding {
    let check = Check::Tools;
    if vm.power != Power::On {
        return ok(check, "the guest does not run: there is nothing to quiesce");
    }
    let problem = match (vm.facts.tools_version, vm.tools) {
        (ToolsVersion::NotInstalled, _) => "are not installed; install them",
        (ToolsVersion::TooOld, _) => "are too old for the host; upgrade them",
        (ToolsVersion::TooNew, _) => "are too new for the host; upgrade the host",
        (ToolsVersion::Blacklisted, _) => {
            "are of a version that is known to be broken; upgrade them"
        }
        (_, Tools::NotRunning | Tools::Unknown) => "do not run; start them in the guest",
        (_, Tools::ExecutingScripts) => "are busy with scripts; wait until the guest has started",
        (_, Tools::Running) => return ok(check, "vmware tools run and can quiesce the guest"),
    };
    warning(
        check,
        format!("points are crash consistent only: vmware tools {problem}"),
    )
}

fn encryption(facts: &VmFacts) -> Finding {
    match facts.is_encrypted {
        false => ok(Check::Encryption, "the vm is not encrypted"),
        true => warning(
            Check::Encryption,
            "the vm's configuration is encrypted: it is restored in clear, and its nvram is of no use elsewhere",
        )
        .because(Reason::NotSupported),
    }
}

fn tpm(facts: &VmFacts) -> Finding {
    match facts.has_vtpm {
        false => ok(Check::VirtualTpm, "the vm has no virtual tpm"),
        true => warning(
            Check::VirtualTpm,
            "the content of its virtual tpm is not kept: what the guest sealed to it, such as bitlocker, asks for a recovery key after a restore; keep that key",
        )
        .because(Reason::NotSupported),
    }
}

fn consolidation(vm: &Vm) -> Finding {
    match vm.consolidation_needed {
        false => ok(Check::Consolidation, "no deltas are left over"),
        true => warning(
            Check::Consolidation,
            "the vm needs consolidation: deltas remain that no snapshot explains; consolidate its disks in vsphere",
        )
        .because(Reason::VcenterTaskFailed),
    }
}
