use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const NOW: Time = Time::from_millis(1_000_000_000_000);

/// At entry 100 of the log, with sessions 40 and 60 open.
fn scene() -> Scene {
    Scene {
        sequence: 100,
        now: Some(NOW),
        open: vec![60, 40],
        condemn_wait: 24 * HOUR,
        quarantine_wait: 7 * 24 * HOUR,
        compact_below_percent: 50,
    }
}

/// A pack of 1000 bytes of records that nothing reaches.
const DEAD: Pack = Pack {
    fence: 10,
    record_bytes: 1000,
    is_whole: true,
    is_ours: true,
    standing: None,
    live_bytes: 0,
};

fn ago(span: Duration) -> Time {
    Time::from_millis(NOW.millis() - span.as_millis() as u64)
}

fn condemned(sequence: u64, since: Duration) -> Pack {
    let at = ago(since);
    let standing = Some(Standing::Condemned { sequence, at });
    Pack { standing, ..DEAD }
}

#[track_caller]
fn check(scene: &Scene, pack: Pack, expected: Verdict) {
    assert_eq!(scene.judge(&pack), expected, "{pack:?}");
}

#[test]
fn a_pack_that_nothing_reaches_is_condemned() {
    check(&scene(), DEAD, Verdict::Condemn);
    check(&scene(), Pack { fence: 100, ..DEAD }, Verdict::Condemn);
}

#[test]
fn what_an_open_session_wrote_is_kept() {
    for fence in [40, 60] {
        check(&scene(), Pack { fence, ..DEAD }, Verdict::Keep);
        let live_bytes = 1;
        let pack = Pack {
            fence,
            live_bytes,
            ..DEAD
        };
        check(&scene(), pack, Verdict::Keep);
    }
    check(&scene(), Pack { fence: 50, ..DEAD }, Verdict::Condemn);
}

#[test]
fn a_pack_of_a_session_that_the_cycle_has_not_seen_is_kept() {
    check(&scene(), Pack { fence: 101, ..DEAD }, Verdict::Keep);
}

#[test]
fn what_is_damaged_or_of_an_unknown_dataset_is_left_alone() {
    let damaged = Pack {
        is_whole: false,
        ..DEAD
    };
    let foreign = Pack {
        is_ours: false,
        ..DEAD
    };
    check(&scene(), damaged, Verdict::Untouched);
    check(&scene(), foreign, Verdict::Untouched);
    let standing = condemned(30, 48 * HOUR).standing;
    check(
        &scene(),
        Pack {
            standing,
            ..damaged
        },
        Verdict::Untouched,
    );
    check(
        &scene(),
        Pack {
            standing,
            ..foreign
        },
        Verdict::Untouched,
    );
}

#[test]
fn a_pack_that_is_mostly_dead_is_compacted() {
    for (live_bytes, expected) in [
        (1, Verdict::Compact),
        (499, Verdict::Compact),
        (500, Verdict::Keep),
        (1000, Verdict::Keep),
    ] {
        check(&scene(), Pack { live_bytes, ..DEAD }, expected);
    }
}

#[test]
fn a_condemned_pack_goes_when_its_wait_is_over_and_no_older_session_is_open() {
    check(&scene(), condemned(30, 24 * HOUR), Verdict::Quarantine);
    // Session 40 opened after it was condemned, and cannot see it.
    check(&scene(), condemned(39, 24 * HOUR), Verdict::Quarantine);
}

#[test]
fn a_condemned_pack_waits_for_time() {
    let millisecond = Duration::from_millis(1);
    let pack = condemned(30, 24 * HOUR - millisecond);
    check(&scene(), pack, Verdict::Wait(None));
}

#[test]
fn a_condemned_pack_waits_for_every_session_that_could_see_it() {
    let long_ago = 1000 * HOUR;
    check(&scene(), condemned(41, long_ago), Verdict::Wait(Some(40)));
    check(&scene(), condemned(61, long_ago), Verdict::Wait(Some(40)));
    let open = vec![60];
    let scene = Scene { open, ..scene() };
    check(&scene, condemned(59, long_ago), Verdict::Quarantine);
    check(&scene, condemned(61, long_ago), Verdict::Wait(Some(60)));
}

#[test]
fn a_condemned_pack_that_something_reaches_is_spared_at_once() {
    let live_bytes = 1;
    for since in [Duration::ZERO, 1000 * HOUR] {
        for sequence in [30, 90] {
            let pack = condemned(sequence, since);
            check(&scene(), Pack { live_bytes, ..pack }, Verdict::Spare);
        }
    }
}

#[test]
fn nothing_is_taken_out_while_time_is_in_doubt() {
    let scene = Scene {
        now: None,
        ..scene()
    };
    check(&scene, condemned(30, 1000 * HOUR), Verdict::Wait(None));
    assert!(!scene.is_removable(ago(1000 * HOUR)));
    // What takes nothing out goes on.
    check(&scene, DEAD, Verdict::Condemn);
    let live_bytes = 1;
    let pack = condemned(30, HOUR);
    check(&scene, Pack { live_bytes, ..pack }, Verdict::Spare);
}

#[test]
fn what_was_decided_is_not_decided_again() {
    let at = ago(1000 * HOUR);
    for standing in [
        Standing::Quarantined { at },
        Standing::Damaged,
        Standing::Removed,
    ] {
        let standing = Some(standing);
        check(&scene(), Pack { standing, ..DEAD }, Verdict::Keep);
    }
}

#[test]
fn a_quarantine_lasts_its_time() {
    let week = 7 * 24 * HOUR;
    assert!(scene().is_removable(ago(week)));
    assert!(!scene().is_removable(ago(week - Duration::from_millis(1))));
}
