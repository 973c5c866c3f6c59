//! Taking the disks of a VM back to a point.
//!
//! A snapshot stands only while vSphere is asked what changed: what is written below a snapshot spoils
//! it. Change tracking is off before the first byte, so that no later map calls unchanged what was
//! written here, whatever becomes of the run.

use stillwater_proxy_api as proxy_api;
use stillwater_rpc::grant::Verb;
use stillwater_types::{Fault, Reason, VmId};
use stillwater_vsphere::{AttachMode, FrozenDisk, NfcAccess};

use super::host::Need;
use super::hotadd::HOT_ADD;
use super::map::{base_root, ensure_frozen, fitting};
use super::transfer::{NFC, Ordered};
use super::{Act, Came, missing};
use crate::alarm::{AlarmKind, Subject};
use crate::point::{How, OpenedPoint};
use crate::restore;
use crate::run::cause::Cause;
use crate::run::event::{DiskReading, InPlaceWork, RunEvent, Work};
use crate::run::outside::{Changes, MadeDisk};
use crate::run::reading::{self, Base, Plan, Present, Why};
use crate::run::transport::{Account, NFC_IS_OFF, WHY_HOT_ADD};

/// What is known of a disk before it is written over.
struct Seen {
    /// What the proxy is told; nothing has it compare all of the disk.
    known: Option<proxy_api::Known>,
    /// Why all of it is compared.
    why: Option<Why>,
    /// How much no point has, as far as vSphere tells.
    unsaved_bytes: Option<u64>,
}

impl Act {
    /// What is refused is refused before anything is touched.
    pub(super) async fn plan_in_place(&self, work: &InPlaceWork) -> Result<RunEvent, Fault> {
        self.ensure_way()?;
        let planned = self
            .plan_from_point(work.point, work.repository, None)
            .await?;
        let vm = self
            .repeat(&self.world.timing.call, || async {
                self.world.vsphere.vm(&work.vm).await
            })
            .await?;
        let stored = self.stored_disks()?;
        let plan = restore::in_place(&vm, &stored).accepted()?;
        let base = self.find_base(&work.vm, work.repository).await;
        let mut notes = self.scratch.notes();
        notes.base = base;
        notes.vm = Some(vm);
        let left = plan.left.iter().map(|label| {
            let message = format!("{label} is not in the point and stays as it is");
            Cause::new(Reason::RestoreDiffers, message)
        });
        Ok(match planned {
            RunEvent::Planned {
                target,
                disks,
                missing,
                mut warnings,
            } => {
                warnings.extend(left);
                RunEvent::Planned {
                    target,
                    disks,
                    missing,
                    warnings,
                }
            }
            other => other,
        })
    }

    /// A run that nobody can write for would only leave an alarm.
    fn ensure_way(&self) -> Result<(), Fault> {
        match self.world.reads_nfc || self.world.hot_adds {
            true => Ok(()),
            false => Err(no_way()),
        }
    }

    fn stored_disks(&self) -> Result<Vec<stillwater_format::manifest::Disk>, Fault> {
        let notes = self.scratch.notes();
        let point = notes.point.as_ref().ok_or_else(|| missing("point"))?;
        Ok(point.manifest.disks.clone())
    }

    /// Finds out where the disks may differ from the point, and what would be lost. The snapshot goes
    /// after it, and with it the tracking that is turned off here.
    pub(super) async fn map_in_place(&self, work: &InPlaceWork) -> Came {
        let vm = self.vm()?;
        let held = self.run.snapshot.as_ref();
        let snapshot = held.and_then(|held| held.snapshot.as_ref());
        let snapshot = snapshot.ok_or_else(|| missing("snapshot"))?;
        let frozen = self
            .repeat(&self.world.timing.call, || async {
                self.world.vsphere.snapshot_config(vm, snapshot).await
            })
            .await?;
        let planned = self.scratch.notes().vm.clone();
        let planned = planned.ok_or_else(|| missing("plan"))?;
        let saved = self.newest_elsewhere(work).await?;
        let mut readings = std::collections::BTreeMap::new();
        let mut unsaved_bytes = Some(0_u64);
        for matched in restore::in_place(&planned, &self.stored_disks()?).disks {
            let disk = frozen.disks.iter().find(|disk| disk.key == matched.now);
            let disk = disk.filter(|disk| disk.capacity_bytes == matched.length_bytes);
            let disk = disk.ok_or_else(|| changed_meanwhile().with("disk", matched.key))?;
            ensure_frozen(disk)?;
            let seen = self.see(snapshot, disk, saved.as_ref()).await?;
            unsaved_bytes = unsaved_bytes
                .zip(seen.unsaved_bytes)
                .map(|(sum, bytes)| sum.saturating_add(bytes));
            readings.insert(matched.key, seen.told());
            let mut notes = self.scratch.notes();
            notes.known.insert(matched.key, seen.known);
            notes.made.insert(
                matched.key,
                MadeDisk {
                    key: disk.key,
                    file_name: disk.file_name.clone(),
                },
            );
        }
        self.ensure_saved(work, unsaved_bytes, saved.as_ref())?;
        if planned.cbt_enabled {
            self.repeat(&self.world.timing.call, || async {
                self.world.vsphere.disable_tracking(vm).await
            })
            .await?;
        }
        Ok(vec![RunEvent::Mapped {
            missing: Vec::new(),
            readings,
            warnings: Vec::new(),
        }])
    }

    /// The VM's newest point, where another repository has it than the one that is restored from: it has
    /// what changed since, but its trees are of another dataset.
    async fn newest_elsewhere(&self, work: &InPlaceWork) -> Result<Option<OpenedPoint>, Fault> {
        match self.newest_repository(&work.vm).await? {
            Some(other) if other != work.repository => Ok(self.find_base(&work.vm, other).await),
            _ => Ok(None),
        }
    }

    /// What no point has is lost only where somebody said so, or where a run before this one has begun
    /// to write over it.
    fn ensure_saved(
        &self,
        work: &InPlaceWork,
        unsaved_bytes: Option<u64>,
        saved: Option<&OpenedPoint>,
    ) -> Result<(), Fault> {
        let is_begun = self.is_half_restored(&work.vm);
        if work.discard_changes || is_begun || unsaved_bytes == Some(0) {
            return Ok(());
        }
        let notes = self.scratch.notes();
        let newest = saved.or(notes.base.as_ref());
        let newest = newest.map(|point| point.manifest.point);
        let what = match (unsaved_bytes, newest) {
            (Some(bytes), Some(point)) => {
                format!("{bytes} bytes changed since point {point}, and no point has them")
            }
            (None, Some(point)) => {
                format!("what changed since point {point} is not known, and no point may have it")
            }
            (_, None) => "no point of the repository has the vm as it is".to_owned(),
        };
        let message = format!(
            "{what}: run `stillwater backup` of the vm first, or give --discard-changes to lose it; nothing was touched"
        );
        Err(Fault::new(Reason::ChangesNotSaved, message).with("vm", &work.vm))
    }

    /// Whether a run wrote over disks of a VM and did not come to its end.
    fn is_half_restored(&self, vm: &VmId) -> bool {
        let state = self.world.memory.state();
        let subject = Subject::from(vm.clone());
        state
            .alarms
            .find(AlarmKind::HalfRestored, &subject)
            .is_some()
    }

    /// What a person should know of a point of a VM that is half restored.
    pub(super) fn half_restored(&self, vm: &VmId) -> Option<Cause> {
        self.is_half_restored(vm).then(|| {
            let message = "a restore in place of the vm did not come to its end: this point has its disks as they are, half written over; `stillwater alarm list` has the command that does the rest";
            Cause::new(Reason::RestoreDiffers, message)
        })
    }

    /// What vSphere and the newest point tell of a disk.
    async fn see(
        &self,
        snapshot: &str,
        disk: &FrozenDisk,
        saved: Option<&OpenedPoint>,
    ) -> Result<Seen, Fault> {
        let newest = self.scratch.notes().base.clone();
        let base = newest.as_ref().and_then(|point| Base::find(point, disk));
        let is_base_damaged = base
            .as_ref()
            .is_some_and(|base| self.world.bases.is_damaged(base.point));
        let present = Present {
            disk,
            foreign_snapshots: &[],
            is_base_damaged,
            is_overwritten: self.is_overwritten_since(self.vm()?),
            is_compare_asked: false,
            now: self.world.clock.now(),
        };
        let plan = reading::plan(base.as_ref(), &present, &self.world.trust);
        let since = match (&plan, &base) {
            (Plan::Increment(since), _) => Some(since.clone()),
            // The map is not relied upon then, but it still tells what somebody would lose.
            (Plan::Compare(Why::Due), Some(base)) => base.since(),
            _ => None,
        };
        let changed = match since {
            Some(since) => self
                .changes(self.vm()?, snapshot, disk, Some(&since))
                .await
                .ok(),
            None => None,
        };
        let unsaved_bytes = match saved {
            Some(saved) => self.changed_since(saved, snapshot, disk).await,
            None => changed.as_ref().map(|changes| changes.areas.bytes()),
        };
        Ok(match (plan, base, changed) {
            (Plan::Increment(_), Some(base), Some(Changes { areas, .. })) => Seen {
                known: Some(proxy_api::Known {
                    base: base_root(&base),
                    changed: fitting(areas, disk.capacity_bytes),
                }),
                why: None,
                unsaved_bytes,
            },
            (Plan::Increment(_), ..) => Seen {
                known: None,
                why: Some(Why::NoMap),
                unsaved_bytes,
            },
            (Plan::Compare(why) | Plan::Full(why), ..) => Seen {
                known: None,
                why: Some(why),
                unsaved_bytes,
            },
        })
    }

    /// How much of a disk changed since a point, if that can be told.
    async fn changed_since(
        &self,
        point: &OpenedPoint,
        snapshot: &str,
        disk: &FrozenDisk,
    ) -> Option<u64> {
        let vm = self.vm().ok()?;
        let state = self.world.memory.state();
        if state.runs.is_overwritten_since(vm, point.manifest.run) {
            return None;
        }
        let since = Base::find(point, disk)?.since()?;
        if !since.same_tracking(disk.change_id.as_ref()?) {
            return None;
        }
        let changed = self.changes(vm, snapshot, disk, Some(&since)).await.ok()?;
        Some(changed.areas.bytes())
    }

    /// Looks once more: between the plan and this the VM was anybody's.
    pub(super) async fn begin_in_place(&self) -> Came {
        let vm = self.vm()?;
        let vm = self
            .repeat(&self.world.timing.call, || async {
                self.world.vsphere.vm(vm).await
            })
            .await?;
        let plan = restore::in_place(&vm, &self.stored_disks()?).accepted()?;
        let notes = self.scratch.notes();
        let is_same = plan.disks.iter().all(|disk| {
            let made = notes.made.get(&disk.key);
            made.is_some_and(|made| made.key == disk.now && made.file_name == disk.file_name)
        });
        match is_same && !vm.cbt_enabled {
            true => Ok(vec![RunEvent::InPlaceBegun]),
            false => Err(changed_meanwhile()),
        }
    }

    /// Has a proxy write what differs of a disk. Never through the folder, which replaces whole files.
    pub(super) async fn order_in_place(&self, key: i32) -> Result<Ordered, Fault> {
        let (made, known, given_up) = {
            let notes = self.scratch.notes();
            let made = notes.made.get(&key).cloned();
            let known = notes
                .known
                .get(&key)
                .cloned()
                .ok_or_else(|| missing("map"))?;
            let given_up = notes.given_up.get(&key).cloned().unwrap_or_default();
            (made.ok_or_else(|| missing("disk"))?, known, given_up)
        };
        let root = self.stored_root(key)?;
        let (mut account, mut fallbacks) = (self.write_account(key, &given_up), Vec::new());
        let attachment = self.disk(key)?.attachment.as_ref();
        if let Some(attachment) = attachment.filter(|_| !given_up.contains_key(HOT_ADD)) {
            let mode = AttachMode::Write;
            match self.attach(attachment, root.length_bytes, mode).await {
                Ok(disk) => {
                    account.take(HOT_ADD, WHY_HOT_ADD);
                    self.writes_by(key, HOT_ADD, account.told(HOT_ADD));
                    let target = proxy_api::Disk::HotAdd(disk);
                    return Ok(ordered(
                        (root, known),
                        target,
                        HOT_ADD,
                        (fallbacks, account),
                    ));
                }
                Err(fault) => {
                    account.pass(HOT_ADD, &fault.message);
                    fallbacks.push(fault);
                }
            }
            // Whether it is attached is not known: nobody else could write it then.
            self.detach([attachment]).await?;
        }
        if !self.world.reads_nfc {
            return Err(no_way().with("disk", key));
        }
        let access = NfcAccess::WriteDisk { key: made.key };
        let through_host = self
            .host_disk(access, &made.file_name, Need::Wanted)
            .await?;
        account.take(NFC, "the proxy has no nearer way than the disk's host");
        self.writes_by(key, NFC, account.told(NFC));
        let (disk, lease) = through_host.split();
        let target = proxy_api::Disk::Nfc(disk);
        Ok(Ordered {
            lease: Some(lease),
            ..ordered((root, known), target, NFC, (fallbacks, account))
        })
    }

    pub(super) fn is_in_place(&self) -> bool {
        matches!(self.run.work, Work::RestoreInPlace(_))
    }
}

impl Seen {
    fn told(&self) -> DiskReading {
        let how = match self.known {
            Some(_) => How::Increment,
            None => How::Compare,
        };
        DiskReading { how, why: self.why }
    }
}

fn ordered(
    (root, known): (proxy_api::DiskRoot, Option<proxy_api::Known>),
    target: proxy_api::Disk,
    way: &'static str,
    (fallbacks, account): (Vec<Fault>, Account),
) -> Ordered {
    Ordered {
        work: proxy_api::Work::Rewrite(proxy_api::Rewrite {
            root,
            target,
            known,
        }),
        verbs: [Verb::Read].into(),
        ways: vec![way],
        lease: None,
        fallbacks,
        account,
    }
}

fn changed_meanwhile() -> Fault {
    Fault::new(
        Reason::VcenterTaskFailed,
        "the vm was changed while its restore was prepared, and nothing was written: start the run again",
    )
}

fn no_way() -> Fault {
    let message = format!(
        "a disk is written in place through its host's nfc or attached to a proxy, and neither is possible: {NFC_IS_OFF}"
    );
    Fault::new(Reason::NotSupported, message)
}
