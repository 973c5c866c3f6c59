use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::{Policy, Schedule, Span};

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/St_Johns",
];

fn at(text: &str) -> Timestamp {
    text.parse().expect("is a moment")
}

fn id(number: u64) -> PointId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    PointId::from_bytes(bytes)
}

fn point(number: u64, moment: &str) -> Point {
    let at = at(moment);
    Point {
        id: id(number),
        at,
        committed_at: at,
        locked_until: None,
        standing: Standing::Good,
    }
}

fn terms<'a>(retention: &'a Retention, zone: &'a Zone, now: &str) -> Terms<'a> {
    Terms {
        retention,
        zone,
        course: Course::Protected,
        now: at(now),
    }
}

/// The numbers of the points that stay, of points at these moments.
#[track_caller]
fn check(retention: Retention, zone: &str, moments: &[&str], expected: &[u64]) {
    let points: Vec<Point> = (0..).zip(moments).map(|(n, at)| point(n, at)).collect();
    let zone = zone.parse().unwrap();
    let verdicts = decide(&points, &terms(&retention, &zone, "2027-06-01T00:00:00Z"));
    let kept: Vec<u64> = (0..)
        .zip(&verdicts)
        .filter(|(_, (_, verdict))| verdict.is_keep())
        .map(|(n, _)| n)
        .collect();
    assert_eq!(kept, expected, "{verdicts:?}");
}

fn daily(count: u32) -> Retention {
    Retention {
        daily: count,
        ..Retention::default()
    }
}

fn hourly(count: u32) -> Retention {
    Retention {
        hourly: count,
        ..Retention::default()
    }
}

#[test]
fn the_last_point_of_a_day_stands_for_it_and_days_without_points_do_not_count() {
    check(
        daily(2),
        "UTC",
        &[
            "2026-01-01T01:00:00Z",
            "2026-01-01T23:00:00Z",
            "2026-01-09T01:00:00Z",
            "2026-01-09T02:00:00Z",
        ],
        &[1, 3],
    );
}

#[test]
fn a_day_is_a_day_of_the_policys_wall_clock() {
    let moments = ["2026-07-01T21:30:00Z", "2026-07-01T22:30:00Z"];
    check(daily(2), "UTC", &moments, &[1]);
    check(daily(2), "Europe/Berlin", &moments, &[0, 1]);
}

#[test]
fn an_hour_that_the_clock_shows_twice_is_two_hours() {
    // 02:10 and 02:50, and 02:10 again.
    let moments = [
        "2026-10-25T00:10:00Z",
        "2026-10-25T00:50:00Z",
        "2026-10-25T01:10:00Z",
    ];
    check(hourly(2), "Europe/Berlin", &moments, &[1, 2]);
}

#[test]
fn an_hour_of_a_zone_beside_the_full_hour_is_one_hour() {
    // Kathmandu is 5:45 ahead: 12:00 to 13:00 there spans two hours of UTC.
    let moments = ["2026-05-05T06:20:00Z", "2026-05-05T07:10:00Z"];
    check(hourly(2), "Asia/Kathmandu", &moments, &[1]);
}

#[test]
fn a_period_is_told_so_that_people_know_which_one() {
    let told = |period: Period, zone: &str, moment: &str| {
        period.label(at(moment), &zone.parse().unwrap()).to_string()
    };
    let fold = ["2026-10-25T00:10:00Z", "2026-10-25T01:10:00Z"];
    let hours = fold.map(|moment| told(Period::Hour, "Europe/Berlin", moment));
    assert_eq!(
        hours,
        ["hour 2026-10-25T02+02:00", "hour 2026-10-25T02+01:00"]
    );
    let newfoundland = told(Period::Hour, "America/St_Johns", "2026-01-01T12:00:00Z");
    assert_eq!(newfoundland, "hour 2026-01-01T08-03:30");
    let rest = [Period::Day, Period::Week, Period::Month, Period::Year]
        .map(|period| told(period, "UTC", "2027-01-02T12:00:00Z"));
    assert_eq!(
        rest,
        [
            "day 2027-01-02",
            "week from 2026-12-28",
            "month 2027-01",
            "year 2027"
        ]
    );
}

#[test]
fn weeks_begin_on_monday_also_over_new_year() {
    let weekly = Retention {
        weekly: 1,
        ..Retention::default()
    };
    // Thursday 31 December 2026 and Sunday 3 January 2027 are of one week.
    let moments = [
        "2026-12-27T12:00:00Z",
        "2026-12-31T12:00:00Z",
        "2027-01-03T12:00:00Z",
    ];
    check(weekly, "UTC", &moments, &[2]);
    let two = Retention {
        weekly: 2,
        ..weekly
    };
    check(two, "UTC", &moments, &[0, 2]);
}

#[test]
fn an_unverified_point_takes_no_good_points_place() {
    let mut points = vec![
        point(0, "2026-01-01T01:00:00Z"),
        point(1, "2026-01-01T02:00:00Z"),
        point(2, "2026-01-01T03:00:00Z"),
    ];
    points[1].standing = Standing::Unverified;
    points[2].standing = Standing::Unverified;
    let (retention, zone) = (daily(1), Zone::utc());
    let verdicts = decide(&points, &terms(&retention, &zone, "2026-01-02T00:00:00Z"));
    assert!(matches!(&verdicts[0].1, Verdict::Keep(why) if why.contains(&Keep::LastGood)));
    assert_eq!(verdicts[1].1, Verdict::Expire(Expire::Unverified));
    assert_eq!(verdicts[2].1, Verdict::Keep(vec![Keep::Unverified]));
}

#[test]
fn damage_counts_for_nothing_unless_there_is_nothing_better() {
    let mut points = vec![
        point(0, "2026-01-01T01:00:00Z"),
        point(1, "2026-01-03T01:00:00Z"),
    ];
    points[1].standing = Standing::Bad;
    let (retention, zone) = (daily(1), Zone::utc());
    let terms = terms(&retention, &zone, "2026-01-04T00:00:00Z");
    let verdicts = decide(&points, &terms);
    assert!(verdicts[0].1.is_keep());
    assert_eq!(verdicts[1].1, Verdict::Expire(Expire::Bad));
    let alone = decide(&points[1..], &terms);
    assert_eq!(alone[0].1, Verdict::Keep(vec![Keep::NothingBetter]));
}

#[test]
fn nobody_expires_what_is_locked_by_the_repository_or_by_the_policy() {
    let lock = Retention {
        lock: Some(Span::from_days(3)),
        ..daily(1)
    };
    let mut points = vec![
        point(0, "2026-01-01T00:00:00Z"),
        point(1, "2026-01-02T00:00:00Z"),
        point(2, "2026-01-05T00:00:00Z"),
    ];
    points[0].locked_until = Some(at("2026-02-01T00:00:00Z"));
    let zone = Zone::utc();
    let kept = |now: &str| -> Vec<bool> {
        let verdicts = decide(&points, &terms(&lock, &zone, now));
        verdicts
            .iter()
            .map(|(_, verdict)| verdict.is_keep())
            .collect()
    };
    assert_eq!(kept("2026-01-05T00:00:00Z"), [true, false, true]);
    points[1].locked_until = None;
    let before = decide(&points, &terms(&lock, &zone, "2026-01-04T23:59:59Z"));
    assert_eq!(
        before[1].1,
        Verdict::Keep(vec![
            Keep::Locked(at("2026-01-05T00:00:00Z")),
            Keep::Period(Period::Day.label(points[1].at, &zone)),
            Keep::LastGood,
        ])
    );
}

#[test]
fn a_vm_that_left_keeps_its_points_until_the_calendar_ends_them() {
    let retention = Retention {
        keep_last: 5,
        weekly: 2,
        ..daily(3)
    };
    let points: Vec<Point> = (0..6)
        .map(|day| point(day, &format!("2026-01-0{}T12:00:00Z", day + 1)))
        .collect();
    let zone = Zone::utc();
    let kept = |course, now: &str| -> Vec<u64> {
        let terms = Terms {
            course,
            ..terms(&retention, &zone, now)
        };
        (0..)
            .zip(decide(&points, &terms))
            .filter(|(_, (_, verdict))| verdict.is_keep())
            .map(|(n, _)| n)
            .collect()
    };
    let much_later = "2027-01-01T00:00:00Z";
    assert_eq!(kept(Course::Protected, much_later), [1, 2, 3, 4, 5]);
    assert_eq!(kept(Course::Left, "2026-01-07T00:00:00Z"), [3, 4, 5]);
    assert_eq!(kept(Course::Left, "2026-01-13T00:00:00Z"), [5]);
    assert_eq!(
        kept(Course::Left, much_later),
        [5],
        "the last good one stays"
    );
}

#[test]
fn a_clock_that_jumped_ahead_takes_nothing_along_and_one_that_jumped_back_keeps_what_is_ahead() {
    let retention = daily(2);
    let zone = Zone::utc();
    let points = [
        point(0, "2026-01-01T00:00:00Z"),
        point(1, "2026-01-02T00:00:00Z"),
        point(2, "2036-01-02T00:00:00Z"),
    ];
    let ahead = decide(
        &points[..2],
        &terms(&retention, &zone, "2099-01-01T00:00:00Z"),
    );
    assert!(ahead.iter().all(|(_, verdict)| verdict.is_keep()));
    let back = decide(&points, &terms(&retention, &zone, "2026-01-03T00:00:00Z"));
    assert!(back.iter().all(|(_, verdict)| verdict.is_keep()));
    assert_eq!(back[2].1, Verdict::Keep(vec![Keep::ClockDoubtful]));
}

#[test]
fn a_year_of_points_is_told_day_by_day() {
    let text = include_str!("../policy/example.toml").replace("rpo = \"15m\"", "rpo = \"6h\"");
    let policy = Policy::parse(&text).unwrap();
    let days: Vec<Day> = Simulation::new(&policy, at("2026-01-01T00:00:00Z"), 365).collect();
    assert_eq!(days.len(), 365);
    let last = days.last().unwrap();
    assert_eq!(last.date.to_string(), "2026-12-31");
    let count = |period: Period| {
        last.kept
            .iter()
            .flat_map(|(_, why)| why)
            .filter(|why| matches!(why, Keep::Period(label) if label.period == period))
            .count()
    };
    assert_eq!(count(Period::Hour), 48);
    assert_eq!(count(Period::Day), 14);
    assert_eq!(count(Period::Week), 8);
    assert_eq!(count(Period::Month), 12);
    assert_eq!(count(Period::Year), 1);
}

#[test]
fn a_point_of_midnight_is_of_the_day_that_begins() {
    let text = include_str!("../policy/example.toml").replace("rpo = \"15m\"", "rpo = \"12h\"");
    let mut policy = Policy::parse(&text).unwrap();
    policy.schedule = Schedule::rpo(Span::from_hours(12));
    for day in Simulation::new(&policy, at("2026-01-01T00:00:00Z"), 10) {
        assert_eq!(day.made, 2, "{}", day.date);
        assert!(day.kept.iter().all(|(at, _)| *at < day.over_at));
    }
}

fn any_retention() -> impl Strategy<Value = Retention> {
    let counts = (0u32..4, 0u32..5, 0u32..5, 0u32..4, 0u32..4, 0u32..3);
    (counts, proptest::option::of(0u32..20)).prop_map(
        |((keep_last, hourly, daily, weekly, monthly, yearly), lock)| Retention {
            // A rule that keeps nothing is refused before it comes here.
            keep_last: keep_last.max(u32::from(hourly + daily + weekly + monthly + yearly == 0)),
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            lock: lock.map(Span::from_days),
        },
    )
}

fn any_zone() -> impl Strategy<Value = Zone> {
    prop::sample::select(&ZONES[..]).prop_map(|name| name.parse().expect("is a zone"))
}

fn any_standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        4 => Just(Standing::Good),
        1 => Just(Standing::Unverified),
        1 => Just(Standing::Bad),
    ]
}

/// Points at irregular steps; some steps are jumps of the clock, back and forth, by up to two years.
fn any_history(jumps: bool) -> impl Strategy<Value = Vec<Point>> {
    let ahead = prop_oneof![
        4 => 1i64..7_200,
        // Two of the same moment.
        1 => Just(0i64),
        3 => 3_600i64..200_000,
        1 => 86_400i64..10_000_000,
    ];
    let step = if jumps {
        prop_oneof![8 => ahead, 1 => -60_000_000i64..60_000_000].boxed()
    } else {
        ahead.boxed()
    };
    let lock = proptest::option::weighted(0.1, 0i64..10_000_000);
    // Around the clock change of autumn 2026 in Berlin.
    let start = at("2026-10-20T00:00:00Z");
    proptest::collection::vec((step, any_standing(), 0i64..600, lock), 1..40).prop_map(
        move |steps| {
            let mut moment = start;
            let plus = |at: Timestamp, secs| at + SignedDuration::from_secs(secs);
            (0..)
                .zip(steps)
                .map(|(number, (step, standing, took, lock))| {
                    moment = plus(moment, step);
                    Point {
                        id: id(number),
                        at: moment,
                        committed_at: plus(moment, took),
                        locked_until: lock.map(|secs| plus(moment, secs)),
                        standing,
                    }
                })
                .collect()
        },
    )
}

fn any_course() -> impl Strategy<Value = Course> {
    prop_oneof![3 => Just(Course::Protected), 1 => Just(Course::Left)]
}

fn kept(points: &[Point], terms: &Terms<'_>) -> Vec<Point> {
    let verdicts = decide(points, terms);
    let stays =
        |(point, (_, verdict)): (&Point, &(PointId, Verdict))| verdict.is_keep().then_some(*point);
    points.iter().zip(&verdicts).filter_map(stays).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn whatever_the_history_the_promises_of_retention_hold(
        points in any_history(true),
        retention in any_retention(),
        zone in any_zone(),
        course in any_course(),
        offset in -70_000_000i64..70_000_000,
        seed in any::<u64>(),
    ) {
        let newest = points.iter().map(|point| point.at).max().expect("has points");
        let now = newest + SignedDuration::from_secs(offset);
        let terms = Terms { retention: &retention, zone: &zone, course, now };
        let verdicts = decide(&points, &terms);
        prop_assert_eq!(verdicts.len(), points.len());

        let present: Vec<&Point> = points.iter().filter(|point| !is_ahead(point, now)).collect();
        let last_good = present.iter().filter(|p| p.standing == Standing::Good)
            .max_by_key(|point| (point.at, point.id));
        for (point, (id, verdict)) in points.iter().zip(&verdicts) {
            prop_assert_eq!(*id, point.id);
            let locked = point.lock_end(&retention).is_some_and(|end| end > now);
            prop_assert!(!locked || verdict.is_keep(), "inside a lock");
            prop_assert!(!is_ahead(point, now) || verdict.is_keep(), "dated ahead");
            prop_assert!(last_good.is_none_or(|last| last.id != point.id) || verdict.is_keep(), "last good");
        }
        prop_assert!(verdicts.iter().any(|(_, verdict)| verdict.is_keep()), "something is left");

        // The order in which points are told plays no part.
        let mut shuffled = points.clone();
        let mut state = seed;
        for index in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(index, (state >> 33) as usize % (index + 1));
        }
        let mut again = decide(&shuffled, &terms);
        let mut first = verdicts.clone();
        again.sort_by_key(|(id, _)| *id);
        first.sort_by_key(|(id, _)| *id);
        prop_assert_eq!(again, first.clone());

        // Once those that expired are gone, the rest stays, for the same reasons.
        let left = kept(&points, &terms);
        let mut after = decide(&left, &terms);
        after.sort_by_key(|(id, _)| *id);
        first.retain(|(_, verdict)| verdict.is_keep());
        prop_assert_eq!(after, first);
    }

    #[test]
    fn expiring_at_every_step_leaves_what_deciding_once_would_leave(
        points in any_history(false),
        retention in any_retention(),
        zone in any_zone(),
        skip in 1usize..5,
    ) {
        // Time goes on, and a decision falls after every `skip` points.
        let mut left: Vec<Point> = Vec::new();
        let mut now = Timestamp::MIN;
        for (count, point) in points.iter().enumerate() {
            left.push(*point);
            now = now.max(point.committed_at);
            if count % skip == 0 || count + 1 == points.len() {
                let terms = Terms { retention: &retention, zone: &zone, course: Course::Protected, now };
                left = kept(&left, &terms);
                let at_once = kept(&points[..=count], &terms);
                prop_assert_eq!(&left, &at_once);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_simulation_is_what_running_the_policy_leaves(
        retention in any_retention(),
        zone in any_zone(),
        hours in 1u32..30,
        from in 0i64..31_536_000,
        days in 1u16..60,
    ) {
        let mut policy = Policy::parse(include_str!("../policy/example.toml")).expect("is a policy");
        policy.retention = retention;
        policy.schedule = Schedule { zone: zone.clone(), ..Schedule::rpo(Span::from_hours(hours)) };
        let start = at("2026-01-01T00:00:00Z") + SignedDuration::from_secs(from);
        let mut made: Vec<Point> = Vec::new();
        let mut left: Vec<Point> = Vec::new();
        let mut next = start;
        for day in Simulation::new(&policy, start, days) {
            while next < day.over_at {
                let number = made.len() as u64 + 1;
                let point = Point { id: id(number), at: next, committed_at: next, ..point(0, "2026-01-01T00:00:00Z") };
                made.push(point);
                left.push(point);
                // Run by run, each followed by a decision: what a controller does.
                let terms = Terms { retention: &retention, zone: &zone, course: Course::Protected, now: next };
                left = kept(&left, &terms);
                next += SignedDuration::from_hours(i64::from(hours));
            }
            let terms = Terms { retention: &retention, zone: &zone, course: Course::Protected, now: day.over_at };
            left = kept(&left, &terms);
            let told: Vec<Timestamp> = day.kept.iter().map(|(at, _)| *at).collect();
            prop_assert_eq!(told, left.iter().map(|point| point.at).collect::<Vec<_>>());
            prop_assert_eq!(left.clone(), kept(&made, &terms));
        }
    }
}
