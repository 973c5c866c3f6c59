//! Locks, deletions and what administrators demand: the store decides, whoever asks.

use std::time::Duration;

use stillwater_format::Time;
use stillwater_format::commit::{AdminKey, Entry, Signed, Statement};
use stillwater_types::PointId;

use crate::Error;
use crate::authority::{Admin, LOCK_MAX, StatementState, Waiting, effect};
use crate::catalogue::Point;
use crate::point::find;
use crate::store::{Inner, Ledger, Store, all_points};
use crate::time::Frozen;

/// What is protected, and who may change that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// How long every new point is locked: the longer one of the next two.
    pub floor: Duration,
    /// As it was configured on the host.
    pub configured_floor: Duration,
    /// As administrators of the repository demanded; zero if they did not.
    pub demanded_floor: Duration,
    /// The administrators, oldest first.
    pub admins: Vec<Admin>,
    /// Statements that have not taken effect, oldest first.
    pub waiting: Vec<Waiting>,
    /// Trusted time, in which locks and delays are reckoned.
    pub trusted: Time,
    /// The wall clock.
    pub wall: Time,
    /// How far trusted time is behind the wall clock, as after the machine was off.
    pub lag: Duration,
    /// Why nothing is deleted now; `None` when deletions go through.
    pub frozen: Option<Frozen>,
}

impl Store {
    /// Deletes a point whose lock is over; succeeds when it was deleted before.
    ///
    /// What only it reached leaves later, by garbage collection.
    ///
    /// # Errors
    /// `PointLocked` before its time, `TimeFrozen` while nobody knows what time it is, or when it does
    /// not exist or the deletion cannot be made durable.
    pub fn delete_point(&self, point: PointId) -> Result<(), Error> {
        let inner = &self.inner;
        let mut ledger = inner.writable_ledger()?;
        if ledger.deleted.contains_key(&point) {
            return Ok(());
        }
        let found = find(&mut ledger, point)?.ok_or(Error::PointNotFound(point))?;
        let at = inner.sure_time(&mut ledger)?;
        let until = found.commit.retain_until;
        if at < until {
            return Err(Error::PointLocked { point, until });
        }
        inner.append(&mut ledger, &Entry::PointDeleted { point, at })?;
        ledger.deleted.insert(point, at);
        tracing::info!(%point, "deleted a restore point");
        let Ledger { points, log, .. } = &mut *ledger;
        points.remove(point, || all_points(log))
    }

    /// Locks a point for longer. A lock that lasts longer already stays and is answered.
    ///
    /// # Errors
    /// When the point does not exist, `until` is more than ten years ahead, or the lock cannot be made
    /// durable.
    pub fn lock_point(&self, point: PointId, until: Time) -> Result<Point, Error> {
        let inner = &self.inner;
        let mut ledger = inner.writable_ledger()?;
        let mut found = find(&mut ledger, point)?.ok_or(Error::PointNotFound(point))?;
        if until <= found.commit.retain_until {
            return Ok(found);
        }
        let (at, _) = inner.times(&mut ledger);
        if until > at.after(LOCK_MAX) {
            return Err(Error::malformed("a lock of more than ten years"));
        }
        inner.append(&mut ledger, &Entry::PointLocked { point, until, at })?;
        found.commit.retain_until = until;
        let Ledger { points, log, .. } = &mut *ledger;
        points.insert(&found, || all_points(log))?;
        Ok(found)
    }

    /// What is protected, and who may change that.
    pub fn retention(&self) -> Retention {
        let inner = &self.inner;
        let mut ledger = inner.ledger();
        let (trusted, wall) = inner.times(&mut ledger);
        let frozen = inner.watch_time(&mut ledger);
        let authority = &ledger.authority;
        Retention {
            floor: inner.floor(&ledger),
            configured_floor: inner.options.retention,
            demanded_floor: authority.floor(),
            admins: authority.admins().to_vec(),
            waiting: authority.waiting(trusted),
            trusted,
            wall,
            lag: wall.since(trusted),
            frozen,
        }
    }

    /// Takes a statement with one administrator's signature, and does at once what is due at once.
    ///
    /// Idempotent: the same signature again is answered with where the statement stands.
    ///
    /// # Errors
    /// `StatementRefused` when it does not count, or when it cannot be made durable.
    pub fn submit(&self, signed: &Signed) -> Result<StatementState, Error> {
        let inner = &self.inner;
        let statement = Statement::decode(&signed.statement).map_err(Error::malformed)?;
        let mut ledger = inner.writable_ledger()?;
        if statement.node != ledger.identity().node {
            let why = "it is for another repository";
            return Err(Error::StatementRefused { why });
        }
        // A removal that is due takes effect before its administrator says more.
        inner.settle(&mut ledger)?;
        let (now, _) = inner.times(&mut ledger);
        if ledger.authority.examine(signed, &statement, now)? {
            if !inner
                .verifier
                .verify(&signed.key, &signed.statement, &signed.signature)
            {
                let why = "its signature is not that of its key";
                return Err(Error::StatementRefused { why });
            }
            let (at, _) = inner.times(&mut ledger);
            let signed = signed.clone();
            inner.append(&mut ledger, &Entry::Signed { signed, at })?;
            tracing::warn!(demand = %statement.action, "took a statement of an administrator");
        }
        inner.settle(&mut ledger)?;
        let state = ledger.authority.state(&statement.id);
        state.ok_or(Error::StatementRefused {
            why: "its administrator was removed meanwhile",
        })
    }

    /// Accepts one of the first two administrators. For the host's own command, never for a caller
    /// from outside: from the second administrator on, it takes two of them.
    ///
    /// # Errors
    /// `StatementRefused` when there are two, or it cannot be made durable.
    pub fn enrol_admin(&self, key: AdminKey, label: &str) -> Result<Admin, Error> {
        let inner = &self.inner;
        let mut ledger = inner.writable_ledger()?;
        let known = ledger.authority.admins().iter().find(|a| a.key == key);
        if let Some(known) = known {
            return Ok(known.clone());
        }
        if ledger.authority.admins().len() >= 2 {
            let why = "from the second administrator on, two of them accept another";
            return Err(Error::StatementRefused { why });
        }
        let (at, _) = inner.times(&mut ledger);
        let label = label.to_owned();
        let added = Entry::AdminAdded {
            key,
            label: label.clone(),
            at,
        };
        inner.append(&mut ledger, &added)?;
        let since = at;
        Ok(Admin { key, label, since })
    }
}

impl Inner {
    /// How long a point that is committed now is locked.
    pub(crate) fn floor(&self, ledger: &Ledger) -> Duration {
        self.options.retention.max(ledger.authority.floor())
    }

    /// Trusted time, for what cannot be undone.
    ///
    /// # Errors
    /// `TimeFrozen` while the wall clock is not where the boot clock says.
    pub(crate) fn sure_time(&self, ledger: &mut Ledger) -> Result<Time, Error> {
        match self.watch_time(ledger) {
            Some(Frozen { moved, .. }) => Err(Error::TimeFrozen { moved }),
            None => Ok(self.times(ledger).0),
        }
    }

    /// Why nothing may be deleted now, if so.
    pub(crate) fn watch_time(&self, ledger: &mut Ledger) -> Option<Frozen> {
        ledger.keeper.watch(&*self.clock)
    }

    /// Brings about what administrators demanded and what is due.
    pub(crate) fn settle(&self, ledger: &mut Ledger) -> Result<(), Error> {
        // Each effect ends one statement.
        let (now, _) = self.times(ledger);
        for _ in 0..ledger.authority.waiting_count(now) {
            let in_doubt = self.watch_time(ledger).is_some();
            let (now, wall) = self.times(ledger);
            let Some(action) = ledger.authority.due(now, in_doubt).cloned() else {
                break;
            };
            self.append(ledger, &effect(&action, now, wall))?;
            tracing::warn!(demand = %action, "a statement of administrators took effect");
        }
        Ok(())
    }
}
