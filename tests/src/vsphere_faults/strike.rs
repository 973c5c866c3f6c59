//! What is done to vCenter, and in which ways.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::Lab;
use crate::guest::Random;

/// Longer than a controller under test waits for a task: see [`super::CONTROLLER`].
const TASK_SECONDS: f64 = 5.0;
/// So long after its run's begin a VM changes its host, at the latest.
const SWITCH_MILLIS: u64 = 900;

/// One way in which vCenter fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The session ends before the call.
    SessionExpired,
    /// The call is answered as if there were no session.
    NotAuthenticated,
    /// The account may not.
    NoPermission,
    /// What the call names is gone.
    ObjectGone,
    /// The call is answered with a fault of another kind.
    OtherFault,
    /// The connection breaks before the call is carried out.
    DroppedBefore,
    /// The call is carried out and its answer is lost.
    LostAfterSuccess,
    /// The gateway says 503.
    Unavailable,
    /// The answer comes late.
    Hang,
    /// A task ends with an error.
    TaskError,
    /// A task takes longer than anybody waits.
    TaskNeverEnds,
    /// A task's object goes away while the task runs.
    TaskLost,
    /// The VM runs on another host from some moment on.
    HostSwitch,
    /// A removal leaves its deltas, and consolidating them fails some times.
    DeltasLeft,
    /// The controller is killed.
    Killed,
}

impl Class {
    /// Those that strike one call.
    const OF_CALLS: [Class; 10] = [
        Class::SessionExpired,
        Class::NotAuthenticated,
        Class::NoPermission,
        Class::ObjectGone,
        Class::OtherFault,
        Class::DroppedBefore,
        Class::LostAfterSuccess,
        Class::Unavailable,
        Class::Hang,
        Class::TaskError,
    ];
    /// Those that strike a VM.
    const OF_VMS: [Class; 4] = [
        Class::TaskNeverEnds,
        Class::TaskLost,
        Class::HostSwitch,
        Class::DeltasLeft,
    ];

    /// What the lab calls it when it strikes a call of that method: one of several, or none when it
    /// cannot.
    fn kinds(self, method: &str) -> &'static [&'static str] {
        let is_soap = !method.contains('-');
        match self {
            Class::DroppedBefore => &["drop"],
            Class::Unavailable => &["http-503"],
            Class::Hang => &["hang:0.5", "hang:1.5"],
            // A password that was refused is not tried again for ten minutes: that is another test.
            _ if !is_soap || (method == "Login" && self != Class::LostAfterSuccess) => &[],
            Class::SessionExpired => &["expire-session"],
            Class::NotAuthenticated => &["fault:NotAuthenticated"],
            Class::NoPermission => &["fault:NoPermission"],
            Class::ObjectGone => &["fault:ManagedObjectNotFound"],
            Class::OtherFault => &[
                "fault:SystemError",
                "fault:InvalidState",
                "fault:HostCommunication",
                "fault:TaskInProgress",
            ],
            Class::LostAfterSuccess => &["drop-after"],
            Class::TaskError if method.ends_with("_Task") => &[
                "task-error:SystemError",
                "task-error:TaskInProgress",
                "task-error:FileLocked",
                "task-error:InvalidState",
                "task-error:FileFault",
                "task-error:ApplicationQuiesceFault",
            ],
            _ => &[],
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Class::SessionExpired => "session-expired",
            Class::NotAuthenticated => "not-authenticated",
            Class::NoPermission => "no-permission",
            Class::ObjectGone => "object-gone",
            Class::OtherFault => "other-fault",
            Class::DroppedBefore => "dropped-before",
            Class::LostAfterSuccess => "lost-after-success",
            Class::Unavailable => "unavailable",
            Class::Hang => "hang",
            Class::TaskError => "task-error",
            Class::TaskNeverEnds => "task-never-ends",
            Class::TaskLost => "task-lost",
            Class::HostSwitch => "host-switch",
            Class::DeltasLeft => "deltas-left",
            Class::Killed => "killed",
        })
    }
}

/// A method that a backup calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// As the lab calls it.
    pub name: String,
    /// How often a backup calls it.
    pub count: u32,
    /// Whether the lab can tell for which VM.
    pub is_of_vm: bool,
}

/// One thing that is done to vCenter.
#[derive(Debug, Clone, PartialEq)]
pub struct Strike {
    /// In which way it fails.
    pub class: Class,
    /// The VM whose run it is meant for.
    pub vm: String,
    /// The calls that are struck; none when it strikes the VM.
    call: Option<Call>,
    /// How long after the run's begin.
    pub delay: Duration,
}

#[derive(Debug, Clone, PartialEq)]
struct Call {
    method: String,
    kind: &'static str,
    after: u32,
    times: u32,
    is_of_vm: bool,
}

impl Strike {
    /// Draws one for the run of `vm`; none when `only` excludes what was drawn.
    pub fn draw(
        random: &mut Random,
        vm: &str,
        methods: &[Method],
        only: Option<&str>,
    ) -> Option<Self> {
        let mut pick = |count: usize| (random.next() % count.max(1) as u64) as usize;
        let vm = vm.to_owned();
        // One in eight strikes the VM.
        if pick(8) == 0 {
            let class = Class::OF_VMS[pick(Class::OF_VMS.len())];
            let delay = Duration::from_millis(pick(SWITCH_MILLIS as usize) as u64);
            let delay = if class == Class::HostSwitch {
                delay
            } else {
                Duration::ZERO
            };
            let is_wanted = only.is_none_or(|only| only == class.to_string());
            return is_wanted.then_some(Self {
                class,
                vm,
                call: None,
                delay,
            });
        }
        let method = methods.get(pick(methods.len()))?;
        let class = Class::OF_CALLS[pick(Class::OF_CALLS.len())];
        let kinds = class.kinds(&method.name);
        let kind = kinds.get(pick(kinds.len()))?;
        // A full read makes more calls than an increment: the first is made by both.
        let after = pick(method.count as usize) as u32 * pick(2) as u32;
        // Mostly once; two and three outlast what is tried again at once.
        let times = [1, 1, 1, 1, 2, 3, 6][pick(7)];
        let is_wanted = only.is_none_or(|only| only == method.name || only == class.to_string());
        is_wanted.then(|| Self {
            class,
            vm,
            call: Some(Call {
                method: method.name.clone(),
                kind,
                after,
                times,
                is_of_vm: method.is_of_vm,
            }),
            delay: Duration::ZERO,
        })
    }

    /// The method that is struck.
    pub fn method(&self) -> &str {
        self.call.as_ref().map_or("-", |call| &call.method)
    }

    /// Does it; answers the id of the fault when it is one of calls.
    pub fn begin(&self, lab: &Lab) -> Result<Option<u64>> {
        let Some(Call {
            method,
            kind,
            after,
            times,
            is_of_vm,
        }) = &self.call
        else {
            self.strike_vm(lab)?;
            return Ok(None);
        };
        let vm = if *is_of_vm { self.vm.as_str() } else { "" };
        let fault =
            json!({"method": method, "kind": kind, "after": after, "times": times, "vm": vm});
        let made = lab.control("POST", "/faults", Some(&fault))?;
        Ok(Some(made["id"].as_u64().context("the lab names no fault")?))
    }

    fn strike_vm(&self, lab: &Lab) -> Result<()> {
        let tasks = match self.class {
            Class::HostSwitch => return lab.act(&self.vm, "switch-host", &json!({})).map(drop),
            Class::TaskNeverEnds => {
                json!({"create_seconds": TASK_SECONDS, "remove_seconds": TASK_SECONDS})
            }
            Class::TaskLost => json!({"remove_seconds": 1.0, "vanish_seconds": 0.2}),
            _ => {
                let stuck = json!({"needed": false, "stuck_times": 2});
                lab.act(&self.vm, "consolidation-needed", &stuck)?;
                json!({"leave_deltas": true})
            }
        };
        lab.act(&self.vm, "tasks", &tasks).map(drop)
    }

    /// Lets the VM be as it was; faults of calls are taken back all together.
    pub fn end(&self, lab: &Lab) -> Result<()> {
        match self.class {
            Class::TaskNeverEnds | Class::TaskLost | Class::DeltasLeft => {
                lab.act(&self.vm, "tasks", &json!({})).map(drop)
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            class,
            vm,
            call,
            delay,
        } = self;
        write!(f, "{vm}: {class}")?;
        match call {
            Some(call) => write!(
                f,
                " {} of {} after {}, {} times",
                call.kind, call.method, call.after, call.times
            ),
            None => write!(f, " after {delay:?}"),
        }
    }
}
