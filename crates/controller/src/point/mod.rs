//! Restore points as the repositories keep them.
//!
//! The repositories decide what exists; the controller only remembers what they told, to answer
//! lists quickly and while one of them is away. It opens the section that only key holders read.

mod cache;
mod quiescence;
mod section;
mod service;
mod surroundings;
mod verification;

use stillwater_format::manifest::Manifest;
use stillwater_proxy_api as proxy_api;
use stillwater_repository_api::GetPointResponse;
use stillwater_seal::DatasetKey;
use stillwater_types::{Fault, Reason};

use crate::run::Root;

pub use cache::{KnownPoint, Points};
pub use quiescence::{QuiesceTry, Quiescence};
pub use section::{DiskNote, EvidenceNote, How, ReadingNote, Section};
pub use service::Service;
pub use surroundings::{Attribute, Network, Nvram, Policy, Surroundings, Tag};
pub use verification::Verifications;

/// A point with everything that a key holder can read.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenedPoint {
    /// What everybody can read.
    pub manifest: Manifest,
    /// What only key holders can.
    pub section: Section,
}

impl OpenedPoint {
    /// Reads a point that a repository told, and holds it against what it was asked for.
    ///
    /// # Errors
    /// `MANIFEST_UNREADABLE`, `FORMAT_TOO_NEW`, and `SECRET_UNREADABLE` when the key is another.
    pub fn open(stored: &GetPointResponse, key: &DatasetKey) -> Result<Self, Fault> {
        let manifest = decode(stored)?;
        let section = Section::open(key, &manifest)?;
        Ok(Self { manifest, section })
    }
}

/// Reads the manifest and checks that it is the one of the commit record.
fn decode(stored: &GetPointResponse) -> Result<Manifest, Fault> {
    let unreadable = |what: String| {
        Fault::new(Reason::ManifestUnreadable, what).with("point", stored.point.point_id)
    };
    let hash = stillwater_format::manifest::manifest_hash(&stored.manifest);
    if hash != stored.point.manifest_hash {
        return Err(unreadable(
            "the manifest is not the one that was committed".to_owned(),
        ));
    }
    let manifest = Manifest::decode(&stored.manifest).map_err(|error| match error {
        stillwater_format::Error::TooNew { .. } => {
            Fault::new(Reason::FormatTooNew, format!("read a manifest: {error}"))
        }
        error => unreadable(error.to_string()),
    })?;
    if manifest.point != stored.point.point_id || manifest.dataset != stored.point.dataset_id {
        return Err(unreadable("the manifest is another point's".to_owned()));
    }
    Ok(manifest)
}

/// A root that a proxy told, as the journal keeps it.
pub(crate) fn root_of(root: proxy_api::DiskRoot) -> Root {
    let proxy_api::DiskRoot {
        length_bytes,
        cutter,
        top,
        level,
    } = root;
    Root {
        length_bytes,
        cutter,
        top,
        level,
    }
}
