//! One history that comes by everything the store can do, in four lives of the process.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use stillwater_store::Error;

use crate::check::{check, check_started};
use crate::op::Op;
use crate::world::{IndexKind, World};

/// What happens in each life of the process.
pub fn lives() -> [Vec<Op>; 4] {
    let backup = |actor, seeds: &[u64]| {
        [
            Op::Open(actor),
            Op::Send(actor, seeds.to_vec()),
            Op::Propose(actor),
            Op::Commit(actor),
        ]
    };
    let first = [
        backup(0, &[0, 1, 2, 3]).to_vec(),
        backup(1, &[2, 3, 4, 5]).to_vec(),
        vec![Op::Close(1), Op::Send(0, vec![6, 7])],
    ];
    // The deletion of the first point leaves one pack of garbage and one that is worth compacting.
    let second = [
        vec![Op::Propose(0), Op::Commit(0), Op::Close(0)],
        backup(2, &[4, 8, 9]).to_vec(),
        vec![
            Op::Close(2),
            Op::Pass(50),
            Op::Delete(0),
            Op::Delete(0),
            Op::Steps(4),
            Op::Collect,
        ],
        vec![Op::Open(1), Op::Send(1, vec![0, 1, 10]), Op::Verify(0)],
    ];
    let third = [
        vec![
            Op::Close(1),
            Op::Pass(30),
            Op::Collect,
            Op::Scrub,
            Op::Lock(0, 10),
        ],
        backup(0, &[0, 1, 10, 11]).to_vec(),
        vec![Op::Close(0), Op::StaleAct(0), Op::Pass(25), Op::Collect],
    ];
    let fourth = [
        vec![Op::Pass(8 * 24), Op::Collect, Op::Scrub, Op::Verify(1)],
        vec![Op::Delete(1), Op::Collect],
    ];
    [
        first.concat(),
        second.concat(),
        third.concat(),
        fourth.concat(),
    ]
}

/// The repository as it is before each life, closed.
pub fn checkpoints() -> Vec<World> {
    let mut world = World::new(5, IndexKind::Segments);
    let mut points = Vec::new();
    for (life, ops) in lives().iter().enumerate() {
        points.push(world.on(world.fs.copy(), 100 + life as u64));
        play(&mut world, life, ops, &mut |error, op| {
            panic!("{op:?}: {error:#}")
        });
        world.close();
    }
    points.push(world.on(world.fs.copy(), 99));
    points
}

/// Plays one life. What fails is told, and the next thing is tried.
pub fn play(
    world: &mut World,
    life: usize,
    ops: &[Op],
    failed: &mut dyn FnMut(&anyhow::Error, &str),
) {
    if life == 0
        && let Err(error) = world.init()
    {
        failed(&error.into(), "init");
        return;
    }
    if let Err(error) = world.open() {
        failed(&error.into(), "open");
        if world.store.is_none() {
            return;
        }
    }
    for op in ops {
        if let Err(error) = world.apply(op) {
            failed(&error, &format!("{op:?}"));
        }
    }
}

/// With storage that works again, everything is there and goes on.
pub fn go_on(world: &mut World, life: usize) -> Result<()> {
    world.close();
    world.fs = world.fs.copy();
    if life == 0 {
        match world.init() {
            Ok(()) | Err(Error::AlreadyInitialised) => {}
            Err(error) => return Err(error).context("I9: cannot be made again"),
        }
    }
    world.open().context("I15: does not open again")?;
    check_started(world)?;
    check(world)?;
    let more = [
        Op::Open(2),
        Op::Send(2, vec![0, 2, 12, 13]),
        Op::Propose(2),
        Op::Commit(2),
        Op::Close(2),
        Op::Collect,
    ];
    for op in more {
        world
            .apply(&op)
            .with_context(|| format!("I15: afterwards, {op:?}"))?;
    }
    check(world)
}

#[test]
fn the_script_comes_by_everything() {
    let points = checkpoints();
    let last = points.last().expect("a world");
    let mut seen: BTreeMap<&str, bool> = BTreeMap::new();
    let total = last.events;
    seen.insert("condemned", total.condemned > 0);
    seen.insert("spared or sent again", total.deleted > 0);
    seen.insert("quarantined", total.quarantined > 0);
    seen.insert("removed", total.removed > 0);
    seen.insert("compacted", total.compacted > 0);
    seen.insert("scrubbed", total.scrubbed > 0);
    assert!(seen.values().all(|seen| *seen), "{total:?}");
}

/// I17: with faults off, what nothing needs is gone in the end.
#[test]
fn garbage_goes_in_the_end() -> Result<()> {
    let points = checkpoints();
    for point in &points[1..] {
        let mut world = point.on(point.fs.copy(), 3);
        world.open()?;
        for actor in 0..crate::world::ACTORS {
            world.apply(&Op::Close(actor))?;
        }
        world.apply(&Op::Pass(100))?;
        while !world.oracle.kept.is_empty() {
            let before = world.oracle.kept.len();
            world.apply(&Op::Delete(0))?;
            ensure!(
                world.oracle.kept.len() < before,
                "a point whose lock is over stays"
            );
        }
        for _ in 0..5 {
            world.apply(&Op::Pass(8 * 24))?;
            world.apply(&Op::Collect)?;
            check(&mut world)?;
        }
        let paths = world.fs.paths();
        let is_left = |path: &&String| {
            ["packs/", "manifests/", "copy/manifests/", "quarantine/"]
                .iter()
                .any(|dir| path.starts_with(dir) && !path.starts_with("quarantine/index"))
        };
        let left: Vec<_> = paths.iter().filter(is_left).collect();
        ensure!(left.is_empty(), "left: {left:?}");
    }
    Ok(())
}
