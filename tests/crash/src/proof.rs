//! The proof that the lane sees loss: each barrier is left out alone, and must be missed.
//!
//! Where a second copy stands for what is lost, that copy is taken away after the power cut: two copies
//! are kept against exactly one such harm, and then the barrier of the other one decides. The same harm with
//! nothing left out must cost nothing. Names that one journal for all files makes up for are tried on a
//! file system that has none ([`posix`]). What is only a cache must cost nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};

use crate::capture::Capture;
use crate::filesystem::FileSystem;
use crate::harm::Harm;
use crate::knock::{Barrier, Without};
use crate::posix;
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
const STATES: usize = 30;

/// What must come of leaving something out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    /// Something that was acknowledged is gone.
    Lose,
    /// Nothing, as the words say.
    Hold(&'static str),
}

struct Trial {
    script: Length,
    without: &'static [Barrier],
    /// Space for packs is reserved.
    reserves: bool,
    /// What the medium loses after the power cut: each of these in turn, never two of them.
    harms: &'static [Harm],
    must: [Must; 2],
}

const CUT: &str = "XFS writes the bytes when the reserve behind them is cut";
const NOTHING_LEFT_OUT: &str = "nothing is left out";
const CACHE: &str = "made anew from packs and log";

/// Barriers that nothing that was acknowledged hangs on, and what they are good for.
const SPARE: [(Barrier, &str); 8] = [
    (
        Barrier::IndexData,
        "a start need not read every pack's table",
    ),
    (Barrier::IndexName, "the same"),
    (Barrier::IndexAside, "the same"),
    (
        Barrier::VerifiedData,
        "packs need not be verified again at once",
    ),
    (Barrier::VerifiedName, "the same"),
    (
        Barrier::CatalogueData,
        "redb asks for it; the product keeps its catalogue in sled",
    ),
    (Barrier::CatalogueName, "the same"),
    (
        Barrier::SelfTest,
        "tries whether the disk takes a sync at all",
    ),
];
/// The same, to be left out together.
const SPARES: [Barrier; SPARE.len()] = {
    let mut spares = [Barrier::SelfTest; SPARE.len()];
    let mut place = 0;
    while place < SPARE.len() {
        spares[place] = SPARE[place].0;
        place += 1;
    }
    spares
};

const TRIALS: &[Trial] = {
    use Barrier::*;
    use Must::*;
    const fn trial(without: &'static [Barrier], harms: &'static [Harm]) -> Trial {
        Trial {
            script: BRIEF,
            without,
            reserves: true,
            harms,
            must: [Lose, Lose],
        }
    }
    const fn holding(trial: Trial, why: &'static str) -> Trial {
        Trial {
            must: [Hold(why), Hold(why)],
            ..trial
        }
    }
    const fn unreserved(without: &'static [Barrier], script: Length) -> Trial {
        Trial {
            script,
            reserves: false,
            ..trial(without, &[])
        }
    }
    &[
        Trial {
            must: [Lose, Hold(CUT)],
            ..trial(&[PackData], &[])
        },
        unreserved(&[PackData], BRIEF),
        trial(&[PackName], &[]),
        unreserved(&[CopiedPackData], COLLECTING),
        trial(&[ManifestData], &[Harm::ManifestCopies]),
        trial(&[ManifestCopyData], &[Harm::Manifests]),
        trial(&[ManifestCopyName], &[Harm::Manifests]),
        trial(&[Log], &[Harm::LogCopy]),
        trial(&[LogCopy], &[Harm::Log]),
        trial(&[LogData], &[Harm::LogCopy]),
        trial(&[LogCopyData], &[Harm::Log]),
        trial(&[SuperblockData], &[]),
        trial(&[SuperblockName], &[]),
        trial(&[Superblock], &[]),
        holding(unreserved(&SPARES, COLLECTING), CACHE),
        holding(
            trial(
                &[],
                &[
                    Harm::Log,
                    Harm::LogCopy,
                    Harm::Manifests,
                    Harm::ManifestCopies,
                ],
            ),
            NOTHING_LEFT_OUT,
        ),
    ]
};

/// Where each barrier was missed, and whether all went as it must.
#[derive(Debug, Default)]
pub struct Proof {
    missed: BTreeMap<Barrier, BTreeSet<&'static str>>,
    gaps: usize,
    spares_held: bool,
}

/// Where a recording is made and judged.
pub struct Place<'a> {
    /// The file system.
    pub fs: FileSystem,
    /// Those who call.
    pub setting: &'a Setting,
    /// A directory to work in.
    pub dir: &'a Path,
    /// How many disks are judged at a time.
    pub threads: usize,
}

impl Proof {
    /// Tries every trial of a file system and prints what came of it.
    pub async fn try_out(&mut self, place: &Place<'_>, seed: u64) -> Result<()> {
        let mut random = Random::new(seed);
        println!(
            "{}: barriers left out, and what that costs",
            place.fs.name()
        );
        println!("{:>8} {:>6}  without", "states", "lost");
        for trial in TRIALS {
            let cost = trial.cost(place, &mut random).await;
            let cost = cost.with_context(|| format!("without {}", trial.told()))?;
            self.take(place.fs, trial, cost);
        }
        Ok(())
    }

    fn take(&mut self, fs: FileSystem, trial: &Trial, [states, lost]: [usize; 2]) {
        let (place, name) = match fs {
            FileSystem::Ext4 => (0, "ext4"),
            FileSystem::Xfs => (1, "xfs"),
        };
        let (is_so, word) = match trial.must[place] {
            Must::Lose => (lost > 0, ""),
            Must::Hold(why) => (lost == 0, why),
        };
        let gap = if is_so { "" } else { "  NOT AS IT MUST BE" };
        self.gaps += usize::from(!is_so);
        println!("{states:>8} {lost:>6}  {}  {word}{gap}", trial.told());
        match (trial.must[place], trial.without) {
            (Must::Lose, [barrier]) if is_so => {
                self.missed.entry(*barrier).or_default().insert(name);
            }
            (Must::Hold(CACHE), _) => self.spares_held = is_so,
            _ => {}
        }
    }

    /// Tries what a journal makes up for, where there is none.
    pub fn try_names(&mut self) -> Result<()> {
        println!("a file system without a journal for all: barriers left out, and what that costs");
        println!("{:>8} {:>6}  without", "states", "lost");
        for trial in posix::TRIALS {
            let (barrier, told) = (trial.barrier, trial.told());
            let tried = trial.try_out();
            let [lost, with] = tried.with_context(|| format!("without {barrier}: {told}"))?;
            let is_so = lost > 0 && with == 0;
            let gap = if is_so { "" } else { "  NOT AS IT MUST BE" };
            self.gaps += usize::from(!is_so);
            println!("{:>8} {lost:>6}  {barrier}: {told}{gap}", posix::CUTS);
            if is_so {
                self.missed.entry(barrier).or_default().insert("posix");
            }
        }
        Ok(())
    }

    /// Prints the verdict over each single barrier; false where one is missed nowhere, or anything else
    /// went otherwise than it must.
    pub fn tell(&self) -> bool {
        println!("{:<20} {:<18} verdict", "left out alone", "missed on");
        let mut unproven = 0;
        for barrier in Barrier::ALL {
            let missed = self.missed.get(barrier).into_iter().flatten();
            let missed: Vec<_> = missed.copied().collect();
            let spare = SPARE.iter().find(|(spare, _)| spare == barrier);
            let (is_proven, verdict) = match spare {
                Some((_, why)) if self.spares_held => {
                    (true, format!("pass: nothing is lost; {why}"))
                }
                None if !missed.is_empty() => (true, "pass".into()),
                _ => (false, "FAIL".into()),
            };
            unproven += usize::from(!is_proven);
            println!("{:<20} {:<18} {verdict}", barrier.name(), missed.join(", "));
        }
        let all = Barrier::ALL.len();
        let (proven, gaps) = (all - unproven, self.gaps);
        println!("{proven} of {all} barriers; {gaps} trials went otherwise than they must");
        unproven + gaps == 0
    }
}

impl Trial {
    /// States, and how many of them lost something.
    async fn cost(&self, place: &Place<'_>, random: &mut Random) -> Result<[usize; 2]> {
        let without = Without {
            reserve: !self.reserves,
            ..Without::barriers(self.without)
        };
        let what = (&without, self.script, random.next());
        let capture = Capture::record(place.fs, place.setting, place.dir, what).await?;
        let plan = capture.plan_acks(STATES, random.next());
        let harms = self.harms.iter().copied().map(Some);
        let harms: Vec<_> = match self.harms {
            [] => vec![None],
            _ => harms.collect(),
        };
        let mut cost = [0; 2];
        for harm in harms {
            for verdict in capture.judge((&plan, harm), place.dir, place.threads)? {
                cost[0] += 1;
                cost[1] += usize::from(!verdict.findings.lost.is_empty());
            }
        }
        Ok(cost)
    }

    fn told(&self) -> String {
        let names: Vec<_> = self.without.iter().map(|barrier| barrier.name()).collect();
        let mut told = match names[..] {
            [] => "nothing".into(),
            _ => names.join(" + "),
        };
        if !self.reserves {
            told += ", nothing reserved";
        }
        if self.script.collects {
            told += ", beside collections";
        }
        let harms: Vec<_> = self.harms.iter().map(|harm| harm.name()).collect();
        if !harms.is_empty() {
            told = told + ", and then without " + &harms.join(" | ");
        }
        told
    }
}
