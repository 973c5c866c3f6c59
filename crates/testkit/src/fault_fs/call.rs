//! Calls: counted, named, traced, and made to fail.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};

use super::AfterFailedSync;

/// A call of the file system or of one of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "they are named as the calls are")]
pub enum Call {
    CreateNew,
    Open,
    Rename,
    Remove,
    MakeDir,
    List,
    SyncDir,
    Room,
    Medium,
    Read,
    Write,
    Length,
    SetLength,
    Reserve,
    Sync,
    Lock,
}

impl Call {
    /// Whether it needs room on the disk.
    const fn grows(self) -> bool {
        matches!(
            self,
            Call::CreateNew | Call::Rename | Call::MakeDir | Call::Write | Call::Reserve
        )
    }

    /// Whether it changes anything, so that it may have come to something when the power fails in it.
    pub(super) const fn changes(self) -> bool {
        self.grows() || matches!(self, Call::Remove | Call::SetLength)
    }
}

/// What happens at a chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The call fails and does nothing; later ones work.
    Fails(ErrorKind),
    /// The call and all later ones fail: the process was killed, or the power was cut, in it. What it
    /// was to change may have changed.
    Dies,
    /// There is no room any more, from this call on, for anything that needs some.
    NoRoom,
    /// If it is a sync, it fails, and the kernel takes what it could not write for clean: later syncs
    /// succeed without it. Other calls fail once.
    LosesPages(AfterFailedSync),
    /// If it is a read, it ends in the middle. Other calls fail once.
    EndsEarly,
    /// If it is a read, one bit of what is read is wrong, this time only. Other calls work.
    Flips(u64),
}

/// What became of a call before it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Works,
    /// It is made, and then everything is over.
    LastBreath,
    LosesPages(AfterFailedSync),
    EndsEarly,
    Flips(u64),
}

/// The calls so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls {
    count: u64,
    counts: BTreeMap<Call, u64>,
    trace: u64,
    trouble: Option<(u64, Trouble)>,
    struck: Option<String>,
    is_dead: bool,
    record: Option<Vec<String>>,
    pub(super) is_full: bool,
}

impl Calls {
    /// Counts a call and decides what becomes of it.
    pub(super) fn begin(&mut self, call: Call, what: &str) -> io::Result<Verdict> {
        if self.is_dead {
            return Err(dead());
        }
        self.count += 1;
        *self.counts.entry(call).or_default() += 1;
        self.note(&(call, what));
        if let Some(record) = &mut self.record {
            record.push(format!("{call:?} {what}"));
        }
        if let Some((at, trouble)) = self.trouble
            && at == self.count
        {
            self.trouble = None;
            self.struck = Some(format!("{call:?} {what}"));
            return self.strike(call, trouble);
        }
        if self.is_full && call.grows() {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(Verdict::Works)
    }

    fn strike(&mut self, call: Call, trouble: Trouble) -> io::Result<Verdict> {
        match (trouble, call) {
            (Trouble::Fails(kind), _) => Err(io::Error::new(kind, "made to fail")),
            (Trouble::Dies, _) => {
                self.is_dead = true;
                if call.changes() {
                    Ok(Verdict::LastBreath)
                } else {
                    Err(dead())
                }
            }
            (Trouble::NoRoom, _) => {
                self.is_full = true;
                if call.grows() {
                    return Err(ErrorKind::StorageFull.into());
                }
                Ok(Verdict::Works)
            }
            (Trouble::LosesPages(after), Call::Sync) => Ok(Verdict::LosesPages(after)),
            (Trouble::EndsEarly, Call::Read) => Ok(Verdict::EndsEarly),
            (Trouble::Flips(bit), Call::Read) => Ok(Verdict::Flips(bit)),
            (Trouble::Flips(_), _) => Ok(Verdict::Works),
            (Trouble::LosesPages(_) | Trouble::EndsEarly, _) => {
                Err(io::Error::other("made to fail"))
            }
        }
    }

    /// Takes something into the trace.
    pub(super) fn note(&mut self, what: &impl Hash) {
        let mut hasher = DefaultHasher::new();
        self.trace.hash(&mut hasher);
        what.hash(&mut hasher);
        self.trace = hasher.finish();
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    pub(super) const fn counts(&self) -> &BTreeMap<Call, u64> {
        &self.counts
    }

    pub(super) const fn trace(&self) -> u64 {
        self.trace
    }

    pub(super) const fn is_dead(&self) -> bool {
        self.is_dead
    }

    pub(super) fn plan(&mut self, in_calls: u64, trouble: Trouble) {
        self.trouble = Some((self.count + in_calls, trouble));
    }

    pub(super) fn heal(&mut self) {
        self.trouble = None;
        self.is_dead = false;
        self.is_full = false;
    }

    pub(super) fn record(&mut self) {
        self.record = Some(Vec::new());
    }

    pub(super) fn recorded(&self) -> Vec<String> {
        self.record.clone().unwrap_or_default()
    }

    pub(super) fn struck(&self) -> Option<&str> {
        self.struck.as_deref()
    }

    /// The same trace, and no other call or trouble.
    pub(super) fn continued(&self) -> Self {
        Self {
            trace: self.trace,
            ..Self::default()
        }
    }
}

pub(super) fn dead() -> io::Error {
    io::Error::other("the power was cut")
}
