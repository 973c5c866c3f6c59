//! Whom policies are for, as the vCenters show it now.
//!
//! Scopes are looked at again and again, so that a new VM in a folder is protected without anybody typing
//! anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stillwater_policy::{DiskFacts, DiskVerdict, Policy, Tag, Verdict, VmFacts};
use stillwater_types::{Fault, VcenterId, VmId};
use stillwater_vsphere::{Client, TagNames, TaggedVms, VmDisk, VmSummary};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Applied;
use crate::memory::Memory;
use crate::schedule::{Member, MemberDisk, Promise, Promises, datastore_of};
use crate::vcenter::Sessions;

/// The tags of a vCenter are read by a call each, and seldom change: whoever wants to see them at once asks.
const NAMES_LAST: Duration = Duration::from_secs(300);

/// Looks at the vCenters; clones share the sessions and what is known of tags.
#[derive(Clone)]
pub struct Scopes {
    memory: Memory,
    sessions: Sessions,
    tags: Arc<Mutex<BTreeMap<VcenterId, KnownTags>>>,
}

/// The names of a vCenter's tags, and when they were read.
#[derive(Clone)]
struct KnownTags {
    names: Arc<TagNames>,
    read_at: Instant,
}

/// Which tags are asked for.
struct Asked<'a> {
    tags: BTreeSet<&'a str>,
    /// Whether their names are read anew.
    afresh: bool,
}

/// What the vCenters have.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    /// Every VM of every vCenter that answered.
    pub(super) vms: Vec<Seen>,
    /// Those that did not.
    unread: BTreeMap<VcenterId, Fault>,
    /// Those that answered, but did not tell their tags.
    untagged: BTreeMap<VcenterId, Fault>,
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
        Self {
            memory,
            sessions,
            tags: Arc::default(),
        }
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
                false => {
                    let asked = Asked::of(applied.iter().map(|applied| &*applied.policy), false);
                    match stop.run_until_cancelled(self.look_around(&asked)).await {
                        Some(look) => look,
                        None => return,
                    }
                }
            };
            for (vcenter, fault) in &look.unread {
                tracing::warn!(vcenter.id = %vcenter, %fault, "scopes of policies are as they were there");
            }
            for (vcenter, fault) in &look.untagged {
                tracing::warn!(vcenter.id = %vcenter, %fault, "scopes of policies that name tags are as they were there");
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

    /// What every vCenter has, with the tags that `policies` name.
    ///
    /// # Errors
    /// Those of the first vCenter that does not answer, or does not tell its tags.
    pub(super) async fn look<'a>(
        &self,
        policies: impl IntoIterator<Item = &'a Policy>,
    ) -> Result<Look, Fault> {
        let look = self.look_around(&Asked::of(policies, true)).await;
        match look
            .unread
            .into_values()
            .chain(look.untagged.into_values())
            .next()
        {
            Some(fault) => Err(fault),
            None => Ok(Look {
                vms: look.vms,
                ..Look::default()
            }),
        }
    }

    async fn look_around(&self, asked: &Asked<'_>) -> Look {
        let state = self.memory.state();
        let looks = state.vcenters.iter().map(|vcenter| async move {
            let found = self.inventory(vcenter.vcenter, asked).await;
            (vcenter, found)
        });
        let mut look = Look::default();
        for (vcenter, found) in futures::future::join_all(looks).await {
            let told = |fault: Fault| fault.with("vcenter", &vcenter.name);
            match found {
                Ok((found, tagged)) => {
                    let tagged = tagged.unwrap_or_else(|fault| {
                        look.untagged.insert(vcenter.vcenter, told(fault));
                        TaggedVms::new()
                    });
                    let seen = |vm: VmSummary| {
                        let tags = tagged.get(&vm.vm).into_iter().flatten();
                        seen(vcenter.vcenter, &vcenter.name, vm, tags)
                    };
                    look.vms.extend(found.into_iter().map(seen));
                }
                Err(fault) => {
                    look.unread.insert(vcenter.vcenter, told(fault));
                }
            }
        }
        look
    }

    /// The VMs of a vCenter, and the tags of theirs that are asked for, if it tells them.
    async fn inventory(
        &self,
        vcenter: VcenterId,
        asked: &Asked<'_>,
    ) -> Result<(Vec<VmSummary>, Result<TaggedVms, Fault>), Fault> {
        let client = self.sessions.client(vcenter).await?;
        let vms = client.inventory().await.map_err(Fault::from)?;
        Ok((vms, self.tagged(vcenter, &client, asked).await))
    }

    async fn tagged(
        &self,
        vcenter: VcenterId,
        client: &Client,
        asked: &Asked<'_>,
    ) -> Result<TaggedVms, Fault> {
        if asked.tags.is_empty() {
            return Ok(TaggedVms::new());
        }
        let names = self.tag_names(vcenter, client, asked.afresh).await?;
        let wanted = |tag: &stillwater_vsphere::Tag| {
            let tag = tag_of(tag);
            asked.tags.iter().any(|asked| tag.is(asked))
        };
        let tagged = client.tagged_vms(&names, wanted).await;
        tagged.map_err(Fault::from)
    }

    /// The names of the tags, as they were read at most a while ago.
    async fn tag_names(
        &self,
        vcenter: VcenterId,
        client: &Client,
        afresh: bool,
    ) -> Result<Arc<TagNames>, Fault> {
        let known = self.known_tags().get(&vcenter).cloned();
        if let Some(known) = known.filter(|known| !afresh && known.read_at.elapsed() < NAMES_LAST) {
            return Ok(known.names);
        }
        let names = Arc::new(client.tag_names().await.map_err(Fault::from)?);
        let known = KnownTags {
            names: Arc::clone(&names),
            read_at: Instant::now(),
        };
        self.known_tags().insert(vcenter, known);
        Ok(names)
    }

    fn known_tags(&self) -> MutexGuard<'_, BTreeMap<VcenterId, KnownTags>> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Asked<'a> {
    fn of(policies: impl IntoIterator<Item = &'a Policy>, afresh: bool) -> Self {
        let policies = policies.into_iter();
        Self {
            tags: policies.flat_map(|policy| policy.scope.tags()).collect(),
            afresh,
        }
    }
}

impl Look {
    /// The VMs in scope; of a vCenter whose tags are not known, nobody is by a policy that names any.
    fn members(&self, policy: &Policy) -> Vec<Member> {
        let names_tags = policy.scope.tags().next().is_some();
        let is_known =
            |seen: &&Seen| !(names_tags && self.untagged.contains_key(&seen.facts.vm.vcenter));
        let known = self.vms.iter().filter(is_known);
        known.filter_map(|seen| member(policy, seen)).collect()
    }

    pub(super) fn facts(&self) -> Vec<VmFacts> {
        self.vms.iter().map(|seen| seen.facts.clone()).collect()
    }

    /// What is promised to whom.
    fn promises(&self, applied: &[Applied]) -> Promises {
        let promise = |applied: &Applied| Promise {
            policy: Arc::clone(&applied.policy),
            since: applied.since,
            members: self.members(&applied.policy),
        };
        Promises {
            policies: applied.iter().map(promise).collect(),
            unread: self.unread.keys().copied().collect(),
            untagged: self.untagged.keys().copied().collect(),
        }
    }
}

fn tag_of(tag: &stillwater_vsphere::Tag) -> Tag {
    Tag {
        category: tag.category.clone(),
        name: tag.name.clone(),
    }
}

fn seen<'a>(
    vcenter: VcenterId,
    name: &str,
    vm: VmSummary,
    tags: impl Iterator<Item = &'a stillwater_vsphere::Tag>,
) -> Seen {
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
        tags: tags.map(tag_of).collect(),
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

    fn gold() -> stillwater_vsphere::Tag {
        stillwater_vsphere::Tag {
            category: "Backup".to_owned(),
            name: "Gold".to_owned(),
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
            vms: vec![seen(
                vcenter(),
                "lab",
                vm("/DC0/vm/shop/web"),
                [gold()].iter(),
            )],
            ..Look::default()
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
        check("[[scope.include]]\ntag = 'Backup/Gold'", true);
        check("[[scope.include]]\ntag = 'Backup/*'", true);
        check("[[scope.include]]\ntag = 'Backup/Silver'", false);
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
            unread: [(vcenter(), fault)].into(),
            ..Look::default()
        };
        let promises = look.promises(&[applied("[[scope.include]]\nname = '*'")]);
        assert_eq!(promises.unread, [vcenter()].into());
        assert_eq!(promises.policies.len(), 1);
    }

    #[test]
    fn while_tags_are_not_told_nobody_comes_in_or_stays_in_by_a_policy_that_names_any() {
        let fault = Fault::new(Reason::VcenterUnreachable, "down");
        let look = Look {
            vms: vec![seen(vcenter(), "lab", vm("/DC0/vm/web"), [].iter())],
            untagged: [(vcenter(), fault)].into(),
            ..Look::default()
        };
        let all = "[[scope.include]]\nname = '*'";
        let but = "[[scope.include]]\nname = '*'\n[[scope.exclude]]\ntag = 'Backup/Gold'";
        let promises = look.promises(&[applied(all), applied(but)]);
        let members = |index: usize| promises.policies[index].members.len();
        assert_eq!(members(0), 1, "by name it is known");
        assert_eq!(members(1), 0, "it may have the tag");
        let is_unread =
            |index: usize| promises.is_unread(&promises.policies[index].policy, vcenter());
        assert!(!is_unread(0) && is_unread(1));
    }
}
