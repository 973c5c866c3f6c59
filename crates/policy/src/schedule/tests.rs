use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("is a moment")
}

fn schedule(text: &str) -> Schedule {
    toml::from_str(text).expect("is a schedule")
}

/// The next times after `from`, in UTC.
#[track_caller]
fn check(cron: &str, zone: &str, from: &str, expected: &[&str]) {
    let schedule = schedule(&format!("cron = '{cron}'\ntime-zone = '{zone}'"));
    let mut last = at(from);
    let times: Vec<String> = (0..expected.len())
        .map(|_| {
            last = schedule.next_time(last).expect("comes");
            last.to_string()
        })
        .collect();
    assert_eq!(times, expected, "{cron} {zone}");
}

#[test]
fn a_time_that_a_gap_swallows_comes_at_its_end() {
    // On 29 March 2026 the clock in Berlin goes from 02:00 to 03:00.
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T00:00:00Z",
        &[
            "2026-03-28T01:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-30T00:30:00Z",
        ],
    );
}

#[test]
fn a_time_that_a_fold_repeats_comes_once() {
    // On 25 October 2026 the clock in Berlin shows 02:30 twice.
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T12:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    );
}

#[test]
fn times_in_steps_follow_the_wall_clock_through_gap_and_fold() {
    check(
        "0 * * * *",
        "Europe/Berlin",
        "2026-03-29T00:30:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"],
    );
    check(
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-10-24T23:45:00Z",
        &[
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
        ],
    );
    // Half an hour is what Lord Howe moves.
    check(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T00:00:00Z",
        &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
    );
}

#[test]
fn what_never_comes_or_has_another_number_of_fields_is_refused() {
    let refused = |text: &str| toml::from_str::<Schedule>(text).unwrap_err().to_string();
    for cron in ["0 0 30 2 *", "0 0 2 * * *", "0 0", "61 * * * *", "@reboot"] {
        let told = refused(&format!("cron = '{cron}'\ntime-zone = 'UTC'"));
        assert!(told.contains("schedule.cron"), "{told}");
    }
    let all_day = "rpo = '1h'\ntime-zone = 'UTC'\nblackout = [{ from = '06:00', to = '06:00' }]";
    assert!(refused(all_day).contains("leave no time"));
    assert!(refused("rpo = '1h'\nwithin = '1h'").contains("write neither"));
    assert!(refused("rpo = '1h'\ncron = '0 2 * * *'").contains("not both"));
}

#[test]
fn a_leap_day_is_worth_waiting_for() {
    check(
        "0 0 29 2 *",
        "UTC",
        "2026-01-01T00:00:00Z",
        &["2028-02-29T00:00:00Z"],
    );
}

#[test]
fn a_window_goes_on_into_the_next_day() {
    let schedule = schedule(
        "rpo = '1h'\ntime-zone = 'Europe/Berlin'\nblackout = [{ days = ['fri'], from = '22:00', to = '06:00' }, { days = ['sat'], from = '05:00', to = '07:00' }]",
    );
    // Friday 6 November 2026; the second window begins before the first one ends.
    let free = |text: &str| schedule.allowed(at(text)).to_string();
    assert_eq!(free("2026-11-06T20:59:59Z"), "2026-11-06T20:59:59Z");
    assert_eq!(free("2026-11-06T21:00:00Z"), "2026-11-07T06:00:00Z");
    assert_eq!(free("2026-11-07T05:59:59Z"), "2026-11-07T06:00:00Z");
    assert_eq!(free("2026-11-07T06:00:00Z"), "2026-11-07T06:00:00Z");
    assert_eq!(free("2026-11-08T00:00:00Z"), "2026-11-08T00:00:00Z");
    assert_eq!(schedule.blackout_until(at("2026-11-08T00:00:00Z")), None);
}

#[test]
fn a_window_in_a_fold_is_never_shorter_than_it_reads() {
    let schedule = schedule(
        "rpo = '1h'\ntime-zone = 'Europe/Berlin'\nblackout = [{ from = '02:15', to = '02:45' }]",
    );
    let free = |text: &str| schedule.allowed(at(text)).to_string();
    // The first pass of 02:15 to the second pass of 02:45.
    assert_eq!(free("2026-10-25T00:15:00Z"), "2026-10-25T01:45:00Z");
    assert_eq!(free("2026-10-25T00:14:59Z"), "2026-10-25T00:14:59Z");
    // The gap swallows it.
    assert_eq!(free("2026-03-29T01:00:00Z"), "2026-03-29T01:00:00Z");
}

#[test]
fn the_promise_stands_still_in_a_window() {
    let schedule =
        schedule("rpo = '2h'\ntime-zone = 'UTC'\nblackout = [{ from = '08:00', to = '18:00' }]");
    let after = |text: &str, span| schedule.after(at(text), span).to_string();
    let two = Span::from_hours(2);
    assert_eq!(after("2026-05-05T05:00:00Z", two), "2026-05-05T07:00:00Z");
    assert_eq!(after("2026-05-05T07:00:00Z", two), "2026-05-05T19:00:00Z");
    assert_eq!(after("2026-05-05T12:00:00Z", two), "2026-05-05T20:00:00Z");
    // Fourteen free hours a day.
    let long = Span::from_hours(29);
    assert_eq!(after("2026-05-05T18:00:00Z", long), "2026-05-07T19:00:00Z");
}
