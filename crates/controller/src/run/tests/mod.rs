//! The engine against worlds that fail at every call, and against kills at every journal entry.

mod faults;
mod flow;
mod hooks;
mod kills;
mod pool;
mod reaping;
mod ways;
mod world;
