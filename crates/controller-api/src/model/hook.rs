//! Programs that runs start in guests, and the accounts that they use there.

use jiff::Timestamp;
use secrecy::SecretString;

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HookPhase {
    /// Before the snapshot is asked for.
    Before,
    /// While the snapshot stands and the guest is still held.
    During,
    /// To release the guest; owed from the first hook on.
    After,
}

/// What a hook that fails means to its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HookFailure {
    /// The run fails.
    Fail,
    /// The run goes on, and is never green.
    Warn,
    /// The run goes on; only the point's evidence tells.
    Ignore,
}

/// A program of the guest that a run starts there. Nothing of it may be secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Its name.
    pub name: String,
    /// When it runs.
    pub phase: HookPhase,
    /// Its path in the guest.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// How long it may run before it is ended; the usual time when zero.
    pub timeout_seconds: u32,
    /// What it means when it fails.
    pub on_failure: HookFailure,
}

/// What came of a hook. Times are the guest's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRun {
    /// Its name.
    pub name: String,
    /// When it ran.
    pub phase: HookPhase,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Its exit code; none when it did not end by itself.
    pub exit_code: Option<i32>,
    /// Whether it ran too long and was ended.
    pub timed_out: bool,
    /// What it printed.
    pub output: String,
    /// Whether it printed more than that.
    pub truncated: bool,
}

/// How a guest that hooks held was released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookRelease {
    /// Whether the guest did it by itself because its time was over.
    pub by_watchdog: bool,
    /// When, by the guest's clock.
    pub released_at: Timestamp,
}

/// Whose guests an account is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestSubject {
    /// One VM, by id, name or inventory path.
    Vm(String),
    /// Every VM below a folder.
    Folder(GuestFolder),
}

/// A folder with VMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFolder {
    /// Id or name of the vCenter; the only one when none.
    pub vcenter: Option<String>,
    /// Its inventory path.
    pub path: String,
}

/// An account in guests, without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestCredential {
    /// Whose guests.
    pub subject: GuestSubject,
    /// The account.
    pub username: String,
}

/// Asks to keep an account for guests.
#[derive(Debug, Clone)]
pub struct SetGuestCredentialRequest {
    /// Whose guests.
    pub subject: GuestSubject,
    /// The account.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}
