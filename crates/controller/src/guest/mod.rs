//! Work inside guests: programs that hold a guest still around its freeze, and the accounts for them.

mod credential;
mod drive;
mod hook;
mod keeper;
mod service;

pub use credential::{Account, CredentialEvent, Credentials, Subject};
pub use drive::Drive;
pub use hook::{Hook, HookEnd, HookRun, Hooks, OnFailure, Phase, Release};
pub use keeper::Keeper;
pub use service::Service;
