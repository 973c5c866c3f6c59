//! The proof that the lane sees loss: each barrier is left out, and must be missed.
//!
//! Some barriers are not missed alone, because a second copy or a later sync stands for them. Then
//! what stands for them is left out as well, and that must be missed.

use std::path::Path;

use anyhow::Result;

use crate::capture::Capture;
use crate::filesystem::FileSystem;
use crate::knock::{Barrier, Without};
use crate::random::Random;
use crate::script::Length;
use crate::setting::Setting;

/// A few points are enough: what is missing is missed at the next acknowledgement.
const BRIEF: Length = Length {
    lives: 2,
    points: 2,
    collects: false,
};
/// One cycle after another.
const COLLECTING: Length = Length {
    lives: 1,
    points: 2,
    collects: true,
};
const STATES: usize = 40;

/// What must come of leaving barriers out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    /// Something that was acknowledged is gone.
    Lose,
    /// Of two copies one is gone; nothing is lost.
    LoseACopy,
    /// Perhaps something: only in the moment before what the words say.
    MayLose(&'static str),
    /// Nothing, as the words say.
    Hold(&'static str),
}

struct Trial {
    script: Length,
    without: &'static [Barrier],
    must: Must,
    on_xfs: Must,
}

const CUT: &str = "XFS writes the bytes when the reserve behind them is cut, and the sync of the name \
                   flushes them";
const CUT_EARLIER: &str = "ext4 brings a file that was cut with the next sync of any other";
const LOGGED: &str = "the decision is on the log, and is carried out at the next start";
const JOURNAL: &str = "the next sync of any file writes the journal that this name is in";

const TRIALS: &[Trial] = {
    use Barrier::*;
    use Must::*;
    const fn trial(without: &'static [Barrier], must: Must) -> Trial {
        Trial {
            script: BRIEF,
            without,
            must,
            on_xfs: must,
        }
    }
    const fn collecting(without: &'static [Barrier], must: Must) -> Trial {
        Trial {
            script: COLLECTING,
            without,
            must,
            on_xfs: must,
        }
    }
    &[
        Trial {
            on_xfs: Hold(CUT),
            ..trial(&[PackData], Lose)
        },
        trial(&[PackData, PackName], Lose),
        trial(&[PackName], Lose),
        trial(&[ManifestData], LoseACopy),
        trial(&[ManifestCopyData], LoseACopy),
        trial(&[ManifestData, ManifestCopyData], Lose),
        trial(&[ManifestCopyName], LoseACopy),
        trial(&[ManifestName], Hold(JOURNAL)),
        trial(&[ManifestName, ManifestCopyData, ManifestCopyName], Lose),
        trial(&[Log], LoseACopy),
        trial(&[LogCopy], LoseACopy),
        trial(&[Log, LogCopy], Lose),
        Trial {
            on_xfs: Lose,
            ..trial(&[Superblock], MayLose(CUT_EARLIER))
        },
        trial(&[SuperblockData], Lose),
        trial(&[RootNames], Lose),
        trial(&[LogData], LoseACopy),
        trial(&[LogCopyData], LoseACopy),
        trial(&[LogData, LogCopyData], Lose),
        trial(&[CopyNames], Hold(JOURNAL)),
        trial(&[FanNames], Hold(JOURNAL)),
        trial(
            &[
                FanNames,
                CopyNames,
                LogData,
                LogCopyData,
                SuperblockData,
                RootNames,
            ],
            Lose,
        ),
        collecting(&[Log, LogCopy], Lose),
        collecting(&[PackData, PackName], Lose),
        collecting(&[QuarantineNames], Hold(LOGGED)),
    ]
};

/// What came of it.
#[derive(Debug, Default)]
struct Cost {
    states: usize,
    /// States in which something acknowledged is gone or torn.
    lost: usize,
    /// States in which only a second copy is gone.
    single: usize,
}

/// Tries every trial and prints the table; false when one went otherwise than it must.
pub async fn prove(
    fs: FileSystem,
    setting: &Setting,
    dir: &Path,
    threads: usize,
    seed: u64,
) -> Result<bool> {
    let mut random = Random::new(seed);
    let mut proven = true;
    println!("{}: barriers left out, and what that costs", fs.name());
    println!("{:>8} {:>6} {:>9}  without", "states", "lost", "copy lost");
    for trial in TRIALS {
        let without: Without = trial.without.iter().copied().collect();
        let what = (&without, trial.script, random.next());
        let capture = Capture::record(fs, setting, dir, what).await?;
        let plan = capture.plan_acks(STATES, random.next());
        let mut cost = Cost::default();
        for verdict in capture.judge(&plan, dir, threads)? {
            cost.states += 1;
            if !verdict.findings.lost.is_empty() {
                cost.lost += 1;
            } else if !verdict.findings.single.is_empty() {
                cost.single += 1;
            }
        }
        proven &= tell(fs, trial, &cost);
    }
    Ok(proven)
}

fn tell(fs: FileSystem, trial: &Trial, cost: &Cost) -> bool {
    let names: Vec<_> = trial.without.iter().map(|barrier| barrier.name()).collect();
    let must = match fs {
        FileSystem::Ext4 => trial.must,
        FileSystem::Xfs => trial.on_xfs,
    };
    let (as_must, word) = match must {
        Must::Lose => (cost.lost > 0, ""),
        Must::LoseACopy => (
            cost.lost == 0 && cost.single > 0,
            "the other copy stands for it",
        ),
        Must::MayLose(why) => (cost.single == 0, why),
        Must::Hold(why) => (cost.lost + cost.single == 0, why),
    };
    let gap = if as_must { "" } else { "  NOT AS IT MUST BE" };
    let beside = if trial.script.collects {
        ", beside collections"
    } else {
        ""
    };
    let Cost {
        states,
        lost,
        single,
    } = cost;
    println!(
        "{states:>8} {lost:>6} {single:>9}  {}{beside}  {word}{gap}",
        names.join(" + ")
    );
    as_must
}
