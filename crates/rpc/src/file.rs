//! Small files that must be private, and after a crash whole or absent.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

/// A key and two certificates have 3 KiB; anything near this is not ours.
const BYTES_MAX: u64 = 64 << 10;

/// Writes `dir/name` with mode 0600, making `dir` with mode 0700 when it is not there.
///
/// The directory is synced too: without it the rename itself may be lost, and a node would wake
/// up with the certificate that it just replaced.
pub(crate) fn publish(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let unfinished = dir.join(format!("{name}.new"));
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
    fs::rename(&unfinished, dir.join(name))?;
    File::open(dir)?.sync_all()
}

/// Reads a file that [`publish`] wrote.
pub(crate) fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
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
        let inner = dir.path().join("identity");
        publish(&inner, "key", b"one").expect("publish");
        fs::write(inner.join("key.new"), b"half").expect("write");
        publish(&inner, "key", b"two").expect("publish again");
        assert_eq!(read(&inner.join("key")).expect("read").as_slice(), b"two");
        assert!(!inner.join("key.new").exists());
        let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&inner.join("key"))), (0o700, 0o600));
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("key"), vec![0; 65 << 10]).expect("write");
        assert!(read(&dir.path().join("key")).is_err());
    }
}
