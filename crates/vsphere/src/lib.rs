//! The control plane of vCenter and ESXi: sessions, inventory, snapshots, changed areas.
//!
//! A thin SOAP layer of our own: requests are built in schema order, answers are read into a small
//! DOM by local names, and every fault is typed. It moves no disk bytes (that is the `disk` crate),
//! keeps nothing, and decides no policy.
//!
//! Invariants:
//! - A certificate is trusted by a CA or by its fingerprint; there is no insecure mode.
//! - A call that changes something is never sent twice unless the server said that it did not
//!   run; when its answer was lost the error says so ([`Error::OutcomeUnknown`]).
//! - A missing value is an error, never an empty one.

#[cfg(feature = "fuzz")]
mod answers;
mod area;
mod around;
mod body;
mod client;
mod collect;
mod create;
mod data;
mod datastore;
mod device;
mod dress;
mod endpoint;
mod error;
mod fetch;
mod files;
mod fingerprint;
mod guest;
mod host;
mod hotadd;
mod inventory;
mod nfc;
mod notes;
mod placement;
mod privilege;
mod reference;
mod seat;
mod server;
mod site;
mod snapshot;
mod soap;
mod task;
mod trust;
mod vm;
mod vss;
mod xml;

#[cfg(feature = "fuzz")]
pub use answers::take_answer;
pub use area::{ChangeId, ChangedAreas, MapFailure, MapOddities, Since};
pub use around::{
    CustomAttribute, StoragePolicies, Tag, TagNames, TaggedVms, Told, VmNetwork, VmPlaces,
    VmSurroundings,
};
pub use client::{About, Client};
pub use create::{
    Boot, ControllerKind, CreatedDisk, CreatedVm, Difference, INTENDED, MacAddress, NewController,
    NewDisk, NewNic, NewVm, NicKind, NicNetwork, Provisioning, Share, Switches, compare,
};
pub use data::DataAccess;
pub use datastore::{DatastoreFacts, DatastoreKind};
pub use device::{DiskTraits, RawMapping};
pub use endpoint::{Endpoint, PresentedCertificate, probe_certificate};
pub use error::{Error, FaultKind, Result, VimFault};
pub use fetch::SmallFile;
pub use fingerprint::{Fingerprint, InvalidFingerprint};
pub use guest::{Guest, GuestCommand, GuestExit, GuestLogin, GuestOutcome, GuestProcess};
pub use host::{HostConnection, HostFacts};
pub use hotadd::{AttachDisk, AttachMode, AttachedDisk, DetachDisk, Visitor};
pub use nfc::{HostIdentity, NfcAccess, NfcTicket};
pub use notes::VmNotes;
pub use placement::{Placement, PlacementSpec};
pub use privilege::{MissingPrivilege, Need, PrivilegeGroup, Scope};
pub use reference::{
    DatastoreRef, Entity, FolderRef, HostRef, NetworkRef, PoolRef, SnapshotRef, TaskRef, VmRef,
};
pub use seat::Seat;
pub use server::untrusted_certificate;
pub use site::{IdentityOwner, RestoreSite, SiteNetwork, SiteQuery};
pub use snapshot::{
    EnsuredSnapshot, FrozenDisk, Quiesce, RungOutcome, SnapshotConfig, SnapshotInfo, SnapshotSpec,
    Unmerged, VssBackup, VssContext, WindowsQuiesce,
};
pub use task::TaskOutcome;
pub use trust::Trust;
pub use vm::{
    Connection, GuestFamily, Obstacle, Power, Protectability, Tools, ToolsVersion, Vm, VmDisk,
    VmFacts, VmSummary,
};
pub use vss::{VssError, VssWriter, vss_writers};
