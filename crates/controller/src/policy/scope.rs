//! Whom policies are for, as the vCenters show it now.
//!
//! Scopes are looked at again and again, so that a new VM in a folder is protected without anybody typing
//! anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use stillwater_policy::{DiskFacts, DiskVerdict, Policy, Verdict, VmFacts};
use stillwater_types::{Fault, VcenterId, VmId};
use stillwater_vsphere::{VmDisk, VmSummary};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Applied;
use crate::memory::Memory;
use crate::schedule::{Member, MemberDisk, Promise, Promises, datastore_of};
use crate::vcenter::{Sessions, Vcenter};

/// Looks at the vCenters; clones share the sessions.
#[derive(Clone)]
pub struct Scopes {
    memory: Memory,
    sessions: Sessions,
}

/// What the vCenters have.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    /// Every VM of every vCenter that answered.
    pub(super) vms: Vec<Seen>,
    /// Those that did not.
    unread: BTreeMap<VcenterId, Fault>,
}

/// One VM as its vCenter shows it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// What scopes ask of.
    pub(super) facts: VmFacts,
    /// Its inventory path.
    pub(super) path: String,
    host: Option<String>,
    disks: Vec<VmDisk>,
}

impl Scopes {
    /// Asks through `sessions`.
    pub fn new(memory: Memory, sessions: Sessions) -> Self {
        Self { memory, sessions }
    }

    /// Keeps telling what is promised to whom: every so often, and at once when a policy changes. Without a
    /// policy no vCenter is asked.
    pub async fn run(
        self,
        every: Duration,
        promises: watch::Sender<Arc<Promises>>,
        stop: CancellationToken,
    ) {
        let mut states = self.memory.watch();
        loop {
            let applied: Vec<Applied> = states
                .borrow_and_update()
                .policies
                .iter()
                .cloned()
                .collect();
            let look = match applied.is_empty() {
                true => Look::default(),
                false => match stop.run_until_cancelled(self.look_around()).await {
                    Some(look) => look,
                    None => return,
                },
            };
            for (vcenter, fault) in &look.unread {
                tracing::warn!(vcenter.id = %vcenter, %fault, "scopes of policies are as they were there");
            }
            promises.send_replace(Arc::new(look.promises(&applied)));
            let changed = async {
                while states.changed().await.is_ok() {
                    let now = states.borrow_and_update();
                    if !now.policies.iter().eq(applied.iter()) {
                        return;
                    }
                }
            };
            let pause = tokio::time::timeout(every, changed);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// What every vCenter has.
    ///
    /// # Errors
    /// Those of the first vCenter that does not answer.
    pub(super) async fn look(&self) -> Result<Look, Fault> {
        let look = self.look_around().await;
        match look.unread.into_values().next() {
            Some(fault) => Err(fault),
            None => Ok(Look {
                vms: look.vms,
                unread: BTreeMap::new(),
            }),
        }
    }

    async fn look_around(&self) -> Look {
        let state = self.memory.state();
        let looks = state.vcenters.iter().map(|vcenter| async move {
            let found = self.inventory(vcenter).await;
            (vcenter, found)
        });
        let mut look = Look::default();
        for (vcenter, found) in futures::future::join_all(looks).await {
            match found {
                Ok(found) => look.vms.extend(
                    found
                        .into_iter()
                        .map(|vm| seen(vcenter.vcenter, &vcenter.name, vm)),
                ),
                Err(fault) => {
                    let fault = fault.with("vcenter", &vcenter.name);
                    look.unread.insert(vcenter.vcenter, fault);
                }
            }
        }
        look
    }

    async fn inventory(&self, vcenter: &Vcenter) -> Result<Vec<VmSummary>, Fault> {
        let client = self.sessions.client(vcenter.vcenter).await?;
        client.inventory().await.map_err(Fault::from)
    }
}

impl Look {
    pub(super) fn facts(&self) -> Vec<VmFacts> {
        self.vms.iter().map(|seen| seen.facts.clone()).collect()
    }

    /// What is promised to whom.
    fn promises(&self, applied: &[Applied]) -> Promises {
        let promise = |applied: &Applied| Promise {
            policy: Arc::clone(&applied.policy),
            since: applied.since,
            members: self
                .vms
                .iter()
                .filter_map(|seen| member(&applied.policy, seen))
                .collect(),
        };
        Promises {
            policies: applied.iter().map(promise).collect(),
            unread: self.unread.keys().copied().collect(),
        }
    }
}

fn seen(vcenter: VcenterId, name: &str, vm: VmSummary) -> Seen {
    let folder = vm.path.rsplit_once('/').map(|(folder, _)| folder);
    let disks = vm.disks.iter().map(|disk| DiskFacts {
        key: disk.key,
        label: disk.label.clone(),
    });
    let facts = VmFacts {
        vm: VmId {
            vcenter,
            moref: vm.vm.as_str().to_owned(),
        },
        vcenter: name.to_owned(),
        name: vm.name,
        folder: folder.unwrap_or_default().to_owned(),
        cluster: vm.cluster,
        resource_pool: vm.resource_pool,
        tags: Vec::new(),
        disks: disks.collect(),
        template: vm.template,
    };
    Seen {
        facts,
        path: vm.path,
        host: vm.host,
        disks: vm.disks,
    }
}

/// The VM as a policy protects it, if it is in its scope.
fn member(policy: &Policy, seen: &Seen) -> Option<Member> {
    let Verdict::In { disks, .. } = policy.scope.verdict(&seen.facts) else {
        return None;
    };
    let excluded: BTreeSet<i32> = disks
        .iter()
        .filter(|disk| disk.excluded_by.is_some())
        .map(|disk: &DiskVerdict| disk.key)
        .collect();
    let is_protected =
        |disk: &&VmDisk| !excluded.contains(&disk.key) && disk.protectability.is_protectable();
    let disks = seen
        .disks
        .iter()
        .filter(is_protected)
        .map(|disk| MemberDisk {
            key: disk.key,
            datastore: datastore_of(&disk.file_name).unwrap_or_default().to_owned(),
            capacity_bytes: disk.capacity_bytes,
        });
    Some(Member {
        vm: seen.facts.vm.clone(),
        name: seen.facts.name.clone(),
        host: seen.host.clone(),
        disks: disks.collect(),
        excluded: excluded.into_iter().collect(),
    })
}

/// A verdict in words.
pub(super) fn why(verdict: &Verdict) -> String {
    match verdict {
        Verdict::In { by, disks } => {
            let excluded = disks.iter().filter(|disk| disk.excluded_by.is_some());
            match excluded.count() {
                0 => format!("in by {by}"),
                count => format!("in by {by}, without {count} of its disks"),
            }
        }
        Verdict::Outside => "no clause of scope.include fits".to_owned(),
        Verdict::Excluded { by } => format!("left out by {by}"),
        Verdict::Template => "a template never runs".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use stillwater_types::Reason;
    use stillwater_vsphere::{DiskTraits, Power, Protectability, Tools, VmRef};

    use super::*;

    fn vcenter() -> VcenterId {
        VcenterId::from_bytes([1; 16])
    }

    fn disk(key: i32, file: &str, protectability: Protectability) -> VmDisk {
        VmDisk {
            key,
            label: format!("Hard disk {}", key - 1999),
            capacity_bytes: 1 << 30,
            file_name: file.to_owned(),
            backing_uuid: None,
            mode: "persistent".to_owned(),
            protectability,
            controller_key: 1000,
            unit: 0,
            traits: DiskTraits::default(),
        }
    }

    fn vm(path: &str) -> VmSummary {
        let disks = vec![
            disk(2000, "[ds 1] web/web.vmdk", Protectability::Protectable),
            disk(2001, "[ds2] web/swap.vmdk", Protectability::Protectable),
            disk(2002, "[ds2] web/raw.vmdk", Protectability::PhysicalRdm),
        ];
        VmSummary {
            vm: VmRef::new("vm-7"),
            name: path.rsplit('/').next().unwrap_or_default().to_owned(),
            path: path.to_owned(),
            uuid: None,
            instance_uuid: None,
            power: Power::On,
            tools: Tools::Running,
            cbt: true,
            disk_count: disks.len(),
            disks,
            capacity_bytes: 0,
            template: false,
            host: Some("esx-1".to_owned()),
            cluster: Some("C0".to_owned()),
            resource_pool: Some("/DC0/host/C0/Resources/gold".to_owned()),
            datastores: vec!["ds 1".to_owned(), "ds2".to_owned()],
        }
    }

    fn applied(scope: &str) -> Applied {
        let text = format!(
            "name = 'gold'\n{scope}\n[schedule]\nrpo = '1h'\n[retention]\nkeep-last = 3\n[store]\nrepository = 'main'\n"
        );
        Applied {
            policy: Arc::new(Policy::parse(&text).expect("is a policy")),
            since: Timestamp::UNIX_EPOCH,
            changed_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[track_caller]
    fn check(scope: &str, expected: bool) -> Option<Member> {
        let look = Look {
            vms: vec![seen(vcenter(), "lab", vm("/DC0/vm/shop/web"))],
            unread: BTreeMap::new(),
        };
        let mut promises = look.promises(&[applied(scope)]);
        let member = promises.policies.remove(0).members.pop();
        assert_eq!(member.is_some(), expected, "{scope}");
        member
    }

    #[test]
    fn a_scope_names_what_a_list_of_vms_shows() {
        check("[[scope.include]]\nfolder = '/DC0/vm/shop'", true);
        check("[[scope.include]]\nfolder = '/DC0/vm'", true);
        check("[[scope.include]]\nfolder = '/DC0/vm/sho'", false);
        check("[[scope.include]]\ncluster = 'C0'\nvcenter = 'lab'", true);
        check("[[scope.include]]\ncluster = 'C1'", false);
        let pool = "/DC0/host/C0/Resources/gold";
        check(
            &format!("[[scope.include]]\nresource-pool = '{pool}'"),
            true,
        );
        check("[[scope.include]]\nname = 'w*'", true);
        let id = format!("{}/vm-7", vcenter());
        check(&format!("[[scope.include]]\nvm = '{id}'"), true);
        let all_but = "[[scope.include]]\nname = '*'\n[[scope.exclude]]\nname = 'web'";
        check(all_but, false);
    }

    #[test]
    fn a_member_has_the_disks_that_are_read_and_where_they_lie() {
        let scope = "[[scope.include]]\nname = '*'\n[[scope.exclude-disks]]\nlabel = 'Hard disk 2'";
        let member = check(scope, true).expect("is in");
        let disks = member.disks.iter().map(|disk| disk.datastore.as_str());
        let disks: Vec<_> = disks.collect();
        assert_eq!(disks, ["ds 1"], "neither the excluded nor the raw one");
        let excluded = member.excluded;
        assert_eq!(
            excluded,
            [2001],
            "the raw one is missed and told, not excluded"
        );
        assert_eq!(member.host.as_deref(), Some("esx-1"));
    }

    #[test]
    fn a_vcenter_that_does_not_answer_is_told_with_what_others_have() {
        let fault = Fault::new(Reason::VcenterUnreachable, "down");
        let look = Look {
            vms: Vec::new(),
            unread: [(vcenter(), fault)].into(),
        };
        let promises = look.promises(&[applied("[[scope.include]]\nname = '*'")]);
        assert_eq!(promises.unread, [vcenter()].into());
        assert_eq!(promises.policies.len(), 1);
    }
}
