//! What becomes of each point: a pure function of the points, the policies, their scopes and the time.
//!
//! Points are judged per VM and repository. Whatever any policy that is for the VM there would keep stays: a
//! policy whose promise another one's points kept has none of its own, and counts on theirs. A policy that is not
//! for the VM any more, or writes elsewhere, ends only the points that it made itself.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};
use stillwater_policy::Policy;
use stillwater_policy::retention::{Course, Expire, Keep, Point, Standing, Terms, Verdict, decide};
use stillwater_types::{NodeId, PointId, VmId};

use crate::schedule::{Promise, Promises};

/// A point, and everything that it is judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Names it.
    pub point: PointId,
    /// Its VM.
    pub vm: VmId,
    /// What the VM was called.
    pub vm_name: String,
    /// The repository that keeps it.
    pub repository: NodeId,
    /// The policy that wanted it; none when a person asked for it, or nobody knows.
    pub policy: Option<String>,
    /// The moment that its content is of.
    pub at: Timestamp,
    /// When it began to exist.
    pub committed_at: Timestamp,
    /// Until when nobody can remove it.
    pub retain_until: Timestamp,
    /// Whether every disk of the VM is in it.
    pub is_whole: bool,
    /// What its last verification found.
    pub proof: Proof,
    /// Whether a run reads it.
    pub is_in_use: bool,
}

/// What the last verification of a point found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// There was none.
    None,
    /// Every byte of it can be restored.
    Sound,
    /// Some cannot.
    Damaged,
}

/// A repository that told its points just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelf {
    /// The name that policies have for it.
    pub name: String,
    /// How far its trusted time is behind the controller's clock.
    pub lag: SignedDuration,
}

/// By what points are judged, beside themselves.
#[derive(Debug, Clone, Copy)]
pub struct Present<'a> {
    /// What is promised to whom.
    pub promises: &'a Promises,
    /// The repositories that told their points just now.
    pub repositories: &'a BTreeMap<NodeId, Shelf>,
    /// The time.
    pub now: Timestamp,
}

/// A point, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The point.
    pub held: Held,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It stays, for each of these reasons.
    Keep(Vec<Stay>),
    /// No policy wants it any more: what each says of it.
    Expire(Vec<(String, Expire)>),
}

/// Why a point stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stay {
    /// A policy keeps it.
    Wanted(String, Keep),
    /// Nobody knows of a policy that wanted it: a person asked for it, or what was known is lost.
    NoPolicy,
    /// The policy that wanted it was removed, and its rule with it.
    PolicyRemoved,
    /// A run reads it.
    InUse,
    /// The VM's vCenter does not answer, so that nobody knows whether the VM is in scope.
    VcenterSilent,
    /// Its repository did not tell just now which points it has.
    RepositorySilent,
}

/// A policy with whom it is for.
struct Rule<'a> {
    promise: &'a Promise,
    members: HashSet<&'a VmId>,
}

/// What becomes of each point.
pub fn judge(held: Vec<Held>, present: &Present<'_>) -> Vec<Judged> {
    let rules = present.promises.policies.iter().map(|promise| Rule {
        promise,
        members: promise.members.iter().map(|member| &member.vm).collect(),
    });
    let rules: Vec<Rule<'_>> = rules.collect();
    let mut groups: BTreeMap<(VmId, NodeId), Vec<Held>> = BTreeMap::new();
    for point in held {
        let group = groups.entry((point.vm.clone(), point.repository));
        group.or_default().push(point);
    }
    let groups = groups.into_iter();
    groups
        .flat_map(|((vm, repository), points)| {
            let silent = silence(&vm, repository, present);
            let fates = match silent {
                Some(why) => points
                    .iter()
                    .map(|_| Fate::Keep(vec![why.clone()]))
                    .collect(),
                None => fates(&vm, repository, &points, &rules, present),
            };
            let judged = points.into_iter().zip(fates);
            judged.map(|(held, fate)| Judged { held, fate })
        })
        .collect()
}

/// Why nothing is decided about a VM's points on a repository: who does not know is no judge.
fn silence(vm: &VmId, repository: NodeId, present: &Present<'_>) -> Option<Stay> {
    let promises = present.promises;
    let mut policies = promises.policies.iter().map(|promise| &promise.policy);
    if policies.any(|policy| promises.is_unread(policy, vm.vcenter)) {
        return Some(Stay::VcenterSilent);
    }
    let has_told = present.repositories.contains_key(&repository);
    (!has_told).then_some(Stay::RepositorySilent)
}

/// What becomes of the points of one VM on one repository.
fn fates(
    vm: &VmId,
    repository: NodeId,
    points: &[Held],
    rules: &[Rule<'_>],
    present: &Present<'_>,
) -> Vec<Fate> {
    let is_rule = |name: &str| rules.iter().any(|rule| rule.promise.policy.name == name);
    let is_ruled = |point: &&Held| point.policy.as_deref().is_some_and(is_rule);
    let standings = Standings::of(points);
    let ruled: Vec<&Held> = points.iter().filter(is_ruled).collect();
    let mut heard = Heard::default();
    for rule in rules {
        let policy = &rule.promise.policy;
        let course = match writes_to(policy, repository, present) && rule.members.contains(vm) {
            true => Course::Protected,
            false => Course::Left,
        };
        let is_its = |point: &&&Held| {
            course == Course::Protected || point.policy.as_deref() == Some(&policy.name)
        };
        let its = ruled.iter().filter(is_its);
        let its: Vec<Point> = its.map(|point| standings.point(point)).collect();
        let terms = Terms {
            retention: &policy.retention,
            zone: &policy.schedule.zone,
            course,
            now: now_of(course, repository, present),
        };
        heard.take(&policy.name, verdicts(&its, &terms));
    }
    let fate = |point: &Held| heard.fate(point, is_rule);
    points.iter().map(fate).collect()
}

/// The time that a course is judged by. What nobody adds to ends by the calendar alone, and would end at once if the
/// controller's clock were set ahead: it ends by the time that its repository trusts.
fn now_of(course: Course, repository: NodeId, present: &Present<'_>) -> Timestamp {
    let shelf = present.repositories.get(&repository);
    match (course, shelf) {
        (Course::Left, Some(shelf)) => present
            .now
            .saturating_sub(shelf.lag)
            .unwrap_or(Timestamp::MIN),
        _ => present.now,
    }
}

fn writes_to(policy: &Policy, repository: NodeId, present: &Present<'_>) -> bool {
    let shelf = present.repositories.get(&repository);
    shelf.is_some_and(|shelf| shelf.name == policy.store.repository)
}

/// Whether a policy makes points of a VM on a repository.
pub(super) fn protects(
    promise: &Promise,
    vm: &VmId,
    repository: NodeId,
    present: &Present<'_>,
) -> bool {
    let mut members = promise.members.iter();
    writes_to(&promise.policy, repository, present) && members.any(|member| member.vm == *vm)
}

/// What one rule says of points. A damaged one takes no other's place, but stays as long as a good one would: most
/// of it can be restored, and damage may be healed by a later run that stores the same again.
fn verdicts(points: &[Point], terms: &Terms<'_>) -> Vec<(PointId, Verdict)> {
    let verdicts = decide(points, terms);
    if points.iter().all(|point| point.standing != Standing::Bad) {
        return verdicts;
    }
    let hoped = points.iter().map(|point| Point {
        standing: match point.standing {
            Standing::Bad => Standing::Unverified,
            standing => standing,
        },
        ..*point
    });
    let hoped = decide(&hoped.collect::<Vec<_>>(), terms);
    let both = verdicts.into_iter().zip(hoped).zip(points);
    both.map(|((verdict, hoped), point)| match point.standing {
        Standing::Bad if hoped.1.is_keep() && !verdict.1.is_keep() => hoped,
        _ => verdict,
    })
    .collect()
}

/// What policies say of points.
#[derive(Default)]
struct Heard {
    stays: BTreeMap<PointId, Vec<Stay>>,
    leaves: BTreeMap<PointId, Vec<(String, Expire)>>,
}

impl Heard {
    fn take(&mut self, policy: &str, verdicts: Vec<(PointId, Verdict)>) {
        for (point, verdict) in verdicts {
            match verdict {
                Verdict::Keep(reasons) => {
                    let wanted = |keep| Stay::Wanted(policy.to_owned(), keep);
                    let stays = self.stays.entry(point).or_default();
                    stays.extend(reasons.into_iter().map(wanted));
                }
                Verdict::Expire(why) => {
                    let leaves = self.leaves.entry(point).or_default();
                    leaves.push((policy.to_owned(), why));
                }
            }
        }
    }

    /// A point goes only when somebody said so and nobody the contrary.
    fn fate(&self, point: &Held, is_rule: impl Fn(&str) -> bool) -> Fate {
        let mut stays = self.stays.get(&point.point).cloned().unwrap_or_default();
        if point.is_in_use {
            stays.push(Stay::InUse);
        }
        match (self.leaves.get(&point.point), point.policy.as_deref()) {
            (_, None) => stays.push(Stay::NoPolicy),
            (_, Some(name)) if !is_rule(name) => stays.push(Stay::PolicyRemoved),
            (Some(leaves), Some(_)) if stays.is_empty() => return Fate::Expire(leaves.clone()),
            _ => {}
        }
        Fate::Keep(stays)
    }
}

/// What the points of one VM on one repository are worth.
///
/// A point that lacks a disk takes no whole one's place, but stays as long as one would: the disk may be one that
/// no snapshot can take, and then no point of the VM is ever whole.
struct Standings {
    has_whole: bool,
}

impl Standings {
    fn of(points: &[Held]) -> Self {
        let mut whole = points.iter().filter(|point| point.proof != Proof::Damaged);
        Self {
            has_whole: whole.any(|point| point.is_whole),
        }
    }

    fn point(&self, held: &Held) -> Point {
        let standing = match held.proof {
            Proof::Damaged => Standing::Bad,
            Proof::Sound if held.is_whole || !self.has_whole => Standing::Good,
            Proof::Sound | Proof::None => Standing::Unverified,
        };
        Point {
            id: held.point,
            at: held.at,
            committed_at: held.committed_at,
            locked_until: Some(held.retain_until),
            standing,
        }
    }
}

/// The points that may go, oldest first.
pub fn expired(judged: &[Judged]) -> Vec<&Judged> {
    let expired = judged
        .iter()
        .filter(|judged| matches!(judged.fate, Fate::Expire(_)));
    let mut expired: Vec<&Judged> = expired.collect();
    expired.sort_by_key(|judged| (judged.held.at, judged.held.point));
    expired
}

/// Every policy that says something about a point.
pub fn policies_of(fate: &Fate) -> BTreeSet<&str> {
    match fate {
        Fate::Keep(reasons) => reasons
            .iter()
            .filter_map(|stay| match stay {
                Stay::Wanted(policy, _) => Some(policy.as_str()),
                _ => None,
            })
            .collect(),
        Fate::Expire(reasons) => reasons.iter().map(|(policy, _)| policy.as_str()).collect(),
    }
}

#[cfg(test)]
mod tests;
