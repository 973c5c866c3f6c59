//! Running a target over many inputs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::mutate::mutate;
use crate::random::Random;
use crate::targets::Target;

/// No input takes longer, on the slowest machine that there is: all bounds are small.
const TIME_MAX: Duration = Duration::from_secs(20);
/// The address space of a process that runs targets: far above what bounds allow, far below what a length
/// field of 32 bits can ask for.
const MEMORY_MAX: u64 = 3 << 30;

/// How long to go on.
#[derive(Debug, Clone, Copy)]
pub enum Budget {
    /// So many inputs.
    Cases(u64),
    /// So long.
    Time(Duration),
}

/// An input that a target does not take.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The target.
    pub target: &'static str,
    /// The seed of the run.
    pub seed: u64,
    /// The number of the input in it.
    pub case: u64,
    /// The input.
    pub input: Vec<u8>,
    /// What went wrong.
    pub what: String,
}

/// Lets no allocation of this process go far beyond the bounds of the formats.
///
/// # Errors
/// When the system does not allow it.
pub fn cap_memory() -> std::io::Result<()> {
    let limit = rustix::process::Rlimit {
        current: Some(MEMORY_MAX),
        maximum: Some(MEMORY_MAX),
    };
    Ok(rustix::process::setrlimit(
        rustix::process::Resource::As,
        limit,
    )?)
}

/// Runs a target over its seeds and over what becomes of them; tells how many inputs it took.
///
/// # Errors
/// The first input that it did not take.
pub fn run(target: &Target, seed: u64, budget: Budget) -> Result<u64, Failure> {
    let seeds = (target.seeds)();
    let began = Instant::now();
    let mut case = 0;
    loop {
        let input = input(target, &seeds, seed, case);
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        let what = match outcome {
            Err(panic) => Some(words(&*panic)),
            Ok(()) if start.elapsed() > TIME_MAX => Some(format!("took {:?}", start.elapsed())),
            Ok(()) => None,
        };
        if let Some(what) = what {
            let target = target.name;
            return Err(Failure {
                target,
                seed,
                case,
                input,
                what,
            });
        }
        case += 1;
        let is_over = match budget {
            Budget::Cases(cases) => case >= cases,
            Budget::Time(time) => began.elapsed() >= time,
        };
        if is_over {
            return Ok(case);
        }
    }
}

/// First every seed as it is, then seeds that were changed, some with mended checksums.
fn input(target: &Target, seeds: &[Vec<u8>], seed: u64, case: u64) -> Vec<u8> {
    if let Some(first) = usize::try_from(case).ok().and_then(|case| seeds.get(case)) {
        return first.clone();
    }
    // Each case is drawn by itself, so that it can be repeated by itself.
    let mut random = Random::new(seed ^ case.wrapping_mul(0xd6e8_feb8_6659_fd93));
    let mut input = random.pick(seeds).cloned().unwrap_or_default();
    mutate(&mut random, &mut input, seeds);
    if random.below(4) > 0 {
        (target.mend)(&mut input);
    }
    input
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic".to_owned())
}
