//! How a disk is made: what a way of reading it must know.

use crate::xml::Element;

/// More files than a chain can have: 32 snapshots and the base, with room.
const CHAIN_MAX: usize = 64;

/// How a disk is made: what a way of reading it must know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskTraits {
    /// vSphere's type of the backing, such as `VirtualDiskFlatVer2BackingInfo`.
    pub backing: String,
    /// vSphere's type of the controller, such as `ParaVirtualSCSIController`; empty when it is not among
    /// the devices.
    pub controller: String,
    /// The raw device behind it, if it is a mapping.
    pub raw_mapping: Option<RawMapping>,
    /// Whether its file is encrypted: what is fetched as a file is not the disk's content.
    pub is_encrypted: bool,
    /// Whether space is taken only when it is written; none when the backing does not say.
    pub is_thin: Option<bool>,
    /// The files below the one that is read, nearest first. Empty for a disk without deltas.
    pub parents: Vec<String>,
}

/// How a raw device is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RawMapping {
    /// vSphere sees and can freeze its blocks.
    Virtual,
    /// vSphere never sees its blocks.
    Physical,
}

/// The traits that a backing and its controller's type tell.
pub(crate) fn traits(backing: &Element, controller: Option<&str>) -> DiskTraits {
    let mapping = backing.optional("compatibilityMode");
    let mut files = chain(backing).into_iter();
    // The first is the disk's own.
    files.next();
    DiskTraits {
        backing: backing.ty().unwrap_or_default().to_owned(),
        controller: controller.unwrap_or_default().to_owned(),
        raw_mapping: mapping.map(|mode| match mode.as_str() {
            "virtualMode" => RawMapping::Virtual,
            _ => RawMapping::Physical,
        }),
        is_encrypted: backing.find("keyId").is_some(),
        is_thin: backing.optional_value("thinProvisioned").unwrap_or(None),
        parents: files.collect(),
    }
}

/// The files of a disk, from the one that is read to the base.
fn chain(backing: &Element) -> Vec<String> {
    let backings = std::iter::successors(Some(backing), |above| above.find("parent"));
    backings
        .take(CHAIN_MAX)
        .filter_map(|backing| backing.optional("fileName"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_told_from_the_leaf_to_the_base() {
        let xml = r#"<backing xmlns:x="i" x:type="VirtualDiskSeSparseBackingInfo"><fileName>[ds] a/a-000002.vmdk</fileName><diskMode>persistent</diskMode>
            <parent x:type="VirtualDiskSeSparseBackingInfo"><fileName>[ds] a/a-000001.vmdk</fileName>
            <parent x:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds] a/a.vmdk</fileName></parent></parent></backing>"#;
        let found = traits(&Element::parse(xml).expect("reads"), None);
        assert_eq!(found.parents, ["[ds] a/a-000001.vmdk", "[ds] a/a.vmdk"]);
        assert_eq!(found.backing, "VirtualDiskSeSparseBackingInfo");
        assert_eq!((found.raw_mapping, found.is_encrypted), (None, false));
    }

    #[track_caller]
    fn check(mode: &str, expected: RawMapping) {
        let xml = format!("<backing><compatibilityMode>{mode}</compatibilityMode></backing>");
        let found = traits(&Element::parse(&xml).expect("reads"), None);
        assert_eq!(found.raw_mapping, Some(expected));
    }

    #[test]
    fn a_mapping_that_is_not_known_to_be_virtual_is_physical() {
        check("virtualMode", RawMapping::Virtual);
        check("physicalMode", RawMapping::Physical);
        check("newMode", RawMapping::Physical);
    }
}
