//! What happens, by stable names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much a person should care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody or something did what it should.
    Info,
    /// To be looked at when there is time.
    Warning,
    /// To be looked at.
    Error,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal $severity:ident;)*) => {
        /// What happened. Its name is stable: sinks, scripts and runbooks match it.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub enum NoticeKind {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl NoticeKind {
            /// Every kind; each has a row in `docs/operations/events.md`.
            pub const ALL: &[NoticeKind] = &[$(NoticeKind::$name,)*];

            /// The name as it crosses the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(NoticeKind::$name => $text,)* }
            }

            /// How much a person should care.
            pub const fn severity(self) -> Severity {
                match self { $(NoticeKind::$name => Severity::$severity,)* }
            }
        }
    };
}

kinds! {
    /// A run was asked for, by a policy or a person.
    RunStarted = "RUN_STARTED" Info;
    /// A run did all that it was to do.
    RunSucceeded = "RUN_SUCCEEDED" Info;
    /// A run made a point that something of the VM is not in.
    RunIncomplete = "RUN_INCOMPLETE" Warning;
    /// A run was stopped by a fault.
    RunFailed = "RUN_FAILED" Error;
    /// A run was stopped because somebody asked.
    RunCancelled = "RUN_CANCELLED" Warning;
    /// A restore point exists.
    PointCommitted = "POINT_COMMITTED" Info;
    /// A restore point was deleted because no policy wants it any more.
    PointExpired = "POINT_EXPIRED" Info;
    /// A repository refused to delete a point that no policy wants any more.
    ExpiryRefused = "EXPIRY_REFUSED" Warning;
    /// A point is about to be written over the disks of its VM.
    DisksOverwritten = "DISKS_OVERWRITTEN" Warning;
    /// Something is wrong that a person must look at.
    AlarmRaised = "ALARM_RAISED" Error;
    /// What was wrong is over.
    AlarmCleared = "ALARM_CLEARED" Info;
    /// A node or an administrator joined the cluster.
    NodeJoined = "NODE_JOINED" Info;
    /// A node is called at another address.
    NodeMoved = "NODE_MOVED" Info;
    /// A node got a new certificate.
    CertificateRenewed = "CERTIFICATE_RENEWED" Info;
    /// A node was shut out for good.
    NodeRemoved = "NODE_REMOVED" Warning;
    /// A proxy gets no new work.
    ProxyDrained = "PROXY_DRAINED" Warning;
    /// A proxy gets work again.
    ProxyUndrained = "PROXY_UNDRAINED" Info;
    /// A token was made with which a node or an administrator can join.
    TokenCreated = "TOKEN_CREATED" Info;
    /// A vCenter was registered.
    VcenterAdded = "VCENTER_ADDED" Info;
    /// A vCenter and its password were forgotten.
    VcenterRemoved = "VCENTER_REMOVED" Warning;
    /// A policy was applied, anew or changed.
    PolicyApplied = "POLICY_APPLIED" Info;
    /// A policy was removed: nothing is started by it any more.
    PolicyRemoved = "POLICY_REMOVED" Warning;
    /// An account in guests is kept.
    CredentialSet = "CREDENTIAL_SET" Info;
    /// An account in guests was forgotten.
    CredentialRemoved = "CREDENTIAL_REMOVED" Info;
}

impl fmt::Display for NoticeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
