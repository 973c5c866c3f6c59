//! Trusted time: it follows the wall clock, never faster than the boot clock allows, never back.
//!
//! The wall clock can be set by whoever controls a time server. Locks are therefore reckoned in
//! `min(wall, mark + elapsed × 1.001)`, where the mark is on record and `elapsed` comes from the boot
//! clock. The time that a machine was down does not count: a lock then holds longer, never shorter.
//!
//! While the wall clock is behind, trusted time stands still, and what passes then is not made up for when
//! the wall clock comes forward again: a lock that began meanwhile would be over too early.
//!
//! Whoever moves the wall clock therefore gains nothing, but has a reason: while wall clock and boot
//! clock do not agree any more, nothing is deleted.

use std::fmt;
use std::time::Duration;

use stillwater_format::Time;
use stillwater_format::superblock::TimeMark;

use crate::Clock;

/// How far the wall clock may be from where the boot clock says.
const DOUBT: Duration = Duration::from_secs(300);
/// How often the reference follows the drift of the two clocks.
const DRIFT_EVERY_MILLIS: u64 = 60_000;

/// By how much the wall clock was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Whether it was set forward.
    pub forward: bool,
    /// By so much.
    pub by: Duration,
}

/// The clock is in doubt, and nothing is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frozen {
    /// The trusted time at which that was noticed.
    pub since: Time,
    /// How the wall clock was set.
    pub moved: Moved,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.forward { "forward" } else { "back" };
        write!(f, "{way} by {} s", self.by.as_secs())
    }
}

/// Reckons trusted time from a mark.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeKeeper {
    mark: TimeMark,
    /// The mark that a restart in this boot goes on from.
    recorded: TimeMark,
    /// The latest time that was told: the wall clock may be set back behind it.
    told: Time,
    reference: Reference,
    frozen: Option<Frozen>,
}

/// Where the wall clock was when the boot clock was there.
#[derive(Debug, Clone, Copy)]
struct Reference {
    wall: u64,
    boot_millis: u64,
}

impl TimeKeeper {
    /// Starts with the wall clock: there is nothing to protect yet.
    pub(crate) fn begin(clock: &dyn Clock) -> Self {
        Self::from_mark(mark(clock, clock.wall()), clock)
    }

    /// Goes on from a mark on record, and not before `told`, which is on record elsewhere.
    pub(crate) fn resume(recorded: TimeMark, told: Time, clock: &dyn Clock) -> Self {
        let mark = if recorded.boot == clock.boot() {
            recorded
        } else {
            mark(clock, recorded.time)
        };
        let mut keeper = Self::from_mark(mark, clock);
        keeper.raise(told);
        keeper
    }

    fn from_mark(mark: TimeMark, clock: &dyn Clock) -> Self {
        Self {
            mark,
            recorded: mark,
            told: mark.time,
            reference: Reference::of(clock),
            frozen: None,
        }
    }

    /// Moves on to a time that was told before, or that administrators demanded.
    pub(crate) fn raise(&mut self, told: Time) {
        self.told = self.told.max(told);
    }

    /// Whether wall clock and boot clock agree since this process was started; why not, if they do not.
    pub(crate) fn watch(&mut self, clock: &dyn Clock) -> Option<Frozen> {
        let since = self.now(clock);
        let moved = self.reference.compare(clock);
        if moved.by <= DOUBT {
            self.reference.follow(moved, clock);
            if self.frozen.take().is_some() {
                tracing::warn!("the clock is right again; deletions go on");
            }
            return None;
        }
        let since = self.frozen.map_or(since, |frozen| frozen.since);
        if self.frozen.is_none() {
            tracing::error!(%moved, "the clock was set; nothing is deleted until it is right again");
        }
        self.frozen = Some(Frozen { since, moved });
        self.frozen
    }

    /// The trusted time.
    pub(crate) fn now(&mut self, clock: &dyn Clock) -> Time {
        let latest = latest(self.mark, clock);
        self.told = clock.wall().min(latest).max(self.told);
        // Whoever was told this may begin a lock with it: what passed until now must not count later, not
        // even if the wall clock comes forward before the lock is on record.
        if self.told < latest {
            self.mark = mark(clock, self.told);
        }
        self.told
    }

    /// How far a restart could get ahead of what was told, had the wall clock been behind until now.
    pub(crate) fn unrecorded(&self, clock: &dyn Clock) -> Duration {
        latest(self.recorded, clock).since(self.told)
    }

    /// Moves the mark to now; the caller puts it on record.
    pub(crate) fn advance(&mut self, clock: &dyn Clock) -> TimeMark {
        self.mark = mark(clock, self.now(clock));
        self.recorded = self.mark;
        self.mark
    }
}

impl Reference {
    fn of(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.wall().millis(),
            boot_millis: millis(clock.since_boot()),
        }
    }

    /// Where the wall clock is, against where it would be had nobody set it.
    fn compare(&self, clock: &dyn Clock) -> Moved {
        let wall = clock.wall().millis();
        let elapsed = millis(clock.since_boot()).saturating_sub(self.boot_millis);
        let expected = self.wall.saturating_add(elapsed);
        Moved {
            forward: wall > expected,
            by: Duration::from_millis(wall.abs_diff(expected)),
        }
    }

    /// Two clocks drift apart by less than a thousandth without anyone's doing: over months, that must
    /// not add up to a doubt.
    fn follow(&mut self, moved: Moved, clock: &dyn Clock) {
        let since_boot = millis(clock.since_boot());
        let elapsed = since_boot.saturating_sub(self.boot_millis);
        if elapsed < DRIFT_EVERY_MILLIS {
            return;
        }
        let drift = millis(moved.by).min(elapsed / 1000);
        let expected = self.wall.saturating_add(elapsed);
        self.wall = if moved.forward {
            expected.saturating_add(drift)
        } else {
            expected.saturating_sub(drift)
        };
        self.boot_millis = since_boot;
    }
}

/// The latest time that a mark allows.
fn latest(mark: TimeMark, clock: &dyn Clock) -> Time {
    let elapsed = millis(clock.since_boot()).saturating_sub(mark.boot_millis);
    let allowed = elapsed.saturating_add(elapsed / 1000);
    mark.time.after(Duration::from_millis(allowed))
}

fn mark(clock: &dyn Clock, time: Time) -> TimeMark {
    TimeMark {
        time,
        boot: clock.boot(),
        boot_millis: millis(clock.since_boot()),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy)]
    struct Set {
        wall: u64,
        since_boot: u64,
        boot: u8,
    }

    impl Clock for Set {
        fn wall(&self) -> Time {
            Time::from_millis(self.wall)
        }
        fn since_boot(&self) -> Duration {
            Duration::from_millis(self.since_boot)
        }
        fn boot(&self) -> [u8; 16] {
            [self.boot; 16]
        }
    }

    const START: Set = Set {
        wall: 1_000_000,
        since_boot: 5_000,
        boot: 1,
    };
    const TEN_YEARS: u64 = 315_360_000_000;

    #[test]
    fn a_wall_clock_set_forward_frees_nothing() {
        let mut keeper = TimeKeeper::begin(&START);
        let jumped = Set {
            wall: START.wall + TEN_YEARS,
            since_boot: START.since_boot + 10_000,
            ..START
        };
        assert_eq!(keeper.now(&jumped).millis(), START.wall + 10_010);
        let rebooted = Set {
            boot: 2,
            since_boot: 0,
            ..jumped
        };
        let mut resumed = TimeKeeper::resume(keeper.mark, Time::default(), &rebooted);
        assert_eq!(resumed.now(&rebooted).millis(), START.wall);
    }

    #[test]
    fn what_was_told_while_the_wall_clock_was_behind_is_not_made_up_for() {
        let mut keeper = TimeKeeper::begin(&START);
        let behind = Set {
            wall: START.wall - 1,
            since_boot: START.since_boot + 86_400_000,
            ..START
        };
        assert_eq!(keeper.now(&behind).millis(), START.wall);
        let right = Set {
            wall: START.wall + TEN_YEARS,
            ..behind
        };
        assert_eq!(keeper.now(&right).millis(), START.wall);
        assert!(keeper.unrecorded(&right) > Duration::from_secs(86_000));
        keeper.advance(&right);
        assert_eq!(keeper.unrecorded(&right), Duration::ZERO);
    }

    #[test]
    fn a_restarted_process_of_the_same_boot_loses_no_time() {
        let keeper = TimeKeeper::begin(&START);
        let later = Set {
            wall: START.wall + 60_000,
            since_boot: START.since_boot + 60_000,
            ..START
        };
        assert_eq!(
            TimeKeeper::resume(keeper.mark, Time::default(), &later).now(&later),
            later.wall()
        );
    }

    proptest! {
        #[test]
        fn time_never_goes_back_nor_faster_than_the_boot_clock(
            steps in prop::collection::vec((any::<i32>(), 0..100_000u64, any::<bool>()), 1..30),
        ) {
            let (mut clock, mut keeper) = (START, TimeKeeper::begin(&START));
            let (mut last, mut elapsed) = (keeper.now(&clock), 0);
            for (wall, passed, reboot) in steps {
                clock.wall = clock.wall.saturating_add_signed(i64::from(wall));
                if reboot {
                    let mark = keeper.advance(&clock);
                    clock.boot = clock.boot.wrapping_add(1);
                    clock.since_boot = 0;
                    keeper = TimeKeeper::resume(mark, Time::default(), &clock);
                } else {
                    clock.since_boot += passed;
                    elapsed += passed;
                }
                let now = keeper.now(&clock);
                prop_assert!(now >= last);
                prop_assert!(now.millis() <= START.wall + elapsed + elapsed / 1000);
                last = now;
            }
        }
    }
}
