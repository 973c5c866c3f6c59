//! What systemd wants to hear; all of it is silent elsewhere.

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// The role answers calls now.
pub fn ready() {
    notify(NotifyState::Ready);
}

/// The role drains now.
pub fn stopping() {
    notify(NotifyState::Stopping);
}

/// Shows a line in `systemctl status`.
pub fn status(text: &str) {
    notify(NotifyState::Status(text));
}

/// Feeds the watchdog, if the unit has one, until `cancel`.
///
/// Runs on the role's own runtime: a runtime that hangs feeds nobody and is restarted.
pub async fn feed_watchdog(cancel: &CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval(limit / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
        notify(NotifyState::Watchdog);
    }
}

fn notify(state: NotifyState<'_>) {
    // Nothing depends on it but systemd's patience, and systemd says so in the journal.
    if let Err(err) = sd_notify::notify(&[state]) {
        tracing::warn!(error = %err, "failed to notify systemd");
    }
}
