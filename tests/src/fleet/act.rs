//! What befalls a fleet, and when.

use std::fmt;

use anyhow::Result;

use super::world::World;

/// One thing that an administrator or bad luck does. Proxies count from zero.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    Kill(usize),
    Start(usize),
    Drain(usize),
    Undrain(usize),
    Unplug(usize),
    PlugIn(usize),
    Add(usize),
    RestartController,
}

impl Act {
    /// All acts with the minute in which each is due, spread over so many minutes.
    pub fn script(minutes: u32) -> Vec<(u32, Act)> {
        use Act::{Add, Drain, Kill, PlugIn, RestartController, Start, Undrain, Unplug};
        // In hundredths of the time.
        let acts = [
            (20, Kill(0)),
            (26, Start(0)),
            (32, Drain(1)),
            (40, Undrain(1)),
            (45, Unplug(2)),
            (48, PlugIn(2)),
            (52, Add(4)),
            (60, Kill(1)),
            (60, Kill(3)),
            (65, Start(1)),
            (67, Start(3)),
            (75, RestartController),
            (82, Drain(4)),
            (90, Undrain(4)),
        ];
        let due = |(at, act)| (at * minutes / 100, act);
        acts.map(due).to_vec()
    }

    /// Does it.
    pub fn play(self, world: &mut World) -> Result<()> {
        match self {
            Act::Kill(n) => world.kill(n),
            Act::Start(n) => world.start(n),
            Act::Drain(n) => world.tell_proxy("drain", n),
            Act::Undrain(n) => world.tell_proxy("undrain", n),
            Act::Unplug(n) => world.unplug(n),
            Act::PlugIn(n) => world.plug_in(n),
            Act::Add(n) => world.add(n),
            Act::RestartController => world.restart_controller(),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, proxy) = match self {
            Act::Kill(n) => ("kill -9", n),
            Act::Start(n) => ("start", n),
            Act::Drain(n) => ("drain", n),
            Act::Undrain(n) => ("undrain", n),
            Act::Unplug(n) => ("pull the cable of", n),
            Act::PlugIn(n) => ("plug in", n),
            Act::Add(n) => ("add", n),
            Act::RestartController => return f.write_str("kill -9 the controller, and start it"),
        };
        write!(f, "{word} proxy-{}", proxy + 1)
    }
}
