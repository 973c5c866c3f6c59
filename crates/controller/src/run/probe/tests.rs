use super::*;

#[track_caller]
fn check(areas: &[(u64, u64)], bytes: u64, expected: &[(u64, u64)]) {
    let extents = areas
        .iter()
        .map(|(start, length)| Extent::new(*start, *length));
    let first = beginning(&ExtentSet::collect(extents, 1 << 40), bytes);
    let first: Vec<(u64, u64)> = first.iter().map(|area| (area.start, area.length)).collect();
    assert_eq!(first, expected);
}

#[test]
fn the_beginning_of_areas_has_so_many_bytes_and_no_more() {
    check(&[(0, 100), (200, 100)], 150, &[(0, 100), (200, 50)]);
    check(&[(0, 100), (200, 100)], 100, &[(0, 100)]);
    check(&[(8, 4)], 100, &[(8, 4)]);
    check(&[], 100, &[]);
    check(&[(0, 100)], 0, &[]);
}
