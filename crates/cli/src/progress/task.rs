//! How far a task of a repository is.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::ProgressBar;
use stillwater_controller_api::Task;

use super::{LINE_INTERVAL, Rate, span, style};
use crate::output::{plain, say, size};
use crate::view;

const TEMPLATE: &str = "{prefix}  {wide_bar} {percent:>3}%  {msg}";

/// Shows one task: a bar on a terminal, lines elsewhere.
pub(crate) struct TaskProgress {
    bar: Option<ProgressBar>,
    rate: Rate,
    told: Option<(Instant, String)>,
}

impl TaskProgress {
    /// A bar when a person watches, lines otherwise.
    pub fn new() -> Self {
        let bar = || ProgressBar::new(0).with_style(style(TEMPLATE));
        Self {
            bar: std::io::stderr().is_terminal().then(bar),
            rate: Rate::default(),
            told: None,
        }
    }

    /// Shows the task as it is now.
    pub fn show(&mut self, task: &Task) {
        let now = Instant::now();
        self.rate.observe(now, task.done);
        let text = moved(task, &self.rate);
        let step = format!("{} {}", view::task::kind(task.kind), task.phase);
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(plain(&step));
                bar.set_length(task.total);
                bar.set_position(task.done);
                bar.set_message(text);
            }
            None if self.is_due(now, &step) => {
                say(&format!("{step}: {text}"));
                self.told = Some((now, step));
            }
            None => {}
        }
    }

    fn is_due(&self, now: Instant, step: &str) -> bool {
        let told = self.told.as_ref();
        told.is_none_or(|(at, told)| told != step || now - *at >= LINE_INTERVAL)
    }

    /// Says something without tearing the bar.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    /// Leaves the bar as it is and ends.
    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.abandon();
        }
    }
}

/// How much is done, how fast, and how long it will take.
fn moved(task: &Task, rate: &Rate) -> String {
    let amount = |count: u64| match task.unit.as_str() {
        "bytes" => size(count),
        unit => format!("{count} {unit}"),
    };
    if task.total == 0 {
        return amount(task.done);
    }
    let mut text = format!("{} of {}", amount(task.done), amount(task.total));
    let left = task.total.saturating_sub(task.done);
    if left > 0
        && let Some(per_second) = rate.per_second()
    {
        text.push_str(&format!(
            ", {}/s, {} left",
            amount(per_second),
            span(left / per_second)
        ));
    }
    text
}
