//! `stillwater point serve`.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use serde_json::json;
use stillwater_controller_api::PointDisk;
use stillwater_nbd::Export;
use stillwater_types::{Fault, Reason, RunId};

use super::{Desk, restore};
use crate::arguments::ServePoint;
use crate::exit::Outcome;
use crate::serve::{Door, Overlay, ServedDisk};
use crate::{follow, output, resolve};

/// How often a proxy hears that somebody is there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

pub(super) async fn run(desk: &Desk, asked: ServePoint) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    let point_id = resolve::point(controller, &asked.point).await?;
    let shown = controller.get_point(point_id).await?;
    let disks = wanted(&shown.point.disks, &asked.disks)?;
    let door = match (&asked.socket, asked.listen) {
        (Some(path), _) => Door::unix(path)?,
        (None, address) => Door::tcp(address).await?,
    };
    let mut runs = Vec::new();
    for disk in &disks {
        runs.push(restore::start(controller, point_id, disk.key).await?);
    }
    let opened = tokio::select! {
        opened = open_all(desk, &disks, &runs) => opened,
        fault = follow::interrupted() => Err(fault),
    };
    let served = match opened {
        Ok(served) => serve(desk, &asked, &door, (&disks, &runs), &served).await,
        Err(fault) => Err(fault),
    };
    end(desk, &runs, served).await
}

/// All disks of the point, or those that were named.
fn wanted<'a>(disks: &'a [PointDisk], names: &[String]) -> Result<Vec<&'a PointDisk>, Fault> {
    if names.is_empty() {
        return Ok(disks.iter().collect());
    }
    names
        .iter()
        .map(|name| restore::pick(disks, name))
        .collect()
}

pub(super) async fn open_all(
    desk: &Desk,
    disks: &[&PointDisk],
    runs: &[RunId],
) -> Result<Vec<Arc<ServedDisk>>, Fault> {
    let opened = disks
        .iter()
        .zip(runs)
        .map(|(disk, run)| open(desk, disk, *run));
    try_join_all(opened).await
}

/// Serves the disks until somebody ends it, or something breaks.
async fn serve(
    desk: &Desk,
    asked: &ServePoint,
    door: &Door,
    (disks, runs): (&[&PointDisk], &[RunId]),
    served: &[Arc<ServedDisk>],
) -> Result<(), Fault> {
    let exports: Vec<Arc<dyn Export>> = served
        .iter()
        .map(|disk| layered(Arc::clone(disk), asked.overlay))
        .collect::<Result<_, _>>()?;
    tell(desk, door, disks)?;
    tokio::select! {
        ended = door.serve(&exports) => ended,
        ended = stay(served) => ended,
        fault = follow::broken_off(&desk.session.controller, runs) => Err(fault),
        _ = follow::interrupted() => finish(served).await,
    }
}

/// Tells the proxies that nothing more will be read.
pub(super) async fn finish(served: &[Arc<ServedDisk>]) -> Result<(), Fault> {
    try_join_all(served.iter().map(|disk| disk.finish()))
        .await
        .map(drop)
}

async fn open(desk: &Desk, disk: &PointDisk, run: RunId) -> Result<Arc<ServedDisk>, Fault> {
    let (_, access) = restore::access(&desk.session.controller, run).await?;
    let proxy = desk
        .session
        .proxy(access.address.clone(), access.proxy_node_id)?;
    Ok(Arc::new(ServedDisk::new(disk, proxy, access)))
}

fn layered(disk: Arc<ServedDisk>, overlay: bool) -> Result<Arc<dyn Export>, Fault> {
    if !overlay {
        return Ok(disk);
    }
    let over = Overlay::new(disk).map_err(|error| {
        let text = format!("make a temporary file for what is written: {error}");
        Fault::new(Reason::BadField, text).with("field", "overlay")
    })?;
    Ok(Arc::new(over))
}

/// Where the disks are, and what a tool is told to read one.
fn tell(desk: &Desk, door: &Door, disks: &[&PointDisk]) -> Result<(), Fault> {
    let table = || {
        let each = disks.iter().map(|disk| {
            let uri = door.uri(&disk.key.to_string());
            format!("{:<6}  {:<20}  {uri}", disk.key, disk.label)
        });
        let mut lines: Vec<String> = each.collect();
        if let Some(disk) = disks.first() {
            let uri = door.uri(&disk.key.to_string());
            lines.push(format!(
                "\nTry  qemu-img info '{uri}'  or  nbdcopy '{uri}' disk.raw. Ctrl-C ends it."
            ));
        }
        lines.join("\n")
    };
    let json = || {
        let each = disks.iter().map(|disk| {
            json!({
                "disk_key": disk.key,
                "label": disk.label,
                "length_bytes": disk.length_bytes,
                "uri": door.uri(&disk.key.to_string()),
            })
        });
        each.collect()
    };
    output::print(desk.format, table, json)
}

/// Keeps the exports from being taken for abandoned; ends when a proxy no longer knows one.
async fn stay(served: &[Arc<ServedDisk>]) -> Result<(), Fault> {
    loop {
        tokio::time::sleep(SIGN_OF_LIFE).await;
        try_join_all(served.iter().map(|disk| disk.stay())).await?;
    }
}

/// Sees the runs to their end, or ends them.
pub(super) async fn end(
    desk: &Desk,
    runs: &[RunId],
    served: Result<(), Fault>,
) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    let mut fault = served.err();
    for run in runs {
        let ended = match &fault {
            None => restore::end(controller, *run).await.map(drop),
            Some(fault) => Err(restore::give_up(controller, *run, fault.clone()).await),
        };
        fault = ended.err().or(fault);
    }
    fault.map_or(Ok(Outcome::Done), Err)
}
