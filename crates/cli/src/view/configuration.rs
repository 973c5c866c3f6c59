//! What a point keeps of its VM besides disks.

use data_encoding::BASE64;
use serde_json::{Value, json};
use stillwater_controller_api::{PointConfiguration, PointNetwork, Surroundings};

use crate::output::{Field, sheet, size, table};

pub(crate) fn show(kept: &PointConfiguration) -> String {
    let PointConfiguration {
        config_xml,
        surroundings,
    } = kept;
    let xml = format!(
        "configuration: {} of xml; `-o json` prints it",
        size(config_xml.len() as u64)
    );
    match surroundings {
        None => format!("the point keeps nothing of what was around its vm\n\n{xml}"),
        Some(surroundings) => format!("{}\n\n{xml}", around(surroundings)),
    }
}

fn around(around: &Surroundings) -> String {
    let maybe = |text: &Option<String>| text.clone().unwrap_or_default();
    let disk_policies = around.disk_policies.iter();
    let disk_policies = disk_policies.map(|one| format!("{} {}", one.disk_key, one.policy));
    let tags = around.tags.iter();
    let tags = tags.map(|tag| format!("{}:{}", tag.category, tag.name));
    let attributes = around.attributes.iter();
    let attributes = attributes.map(|one| format!("{}={}", one.name, one.value));
    let nvram = match (&around.nvram_file, around.nvram.len()) {
        (Some(file), length) => format!("{file} ({})", size(length as u64)),
        (None, _) => "not kept".to_owned(),
    };
    let mut text = sheet(&[
        ("vcenter", around.vcenter.clone()),
        ("folder", maybe(&around.folder)),
        ("resource pool", maybe(&around.resource_pool)),
        ("host", maybe(&around.host)),
        ("cluster", maybe(&around.cluster)),
        ("datastores", around.datastores.join(", ")),
        ("tags", tags.collect::<Vec<_>>().join(", ")),
        ("attributes", attributes.collect::<Vec<_>>().join(", ")),
        ("storage policy", maybe(&around.home_policy)),
        ("of disks", disk_policies.collect::<Vec<_>>().join(", ")),
        ("nvram", nvram),
    ]);
    if !around.networks.is_empty() {
        text.push_str(&format!("\n\n{}", networks(&around.networks)));
    }
    for remark in &around.remarks {
        text.push_str(&format!("\n{}", crate::output::plain(remark)));
    }
    text
}

fn networks(networks: &[PointNetwork]) -> String {
    let row = |network: &PointNetwork| {
        [
            Field::text(&network.name),
            Field::text(&network.kind),
            Field::text(&network.reference),
        ]
    };
    table(["NETWORK", "KIND", "REFERENCE"], networks.iter().map(row))
}

pub(crate) fn json(kept: &PointConfiguration) -> Value {
    json!({
        "config_xml": kept.config_xml,
        "surroundings": kept.surroundings.as_ref().map(around_json),
    })
}

fn around_json(around: &Surroundings) -> Value {
    let network = |network: &PointNetwork| {
        json!({
            "name": network.name,
            "kind": network.kind,
            "reference": network.reference,
            "portgroup_key": network.portgroup_key,
            "switch_uuid": network.switch_uuid,
        })
    };
    let tags = around.tags.iter();
    let tags = tags.map(|tag| json!({"category": tag.category, "name": tag.name}));
    let attributes = around.attributes.iter();
    let attributes = attributes.map(|one| json!({"name": one.name, "value": one.value}));
    let policies = around.disk_policies.iter();
    let policies = policies.map(|one| json!({"disk_key": one.disk_key, "policy": one.policy}));
    json!({
        "vcenter": around.vcenter,
        "folder": around.folder,
        "resource_pool": around.resource_pool,
        "host": around.host,
        "cluster": around.cluster,
        "datastores": around.datastores,
        "networks": around.networks.iter().map(network).collect::<Vec<_>>(),
        "tags": tags.collect::<Vec<_>>(),
        "attributes": attributes.collect::<Vec<_>>(),
        "home_policy": around.home_policy,
        "disk_policies": policies.collect::<Vec<_>>(),
        "nvram_file": around.nvram_file,
        "nvram_base64": around.nvram_file.as_ref().map(|_| BASE64.encode(&around.nvram)),
        "remarks": around.remarks,
    })
}

#[cfg(test)]
mod tests {
    use stillwater_controller_api::{PointAttribute, PointPolicy, PointTag};

    use super::*;

    fn kept() -> PointConfiguration {
        PointConfiguration {
            config_xml: "<config/>".into(),
            surroundings: Some(Surroundings {
                vcenter: "VMware vCenter Server 8.0.2".into(),
                folder: Some("/DC0/vm/shop".into()),
                datastores: vec!["ds1".into(), "ds2".into()],
                networks: vec![PointNetwork {
                    name: "web".into(),
                    kind: "Network".into(),
                    reference: "network-7".into(),
                    portgroup_key: None,
                    switch_uuid: None,
                }],
                tags: vec![PointTag {
                    category: "tier".into(),
                    name: "gold".into(),
                }],
                attributes: vec![PointAttribute {
                    name: "owner".into(),
                    value: "sales".into(),
                }],
                disk_policies: vec![PointPolicy {
                    disk_key: 2000,
                    policy: "aa6d".into(),
                }],
                nvram_file: Some("[ds1] web/web.nvram".into()),
                nvram: vec![1, 2, 3].into(),
                remarks: vec!["no \u{1b}[31manswer".into()],
                ..Surroundings::default()
            }),
        }
    }

    #[test]
    fn everything_that_is_kept_is_shown_and_commands_no_terminal() {
        let text = show(&kept());
        for part in [
            "vCenter Server 8.0.2",
            "/DC0/vm/shop",
            "ds1, ds2",
            "tier:gold",
            "owner=sales",
            "2000 aa6d",
            "[ds1] web/web.nvram (3 B)",
            "network-7",
            "answer",
            "9 B of xml",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn programs_get_the_configuration_and_the_nvram_itself() {
        let told = json(&kept());
        assert_eq!(told["config_xml"], "<config/>");
        assert_eq!(told["surroundings"]["nvram_base64"], "AQID");
        let bare = PointConfiguration {
            surroundings: None,
            ..kept()
        };
        assert_eq!(json(&bare)["surroundings"], Value::Null);
        assert!(show(&bare).contains("keeps nothing"));
    }
}
