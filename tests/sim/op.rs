//! What clients and time do.

use stillwater_testkit::Dice;

use crate::world::ACTORS;

/// Different chunks.
pub const SEEDS: u64 = 16;

/// One thing that is done.
#[derive(Debug, Clone)]
pub enum Op {
    /// Opens a session, a new one of the same run if one is open.
    Open(usize),
    Close(usize),
    /// Asks what is missing of a disk, and sends that.
    Send(usize, Vec<u64>),
    /// Proposes the disk that was sent last.
    Propose(usize),
    Commit(usize),
    /// Acts under a fence that is over.
    StaleAct(usize),
    Delete(u64),
    Lock(u64, u32),
    Pass(u64),
    /// Somebody sets the wall clock, by hours.
    SetWall(i64),
    /// Steps of a cycle.
    Steps(u8),
    Collect,
    Scrub,
    Verify(u64),
    Restart,
}

impl Op {
    /// Any of them.
    pub fn draw(dice: &mut Dice) -> Self {
        let actor = dice.place(ACTORS);
        match dice.below(40) {
            0..4 => Op::Open(actor),
            4..6 => Op::Close(actor),
            6..14 => Op::Send(actor, seeds(dice)),
            14..19 => Op::Propose(actor),
            19..24 => Op::Commit(actor),
            24 => Op::StaleAct(actor),
            25..29 => Op::Delete(dice.draw()),
            29 => Op::Lock(dice.draw(), 1 + dice.below(48) as u32),
            30..32 => Op::Pass(1 + dice.below(60)),
            32 => Op::Pass(1 + dice.below(300)),
            33 if dice.one_in(3) => Op::SetWall(dice.below(2000) as i64 - 1000),
            33..35 => Op::Steps(1 + dice.below(10) as u8),
            35..37 => Op::Collect,
            37 => Op::Scrub,
            38 => Op::Verify(dice.draw()),
            _ => Op::Restart,
        }
    }
}

fn seeds(dice: &mut Dice) -> Vec<u64> {
    let count = 1 + dice.below(5);
    (0..count).map(|_| dice.below(SEEDS)).collect()
}
