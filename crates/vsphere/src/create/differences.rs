//! Whether a new VM is what the saved configuration says, field by field.

use std::collections::BTreeMap;

use super::hardware::is_own;
use crate::Result;
use crate::device;
use crate::xml::{Element, Problem};

/// Fields in which a restored VM differs from its source on purpose, and why. `*` stands for anything.
///
/// Disks are `disk CONTROLLER BUS:UNIT`, controllers `controller KIND BUS`, network cards `card NUMBER`,
/// and everything else of the hardware `device KIND NUMBER`.
pub const INTENDED: &[(&str, &str)] = &[
    ("name", "the name that was asked for"),
    (
        "annotation",
        "carries the mark of the restore in its last line",
    ),
    (
        "uuid",
        "a new identity, unless the original one is asked for",
    ),
    (
        "instanceUuid",
        "a new identity, unless the original one is asked for",
    ),
    ("locationId", "a new identity"),
    ("npiv*", "world wide names of the old vm are not taken over"),
    ("changeVersion", "counts changes of this vm"),
    ("modified", "when this vm was changed"),
    ("createDate", "when this vm was made"),
    ("template", "a template only where one is asked for"),
    ("guestFullName", "the server's words for the guest id"),
    ("files.*", "its own directory"),
    ("datastoreUrl*", "where its own directory is"),
    ("vmxConfigChecksum", "of its own file"),
    ("initialOverhead*", "worked out by the server"),
    ("swapStorageObjectId", "its own swap file"),
    ("vmStorageObjectId", "its own directory"),
    ("keyId*", "restored in clear; the plan says so"),
    ("ftInfo*", "not restored; the plan says so"),
    ("repConfig*", "replication is not restored"),
    ("managedBy*", "no other product manages it yet"),
    ("vAppConfig*", "not restored; the plan says so"),
    ("bootOptions.bootOrder*", "not restored; the plan says so"),
    ("cpuAffinity*", "not restored; the plan says so"),
    ("cpuFeatureMask*", "of the old host's processors"),
    ("scheduledHardwareUpgradeInfo*", "not restored"),
    ("changeTrackingEnabled", "turned on by the first backup"),
    ("tools.*", "told by VMware Tools when the guest runs"),
    (
        "*Allocation.shares.shares",
        "worked out by the server from the level",
    ),
    (
        "latencySensitivity.sensitivity",
        "worked out by the server from the level",
    ),
    ("controller *.key", "numbers that the server gives"),
    ("controller *.device*", "numbers that the server gives"),
    (
        "controller *.controllerKey",
        "numbers that the server gives",
    ),
    ("controller *.unitNumber", "numbers that the server gives"),
    (
        "controller *.scsiCtlrUnitNumber",
        "numbers that the server gives",
    ),
    ("controller *.slotInfo*", "numbers that the server gives"),
    ("controller *.deviceInfo*", "the server's words"),
    (
        "controller *.sharedBus",
        "no bus is shared: its other vms are not restored with it",
    ),
    ("disk *.key", "numbers that the server gives"),
    ("disk *.controllerKey", "numbers that the server gives"),
    ("disk *.deviceInfo*", "the server's words"),
    ("disk *.backing.fileName", "its own file"),
    ("disk *.backing.datastore", "as planned"),
    ("disk *.backing.backingObjectId", "its own file"),
    ("disk *.backing.uuid", "its own file"),
    ("disk *.backing.contentId", "its own content from now on"),
    ("disk *.backing.changeId", "its own changes from now on"),
    ("disk *.backing.parent*", "it has no snapshots"),
    ("disk *.backing.delta*", "it has no snapshots"),
    ("disk *.backing.thinProvisioned", "as planned"),
    ("disk *.backing.eagerlyScrub", "as planned"),
    (
        "disk *.backing.keyId*",
        "restored in clear; the plan says so",
    ),
    ("disk *.diskObjectId", "its own file"),
    ("disk *.vDiskId*", "its own file"),
    ("card *.key", "numbers that the server gives"),
    ("card *.controllerKey", "numbers that the server gives"),
    ("card *.unitNumber", "numbers that the server gives"),
    ("card *.slotInfo*", "numbers that the server gives"),
    ("card *.deviceInfo*", "the server's words"),
    ("card *.backing.*", "as planned"),
    (
        "card *.macAddress",
        "a new identity, unless the original one is asked for",
    ),
    (
        "card *.addressType",
        "a new identity, unless the original one is asked for",
    ),
    ("card *.externalId", "a new identity"),
    (
        "card *.connectable.connected",
        "how it is now, not how it starts",
    ),
    (
        "card *.connectable.status",
        "how it is now, not how it starts",
    ),
    (
        "device *",
        "made by the server for every vm, or not restored, and then the plan says so",
    ),
];

/// Why a further setting is not the same.
const OWN_SETTING: &str = "says something of one vm at one place";

/// A field in which two VMs differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The field, such as `bootOptions.bootDelay`.
    pub field: String,
    /// What the saved configuration says; none when it says nothing.
    pub source: Option<String>,
    /// What the new VM has; none when it has nothing.
    pub restored: Option<String>,
    /// Why that is as it should be; none when it is not.
    pub intended: Option<&'static str>,
}

/// Every field in which a new VM differs from the configuration that it was made from.
///
/// # Errors
/// [`crate::Error::BadConfig`] when one of them cannot be read.
pub fn compare(source_xml: &str, restored_xml: &str) -> Result<Vec<Difference>> {
    let read = |xml: &str| Element::parse(xml).and_then(|config| fields(&config));
    let source = read(source_xml).map_err(super::hardware::bad)?;
    let restored = read(restored_xml).map_err(super::hardware::bad)?;
    let names = source.keys().chain(restored.keys());
    let names: std::collections::BTreeSet<&String> = names.collect();
    let differing = names
        .into_iter()
        .filter(|name| source.get(*name) != restored.get(*name));
    Ok(differing
        .map(|name| Difference {
            field: name.clone(),
            source: source.get(name).cloned(),
            restored: restored.get(name).cloned(),
            intended: intended(name),
        })
        .collect())
}

fn intended(field: &str) -> Option<&'static str> {
    if let Some(key) = field.strip_prefix("extraConfig.") {
        return is_own(key).then_some(OWN_SETTING);
    }
    let listed = INTENDED.iter().find(|(pattern, _)| fits(pattern, field));
    listed.map(|(_, why)| *why)
}

/// Whether a text is what a pattern with `*` says.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut rest) = text.strip_prefix(head) else {
        return false;
    };
    loop {
        if fits(tail, rest) {
            return true;
        }
        let mut chars = rest.chars();
        if chars.next().is_none() {
            return false;
        }
        rest = chars.as_str();
    }
}

type Fields = BTreeMap<String, String>;

fn fields(config: &Element) -> Result<Fields, Problem> {
    let mut fields = Fields::new();
    for child in &config.children {
        match child.name.as_str() {
            "hardware" => hardware(child, &mut fields)?,
            "extraConfig" => {
                let key = child.optional("key").unwrap_or_default();
                let value = child.optional("value").unwrap_or_default();
                fields.insert(format!("extraConfig.{key}"), value);
            }
            name => flatten(child, name.to_owned(), &mut fields),
        }
    }
    Ok(fields)
}

fn hardware(hardware: &Element, fields: &mut Fields) -> Result<(), Problem> {
    let devices: Vec<&Element> = hardware.all("device").collect();
    for (name, device) in names(&devices)?.into_iter().zip(&devices) {
        for child in &device.children {
            flatten(child, format!("{name}.{}", child.name), fields);
        }
    }
    let plain = hardware.children.iter().filter(|c| c.name != "device");
    for child in plain {
        flatten(child, format!("hardware.{}", child.name), fields);
    }
    Ok(())
}

/// What each device is called: by its place where it has one, for keys are the server's.
fn names(devices: &[&Element]) -> Result<Vec<String>, Problem> {
    let mut places = BTreeMap::new();
    for device in devices {
        if let Some(bus) = device.optional_value::<i32>("busNumber")? {
            let key: i32 = device.value("key")?;
            let kind = device.ty().unwrap_or_default();
            places.insert(key, format!("{kind} {bus}"));
        }
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut numbered = |kind: String| {
        let number = seen.entry(kind.clone()).or_default();
        *number += 1;
        format!("{kind} {number}")
    };
    devices
        .iter()
        .map(|device| {
            let kind = device.ty().unwrap_or_default();
            let key: i32 = device.value("key")?;
            if device::is_disk(device) {
                let controller: i32 = device.value("controllerKey")?;
                let unit: i32 = device.value("unitNumber")?;
                let place = places.get(&controller).cloned().unwrap_or_default();
                return Ok(format!("disk {place}:{unit}"));
            }
            if super::hardware::is_made_controller(device) {
                let place = places.get(&key).cloned().unwrap_or_default();
                return Ok(format!("controller {place}"));
            }
            Ok(match super::hardware::is_card(device) {
                true => numbered("card".to_owned()),
                false => numbered(format!("device {kind}")),
            })
        })
        .collect()
}

/// The values below an element by their paths; those of a list are numbered.
fn flatten(element: &Element, path: String, fields: &mut Fields) {
    if element.children.is_empty() {
        let mut name = path.clone();
        let mut number = 1;
        while fields.contains_key(&name) {
            number += 1;
            name = format!("{path}[{number}]");
        }
        fields.insert(name, element.text.trim().to_owned());
    }
    for child in &element.children {
        flatten(child, format!("{path}.{}", child.name), fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"<config xmlns:x="i"><name>web</name><guestId>debian11_64Guest</guestId><uuid>u1</uuid>
        <bootOptions><bootDelay>5</bootDelay></bootOptions>
        <hardware><numCPU>2</numCPU><memoryMB>1024</memoryMB>
        <device x:type="ParaVirtualSCSIController"><key>1000</key><busNumber>0</busNumber></device>
        <device x:type="VirtualDisk"><key>2000</key><backing><fileName>[a] a.vmdk</fileName><diskMode>persistent</diskMode></backing><controllerKey>1000</controllerKey><unitNumber>0</unitNumber><capacityInKB>10</capacityInKB></device>
        <device x:type="VirtualVmxnet3"><key>4000</key><backing x:type="VirtualEthernetCardNetworkBackingInfo"><deviceName>lan</deviceName></backing><macAddress>m</macAddress><wakeOnLanEnabled>true</wakeOnLanEnabled></device>
        </hardware><extraConfig><key>nvram</key><value>a</value></extraConfig><extraConfig><key>disk.EnableUUID</key><value>TRUE</value></extraConfig></config>"#;

    #[track_caller]
    fn check(from: &str, to: &str, field: &str, is_intended: bool) {
        let restored = CONFIG.replace(from, to);
        assert_ne!(restored, CONFIG, "{from} is not in it");
        let found = compare(CONFIG, &restored).expect("reads");
        let found: Vec<_> = found
            .iter()
            .map(|difference| (difference.field.as_str(), difference.intended.is_some()))
            .collect();
        assert_eq!(found, [(field, is_intended)]);
    }

    #[test]
    fn every_field_that_differs_is_told_and_intended_only_when_it_is_listed() {
        check("<name>web", "<name>web-2", "name", true);
        check(">u1<", ">u2<", "uuid", true);
        check("numCPU>2", "numCPU>4", "hardware.numCPU", false);
        check("bootDelay>5", "bootDelay>0", "bootOptions.bootDelay", false);
        let disk = "disk ParaVirtualSCSIController 0:0";
        let file = format!("{disk}.backing.fileName");
        check("[a] a.vmdk", "[b] b.vmdk", &file, true);
        let mode = format!("{disk}.backing.diskMode");
        check(">persistent", ">append", &mode, false);
        let capacity = format!("{disk}.capacityInKB");
        check("KB>10", "KB>20", &capacity, false);
        check(">m<", ">n<", "card 1.macAddress", true);
        check("lan<", "wan<", "card 1.backing.deviceName", true);
        check("led>true", "led>false", "card 1.wakeOnLanEnabled", false);
        check("e>a<", "e>b<", "extraConfig.nvram", true);
        check("e>TRUE<", "e>FALSE<", "extraConfig.disk.EnableUUID", false);
        check("<memoryMB>1024</memoryMB>", "", "hardware.memoryMB", false);
    }

    #[test]
    fn a_vm_does_not_differ_from_itself_and_keys_name_no_disk() {
        assert_eq!(compare(CONFIG, CONFIG).expect("reads"), []);
        let renumbered = CONFIG.replace("<key>2000", "<key>2017");
        let found = compare(CONFIG, &renumbered).expect("reads");
        assert!(
            found.iter().all(|found| found.intended.is_some()),
            "{found:?}"
        );
        assert!(compare("", CONFIG).is_err());
    }

    #[test]
    fn the_documentation_has_every_field_that_is_meant_to_differ_and_no_other() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/operations/restore.md"
        );
        let page = std::fs::read_to_string(path).expect("the page");
        let documented: Vec<&str> = page
            .lines()
            .skip_while(|line| !line.starts_with("| field |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .collect();
        let expected: Vec<String> = INTENDED
            .iter()
            .map(|(field, why)| format!("| `{field}` | {why} |"))
            .collect();
        assert_eq!(documented, expected);
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*.b", "a.a.b", true),
            ("a *.b", "a x 0:1.b", true),
            ("a *.b", "a x.bc", false),
            ("a*", "b", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
