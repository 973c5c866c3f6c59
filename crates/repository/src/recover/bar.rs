//! How far the work is, shown on stderr: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use stillwater_recovery::Progress;

use super::view::{plain, say, size};

/// Without a terminal a line is due after this long.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
const TEMPLATE: &str = "  {prefix}  {wide_bar} {percent:>3}%  {msg}";

/// One piece of work.
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    began: Instant,
    told: Instant,
}

impl Bar {
    pub fn new() -> Self {
        let bar = || ProgressBar::new(0).with_style(style());
        let now = Instant::now();
        Self {
            bar: std::io::stderr().is_terminal().then(bar),
            began: now,
            told: now,
        }
    }

    /// Shows how far the work on `subject` is.
    pub fn show(&mut self, progress: Progress, subject: &str) {
        let now = Instant::now();
        // Chunks are small, and formatting a line for each would cost more than some of them.
        let pause = match self.bar {
            Some(_) => Duration::from_millis(100),
            None => LINE_INTERVAL,
        };
        if now - self.told < pause {
            return;
        }
        self.told = now;
        let (done, total, text) = match progress {
            Progress::Packs { done, total } => (done, total, format!("{done} of {total}")),
            Progress::Disk { done, total, .. } => {
                (done, total, moved(done, total, now - self.began))
            }
        };
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(plain(subject));
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message(text);
            }
            None => say(&format!("{subject}: {text}")),
        }
    }

    /// Takes the bar away.
    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template(TEMPLATE)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▉▊▋▌▍▎▏ ")
}

fn moved(done: u64, total: u64, time: Duration) -> String {
    let text = format!("{} of {}", size(done), size(total));
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    match done.saturating_mul(1000).checked_div(millis) {
        Some(rate) if rate > 0 && millis >= 1000 => {
            let left = total.saturating_sub(done) / rate;
            format!(
                "{text}, {}/s, {} min {:02} s left",
                size(rate),
                left / 60,
                left % 60
            )
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }

    #[test]
    fn the_rest_is_told_once_there_is_a_rate() {
        assert_eq!(moved(0, 1 << 30, Duration::ZERO), "0 B of 1.0 GiB");
        assert_eq!(
            moved(256 << 20, 1 << 30, Duration::from_secs(4)),
            "256.0 MiB of 1.0 GiB, 64.0 MiB/s, 0 min 12 s left"
        );
    }
}
