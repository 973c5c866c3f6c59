//! How many signatures a statement needs, and how long it waits for objections.

use std::time::Duration;

use stillwater_format::commit::Action;

/// How long what weakens a protection waits for a veto, in trusted time.
pub const VETO_WAIT: Duration = Duration::from_secs(72 * 3600);

/// How long a statement waits for the signatures that it lacks, in trusted time from the first one on. One that
/// lies around for longer may be completed when nobody remembers why it was made.
pub const SIGN_WITHIN: Duration = Duration::from_secs(30 * 24 * 3600);

/// The longest lock and the longest floor: whoever asks for more fills the disk for good, and one
/// administrator alone may ask.
pub const LOCK_MAX: Duration = Duration::from_secs(3653 * 24 * 3600);

/// What a statement takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    signers: usize,
    delay: Duration,
}

impl Terms {
    /// The terms while the floor is `floor`.
    pub(crate) fn of(action: &Action, floor: Duration) -> Self {
        let (signers, delay) = match action {
            Action::SetFloor { millis } if Duration::from_millis(*millis) >= floor => {
                (1, Duration::ZERO)
            }
            Action::SetFloor { .. } | Action::AdvanceTime { .. } | Action::RemoveAdmin { .. } => {
                (2, VETO_WAIT)
            }
            Action::AllowSweep { .. } | Action::AddAdmin { .. } => (2, Duration::ZERO),
            Action::Veto { .. } => (1, Duration::ZERO),
        };
        Self { signers, delay }
    }

    /// How many distinct administrators have to sign.
    pub(crate) const fn signers(self) -> usize {
        self.signers
    }

    /// How long it waits after the last signature that it needs.
    pub(crate) const fn delay(self) -> Duration {
        self.delay
    }

    pub(crate) const fn is_delayed(self) -> bool {
        !self.delay.is_zero()
    }
}
