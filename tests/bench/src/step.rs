//! What every contender does, in this order.

/// One step of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Step {
    /// The disk for the first time.
    Full,
    /// All stored bytes read and compared with their checksums.
    Scrub,
    /// All chunks of a disk opened, decompressed and identified.
    Verify,
    /// The same disk again; what has a change map uses it.
    Unchanged,
    /// The same disk again, every byte read.
    Reread,
    /// The disk a day later.
    Day2,
    /// Another server, cloned from the first and lived in.
    Sibling,
    /// The first disk into a file.
    Restore,
    /// Reads of 64 KiB here and there, of the first disk.
    Random,
}

impl Step {
    /// All of them in the order of a round: a later one needs what the earlier ones stored. Both looks at
    /// stored data come while one point is all there is, so that everybody proves the same bytes once.
    pub const ALL: [Step; 9] = [
        Step::Full,
        Step::Scrub,
        Step::Verify,
        Step::Unchanged,
        Step::Reread,
        Step::Day2,
        Step::Sibling,
        Step::Restore,
        Step::Random,
    ];

    /// How tables call it.
    pub const fn name(self) -> &'static str {
        match self {
            Step::Full => "full",
            Step::Scrub => "scrub of stored bytes",
            Step::Verify => "verify with the key",
            Step::Unchanged => "unchanged",
            Step::Reread => "re-read",
            Step::Day2 => "day 2",
            Step::Sibling => "sibling",
            Step::Restore => "restore to a file",
            Step::Random => "random reads",
        }
    }
}
