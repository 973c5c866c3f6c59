//! What vCenters answer, read all the way: faults, trees of snapshots, maps of changed areas, frozen disks.

use super::{Target, leave};
use crate::seeds;

fn envelope(body: &str) -> String {
    format!(
        r#"<?xml version="1.0"?><e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><e:Body>{body}</e:Body></e:Envelope>"#
    )
}

const SNAPSHOTS: &str = r#"<currentSnapshot type="VirtualMachineSnapshot">s-2</currentSnapshot><rootSnapshotList><snapshot type="VirtualMachineSnapshot">s-1</snapshot><vm type="VirtualMachine">vm-1</vm><name>a</name><description>b</description><id>1</id><createTime>2026-11-22T10:00:00Z</createTime><state>poweredOn</state><quiesced>true</quiesced><childSnapshotList><snapshot type="VirtualMachineSnapshot">s-2</snapshot><vm type="VirtualMachine">vm-1</vm><name>c</name><description></description><id>2</id><createTime>2026-11-22T11:00:00Z</createTime><state>poweredOff</state><quiesced>false</quiesced></childSnapshotList></rootSnapshotList>"#;
const MAP: &str = "<startOffset>0</startOffset><length>1099511627776</length><changedArea><start>0</start><length>65536</length></changedArea><changedArea><start>1048576</start><length>512</length></changedArea>";

pub(super) const VSPHERE_ANSWERS: Target = Target {
    name: "vsphere_answers",
    run: |bytes| {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        stillwater_vsphere::take_answer(text);
    },
    seeds: || {
        let returned = |value: &str| envelope(&format!("<R><returnval>{value}</returnval></R>"));
        let fault = |name: &str| {
            let (head, tail) = ("<faultcode>x</faultcode><faultstring>no</faultstring>", "");
            envelope(&format!(
                r#"<e:Fault>{head}<detail><{name}Fault xsi:type="{name}"><privilegeId>VirtualMachine.State</privilegeId></{name}Fault></detail>{tail}</e:Fault>"#
            ))
        };
        let config = seeds::CONFIG_XML
            .split_once("?>")
            .map_or(seeds::CONFIG_XML, |(_, rest)| rest);
        let object = format!(
            r#"<objects><obj type="VirtualMachine">vm-1</obj><propSet><name>snapshot</name><val>{SNAPSHOTS}</val></propSet><propSet><name>runtime.powerState</name><val>poweredOn</val></propSet><missingSet><path>config</path><fault><fault xsi:type="NoPermission"/><localizedMessage>no</localizedMessage></fault></missingSet></objects>"#
        );
        let texts = [
            returned(SNAPSHOTS),
            returned(MAP),
            returned(&object),
            returned(config),
            fault("NoPermission"),
            fault("FileFault"),
            fault("ManagedObjectNotFound"),
        ];
        assert!(
            texts[..3]
                .iter()
                .all(|text| stillwater_vsphere::take_answer(text) > 0),
            "the seeds mean something"
        );
        texts.map(String::into_bytes).to_vec()
    },
    mend: leave,
};
