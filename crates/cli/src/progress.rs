//! How far a run is, shown on stderr: bars on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use stillwater_controller_api::{Run, RunDisk, RunPhase, RunState};
use stillwater_types::RunId;

use crate::output::{plain, say, size};
use crate::view;

mod rate;
mod task;

pub(crate) use rate::{Rate, span};
pub(crate) use task::TaskProgress;

/// Without a terminal a line is due when the step changes, and otherwise after this long: logs of
/// scheduled backups should be short.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

const DISK_TEMPLATE: &str = "  {prefix}  {wide_bar} {percent:>3}%  {msg}";

/// Shows the progress of runs.
pub(crate) enum Progress {
    /// Bars that move.
    Bars(Bars),
    /// Lines that stay.
    Lines(BTreeMap<RunId, Line>),
}

/// A head for each run, and a bar for each of its disks below it.
pub(crate) struct Bars {
    all: MultiProgress,
    runs: BTreeMap<RunId, RunBars>,
}

struct RunBars {
    head: ProgressBar,
    disks: BTreeMap<i32, (ProgressBar, Rate)>,
}

/// The line that was written last for a run.
pub(crate) struct Line {
    at: Instant,
    step: (RunState, Option<RunPhase>),
    rate: Rate,
}

impl Progress {
    /// Bars when a person watches, lines otherwise.
    pub fn new() -> Self {
        match std::io::stderr().is_terminal() {
            true => Progress::Bars(Bars {
                all: MultiProgress::new(),
                runs: BTreeMap::new(),
            }),
            false => Progress::Lines(BTreeMap::new()),
        }
    }

    /// Shows a run as it is now.
    pub fn show(&mut self, run: &Run) {
        match self {
            Progress::Bars(bars) => bars.show(run, Instant::now()),
            Progress::Lines(lines) => show_line(lines, run, Instant::now()),
        }
    }

    /// Says something without tearing the bars.
    pub fn say(&self, text: &str) {
        match self {
            Progress::Bars(bars) => bars.all.suspend(|| say(text)),
            Progress::Lines(_) => say(text),
        }
    }

    /// Leaves the bars as they are and ends.
    pub fn end(self) {
        if let Progress::Bars(bars) = self {
            for run in bars.runs.values() {
                run.head.abandon();
                run.disks.values().for_each(|(bar, _)| bar.abandon());
            }
        }
    }
}

impl Bars {
    fn show(&mut self, run: &Run, now: Instant) {
        let all = &self.all;
        let bars = self.runs.entry(run.run_id).or_insert_with(|| {
            let head = all.add(ProgressBar::no_length().with_style(style("{msg}")));
            RunBars {
                head,
                disks: BTreeMap::new(),
            }
        });
        bars.head.set_message(plain(&head(run)));
        let mut above = bars.head.clone();
        for disk in &run.disks {
            let (bar, rate) = bars.disks.entry(disk.key).or_insert_with(|| {
                let bar = all.insert_after(&above, ProgressBar::new(disk.length_bytes));
                bar.set_style(style(DISK_TEMPLATE));
                bar.set_prefix(plain(&disk.label));
                (bar, Rate::default())
            });
            rate.observe(now, disk.done_bytes);
            bar.set_length(disk.length_bytes);
            bar.set_position(disk.done_bytes);
            bar.set_message(moved(disk, rate));
            above = bar.clone();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▉▊▋▌▍▎▏ ")
}

fn show_line(lines: &mut BTreeMap<RunId, Line>, run: &Run, now: Instant) {
    let step = (run.state, run.phase);
    let done = run.disks.iter().map(|disk| disk.done_bytes).sum();
    let line = lines.get_mut(&run.run_id);
    let due = line
        .as_ref()
        .is_none_or(|line| line.step != step || now - line.at >= LINE_INTERVAL);
    let mut rate = line
        .map(|line| std::mem::take(&mut line.rate))
        .unwrap_or_default();
    rate.observe(now, done);
    if due {
        say(&self::line(run, &rate));
        lines.insert(
            run.run_id,
            Line {
                at: now,
                step,
                rate,
            },
        );
    } else if let Some(line) = lines.get_mut(&run.run_id) {
        line.rate = rate;
    }
}

/// Which run, and where it stands.
fn head(run: &Run) -> String {
    let step = match (run.state, run.phase) {
        (RunState::Running, Some(phase)) => view::run::phase(phase),
        (state, _) => view::run::state(state),
    };
    format!("{} {} {step}", run.run_id, view::run::subject(&run.kind))
}

/// A run in one line.
fn line(run: &Run, rate: &Rate) -> String {
    let head = head(run);
    if run.disks.is_empty() {
        return head;
    }
    let sum = |of: fn(&RunDisk) -> u64| run.disks.iter().map(of).sum::<u64>();
    let all = RunDisk {
        length_bytes: sum(|disk| disk.length_bytes),
        done_bytes: sum(|disk| disk.done_bytes),
        read_bytes: sum(|disk| disk.read_bytes),
        new_bytes: sum(|disk| disk.new_bytes),
        sent_bytes: sum(|disk| disk.sent_bytes),
        ..RunDisk::default()
    };
    format!(
        "{head}: {} of {}, {}",
        size(all.done_bytes),
        size(all.length_bytes),
        moved(&all, rate)
    )
}

/// What moved, how fast, and how long it will take.
fn moved(disk: &RunDisk, rate: &Rate) -> String {
    let mut text = format!(
        "read {}, new {}, sent {}",
        size(disk.read_bytes),
        size(disk.new_bytes),
        size(disk.sent_bytes)
    );
    let left = disk.length_bytes.saturating_sub(disk.done_bytes);
    if left > 0
        && let Some(per_second) = rate.per_second()
    {
        text.push_str(&format!(
            ", {}/s, {} left",
            size(per_second),
            span(left / per_second)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressDrawTarget;
    use stillwater_controller_api::{RestoreVmRun, RunKind};
    use stillwater_types::PointId;

    use super::*;

    #[test]
    fn a_disk_tells_what_moved_and_how_long_it_takes() {
        let start = Instant::now();
        let mut rate = Rate::default();
        rate.observe(start, 0);
        rate.observe(start + Duration::from_secs(4), 400 << 20);
        let disk = RunDisk {
            length_bytes: 1 << 30,
            done_bytes: 400 << 20,
            read_bytes: 300 << 20,
            new_bytes: 20 << 20,
            sent_bytes: 8 << 20,
            ..RunDisk::default()
        };
        assert_eq!(
            moved(&disk, &rate),
            "read 300.0 MiB, new 20.0 MiB, sent 8.0 MiB, 100.0 MiB/s, 6 s left"
        );
    }

    fn run(disks: Vec<RunDisk>) -> Run {
        Run {
            run_id: RunId::from_bytes([7; 16]),
            kind: RunKind::RestoreVm(RestoreVmRun {
                point_id: PointId::from_bytes([8; 16]),
                vm_name: "web\u{1b}".into(),
                vm_id: None,
            }),
            state: RunState::Running,
            phase: Some(RunPhase::Transferring),
            disks,
            started_at: jiff::Timestamp::UNIX_EPOCH,
            ended_at: None,
            fault: None,
            warnings: vec![],
            phases: vec![],
        }
    }

    #[test]
    fn a_run_has_a_head_and_a_bar_for_each_disk() {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let mut bars = Bars {
            all,
            runs: BTreeMap::new(),
        };
        bars.show(&run(vec![]), Instant::now());
        let disk = |key, done_bytes| RunDisk {
            key,
            label: "Hard disk".into(),
            length_bytes: 100,
            done_bytes,
            ..RunDisk::default()
        };
        bars.show(&run(vec![disk(2000, 10), disk(2001, 20)]), Instant::now());
        bars.show(&run(vec![disk(2000, 30), disk(2001, 40)]), Instant::now());
        let shown = bars.runs.values().next().expect("a run");
        let message = shown.head.message();
        assert!(message.ends_with("web\u{fffd} transferring"), "{message}");
        let positions: Vec<u64> = shown
            .disks
            .values()
            .map(|(bar, _)| bar.position())
            .collect();
        assert_eq!(positions, [30, 40]);
        assert_eq!(
            shown.disks[&2000].0.message(),
            "read 0 B, new 0 B, sent 0 B"
        );
    }

    #[test]
    fn the_templates_of_bars_are_valid() {
        assert!(ProgressStyle::with_template(DISK_TEMPLATE).is_ok());
    }

    #[test]
    fn a_line_is_due_when_the_step_changes_or_time_has_passed() {
        let start = Instant::now();
        let mut lines = BTreeMap::new();
        let mut at = |second, phase| {
            let run = Run {
                phase: Some(phase),
                ..run(vec![])
            };
            show_line(&mut lines, &run, start + Duration::from_secs(second));
            lines
                .get(&run.run_id)
                .map(|line: &Line| (line.at - start).as_secs())
        };
        assert_eq!(at(0, RunPhase::Freezing), Some(0));
        assert_eq!(at(1, RunPhase::Freezing), Some(0));
        assert_eq!(at(2, RunPhase::Mapping), Some(2));
        assert_eq!(at(11, RunPhase::Mapping), Some(2));
        assert_eq!(at(12, RunPhase::Mapping), Some(12));
    }
}
