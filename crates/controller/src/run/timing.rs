//! How long runs wait, and how often they try.

use std::time::Duration;

use stillwater_rpc::retry::Backoff;

/// How long runs wait, and how often they try; passed in, so that tests are quick.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long a snapshot may live. A run that takes longer fails.
    pub lease: Duration,
    /// How long before the lease's end a run is stopped, so that its snapshot goes in time.
    pub lease_margin: Duration,
    /// When a fresh session is renewed first; then at a third of what it has left.
    pub renew_first: Duration,
    /// The longest wait until a session is renewed, whatever the repository's clock says; less than
    /// a third of what a session lasts.
    pub renew_longest: Duration,
    /// How often a data session is used, so that it does not fall idle: moving data does not count,
    /// and vCenter ends a session after 30 idle minutes, or what its administrator chose.
    pub touch_access: Duration,
    /// How long to wait before a guest that could not be quiesced is asked again.
    pub quiesce_pause: Duration,
    /// How long a run waits for a proxy slot.
    pub slot_wait: Duration,
    /// How long disks that are to be attached are waited for, so that they are attached together.
    pub gather: Duration,
    /// How long a disk waits for its share of a host.
    pub host_wait: Duration,
    /// Calls that prepare: reading the VM, opening a session.
    pub call: Backoff,
    /// Proposing and committing: everything was moved already, so it is worth more patience.
    pub commit: Backoff,
    /// Giving back what a run holds.
    pub release: Backoff,
    /// Looking for a transfer whose proxy does not answer.
    pub follow: Backoff,
    /// How long a proxy may say nothing of a transfer.
    pub silence: Duration,
    /// How long an export waits for its reader.
    pub export: Duration,
    /// How often an export is looked after.
    pub export_poll: Duration,
    /// How often known leftovers are reaped.
    pub reap_every: Duration,
    /// How often all VMs are searched for leftovers.
    pub search_every: Duration,
    /// How long a leftover may resist before it is an alarm.
    pub alarm_after: Duration,
    /// How long a grant is valid: longer than any restore, for it cannot be renewed. It is worth
    /// nothing without the run's session, which ends with the run.
    pub grant: Duration,
}

const fn backoff(first_ms: u64, longest_s: u64, attempts: u32) -> Backoff {
    Backoff {
        first: Duration::from_millis(first_ms),
        longest: Duration::from_secs(longest_s),
        attempts,
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(24 * 3600),
            lease_margin: Duration::from_secs(15 * 60),
            renew_first: Duration::from_secs(5),
            renew_longest: Duration::from_secs(10),
            touch_access: Duration::from_secs(3 * 60),
            quiesce_pause: Duration::from_secs(5),
            slot_wait: Duration::from_secs(10 * 60),
            gather: Duration::from_millis(300),
            host_wait: Duration::from_secs(30 * 60),
            call: Backoff::CALL,
            commit: backoff(500, 15, 12),
            release: backoff(500, 15, 8),
            follow: backoff(500, 5, 6),
            silence: Duration::from_secs(30),
            export: Duration::from_secs(3600),
            export_poll: Duration::from_millis(500),
            reap_every: Duration::from_secs(20),
            search_every: Duration::from_secs(600),
            alarm_after: Duration::from_secs(15 * 60),
            grant: Duration::from_secs(14 * 24 * 3600),
        }
    }
}
