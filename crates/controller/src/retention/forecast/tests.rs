use super::super::fixture::*;
use super::*;
use crate::schedule::Promises;

const AMPLE: Budget = Budget {
    days: 366,
    units: 1_000_000,
};

fn forecast_at(now: i64, held: Vec<Held>, promises: &Promises, budget: Budget) -> Vec<(u8, i64)> {
    let repositories = shelves();
    let present = Present {
        promises,
        repositories: &repositories,
        now: day(now),
    };
    let gone = forecast(held, &present, &mut budget.clone());
    let days = |at: Timestamp| at.duration_since(day(0)).as_hours() / 24;
    gone.into_iter()
        .map(|(point, at)| (point.as_bytes()[0], days(at)))
        .collect()
}

#[test]
fn points_go_as_new_ones_come_and_the_calendar_says() {
    let gone = forecast_at(5, points(3..=5), &gold("keep-last = 3"), AMPLE);
    assert_eq!(gone, [(3, 6), (4, 7), (5, 8)]);
    // The point of day 6, a Sunday, stands for its week.
    let gone = forecast_at(6, points(4..=6), &gold("keep-last = 2\nweekly = 3"), AMPLE);
    assert_eq!(gone, [(4, 6), (5, 7), (6, 21)]);
}

#[test]
fn of_a_vm_that_left_all_but_the_last_go() {
    let left = promises(vec![promise("gold", "daily = 3", "main", &[])]);
    let gone = forecast_at(5, points(3..=5), &left, AMPLE);
    assert_eq!(gone, [(3, 6), (4, 7)]);
}

#[test]
fn what_nobody_ends_is_not_told_to_end() {
    let mut held = points(3..=5);
    held[0].policy = None;
    held[1].retain_until = day(100);
    let gone = forecast_at(5, held, &gold("keep-last = 1"), AMPLE);
    assert_eq!(gone, [(4, 100), (5, 6)]);
}

#[test]
fn whoever_asks_for_too_much_is_told_nothing_wrong() {
    let some = Budget { units: 10, ..AMPLE };
    assert_eq!(
        forecast_at(5, points(3..=9), &gold("keep-last = 3"), some),
        []
    );
}

/// What was foretold is what comes, day by day, in the code that expires points.
#[test]
fn what_is_foretold_comes() {
    let promises = gold("keep-last = 2\ndaily = 5\nweekly = 3\nmonthly = 2");
    let repositories = shelves();
    let present = |now: i64| Present {
        promises: &promises,
        repositories: &repositories,
        now: day(now),
    };
    let foretold = forecast_at(40, points(1..=40), &promises, AMPLE);
    let (mut held, mut gone) = (points(1..=40), Vec::new());
    for now in 40..200 {
        let judged = judge(held, &present(now));
        held = Vec::new();
        for judged in judged {
            match judged.fate {
                Fate::Keep(_) => held.push(judged.held),
                Fate::Expire(_) => gone.push((judged.held.point.as_bytes()[0], now)),
            }
        }
        let next = u8::try_from(now + 1).expect("fits");
        held.push(point(next, Some("gold")));
    }
    gone.retain(|(number, _)| *number <= 40);
    gone.sort_unstable();
    assert_eq!(foretold, gone);
    assert_eq!(gone.len(), 40, "all of them went: {gone:?}");
}
