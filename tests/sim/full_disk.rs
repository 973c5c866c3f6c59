//! I16: a disk without room.

use anyhow::{Context, Result, ensure};
use stillwater_store::Error;
use stillwater_testkit::FaultFs;

use crate::check::{check, check_point};
use crate::op::Op;
use crate::script::checkpoints;
use crate::world::World;

fn world() -> World {
    let starts = checkpoints();
    let start = &starts[1];
    let mut world = start.on(start.fs.copy(), 1);
    world.open().expect("a repository that opens");
    world
}

fn is_full(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::Full { .. }))
}

#[test]
fn within_the_reserve_packs_are_refused_and_all_else_goes_on() -> Result<()> {
    let mut world = world();
    // Something else fills the disk but for what a pack must leave free.
    world.fs.set_capacity(world.fs.taken_bytes() + (1 << 20));
    let refused = world
        .apply(&Op::Send(0, vec![12, 13]))
        .expect_err("no room");
    ensure!(is_full(&refused), "not told that it is full: {refused:#}");
    world.apply(&Op::Send(0, vec![0, 1, 2, 3]))?;
    for op in [
        Op::Propose(0),
        Op::Commit(0),
        Op::Close(0),
        Op::Pass(60),
        Op::Delete(0),
    ] {
        world.apply(&op).with_context(|| format!("I16: {op:?}"))?;
    }
    ensure!(!world.oracle.deleted.is_empty(), "nothing was deleted");
    for op in [
        Op::Collect,
        Op::Pass(30),
        Op::Collect,
        Op::Pass(200),
        Op::Collect,
    ] {
        world.apply(&op).with_context(|| format!("I16: {op:?}"))?;
    }
    check(&mut world)?;
    world.restart().context("I16: a restart")?;
    check(&mut world)?;
    world.fs.set_capacity(FaultFs::CAPACITY);
    for op in [
        Op::Open(1),
        Op::Send(1, vec![12, 13]),
        Op::Propose(1),
        Op::Commit(1),
    ] {
        world.apply(&op)?;
    }
    check(&mut world)
}

#[test]
fn with_no_room_at_all_an_open_store_restores_and_a_start_is_refused() -> Result<()> {
    let mut world = world();
    world.fs.fill();
    for (point, kept) in &world.oracle.kept {
        check_point(&world.store(), *point, kept)?;
    }
    let failed = world.apply(&Op::Pass(1)).expect_err("no room");
    ensure!(is_full(&failed), "not told that it is full: {failed:#}");
    // Starting tries the storage, which takes some room; the reserve is there for that.
    let refused = world.open().expect_err("no room").into();
    ensure!(is_full(&refused), "not told that it is full: {refused:#}");
    world.fs.heal();
    world.restart()?;
    check(&mut world)
}
