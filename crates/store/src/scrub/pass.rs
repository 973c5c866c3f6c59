//! One call of the scrub.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use stillwater_types::PackId;

use super::aside::{self, Aside};
use super::exam::{Exam, Flaw};
use super::load::{Bytes, RETRY_AFTER, Trouble};
use super::{Age, QUEUE_AGE_MAX, SURVEY_EVERY, Scrubbed, survey, truth, verified};
use crate::gc::sweep;
use crate::pack::PackLook;
use crate::store::Inner;
use crate::{Error, Phase, Watch};

/// Between two writings of the times, unless many packs came in between.
const SAVE_EVERY: Duration = Duration::from_secs(60);
const SAVE_AFTER_PACKS: u64 = 256;

/// One call of the scrub.
pub(super) struct Pass<'a> {
    inner: &'a Arc<Inner>,
    done: Scrubbed,
    tried: HashSet<PackId>,
    has_lost: bool,
}

impl<'a> Pass<'a> {
    pub(super) fn begin(inner: &'a Arc<Inner>) -> Self {
        Self {
            inner,
            done: Scrubbed::default(),
            tried: HashSet::new(),
            has_lost: false,
        }
    }

    pub(super) fn run(&mut self, budget_bytes: u64, watch: &dyn Watch) -> Result<(), Error> {
        self.move_again()?;
        // Who has no budget wants to know how far it is.
        let total = match budget_bytes {
            u64::MAX => self.waiting_bytes(),
            _ => budget_bytes,
        };
        while self.done.read_bytes < budget_bytes && !watch.is_stopped() {
            let Some(pack) = self.next() else { break };
            self.check(pack)?;
            watch.note(
                Phase::Scrub,
                self.done.read_bytes,
                total.max(self.done.read_bytes),
            );
        }
        if !watch.is_stopped() && (self.has_lost || self.is_survey_due()?) {
            self.survey(watch)?;
        }
        Ok(())
    }

    /// Puts what was done on record, whatever ended it.
    pub(super) fn end(self) -> Scrubbed {
        let mut memory = self.inner.scrub.memory();
        memory.total.add(&self.done);
        let now = self.inner.clock.since_boot();
        if memory
            .verified
            .is_to_be_saved(now, SAVE_EVERY, SAVE_AFTER_PACKS)
        {
            verified::write(self.inner, &mut memory);
        }
        self.done
    }

    /// Moves packs to quarantine that the log has there.
    fn move_again(&self) -> Result<(), Error> {
        let unmoved: Vec<_> = self.inner.scrub.memory().unmoved.iter().copied().collect();
        sweep::set_aside(&*self.inner.vfs, &unmoved)?;
        let mut memory = self.inner.scrub.memory();
        unmoved.iter().for_each(|pack| {
            memory.unmoved.remove(pack);
        });
        Ok(())
    }

    /// What is waiting to be read, as far as the queue goes.
    fn waiting_bytes(&self) -> u64 {
        self.refill();
        let memory = self.inner.scrub.memory();
        let length = |pack: &PackId| self.inner.packs.length(*pack).unwrap_or_default();
        memory.queue.iter().map(length).sum()
    }

    /// The next pack that is due, and was not tried in this call.
    fn next(&mut self) -> Option<PackId> {
        self.refill();
        let mut memory = self.inner.scrub.memory();
        let suspect = memory.suspects.iter().find(|p| !self.tried.contains(p));
        if let Some(suspect) = suspect.copied() {
            self.tried.insert(suspect);
            return Some(suspect);
        }
        while let Some(pack) = memory.queue.pop_front() {
            if self.tried.insert(pack) {
                return Some(pack);
            }
        }
        None
    }

    /// Makes the queue anew when it is empty or old.
    fn refill(&self) {
        let boot = self.inner.clock.since_boot();
        {
            let memory = self.inner.scrub.memory();
            let is_fresh = boot.saturating_sub(memory.queued_at) < QUEUE_AGE_MAX;
            if !memory.queue.is_empty() && is_fresh {
                return;
            }
        }
        let (now, _) = self.inner.times(&mut self.inner.ledger());
        let looks = self.inner.packs.looks();
        let mut memory = self.inner.scrub.memory();
        let mut due: Vec<_> = looks
            .into_iter()
            .filter(|look| !self.tried.contains(&look.pack))
            .filter_map(|PackLook { pack, .. }| {
                let trouble = memory.troubles.get(&pack);
                let waits = trouble.is_some_and(|t| boot.saturating_sub(t.last) < RETRY_AFTER);
                let age = Age::of(self.inner, memory.verified.of(pack), pack, now);
                let is_asked = trouble.is_some() || memory.demanded.contains(&pack);
                ((age.is_due || is_asked) && !waits).then_some((age.verified, pack))
            })
            .collect();
        // Those that were never verified come first.
        due.sort_unstable();
        memory.queue = due.into_iter().map(|(_, pack)| pack).collect();
        memory.queued_at = boot;
    }

    /// Reads a pack whole and sees to what was found.
    fn check(&mut self, pack: PackId) -> Result<(), Error> {
        let inner = self.inner;
        let _turn = inner.scrub.turn();
        inner.scrub.memory().demanded.remove(&pack);
        if !inner.packs.is_there(pack) || !inner.fates().is_readable(pack) {
            inner.scrub.memory().drop_pack(pack);
            return Ok(());
        }
        let read = self.read(pack);
        self.done.pack_count += 1;
        match read {
            Ok(exam) if exam.holes().is_empty() => self.examine(pack, exam, true),
            Ok(exam) => self.holed(pack, exam),
            Err(error) if error.kind() == ErrorKind::NotFound => self.missing(pack),
            Err(error) => {
                self.unread(pack, &error);
                Ok(())
            }
        }
    }

    fn read(&self, pack: PackId) -> io::Result<Exam> {
        let facts = self.inner.packs.facts(pack);
        let salts = facts.as_ref().map_or(&[][..], |facts| &facts.salts);
        Exam::of(pack, Bytes::open(&*self.inner.vfs, pack)?, salts)
    }

    fn unread(&mut self, pack: PackId, error: &io::Error) {
        tracing::warn!(%pack, %error, "cannot read a pack; it is tried again later");
        self.postpone(pack, Vec::new(), false);
    }

    /// Holds a pack against its hashes; what does not fit is read once more, since a wrong byte may come
    /// from the way instead of the medium.
    fn examine(&mut self, pack: PackId, exam: Exam, is_first: bool) -> Result<(), Error> {
        self.done.read_bytes += exam.length();
        match exam.flaw {
            None => {
                self.sound(pack);
                Ok(())
            }
            Some(_) if exam.is_newer => {
                tracing::error!(%pack, "left a pack of a newer release alone");
                self.postpone(pack, Vec::new(), false);
                Ok(())
            }
            Some(flaw) if is_first => {
                self.inner.scrub.note_read_error();
                tracing::warn!(%pack, flaw = flaw.as_str(), "a pack does not fit its hashes; reading it again");
                match self.read(pack) {
                    Ok(exam) if exam.holes().is_empty() => self.examine(pack, exam, false),
                    Ok(_) | Err(_) => {
                        self.postpone(pack, Vec::new(), false);
                        Ok(())
                    }
                }
            }
            Some(flaw) => self.set_aside(pack, exam, flaw),
        }
    }

    /// The medium failed to read some of it.
    fn holed(&mut self, pack: PackId, exam: Exam) -> Result<(), Error> {
        self.done.read_bytes += exam.length();
        let holes = exam.holes();
        tracing::warn!(%pack, blocks = holes.len(), "the medium failed to read some of a pack");
        let has_read_some = (holes.len() as u64) < exam.length().div_ceil(4096);
        if !self.postpone(pack, holes, has_read_some) {
            return Ok(());
        }
        let flaw = exam.flaw.unwrap_or(Flaw::Record);
        self.set_aside(pack, exam, flaw)
    }

    fn missing(&mut self, pack: PackId) -> Result<(), Error> {
        if !self.inner.fates().is_readable(pack) {
            return Ok(());
        }
        tracing::error!(%pack, "the file of a pack is missing");
        if self.note_trouble(pack, Vec::new(), true, false) {
            aside::give_up_missing(self.inner, pack)?;
            self.inner.scrub.memory().drop_pack(pack);
            self.done.damaged_pack_count += 1;
            self.has_lost = true;
        }
        Ok(())
    }

    /// Notes that a pack could not be read; tells whether that is confirmed, so that it counts as damage.
    fn postpone(&mut self, pack: PackId, holes: Vec<u64>, has_read_some: bool) -> bool {
        self.note_trouble(pack, holes, false, has_read_some)
    }

    fn note_trouble(
        &mut self,
        pack: PackId,
        holes: Vec<u64>,
        is_missing: bool,
        has_read_some: bool,
    ) -> bool {
        self.inner.scrub.note_read_error();
        let now = self.inner.clock.since_boot();
        let mut memory = self.inner.scrub.memory();
        let trouble = Trouble {
            holes,
            is_missing,
            first: now,
            last: now,
            sound_reads: memory.sound_reads,
        };
        let earlier = memory.troubles.get(&pack);
        let is_confirmed = earlier.is_some_and(|e| e.is_confirmed_by(&trouble, has_read_some));
        if !is_confirmed {
            self.done.postponed_pack_count += 1;
            // The first time counts as long as the same fails.
            let entry = memory
                .troubles
                .entry(pack)
                .or_insert_with(|| trouble.clone());
            entry.last = now;
            if !entry.is_like(&trouble) {
                *entry = trouble;
            }
        }
        memory.suspects.remove(&pack);
        is_confirmed
    }

    fn sound(&self, pack: PackId) {
        let (now, _) = self.inner.times(&mut self.inner.ledger());
        let mut memory = self.inner.scrub.memory();
        memory.suspects.remove(&pack);
        memory.troubles.remove(&pack);
        memory.sound_reads += 1;
        memory.verified.note(pack, now);
    }

    fn set_aside(&mut self, pack: PackId, mut exam: Exam, flaw: Flaw) -> Result<(), Error> {
        tracing::error!(%pack, flaw = flaw.as_str(), sound_records = exam.good_count(), "a pack is damaged");
        let outcome = aside::set_aside(self.inner, pack, &mut exam);
        match outcome {
            Ok(Some(aside)) => self.note_aside(pack, &aside),
            Ok(None) => self.inner.scrub.memory().drop_pack(pack),
            Err(Error::Io { act, source, .. }) if act == aside::READ_AGAIN => {
                self.unread(pack, &source);
            }
            Err(Error::Full { .. }) => {
                tracing::error!(%pack, "there is no room to salvage a damaged pack; make some");
                self.done.postponed_pack_count += 1;
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn note_aside(&mut self, pack: PackId, aside: &Aside) {
        self.done.damaged_pack_count += 1;
        self.done.lost_record_count += aside.lost_count;
        self.done.salvaged_record_count += aside.salvaged_count;
        self.has_lost = true;
        let mut memory = self.inner.scrub.memory();
        memory.drop_pack(pack);
        if !aside.is_moved {
            memory.unmoved.insert(pack);
        }
    }

    fn is_survey_due(&self) -> Result<bool, Error> {
        let (now, _) = self.inner.times(&mut self.inner.ledger());
        let written = self.inner.counters.read().packs_written;
        let (is_due, has_new, found) = {
            let mut memory = self.inner.scrub.memory();
            let seen = std::mem::replace(&mut memory.healing_seen, written);
            (
                memory.is_survey_due,
                seen != written,
                Arc::clone(&memory.found),
            )
        };
        let last = found.at.filter(|at| *at <= now);
        let every = if found.is_partial {
            RETRY_AFTER
        } else {
            SURVEY_EVERY
        };
        let is_old = last.is_none_or(|at| now >= at.after(every));
        Ok(is_due || is_old || (has_new && found.is_healing(self.inner)?))
    }

    /// Walks all points, and sees to what there are two of.
    fn survey(&mut self, watch: &dyn Watch) -> Result<(), Error> {
        let _turn = self.inner.scrub.turn();
        self.inner.scrub.memory().is_survey_due = true;
        self.done.healed_copy_count += truth::check(self.inner)?;
        let Some(mut surveyed) = survey::survey(self.inner, watch, &mut self.done)? else {
            return Ok(());
        };
        let mut memory = self.inner.scrub.memory();
        if surveyed.is_partial {
            // What could not be looked at has not healed.
            surveyed.degraded.extend(&memory.found.degraded);
        }
        survey::tell(&memory.found, &surveyed);
        memory.found = Arc::new(surveyed);
        memory.is_survey_due = false;
        memory.verified.touch();
        Ok(())
    }
}

impl super::Memory {
    /// Lets go of a pack that is not there any more.
    fn drop_pack(&mut self, pack: PackId) {
        self.suspects.remove(&pack);
        self.troubles.remove(&pack);
        self.verified.forget(pack);
    }
}
