//! `stillwater backup`.

use stillwater_controller_api::{
    Consistency, QuiesceRung, Run, StartBackup, StartKind, StartRunRequest,
};
use stillwater_types::{Fault, RequestId};

use super::Desk;
use super::run::conclude;
use crate::arguments::{Backup, Level};
use crate::exit::Outcome;
use crate::hooks::Hooks;
use crate::{exit, hooks, output, view};

pub(super) async fn run(desk: &Desk, backup: Backup) -> Result<Outcome, Fault> {
    let Backup {
        vms,
        exclude_disk,
        full,
        quiesce,
        quiesce_tries,
        quiesce_minutes,
        hooks,
        way,
        follow,
    } = backup;
    let rung = |level: &Level| QuiesceRung {
        level: match level {
            Level::Application => Consistency::Application,
            Level::FileSystem => Consistency::FileSystem,
            Level::Crash => Consistency::Crash,
        },
        tries: if *level == Level::Crash {
            1
        } else {
            quiesce_tries
        },
        budget_minutes: quiesce_minutes,
    };
    let quiesce: Vec<QuiesceRung> = quiesce.iter().map(rung).collect();
    let hooks = match hooks {
        Some(file) => hooks::load(&file)?,
        None => Hooks::default(),
    };
    let mut started = Vec::new();
    let mut refused = None;
    for vm in vms {
        let exclude_disk_keys = exclude_disk.clone();
        let kind = StartKind::Backup(StartBackup {
            vm,
            exclude_disk_keys,
            full_read: full,
            quiesce: quiesce.clone(),
            hooks: hooks.hooks.clone(),
            hook_budget_seconds: hooks.budget_seconds,
            ways: way.clone(),
        });
        let request = StartRunRequest {
            request_id: RequestId::mint(),
            kind,
        };
        match desk.session.controller.start_run(request).await {
            Ok(run) => started.push(run),
            // One VM that cannot be protected is no reason to leave the others unprotected.
            Err(fault) => refused = Some(tell_first(refused, fault)),
        }
    }
    let concluded = match started.is_empty() {
        true => Ok(Outcome::Done),
        false => conclude(desk, started, follow, json).await,
    };
    match refused {
        None => concluded,
        Some(fault) => {
            if let Err(other) = concluded {
                output::say(&exit::explain(&other));
            }
            Err(fault)
        }
    }
}

/// Keeps the first fault, which decides the exit code, and tells the others at once.
fn tell_first(first: Option<Fault>, next: Fault) -> Fault {
    match first {
        None => next,
        Some(first) => {
            output::say(&exit::explain(&next));
            first
        }
    }
}

fn json(runs: &[Run]) -> serde_json::Value {
    runs.iter().map(view::run::json).collect()
}
