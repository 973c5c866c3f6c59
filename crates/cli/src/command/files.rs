//! `stillwater files`: what is in the file systems of a restore point.

use std::path::PathBuf;
use std::sync::Arc;

use stillwater_files::{Event, Job, NamePattern, Wanted};
use stillwater_nbd::Export;
use stillwater_types::{Fault, Kind, PointId, Reason};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{Desk, restore, serve};
use crate::arguments::{Archive, FileHistory, Files, FindFiles};
use crate::exit::Outcome;
use crate::files::{Finds, Place, Reading, STDOUT, Shape, Taking, Version, is_free, read, reader};
use crate::serve::ServedDisk;
use crate::{follow, output, resolve, view};

pub(super) async fn run(desk: &Desk, files: Files) -> Result<Outcome, Fault> {
    match files {
        Files::Ls { place } => list(desk, &Place::parse(&place)?).await,
        Files::Get { place, to, archive } => get(desk, &Place::parse(&place)?, to, archive).await,
        Files::Find(asked) => find(desk, asked).await,
        Files::History(asked) => history(desk, asked).await,
    }
}

async fn list(desk: &Desk, place: &Place) -> Result<Outcome, Fault> {
    let wanted = match place.path.is_empty() {
        true => Wanted::Volumes,
        false => Wanted::Names,
    };
    let point_id = resolve::point(&desk.session.controller, &place.point).await?;
    let job = job(place.volume.clone(), &place.path, wanted);
    let events = read_point(desk, point_id, job, Vec::new(), |events, event| {
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

async fn get(
    desk: &Desk,
    place: &Place,
    to: Option<PathBuf>,
    archive: Option<Archive>,
) -> Result<Outcome, Fault> {
    let shape = match archive {
        Some(Archive::Tar) => Shape::Tar {
            prefix: place.prefix(),
        },
        Some(Archive::Zip) => Shape::Zip {
            prefix: place.prefix(),
        },
        None => Shape::Files,
    };
    let to = match (to, archive) {
        (Some(to), _) => to,
        (None, None) => place.own_name()?,
        (None, Some(archive)) => {
            let mut name = place.own_name()?.into_os_string();
            name.push(match archive {
                Archive::Tar => ".tar",
                Archive::Zip => ".zip",
            });
            name.into()
        }
    };
    is_free(&to)?;
    let is_stdout = to.as_os_str() == STDOUT;
    let point_id = resolve::point(&desk.session.controller, &place.point).await?;
    let job = job(
        place.volume.clone(),
        &place.path,
        // A zip archive cannot say that two names are one file.
        Wanted::Tree {
            copies: archive == Some(Archive::Zip),
        },
    );
    let taking = Taking::new(to, shape);
    let taking = read_point(desk, point_id, job, taking, Taking::take).await?;
    let report = tokio::task::spawn_blocking(|| taking.finish()).await;
    let report = report.map_err(|error| Fault::new(Reason::Bug, format!("finish: {error}")))?;
    let report = report.map_err(|error| {
        Fault::new(
            Reason::StorageFailed,
            format!("write what was taken: {error}"),
        )
    })?;
    if !is_stdout {
        output::print(desk.format, || report.summary(), || report.json())?;
    }
    for note in report.notes() {
        output::say(&note);
    }
    Ok(match report.is_whole() {
        true => Outcome::Done,
        false => Outcome::Warned,
    })
}

/// A job whose disks are not open yet.
fn job(volume: Option<String>, path: &str, wanted: Wanted) -> Job {
    Job {
        disks: Vec::new(),
        volume,
        path: path.as_bytes().to_vec(),
        wanted,
        name: None,
    }
}

/// Looks into one point, or into all of a VM, the newest first.
async fn find(desk: &Desk, asked: FindFiles) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    let (points, volume, path) = match &asked.place {
        Some(place) => {
            let place = Place::parse(place)?;
            let point_id = resolve::point(controller, &place.point).await?;
            (vec![point_id], place.volume, place.path)
        }
        None => {
            let points = resolve::points(controller, asked.vm.clone(), usize::MAX).await?;
            let ids = points.iter().map(|point| point.point_id);
            (ids.collect(), None, String::new())
        }
    };
    no_points(&points)?;
    let mut found = Vec::new();
    let mut outcome = Outcome::Done;
    for &point_id in &points {
        let job = Job {
            name: Some(NamePattern {
                pattern: asked.name.clone(),
                any_case: asked.ignore_case,
            }),
            ..job(volume.clone(), &path, Wanted::Found)
        };
        let finds = read_point(desk, point_id, job, Finds::default(), Finds::take).await;
        match finds {
            Ok(finds) => {
                for what in &finds.lost {
                    output::say(&format!("note: in {point_id}: {what}"));
                    outcome = Outcome::Warned;
                }
                found.extend(finds.found.into_iter().map(|find| (point_id, find)));
            }
            Err(fault) if points.len() > 1 && is_of_point(&fault) => {
                output::say(&format!(
                    "note: {point_id} is not searched: {}",
                    fault.message
                ));
                outcome = Outcome::Warned;
            }
            Err(fault) => return Err(fault),
        }
    }
    let json = || view::files::found_json(&found);
    output::print(desk.format, || view::files::found(&found), json)?;
    Ok(outcome)
}

fn no_points(points: &[PointId]) -> Result<(), Fault> {
    if points.is_empty() {
        let text = "there is no such restore point; `stillwater point list` names them";
        return Err(Fault::new(Reason::PointNotFound, text));
    }
    Ok(())
}

/// Whether another point may still be read: not if nobody answers, or Ctrl-C was meant.
fn is_of_point(fault: &Fault) -> bool {
    matches!(
        fault.kind(),
        Kind::NotFound | Kind::Corrupt | Kind::Unsupported | Kind::Precondition
    )
}

/// The versions of one file over the points of a VM, the newest first.
async fn history(desk: &Desk, asked: FileHistory) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    let points = resolve::points(controller, Some(asked.vm), usize::MAX).await?;
    let ids: Vec<_> = points.iter().map(|point| point.point_id).collect();
    no_points(&ids)?;
    let mut versions = Vec::new();
    let mut outcome = Outcome::Done;
    for point in &points {
        let job = job(asked.volume.clone(), &asked.path, Wanted::Content);
        let read = read_point(desk, point.point_id, job, Reading::default(), Reading::take).await;
        let content = match read {
            Ok(reading) => Ok(reading.version()),
            Err(fault) if fault.reason == Reason::FileNotFound => Ok(None),
            Err(fault) if is_of_point(&fault) => {
                outcome = Outcome::Warned;
                Err(fault.message)
            }
            Err(fault) => return Err(fault),
        };
        versions.push(Version {
            point_id: point.point_id,
            committed_at: point.committed_at,
            content,
        });
    }
    let json = || view::files::history_json(&versions);
    output::print(desk.format, || view::files::history(&versions), json)?;
    Ok(outcome)
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
    point_id: PointId,
    mut job: Job,
    state: S,
    take: fn(&mut S, Event) -> std::io::Result<()>,
) -> Result<S, Fault> {
    let controller = &desk.session.controller;
    let program = reader()?;
    let disks = controller.get_point(point_id).await?.point.disks;
    let disks: Vec<_> = disks.iter().collect();
    let mut runs = Vec::new();
    for disk in &disks {
        runs.push(restore::start(controller, point_id, disk.key).await?);
    }
    let opened = tokio::select! {
        opened = serve::open_all(desk, &disks, &runs) => opened,
        fault = follow::interrupted() => Err(fault),
    };
    let read = match opened {
        Ok(served) => {
            job.disks = served.iter().map(|disk| disk.length()).collect();
            let over = async {
                tokio::select! {
                    fault = follow::interrupted() => fault,
                    fault = follow::broken_off(controller, &runs) => fault,
                }
            };
            let read = read_disks(program, job, served.clone(), state, take, over).await;
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

/// The reader's conversation blocks, so it has a thread of its own; Ctrl-C ends it, and so does the end of
/// a run: without it every file would be asked for until patience ends, and counted as lost.
async fn read_disks<S: Send + 'static>(
    program: PathBuf,
    job: Job,
    disks: Vec<Arc<ServedDisk>>,
    mut state: S,
    take: fn(&mut S, Event) -> std::io::Result<()>,
    over: impl Future<Output = Fault>,
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
        fault = over => {
            stop.cancel();
            drop(reading.await);
            return Err(fault);
        }
    };
    ended.map_err(|error| Fault::new(Reason::Bug, format!("read the disks: {error}")))?
}
