//! Watching runs to their end.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{join_all, pending, select_all};
use futures::stream::{BoxStream, StreamExt};
use stillwater_controller_api::{Client, Run, RunState};
use stillwater_rpc::retry::worth_repeating;
use stillwater_types::{Fault, Reason, RunId};

use crate::exit::Outcome;
use crate::progress::Progress;
use crate::view;

/// A controller that is restarted comes back within this time; what it tells of goes on meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// Shows the progress of runs until all have ended; answers them as they ended.
pub(crate) async fn follow(controller: &Client, runs: &[RunId]) -> Result<Vec<Run>, Fault> {
    let progress = Mutex::new(Progress::new());
    let shown = |act: &dyn Fn(&mut Progress)| {
        act(&mut progress.lock().unwrap_or_else(PoisonError::into_inner));
    };
    let watches = runs.iter().map(|run| watch(controller, *run, &shown));
    let ended = tokio::select! {
        ended = join_all(watches) => ended.into_iter().collect(),
        fault = interrupted() => Err(fault.with("hint", "the run goes on; `stillwater run cancel` stops it")),
    };
    progress
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .end();
    ended
}

/// Watches one run to its end.
async fn watch(
    controller: &Client,
    run_id: RunId,
    shown: &impl Fn(&dyn Fn(&mut Progress)),
) -> Result<Run, Fault> {
    let show = |run: &Run| {
        shown(&|progress| progress.show(run));
        run.state.is_final()
    };
    let say = |text: &str| shown(&|progress| progress.say(text));
    to_the_end(async || controller.watch_run(run_id).await, show, say).await
}

/// Takes what the controller tells of something until `show` says that it has ended, over restarts of
/// the controller.
pub(crate) async fn to_the_end<T>(
    ask: impl AsyncFn() -> Result<BoxStream<'static, Result<T, Fault>>, Fault>,
    show: impl Fn(&T) -> bool,
    say: impl Fn(&str),
) -> Result<T, Fault> {
    let take = |told: T| match show(&told) {
        true => ControlFlow::Break(told),
        false => ControlFlow::Continue(()),
    };
    until(ask, take, say).await
}

/// Takes what the controller tells, however rarely, until `show` says that nobody wants more of it; over restarts of
/// the controller.
pub(crate) async fn on_and_on<T>(
    ask: impl AsyncFn() -> Result<BoxStream<'static, Result<T, Fault>>, Fault>,
    show: impl Fn(&T) -> Result<bool, Fault>,
    say: impl Fn(&str),
) -> Result<(), Fault> {
    let take = |told: T| match show(&told) {
        Ok(true) => ControlFlow::Continue(()),
        Ok(false) => ControlFlow::Break(Ok(())),
        Err(fault) => ControlFlow::Break(Err(fault)),
    };
    until(ask, take, say).await?
}

/// Takes what is told until `take` breaks off, with its value. A controller that stops telling is asked again, and
/// given up when it was away for longer than it needs for a restart.
async fn until<T, B>(
    ask: impl AsyncFn() -> Result<BoxStream<'static, Result<T, Fault>>, Fault>,
    mut take: impl FnMut(T) -> ControlFlow<B>,
    say: impl Fn(&str),
) -> Result<B, Fault> {
    let mut lost = None;
    loop {
        let asked = Instant::now();
        let fault = match once(&ask, &mut take, &mut lost).await {
            Ok(broken_off) => return Ok(broken_off),
            Err(fault) => fault,
        };
        // It had come back, and had nothing to tell for as long.
        if asked.elapsed() > PATIENCE {
            lost = None;
        }
        let since: &mut Instant = lost.get_or_insert_with(Instant::now);
        if !worth_repeating(fault.kind()) || since.elapsed() > PATIENCE {
            return Err(fault);
        }
        say(&format!("{fault}; trying again"));
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes what is told until `take` breaks off, or the stream does. Nothing is `lost` once something was told.
async fn once<T, B>(
    ask: &impl AsyncFn() -> Result<BoxStream<'static, Result<T, Fault>>, Fault>,
    take: &mut impl FnMut(T) -> ControlFlow<B>,
    lost: &mut Option<Instant>,
) -> Result<B, Fault> {
    let mut updates = ask().await?;
    while let Some(told) = updates.next().await {
        let told = told?;
        *lost = None;
        if let ControlFlow::Break(value) = take(told) {
            return Ok(value);
        }
    }
    let message = "the controller stopped telling";
    Err(Fault::new(Reason::ControllerUnreachable, message))
}

/// Ends when one of these runs has ended while somebody works with what it holds open, and tells why.
///
/// A controller that is away ends nothing: what the proxy has open can be read on meanwhile.
pub(crate) async fn broken_off(controller: &Client, runs: &[RunId]) -> Fault {
    if runs.is_empty() {
        return pending().await;
    }
    let each = runs.iter().map(|run| Box::pin(ended(controller, *run)));
    select_all(each).await.0
}

async fn ended(controller: &Client, run_id: RunId) -> Fault {
    let is_final = |run: &Run| run.state.is_final();
    loop {
        let ask = async || controller.watch_run(run_id).await;
        if let Ok(run) = to_the_end(ask, is_final, |_| ()).await {
            let early = || {
                let message = format!("run {run_id} ended before its disk was read");
                Fault::new(Reason::RunCancelled, message)
            };
            return outcome(&run).err().unwrap_or_else(early);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Ends when the user presses Ctrl-C.
pub(crate) async fn interrupted() -> Fault {
    match tokio::signal::ctrl_c().await {
        Ok(()) => Fault::new(Reason::RunCancelled, "interrupted"),
        Err(err) => Fault::new(Reason::Bug, format!("listen for signals: {err}")),
    }
}

/// How the tool ends for a run that ended so.
pub(crate) fn outcome(run: &Run) -> Result<Outcome, Fault> {
    match run.state {
        RunState::Succeeded if run.warnings.is_empty() => Ok(Outcome::Done),
        RunState::Succeeded | RunState::Incomplete => Ok(Outcome::Warned),
        RunState::Failed => Err(run.fault.clone().unwrap_or_else(|| {
            Fault::new(
                Reason::Bug,
                format!("run {} failed without a reason", run.run_id),
            )
        })),
        RunState::Cancelled => Err(run.fault.clone().unwrap_or_else(|| {
            Fault::new(
                Reason::RunCancelled,
                format!("run {} was cancelled", run.run_id),
            )
        })),
        RunState::Pending | RunState::Running => Err(Fault::new(
            Reason::Bug,
            format!(
                "run {} is {} and was taken for ended",
                run.run_id,
                view::run::state(run.state)
            ),
        )),
    }
}

/// How the tool ends for several: a failure outweighs a warning, the first of each kind is told.
pub(crate) fn outcomes(runs: &[Run]) -> Result<Outcome, Fault> {
    let mut worst = Outcome::Done;
    for run in runs {
        if outcome(run)? == Outcome::Warned {
            worst = Outcome::Warned;
        }
    }
    Ok(worst)
}
