//! Small files that must be private, and after a crash whole or absent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// A key and two certificates have 3 KiB; anything near this is not ours.
const BYTES_MAX: u64 = 64 << 10;

/// Writes the file `path` with mode 0600 into a directory that is there. Blocks on the disk.
///
/// The directory is synced too: without it the rename itself may be lost, and a node would wake
/// up with the certificate that it just replaced.
///
/// # Errors
/// Those of the disk; then the file is as it was.
pub fn publish(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    match fs::remove_file(&unfinished) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    path.parent()
        .map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Reads a file that [`publish`] wrote. Blocks on the disk.
///
/// # Errors
/// Those of the disk, and `InvalidData` beyond 64 KiB.
pub fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // The capacity is there at once, so that growing leaves no copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 << 10));
    File::open(path)?
        .take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "more than 64 KiB",
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_published_file_is_private_and_replaces_what_a_crash_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        publish(&path, b"one").expect("publish");
        fs::write(dir.path().join("key.new"), b"half").expect("write");
        publish(&path, b"two").expect("publish again");
        assert_eq!(read(&path).expect("read").as_slice(), b"two");
        let mode = fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("key"), vec![0; 65 << 10]).expect("write");
        assert!(read(&dir.path().join("key")).is_err());
    }
}
