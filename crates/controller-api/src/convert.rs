//! Wire to domain and back: checked on receipt, never on sending.

mod alarm;
mod event;
mod hook;
mod job;
mod node;
mod point;
mod policy;
mod probe;
mod repository;
mod restore;
mod run;
mod vcenter;
mod vm;

#[cfg(test)]
mod tests;
