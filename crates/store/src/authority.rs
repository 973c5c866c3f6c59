//! Who may weaken what the store protects, what they signed, and what came of it.
//!
//! A fold over the commit log. The same code takes entries in at a start and as they are appended, so
//! what is so now is what a restart finds. What a statement brings about is an entry of its own behind
//! it: a statement without that entry still waits, whatever crashed.

use std::collections::HashMap;
use std::time::Duration;

use stillwater_format::Time;
use stillwater_format::commit::{Action, AdminKey, Entry, Signed, Statement, StatementId};

use crate::Error;

mod terms;

pub(crate) use terms::Terms;
pub use terms::{LOCK_MAX, SIGN_WITHIN, VETO_WAIT};

const EXPIRED: &str = "it lacked signatures for thirty days; make a new one";

/// The most statements that wait and were first signed by one administrator.
const WAITING_MAX: usize = 16;
/// The most administrators.
const ADMINS_MAX: usize = 64;

/// An administrator of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// The public key, which is the administrator as far as the repository is concerned.
    pub key: AdminKey,
    /// A name for people.
    pub label: String,
    /// The trusted time of the acceptance.
    pub since: Time,
}

/// A statement that has not taken effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Names it.
    pub id: StatementId,
    /// What is demanded.
    pub action: Action,
    /// The administrators who signed it, in the order of their signatures.
    pub signers: Vec<AdminKey>,
    /// How many have to.
    pub needs: usize,
    /// When it takes effect, in trusted time, unless it is vetoed; `None` while signatures are missing.
    pub effective_at: Option<Time>,
}

/// Where a statement stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementState {
    /// It lacks signatures, or its delay is not over.
    Waiting(Waiting),
    /// It took effect.
    Done,
    /// An administrator objected in time.
    Vetoed,
}

/// Checks signatures, so that the store need not know a cipher.
pub trait Verifier: Send + Sync + 'static {
    /// Whether `signature` over `message` was made with the private half of `key`.
    fn verify(&self, key: &AdminKey, message: &[u8], signature: &[u8; 64]) -> bool;
}

/// Administrators, their statements, and what they brought about.
#[derive(Debug, Default)]
pub(crate) struct Authority {
    admins: Vec<Admin>,
    floor: Duration,
    sweep: Option<u64>,
    /// In the order of their first signatures.
    waiting: Vec<Demand>,
    ended: HashMap<StatementId, Ended>,
}

#[derive(Debug)]
struct Demand {
    statement: Statement,
    bytes: Vec<u8>,
    signatures: Vec<Signature>,
}

#[derive(Debug)]
struct Signature {
    key: AdminKey,
    /// The trusted time from which its delay counts.
    at: Time,
}

/// What must be known of a statement for ever: its signatures must not work again.
#[derive(Debug)]
struct Ended {
    hash: [u8; 32],
    how: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Vetoed,
    /// It lacked signatures for too long.
    Expired,
}

impl Authority {
    /// Takes in what the log says.
    pub(crate) fn take(&mut self, entry: &Entry) {
        match entry {
            Entry::AdminAdded { at, .. }
            | Entry::AdminRemoved { at, .. }
            | Entry::Signed { at, .. }
            | Entry::FloorSet { at, .. }
            | Entry::SweepAllowed { at, .. }
            | Entry::TimeAdvanced { at, .. } => self.expire(*at),
            _ => {}
        }
        match entry {
            Entry::AdminAdded { key, label, at } => {
                self.settle(entry, *at);
                self.admins.retain(|admin| admin.key != *key);
                let (key, label, since) = (*key, label.clone(), *at);
                self.admins.push(Admin { key, label, since });
            }
            Entry::AdminRemoved { key, at } => {
                self.settle(entry, *at);
                self.admins.retain(|admin| admin.key != *key);
                self.forget_signatures(key);
            }
            Entry::Signed { signed, at } => self.sign(signed, *at),
            Entry::FloorSet { millis, at } => {
                self.settle(entry, *at);
                self.floor = Duration::from_millis(*millis);
            }
            Entry::SweepAllowed { bytes, at } => {
                self.settle(entry, *at);
                self.sweep = Some(*bytes);
            }
            Entry::TimeAdvanced { to, at } => {
                self.settle(entry, *at);
                self.postpone(to.since(*at));
            }
            // A cycle that held something back did not make use of what it was allowed.
            Entry::CycleEnded(cycle) if cycle.held_bytes == 0 => self.sweep = None,
            _ => {}
        }
    }

    /// The oldest statement that has to take effect, now that it is `now`. While time is in doubt, what
    /// had to wait waits on.
    pub(crate) fn due(&self, now: Time, in_doubt: bool) -> Option<&Action> {
        let is_due = |demand: &&Demand| {
            let terms = self.terms(&demand.statement.action);
            demand.is_ripe(terms, now) && !(in_doubt && terms.is_delayed())
        };
        let demand = self.waiting.iter().find(is_due)?;
        Some(&demand.statement.action)
    }

    /// How many statements wait.
    pub(crate) fn waiting_count(&self, now: Time) -> usize {
        self.alive(now).count()
    }

    /// How long every new point is locked at least, as administrators demanded.
    pub(crate) const fn floor(&self) -> Duration {
        self.floor
    }

    /// How many bytes the next cycle may condemn, though that is unusual.
    pub(crate) const fn allowed_sweep(&self) -> Option<u64> {
        self.sweep
    }

    /// The administrators, oldest first.
    pub(crate) fn admins(&self) -> &[Admin] {
        &self.admins
    }

    /// The statements that wait, oldest first.
    pub(crate) fn waiting(&self, now: Time) -> Vec<Waiting> {
        self.alive(now).map(|demand| self.show(demand)).collect()
    }

    /// The statements that did not expire.
    fn alive(&self, now: Time) -> impl Iterator<Item = &Demand> {
        let is_alive = move |demand: &&Demand| !self.has_expired(demand, now);
        self.waiting.iter().filter(is_alive)
    }

    /// Where a statement stands, if one of that id was ever signed.
    pub(crate) fn state(&self, id: &StatementId) -> Option<StatementState> {
        if let Some(ended) = self.ended.get(id) {
            return match ended.how {
                End::Done => Some(StatementState::Done),
                End::Vetoed => Some(StatementState::Vetoed),
                End::Expired => None,
            };
        }
        let demand = self.demand(id)?;
        Some(StatementState::Waiting(self.show(demand)))
    }

    /// Whether a signature that comes `now` says something new, or why it does not count.
    ///
    /// # Errors
    /// `StatementRefused` when it must not come into the log.
    pub(crate) fn examine(
        &self,
        signed: &Signed,
        statement: &Statement,
        now: Time,
    ) -> Result<bool, Error> {
        let refuse = |why| Err(Error::StatementRefused { why });
        if !self.is_admin(&signed.key) {
            return refuse("its key is not that of an administrator of the repository");
        }
        if let Some(ended) = self.ended.get(&statement.id) {
            return if ended.hash != hash(&signed.statement) {
                refuse("another statement had its id; make a new one")
            } else if ended.how == End::Expired {
                refuse(EXPIRED)
            } else {
                Ok(false)
            };
        }
        if let Some(demand) = self.demand(&statement.id) {
            return if demand.bytes != signed.statement {
                refuse("another statement has its id; make a new one")
            } else if self.has_expired(demand, now) {
                refuse(EXPIRED)
            } else {
                Ok(!demand.is_signed_by(&signed.key))
            };
        }
        self.examine_action(&statement.action, &signed.key)?;
        if matches!(statement.action, Action::Veto { .. }) {
            return Ok(true);
        }
        let begun = |demand: &&Demand| {
            demand
                .signatures
                .first()
                .is_some_and(|s| s.key == signed.key)
        };
        if self.alive(now).filter(begun).count() >= WAITING_MAX {
            return refuse("too many statements of its key wait; veto some");
        }
        Ok(true)
    }

    fn examine_action(&self, action: &Action, signer: &AdminKey) -> Result<(), Error> {
        let why = match action {
            Action::SetFloor { millis } if Duration::from_millis(*millis) > LOCK_MAX => {
                "no floor is longer than ten years"
            }
            Action::AddAdmin { key, .. } if self.is_admin(key) => "that administrator is accepted",
            Action::AddAdmin { .. } if self.admins.len() < 2 => {
                "the first two administrators are accepted on the repository's host"
            }
            Action::AddAdmin { .. } if self.admins.len() >= ADMINS_MAX => {
                "there are as many administrators as there may be"
            }
            Action::RemoveAdmin { key } if !self.is_admin(key) => "there is no such administrator",
            Action::Veto { statement } if self.demand(statement).is_none() => {
                "no statement of the id that it objects to waits"
            }
            Action::Veto { statement } if self.is_removal_of(statement, signer) => {
                "no administrator objects to their own removal; another one may"
            }
            _ => return Ok(()),
        };
        Err(Error::StatementRefused { why })
    }

    /// Takes in a signature that is on the log.
    fn sign(&mut self, signed: &Signed, at: Time) {
        // What cannot be read or does not count was never let into the log.
        let Ok(statement) = Statement::decode(&signed.statement) else {
            return;
        };
        if !self.is_admin(&signed.key) || self.ended.contains_key(&statement.id) {
            return;
        }
        if let Action::Veto { statement: target } = statement.action {
            self.end(&target, End::Vetoed);
            self.note_end(statement.id, &signed.statement, End::Done);
            return;
        }
        let key = signed.key;
        let signature = Signature { key, at };
        let known = |demand: &&mut Demand| demand.statement.id == statement.id;
        match self.waiting.iter_mut().find(known) {
            Some(demand) if demand.bytes != signed.statement || demand.is_signed_by(&key) => {}
            Some(demand) => demand.signatures.push(signature),
            None => self.waiting.push(Demand {
                statement,
                bytes: signed.statement.clone(),
                signatures: vec![signature],
            }),
        }
    }

    /// Ends the statement that an entry is the effect of; one that the host brought about has none.
    fn settle(&mut self, effect: &Entry, at: Time) {
        let caused = |demand: &&Demand| {
            let action = &demand.statement.action;
            demand.is_ripe(self.terms(action), at) && is_effect(action, effect)
        };
        let cause = self.waiting.iter().find(caused);
        if let Some(id) = cause.map(|demand| demand.statement.id) {
            self.end(&id, End::Done);
        }
    }

    /// Ends what lacked signatures for too long. With each entry that changes what a statement takes, so
    /// that none of them brings back to life what had expired before.
    fn expire(&mut self, now: Time) {
        let expired = self.waiting.iter().filter(|d| self.has_expired(d, now));
        let expired: Vec<_> = expired.map(|demand| demand.statement.id).collect();
        expired.iter().for_each(|id| self.end(id, End::Expired));
    }

    fn has_expired(&self, demand: &Demand, now: Time) -> bool {
        let is_complete = demand
            .effective_at(self.terms(&demand.statement.action))
            .is_some();
        let begun = demand.signatures.first();
        !is_complete && begun.is_some_and(|first| now >= first.at.after(SIGN_WITHIN))
    }

    /// Whether a statement that waits is one that removes this administrator.
    fn is_removal_of(&self, id: &StatementId, admin: &AdminKey) -> bool {
        let demand = self.demand(id).map(|demand| &demand.statement.action);
        matches!(demand, Some(Action::RemoveAdmin { key }) if key == admin)
    }

    fn end(&mut self, id: &StatementId, how: End) {
        let place = self.waiting.iter().position(|d| d.statement.id == *id);
        if let Some(place) = place {
            let demand = self.waiting.remove(place);
            self.note_end(*id, &demand.bytes, how);
        }
    }

    fn note_end(&mut self, id: StatementId, bytes: &[u8], how: End) {
        let hash = hash(bytes);
        self.ended.insert(id, Ended { hash, how });
    }

    fn forget_signatures(&mut self, key: &AdminKey) {
        for demand in &mut self.waiting {
            demand.signatures.retain(|signature| signature.key != *key);
        }
        self.waiting.retain(|demand| !demand.signatures.is_empty());
    }

    /// Lets delays count only time in which somebody could object: not what time was moved by.
    fn postpone(&mut self, by: Duration) {
        let signatures = self.waiting.iter_mut().flat_map(|d| &mut d.signatures);
        signatures.for_each(|signature| signature.at = signature.at.after(by));
    }

    fn show(&self, demand: &Demand) -> Waiting {
        let terms = self.terms(&demand.statement.action);
        Waiting {
            id: demand.statement.id,
            action: demand.statement.action.clone(),
            signers: demand.signatures.iter().map(|s| s.key).collect(),
            needs: terms.signers(),
            effective_at: demand.effective_at(terms),
        }
    }

    fn terms(&self, action: &Action) -> Terms {
        Terms::of(action, self.floor)
    }

    fn demand(&self, id: &StatementId) -> Option<&Demand> {
        self.waiting.iter().find(|d| d.statement.id == *id)
    }

    fn is_admin(&self, key: &AdminKey) -> bool {
        self.admins.iter().any(|admin| admin.key == *key)
    }
}

impl Demand {
    fn is_signed_by(&self, key: &AdminKey) -> bool {
        self.signatures.iter().any(|s| s.key == *key)
    }

    /// Reckoned from the signature that was the last one needed.
    fn effective_at(&self, terms: Terms) -> Option<Time> {
        let last = self.signatures.get(terms.signers() - 1)?;
        Some(last.at.after(terms.delay()))
    }

    fn is_ripe(&self, terms: Terms, now: Time) -> bool {
        self.effective_at(terms).is_some_and(|at| at <= now)
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// What is appended when a statement takes effect: that, and no flag, makes it done.
pub(crate) fn effect(action: &Action, at: Time, wall: Time) -> Entry {
    match action {
        Action::SetFloor { millis } => Entry::FloorSet {
            millis: *millis,
            at,
        },
        Action::AllowSweep { bytes } => Entry::SweepAllowed { bytes: *bytes, at },
        Action::AdvanceTime { to } => Entry::TimeAdvanced {
            to: (*to).min(wall).max(at),
            at,
        },
        Action::AddAdmin { key, label } => Entry::AdminAdded {
            key: *key,
            label: label.clone(),
            at,
        },
        Action::RemoveAdmin { key } => Entry::AdminRemoved { key: *key, at },
        Action::Veto { .. } => unreachable!("a veto never waits: its signature is its effect"),
    }
}

fn is_effect(action: &Action, entry: &Entry) -> bool {
    match (action, entry) {
        (Action::SetFloor { millis }, Entry::FloorSet { millis: set, .. }) => millis == set,
        (Action::AllowSweep { bytes }, Entry::SweepAllowed { bytes: allowed, .. }) => {
            bytes == allowed
        }
        (Action::AdvanceTime { .. }, Entry::TimeAdvanced { .. }) => true,
        (
            Action::AddAdmin { key, label },
            Entry::AdminAdded {
                key: k, label: l, ..
            },
        ) => key == k && label == l,
        (Action::RemoveAdmin { key }, Entry::AdminRemoved { key: removed, .. }) => key == removed,
        _ => false,
    }
}
