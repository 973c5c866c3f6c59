use std::collections::BTreeMap;

use proptest::prelude::*;
use stillwater_types::RunId;

use super::*;

#[track_caller]
fn check<T: std::fmt::Debug>(result: Result<T, FieldError>, expected: &str) {
    let fault = Fault::from(result.expect_err("the field is wrong"));
    assert_eq!(fault.reason, Reason::BadField);
    assert_eq!(fault.message, expected);
}

#[test]
fn a_wrong_field_is_named_with_what_is_wrong() {
    check(
        id::<RunId>("run_id", ""),
        "field run_id is malformed: \"\" is not a valid run id",
    );
    check(text("name", String::new()), "field name is missing");
    check(
        hash::<32>("salt", &[0; 31]),
        "field salt must have 32 bytes and has 31",
    );
    check(
        hashes("ids", &[0; 33], 9),
        "field ids must be ids of 32 bytes each",
    );
    check(
        hashes("ids", &[0; 96], 2),
        "field ids has 3 ids, at most 2 go",
    );
    check(
        bytes("manifest", &[0; 5][..], 4),
        "field manifest has 5 bytes, at most 4 go",
    );
    check(
        bytes("manifest", &[0; 0][..], 4),
        "field manifest is missing",
    );
    check(time("ended_at", None), "field ended_at is missing");
    check(choice::<()>("kind", None), "field kind is missing");
}

#[test]
fn a_moment_that_no_clock_shows_is_refused() {
    for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000)] {
        let moment = Some(prost_types::Timestamp { seconds, nanos });
        assert!(time("started_at", moment).is_err(), "{seconds} {nanos}");
    }
}

#[test]
fn a_field_of_a_field_is_named_by_its_path() {
    let error = FieldError::new("dataset_id", "is missing").within("store");
    let fault = Fault::from(error);
    assert_eq!(
        fault.details.get("field").map(String::as_str),
        Some("store.dataset_id")
    );
}

#[test]
fn a_reason_of_a_newer_release_stays_readable() {
    let newer = fault("DISK_ON_FIRE", "fetch water".into(), BTreeMap::new());
    assert_eq!(newer.reason, Reason::NotSupported);
    assert_eq!(
        newer.details.get("reason").map(String::as_str),
        Some("DISK_ON_FIRE")
    );
    let known = fault("VM_NOT_FOUND", "no".into(), BTreeMap::new());
    assert_eq!(known, Fault::new(Reason::VmNotFound, "no"));
}

#[test]
fn a_page_has_at_least_one_entry_and_at_most_the_limit() {
    assert_eq!(
        [0, 1, 1000, 1001].map(|asked| page_size(asked, 100, 1000)),
        [100, 1, 1000, 1000]
    );
}

proptest! {
    #[test]
    fn a_moment_is_read_as_it_was_sent(
        seconds in -62_135_596_800i64..253_402_200_000,
        nanos in 0..1_000_000_000i32,
    ) {
        let sent = prost_types::Timestamp { seconds, nanos };
        let read = time("at", Some(sent)).unwrap();
        prop_assert_eq!(moment(read), sent);
        prop_assert_eq!(time("at", Some(moment(read))).unwrap(), read);
    }
}
