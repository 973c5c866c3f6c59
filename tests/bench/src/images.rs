//! The disks that all contenders protect.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use stillwater_tests::workspace;

const GRANULE: usize = 65_536;

/// The three images of a benchmark; read, never written.
#[derive(Debug, Clone)]
pub struct Images {
    /// A server's disk.
    pub server: PathBuf,
    /// The same a day later.
    pub day2: PathBuf,
    /// Another server, cloned from the first.
    pub sibling: PathBuf,
}

impl Images {
    /// The images that `make bench` has made; the small ones are those of the demo.
    pub fn find(quick: bool) -> Result<Self> {
        let images = workspace::lab_file("images")?;
        let of = |name: &str| {
            let path = images.join(format!("{name}-root.raw"));
            ensure!(
                path.is_file(),
                "{} is not made: run `make bench`",
                path.display()
            );
            Ok(path)
        };
        Ok(Self {
            server: of(if quick { "debian" } else { "server" })?,
            day2: of(if quick { "debianday2" } else { "day2" })?,
            sibling: of(if quick { "sibling" } else { "clone" })?,
        })
    }
}

/// Copies an image with its holes.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp")
        .args(["--sparse=always", "--reflink=never"])
        .args([from, to])
        .status()?;
    ensure!(
        status.success(),
        "copy {} to {}",
        from.display(),
        to.display()
    );
    File::open(to)?.sync_all().context("sync the copy")
}

/// Writes into `live` what `image` has otherwise, as a guest would: granule by granule. Tells how many bytes
/// of granules that were.
pub fn become_image(live: &Path, image: &Path) -> Result<u64> {
    let target = File::options().read(true).write(true).open(live)?;
    let source = File::open(image)?;
    let length = source.metadata()?.len();
    ensure!(
        length == target.metadata()?.len(),
        "the images differ in length"
    );
    let (mut old, mut new) = (vec![0; GRANULE], vec![0; GRANULE]);
    let mut changed = 0;
    for at in (0..length).step_by(GRANULE) {
        let bytes = usize::try_from(length - at)?.min(GRANULE);
        let (old, new) = (&mut old[..bytes], &mut new[..bytes]);
        target.read_exact_at(old, at)?;
        source.read_exact_at(new, at)?;
        if old != new {
            target.write_all_at(new, at)?;
            changed += bytes as u64;
        }
    }
    target.sync_all()?;
    Ok(changed)
}
