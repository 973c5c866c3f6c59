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

/// No byte is left; what files have of their own may be written again.
fn cram(world: &World) {
    world.fs.set_capacity(world.fs.taken_bytes());
}

/// Points are whole, and what is sent is refused; or the session already, where even the room that
/// the log has for itself cannot be written.
fn ensure_serves_without_room(world: &mut World) -> Result<()> {
    for (point, kept) in &world.oracle.kept {
        let store = world.store();
        check_point(&store, *point, kept)?;
        ensure!(store.verify_point(*point, &())?.is_whole(), "I16: {point}");
    }
    let refused = match world.apply(&Op::Open(2)) {
        Err(refused) => refused,
        Ok(_) => {
            let refused = world.apply(&Op::Send(2, vec![12, 13]));
            world.apply(&Op::Close(2)).context("I16: a session's end")?;
            refused.expect_err("no room")
        }
    };
    ensure!(is_full(&refused), "not told that it is full: {refused:#}");
    ensure!(world.store().is_writable(), "I16: it stopped");
    Ok(())
}

#[test]
fn with_no_room_at_all_a_start_restores_deletes_and_collects_until_there_is_some() -> Result<()> {
    let mut world = world();
    for op in [Op::Close(0), Op::Close(1), Op::Pass(60)] {
        world.apply(&op)?;
    }
    cram(&world);
    world.open().context("I16: a start")?;
    // A restore needs a session and no room.
    for op in [Op::Open(2), Op::Close(2)] {
        world.apply(&op).with_context(|| format!("I16: {op:?}"))?;
    }
    ensure_serves_without_room(&mut world)?;
    let kept_count = world.oracle.kept.len();
    for turn in 0..3 {
        for op in [Op::Delete(0), Op::Collect, Op::Pass(30), Op::Collect] {
            world.apply(&op).with_context(|| format!("I16: {op:?}"))?;
            cram(&world);
        }
        world.open().with_context(|| format!("I16: start {turn}"))?;
        ensure_serves_without_room(&mut world)?;
    }
    ensure!(world.oracle.kept.len() < kept_count, "nothing was deleted");
    let taken = world.fs.taken_bytes();
    for op in [Op::Pass(200), Op::Collect] {
        world.apply(&op).with_context(|| format!("I16: {op:?}"))?;
    }
    ensure!(world.fs.taken_bytes() < taken, "nothing was made room of");
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
fn a_disk_that_takes_not_even_what_is_there_already_restores_and_stops_nothing() -> Result<()> {
    let mut world = world();
    world.apply(&Op::Close(0))?;
    world.apply(&Op::Pass(60))?;
    world.fs.fill();
    // Twice: what the first start failed to write, the second one does without.
    for _ in 0..2 {
        world.open().context("I16: a start")?;
        ensure_serves_without_room(&mut world)?;
        for op in [Op::Pass(1), Op::Delete(0)] {
            let refused = world.apply(&op).expect_err("no room");
            ensure!(is_full(&refused), "not told that it is full: {refused:#}");
            ensure!(world.store().is_writable(), "I16: it stopped at {op:?}");
        }
    }
    // Without a restart.
    world.fs.heal();
    for op in [Op::Open(1), Op::Delete(0), Op::Collect] {
        world.apply(&op).with_context(|| format!("I16: {op:?}"))?;
    }
    ensure!(!world.oracle.deleted.is_empty(), "nothing was deleted");
    check(&mut world)?;
    world.restart()?;
    check(&mut world)
}
