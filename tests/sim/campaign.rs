//! How much is tried, and from which seeds.

use std::env;
use std::str::FromStr;

/// A number from the environment.
pub fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
    )
}

/// How much is tried: `usual` in `make test`, what `SIM_STATES` says in `make sim`.
pub fn amount(usual: u64) -> u64 {
    setting("SIM_STATES").unwrap_or(usual)
}

/// Whether everything is tried, as in `make sim`.
pub fn is_full() -> bool {
    setting::<u64>("SIM_STATES").is_some()
}

/// What a failing test prints, so that one command repeats it.
pub fn replay(test: &str, seed: u64) -> String {
    format!("replay: SEED={seed} cargo nextest run -p stillwater-tests --test sim {test}")
}
