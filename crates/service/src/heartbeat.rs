//! Saying again and again that a role lives.

use std::time::Duration;

use stillwater_types::Fault;
use tokio_util::sync::CancellationToken;

/// How long to wait after a heartbeat that failed.
const RETRY: Duration = Duration::from_secs(5);

/// Calls `send` until `cancel`; it answers how long to wait before the next heartbeat.
///
/// A failure is logged once when it starts and once when it ends, not with every beat: a
/// controller that is down for a night must not fill the journal of every node.
pub async fn beat<F: Future<Output = Result<Duration, Fault>>>(
    cancel: &CancellationToken,
    mut send: impl FnMut() -> F,
) {
    let mut failures = 0u32;
    loop {
        let Some(sent) = cancel.run_until_cancelled(send()).await else {
            return;
        };
        let pause = match sent {
            Ok(pause) => {
                if failures > 0 {
                    tracing::info!(failures, "heartbeat reaches the controller again");
                }
                failures = 0;
                pause
            }
            Err(fault) => {
                if failures == 0 {
                    tracing::warn!(error = %fault, "heartbeat failed, will keep trying");
                }
                failures = failures.saturating_add(1);
                RETRY
            }
        };
        // A server that answers zero must not make us spin.
        let pause = tokio::time::sleep(pause.max(Duration::from_millis(100)));
        if cancel.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use stillwater_types::Reason;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_server_says_when_to_come_back_and_a_failure_comes_back_soon() {
        let cancel = CancellationToken::new();
        let mut times = Vec::new();
        let started = Instant::now();
        beat(&cancel, || {
            times.push(started.elapsed().as_secs());
            std::future::ready(match times.len() {
                1 => Ok(Duration::from_secs(30)),
                2 => Err(Fault::new(Reason::ControllerUnreachable, "not there")),
                3 => Ok(Duration::ZERO),
                _ => {
                    cancel.cancel();
                    Ok(Duration::from_secs(30))
                }
            })
        })
        .await;
        assert_eq!(times, [0, 30, 35, 35]);
    }
}
