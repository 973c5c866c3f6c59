//! vCenters, or hosts that stand alone: what is registered, and the live sessions to them.
//!
//! A password is sealed before it is journalled and opened only to log in. No answer, log line or
//! `Debug` output carries it.

mod event;
mod registry;
mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use stillwater_types::{Fault, Reason, RequestId, VcenterId};

use crate::event::Part;
use crate::secret::Sealed;

pub use event::{Fingerprint, Trust, VcenterEvent};
pub use registry::Registry;
pub use sessions::Sessions;

/// One registered vCenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vcenter {
    /// Its id, which is half of every VM's id.
    pub vcenter: VcenterId,
    /// The request that registered it, so that a repeated request finds it.
    pub request: RequestId,
    /// The name that people use.
    pub name: String,
    /// `host` or `host:port`.
    pub address: String,
    /// The account.
    pub username: String,
    /// Its password, sealed for this vCenter's id.
    pub password: Sealed,
    /// How its certificate is known.
    pub trust: Trust,
}

/// The registered vCenters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vcenters {
    vcenters: BTreeMap<VcenterId, Arc<Vcenter>>,
}

impl Vcenters {
    /// Every vCenter, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Vcenter>> + '_ {
        self.vcenters.values()
    }

    /// The vCenter of that id.
    pub fn find(&self, vcenter: VcenterId) -> Result<&Arc<Vcenter>, Fault> {
        self.vcenters
            .get(&vcenter)
            .ok_or_else(|| unknown(&vcenter.to_string()))
    }

    /// The vCenter that `text` names by id or by name.
    pub fn resolve(&self, text: &str) -> Result<&Arc<Vcenter>, Fault> {
        if let Ok(id) = text.parse::<VcenterId>() {
            return self.find(id);
        }
        self.iter()
            .find(|vcenter| vcenter.name == text)
            .ok_or_else(|| unknown(text))
    }

    /// The vCenter that the request registered, if it did.
    pub fn of_request(&self, request: RequestId) -> Option<&Arc<Vcenter>> {
        self.iter().find(|vcenter| vcenter.request == request)
    }

    fn clash(&self, name: &str, address: &str) -> Option<&Arc<Vcenter>> {
        self.iter()
            .find(|v| v.name == name || endpoint(&v.address) == endpoint(address))
    }
}

impl Part for Vcenters {
    type Event = VcenterEvent;

    fn check(&self, _at: Timestamp, event: &VcenterEvent) -> Result<(), Fault> {
        match event {
            VcenterEvent::Added { name, address, .. } => match self.clash(name, address) {
                Some(there) => Err(exists(there)),
                None => Ok(()),
            },
            VcenterEvent::Removed { vcenter } => self.find(*vcenter).map(|_| ()),
        }
    }

    fn apply(&mut self, _at: Timestamp, event: &VcenterEvent) {
        match event {
            VcenterEvent::Added {
                vcenter,
                request,
                name,
                address,
                username,
                password,
                trust,
            } => {
                let added = Vcenter {
                    vcenter: *vcenter,
                    request: *request,
                    name: name.clone(),
                    address: address.clone(),
                    username: username.clone(),
                    password: password.clone(),
                    trust: trust.clone(),
                };
                self.vcenters.insert(*vcenter, Arc::new(added));
            }
            VcenterEvent::Removed { vcenter } => {
                self.vcenters.remove(vcenter);
            }
        }
    }
}

/// One endpoint has several spellings; whoever registers one twice would back its VMs up twice.
fn endpoint(address: &str) -> String {
    let address = address.to_ascii_lowercase();
    address
        .strip_suffix(":443")
        .map(str::to_owned)
        .unwrap_or(address)
}

fn unknown(text: &str) -> Fault {
    Fault::new(
        Reason::VcenterNotFound,
        format!(
            "no vcenter {text:?} is registered; `stillwater vcenter list` names those that are"
        ),
    )
    .with("vcenter", text)
}

fn exists(there: &Vcenter) -> Fault {
    let message = format!(
        "the name or address is taken by vcenter {:?} at {}; remove that one first",
        there.name, there.address
    );
    Fault::new(Reason::VcenterExists, message).with("vcenter", there.vcenter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(id: u8, name: &str, address: &str) -> VcenterEvent {
        VcenterEvent::Added {
            vcenter: VcenterId::from_bytes([id; 16]),
            request: RequestId::from_bytes([id; 16]),
            name: name.into(),
            address: address.into(),
            username: "backup@vsphere.local".into(),
            password: Sealed::try_from("c2VhbGVk".to_owned()).expect("good base64"),
            trust: Trust::Pin(Fingerprint([3; 32])),
        }
    }

    fn after(history: &[VcenterEvent]) -> Vcenters {
        let mut vcenters = Vcenters::default();
        history
            .iter()
            .for_each(|event| vcenters.apply(Timestamp::UNIX_EPOCH, event));
        vcenters
    }

    #[track_caller]
    fn check(history: &[VcenterEvent], event: &VcenterEvent, expected: Option<Reason>) {
        let refused = after(history).check(Timestamp::UNIX_EPOCH, event);
        assert_eq!(refused.err().map(|fault| fault.reason), expected);
    }

    #[test]
    fn a_name_or_an_address_is_registered_once() {
        let one = added(1, "lab", "vc.example");
        check(&[], &one, None);
        check(
            std::slice::from_ref(&one),
            &added(2, "lab", "other.example"),
            Some(Reason::VcenterExists),
        );
        check(
            std::slice::from_ref(&one),
            &added(2, "other", "VC.example:443"),
            Some(Reason::VcenterExists),
        );
        let removed = VcenterEvent::Removed {
            vcenter: VcenterId::from_bytes([1; 16]),
        };
        check(
            &[one.clone(), removed.clone()],
            &added(2, "lab", "vc.example"),
            None,
        );
        check(
            &[one, removed.clone()],
            &removed,
            Some(Reason::VcenterNotFound),
        );
    }

    #[test]
    fn a_vcenter_is_found_by_id_name_and_request() {
        let vcenters = after(&[added(1, "one", "1.example"), added(2, "two", "2.example")]);
        let id = VcenterId::from_bytes([2; 16]);
        let by_name = vcenters.resolve("two").expect("by name");
        assert_eq!(by_name.vcenter, id);
        assert_eq!(vcenters.resolve(&id.to_string()).expect("by id"), by_name);
        assert_eq!(
            vcenters.of_request(RequestId::from_bytes([2; 16])),
            Some(by_name)
        );
        for missing in ["three", &VcenterId::mint().to_string()] {
            let fault = vcenters.resolve(missing).expect_err("not there");
            assert_eq!(fault.reason, Reason::VcenterNotFound);
        }
    }

    #[test]
    fn an_event_survives_json() {
        let event = added(1, "one", "1.example");
        let json = serde_json::to_string(&event).expect("serializes");
        assert_eq!(
            serde_json::from_str::<VcenterEvent>(&json).expect("parses"),
            event
        );
        assert!(serde_json::from_str::<VcenterEvent>(&json.replace("0303", "03")).is_err());
    }
}
