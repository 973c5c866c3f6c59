use proptest::prelude::*;
use stillwater_format::node::Node;

use super::*;
use crate::fixture::{Act, BLOCK, Guest, KEY, Store, any_disk, build, full, synthetic};

/// Draws spots; gives them and how many nodes that took.
fn sample(
    store: &Store,
    base: &DiskRoot,
    changed: &ExtentSet,
    budget: u64,
    seed: u64,
) -> (Vec<Spot>, usize) {
    let mut sample = Sample::new(base, changed, budget, seed).unwrap();
    let mut asked = 0;
    loop {
        match sample.step().unwrap() {
            SampleStep::Nodes(ids) => {
                assert!((1..=16).contains(&ids.len()));
                asked += ids.len();
                for id in ids {
                    assert_eq!(sample.supply(&store.nodes[&id]), Ok(id));
                }
            }
            SampleStep::Done(spots) => return (spots, asked),
        }
    }
}

/// Reads the spots of a disk in pieces.
fn lies(spots: Vec<Spot>, disk: &[u8], piece: usize) -> ExtentSet {
    let mut check = SampleCheck::new(spots, &KEY);
    for extent in check.extents().clone().iter() {
        let mut at = extent.start;
        for part in disk[at as usize..extent.end() as usize].chunks(piece) {
            check.push(at, part).unwrap();
            at += part.len() as u64;
        }
    }
    check.finish().unwrap()
}

#[test]
fn a_sample_opens_only_the_nodes_that_it_draws_from() {
    let mut store = Store::default();
    let base = full(&mut store, &synthetic(40_000));
    let (spots, asked) = sample(&store, &base, &ExtentSet::empty(), 40 * 1024, 1);
    assert!((1..=3).contains(&spots.len()));
    assert!(asked <= 1 + 3, "{asked}");
    assert_eq!(
        sample(&store, &base, &ExtentSet::empty(), 0, 1),
        (vec![], 0)
    );
    let all = ExtentSet::whole(base.length);
    assert_eq!(sample(&store, &base, &all, 1 << 20, 1), (vec![], 0));
    let nothing = full(&mut store, &[]);
    let none = ExtentSet::empty();
    assert_eq!(sample(&store, &nothing, &none, 1 << 20, 1), (vec![], 0));
}

#[test]
fn every_part_of_a_disk_is_drawn_as_often_as_it_is_large() {
    let mut store = Store::default();
    // A quarter of data, a quarter that changed, a half of zeros.
    let quarter = 1000 * BLOCK;
    let mut guest = Guest::new(5, 0);
    guest.disk = vec![0; 4 * quarter as usize];
    guest.act(&Act::Write {
        at: 0,
        length: quarter,
    });
    let base = full(&mut store, &guest.disk);
    let changed = ExtentSet::collect([Extent::new(quarter, quarter)], u64::MAX);
    let (mut data, mut zeros, mut late) = (0, 0, 0);
    for seed in 0..200 {
        for spot in sample(&store, &base, &changed, 400_000, seed).0 {
            match spot.expected {
                Expected::Chunk(_) => data += spot.extent.length,
                Expected::Zeros if spot.extent.start < 3 * quarter => zeros += spot.extent.length,
                Expected::Zeros => late += spot.extent.length,
            }
        }
    }
    // Each draw of data is a chunk of some 10 KiB, each of zeros a window of 32 KiB.
    assert!(
        zeros * 10 > late * 9 && late * 10 > zeros * 9,
        "{zeros} {late}"
    );
    let per_draw = |bytes: u64, length: u64| bytes / length;
    let (data, zeros) = (per_draw(data, 9_000), per_draw(zeros, 32_768));
    assert!(data * 2 > zeros && zeros * 2 > data, "{data} {zeros}");
}

#[test]
fn a_lie_about_a_tenth_of_the_disk_is_found_as_often_as_chance_says() {
    let mut store = Store::default();
    let mut disk = synthetic(5000);
    let base = full(&mut store, &disk);
    // The guest wrote to a tenth of its disk, data and holes, and the map is silent.
    disk[BLOCK as usize * 2000..BLOCK as usize * 2500].fill(9);
    let (mut found, mut spots) = (0, 0);
    for seed in 0..100 {
        let drawn = sample(&store, &base, &ExtentSet::empty(), 300_000, seed).0;
        spots += drawn.len();
        let lies = lies(drawn, &disk, 5000);
        assert!(
            lies.iter()
                .all(|lie| lie.start >= 1990 * BLOCK && lie.end() <= 2510 * BLOCK)
        );
        found += usize::from(!lies.is_empty());
    }
    let chance = 1.0 - 0.9_f64.powi((spots / 100) as i32);
    assert!(chance > 0.8, "{chance}");
    assert!(
        (found as f64) > 85.0 * chance,
        "{found} of 100, not {chance}"
    );
}

#[test]
fn pieces_that_do_not_fit_are_refused() {
    let spot = |start, length| Spot {
        extent: Extent::new(start, length),
        expected: Expected::Zeros,
    };
    let spots = vec![spot(10, 5), spot(15, 5), spot(40, 5)];
    let mut check = SampleCheck::new(spots, &KEY);
    assert_eq!(check.extents().len(), 2);
    let refused = CutError::OutOfOrder {
        expected: 10,
        found: 11,
    };
    assert_eq!(check.push(11, &[0]), Err(refused));
    check.push(10, &[0; 7]).unwrap();
    check.push(17, &[1; 3]).unwrap();
    assert!(check.push(20, &[0]).is_err());
    check.push(40, &[0; 5]).unwrap();
    assert!(check.push(45, &[0]).is_err());
    let lies = check.finish().unwrap();
    assert_eq!(lies.iter().collect::<Vec<_>>(), [Extent::new(15, 5)]);
    let unread = SampleCheck::new(vec![spot(10, 5)], &KEY).finish();
    assert_eq!(unread, Err(CutError::Incomplete { at: 10, length: 15 }));
}

#[test]
fn hostile_nodes_are_refused() {
    let mut store = Store::default();
    let base = build(&mut store, &[Leaf::Hole { length: 1 << 20 }]);
    let mut sample = Sample::new(&base, &ExtentSet::empty(), 1 << 20, 1).unwrap();
    let stranger = Node::leaves(vec![Leaf::Hole { length: 5 }])
        .unwrap()
        .encode();
    assert!(sample.supply(&stranger).is_err());
    assert_eq!(sample.step(), Ok(SampleStep::Nodes(vec![base.top])));
    let longer = DiskRoot {
        length: u64::MAX,
        ..base.clone()
    };
    let mut sample = Sample::new(&longer, &ExtentSet::empty(), u64::MAX, 1).unwrap();
    sample.step().unwrap();
    sample.supply(&store.nodes[&base.top]).unwrap();
    let misplaced = TreeError::Misplaced { id: base.top };
    assert_eq!(sample.step(), Err(misplaced));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_sample_of_an_honest_map_finds_no_lie(
        (seed, length, acts) in any_disk(), budget in 1..2_000_000u64, piece in 1..40_000usize,
    ) {
        let mut store = Store::default();
        let mut guest = Guest::new(seed, length);
        let base = full(&mut store, &guest.disk);
        acts.iter().for_each(|act| guest.act(act));
        let map = guest.map(0);
        let (spots, _) = sample(&store, &base, &map, budget, seed);
        prop_assert!(spots.iter().map(|spot| spot.extent.length).sum::<u64>() <= budget);
        let areas = Areas::new(&map);
        prop_assert!(spots.iter().all(|spot| !areas.overlap(spot.extent)));
        prop_assert!(spots.windows(2).all(|pair| pair[0].extent.end() <= pair[1].extent.start));
        prop_assert!(spots.iter().all(|spot| spot.extent.end() <= base.length));
        prop_assert_eq!(&sample(&store, &base, &map, budget, seed).0, &spots);
        prop_assert_eq!(lies(spots, &guest.disk, piece.max(100)), ExtentSet::empty());
    }
}
