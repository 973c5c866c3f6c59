//! A fault as the journal keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stillwater_rpc::retry;
use stillwater_types::{Fault, Reason};

/// How much of a message or a detail is kept.
const TEXT_BYTES_MAX: usize = 2048;

/// A fault that a run remembers.
///
/// The reason is kept by its stable name. A name of a newer release reads as `BUG` with the name in
/// the details: the fault of a run that ended is told, never decided on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Cause(pub Fault);

#[derive(Serialize, Deserialize)]
struct Written {
    reason: String,
    message: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    details: BTreeMap<String, String>,
}

impl Cause {
    /// A cause without details.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Fault::new(reason, message))
    }

    /// Whether another transfer of the disk, on this or another proxy, may fare better.
    ///
    /// A refused login is among these: the data session expires with its vCenter, and each further
    /// attempt gets a fresh one. What is full stays full until a person acts.
    pub fn is_worth_another_transfer(&self) -> bool {
        match self.0.reason {
            Reason::VcenterLoginRefused => true,
            Reason::RepositoryFull | Reason::DatastoreFull => false,
            reason => retry::worth_repeating(reason.kind()),
        }
    }
}

impl From<Fault> for Cause {
    /// What a person reads is cut: vSphere's words have no bound, and a journal entry has one.
    fn from(mut fault: Fault) -> Self {
        cut(&mut fault.message);
        fault.details.values_mut().for_each(cut);
        Self(fault)
    }
}

fn cut(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
}

impl From<Written> for Cause {
    fn from(written: Written) -> Self {
        let Written {
            reason,
            message,
            details,
        } = written;
        let mut fault = match Reason::parse(&reason) {
            Some(known) => Fault::new(known, message),
            None => Fault::new(Reason::Bug, message).with("reason", reason),
        };
        fault.details.extend(details);
        Self(fault)
    }
}

impl From<Cause> for Written {
    fn from(Cause(fault): Cause) -> Self {
        let Fault {
            reason,
            message,
            details,
        } = fault;
        Self {
            reason: reason.as_str().to_owned(),
            message,
            details,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_without_bound_are_cut_at_a_character() {
        let fault = Fault::new(Reason::VcenterTaskFailed, "ä".repeat(100_000));
        let Cause(kept) = fault.with("detail", "b".repeat(100_000)).into();
        for text in kept.details.values().chain([&kept.message]) {
            assert!(text.len() <= TEXT_BYTES_MAX + '…'.len_utf8() && text.ends_with('…'));
        }
        let short = Fault::new(Reason::VcenterTaskFailed, "as it is");
        assert_eq!(Cause::from(short.clone()).0, short);
    }
}
