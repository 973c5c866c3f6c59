//! Where the workspace keeps what the tests run, and what they are told from outside.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

/// The workspace's root directory.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"))
}

/// A binary of this workspace, built by `make binaries`.
pub fn binary(name: &str) -> Result<PathBuf> {
    // The running test or tool lies in the same target directory as the roles.
    let own = std::env::current_exe()?;
    let target = own
        .ancestors()
        .find(|dir| dir.join(name).is_file())
        .map(|dir| dir.join(name));
    let path = target.unwrap_or_else(|| root().join("target/debug").join(name));
    ensure!(
        path.is_file(),
        "{} is not built: run `make binaries`",
        path.display()
    );
    Ok(path)
}

/// A file that `make lab` builds, below `tests/lab/build`.
pub fn lab_file(name: &str) -> Result<PathBuf> {
    let path = root().join("tests/lab/build").join(name);
    ensure!(
        path.exists(),
        "{} is not built: run `make lab`",
        path.display()
    );
    Ok(path)
}

/// A command that runs a binary of this workspace.
pub fn command(name: &str) -> Result<std::process::Command> {
    binary(name).map(std::process::Command::new)
}

/// What the environment says of `name`, or what is usual.
pub fn setting<T: FromStr>(name: &str, otherwise: T) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(otherwise),
    }
}
