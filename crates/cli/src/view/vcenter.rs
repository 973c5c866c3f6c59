//! vCenters.

use serde_json::{Value, json};
use stillwater_controller_api::{TestVcenterResponse, Vcenter, VcenterTrust};

use crate::output::{Field, sheet, table};

pub(crate) fn list(vcenters: &[Vcenter]) -> String {
    let row = |vcenter: &Vcenter| {
        [
            Field::text(vcenter.vcenter_id),
            Field::text(&vcenter.name),
            Field::text(&vcenter.address),
            Field::text(&vcenter.username),
            Field::text(trust(&vcenter.trust)),
            Field::maybe(vcenter.about.as_ref().map(|about| &about.full_name)),
        ]
    };
    let header = ["ID", "NAME", "ADDRESS", "USERNAME", "TRUST", "PRODUCT"];
    table(header, vcenters.iter().map(row))
}

pub(crate) fn tested(test: &TestVcenterResponse) -> String {
    let about = test.vcenter.about.as_ref();
    let told = |value: Option<&String>| value.cloned().unwrap_or_else(|| "-".to_owned());
    sheet(&[
        ("name", test.vcenter.name.clone()),
        ("address", test.vcenter.address.clone()),
        ("product", told(about.map(|about| &about.full_name))),
        ("interface", told(about.map(|about| &about.api_version))),
        ("vms", test.vm_count.to_string()),
    ])
}

pub(crate) fn json(vcenter: &Vcenter) -> Value {
    let trust = match &vcenter.trust {
        VcenterTrust::CaPem(pem) => json!({"ca_pem": String::from_utf8_lossy(pem)}),
        VcenterTrust::CertificateSha256(hash) => json!({"certificate_sha256": fingerprint(hash)}),
    };
    json!({
        "vcenter_id": vcenter.vcenter_id.to_string(),
        "name": vcenter.name,
        "address": vcenter.address,
        "username": vcenter.username,
        "trust": trust,
        "about": vcenter.about.as_ref().map(|about| json!({
            "full_name": about.full_name,
            "api_version": about.api_version,
            "instance_uuid": about.instance_uuid,
        })),
    })
}

pub(crate) fn tested_json(test: &TestVcenterResponse) -> Value {
    json!({"vcenter": json(&test.vcenter), "vm_count": test.vm_count})
}

fn trust(trust: &VcenterTrust) -> String {
    match trust {
        VcenterTrust::CaPem(_) => "authority".to_owned(),
        VcenterTrust::CertificateSha256(hash) => {
            format!("certificate {}…", &fingerprint(hash)[..11])
        }
    }
}

/// A fingerprint as other tools print it.
pub(crate) fn fingerprint(hash: &[u8; 32]) -> String {
    let bytes: Vec<String> = hash.iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(":")
}
