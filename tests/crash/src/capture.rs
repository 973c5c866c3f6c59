//! A recorded run of the script, and the states that power cuts make of it.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use stillwater_store::Options;

use crate::check::{self, Findings};
use crate::filesystem::FileSystem;
use crate::harm::Harm;
use crate::history::{History, State};
use crate::image::Image;
use crate::knock::Without;
use crate::random::Random;
use crate::recorder::Recorder;
use crate::script::{Length, Player, Scene};
use crate::setting::{self, Setting};
use crate::witness::Witness;

/// Candidates that are drawn at most for each state that is wanted.
const DRAWS_MAX: usize = 20;
/// Where the repository is on its disk.
const STORE: &str = "store";

/// What was written and what was promised.
pub struct Capture {
    fs: FileSystem,
    start: Image,
    history: History,
    witness: Witness,
}

/// States that differ in what is on the disk.
#[derive(Debug, Default)]
pub struct Plan {
    /// The states, ascending.
    pub states: Vec<State>,
    /// How many were drawn that another one equals.
    pub equal_count: usize,
}

/// What was found in one state.
#[derive(Debug)]
pub struct Verdict {
    /// The state.
    pub state: State,
    /// What is not as promised.
    pub findings: Findings,
}

impl Capture {
    /// Makes the file system and the repository, and plays the script on it.
    pub async fn record(
        fs: FileSystem,
        setting: &Setting,
        dir: &Path,
        (without, length, seed): (&Without, Length, u64),
    ) -> Result<Self> {
        let blank = dir.join("blank.raw");
        std::fs::File::create(&blank)?.set_len(fs.disk_bytes())?;
        fs.make(&blank).context("make the file system")?;
        let start = Image::read(&blank)?;
        std::fs::remove_file(&blank)?;
        let recorder = Recorder::start(fs, &start, dir)?;
        std::fs::create_dir(recorder.root().join(STORE))?;
        // The directory that the repository is put in is its owner's to keep.
        std::fs::File::open(recorder.root())?.sync_all()?;
        let scene = scene(&recorder, without, Witness::default());
        let player = Player::new(setting, scene, length, seed);
        player.init().context("make the repository")?;
        Self::play(fs, start, recorder, player).await
    }

    /// Starts the repository on what a power cut left and plays on, so that power cuts during and
    /// after recovery are among the states as well.
    pub async fn go_on(
        &self,
        state: State,
        setting: &Setting,
        dir: &Path,
        (length, seed): (Length, u64),
    ) -> Result<Self> {
        let start = self.image(state);
        let recorder = Recorder::start(self.fs, &start, dir)?;
        let witness = self.witness.after_cut(state.prefix);
        let scene = scene(&recorder, &Without::nothing(), witness);
        let player = Player::new(setting, scene, length, seed);
        Self::play(self.fs, start, recorder, player).await
    }

    async fn play(
        fs: FileSystem,
        start: Image,
        recorder: Recorder,
        player: Player<'_>,
    ) -> Result<Self> {
        let witness = player.play().await?;
        Ok(Self {
            fs,
            start,
            history: recorder.end()?,
            witness,
        })
    }

    /// Whether garbage was collected to the end, and packs were compacted.
    pub const fn removed_packs(&self) -> bool {
        self.witness.removed_count > 0 && self.witness.copied_bytes > 0
    }

    /// How much there is, for people.
    pub fn summary(&self) -> String {
        format!(
            "{} writes and flushes, {} of them flushes; {} acknowledgements; {} packs removed, {} bytes \
             of others compacted",
            self.history.len(),
            self.history.flush_count(),
            self.witness.acks().len(),
            self.witness.removed_count,
            self.witness.copied_bytes
        )
    }

    /// Chooses states: half of them right after an acknowledgement, half anywhere.
    pub fn plan(&self, wanted: usize, seed: u64) -> Plan {
        let mut random = Random::new(seed);
        let acks = self.witness.acks();
        let first = acks.iter().copied().min().unwrap_or_default();
        let mut plan = Plan::default();
        let mut drawn = HashSet::new();
        while plan.states.len() < wanted && drawn.len() < wanted * DRAWS_MAX {
            let missing = wanted - plan.states.len();
            let fresh = (0..missing + missing / 4 + 8).map(|_| self.draw(&mut random, &acks));
            drawn.extend(fresh.filter(|state| state.prefix >= first));
            plan = self.distinct(&drawn, wanted);
        }
        plan
    }

    /// Every acknowledgement with everything lost that was not flushed, and if these are few, some with
    /// a part of it.
    pub fn plan_acks(&self, wanted: usize, seed: u64) -> Plan {
        let mut random = Random::new(seed);
        let acks = self.witness.acks();
        let all_lost = acks.iter().map(|ack| State {
            prefix: *ack,
            salt: 0,
        });
        let mut drawn: HashSet<_> = all_lost.collect();
        let missing = wanted.saturating_sub(self.distinct(&drawn, usize::MAX).states.len());
        drawn.extend((0..missing).map(|_| self.draw(&mut random, &acks)));
        self.distinct(&drawn, usize::MAX)
    }

    fn draw(&self, random: &mut Random, acks: &[u64]) -> State {
        let anywhere = 1 + random.below(self.history.len());
        let prefix = match acks.get(random.below(acks.len().max(1) as u64) as usize) {
            Some(ack) if random.percent(50) => (ack + random.below(4)).min(self.history.len()),
            _ => anywhere,
        };
        let salt = match random.below(20) {
            0 => 0,
            1 => 1,
            _ => random.next() >> 32,
        };
        State { prefix, salt }
    }

    /// Of states whose disks hold the same, keeps one; of too many, an even choice.
    fn distinct(&self, drawn: &HashSet<State>, wanted: usize) -> Plan {
        let mut sorted: Vec<_> = drawn.iter().copied().collect();
        sorted.sort_unstable();
        let mut seen = HashSet::new();
        let mut cursor = Cursor::new(self);
        sorted.retain(|state| seen.insert(cursor.identity(*state)));
        let equal_count = drawn.len() - sorted.len();
        let count = sorted.len();
        if count > wanted {
            let mut index = 0;
            sorted.retain(|_| {
                index += 1;
                index * wanted / count > (index - 1) * wanted / count
            });
        }
        Plan {
            states: sorted,
            equal_count,
        }
    }

    fn image(&self, state: State) -> Image {
        Cursor::new(self).image(state)
    }

    /// Mounts and checks states, on as many threads as asked for, all of them after the same harm.
    pub fn judge(
        &self,
        (plan, harm): (&Plan, Option<Harm>),
        dir: &Path,
        threads: usize,
    ) -> Result<Vec<Verdict>> {
        let options = setting::options()?;
        let next = AtomicUsize::new(0);
        let verdicts = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|number| {
                    let dir = dir.join(format!("judge-{number}"));
                    let (next, verdicts) = (&next, &verdicts);
                    scope.spawn(move || self.work((plan, harm), &dir, options, next, verdicts))
                })
                .collect();
            for worker in workers {
                worker.join().expect("a worker does not panic")?;
            }
            anyhow::Ok(())
        })?;
        let mut verdicts = verdicts
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        verdicts.sort_by_key(|verdict| verdict.state);
        Ok(verdicts)
    }

    fn work(
        &self,
        (plan, harm): (&Plan, Option<Harm>),
        dir: &Path,
        options: Options,
        next: &AtomicUsize,
        verdicts: &Mutex<Vec<Verdict>>,
    ) -> Result<()> {
        let (disk, root) = (dir.join("disk.raw"), dir.join("root"));
        std::fs::create_dir_all(&root)?;
        let mut cursor = Cursor::new(self);
        while let Some(state) = plan.states.get(next.fetch_add(1, Ordering::Relaxed)) {
            cursor.image(*state).save(&disk)?;
            let findings = self.check(&disk, &root, (*state, harm), options)?;
            let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
            verdicts.push(Verdict {
                state: *state,
                findings,
            });
        }
        std::fs::remove_file(&disk)?;
        Ok(())
    }

    /// The mount replays the file system's own journal; no other repair is allowed.
    fn check(
        &self,
        disk: &Path,
        root: &Path,
        case: (State, Option<Harm>),
        options: Options,
    ) -> Result<Findings> {
        let mount = match self.fs.mount(disk, root) {
            Ok(mount) => mount,
            Err(error) => {
                return Ok(Findings {
                    lost: vec![format!("does not mount: {error:#}")],
                    ..Findings::default()
                });
            }
        };
        let (store, clock) = (root.join(STORE), disk.with_extension("ahead"));
        let findings = check::check(&store, &clock, &self.witness, case, options);
        mount.end()?;
        findings
    }

    /// Keeps what makes every state again.
    pub fn save(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        self.start.save(&dir.join("start.raw"))?;
        self.history.save(&dir.join("log"))?;
        std::fs::write(dir.join("fs"), self.fs.name())?;
        let witness = serde_json::to_vec(&self.witness)?;
        std::fs::write(dir.join("witness.json"), witness).context("keep what was promised")
    }

    /// Reads what [`Capture::save`] kept.
    pub fn load(dir: &Path) -> Result<Self> {
        let name = std::fs::read_to_string(dir.join("fs"))
            .with_context(|| format!("find a recording in {}", dir.display()))?;
        let witness = std::fs::read(dir.join("witness.json"))?;
        Ok(Self {
            fs: FileSystem::of_name(&name).context("the recording is of no file system we know")?,
            start: Image::read(&dir.join("start.raw"))?,
            history: History::read(&dir.join("log"))?,
            witness: serde_json::from_slice(&witness)?,
        })
    }
}

fn scene(recorder: &Recorder, without: &Without, witness: Witness) -> Scene {
    Scene {
        store: recorder.root().join(STORE),
        without: without.clone(),
        position: Box::new(recorder.position()),
        witness,
    }
}

/// Goes through states in ascending order and keeps what the disk had flushed.
struct Cursor<'a> {
    capture: &'a Capture,
    flushed: Image,
    at: u64,
}

impl<'a> Cursor<'a> {
    fn new(capture: &'a Capture) -> Self {
        Self {
            capture,
            flushed: capture.start.clone(),
            at: 0,
        }
    }

    fn advance(&mut self, state: State) {
        let history = &self.capture.history;
        let flushed = history.flushed(state.prefix);
        history.replay(&mut self.flushed, self.at, flushed);
        self.at = self.at.max(flushed);
    }

    fn identity(&mut self, state: State) -> crate::image::Identity {
        self.advance(state);
        let remains = self.capture.history.remains(state);
        self.flushed.identity_with(remains)
    }

    fn image(&mut self, state: State) -> Image {
        self.advance(state);
        let mut image = self.flushed.clone();
        for (first, bytes) in self.capture.history.remains(state) {
            image.write(first, bytes);
        }
        image
    }
}
