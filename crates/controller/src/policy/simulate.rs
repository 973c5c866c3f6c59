//! What a policy would keep, day by day.

use std::sync::Arc;

use jiff::Timestamp;
use stillwater_controller_api as api;
use stillwater_policy::Policy;
use stillwater_policy::retention::{Day, Keep, Simulation};
use stillwater_types::{Fault, Reason};

use super::Registry;
use super::registry::parse;
use crate::retention::keep;

/// Ten years: what `yearly` keeps shows by then.
const DAYS_MAX: u16 = 3_660;
/// How many points are told at most.
const KEPT_MAX: usize = 10_000;

impl Registry {
    /// Runs a policy for one VM from now on.
    ///
    /// # Errors
    /// `BAD_FIELD`, `POLICY_NOT_FOUND`.
    pub async fn simulate(
        &self,
        request: api::SimulatePolicyRequest,
    ) -> Result<api::SimulatePolicyResponse, Fault> {
        let policy = match (request.name.as_str(), request.file.as_str()) {
            (name, "") => Arc::clone(&self.memory.state().policies.find(name)?.policy),
            ("", file) => Arc::new(parse(file)?),
            _ => return refuse("tell the name of a policy or a file, not both"),
        };
        let days = u16::try_from(request.days).unwrap_or(u16::MAX);
        if !(1..=DAYS_MAX).contains(&days) {
            return refuse(&format!("days: write a number from 1 to {DAYS_MAX}"));
        }
        let now = self.memory.now();
        // A year of points that are a minute old at most is work for a while.
        tokio::task::spawn_blocking(move || simulate(&policy, now, days))
            .await
            .map_err(|_| Fault::new(Reason::Bug, "a simulation panicked"))
    }
}

fn refuse<T>(message: &str) -> Result<T, Fault> {
    Err(Fault::new(Reason::BadField, message))
}

fn simulate(policy: &Policy, from: Timestamp, days: u16) -> api::SimulatePolicyResponse {
    let mut last = Vec::new();
    let days = Simulation::new(policy, from, days).map(|day| {
        let told = tell(&day);
        last = day.kept;
        told
    });
    let days = days.collect();
    api::SimulatePolicyResponse {
        name: policy.name.clone(),
        days,
        kept: last.into_iter().rev().take(KEPT_MAX).map(point).collect(),
    }
}

fn tell(day: &Day) -> api::SimulatedDay {
    api::SimulatedDay {
        date: day.date.to_string(),
        over_at: day.over_at,
        made_count: count(day.made),
        kept_count: count(day.kept.len()),
        oldest_at: day.kept.first().map(|(at, _)| *at),
    }
}

fn point((at, why): (Timestamp, Vec<Keep>)) -> api::SimulatedPoint {
    api::SimulatedPoint {
        at,
        why: why.iter().map(keep).collect(),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_of_a_policy_is_told_by_day_and_its_end_by_point() {
        let policy = "name = 'gold'\n[[scope.include]]\nname = '*'\n[schedule]\nrpo = '1d'\n[retention]\ndaily = 14\nmonthly = 3\n[store]\nrepository = 'main'\n";
        let policy = Policy::parse(policy).expect("is a policy");
        let from = "2026-01-01T12:00:00Z".parse().expect("is a moment");
        let told = simulate(&policy, from, 365);
        assert_eq!(told.days.len(), 365);
        let day = |number: usize| &told.days[number];
        assert_eq!(day(0).date, "2026-01-01");
        assert_eq!((day(0).made_count, day(0).kept_count), (1, 1));
        assert_eq!(day(13).kept_count, 14);
        assert_eq!(
            day(364).kept_count,
            16,
            "14 days and the ends of 2 more months"
        );
        assert_eq!(told.kept.len(), 16);
        assert_eq!(told.kept[0].at.to_string(), "2026-12-31T12:00:00Z");
        let why = [
            "the last of day 2026-12-31",
            "the last of month 2026-12",
            "the newest good one",
        ];
        assert_eq!(told.kept[0].why, why);
        assert_eq!(told.kept[15].why, ["the last of month 2026-10"]);
        assert_eq!(day(364).oldest_at, Some(told.kept[15].at));
    }
}
