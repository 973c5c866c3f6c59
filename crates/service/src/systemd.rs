//! What systemd wants to hear; all of it is silent elsewhere.

use tokio_util::sync::CancellationToken;

/// The role answers calls now.
pub fn ready() {
    unimplemented!()
}
/// The role drains now.
pub fn stopping() {
    unimplemented!()
}
/// Shows a line in `systemctl status`.
pub fn status(text: &str) {
    unimplemented!("{text}")
}
/// Feeds the watchdog, if the unit has one, until `cancel`.
pub async fn feed_watchdog(cancel: &CancellationToken) {
    unimplemented!("{cancel:?}")
}
