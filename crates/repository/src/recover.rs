//! `stillwater-repository recover`: points and disks out of a repository's directory, with the recovery
//! key alone.
//!
//! It runs where an administrator has the directory and the key, never inside the service: no lock is
//! taken, nothing in the directory is written, and a mount that is read-only will do.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use stillwater_recovery::{
    Disk, Draft, Error, ImageFormat, Manifest, Recovery, RecoveryKey, Restored, Section,
};
use stillwater_service::command::Failure;
use stillwater_types::{Extent, Fault, PointId, Reason};
use zeroize::Zeroizing;

mod bar;
mod view;

use bar::Bar;
use view::say;

/// Zeros stand for what was lost: not a success, whatever else went well.
const ZERO_FILLED: u8 = 3;
/// The command line cannot be used.
const BAD_USAGE: u8 = 2;
/// More than any recovery key has.
const KEY_BYTES_MAX: u64 = 4096;

/// Restores disks from a repository's directory with nothing but the recovery key
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 everything that was asked for is proved and whole; 1 it failed, nothing was left behind; \
2 the command line is wrong; 3 disks were restored with zeros where content is lost.")]
pub struct Recover {
    /// The directory of the repository; it is only read
    dir: PathBuf,
    /// The recovery key, or - to read it from standard input; on a command line others may see it
    #[arg(
        long,
        value_name = "RECOVERY-KEY",
        global = true,
        conflicts_with = "key_file"
    )]
    key: Option<String>,
    /// A file that holds the recovery key
    #[arg(long, value_name = "FILE", global = true)]
    key_file: Option<PathBuf>,
    /// Show points that were deleted too; parts of them may be gone
    #[arg(long, global = true)]
    deleted: bool,
    /// How to print what was asked for
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    act: Act,
}

/// How to print what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people: tables, sizes in KiB, MiB, GiB
    Table,
    /// For programs: one JSON value, sizes in bytes
    Json,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Show the restore points, and whether all that they need is there
    List,
    /// Write the disks of a restore point, and the VM's configuration beside them
    Restore(Restore),
}

#[derive(Debug, Args)]
struct Restore {
    /// The restore point
    point: PointId,
    /// Only this disk, by its device key
    #[arg(long, value_name = "KEY", allow_negative_numbers = true)]
    disk: Option<i32>,
    /// The directory for the disks; with --disk the file, unless it is a directory
    #[arg(long, value_name = "DIR|FILE")]
    to: PathBuf,
    /// How to write disks
    #[arg(long, value_enum, default_value_t = Format::Raw)]
    format: Format,
    /// Restore what is left of damaged disks, with zeros for the rest; the exit code is 3 then
    #[arg(long)]
    fill_zeros: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The disk's bytes, sparse
    Raw,
    /// A growing VMDK, as Workstation and qemu-img read it
    Vmdk,
}

impl From<Format> for ImageFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Raw => ImageFormat::Raw,
            Format::Vmdk => ImageFormat::Vmdk,
        }
    }
}

impl Recover {
    /// Does what the command line asks.
    pub fn run(self) -> ExitCode {
        let key = match self.read_key() {
            Ok(key) => key,
            Err(fault) => {
                say(&Failure::from(fault).to_string());
                return ExitCode::from(BAD_USAGE);
            }
        };
        match self.act(&key) {
            Ok(code) => code,
            Err(fault) => {
                say(&Failure::from(fault).to_string());
                ExitCode::FAILURE
            }
        }
    }

    fn act(&self, key: &RecoveryKey) -> Result<ExitCode, Fault> {
        let mut bar = Bar::new();
        let opened = Recovery::open(&self.dir, key, &mut |progress| bar.show(progress, "packs"));
        bar.end();
        let mut recovery = opened?;
        tell_notes(&mut recovery);
        match &self.act {
            Act::List => self.list(&mut recovery),
            Act::Restore(restore) => self.restore(&mut recovery, restore),
        }
    }

    fn list(&self, recovery: &mut Recovery) -> Result<ExitCode, Fault> {
        let points = recovery.points().to_vec();
        let shown = points
            .iter()
            .filter(|point| self.deleted || point.deleted_at.is_none());
        let lines: Vec<_> = shown.map(|point| view::Line::of(recovery, point)).collect();
        tell_notes(recovery);
        match self.output {
            Output::Table => view::print(&view::table(&lines))?,
            Output::Json => {
                let points: Vec<_> = lines.iter().map(view::Line::json).collect();
                view::print(&format!("{:#}", json!({ "points": points })))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn restore(&self, recovery: &mut Recovery, ask: &Restore) -> Result<ExitCode, Fault> {
        let manifest = recovery.manifest(ask.point, self.deleted)?;
        let disks = chosen(&manifest, ask.disk)?;
        let section = recovery.section(&manifest)?;
        tell_notes(recovery);
        if !ask.fill_zeros {
            check_whole(recovery, &disks)?;
        }
        let target = Target::of(ask)?;
        let outcome = self.restore_to(&target, recovery, ask, &manifest, &disks, section.as_ref());
        if outcome.is_err() {
            target.abandon();
        }
        outcome
    }

    fn restore_to(
        &self,
        target: &Target,
        recovery: &mut Recovery,
        ask: &Restore,
        manifest: &Manifest,
        disks: &[&Disk],
        section: Option<&Section>,
    ) -> Result<ExitCode, Fault> {
        let mut restored = Vec::new();
        for disk in disks {
            restored.push(self.restore_disk(recovery, ask, manifest, disk, target)?);
        }
        tell_notes(recovery);
        let told = view::restored(manifest, section, &restored, ask.format.into());
        let beside = target.write_beside(section, &told)?;
        let is_whole = restored.iter().all(|(_, disk)| disk.zero_filled.is_empty());
        let drafts = restored.into_iter().map(|(draft, _)| draft).chain(beside);
        drafts.into_iter().try_for_each(Draft::publish)?;
        match self.output {
            Output::Table => view::print(&view::outcome(&told))?,
            Output::Json => view::print(&format!("{told:#}"))?,
        }
        if is_whole {
            return Ok(ExitCode::SUCCESS);
        }
        say("warning: zeros stand for lost content; do not take these disks for whole");
        Ok(ExitCode::from(ZERO_FILLED))
    }

    fn restore_disk(
        &self,
        recovery: &mut Recovery,
        ask: &Restore,
        manifest: &Manifest,
        disk: &Disk,
        target: &Target,
    ) -> Result<(Draft, Restored), Fault> {
        let format = ImageFormat::from(ask.format);
        let path = target.disk(disk.key, format);
        let mut bar = Bar::new();
        let label = format!("{} ({})", disk.label, disk.key);
        let outcome = recovery.restore(
            manifest,
            disk,
            (&path, format),
            ask.fill_zeros,
            &mut |progress| bar.show(progress, &label),
        );
        bar.end();
        if let Err(Error::Damaged { key, lost }) = &outcome {
            tell_lost(*key, lost);
        }
        Ok(outcome?)
    }

    /// The key from the command line, a file or standard input.
    fn read_key(&self) -> Result<RecoveryKey, Fault> {
        let text = match (&self.key, &self.key_file) {
            (Some(key), _) if key != "-" => Zeroizing::new(key.clone()),
            (Some(_), _) => read_text(io::stdin().lock(), "standard input")?,
            (None, Some(path)) => {
                let shown = path.display().to_string();
                let file = fs::File::open(path).map_err(|error| bad_key(&shown, &error))?;
                read_text(file, &shown)?
            }
            (None, None) => {
                let told = "give the recovery key: --key-file FILE, or --key - for standard input";
                return Err(Fault::new(Reason::BadField, told));
            }
        };
        let parsed = text.trim().parse();
        parsed.map_err(|error| Fault::new(Reason::BadField, format!("{error}")))
    }
}

fn read_text(input: impl Read, from: &str) -> Result<Zeroizing<String>, Fault> {
    let mut text = Zeroizing::new(String::with_capacity(KEY_BYTES_MAX as usize));
    let read = input.take(KEY_BYTES_MAX).read_to_string(&mut text);
    read.map(|_| text).map_err(|error| bad_key(from, &error))
}

fn bad_key(from: &str, error: &io::Error) -> Fault {
    Fault::new(
        Reason::BadField,
        format!("read the recovery key from {from}: {error}"),
    )
}

/// The disks that were asked for.
fn chosen(manifest: &Manifest, key: Option<i32>) -> Result<Vec<&Disk>, Error> {
    let Some(key) = key else {
        return Ok(manifest.disks.iter().collect());
    };
    let known = || {
        let keys: Vec<_> = manifest
            .disks
            .iter()
            .map(|disk| disk.key.to_string())
            .collect();
        keys.join(", ")
    };
    let found = manifest.disks.iter().find(|disk| disk.key == key);
    let point = manifest.point;
    found
        .map(|disk| vec![disk])
        .ok_or_else(|| Error::DiskNotFound {
            point,
            key,
            known: known(),
        })
}

/// Names all that is lost of all disks before anything is written.
fn check_whole(recovery: &mut Recovery, disks: &[&Disk]) -> Result<(), Error> {
    let mut first = None;
    for disk in disks {
        let lost = recovery.survey(disk);
        if !lost.is_empty() {
            tell_lost(disk.key, &lost);
            first.get_or_insert(Error::Damaged {
                key: disk.key,
                lost,
            });
        }
    }
    first.map_or(Ok(()), Err)
}

fn tell_lost(key: i32, lost: &[Extent]) {
    for extent in lost {
        say(&format!(
            "disk {key}: {} bytes are lost at {}",
            extent.length, extent.start
        ));
    }
}

fn tell_notes(recovery: &mut Recovery) {
    for note in recovery.notes().take() {
        say(&format!("warning: {note}"));
    }
}

/// Where disks go.
enum Target {
    /// To this file.
    File(PathBuf),
    /// Into this directory, with the configuration beside them.
    Directory {
        path: PathBuf,
        /// Whether it was made for this.
        is_new: bool,
    },
}

impl Target {
    fn of(ask: &Restore) -> Result<Self, Error> {
        let to = ask.to.clone();
        if to.is_dir() {
            let is_new = false;
            return Ok(Target::Directory { path: to, is_new });
        }
        if ask.disk.is_some() {
            return Ok(Target::File(to));
        }
        match fs::create_dir(&to) {
            Ok(()) => Ok(Target::Directory {
                path: to,
                is_new: true,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::Exists(to)),
            Err(source) => {
                let act = "create";
                Err(Error::Io {
                    act,
                    path: to,
                    source,
                })
            }
        }
    }

    fn disk(&self, key: i32, format: ImageFormat) -> PathBuf {
        match self {
            Target::File(path) => path.clone(),
            Target::Directory { path, .. } => path.join(format!("disk-{key}.{}", format.suffix())),
        }
    }

    /// Leaves no empty directory behind.
    fn abandon(self) {
        if let Target::Directory { path, is_new: true } = self
            && let Err(error) = fs::remove_dir(&path)
        {
            say(&format!(
                "warning: cannot remove {}: {error}",
                path.display()
            ));
        }
    }

    /// What a directory gets beside disks: all that is known of the point, and the VM's configuration.
    fn write_beside(
        &self,
        section: Option<&Section>,
        told: &serde_json::Value,
    ) -> Result<Vec<Draft>, Error> {
        let Target::Directory { path: dir, .. } = self else {
            return Ok(Vec::new());
        };
        let text = format!("{told:#}\n");
        let mut drafts = vec![draft(&dir.join("point.json"), text.as_bytes())?];
        if let Some(section) = section {
            let xml = section.config_xml.as_bytes();
            drafts.push(draft(&dir.join("config.xml"), xml)?);
            match section.nvram() {
                Ok(Some(nvram)) => drafts.push(draft(&dir.join("vm.nvram"), &nvram)?),
                Ok(None) => {}
                // It is worth a warning and no disk.
                Err(why) => say(&format!("warning: {why}")),
            }
        }
        Ok(drafts)
    }
}

fn draft(path: &Path, bytes: &[u8]) -> Result<Draft, Error> {
    let draft = Draft::begin(path)?;
    let written = io::Write::write_all(&mut draft.file(), bytes);
    let act = "write";
    written.map_err(|source| Error::Io {
        act,
        path: path.to_owned(),
        source,
    })?;
    Ok(draft)
}
