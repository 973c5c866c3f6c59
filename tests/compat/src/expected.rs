//! What a reader must find.

use serde::{Deserialize, Serialize};
use stillwater_types::PointId;

/// The recovery key of every golden repository: bytes 0, 7, 14 … 217, as in `docs/format.md`.
pub const RECOVERY_KEY: &str =
    "SWRK1-003G-W58W-4CN3-2E1Z-8S6N-8PV2-D5R7-EZM5-HJ9S-N8D8-NYVB-VH6B-TBCJ-VZB0";

/// All points, in the order of their commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Opens everything.
    pub recovery_key: String,
    /// The points.
    pub points: Vec<ExpectedPoint>,
}

/// A restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedPoint {
    /// Names it.
    pub point_id: PointId,
    /// Of which VM.
    pub vm_name: String,
    /// Whether it was deleted.
    pub deleted: bool,
    /// Until when it is locked, in milliseconds since 1970.
    pub retain_until: u64,
    /// The VM's configuration, which is sealed.
    pub config_xml: String,
    /// Its disks.
    pub disks: Vec<ExpectedDisk>,
}

/// A disk of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedDisk {
    /// The device key.
    pub key: i32,
    /// Bytes of the disk.
    pub length: u64,
    /// BLAKE3 of these bytes.
    pub blake3: String,
}
