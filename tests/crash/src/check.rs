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

use crate::history::State;
use crate::knock::Without;
use crate::script::generation;
use crate::setting::environment;
use crate::witness::{Deed, Sent, Witness};

const PATIENCE: Duration = Duration::from_secs(5);
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

/// What was promised, sorted.
#[derive(Debug, Default)]
struct Promises<'a> {
    init: bool,
    generation: u64,
    dataset: Option<DatasetId>,
    fence: u64,
    sequence: u64,
    records: Vec<&'a Sent>,
    /// Run, fence and hash of the manifest.
    proposed: HashMap<PointId, (SessionKey, [u8; 32])>,
    committed: HashMap<PointId, u64>,
}

impl<'a> Promises<'a> {
    fn of(witness: &'a Witness, prefix: u64) -> Self {
        let mut promises = Self::default();
        for deed in witness.promised(prefix) {
            match deed {
                Deed::Init => promises.init = true,
                Deed::Start { generation } => {
                    promises.generation = promises.generation.max(*generation);
                }
                Deed::Dataset(id) => promises.dataset = Some(*id),
                Deed::Open { fence, .. } => promises.fence = promises.fence.max(*fence),
                Deed::Close { .. } => {}
                Deed::Put { records } => promises.records.extend(records),
                Deed::Propose {
                    run,
                    fence,
                    point,
                    manifest,
                } => {
                    let key = SessionKey {
                        run: *run,
                        fence: *fence,
                    };
                    promises.proposed.insert(*point, (key, *manifest));
                }
                Deed::Commit { point, sequence } => {
                    promises.committed.insert(*point, *sequence);
                }
            }
        }
        let committed = promises
            .committed
            .values()
            .copied()
            .max()
            .unwrap_or_default();
        promises.sequence = committed.max(promises.fence).max(u64::from(promises.init));
        promises
    }
}

/// What is in `store` on a disk that lost its power; changes it as a start would.
pub fn check(store: &Path, witness: &Witness, state: State, options: Options) -> Findings {
    let promises = Promises::of(witness, state.prefix);
    let mut findings = Findings::default();
    if let Err(error) = look(store, &promises, &mut findings) {
        findings
            .lost
            .push(format!("cannot be looked at: {error:#}"));
    }
    let case = Case {
        store,
        witness,
        state,
        options,
        promises: &promises,
    };
    if let Err(error) = case.go_on(&mut findings) {
        findings.lost.push(format!("{error:#}"));
    }
    findings
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
    for (point, (_, hash)) in &promises.proposed {
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

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !dir.exists() {
        return Ok(found);
    }
    for fan in std::fs::read_dir(dir)? {
        for file in std::fs::read_dir(fan?.path())? {
            found.push(file?.path());
        }
    }
    Ok(found)
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
    witness: &'a Witness,
    state: State,
    options: Options,
    promises: &'a Promises<'a>,
}

impl Case<'_> {
    /// Starts, demands what was promised, works on, and starts again.
    fn go_on(&self, findings: &mut Findings) -> Result<()> {
        let store = match self.open() {
            Err(Error::NotInitialised) if !self.promises.init => return Ok(()),
            opened => opened.context("does not open")?,
        };
        let Some(dataset) = self.promises.dataset else {
            return Ok(());
        };
        let mut possible = self.commits_asked();
        self.demand(&store, dataset, &possible, findings)?;
        let fresh = self.work(&store, dataset).context("does not work on")?;
        drop(store);
        if !self.state.salt.is_multiple_of(REOPENED) {
            return Ok(());
        }
        let store = self.open().context("does not open again")?;
        possible.extend(self.promises.proposed.keys());
        self.demand(&store, dataset, &possible, findings)?;
        let read = store.read(dataset, fresh);
        read.context("read what was stored after the cut")?;
        Ok(())
    }

    fn open(&self) -> Result<Store, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let environment = environment(self.store, &Without::new()).map_err(|error| {
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

    fn demand(
        &self,
        store: &Store,
        dataset: DatasetId,
        possible: &HashSet<PointId>,
        findings: &mut Findings,
    ) -> Result<()> {
        let lost = &mut findings.lost;
        let points = store.points(0, usize::MAX).context("list points")?;
        let listed: HashSet<_> = points.iter().map(|point| point.commit.point).collect();
        for (point, sequence) in &self.promises.committed {
            match store.point(*point) {
                Ok(found) if found.sequence == *sequence && listed.contains(point) => {}
                Ok(found) => lost.push(format!("{point} is now at {}", found.sequence)),
                Err(error) => lost.push(format!("{point}: {error}")),
            }
        }
        for point in listed.difference(possible) {
            lost.push(format!("{point} is there and nobody asked for it"));
        }
        for point in &listed {
            if let Err(error) = check_point(store, *point) {
                lost.push(format!("{point}: {error:#}"));
            }
        }
        for sent in &self.promises.records {
            if let Err(error) = check_record(store, dataset, sent) {
                lost.push(format!("{error:#}"));
            }
        }
        let usage = store.usage().context("measure")?;
        if usage.damaged_pack_count + usage.damaged_point_count > 0 {
            lost.push("packs or points count as damaged".into());
        }
        Ok(())
    }

    fn commits_asked(&self) -> HashSet<PointId> {
        let asked = self.witness.asked(self.state.prefix);
        let points = asked.filter_map(|deed| match deed {
            Deed::Commit { point, .. } => Some(*point),
            _ => None,
        });
        points.collect()
    }

    /// Commits what was proposed, and takes a session and a pack.
    fn work(&self, store: &Store, dataset: DatasetId) -> Result<RecordId> {
        let closed: HashSet<RunId> = self
            .witness
            .asked(self.state.prefix)
            .filter_map(|deed| match deed {
                Deed::Close { run } => Some(*run),
                _ => None,
            })
            .collect();
        for (point, (key, _)) in &self.promises.proposed {
            if !closed.contains(&key.run) {
                let committed = store.commit_point(*key, *point);
                committed.with_context(|| format!("commit {point}, which was proposed"))?;
            }
        }
        let session = store.open_session(RunId::mint(), dataset, 0)?;
        let (fence, seen) = (session.key.fence, self.promises.fence);
        ensure!(fence > seen, "fence {fence} was given after {seen}");
        let node = Node::leaves(Vec::new())?.encode();
        let header = RecordHeader::node(&node)?;
        let mut pack =
            store.begin_pack(session.key, blake3::hash(&fence.to_le_bytes()).as_bytes())?;
        pack.append(&header, &node)?;
        pack.finish()?;
        Ok(RecordId {
            kind: header.kind,
            id: header.id,
        })
    }
}

/// A point that is listed has a manifest that fits its commit record, and all that it reaches.
fn check_point(store: &Store, point: PointId) -> Result<()> {
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
