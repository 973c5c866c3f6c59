//! The store under every failure of its storage, by the thousand: scripted and random histories on a
//! file system in memory that tears, forgets, fills up and fails.
//!
//! Where each invariant is checked (numbers as in the reliability plan):
//!
//! | | invariant | where |
//! |---|---|---|
//! | I1 | what was acknowledged is readable after any crash | `check`: records of sessions and of points |
//! | I2 | a committed point restores byte for byte | `check_point`, after every crash, error and flip |
//! | I3 | what was not committed is not visible | `check`: the listing holds nothing that nobody committed |
//! | I4 | points go only by a permitted deletion | `check`: the listing lacks nothing that nobody deleted |
//! | I5 | collection removes nothing that a point or an open session needs | `check_sessions`, `commit` without sending |
//! | I6 | what the index says is stored is | `check_sessions` |
//! | I7 | the index made anew tells the same | `check_again`: memory against segments |
//! | I8 | opening again changes nothing | `check_again` |
//! | I9 | recovery may be cut off and recovers | `power_cut::outcome`, up to three times |
//! | I10 | locks never shrink, and hold for any clock | `World::delete`, `World::lock`, `settle`, with clocks that are set |
//! | I11 | a fence is higher than all before, and a stale one is refused | `World::open_session`, `World::act_stale` |
//! | I12 | the log is a chain without gap, its copies alike | `check_started` |
//! | I13, I14 | a flipped bit or a cut never serves a wrong byte | `damage` |
//! | I15 | an error at any call is typed, and the repository goes on | `failing_call` |
//! | I16 | a full disk still restores and deletes | `failing_call`, `full_disk` |
//! | I17 | garbage goes in the end | `script`: the last cycles leave what points reach |
//!
//! `make sim` runs all of it in full. `SEED=…` repeats one history.

mod campaign;
mod check;
mod content;
mod damage;
mod failing_call;
mod full_disk;
mod knock_out;
mod op;
mod oracle;
mod power_cut;
mod script;
mod world;
