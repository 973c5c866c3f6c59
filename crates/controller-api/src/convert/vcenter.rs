//! vCenters.

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use stillwater_wire::{FieldError, alike, empty, field, wraps};

use crate::model::*;
use crate::pb;

alike! { pb: VcenterAbout { full_name, api_version, instance_uuid } }

empty! { pb: ListVcentersRequest RemoveVcenterResponse }

wraps! { pb:
    message AddVcenterResponse.vcenter: Vcenter;
    messages ListVcentersResponse.vcenters: Vec<Vcenter>;
    text TestVcenterRequest.vcenter: String;
    text RemoveVcenterRequest.vcenter: String;
    text ProbeVcenterRequest.address: String;
}

impl From<Vcenter> for pb::Vcenter {
    fn from(domain: Vcenter) -> Self {
        let Vcenter {
            vcenter_id,
            name,
            address,
            username,
            trust,
            about,
        } = domain;
        Self {
            vcenter_id: vcenter_id.to_string(),
            name,
            address,
            username,
            trust: Some(trust.into()),
            about: about.map(Into::into),
        }
    }
}

impl TryFrom<pb::Vcenter> for Vcenter {
    type Error = FieldError;

    fn try_from(message: pb::Vcenter) -> Result<Self, FieldError> {
        let pb::Vcenter {
            vcenter_id,
            name,
            address,
            username,
            trust,
            about,
        } = message;
        Ok(Self {
            vcenter_id: field::id("vcenter_id", &vcenter_id)?,
            name: field::text("name", name)?,
            address: field::text("address", address)?,
            username,
            trust: field::message("trust", trust)?,
            about: field::maybe_message("about", about)?,
        })
    }
}

impl From<VcenterTrust> for pb::VcenterTrust {
    fn from(domain: VcenterTrust) -> Self {
        let anchor = match domain {
            VcenterTrust::CaPem(pem) => pb::vcenter_trust::Anchor::CaPem(pem),
            VcenterTrust::CertificateSha256(hash) => {
                pb::vcenter_trust::Anchor::CertificateSha256(Bytes::copy_from_slice(&hash))
            }
        };
        Self {
            anchor: Some(anchor),
        }
    }
}

impl TryFrom<pb::VcenterTrust> for VcenterTrust {
    type Error = FieldError;

    fn try_from(message: pb::VcenterTrust) -> Result<Self, FieldError> {
        let pb::VcenterTrust { anchor } = message;
        match field::choice("anchor", anchor)? {
            pb::vcenter_trust::Anchor::CaPem(pem) => {
                field::bytes("ca_pem", pem, CA_PEM_BYTES_MAX).map(Self::CaPem)
            }
            pb::vcenter_trust::Anchor::CertificateSha256(hash) => {
                field::hash("certificate_sha256", &hash).map(Self::CertificateSha256)
            }
        }
    }
}

impl From<AddVcenterRequest> for pb::AddVcenterRequest {
    fn from(domain: AddVcenterRequest) -> Self {
        let AddVcenterRequest {
            request_id,
            name,
            address,
            username,
            password,
            trust,
        } = domain;
        Self {
            request_id: request_id.to_string(),
            name,
            address,
            username,
            password: password.expose_secret().to_owned(),
            trust: Some(trust.into()),
        }
    }
}

impl TryFrom<pb::AddVcenterRequest> for AddVcenterRequest {
    type Error = FieldError;

    fn try_from(message: pb::AddVcenterRequest) -> Result<Self, FieldError> {
        let pb::AddVcenterRequest {
            request_id,
            name,
            address,
            username,
            password,
            trust,
        } = message;
        Ok(Self {
            request_id: field::id("request_id", &request_id)?,
            name: field::text("name", name)?,
            address: field::text("address", address)?,
            username: field::text("username", username)?,
            password: SecretString::from(field::text("password", password)?),
            trust: field::message("trust", trust)?,
        })
    }
}

impl From<TestVcenterResponse> for pb::TestVcenterResponse {
    fn from(domain: TestVcenterResponse) -> Self {
        let TestVcenterResponse { vcenter, vm_count } = domain;
        Self {
            vcenter: Some(vcenter.into()),
            vm_count,
        }
    }
}

impl TryFrom<pb::TestVcenterResponse> for TestVcenterResponse {
    type Error = FieldError;

    fn try_from(message: pb::TestVcenterResponse) -> Result<Self, FieldError> {
        let pb::TestVcenterResponse { vcenter, vm_count } = message;
        Ok(Self {
            vcenter: field::message("vcenter", vcenter)?,
            vm_count,
        })
    }
}

impl From<ProbeVcenterResponse> for pb::ProbeVcenterResponse {
    fn from(domain: ProbeVcenterResponse) -> Self {
        let ProbeVcenterResponse {
            certificate_sha256,
            certificate_pem,
            subject,
            not_after,
        } = domain;
        Self {
            certificate_sha256: Bytes::copy_from_slice(&certificate_sha256),
            certificate_pem,
            subject,
            not_after,
        }
    }
}

impl TryFrom<pb::ProbeVcenterResponse> for ProbeVcenterResponse {
    type Error = FieldError;

    fn try_from(message: pb::ProbeVcenterResponse) -> Result<Self, FieldError> {
        let pb::ProbeVcenterResponse {
            certificate_sha256,
            certificate_pem,
            subject,
            not_after,
        } = message;
        Ok(Self {
            certificate_sha256: field::hash("certificate_sha256", &certificate_sha256)?,
            certificate_pem,
            subject,
            not_after,
        })
    }
}
