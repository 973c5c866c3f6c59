//! An answer's envelope: what was returned, or the fault.

use crate::error::{FaultKind, VimFault};
use crate::reference::TaskRef;
use crate::xml::{Element, Problem};

/// What a call was answered with.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The elements named `returnval`.
    Returned(Vec<Element>),
    /// A fault.
    Fault(VimFault),
}

/// Reads an envelope.
pub(crate) fn answer(xml: &str) -> Result<Answer, Problem> {
    let root = Element::parse(xml)?;
    let body = root.need("Body")?;
    if let Some(fault) = body.find("Fault") {
        return Ok(Answer::Fault(soap_fault(fault)));
    }
    let response = body
        .children
        .first()
        .ok_or_else(|| Problem::new("the soap body is empty"))?;
    Ok(Answer::Returned(
        response.all("returnval").cloned().collect(),
    ))
}

fn soap_fault(fault: &Element) -> VimFault {
    let message = fault.optional("faultstring").unwrap_or_default();
    match fault
        .find("detail")
        .and_then(|detail| detail.children.first())
    {
        Some(detail) => named_fault(detail, message),
        None => VimFault {
            kind: FaultKind::Other("Fault".into()),
            message,
        },
    }
}

/// Reads a `LocalizedMethodFault`, as tasks and missing properties carry it.
pub(crate) fn localized_fault(element: &Element) -> VimFault {
    let message = element.optional("localizedMessage").unwrap_or_default();
    match element.find("fault") {
        Some(fault) => named_fault(fault, message),
        None => VimFault {
            kind: FaultKind::Other("MethodFault".into()),
            message,
        },
    }
}

fn named_fault(detail: &Element, message: String) -> VimFault {
    // The element's own name is the type's with an ending; some servers leave out the type.
    let own = detail.name.strip_suffix("Fault").unwrap_or(&detail.name);
    let name = detail.ty().unwrap_or(own).to_owned();
    let message = if message.is_empty() {
        name.clone()
    } else {
        message
    };
    VimFault {
        kind: kind(&name, detail),
        message,
    }
}

fn kind(name: &str, detail: &Element) -> FaultKind {
    match name {
        "NotAuthenticated" => FaultKind::NotAuthenticated,
        "InvalidLogin" => FaultKind::InvalidLogin,
        "NoPermission" => FaultKind::NoPermission {
            privilege: detail.optional("privilegeId"),
        },
        "ManagedObjectNotFound" => FaultKind::ManagedObjectNotFound,
        "DuplicateName" => FaultKind::DuplicateName,
        "AlreadyExists" | "FileAlreadyExists" => FaultKind::AlreadyExists,
        "FileFault" | "CannotAccessFile" | "CannotCreateFile" => FaultKind::FileFault,
        "FileLocked" => FaultKind::FileLocked,
        "FileNotFound" => FaultKind::FileNotFound,
        "NoDiskSpace" | "InsufficientStorageSpace" => FaultKind::NoDiskSpace,
        "InvalidArgument" => FaultKind::InvalidArgument,
        "InvalidState" => FaultKind::InvalidState,
        "InvalidPowerState" => FaultKind::InvalidPowerState,
        "TaskInProgress" => FaultKind::TaskInProgress {
            task: detail.optional("task").map(TaskRef::new),
        },
        "ApplicationQuiesceFault" => FaultKind::ApplicationQuiesce,
        "FilesystemQuiesceFault" => FaultKind::FilesystemQuiesce,
        "MemorySnapshotOnIndependentDisk"
        | "MultipleSnapshotsNotSupported"
        | "TooManySnapshotLevels" => FaultKind::Snapshot(name.to_owned()),
        _ if name.starts_with("Snapshot") => FaultKind::Snapshot(name.to_owned()),
        "NotSupported" | "MethodNotFound" => FaultKind::NotSupported,
        "RestrictedVersion" => FaultKind::RestrictedVersion,
        "MethodDisabled" => FaultKind::MethodDisabled,
        "NotFound" => FaultKind::NotFound,
        "Timedout" => FaultKind::Timedout,
        "RequestCanceled" => FaultKind::Cancelled,
        "InvalidGuestLogin" => FaultKind::GuestLogin,
        "GuestPermissionDenied" => FaultKind::GuestPermission,
        "GuestProcessNotFound" => FaultKind::GuestProcessNotFound,
        "GuestOperationsUnavailable"
        | "ToolsUnavailable"
        | "OperationDisabledByGuest"
        | "OperationNotSupportedByGuest"
        | "GuestComponentsOutOfDate" => FaultKind::GuestUnavailable(name.to_owned()),
        other => FaultKind::Other(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(inside: &str) -> String {
        format!(
            r#"<?xml version="1.0"?><s:Envelope xmlns:s="e" xmlns:xsi="i"><s:Body>{inside}</s:Body></s:Envelope>"#
        )
    }

    #[track_caller]
    fn check(detail: &str, expected: FaultKind, message: &str) {
        let xml = envelope(&format!(
            "<s:Fault><faultcode>c</faultcode><faultstring>{message}</faultstring><detail>{detail}</detail></s:Fault>"
        ));
        match answer(&xml).expect("reads") {
            Answer::Fault(fault) => assert_eq!(fault.kind, expected),
            Answer::Returned(values) => panic!("{values:?}"),
        }
    }

    #[test]
    fn faults_are_told_apart_by_type_or_by_element() {
        check(
            r#"<X xsi:type="NotAuthenticated"/>"#,
            FaultKind::NotAuthenticated,
            "no",
        );
        check("<InvalidLoginFault/>", FaultKind::InvalidLogin, "no");
        check(
            "<FileFaultFault><file>f</file></FileFaultFault>",
            FaultKind::FileFault,
            "",
        );
        check(
            r#"<NoPermissionFault xsi:type="NoPermission"><object type="Folder">g</object><privilegeId>VirtualMachine.State.CreateSnapshot</privilegeId></NoPermissionFault>"#,
            FaultKind::NoPermission {
                privilege: Some("VirtualMachine.State.CreateSnapshot".into()),
            },
            "no",
        );
        check(
            r#"<TaskInProgressFault xsi:type="vim25:TaskInProgress"><task type="Task">task-9</task></TaskInProgressFault>"#,
            FaultKind::TaskInProgress {
                task: Some(TaskRef::new("task-9")),
            },
            "busy",
        );
        check(
            r#"<F xsi:type="SnapshotIncompatibleDeviceInVm"/>"#,
            FaultKind::Snapshot("SnapshotIncompatibleDeviceInVm".into()),
            "",
        );
        check("<InvalidGuestLoginFault/>", FaultKind::GuestLogin, "no");
        check(
            r#"<F xsi:type="GuestOperationsUnavailable"/>"#,
            FaultKind::GuestUnavailable("GuestOperationsUnavailable".into()),
            "",
        );
        check(
            r#"<F xsi:type="Weird"/>"#,
            FaultKind::Other("Weird".into()),
            "",
        );
    }

    #[test]
    fn a_task_error_without_words_is_named_by_its_type() {
        let xml = r#"<val xmlns:x="i"><fault x:type="FilesystemQuiesceFault"/><localizedMessage></localizedMessage></val>"#;
        let fault = localized_fault(&Element::parse(xml).expect("reads"));
        assert_eq!(fault.kind, FaultKind::FilesystemQuiesce);
        assert_eq!(fault.message, "FilesystemQuiesceFault");
    }

    #[test]
    fn every_returned_value_is_there() {
        let xml =
            envelope("<XResponse><returnval>1</returnval><returnval>2</returnval></XResponse>");
        match answer(&xml).expect("reads") {
            Answer::Returned(values) => assert_eq!(values.len(), 2),
            Answer::Fault(fault) => panic!("{fault:?}"),
        }
        match answer(&envelope("<XResponse/>")).expect("reads") {
            Answer::Returned(values) => assert!(values.is_empty()),
            Answer::Fault(fault) => panic!("{fault:?}"),
        }
    }

    #[test]
    fn what_is_no_envelope_is_a_problem() {
        assert!(answer("<html>busy</html>").is_err());
        assert!(answer(&envelope("")).is_err());
    }
}
