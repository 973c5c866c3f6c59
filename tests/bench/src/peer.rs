//! Tools that others have written, as Debian ships them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::images::{Images, copy};
use crate::measured::{Measured, allocated, timed};
use crate::random::{Mount, latency};
use crate::step::Step;

/// Which tool, and how it is told to store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Peer {
    /// restic as it comes.
    Restic,
    /// borg as it comes: buzhash chunks, lz4.
    Borg,
    /// borg with chunks of 4 MiB without a rolling hash.
    BorgFixed,
    /// rustic as it comes, where somebody has installed it.
    Rustic,
}

impl Peer {
    /// In the order of tables.
    pub const ALL: [Peer; 4] = [Peer::Restic, Peer::Rustic, Peer::Borg, Peer::BorgFixed];

    /// How tables call it.
    pub const fn name(self) -> &'static str {
        match self {
            Peer::Restic => "restic",
            Peer::Borg => "borg",
            Peer::BorgFixed => "borg, fixed 4 MiB",
            Peer::Rustic => "rustic",
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Peer::Restic => "restic",
            Peer::Borg | Peer::BorgFixed => "borg",
            Peer::Rustic => "rustic",
        }
    }

    /// What the tool says that it is.
    pub fn version(self) -> Result<String> {
        let flag = if self == Peer::Restic {
            "version"
        } else {
            "--version"
        };
        let said = Command::new(self.program())
            .arg(flag)
            .output()
            .with_context(|| format!("run {}: is it installed?", self.program()))?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }
}

/// A tool with a repository of its own and a copy of the disk that it protects.
#[derive(Debug)]
pub struct Rig {
    peer: Peer,
    images: Images,
    dir: PathBuf,
}

impl Rig {
    /// An empty repository below `dir`.
    pub fn new(peer: Peer, images: &Images, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let rig = Self {
            peer,
            images: images.clone(),
            dir: dir.to_owned(),
        };
        copy(&images.server, &rig.disk())?;
        let made = match peer {
            Peer::Restic | Peer::Rustic => rig.tool(&["init"]),
            Peer::Borg | Peer::BorgFixed => rig.tool(&["init", "--encryption", "repokey"]),
        };
        timed(&made, &rig.log())?;
        Ok(rig)
    }

    /// Brings the disk into the state that a step wants; not measured.
    pub fn prepare(&self, step: Step) -> Result<()> {
        match step {
            Step::Day2 => copy(&self.images.day2, &self.disk()),
            Step::Sibling => copy(&self.images.sibling, &self.disk()),
            _ => Ok(()),
        }
    }

    /// Does a step; nothing where the tool has no such thing.
    pub fn run(&self, step: Step) -> Result<Option<Measured>> {
        let command = match step {
            // None has a change map: an unchanged disk is told by reading it.
            Step::Full | Step::Unchanged | Step::Reread | Step::Day2 | Step::Sibling => {
                self.back_up(step)
            }
            Step::Restore => self.restore()?,
            Step::Random if self.peer == Peer::Restic => {
                return self.read_here_and_there().map(Some);
            }
            // borg's mount needs a library that Debian leaves out of it, rustic's is not stable.
            Step::Random => return Ok(None),
            Step::Scrub | Step::Verify => self.check(),
        };
        let mut cost = timed(&command, &self.log())?;
        if step == Step::Restore {
            self.compare()?;
        }
        cost.stored_bytes = allocated(&self.repository())?;
        Ok(Some(cost))
    }

    fn back_up(&self, step: Step) -> Command {
        let name = format!("::{}", step.name().replace(' ', "-"));
        let mut command = match self.peer {
            Peer::Restic => self.tool(&["backup", "--force", "--quiet"]),
            Peer::Rustic => self.tool(&["backup", "--force"]),
            Peer::Borg => self.tool(&[
                "create",
                "--compression",
                "lz4",
                "--files-cache",
                "disabled",
                &name,
            ]),
            Peer::BorgFixed => {
                let fixed = [
                    "create",
                    "--compression",
                    "lz4",
                    "--files-cache",
                    "disabled",
                ];
                let mut command = self.tool(&fixed);
                command.args(["--chunker-params", "fixed,4194304", &name]);
                command
            }
        };
        command.arg("disk.raw");
        command
    }

    fn restore(&self) -> Result<Command> {
        let to = self.dir.join("restored");
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        fs::create_dir(&to)?;
        let text = to.to_str().context("utf-8")?;
        Ok(match self.peer {
            // Debian's 0.14 does not know --sparse.
            Peer::Restic => self.tool(&["restore", &self.first()?, "--target", text]),
            Peer::Rustic => self.tool(&["restore", &self.first()?, text]),
            Peer::Borg | Peer::BorgFixed => {
                let mut command = self.tool(&["extract", "--sparse"]);
                command.arg(format!("{}::full", self.repository().display()));
                command.current_dir(to);
                command
            }
        })
    }

    /// Through `restic mount`.
    fn read_here_and_there(&self) -> Result<Measured> {
        let dir = self.dir.join("mount");
        fs::create_dir_all(&dir)?;
        let text = dir.to_str().context("utf-8")?;
        let mut mount = Mount::start("restic mount", &mut self.tool(&["mount", text]), &dir)?;
        let id = self.first()?;
        let short = id.get(..8).context("an id is longer")?;
        let shown = dir.join("ids").join(short).join("disk.raw");
        mount.wait_file(&shown, fs::metadata(&self.images.server)?.len())?;
        Ok(Measured {
            latency: Some(latency(&shown, &self.images.server)?),
            ..Measured::default()
        })
    }

    fn check(&self) -> Command {
        match self.peer {
            Peer::Restic | Peer::Rustic => self.tool(&["check", "--read-data"]),
            Peer::Borg | Peer::BorgFixed => self.tool(&["check", "--verify-data"]),
        }
    }

    /// The first snapshot's id: restic names none.
    fn first(&self) -> Result<String> {
        let listed = self.tool(&["snapshots", "--json"]).output()?;
        ensure!(
            listed.status.success(),
            "{} snapshots failed",
            self.peer.name()
        );
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
        first_id(&listed).context("no snapshot has an id")
    }

    /// The restored file is what was backed up first.
    fn compare(&self) -> Result<()> {
        let to = self.dir.join("restored");
        let found =
            find(&to, "disk.raw")?.with_context(|| format!("nothing in {}", to.display()))?;
        same(&found, &self.images.server)?;
        fs::remove_dir_all(to).map_err(Into::into)
    }

    fn tool(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.peer.program());
        command
            .args(args)
            .current_dir(&self.dir)
            .env("RESTIC_PASSWORD", "benchmark")
            .env("RESTIC_REPOSITORY", self.repository())
            .env("RESTIC_CACHE_DIR", self.dir.join("cache"))
            .env("RUSTIC_PASSWORD", "benchmark")
            .env("RUSTIC_REPOSITORY", self.repository())
            .env("RUSTIC_CACHE_DIR", self.dir.join("cache"))
            .env("BORG_PASSPHRASE", "benchmark")
            .env("BORG_REPO", self.repository())
            .env("BORG_BASE_DIR", self.dir.join("cache"));
        command
    }

    fn disk(&self) -> PathBuf {
        self.dir.join("disk.raw")
    }

    fn repository(&self) -> PathBuf {
        self.dir.join("repository")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("peer.log")
    }
}

/// restic lists snapshots, rustic groups of them; the oldest is the first.
fn first_id(listed: &serde_json::Value) -> Option<String> {
    let row = listed.get(0)?;
    let row = row
        .get("snapshots")
        .map_or(row, |group| group.get(0).unwrap_or(group));
    row["id"].as_str().map(str::to_owned)
}

fn find(dir: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name)? {
                return Ok(Some(found));
            }
        } else if path.ends_with(name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Fails unless both files have the same bytes.
pub fn same(one: &Path, other: &Path) -> Result<()> {
    let status = Command::new("cmp")
        .args(["--silent"])
        .args([one, other])
        .status()?;
    if !status.success() {
        bail!("{} and {} differ", one.display(), other.display());
    }
    Ok(())
}
