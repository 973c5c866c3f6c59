//! Trusted time: it follows the wall clock, never faster than the boot clock allows, never back.
//!
//! The wall clock can be set by whoever controls a time server. Locks are therefore reckoned in
//! `min(wall, mark + elapsed × 1.001)`, where the mark is on record and `elapsed` comes from the boot
//! clock. The time that a machine was down does not count: a lock then holds longer, never shorter.

use std::time::Duration;

use stillwater_format::Time;
use stillwater_format::superblock::TimeMark;

use crate::Clock;

/// Reckons trusted time from a mark.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeKeeper {
    mark: TimeMark,
    /// The latest time that was told: the wall clock may be set back behind it.
    told: Time,
}

impl TimeKeeper {
    /// Starts with the wall clock: there is nothing to protect yet.
    pub(crate) fn begin(clock: &dyn Clock) -> Self {
        Self::from_mark(mark(clock, clock.wall()))
    }

    /// Goes on from a mark on record.
    pub(crate) fn resume(recorded: TimeMark, clock: &dyn Clock) -> Self {
        if recorded.boot == clock.boot() {
            Self::from_mark(recorded)
        } else {
            Self::from_mark(mark(clock, recorded.time))
        }
    }

    const fn from_mark(mark: TimeMark) -> Self {
        Self {
            mark,
            told: mark.time,
        }
    }

    /// The trusted time.
    pub(crate) fn now(&mut self, clock: &dyn Clock) -> Time {
        let since_boot = millis(clock.since_boot());
        let elapsed = since_boot.saturating_sub(self.mark.boot_millis);
        let allowed = elapsed.saturating_add(elapsed / 1000);
        let latest = self.mark.time.after(Duration::from_millis(allowed));
        self.told = clock.wall().min(latest).max(self.told);
        self.told
    }

    /// Moves the mark to now; the caller puts it on record.
    pub(crate) fn advance(&mut self, clock: &dyn Clock) -> TimeMark {
        self.mark = mark(clock, self.now(clock));
        self.mark
    }
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
        let mut resumed = TimeKeeper::resume(keeper.mark, &rebooted);
        assert_eq!(resumed.now(&rebooted).millis(), START.wall);
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
            TimeKeeper::resume(keeper.mark, &later).now(&later),
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
                    keeper = TimeKeeper::resume(mark, &clock);
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
