//! `stillwater files`: what is in the file systems of a restore point.

use std::path::PathBuf;
use std::sync::Arc;

use stillwater_files::{Event, Job, Wanted};
use stillwater_nbd::Export;
use stillwater_types::{Fault, Reason};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{Desk, restore, serve};
use crate::arguments::Files;
use crate::exit::Outcome;
use crate::files::{Place, Target, read, reader};
use crate::serve::ServedDisk;
use crate::{follow, output, resolve, view};

pub(super) async fn run(desk: &Desk, files: Files) -> Result<Outcome, Fault> {
    match files {
        Files::Ls { place } => list(desk, &Place::parse(&place)?).await,
        Files::Get { place, to } => get(desk, &Place::parse(&place)?, to).await,
    }
}

async fn list(desk: &Desk, place: &Place) -> Result<Outcome, Fault> {
    let wanted = match place.path.is_empty() {
        true => Wanted::Volumes,
        false => Wanted::Names,
    };
    let events = read_point(desk, place, wanted, Vec::new(), |events, event| {
        events.push(event);
        Ok(())
    })
    .await?;
    let text = || match wanted {
        Wanted::Volumes => view::files::volumes(&events),
        _ => view::files::names(&events),
    };
    output::print(desk.format, text, || {
        view::files::json(&events, wanted == Wanted::Volumes)
    })?;
    tell_losses(&events);
    Ok(Outcome::Done)
}

async fn get(desk: &Desk, place: &Place, to: Option<PathBuf>) -> Result<Outcome, Fault> {
    let target = Target::new(to.map_or_else(|| place.own_name(), Ok)?)?;
    let (target, seen) = read_point(
        desk,
        place,
        Wanted::Content,
        (target, Vec::new()),
        |state, event| {
            let (target, seen) = state;
            match event {
                Event::Bytes(bytes) => target.bytes(&bytes),
                Event::Zeros(count) => target.zeros(count),
                event => {
                    seen.push(event);
                    Ok(())
                }
            }
        },
    )
    .await?;
    let facts = seen.iter().find_map(|event| match event {
        Event::File(facts) => Some(facts),
        _ => None,
    });
    target.keep(facts)?;
    tell_losses(&seen);
    Ok(Outcome::Done)
}

/// What is not as the guest had it is said each time.
fn tell_losses(events: &[Event]) {
    for event in events {
        if let Event::Volume(volume) = event
            && !volume.losses.is_empty()
        {
            output::say(&format!(
                "note: of {}: {}",
                volume.name,
                volume.losses.join("; ")
            ));
        }
    }
}

/// Opens all disks of the point, has the reader read them, and sees the runs to their ends.
async fn read_point<S: Send + 'static>(
    desk: &Desk,
    place: &Place,
    wanted: Wanted,
    state: S,
    take: fn(&mut S, Event) -> std::io::Result<()>,
) -> Result<S, Fault> {
    let controller = &desk.session.controller;
    let program = reader()?;
    let point_id = resolve::point(controller, &place.point).await?;
    let disks = controller.get_point(point_id).await?.point.disks;
    let disks: Vec<_> = disks.iter().collect();
    let mut runs = Vec::new();
    for disk in &disks {
        runs.push(restore::start(controller, point_id, disk.key).await?);
    }
    let job = |disks: &[Arc<ServedDisk>]| Job {
        disks: disks.iter().map(|disk| disk.length()).collect(),
        volume: place.volume.clone(),
        path: place.path.clone().into_bytes(),
        wanted,
        name: None,
    };
    let opened = tokio::select! {
        opened = serve::open_all(desk, &disks, &runs) => opened,
        fault = follow::interrupted() => Err(fault),
    };
    let read = match opened {
        Ok(served) => {
            let read = read_disks(program, job(&served), served.clone(), state, take).await;
            match read {
                Ok(state) => serve::finish(&served).await.map(|()| state),
                Err(fault) => Err(fault),
            }
        }
        Err(fault) => Err(fault),
    };
    let (ended, state) = match read {
        Ok(state) => (Ok(()), Some(state)),
        Err(fault) => (Err(fault), None),
    };
    serve::end(desk, &runs, ended).await?;
    state.ok_or_else(|| Fault::new(Reason::Bug, "the disks were read and nothing came of it"))
}

/// The reader's conversation blocks, so it has a thread of its own; Ctrl-C ends it.
async fn read_disks<S: Send + 'static>(
    program: PathBuf,
    job: Job,
    disks: Vec<Arc<ServedDisk>>,
    mut state: S,
    take: fn(&mut S, Event) -> std::io::Result<()>,
) -> Result<S, Fault> {
    let handle = Handle::current();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let mut reading = tokio::task::spawn_blocking(move || {
        let taken = |event| take(&mut state, event);
        read(&program, &job, &disks, &handle, &stopped, taken).map(|()| state)
    });
    let ended = tokio::select! {
        ended = &mut reading => ended,
        fault = follow::interrupted() => {
            stop.cancel();
            drop(reading.await);
            return Err(fault);
        }
    };
    ended.map_err(|error| Fault::new(Reason::Bug, format!("read the disks: {error}")))?
}
