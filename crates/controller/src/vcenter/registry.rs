//! Which vCenters are registered: add, list, test, forget.

use secrecy::ExposeSecret;
use stillwater_controller_api as api;
use stillwater_seal::Purpose;
use stillwater_service::config::is_address;
use stillwater_types::{Fault, Reason, VcenterId};
use stillwater_vsphere::{About, Endpoint, probe_certificate};

use super::sessions::end;
use super::{Fingerprint, Sessions, Trust, Vcenter, VcenterEvent};
use crate::event::Actor;
use crate::memory::Memory;
use crate::run::Work;
use crate::secret::Secrets;

const NAME_CHARS_MAX: usize = 80;
const USERNAME_CHARS_MAX: usize = 256;
/// Enough for a chain of authorities; the journal keeps it for good.
const CA_BYTES_MAX: usize = 64 << 10;

/// Registers and forgets vCenters.
pub struct Registry {
    memory: Memory,
    sessions: Sessions,
    secrets: Secrets,
}

impl Registry {
    /// Registers in `memory` and lends its logins to `sessions`.
    pub fn new(memory: Memory, sessions: Sessions, secrets: Secrets) -> Self {
        Self {
            memory,
            sessions,
            secrets,
        }
    }

    /// Registers a vCenter after a successful login.
    pub async fn add(
        &self,
        by: Actor,
        request: api::AddVcenterRequest,
    ) -> Result<api::Vcenter, Fault> {
        let request_id = request.request_id;
        if let Some(there) = self.memory.state().vcenters.of_request(request_id) {
            return Ok(self.describe(there));
        }
        let (vcenter, event, endpoint) = self.plan(request)?;
        // Refused before the login, so that a taken name is not told as a wrong password.
        self.memory
            .state()
            .check(self.memory.now(), &event.clone().into())?;
        let client = self.sessions.connect(endpoint).await?;
        let state = match self.memory.append(by, event).await {
            Ok(state) => state,
            Err(fault) => {
                end(vcenter, &client).await;
                // The same request may have come twice at once, and the other was faster.
                let state = self.memory.state();
                let there = state.vcenters.of_request(request_id).ok_or(fault)?;
                return Ok(self.describe(there));
            }
        };
        self.sessions.adopt(vcenter, client);
        tracing::info!(vcenter.id = %vcenter, %by, "vcenter registered");
        state
            .vcenters
            .find(vcenter)
            .map(|added| self.describe(added))
    }

    fn plan(
        &self,
        request: api::AddVcenterRequest,
    ) -> Result<(VcenterId, VcenterEvent, Endpoint), Fault> {
        let api::AddVcenterRequest {
            request_id,
            name,
            address,
            username,
            password,
            trust,
        } = request;
        check(&name, &address, &username, password.expose_secret())?;
        let trust = Trust::try_from(trust)?;
        let vcenter = VcenterId::mint();
        let sealed = self.secrets.seal(
            Purpose::VcenterPassword,
            vcenter.as_bytes(),
            password.expose_secret().as_bytes(),
        )?;
        let event = VcenterEvent::Added {
            vcenter,
            request: request_id,
            name,
            address: address.clone(),
            username: username.clone(),
            password: sealed,
            trust: trust.clone(),
        };
        let endpoint = Endpoint {
            address,
            username,
            password,
            trust: trust.into(),
        };
        Ok((vcenter, event, endpoint))
    }

    /// Every vCenter, oldest first.
    pub fn list(&self) -> Vec<api::Vcenter> {
        self.memory
            .state()
            .vcenters
            .iter()
            .map(|vcenter| self.describe(vcenter))
            .collect()
    }

    /// Logs in anew and tells what is there.
    pub async fn test(&self, text: &str) -> Result<api::TestVcenterResponse, Fault> {
        let state = self.memory.state();
        let vcenter = state.vcenters.resolve(text)?;
        let client = self.sessions.login(vcenter).await?;
        let counted = client.inventory().await.map(|vms| vms.len());
        let about = about_words(client.about());
        end(vcenter.vcenter, &client).await;
        let vm_count = u32::try_from(counted?).unwrap_or(u32::MAX);
        let vcenter = api::Vcenter {
            about: Some(about),
            ..self.describe(vcenter)
        };
        Ok(api::TestVcenterResponse { vcenter, vm_count })
    }

    /// Forgets a vCenter and its password.
    pub async fn remove(&self, by: Actor, text: &str) -> Result<(), Fault> {
        let state = self.memory.state();
        let vcenter = state.vcenters.resolve(text)?.vcenter;
        let mut runs = state.runs.iter();
        if let Some(run) = runs.find(|run| vcenter_of(&run.work) == Some(vcenter)) {
            let message = "a run works on this vcenter; wait until it has ended or cancel it";
            return Err(Fault::new(Reason::RunActive, message).with("run", run.id));
        }
        self.memory
            .append(by, VcenterEvent::Removed { vcenter })
            .await?;
        self.sessions.forget(vcenter).await;
        tracing::info!(vcenter.id = %vcenter, %by, "vcenter forgotten");
        Ok(())
    }

    /// Tells which certificate an address presents.
    pub async fn probe(&self, address: &str) -> Result<api::ProbeVcenterResponse, Fault> {
        check_address(address)?;
        let presented = probe_certificate(address).await?;
        let not_after = jiff::Timestamp::from_second(presented.not_after)
            .map_or_else(|_| presented.not_after.to_string(), |end| end.to_string());
        Ok(api::ProbeVcenterResponse {
            certificate_sha256: *presented.sha256.as_bytes(),
            certificate_pem: presented.pem,
            subject: presented.subject,
            not_after,
        })
    }

    fn describe(&self, vcenter: &Vcenter) -> api::Vcenter {
        // Destructured so that whoever adds a secret here must think about it.
        let Vcenter {
            vcenter,
            request: _,
            name,
            address,
            username,
            password: _,
            trust,
        } = vcenter;
        api::Vcenter {
            vcenter_id: *vcenter,
            name: name.clone(),
            address: address.clone(),
            username: username.clone(),
            trust: trust.clone().into(),
            about: self
                .sessions
                .live(*vcenter)
                .map(|client| about_words(client.about())),
        }
    }
}

fn vcenter_of(work: &Work) -> Option<VcenterId> {
    match work {
        Work::Backup(backup) => Some(backup.vm.vcenter),
        Work::RestoreVm(restore) => Some(restore.placement.vcenter),
        Work::RestoreInPlace(restore) => Some(restore.vm.vcenter),
        Work::ExportDisk(_) | Work::VerifyPoint(_) => None,
    }
}

fn about_words(about: &About) -> api::VcenterAbout {
    api::VcenterAbout {
        full_name: about.full_name.clone(),
        api_version: about.api_version.clone(),
        instance_uuid: about.instance_uuid.clone().unwrap_or_default(),
    }
}

fn check(name: &str, address: &str, username: &str, password: &str) -> Result<(), Fault> {
    let printable = |text: &str, chars: usize| {
        (1..=chars).contains(&text.chars().count()) && !text.chars().any(char::is_control)
    };
    // A slash would make the name look like an inventory path or a vm id.
    if !printable(name, NAME_CHARS_MAX) || name.contains('/') || name.trim() != name {
        let message = format!("a vcenter's name has 1 to {NAME_CHARS_MAX} characters and no slash");
        return Err(bad_field("name", message));
    }
    if name.parse::<VcenterId>().is_ok() {
        return Err(bad_field(
            "name",
            "a vcenter's name must not look like an id",
        ));
    }
    if !printable(username, USERNAME_CHARS_MAX) {
        return Err(bad_field(
            "username",
            "name the account, such as backup@vsphere.local",
        ));
    }
    if password.is_empty() {
        return Err(bad_field("password", "give the account's password"));
    }
    check_address(address)
}

fn check_address(address: &str) -> Result<(), Fault> {
    match is_address(address) || is_address(&format!("{address}:443")) {
        true => Ok(()),
        false => Err(bad_field(
            "address",
            "write host or host:port, such as vcenter.example",
        )),
    }
}

fn bad_field(field: &str, message: impl Into<String>) -> Fault {
    Fault::new(Reason::BadField, message).with("field", field)
}

impl TryFrom<api::VcenterTrust> for Trust {
    type Error = Fault;

    fn try_from(trust: api::VcenterTrust) -> Result<Self, Fault> {
        match trust {
            api::VcenterTrust::CertificateSha256(pin) => Ok(Self::Pin(Fingerprint(pin))),
            api::VcenterTrust::CaPem(pem) if pem.len() > CA_BYTES_MAX => Err(bad_field(
                "ca_pem",
                "the authority's file has more than 64 KiB",
            )),
            api::VcenterTrust::CaPem(pem) => String::from_utf8(pem.into())
                .map(Self::Ca)
                .map_err(|_| bad_field("ca_pem", "the authority's file is not PEM text")),
        }
    }
}

impl From<Trust> for api::VcenterTrust {
    fn from(trust: Trust) -> Self {
        match trust {
            Trust::Ca(pem) => Self::CaPem(pem.into_bytes().into()),
            Trust::Pin(pin) => Self::CertificateSha256(pin.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(name: &str, address: &str, username: &str, password: &str, field: Option<&str>) {
        let fault = check(name, address, username, password).err();
        assert_eq!(
            fault
                .as_ref()
                .and_then(|f| f.details.get("field"))
                .map(String::as_str),
            field
        );
    }

    #[test]
    fn a_good_vcenter_has_name_address_account_and_password() {
        refused("lab", "vc.example", "backup@vsphere.local", "pw", None);
        refused("lab", "[::1]:8989", "backup", "pw", None);
        refused("", "vc.example", "backup", "pw", Some("name"));
        refused("a/b", "vc.example", "backup", "pw", Some("name"));
        refused(
            &VcenterId::mint().to_string(),
            "vc.example",
            "backup",
            "pw",
            Some("name"),
        );
        refused(
            "lab",
            "https://vc.example/sdk",
            "backup",
            "pw",
            Some("address"),
        );
        refused("lab", "", "backup", "pw", Some("address"));
        refused("lab", "vc.example", "", "pw", Some("username"));
        refused("lab", "vc.example", "backup", "", Some("password"));
    }

    #[test]
    fn trust_comes_back_as_it_was_given() {
        for trust in [
            api::VcenterTrust::CertificateSha256([9; 32]),
            api::VcenterTrust::CaPem("-----BEGIN CERTIFICATE-----".into()),
        ] {
            let kept = Trust::try_from(trust.clone()).expect("good trust");
            assert_eq!(api::VcenterTrust::from(kept), trust);
        }
        let huge = api::VcenterTrust::CaPem(vec![b'x'; CA_BYTES_MAX + 1].into());
        assert!(Trust::try_from(huge).is_err());
        assert!(Trust::try_from(api::VcenterTrust::CaPem(vec![0xff].into())).is_err());
    }
}
