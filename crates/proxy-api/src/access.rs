//! Who may make which call, as the comments of the protocol say.

use stillwater_rpc::Access;
use stillwater_types::Role;

const CONTROLLER: &[Role] = &[Role::Controller];

/// The roles allowed per call; what is not listed is refused.
pub const ACCESS: &[Access] = &[
    Access::roles(
        "/stillwater.proxy.v1.TransferService/StartTransfer",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.proxy.v1.TransferService/GetTransfer",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.proxy.v1.TransferService/WatchTransfer",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.proxy.v1.TransferService/CancelTransfer",
        CONTROLLER,
    ),
    Access::roles("/stillwater.proxy.v1.ProbeService/ProbeDisk", CONTROLLER),
    Access::roles("/stillwater.proxy.v1.ExportService/OpenExport", CONTROLLER),
    Access::roles(
        "/stillwater.proxy.v1.ExportService/ReadExport",
        &[Role::Admin],
    ),
    Access::roles(
        "/stillwater.proxy.v1.ExportService/ReadExportRange",
        &[Role::Admin],
    ),
    Access::roles(
        "/stillwater.proxy.v1.ExportService/FinishExport",
        &[Role::Admin],
    ),
    Access::roles("/stillwater.proxy.v1.ExportService/CloseExport", CONTROLLER),
];
