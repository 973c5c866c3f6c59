use proptest::prelude::*;

use super::*;

/// In bytes; the last sector is not whole.
const CAPACITY: u64 = 100_000;

/// Answers as a server does: at most `most` areas, covering up to the first that is left out.
fn answer(changed: &[Extent], offset: u64, most: usize, stretch: u64) -> Page {
    let limit = (offset + stretch).min(CAPACITY);
    let after = changed
        .iter()
        .filter(|area| area.end() > offset && area.start < limit);
    let mut areas: Vec<Extent> = after
        .map(|area| {
            let start = area.start.max(offset);
            Extent::new(start, area.end().min(limit) - start)
        })
        .collect();
    let end = areas.get(most).map_or(limit, |next| next.start);
    areas.truncate(most);
    Page {
        covers: Extent::new(offset, end - offset),
        areas,
    }
}

proptest! {
    #[test]
    fn pages_of_any_size_give_the_whole_map(
        areas in prop::collection::vec((0..CAPACITY, 1..6000u64), 0..20),
        most in 1..5usize,
        stretch in (1..80u64).prop_map(|sectors| sectors * SECTOR),
    ) {
        let areas = areas.into_iter().map(|(start, length)| Extent::new(start, length));
        let map = ExtentSet::collect(areas, CAPACITY).widen(SECTOR, CAPACITY);
        let changed: Vec<Extent> = map.iter().collect();
        let mut pages = Pages::new(CAPACITY);
        while let Some(offset) = pages.next() {
            prop_assert!(offset < CAPACITY);
            let page = answer(&changed, offset, most, stretch);
            prop_assert_eq!(pages.add(page), Ok(()));
        }
        let found = pages.finish();
            prop_assert_eq!(found.areas, map);
            prop_assert!(found.oddities.is_none(), "{}", found.oddities);
    }
}

#[track_caller]
fn check(start: u64, length: u64, accepted: bool) {
    let mut pages = Pages::new(CAPACITY);
    pages
        .add(Page {
            covers: Extent::new(0, 100),
            areas: vec![],
        })
        .expect("an empty page");
    let covers = Extent::new(start, length);
    assert_eq!(
        pages
            .add(Page {
                covers,
                areas: vec![]
            })
            .is_ok(),
        accepted
    );
}

#[test]
fn a_page_must_begin_where_asked_and_make_progress() {
    check(100, CAPACITY - 100, true);
    check(100, 1, true);
    check(100, 0, false);
    check(0, CAPACITY, false);
    check(101, 899, false);
    check(99, CAPACITY, false);
}

/// The map of one page of these areas.
fn one_page(areas: &[(u64, u64)]) -> ChangedAreas {
    let mut pages = Pages::new(CAPACITY);
    let areas = areas
        .iter()
        .map(|(start, length)| Extent::new(*start, *length));
    pages
        .add(Page {
            covers: Extent::new(0, CAPACITY + 8192),
            areas: areas.collect(),
        })
        .expect("a page");
    assert_eq!(pages.next(), None);
    pages.finish()
}

#[track_caller]
fn repaired(areas: &[(u64, u64)], expected: &[(u64, u64)], odd: MapOddities) {
    let found = one_page(areas);
    let got: Vec<_> = found.areas.iter().map(|e| (e.start, e.length)).collect();
    assert_eq!(got, expected);
    assert_eq!(found.oddities, odd);
}

#[test]
fn areas_that_are_odd_are_put_right_and_told() {
    let none = MapOddities::default();
    repaired(&[(0, 512), (1024, 512)], &[(0, 512), (1024, 512)], none);
    // The disk's last sector is not whole.
    repaired(&[(99_840, 160)], &[(99_840, 160)], none);
    let overlapping = MapOddities {
        overlapping: 1,
        ..none
    };
    repaired(&[(0, 1024), (512, 1024)], &[(0, 1536)], overlapping);
    let unsorted = MapOddities {
        overlapping: 1,
        unsorted: 1,
        ..none
    };
    repaired(&[(2048, 512), (0, 512)], &[(0, 512), (2048, 512)], unsorted);
    let beyond_end = MapOddities {
        beyond_end: 2,
        ..none
    };
    repaired(
        &[(98_304, 4096), (102_400, 512)],
        &[(98_304, 1696)],
        beyond_end,
    );
    let wrapping = MapOddities {
        beyond_end: 1,
        ..none
    };
    repaired(&[(512, u64::MAX - 511)], &[(512, CAPACITY - 512)], wrapping);
    let empty = MapOddities { empty: 1, ..none };
    repaired(&[(512, 0)], &[], empty);
    let unaligned = MapOddities {
        unaligned: 1,
        ..none
    };
    repaired(&[(700, 300)], &[(512, 512)], unaligned);
}

#[test]
fn an_area_outside_its_page_is_kept_and_told() {
    let mut pages = Pages::new(CAPACITY);
    for (start, length) in [(0, 51_200), (51_200, CAPACITY - 51_200)] {
        let areas = vec![Extent::new(51_200, 512)];
        pages
            .add(Page {
                covers: Extent::new(start, length),
                areas,
            })
            .expect("a page");
    }
    let found = pages.finish();
    assert_eq!(found.areas.bytes(), 512);
    assert_eq!(
        (found.oddities.outside_page, found.oddities.overlapping),
        (1, 1)
    );
    assert!(found.oddities.to_string().contains("1 outside their page"));
}

#[test]
fn empty_pages_are_counted_and_are_not_the_end() {
    let mut pages = Pages::new(CAPACITY);
    for (start, areas) in [(0, vec![]), (50_000, vec![Extent::new(99_840, 160)])] {
        let covers = Extent::new(start, 50_000);
        pages.add(Page { covers, areas }).expect("a page");
    }
    let found = pages.finish();
    assert_eq!((found.page_count, found.empty_page_count), (2, 1));
    assert_eq!(found.areas.bytes(), 160);
}

fn fault(kind: FaultKind) -> Error {
    let message = "m".into();
    let fault = Box::new(crate::VimFault { kind, message });
    tracking_lost(
        Error::Fault {
            method: QUERY,
            fault,
        },
        2000,
    )
}

#[test]
fn a_lost_tracking_is_told_from_a_missing_map_and_from_other_trouble() {
    for lost in [
        FaultKind::FileFault,
        FaultKind::NotFound,
        FaultKind::InvalidArgument,
    ] {
        let error = fault(lost.clone());
        assert!(
            matches!(error, Error::TrackingLost { key: 2000, .. }),
            "{error:?}"
        );
        assert_eq!(error.map_failure(), MapFailure::TrackingLost);
        assert!(error.is(&lost));
    }
    for none in [
        FaultKind::NotSupported,
        FaultKind::Other("SystemError".into()),
    ] {
        assert_eq!(fault(none).map_failure(), MapFailure::NoMap);
    }
    for other in [
        FaultKind::ManagedObjectNotFound,
        FaultKind::NotAuthenticated,
    ] {
        assert_eq!(fault(other).map_failure(), MapFailure::Elsewhere);
    }
    let elsewhere = Error::BadAnswer {
        method: "Login",
        problem: String::new(),
    };
    assert_eq!(elsewhere.map_failure(), MapFailure::Elsewhere);
}

#[test]
fn a_question_is_in_schema_order() {
    let id = ChangeId::parse("52 de/7").expect("an id");
    let body = query(
        &SnapshotRef::new("snapshot-3"),
        2000,
        Since::Change(&id),
        65_536,
    );
    assert_eq!(
        body.as_str(),
        r#"<snapshot type="VirtualMachineSnapshot">snapshot-3</snapshot><deviceKey>2000</deviceKey><startOffset>65536</startOffset><changeId>52 de/7</changeId>"#
    );
}

#[test]
fn a_page_with_negative_or_missing_numbers_is_refused() {
    let good = "<returnval><startOffset>0</startOffset><length>9</length></returnval>";
    assert!(page(&Element::parse(good).expect("reads")).is_ok());
    for bad in [good.replace(">9<", ">-9<"), good.replace("length", "x")] {
        assert!(
            page(&Element::parse(&bad).expect("reads")).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn change_ids_of_one_tracking_share_their_uuid() {
    let id = |text: &str| ChangeId::parse(text).expect("an id");
    assert!(id("52 de c0/1").same_tracking(&id("52 de c0/9")));
    assert!(!id("52 de c0/1").same_tracking(&id("52 de c1/1")));
    assert_eq!(ChangeId::parse(""), None);
    assert_eq!(ChangeId::parse("*"), None);
}
