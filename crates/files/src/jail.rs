//! Giving up everything that reading bytes does not need.

use std::collections::BTreeMap;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// What a session's bounds and cache come to, several times over.
const MEMORY_MAX: u64 = 2 << 30;
/// Longer than the largest file takes to unpack.
const CPU_SECONDS_MAX: u64 = 4 * 3600;

/// Calls that memory and the end of a process need, whatever their arguments.
const CALLS: &[libc::c_long] = &[
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Why a process could not be shut in. It must not go on then.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// Of the filter of system calls.
    #[error("filter system calls")]
    Calls(#[source] Failure),
    /// Of Landlock; that a kernel has none is no error.
    #[error("restrict access to files and network")]
    Access(#[from] landlock::RulesetError),
    /// Of the limits.
    #[error("limit memory and time")]
    Limits(#[from] rustix::io::Errno),
}

/// Shuts this process in, for ever: no file, no network, no other process, a bound on memory and time.
///
/// # Errors
/// When the kernel does not allow it. Old kernels have no Landlock, which is no error: the filter of system calls
/// refuses all that Landlock would.
pub fn enter() -> Result<(), JailError> {
    let limit = |resource, value| {
        let limit = Rlimit {
            current: Some(value),
            maximum: Some(value),
        };
        setrlimit(resource, limit)
    };
    limit(Resource::As, MEMORY_MAX)?;
    limit(Resource::Cpu, CPU_SECONDS_MAX)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Nproc, 0)?;
    let abi = ABI::V4;
    Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .create()?
        .restrict_self()?;
    limit(Resource::Nofile, 0)?;
    filter().map_err(JailError::Calls)
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// That an argument of a call is this number.
fn argument(number: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Failure> {
    let condition = SeccompCondition::new(number, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

/// Whatever is not in the list fails, as if nobody might. What was open in the process that started this one is
/// out of reach too: only the standard input is read, only the standard outputs are written, only memory is
/// mapped.
fn filter() -> Result<(), Failure> {
    const ANONYMOUS: u64 = libc::MAP_ANONYMOUS as u64;
    let equal = |number, value| argument(number, SeccompCmpOp::Eq, value);
    let memory = argument(3, SeccompCmpOp::MaskedEq(ANONYMOUS), ANONYMOUS)?;
    let mut rules: BTreeMap<_, _> = CALLS.iter().map(|&call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_read, vec![equal(0, 0)?]);
    rules.insert(libc::SYS_write, vec![equal(0, 1)?, equal(0, 2)?]);
    rules.insert(libc::SYS_mmap, vec![memory]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}
