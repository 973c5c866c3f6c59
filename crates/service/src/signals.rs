//! What the outside tells a process.

use std::io;
use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What shells show for a process that SIGINT or SIGTERM ended: 128 and the signal's number.
const EXIT_TERMINATED: i32 = 128 + 15;

/// SIGTERM and SIGINT drain, SIGHUP reloads.
#[derive(Debug)]
pub struct Signals {
    /// Cancelled at the first SIGTERM or SIGINT; a second one ends the process at once.
    pub drain: CancellationToken,
    hang_up: Signal,
}

impl Signals {
    /// Watches from now on. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the system refuses to install a handler.
    pub fn watch() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let hang_up = signal(SignalKind::hangup())?;
        let drain = CancellationToken::new();
        let draining = drain.clone();
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            tracing::info!("asked to stop, draining");
            draining.cancel();
            either(&mut terminate, &mut interrupt).await;
            // Whoever asks twice has no patience for open calls; nothing stored depends on it.
            process::exit(EXIT_TERMINATED);
        });
        Ok(Self { drain, hang_up })
    }

    /// Waits for the next SIGHUP.
    pub async fn reload(&mut self) {
        // `None` would mean that no more signals can come; then none ever does.
        if self.hang_up.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal as Number, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_hang_up_reloads_and_a_termination_drains() {
        let mut signals = Signals::watch().expect("handlers");
        let soon = Duration::from_secs(5);
        kill_process(getpid(), Number::HUP).expect("sent");
        tokio::time::timeout(soon, signals.reload())
            .await
            .expect("a reload");
        assert!(!signals.drain.is_cancelled());
        kill_process(getpid(), Number::TERM).expect("sent");
        tokio::time::timeout(soon, signals.drain.cancelled())
            .await
            .expect("a drain");
    }
}
