//! Accounts in guests: kept for a VM or for all VMs below a folder, the nearest counts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use stillwater_seal::Purpose;
use stillwater_types::{Fault, Reason, VcenterId, VmId};
use stillwater_vsphere::GuestLogin;

use crate::event::Part;
use crate::secret::{Sealed, Secrets};

/// Whose guests an account is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// One VM.
    Vm(VmId),
    /// Every VM below a folder. A password must never reach the guests of another vCenter that has a
    /// folder of the same name.
    Folder {
        /// The vCenter.
        vcenter: VcenterId,
        /// The inventory path, without a slash at its end.
        path: String,
    },
}

impl fmt::Display for Subject {
    /// Names whose password is sealed; part of the format.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Vm(vm) => write!(f, "vm {vm}"),
            Subject::Folder { vcenter, path } => write!(f, "folder {vcenter} {path}"),
        }
    }
}

impl Subject {
    fn vcenter(&self) -> VcenterId {
        match self {
            Subject::Vm(vm) => vm.vcenter,
            Subject::Folder { vcenter, .. } => *vcenter,
        }
    }
}

/// An account in guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose guests.
    pub subject: Subject,
    /// The account.
    pub username: String,
    /// Its password, sealed for this subject.
    pub password: Sealed,
}

impl Account {
    /// The login, with the password in the open.
    ///
    /// # Errors
    /// `SECRET_UNREADABLE`.
    pub fn login(&self, secrets: &Secrets) -> Result<GuestLogin, Fault> {
        let context = self.subject.to_string();
        let open = secrets.open(Purpose::GuestPassword, context.as_bytes(), &self.password)?;
        let password = std::str::from_utf8(&open)
            .map_err(|_| Fault::new(Reason::SecretUnreadable, "a guest's password is no text"))?;
        Ok(GuestLogin {
            username: self.username.clone(),
            password: SecretString::from(password),
        })
    }
}

/// One change of the accounts in guests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialEvent {
    /// An account is kept, in the place of the one that was there.
    Set {
        /// Whose guests.
        subject: Subject,
        /// The account.
        username: String,
        /// Its password, sealed for this subject.
        password: Sealed,
    },
    /// An account and its password were forgotten.
    Removed {
        /// Whose guests.
        subject: Subject,
    },
}

/// The accounts that are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    accounts: BTreeMap<Subject, Arc<Account>>,
}

impl Credentials {
    /// Every account.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Account>> + '_ {
        self.accounts.values()
    }

    /// The account for a VM that lies at `path`: its own, else that of the nearest folder.
    ///
    /// # Errors
    /// `GUEST_CREDENTIAL_MISSING`.
    pub fn nearest(&self, vm: &VmId, path: &str) -> Result<&Arc<Account>, Fault> {
        if let Some(own) = self.accounts.get(&Subject::Vm(vm.clone())) {
            return Ok(own);
        }
        let mut rest = path;
        while let Some((folder, _)) = rest.rsplit_once('/').filter(|(up, _)| !up.is_empty()) {
            let subject = Subject::Folder {
                vcenter: vm.vcenter,
                path: folder.to_owned(),
            };
            if let Some(found) = self.accounts.get(&subject) {
                return Ok(found);
            }
            rest = folder;
        }
        Err(Fault::new(
            Reason::GuestCredentialMissing,
            "no account is kept for the guest of this vm or for a folder above it; keep one with `stillwater guest-credential set`",
        )
        .with("vm", vm))
    }

    /// Forgets what belongs to a vCenter that is forgotten.
    pub fn forget_vcenter(&mut self, vcenter: VcenterId) {
        self.accounts
            .retain(|subject, _| subject.vcenter() != vcenter);
    }
}

impl Part for Credentials {
    type Event = CredentialEvent;

    fn check(&self, _at: Timestamp, event: &CredentialEvent) -> Result<(), Fault> {
        match event {
            CredentialEvent::Removed { subject } if !self.accounts.contains_key(subject) => {
                Err(Fault::new(
                    Reason::GuestCredentialMissing,
                    "no account is kept for that; `stillwater guest-credential list` names those that are",
                )
                .with("subject", subject))
            }
            CredentialEvent::Set { .. } | CredentialEvent::Removed { .. } => Ok(()),
        }
    }

    fn apply(&mut self, _at: Timestamp, event: &CredentialEvent) {
        match event {
            CredentialEvent::Set {
                subject,
                username,
                password,
            } => {
                let account = Account {
                    subject: subject.clone(),
                    username: username.clone(),
                    password: password.clone(),
                };
                self.accounts.insert(subject.clone(), Arc::new(account));
            }
            CredentialEvent::Removed { subject } => {
                self.accounts.remove(subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use stillwater_seal::KeyEncryptionKey;

    use super::*;

    fn vcenter(n: u8) -> VcenterId {
        VcenterId::from_bytes([n; 16])
    }

    fn vm(n: u8, moref: &str) -> VmId {
        VmId {
            vcenter: vcenter(n),
            moref: moref.into(),
        }
    }

    fn folder(n: u8, path: &str) -> Subject {
        Subject::Folder {
            vcenter: vcenter(n),
            path: path.into(),
        }
    }

    fn set(subject: Subject, username: &str) -> CredentialEvent {
        CredentialEvent::Set {
            subject,
            username: username.into(),
            password: Sealed::try_from("c2VhbGVk".to_owned()).expect("good base64"),
        }
    }

    fn kept() -> Credentials {
        let mut kept = Credentials::default();
        for event in [
            set(folder(1, "/DC0/vm"), "all"),
            set(folder(1, "/DC0/vm/shop"), "shop"),
            set(folder(1, "/DC0/vm/shop/db"), "db"),
            set(Subject::Vm(vm(1, "vm-7")), "own"),
            set(folder(2, "/DC0/vm/shop"), "other"),
        ] {
            kept.check(Timestamp::UNIX_EPOCH, &event).expect("fits");
            kept.apply(Timestamp::UNIX_EPOCH, &event);
        }
        kept
    }

    #[track_caller]
    fn check(vm: VmId, path: &str, expected: Option<&str>) {
        let kept = kept();
        let found = kept
            .nearest(&vm, path)
            .map(|account| account.username.as_str());
        assert_eq!(found.ok(), expected);
    }

    #[test]
    fn the_nearest_account_counts() {
        check(vm(1, "vm-7"), "/DC0/vm/shop/db/a", Some("own"));
        check(vm(1, "vm-8"), "/DC0/vm/shop/db/a", Some("db"));
        check(vm(1, "vm-8"), "/DC0/vm/shop/web/deep/a", Some("shop"));
        check(vm(1, "vm-8"), "/DC0/vm/shopping/a", Some("all"));
        check(vm(1, "vm-8"), "/DC0/vm/shop", Some("all"));
        check(vm(1, "vm-8"), "/DC1/vm/a", None);
        check(vm(1, "vm-8"), "", None);
        check(vm(2, "vm-7"), "/DC0/vm/shop/a", Some("other"));
        check(vm(2, "vm-7"), "/DC0/vm/a", None);
    }

    #[test]
    fn an_account_is_replaced_removed_and_forgotten_with_its_vcenter() {
        let mut kept = kept();
        let at = Timestamp::UNIX_EPOCH;
        kept.apply(at, &set(folder(1, "/DC0/vm/shop"), "new"));
        let found = kept.nearest(&vm(1, "vm-8"), "/DC0/vm/shop/a").unwrap();
        assert_eq!(found.username, "new");
        let removed = CredentialEvent::Removed {
            subject: folder(1, "/DC0/vm/shop"),
        };
        assert!(kept.check(at, &removed).is_ok());
        kept.apply(at, &removed);
        let again = kept.check(at, &removed).map_err(|fault| fault.reason);
        assert_eq!(again, Err(Reason::GuestCredentialMissing));
        kept.forget_vcenter(vcenter(1));
        assert_eq!(kept.iter().count(), 1);
    }

    #[test]
    fn a_password_opens_for_its_own_guests_only() {
        let secrets = Secrets::new(KeyEncryptionKey::generate().unwrap());
        let subject = folder(1, "/DC0/vm/shop");
        let context = subject.to_string();
        let password = secrets
            .seal(Purpose::GuestPassword, context.as_bytes(), b"canary")
            .unwrap();
        let mut account = Account {
            subject,
            username: "root".into(),
            password,
        };
        let login = account.login(&secrets).unwrap();
        assert_eq!(login.password.expose_secret(), "canary");
        assert!(!format!("{account:?}{login:?}").contains("canary"));
        account.subject = folder(2, "/DC0/vm/shop");
        let stolen = account.login(&secrets).map_err(|fault| fault.reason);
        assert_eq!(stolen.err(), Some(Reason::SecretUnreadable));
    }

    #[test]
    fn an_event_survives_json() {
        for event in [
            set(folder(1, "/DC0/vm"), "a"),
            set(Subject::Vm(vm(1, "vm-7")), "b"),
            CredentialEvent::Removed {
                subject: Subject::Vm(vm(1, "vm-7")),
            },
        ] {
            let json = serde_json::to_string(&event).unwrap();
            assert_eq!(
                serde_json::from_str::<CredentialEvent>(&json).unwrap(),
                event
            );
        }
    }
}
