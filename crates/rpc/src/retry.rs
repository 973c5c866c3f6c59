//! Repeats of calls that may be repeated.

use std::time::Duration;

use stillwater_types::{Fault, Kind};
use tokio_util::sync::CancellationToken;

/// How long and how often to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure; it doubles with each further one.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// How many calls in all, at least one.
    pub attempts: u32,
}

impl Backoff {
    /// For calls between roles: six calls in about six seconds.
    pub const CALL: Self = Self {
        first: Duration::from_millis(200),
        longest: Duration::from_secs(5),
        attempts: 6,
    };

    /// The wait after `failures` failures. `random` picks within the upper half, so that callers
    /// that failed together do not come back together.
    pub fn delay(&self, failures: u32, random: u32) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        let whole = self.first.saturating_mul(doubled).min(self.longest);
        let half = whole / 2;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

/// Whether a repeat of a call without side effects, or of one with a request id, can help.
pub const fn worth_repeating(kind: Kind) -> bool {
    match kind {
        Kind::Unavailable | Kind::Exhausted | Kind::Timeout => true,
        Kind::InvalidRequest
        | Kind::Unauthenticated
        | Kind::Forbidden
        | Kind::NotFound
        | Kind::AlreadyExists
        | Kind::Precondition
        | Kind::Conflict
        | Kind::Cancelled
        | Kind::Corrupt
        | Kind::Unsupported
        | Kind::Internal => false,
    }
}

/// Repeats `call`, which must be idempotent, while its fault says that a repeat can help.
///
/// # Errors
/// The last call's fault: when it is of another kind, the attempts are used up, or `cancel` came.
pub async fn repeat<T, F: Future<Output = Result<T, Fault>>>(
    backoff: &Backoff,
    cancel: &CancellationToken,
    mut call: impl FnMut() -> F,
) -> Result<T, Fault> {
    let mut failures = 0;
    loop {
        let fault = match call().await {
            Ok(value) => return Ok(value),
            Err(fault) => fault,
        };
        failures += 1;
        if failures >= backoff.attempts || !worth_repeating(fault.kind()) {
            return Err(fault);
        }
        let delay = backoff.delay(failures, getrandom::u32().unwrap_or(u32::MAX));
        tracing::debug!(reason = %fault.reason, failures, ?delay, "call failed, will repeat");
        if cancel
            .run_until_cancelled(tokio::time::sleep(delay))
            .await
            .is_none()
        {
            return Err(fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use stillwater_types::Reason;

    use super::*;

    const QUICK: Backoff = Backoff {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(4),
        attempts: 4,
    };

    async fn count(reason: Reason, succeed_at: u32, cancel: &CancellationToken) -> (u32, bool) {
        let mut calls = 0;
        let result = repeat(&QUICK, cancel, || {
            calls += 1;
            let succeeds = calls >= succeed_at;
            std::future::ready(if succeeds {
                Ok(())
            } else {
                Err(Fault::new(reason, "no"))
            })
        })
        .await;
        (calls, result.is_ok())
    }

    #[tokio::test]
    async fn a_passing_fault_is_repeated_until_success_or_the_last_attempt() {
        let cancel = CancellationToken::new();
        assert_eq!(
            count(Reason::RepositoryUnreachable, 3, &cancel).await,
            (3, true)
        );
        assert_eq!(count(Reason::NoProxySlot, 9, &cancel).await, (4, false));
        assert_eq!(count(Reason::Deadline, 2, &cancel).await, (2, true));
    }

    #[tokio::test]
    async fn a_lasting_fault_is_never_repeated() {
        let cancel = CancellationToken::new();
        for reason in Reason::ALL
            .iter()
            .filter(|reason| !worth_repeating(reason.kind()))
        {
            assert_eq!(count(*reason, 2, &cancel).await, (1, false), "{reason}");
        }
    }

    #[tokio::test]
    async fn a_cancelled_repeat_returns_the_fault_it_waited_for() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert_eq!(
            count(Reason::ProxyUnreachable, 3, &cancel).await,
            (1, false)
        );
    }

    #[test]
    fn waits_double_stay_under_the_longest_and_spread_over_half() {
        let backoff = Backoff::CALL;
        assert_eq!(backoff.delay(1, u32::MAX), Duration::from_millis(200));
        assert_eq!(backoff.delay(1, 0), Duration::from_millis(100));
        assert_eq!(backoff.delay(3, u32::MAX), Duration::from_millis(800));
        assert_eq!(backoff.delay(60, u32::MAX), Duration::from_secs(5));
        assert_eq!(backoff.delay(60, 0), Duration::from_millis(2500));
    }
}
