//! Runs, deletions, collection, scrub and crashes in any order, step by step, against the real store.
//!
//! The order is drawn from a seed. `INTERLEAVINGS=10000` tries that many orders, at about 15 in a second of
//! CPU time; `SEED=…` repeats one. docs/concurrency.md says what must hold and why; tests/model checks
//! the same rules exhaustively, as a model.

use std::env;

mod content;
mod world;

use world::World;

/// Steps of one order, beside those that end it.
const STEPS: u64 = 140;

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

/// Goes through one order; panics where it breaks a promise.
fn go(seed: u64) -> (u64, u64) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
    (world.committed_count, world.removed_count)
}

#[test]
fn no_order_of_steps_loses_what_was_promised_or_keeps_garbage() {
    if let Some(seed) = number("SEED") {
        go(seed);
        return;
    }
    let count = number("INTERLEAVINGS").unwrap_or(1_000);
    let halves = [0, 1].map(|half| {
        std::thread::spawn(move || {
            let (mut committed, mut removed) = (0, 0);
            for seed in (half..count).step_by(2) {
                let outcome = std::panic::catch_unwind(|| go(seed));
                let Ok((points, packs)) = outcome else {
                    panic!(
                        "replay: SEED={seed} cargo nextest run -p stillwater-store --test interleavings"
                    );
                };
                committed += points;
                removed += packs;
            }
            (committed, removed)
        })
    });
    let sums = halves.map(|half| half.join().expect("a seed failed: its number is above"));
    let (committed, removed) = (sums[0].0 + sums[1].0, sums[0].1 + sums[1].1);
    println!("{count} orders: {committed} points committed, {removed} packs removed");
    // Otherwise nothing was tried.
    assert!(committed >= count, "{committed} points in {count} orders");
    assert!(
        removed >= count,
        "{removed} packs removed in {count} orders"
    );
}
