use super::*;

const DISK: &str = r#"<device xsi:type="VirtualDisk"><key>2000</key><deviceInfo xsi:type="Description"><label>Hard disk 1</label><summary>s</summary></deviceInfo><backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds] old/old-000001.vmdk</fileName><diskMode>persistent</diskMode><thinProvisioned>false</thinProvisioned><uuid>6000C291-old</uuid><changeId>52 old/3</changeId></backing><controllerKey>1000</controllerKey><unitNumber>0</unitNumber><capacityInKB>2048</capacityInKB><capacityInBytes>2097152</capacityInBytes></device>"#;

fn saved(disk: &str) -> String {
    format!(
        r#"<config xmlns="urn:vim25" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="VirtualMachineConfigInfo">
        <name>old</name><guestFullName>x</guestFullName><version>vmx-19</version><uuid>uuid-of-old</uuid><instanceUuid>instance-of-old</instanceUuid>
        <guestId>debian11_64Guest</guestId><annotation>a &lt; b</annotation><files><vmPathName>[ds] old/old.vmx</vmPathName></files>
        <hardware><numCPU>4</numCPU><numCoresPerSocket>2</numCoresPerSocket><memoryMB>4096</memoryMB>
        <device xsi:type="VirtualIDEController"><key>200</key><busNumber>0</busNumber></device>
        <device xsi:type="VirtualKeyboard"><key>600</key></device>
        <device xsi:type="ParaVirtualSCSIController"><key>1000</key><busNumber>0</busNumber><sharedBus>noSharing</sharedBus></device>{disk}
        <device xsi:type="VirtualVmxnet3"><key>4000</key><backing xsi:type="VirtualEthernetCardDistributedVirtualPortBackingInfo"><port><switchUuid>50 sw</switchUuid><portgroupKey>dvportgroup-9</portgroupKey><portKey>17</portKey><connectionCookie>99</connectionCookie></port></backing><connectable><startConnected>true</startConnected></connectable><controllerKey>100</controllerKey><unitNumber>7</unitNumber><addressType>assigned</addressType><macAddress>00:50:56:00:00:01</macAddress></device>
        </hardware><extraConfig xsi:type="OptionValue"><key>disk.EnableUUID</key><value xsi:type="xsd:string">TRUE</value></extraConfig>
        <bootOptions><efiSecureBootEnabled>true</efiSecureBootEnabled></bootOptions><changeTrackingEnabled>true</changeTrackingEnabled><firmware>efi</firmware></config>"#
    )
}

fn new() -> NewVm {
    NewVm::from_config(&saved(DISK), "web").expect("reads")
}

/// The whole request, so that its order is seen and held.
#[test]
fn a_spec_is_in_schema_order_and_says_nothing_of_the_old_vm() {
    let xml = spec::config_spec(&new(), "ds2", "[ds2] web/web.vmx");
    let expected = concat!(
        "<name>web</name><version>vmx-19</version><guestId>debian11_64Guest</guestId>",
        "<annotation>a &lt; b</annotation><files><vmPathName>[ds2] web/web.vmx</vmPathName></files>",
        "<numCPUs>4</numCPUs><numCoresPerSocket>2</numCoresPerSocket><memoryMB>4096</memoryMB>",
        "<deviceChange><operation>add</operation><device xsi:type=\"ParaVirtualSCSIController\">",
        "<key>-1001</key><busNumber>0</busNumber><sharedBus>noSharing</sharedBus></device></deviceChange>",
        "<deviceChange><operation>add</operation><fileOperation>create</fileOperation>",
        "<device xsi:type=\"VirtualDisk\"><key>-2000</key>",
        "<backing xsi:type=\"VirtualDiskFlatVer2BackingInfo\"><fileName>[ds2]</fileName>",
        "<diskMode>persistent</diskMode><thinProvisioned>false</thinProvisioned></backing>",
        "<controllerKey>-1001</controllerKey><unitNumber>0</unitNumber>",
        "<capacityInKB>2048</capacityInKB><capacityInBytes>2097152</capacityInBytes></device></deviceChange>",
        "<deviceChange><operation>add</operation><device xsi:type=\"VirtualVmxnet3\"><key>-4000</key>",
        "<backing xsi:type=\"VirtualEthernetCardDistributedVirtualPortBackingInfo\"><port>",
        "<switchUuid>50 sw</switchUuid><portgroupKey>dvportgroup-9</portgroupKey></port></backing>",
        "<connectable><startConnected>true</startConnected><allowGuestControl>true</allowGuestControl>",
        "<connected>false</connected></connectable><addressType>generated</addressType></device></deviceChange>",
        "<extraConfig><key>disk.EnableUUID</key><value xsi:type=\"xsd:string\">TRUE</value></extraConfig>",
        "<bootOptions><efiSecureBootEnabled>true</efiSecureBootEnabled></bootOptions>",
        "<firmware>efi</firmware>",
    );
    assert_eq!(xml.as_str(), expected);
}

#[test]
fn an_original_identity_comes_back_and_what_no_vm_gets_is_told() {
    let tpm = r#"<device xsi:type="VirtualTPM"><key>11000</key><deviceInfo><label>Virtual TPM</label></deviceInfo></device>"#;
    let config = saved(&format!("{DISK}{tpm}"));
    let mut vm = NewVm::from_config(&config, "web").expect("reads");
    assert_eq!((&vm.bios_uuid, &vm.nics[0].mac), (&None, &None));
    vm.identify(&config).expect("reads");
    assert_eq!(vm.bios_uuid.as_deref(), Some("uuid-of-old"));
    assert_eq!(vm.instance_uuid.as_deref(), Some("instance-of-old"));
    let mac = vm.nics[0].mac.clone().expect("an address");
    assert_eq!(
        (mac.address.as_str(), mac.kind.as_str()),
        ("00:50:56:00:00:01", "assigned")
    );
    let xml = spec::config_spec(&vm, "ds2", "[ds2] web/web.vmx");
    assert!(
        xml.as_str()
            .contains("<uuid>uuid-of-old</uuid><instanceUuid>")
    );
    assert!(
        xml.as_str().contains(
            "<addressType>assigned</addressType><macAddress>00:50:56:00:00:01</macAddress>"
        )
    );
    let left = NewVm::left_out(&config).expect("reads");
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].starts_with("Virtual TPM: "), "{left:?}");
}

#[test]
fn a_disk_goes_where_and_as_it_is_told() {
    let mut vm = new();
    for (provisioning, words) in [
        (
            Provisioning::Thin,
            "<thinProvisioned>true</thinProvisioned></backing>",
        ),
        (
            Provisioning::Thick,
            "<thinProvisioned>false</thinProvisioned></backing>",
        ),
        (
            Provisioning::Eager,
            "<thinProvisioned>false</thinProvisioned><eagerlyScrub>true</eagerlyScrub></backing>",
        ),
    ] {
        vm.disks[0].provisioning = provisioning;
        vm.disks[0].datastore = Some("fast".into());
        let xml = spec::config_spec(&vm, "ds2", "[ds2] web/web.vmx");
        assert!(xml.as_str().contains("<fileName>[fast]</fileName>"));
        assert!(xml.as_str().contains(words), "{}", xml.as_str());
    }
}

#[test]
fn what_is_one_vms_own_is_no_setting_of_another() {
    let option = |key: &str| {
        format!(
            "<extraConfig><key>{key}</key><value xsi:type=\"xsd:string\">x</value></extraConfig>"
        )
    };
    let own = [
        "nvram",
        "scsi0:0.ctkEnabled",
        "uuid.bios",
        "guestinfo.secret",
        "migrate.hostLog",
    ];
    let kept = ["disk.EnableUUID", "ethernet0.pciSlotNumber", "svga.present"];
    let options: String = own.iter().chain(&kept).map(|key| option(key)).collect();
    let config = saved(DISK).replace("<bootOptions>", &format!("{options}<bootOptions>"));
    let vm = NewVm::from_config(&config, "web").expect("reads");
    let keys: Vec<&str> = vm.extra.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys[1..], kept);
}

#[test]
fn a_configuration_that_lacks_something_is_refused() {
    for gone in ["guestId", "numCPU", "memoryMB", "hardware"] {
        let broken = saved(DISK)
            .replace(&format!("<{gone}>"), "<x>")
            .replace(&format!("</{gone}>"), "</x>");
        assert!(
            matches!(
                NewVm::from_config(&broken, "web"),
                Err(Error::BadConfig { .. })
            ),
            "{gone}"
        );
    }
    assert!(NewVm::from_config("", "web").is_err());
}

#[track_caller]
fn check(change: impl Fn(&mut NewDisk), words: &str) {
    let mut vm = new();
    vm.disks.iter_mut().for_each(change);
    match vm.check() {
        Err(Error::BadConfig { problem }) => assert!(problem.contains(words), "{problem}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn disks_that_no_server_could_make_are_refused() {
    check(|disk| disk.controller_key = 9, "no controller");
    check(|disk| disk.unit = 7, "where its controller is");
    check(|disk| disk.capacity_bytes = 1000, "multiple of 512");
    check(|disk| disk.capacity_bytes = 0, "multiple of 512");
    let mut twice = new();
    let second = twice.disks.first().cloned().expect("a disk");
    twice.disks.push(NewDisk {
        source_key: 2001,
        ..second
    });
    assert!(twice.check().is_err());
}

fn devices(key: i32, unit: i32, kilobytes: u64) -> Vec<Element> {
    let xml = format!(
        r#"<val xmlns:x="i"><d x:type="VirtualLsiLogicController"><key>1001</key><busNumber>0</busNumber></d>
        <d x:type="ParaVirtualSCSIController"><key>1000</key><busNumber>0</busNumber></d>
        <d x:type="VirtualDisk"><key>{key}</key><backing x:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds2] web/disk1.vmdk</fileName><diskMode>persistent</diskMode></backing><controllerKey>1000</controllerKey><unitNumber>{unit}</unitNumber><capacityInKB>{kilobytes}</capacityInKB></d></val>"#
    );
    Element::parse(&xml).expect("reads").children
}

#[test]
fn a_made_disk_is_found_by_its_place_whatever_its_key() {
    let made = created_disks(&new(), &devices(2077, 0, 2048)).expect("found");
    let expected = CreatedDisk {
        source_key: 2000,
        key: 2077,
        file_name: "[ds2] web/disk1.vmdk".into(),
        capacity_bytes: 2097152,
    };
    assert_eq!(made, [expected]);
    assert!(created_disks(&new(), &devices(2077, 1, 2048)).is_err());
    assert!(created_disks(&new(), &devices(2077, 0, 2047)).is_err());
}

#[test]
fn names_become_directories_that_can_be() {
    for (name, stem) in [
        ("web", "web"),
        ("a/b: [c]", "a_b_ _c_"),
        (" .. ", "vm"),
        ("", "vm"),
    ] {
        assert_eq!(file_stem(name), stem);
    }
    assert_eq!(file_stem(&"x".repeat(100)).len(), 60);
}
