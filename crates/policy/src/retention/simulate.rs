//! A year of points: what a policy makes and keeps, day by day.

use std::iter::Peekable;

use jiff::Timestamp;
use jiff::civil::Date;
use stillwater_types::PointId;

use super::{Course, Keep, Point, Standing, Terms, Verdict, decide};
use crate::{Moments, Policy};

/// What is there at the end of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    /// Which day, on the policy's wall clock.
    pub date: Date,
    /// The moment that it is over.
    pub over_at: Timestamp,
    /// How many points it brought.
    pub made: usize,
    /// What is kept, oldest first, and why.
    pub kept: Vec<(Timestamp, Vec<Keep>)>,
}

/// Runs a policy for one VM as if every run succeeded at the last allowed moment.
///
/// Points that expired are gone before the next day is decided, as in life; what is left is the same
/// as if the whole history were decided at once, which tests hold against each other.
#[derive(Debug, Clone)]
pub struct Simulation<'a> {
    policy: &'a Policy,
    date: Date,
    left: u16,
    moments: Peekable<Moments<'a>>,
    made: u64,
    points: Vec<Point>,
}

impl<'a> Simulation<'a> {
    /// Begins with the first point at `from`, and goes on for so many days.
    pub fn new(policy: &'a Policy, from: Timestamp, days: u16) -> Self {
        let schedule = &policy.schedule;
        Self {
            policy,
            date: schedule.zone.date(from),
            left: days,
            moments: schedule.moments(from).peekable(),
            made: 0,
            points: Vec::new(),
        }
    }

    /// Makes every point before `end`; how many.
    fn make_until(&mut self, end: Timestamp) -> usize {
        let before = self.points.len();
        while let Some(at) = self.moments.next_if(|at| *at < end) {
            self.made += 1;
            let mut id = [0; 16];
            id[..8].copy_from_slice(&self.made.to_be_bytes());
            self.points.push(Point {
                id: PointId::from_bytes(id),
                at,
                committed_at: at,
                locked_until: None,
                standing: Standing::Good,
            });
        }
        self.points.len() - before
    }
}

impl Iterator for Simulation<'_> {
    type Item = Day;

    fn next(&mut self) -> Option<Day> {
        self.left = self.left.checked_sub(1)?;
        let date = self.date;
        self.date = date.tomorrow().ok()?;
        let zone = &self.policy.schedule.zone;
        let over_at = zone
            .time_zone()
            .to_ambiguous_timestamp(self.date.at(0, 0, 0, 0))
            .compatible()
            .ok()?;
        let made = self.make_until(over_at);
        let terms = Terms {
            retention: &self.policy.retention,
            zone: &self.policy.schedule.zone,
            course: Course::Protected,
            now: over_at,
        };
        let verdicts = decide(&self.points, &terms);
        let mut kept = Vec::new();
        let mut verdicts = verdicts.into_iter();
        self.points.retain(|point| match verdicts.next() {
            Some((_, Verdict::Keep(reasons))) => {
                kept.push((point.at, reasons));
                true
            }
            Some((_, Verdict::Expire(_))) | None => false,
        });
        Some(Day {
            date,
            over_at,
            made,
            kept,
        })
    }
}
