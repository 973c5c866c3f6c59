//! `stillwater restore`.

use std::time::Duration;

use futures::stream::StreamExt;
use stillwater_controller_api::{
    self as api, Client, DiskDatastore, DiskProvisioning, ExportAccess, NetworkChange,
    PlanRestoreInPlaceRequest, PlanRestoreVmRequest, PointDisk, Run, RunDisk, RunKind, RunState,
    StartExportDisk, StartKind, StartRestoreInPlace, StartRestoreVm, StartRunRequest,
};
use stillwater_proxy_api::{ReadExportRequest, Ticket};
use stillwater_types::{Fault, PointId, Reason, RequestId, RunId};

use super::Desk;
use super::run::{conclude, print_one};
use crate::arguments::{Restore, RestoreDisk, RestoreFormat, RestoreIdentity, RestoreVm};
use crate::exit::Outcome;
use crate::export::{self, Pipe, Place, Target};
use crate::progress::Progress;
use crate::{follow, output, resolve, view};

/// How long a proxy may take to be ready, and the run to end once the disk was read.
const READY_DEADLINE: Duration = Duration::from_secs(120);

pub(super) async fn run(desk: &Desk, restore: Restore) -> Result<Outcome, Fault> {
    match restore {
        Restore::Vm(vm) => restore_vm(desk, vm).await,
        Restore::Disk(disk) => restore_disk(desk, disk).await,
    }
}

async fn restore_vm(desk: &Desk, restore: RestoreVm) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    let point_id = resolve::point(controller, &restore.point).await?;
    let (only_plans, follow) = (restore.plan, restore.follow);
    let kind = match restore.in_place {
        true => StartKind::RestoreInPlace(StartRestoreInPlace {
            point_id,
            discard_changes: restore.discard_changes,
        }),
        false => StartKind::RestoreVm(start_of(point_id, restore)),
    };
    match kind {
        StartKind::RestoreVm(start) if only_plans => return plan(desk, start).await,
        StartKind::RestoreInPlace(start) if only_plans => return plan_in_place(desk, start).await,
        _ => {}
    }
    let request = StartRunRequest {
        request_id: RequestId::mint(),
        kind,
    };
    let started = controller.start_run(request).await?;
    let json = |runs: &[Run]| runs.first().map(view::run::json).unwrap_or_default();
    conclude(desk, vec![started], follow, json).await
}

fn start_of(point_id: PointId, restore: RestoreVm) -> StartRestoreVm {
    let disk_datastores = restore.disk_datastore.into_iter();
    let networks = restore.network.into_iter();
    StartRestoreVm {
        point_id,
        name: restore.name.unwrap_or_default(),
        vcenter: restore.vcenter,
        datastore: restore.datastore.unwrap_or_default(),
        folder: restore.folder,
        resource_pool: restore.pool,
        host: restore.host,
        power_on: restore.power_on,
        datacenter: restore.datacenter,
        cluster: restore.cluster,
        disk_datastores: disk_datastores
            .map(|(disk, datastore)| DiskDatastore { disk, datastore })
            .collect(),
        networks: networks
            .map(|(from, to)| NetworkChange { from, to })
            .collect(),
        identity: Some(match restore.identity {
            RestoreIdentity::New => api::RestoreIdentity::New,
            RestoreIdentity::Original => api::RestoreIdentity::Original,
        }),
        provisioning: match restore.disk_format {
            RestoreFormat::Thin => Some(DiskProvisioning::Thin),
            RestoreFormat::Thick => Some(DiskProvisioning::Thick),
            RestoreFormat::Eager => Some(DiskProvisioning::Eager),
            RestoreFormat::AsSource => None,
        },
        template: restore.template,
    }
}

async fn plan(desk: &Desk, restore: StartRestoreVm) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    let planned = controller
        .plan_restore_vm(PlanRestoreVmRequest { restore })
        .await?;
    let text = || view::restore::show(&planned);
    output::print(desk.format, text, || view::restore::json(&planned))?;
    match planned.refusals.is_empty() {
        true => Ok(Outcome::Done),
        false => Ok(Outcome::Warned),
    }
}

async fn plan_in_place(desk: &Desk, restore: StartRestoreInPlace) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    let planned = controller
        .plan_restore_in_place(PlanRestoreInPlaceRequest { restore })
        .await?;
    let text = || view::in_place::show(&planned);
    output::print(desk.format, text, || view::in_place::json(&planned))?;
    match planned.refusals.is_empty() {
        true => Ok(Outcome::Done),
        false => Ok(Outcome::Warned),
    }
}

async fn restore_disk(desk: &Desk, restore: RestoreDisk) -> Result<Outcome, Fault> {
    let RestoreDisk {
        point,
        disk,
        to,
        format,
        force,
    } = restore;
    let controller = &desk.session.controller;
    let point_id = resolve::point(controller, &point).await?;
    let shown = controller.get_point(point_id).await?;
    let disk = pick(&shown.point.disks, &disk)?;
    let is_piped = to.as_os_str() == "-";
    let target = match is_piped {
        true => Place::Pipe(Pipe::stdout(format)?),
        false => Place::File(Target::prepare(&to, format, force)?),
    };
    let run_id = start(controller, point_id, disk.key).await?;
    let exported = tokio::select! {
        exported = export(desk, run_id, disk, target) => exported,
        fault = follow::interrupted() => Err(fault),
    };
    if let Err(fault) = exported {
        return Err(give_up(controller, run_id, fault).await);
    }
    let holds = match is_piped {
        true => "standard output got".to_owned(),
        false => format!("{} holds", to.display()),
    };
    output::say(&format!("{holds} {} of the point", disk.label));
    let ended = end(controller, run_id).await?;
    // What is told of the run would be taken for the disk's.
    if !is_piped {
        print_one(desk, &ended)?;
    }
    follow::outcome(&ended)
}

/// The disk with this key or label.
pub(super) fn pick<'a>(disks: &'a [PointDisk], wanted: &str) -> Result<&'a PointDisk, Fault> {
    let by_key = disks.iter().find(|disk| disk.key.to_string() == wanted);
    let by_label = disks.iter().find(|disk| disk.label == wanted);
    by_key.or(by_label).ok_or_else(|| {
        let known: Vec<String> = disks
            .iter()
            .map(|disk| format!("{} ({})", disk.key, disk.label))
            .collect();
        let message = format!(
            "the point has no disk {wanted:?}, it has {}",
            known.join(", ")
        );
        Fault::new(Reason::DiskNotFound, message)
    })
}

pub(super) async fn start(
    controller: &Client,
    point_id: PointId,
    disk_key: i32,
) -> Result<RunId, Fault> {
    let kind = StartKind::ExportDisk(StartExportDisk { point_id, disk_key });
    let request = StartRunRequest {
        request_id: RequestId::mint(),
        kind,
    };
    Ok(controller.start_run(request).await?.run_id)
}

/// Waits for the proxy and receives the disk from it.
async fn export(desk: &Desk, run_id: RunId, disk: &PointDisk, target: Place) -> Result<(), Fault> {
    let (run, access) = access(&desk.session.controller, run_id).await?;
    let ExportAccess {
        export_id,
        proxy_node_id,
        address,
        ticket,
    } = access;
    let proxy = desk.session.proxy(address, proxy_node_id)?;
    let ticket = Ticket::new(*ticket.expose());
    let parts = proxy
        .read_export(ReadExportRequest { export_id, ticket })
        .await?;
    let progress = std::sync::Mutex::new((Progress::new(), run));
    let seen = |at, length| show(&progress, disk, at, length);
    let received = export::receive(parts, target, seen).await;
    if let Ok((progress, _)) = progress.into_inner() {
        progress.end();
    }
    received
}

/// Shows what has arrived here, which the controller does not know.
fn show(progress: &std::sync::Mutex<(Progress, Run)>, disk: &PointDisk, at: u64, length: u64) {
    let Ok(mut shown) = progress.lock() else {
        return;
    };
    let (progress, run) = &mut *shown;
    run.state = RunState::Running;
    run.disks = vec![RunDisk {
        key: disk.key,
        label: disk.label.clone(),
        length_bytes: length,
        done_bytes: at,
        read_bytes: at,
        ..RunDisk::default()
    }];
    progress.show(run);
}

/// Waits until the controller says where to read.
pub(super) async fn access(
    controller: &Client,
    run_id: RunId,
) -> Result<(Run, ExportAccess), Fault> {
    let waiting = async {
        let mut updates = controller.watch_run(run_id).await?;
        while let Some(run) = updates.next().await {
            let run = run?;
            if let RunKind::ExportDisk(export) = &run.kind
                && let Some(access) = export.access.clone()
            {
                return Ok((run, access));
            }
            if run.state.is_final() {
                follow::outcome(&run)?;
                return Err(Fault::new(
                    Reason::Bug,
                    "the export ended before it was read",
                ));
            }
        }
        Err(Fault::new(
            Reason::ControllerUnreachable,
            "the controller stopped telling",
        ))
    };
    let late = |_| {
        Fault::new(
            Reason::Deadline,
            "no proxy was ready to export the disk in time",
        )
    };
    tokio::time::timeout(READY_DEADLINE, waiting)
        .await
        .map_err(late)?
}

/// Waits until the controller knows that the disk was read.
pub(super) async fn end(controller: &Client, run_id: RunId) -> Result<Run, Fault> {
    let waiting = async {
        let mut updates = controller.watch_run(run_id).await?;
        while let Some(run) = updates.next().await {
            let run = run?;
            if run.state.is_final() {
                return Ok(run);
            }
        }
        Err(Fault::new(
            Reason::ControllerUnreachable,
            "the controller stopped telling",
        ))
    };
    let late = |_| {
        Fault::new(
            Reason::Deadline,
            format!("the file is whole, run {run_id} goes on"),
        )
    };
    tokio::time::timeout(READY_DEADLINE, waiting)
        .await
        .map_err(late)?
}

/// Ends a run that nobody will read from any more. Why the run itself failed, if it did, is a
/// better answer than what was noticed here.
pub(super) async fn give_up(controller: &Client, run_id: RunId, noticed: Fault) -> Fault {
    match controller.cancel_run(run_id).await {
        Ok(Run {
            state: RunState::Failed,
            fault: Some(fault),
            ..
        }) => fault,
        Ok(_) => noticed,
        Err(err) => {
            output::say(&format!("warning: cancel run {run_id}: {err}"));
            noticed
        }
    }
}
