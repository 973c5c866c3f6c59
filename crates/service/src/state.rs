//! A role's own directory.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use stillwater_types::{Fault, Reason};

/// Makes `dir` with mode 0700 unless it is there, parents included; refuses one that other users
/// can write to, and closes one that they can look into. Blocks on the disk.
///
/// # Errors
/// `STORAGE_UNFIT` when it is no directory or writable for others, `STORAGE_FAILED` when the disk
/// refuses.
pub fn prepare(dir: &Path) -> Result<(), Fault> {
    let failed = |act: &str, err: io::Error| {
        Fault::new(
            Reason::StorageFailed,
            format!("{act} {}: {err}", dir.display()),
        )
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|err| failed("make", err))?;
    let found = fs::metadata(dir).map_err(|err| failed("look at", err))?;
    if !found.is_dir() {
        return Err(unfit(dir, "it is not a directory"));
    }
    match found.mode() & 0o077 {
        0 => Ok(()),
        // Somebody else may have put a file of theirs in the place of one of ours already.
        others if others & 0o022 != 0 => Err(unfit(
            dir,
            "other users can write to it: check what is in it, then chmod 0700",
        )),
        _ => fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .map_err(|err| failed("close", err)),
    }
}

fn unfit(dir: &Path, why: &str) -> Fault {
    Fault::new(
        Reason::StorageUnfit,
        format!("use {} as state directory: {why}", dir.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(dir: &Path) -> u32 {
        fs::metadata(dir).expect("metadata").mode() & 0o777
    }

    #[test]
    fn a_new_directory_is_private_and_an_open_one_is_closed() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("a/b");
        prepare(&dir).expect("made");
        assert_eq!(mode(&dir), 0o700);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("chmod");
        prepare(&dir).expect("closed");
        assert_eq!(mode(&dir), 0o700);
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let root = tempfile::tempdir().expect("a directory");
        for open in [0o777, 0o720, 0o702] {
            fs::set_permissions(root.path(), fs::Permissions::from_mode(open)).expect("chmod");
            let refused = prepare(root.path()).map_err(|fault| fault.reason);
            assert_eq!(refused, Err(Reason::StorageUnfit), "{open:o}");
        }
    }

    #[test]
    fn a_file_is_no_directory() {
        let root = tempfile::tempdir().expect("a directory");
        let file = root.path().join("file");
        fs::write(&file, "").expect("write");
        assert!(prepare(&file).is_err());
    }
}
