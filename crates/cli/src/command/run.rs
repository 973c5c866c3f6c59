//! `stillwater run`, and how other commands show the runs that they start.

use serde_json::Value;
use stillwater_controller_api::Run as Shown;
use stillwater_types::{Fault, RunId};

use super::Desk;
use crate::arguments::{Format, Run};
use crate::exit::Outcome;
use crate::{follow, output, resolve, view};

pub(super) async fn run(desk: &Desk, run: Run) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    match run {
        Run::List { limit } => {
            let runs = resolve::runs(controller, limit).await?;
            let json = || runs.iter().map(view::run::json).collect();
            output::print(desk.format, || view::run::list(&runs), json)?;
            Ok(Outcome::Done)
        }
        Run::Show { run } => {
            let run = resolve::run(controller, &run).await?;
            print_one(desk, &controller.get_run(run).await?)?;
            Ok(Outcome::Done)
        }
        Run::Watch { run } => {
            let run = resolve::run(controller, &run).await?;
            let ended = follow::follow(controller, &[run]).await?;
            ended.iter().try_for_each(|run| print_one(desk, run))?;
            follow::outcomes(&ended)
        }
        Run::Cancel { run } => {
            let run = resolve::run(controller, &run).await?;
            print_one(desk, &controller.cancel_run(run).await?)?;
            Ok(Outcome::Done)
        }
    }
}

/// Shows one run.
pub(super) fn print_one(desk: &Desk, run: &Shown) -> Result<(), Fault> {
    output::print(
        desk.format,
        || view::run::show(run),
        || view::run::json(run),
    )
}

/// Shows runs that were started, or follows them to their end.
pub(super) async fn conclude(
    desk: &Desk,
    started: Vec<Shown>,
    follow: bool,
    json: fn(&[Shown]) -> Value,
) -> Result<Outcome, Fault> {
    let ids: Vec<RunId> = started.iter().map(|run| run.run_id).collect();
    let runs = match follow {
        true => follow::follow(&desk.session.controller, &ids).await?,
        false => started,
    };
    let text = || match follow {
        true => runs
            .iter()
            .map(view::run::show)
            .collect::<Vec<_>>()
            .join("\n\n"),
        // One id a line, for the next command to take.
        false => ids
            .iter()
            .map(RunId::to_string)
            .collect::<Vec<_>>()
            .join("\n"),
    };
    output::print(desk.format, text, || json(&runs))?;
    if !follow {
        if desk.format == Format::Table {
            output::say("started; `stillwater run watch ID` shows the progress");
        }
        return Ok(Outcome::Done);
    }
    follow::outcomes(&runs)
}
