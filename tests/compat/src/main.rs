//! Makes the golden repository of this format version: `golden DIR`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use stillwater_compat::make;

fn main() -> Result<()> {
    let dir = std::env::args_os()
        .nth(1)
        .context("say where: golden DIR")?;
    let dir = PathBuf::from(dir);
    let repository = dir.join("repository");
    fs::create_dir_all(&dir).context("create the directory")?;
    fs::create_dir(&repository).context("create repository/; what is there is kept")?;
    let expected = make(&repository)?;
    let text = serde_json::to_string_pretty(&expected)? + "\n";
    fs::write(dir.join("expected.json"), text).context("write expected.json")?;
    Ok(())
}
