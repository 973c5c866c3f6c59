//! Setting a damaged pack aside without losing anything that is left of it.
//!
//! What is sound and lies nowhere else is copied to a new pack, durable and in the index before anything is
//! said about the old one. Then the log says what is lost, and that the pack is damaged, in that order.
//! Its file is moved last. Whatever a crash cuts short is begun again, and finds the copies.

use std::collections::BTreeSet;

use stillwater_format::commit::{Decision, Entry, Fate, Loss, NAMED_MAX};
use stillwater_format::pack::RecordId;
use stillwater_types::{DatasetId, PackId};

use super::exam::Exam;
use super::rescue;
use crate::gc::compact::Copier;
use crate::gc::sweep;
use crate::pack::StoredRecord;
use crate::store::{Inner, Ledger};
use crate::{Error, layout};

/// What failed when a damaged pack could not be read again: it is tried later.
pub(super) const READ_AGAIN: &str = "read again";

/// What became of a damaged pack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aside {
    pub(super) lost_count: u64,
    pub(super) salvaged_count: u64,
    /// Whether its file is in quarantine already.
    pub(super) is_moved: bool,
}

/// Sets a damaged pack aside; none if something else became of it meanwhile.
pub(super) fn set_aside(
    inner: &Inner,
    pack: PackId,
    exam: &mut Exam,
) -> Result<Option<Aside>, Error> {
    inner.check_writable()?;
    let mut aside = Aside {
        lost_count: 0,
        salvaged_count: 0,
        is_moved: true,
    };
    let lost = loop {
        let condemned = inner.fates().last_condemned();
        let mut lost = BTreeSet::new();
        match dataset(inner, pack, exam) {
            Some(dataset) => {
                lost.extend(exam.bad.iter().copied());
                aside.salvaged_count += salvage(inner, pack, dataset, exam, &mut lost)?;
            }
            None => tracing::error!(%pack, "nobody can tell whose records are in a damaged pack"),
        }
        let mut ledger = inner.writable_ledger()?;
        if !inner.fates().is_readable(pack) {
            return Ok(None);
        }
        // A copy that was counted on may have been condemned meanwhile: newer sessions would not see it.
        if inner.fates().last_condemned() == condemned {
            put_on_record(inner, &mut ledger, pack, &lost)?;
            break lost;
        }
    };
    aside.lost_count = (lost.len() as u64).max(unnamed(inner, pack, exam, lost.len()));
    tracing::error!(%pack, lost = aside.lost_count, salvaged = aside.salvaged_count, "set a damaged pack aside");
    if let Err(error) = sweep::set_aside(&*inner.vfs, &[pack]) {
        tracing::error!(%pack, %error, "cannot move a damaged pack to quarantine yet");
        aside.is_moved = false;
    }
    Ok(Some(aside))
}

/// Lets go of a pack whose file is gone. It is not called damaged: should the file come back, the next
/// start finds it.
pub(super) fn give_up_missing(inner: &Inner, pack: PackId) -> Result<(), Error> {
    let mut ledger = inner.writable_ledger()?;
    let (at, _) = inner.times(&mut ledger);
    let records = Vec::new();
    // Names nothing, but whoever looked before it looks again.
    inner.append(&mut ledger, &Entry::RecordsLost(Loss { pack, at, records }))?;
    inner.index.forget(&[pack]);
    inner.packs.forget(&[pack]);
    Ok(())
}

fn put_on_record(
    inner: &Inner,
    ledger: &mut Ledger,
    pack: PackId,
    lost: &BTreeSet<RecordId>,
) -> Result<(), Error> {
    let (at, _) = inner.times(ledger);
    let lost: Vec<_> = lost.iter().copied().collect();
    for records in lost.chunks(NAMED_MAX) {
        let records = records.to_vec();
        inner.append(ledger, &Entry::RecordsLost(Loss { pack, at, records }))?;
    }
    let decision = Decision {
        fate: Fate::Damaged,
        at,
        packs: vec![pack],
    };
    inner.append(ledger, &Entry::Packs(decision)).map(drop)
}

/// Whose records they are: as the pack says, as the index was told, or whose everything is.
fn dataset(inner: &Inner, pack: PackId, exam: &Exam) -> Option<DatasetId> {
    let known = inner.packs.facts(pack).map(|facts| facts.dataset);
    let said = exam.header.map(|header| header.dataset);
    let ledger = inner.ledger();
    let sole = match ledger.datasets() {
        [sole] => Some(sole.id),
        _ => None,
    };
    let is_ours = |id: &DatasetId| ledger.datasets().iter().any(|known| known.id == *id);
    said.or(known).or(sole).filter(is_ours)
}

/// How many records are lost of which nothing is left, not even the name.
fn unnamed(inner: &Inner, pack: PackId, exam: &Exam, named: usize) -> u64 {
    // What lies there in the name of another pack is counted as that one's.
    let is_other = exam.header.is_some_and(|header| header.pack != pack);
    let facts = inner.packs.facts(pack).filter(|_| !is_other);
    let all = facts.map_or(0, |facts| {
        u64::from(facts.chunk_count) + u64::from(facts.node_count)
    });
    let left = exam.good_count() + exam.bad.len();
    all.saturating_sub(left as u64) + named as u64
}

/// Copies what is sound and lies nowhere else; takes what has another copy out of `lost`.
fn salvage(
    inner: &Inner,
    pack: PackId,
    dataset: DatasetId,
    exam: &mut Exam,
    lost: &mut BTreeSet<RecordId>,
) -> Result<u64, Error> {
    let fence = inner.ledger().head();
    let mut copier = Copier::new(inner, dataset, fence);
    for number in 0..exam.good_count() {
        let path = layout::pack(pack);
        let good = exam.good(number).map_err(Error::io(READ_AGAIN, &path))?;
        let Some((record, found)) = good else { break };
        match found {
            // The rest is seen to with those that were damaged before.
            None => drop(lost.insert(record)),
            Some(found) => {
                if !matches!(other(inner, pack, dataset, record)?, Other::Lasting) {
                    copier.put(record, &found)?;
                }
            }
        }
    }
    for record in lost.clone() {
        match other(inner, pack, dataset, record)? {
            Other::Lasting => {}
            Other::Leaving(found) => copier.put(record, &found)?,
            Other::None => continue,
        }
        lost.remove(&record);
    }
    rescue::rescue(inner, dataset, lost, &mut copier)?;
    copier.finish().map(|copied| copied.record_count)
}

/// Another copy of a record.
enum Other {
    /// In a pack that is in use.
    Lasting,
    /// Only in packs that are condemned.
    Leaving(Box<StoredRecord>),
    None,
}

/// Looks for a sound copy of a record in other packs.
fn other(
    inner: &Inner,
    pack: PackId,
    dataset: DatasetId,
    record: RecordId,
) -> Result<Other, Error> {
    let copies = inner.index.copies(dataset, &record)?;
    let mut leaving = Other::None;
    for at in copies.into_iter().filter(|at| at.pack != pack) {
        let Ok(found) = inner.packs.read(&*inner.vfs, record, at) else {
            continue;
        };
        if inner.fates().of(at.pack).is_none() {
            return Ok(Other::Lasting);
        }
        leaving = Other::Leaving(Box::new(found));
    }
    Ok(leaving)
}
