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
        self.rate.observe(now, task.done_bytes);
        let text = moved(task, &self.rate);
        let step = format!("{} {}", view::task::kind(task.kind), task.phase);
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(plain(&step));
                bar.set_length(task.total_bytes);
                bar.set_position(task.done_bytes);
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
    if task.total_bytes == 0 {
        return size(task.done_bytes);
    }
    let mut text = format!("{} of {}", size(task.done_bytes), size(task.total_bytes));
    let left = task.total_bytes.saturating_sub(task.done_bytes);
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
