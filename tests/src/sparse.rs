//! Comparing large files that are mostly holes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

const PIECE: u64 = 1 << 20;

/// Demands that two files have the same length and bytes; reads only where either has data.
pub fn check_equal(one: &Path, other: &Path) -> Result<()> {
    let (a, b) = (File::open(one)?, File::open(other)?);
    let length = a.metadata()?.len();
    ensure!(
        length == b.metadata()?.len(),
        "{} and {} differ in length",
        one.display(),
        other.display()
    );
    let (mut left, mut right) = (vec![0; PIECE as usize], vec![0; PIECE as usize]);
    let mut at = 0;
    while at < length {
        let next = next_data(&a, at, length)?.min(next_data(&b, at, length)?);
        if next >= length {
            break;
        }
        let start = next - next % PIECE;
        let count = PIECE.min(length - start) as usize;
        a.read_exact_at(&mut left[..count], start)?;
        b.read_exact_at(&mut right[..count], start)?;
        ensure!(
            left[..count] == right[..count],
            "{} and {} differ in the MiB at {start}",
            one.display(),
            other.display()
        );
        at = start + count as u64;
    }
    Ok(())
}

/// Where the next byte that is no hole lies, or the file's end.
fn next_data(file: &File, at: u64, length: u64) -> Result<u64> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(found) => Ok(found),
        Err(Errno::NXIO) => Ok(length),
        Err(error) => Err(error.into()),
    }
}
