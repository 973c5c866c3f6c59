//! What a restored VM gets beside its hardware and its disks: NVRAM, tags, attributes, policies.
//!
//! Each is a call of its own, so that one that fails costs nothing but itself.

use std::time::Duration;

use crate::around::StoragePolicies;
use crate::body::Body;
use crate::client::{Call, Client, Repeat};
use crate::{CustomAttribute, Result, Vm, VmRef};

impl Client {
    /// Writes the VM's NVRAM; the file's path. Only of a VM that never ran.
    pub async fn put_nvram(&self, vm: &Vm, bytes: Vec<u8>) -> Result<String> {
        let path = vm.facts.nvram_file();
        let path = path.ok_or_else(|| crate::Error::FileMissing {
            path: format!("the nvram of {}", vm.name),
        })?;
        self.put_datastore_file(&vm.datacenter, &path, bytes)
            .await?;
        Ok(path)
    }

    /// Gives the VM a value of a custom attribute that is defined there.
    pub async fn set_attribute(&self, vm: &VmRef, attribute: &CustomAttribute) -> Result<()> {
        let body = Body::new()
            .value("key", &attribute.name)
            .value("value", &attribute.value);
        // The same value again changes nothing.
        let call = Call {
            method: "setCustomValue",
            this: &vm.moref(),
            body,
            repeat: Repeat::Safe,
        };
        self.call(call).await.map(drop)
    }

    /// Has the VM's files and disks kept as storage policies say, which the server holds against their
    /// datastores.
    pub async fn apply_policies(
        &self,
        vm: &VmRef,
        policies: &StoragePolicies,
        timeout: Duration,
    ) -> Result<()> {
        let devices = self.read_vm(vm, &["config.hardware.device"]).await?;
        let devices = devices.need("config.hardware.device")?;
        let mut spec = Body::new();
        for (key, policy) in &policies.disks {
            let is_it = |device: &&crate::xml::Element| device.value("key") == Ok(*key);
            let Some(device) = devices.children.iter().find(is_it) else {
                continue;
            };
            let disk = device_spec(device, policy);
            spec = spec.inside("deviceChange", disk);
        }
        if let Some(home) = &policies.home {
            spec = spec.typed("vmProfile", PROFILE, Body::new().value("profileId", home));
        }
        let body = Body::new().inside("spec", spec);
        let this = vm.moref();
        let task = self.start_task("ReconfigVM_Task", &this, body).await?;
        self.wait_task(&task, timeout).await.map(drop)
    }

    /// Makes the VM, which must be off, a template.
    pub async fn mark_as_template(&self, vm: &VmRef) -> Result<()> {
        let call = Call {
            method: "MarkAsTemplate",
            this: &vm.moref(),
            body: Body::new(),
            repeat: Repeat::Never,
        };
        self.call(call).await.map(drop)
    }
}

const PROFILE: &str = "VirtualMachineDefinedProfileSpec";

/// `VirtualDeviceConfigSpec` that changes nothing of a disk but its policy.
fn device_spec(device: &crate::xml::Element, policy: &str) -> Body {
    let text = |path: &str| device.optional(path);
    let backing = Body::new()
        .optional("fileName", text("backing.fileName"))
        .optional("diskMode", text("backing.diskMode"));
    let disk = Body::new()
        .optional("key", text("key"))
        .typed("backing", "VirtualDiskFlatVer2BackingInfo", backing)
        .optional("controllerKey", text("controllerKey"))
        .optional("unitNumber", text("unitNumber"))
        .optional("capacityInKB", text("capacityInKB"));
    Body::new()
        .value("operation", "edit")
        .typed("device", "VirtualDisk", disk)
        .typed("profile", PROFILE, Body::new().value("profileId", policy))
}

impl CustomAttribute {
    /// A value of an attribute.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Element;

    #[test]
    fn a_disk_that_gets_a_policy_keeps_its_file_and_size() {
        let disk = Element::parse(
            r#"<device xmlns:x="i" x:type="VirtualDisk"><key>2000</key><backing x:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds] a/a.vmdk</fileName><diskMode>persistent</diskMode></backing><controllerKey>1000</controllerKey><unitNumber>1</unitNumber><capacityInKB>64</capacityInKB></device>"#,
        )
        .expect("reads");
        let expected = concat!(
            "<operation>edit</operation><device xsi:type=\"VirtualDisk\"><key>2000</key>",
            "<backing xsi:type=\"VirtualDiskFlatVer2BackingInfo\"><fileName>[ds] a/a.vmdk</fileName>",
            "<diskMode>persistent</diskMode></backing><controllerKey>1000</controllerKey>",
            "<unitNumber>1</unitNumber><capacityInKB>64</capacityInKB></device>",
            "<profile xsi:type=\"VirtualMachineDefinedProfileSpec\"><profileId>gold</profileId></profile>",
        );
        assert_eq!(device_spec(&disk, "gold").as_str(), expected);
    }
}
