//! The evidence of how consistent a point is, as its sealed section keeps it.

use serde::{Deserialize, Serialize};
use stillwater_vsphere::VssWriter;

use crate::guest::{HookRun, Release};
use crate::run::Level;

/// How a VM was frozen, and what is proved of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiescence {
    /// What was asked for, strongest first.
    pub asked: Vec<Level>,
    /// What is proved.
    pub achieved: Level,
    /// Tries that failed, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<QuiesceTry>,
    /// What vSphere said of VMware Tools before the freeze.
    pub tools: String,
    /// Whether the snapshot says that the guest was quiesced.
    pub quiesced: bool,
    /// What Windows or Linux told of the freeze, in base64: a shadow copy's zip or XML. None when there
    /// was nothing, or too much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
    /// The writers that took part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writers: Vec<VssWriter>,
    /// How long the VM stood still, as its log says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stun_micros: Option<u64>,
    /// How long vSphere took to make the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze_millis: Option<u64>,
    /// What could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// What came of each hook, in the order in which they ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookRun>,
    /// How the guest was released; none when no hook held it, or nothing is known of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
}

/// A try that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuiesceTry {
    /// What was tried.
    pub level: Level,
    /// Why it failed.
    pub problem: String,
}
