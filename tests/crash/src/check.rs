//! Whether what a power cut left keeps every promise.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use stillwater_format::log::Scanner;
use stillwater_format::manifest::{Manifest, manifest_hash};
use stillwater_format::node::{Entries, Leaf, Node};
use stillwater_format::pack::{FOOTER_LEN, Footer, RecordHeader, RecordId, RecordKind, Trailer};
use stillwater_store::{Error, Options, SessionKey, Store};
use stillwater_types::{DatasetId, PointId, RunId};

use crate::clock;
use crate::harm::{Harm, files};
use crate::history::State;
use crate::knock::Without;
use crate::script::generation;
use crate::setting::environment;
use crate::witness::{Deed, Sent, Witness};

const PATIENCE: Duration = Duration::from_secs(5);
const DAY_MILLIS: u64 = 24 * 3600 * 1000;
/// One state in so many is opened a second time, after it was worked on.
const REOPENED: u64 = 4;

/// What is not as it was promised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is lost, torn, or there without having been asked for.
    pub lost: Vec<String>,
    /// Of what there should be two copies and is one.
    pub single: Vec<String>,
}

/// What was promised, sorted, and what voids promises.
#[derive(Debug, Default)]
struct Promises<'a> {
    init: bool,
    generation: u64,
    dataset: Option<DatasetId>,
    fence: u64,
    sequence: u64,
    /// With the run that sent them.
    records: Vec<(RunId, &'a Sent)>,
    /// Session and hash of the manifest.
    proposed: HashMap<PointId, (SessionKey, [u8; 32])>,
    committed: HashMap<PointId, u64>,
    deleted: HashSet<PointId>,
    asked: Asked,
}

/// What was asked, answered or not.
#[derive(Debug, Default)]
struct Asked {
    committed: HashSet<PointId>,
    deleted: HashSet<PointId>,
    /// Runs whose session may be over: it keeps nothing alive any more.
    over: HashSet<RunId>,
    collected: bool,
}

impl Asked {
    fn of(witness: &Witness, prefix: u64) -> Self {
        let (mut asked, mut open) = (Self::default(), HashSet::new());
        for deed in witness.asked(prefix) {
            match deed {
                Deed::Open { run, .. } => drop(open.insert(*run)),
                Deed::Close { run } => drop(asked.over.insert(*run)),
                Deed::Wait => asked.over.extend(open.drain()),
                Deed::Commit { point, .. } => drop(asked.committed.insert(*point)),
                Deed::Delete { point } => drop(asked.deleted.insert(*point)),
                Deed::Collect => asked.collected = true,
                _ => {}
            }
        }
        asked
    }
}

impl<'a> Promises<'a> {
    fn of(witness: &'a Witness, prefix: u64) -> Self {
        let mut promises = Self {
            asked: Asked::of(witness, prefix),
            ..Self::default()
        };
        witness
            .promised(prefix)
            .for_each(|deed| promises.take(deed));
        let committed = promises.committed.values().copied().max();
        promises.sequence = committed
            .unwrap_or_default()
            .max(promises.fence)
            .max(u64::from(promises.init));
        promises
    }

    fn take(&mut self, deed: &'a Deed) {
        match deed {
            Deed::Init => self.init = true,
            Deed::Start { generation } => self.generation = self.generation.max(*generation),
            Deed::Dataset(id) => self.dataset = Some(*id),
            Deed::Open { fence, .. } => self.fence = self.fence.max(*fence),
            Deed::Put { run, records } => {
                self.records.extend(records.iter().map(|sent| (*run, sent)));
            }
            Deed::Propose {
                run,
                fence,
                point,
                manifest,
            } => {
                let (run, fence) = (*run, *fence);
                let session = SessionKey { run, fence };
                self.proposed.insert(*point, (session, *manifest));
            }
            Deed::Commit { point, sequence } => {
                self.committed.insert(*point, *sequence);
            }
            Deed::Delete { point } => {
                self.deleted.insert(*point);
            }
            Deed::Close { .. } | Deed::Collect | Deed::Wait => {}
        }
    }

    /// Whether a manifest must be there twice.
    fn keeps(&self, point: PointId, session: SessionKey) -> bool {
        let is_claimed = !self.asked.over.contains(&session.run);
        let is_needed = self.committed.contains_key(&point) || is_claimed;
        is_needed && !self.asked.deleted.contains(&point)
    }

    /// Whether a proposal must be one that can be committed.
    fn is_waiting(&self, point: PointId, session: SessionKey) -> bool {
        !self.asked.over.contains(&session.run) && !self.asked.deleted.contains(&point)
    }

    /// Records that must be there whether a point reaches them or not. After a collection that is what
    /// a session sent that is not over.
    fn kept_records(&self) -> impl Iterator<Item = &'a Sent> {
        let kept =
            |(run, _): &&(RunId, &'a Sent)| !self.asked.collected || !self.asked.over.contains(run);
        self.records.iter().filter(kept).map(|(_, sent)| *sent)
    }
}

/// What is in `store` on a disk that lost its power, and perhaps one copy of something with it; changes
/// it as a start would. Clocks are read by the file `clock`.
pub fn check(
    store: &Path,
    clock: &Path,
    witness: &Witness,
    (state, harm): (State, Option<Harm>),
    options: Options,
) -> Result<Findings> {
    clock::put_ahead(clock, witness.waited_millis)?;
    let promises = Promises::of(witness, state.prefix);
    let mut findings = Findings::default();
    if let Err(error) = look(store, &promises, &mut findings) {
        let told = format!("cannot be looked at: {error:#}");
        findings.lost.push(told);
    }
    if let Some(harm) = harm {
        harm.inflict(store)?;
    }
    let case = Case {
        store,
        clock,
        ahead: witness.waited_millis,
        state,
        options,
        promises: &promises,
    };
    if let Err(error) = case.go_on(&mut findings) {
        findings.lost.push(format!("{error:#}"));
    }
    Ok(findings)
}

/// Looks at the files as they are before a start.
fn look(store: &Path, promises: &Promises, findings: &mut Findings) -> Result<()> {
    if generation(store).unwrap_or_default() < promises.generation {
        findings
            .lost
            .push("the superblock of the last start".into());
    }
    for name in ["commit.log", "copy/commit.log"] {
        if last_sequence(&store.join(name)) < promises.sequence {
            findings.single.push(name.into());
        }
    }
    for (point, (session, hash)) in &promises.proposed {
        if !promises.keeps(*point, *session) {
            continue;
        }
        for copy in ["manifests", "copy/manifests"] {
            let path = manifest_path(store, copy, *point);
            let found = std::fs::read(&path).unwrap_or_default();
            if manifest_hash(&found) != *hash {
                findings.single.push(format!("{copy} of {point}"));
            }
        }
    }
    check_names(store, findings)
}

/// No file under a final name is torn.
fn check_names(store: &Path, findings: &mut Findings) -> Result<()> {
    for path in files(&store.join("packs"))? {
        if let Err(error) = check_pack(&std::fs::read(&path)?) {
            findings
                .lost
                .push(format!("torn: {}: {error:#}", path.display()));
        }
    }
    for copy in ["manifests", "copy/manifests"] {
        for path in files(&store.join(copy))? {
            if let Err(error) = Manifest::decode(&std::fs::read(&path)?) {
                // Its copy may stand for it.
                findings
                    .single
                    .push(format!("torn: {}: {error}", path.display()));
            }
        }
    }
    Ok(())
}

fn check_pack(bytes: &[u8]) -> Result<()> {
    let footer = bytes.last_chunk::<FOOTER_LEN>().context("too short")?;
    let footer = Footer::decode(footer, bytes.len() as u64)?;
    let begin = usize::try_from(footer.trailer_offset)?;
    let (content, rest) = bytes.split_at(begin);
    let trailer = Trailer::decode(&rest[..footer.trailer_len as usize], &footer)?;
    let hash = blake3::hash(content);
    ensure!(
        *hash.as_bytes() == trailer.content_hash,
        "its content has another hash"
    );
    Ok(())
}

/// The place of the last whole frame of a log.
fn last_sequence(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap_or_default();
    let mut scanner = Scanner::new(&bytes);
    let mut last = 0;
    while let Ok(Some(frame)) = scanner.read() {
        last = frame.sequence;
    }
    last
}

/// As `docs/format.md` has it.
fn manifest_path(store: &Path, copy: &str, point: PointId) -> PathBuf {
    let [.., last] = point.as_bytes();
    store.join(copy).join(format!("{last:02x}/{point}.mf"))
}

/// One state, opened.
struct Case<'a> {
    store: &'a Path,
    clock: &'a Path,
    /// How far clocks are ahead.
    ahead: u64,
    state: State,
    options: Options,
    promises: &'a Promises<'a>,
}

impl Case<'_> {
    /// Starts, demands what was promised, works on, and now and then starts again.
    fn go_on(&self, findings: &mut Findings) -> Result<()> {
        let promises = self.promises;
        let store = match self.open() {
            Err(Error::NotInitialised) if !promises.init => return Ok(()),
            opened => opened.context("does not open")?,
        };
        let Some(dataset) = promises.dataset else {
            return Ok(());
        };
        self.demand_records(&store, dataset, findings);
        self.demand_points(&store, &promises.asked.committed, findings)?;
        self.work(&store, dataset).context("does not work on")?;
        drop(store);
        if !self.state.salt.is_multiple_of(REOPENED) {
            return Ok(());
        }
        let store = self.open().context("does not open again")?;
        self.demand_records(&store, dataset, findings);
        if promises.asked.collected {
            self.collect(&store).context("does not collect garbage")?;
        }
        let proposed = promises.proposed.keys();
        let possible = promises.asked.committed.iter().chain(proposed).copied();
        self.demand_points(&store, &possible.collect(), findings)
    }

    fn open(&self) -> Result<Store, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let environment = environment(self.store, &Without::nothing(), Some(self.clock));
            let environment = environment.map_err(|error| {
                let why = error.to_string();
                Error::Unfit { why }
            })?;
            match Store::open(environment, self.options) {
                // A command that another thread starts has the lock between its fork and its exec.
                Err(Error::InUse) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                opened => return opened,
            }
        }
    }

    fn demand_records(&self, store: &Store, dataset: DatasetId, findings: &mut Findings) {
        for sent in self.promises.kept_records() {
            if let Err(error) = check_record(store, dataset, sent) {
                findings.lost.push(format!("{error:#}"));
            }
        }
    }

    fn demand_points(
        &self,
        store: &Store,
        possible: &HashSet<PointId>,
        findings: &mut Findings,
    ) -> Result<()> {
        let (promises, lost) = (self.promises, &mut findings.lost);
        let points = store.points(0, usize::MAX).context("list points")?;
        let listed: HashMap<_, _> = points
            .iter()
            .map(|point| (point.commit.point, point.sequence))
            .collect();
        for (point, sequence) in &promises.committed {
            match listed.get(point) {
                Some(found) if found == sequence => {}
                None if promises.asked.deleted.contains(point) => {}
                found => lost.push(format!("{point} of {sequence} is at {found:?}")),
            }
        }
        for point in listed.keys() {
            if promises.deleted.contains(point) {
                lost.push(format!("{point} is there and was deleted"));
            } else if !possible.contains(point) {
                lost.push(format!("{point} is there and nobody asked for it"));
            }
            if let Err(error) = check_point(store, *point) {
                lost.push(format!("{point}: {error:#}"));
            }
        }
        let usage = store.usage().context("measure")?;
        if usage.damaged_pack_count + usage.damaged_point_count > 0 {
            lost.push("packs or points count as damaged".into());
        }
        Ok(())
    }

    /// Commits what was proposed, and takes a session and a pack.
    fn work(&self, store: &Store, dataset: DatasetId) -> Result<()> {
        for (point, (session, _)) in &self.promises.proposed {
            if self.promises.is_waiting(*point, *session) {
                let committed = store.commit_point(*session, *point);
                committed.with_context(|| format!("commit {point}, which was proposed"))?;
            }
        }
        let session = store.open_session(RunId::mint(), dataset, 0)?;
        let (fence, seen) = (session.key.fence, self.promises.fence);
        ensure!(fence > seen, "fence {fence} was given after {seen}");
        let node = Node::leaves(Vec::new())?.encode();
        let header = RecordHeader::node(&node)?;
        let salt = blake3::hash(&fence.to_le_bytes());
        let mut pack = store.begin_pack(session.key, salt.as_bytes())?;
        pack.append(&header, &node)?;
        pack.finish()?;
        let (kind, id) = (header.kind, header.id);
        let read = store.read(dataset, RecordId { kind, id });
        read.context("read what was stored after the cut")?;
        Ok(())
    }

    /// Goes through cycles until what is condemned now is gone.
    fn collect(&self, store: &Store) -> Result<()> {
        for days in [0, 2, 10] {
            clock::put_ahead(self.clock, self.ahead + days * DAY_MILLIS)?;
            store.tick()?;
            store.collect(&())?;
        }
        Ok(())
    }
}

/// A point that is listed has a manifest that fits its commit record, and all that it reaches.
pub fn check_point(store: &Store, point: PointId) -> Result<()> {
    let manifest = Manifest::decode(&store.manifest(point)?)?;
    for disk in &manifest.disks {
        let top = store.read(manifest.dataset, RecordId::from(disk.root.top))?;
        let Entries::Leaves(leaves) = Node::decode(&top.stored)?.into_entries() else {
            bail!("the script makes no tree of more than one node");
        };
        for leaf in leaves {
            if let Leaf::Chunk { id, .. } = leaf {
                store.read(manifest.dataset, RecordId::from(id))?;
            }
        }
    }
    Ok(())
}

fn check_record(store: &Store, dataset: DatasetId, sent: &Sent) -> Result<()> {
    let kind = if sent.is_node {
        RecordKind::Node
    } else {
        RecordKind::Chunk
    };
    let record = RecordId { kind, id: sent.id };
    let found = store.read(dataset, record)?;
    ensure!(
        *blake3::hash(&found.stored).as_bytes() == sent.hash,
        "{record} has other bytes"
    );
    Ok(())
}
