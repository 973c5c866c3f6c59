//! Every reason has a page, and every page a reason.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use stillwater_types::Reason;

const SECTIONS: &[&str] = &[
    "## What happened",
    "## What Stillwater did",
    "## What you do",
];

/// Reasons without a page, pages without a reason, pages without one of their sections.
pub fn check() -> Result<Vec<String>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations/errors");
    let pages = pages(&dir)?;
    let reasons: BTreeSet<String> = Reason::ALL.iter().map(|r| r.as_str().to_owned()).collect();
    let mut faults: Vec<String> = Vec::new();
    let names: BTreeSet<String> = pages.iter().map(|(name, _)| name.clone()).collect();
    faults.extend(
        reasons
            .difference(&names)
            .map(|r| format!("{r} has no page in {}", dir.display())),
    );
    faults.extend(
        names
            .difference(&reasons)
            .map(|p| format!("{p}.md is for no reason of the code")),
    );
    for (name, path) in &pages {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {name}"))?;
        let missing = SECTIONS.iter().filter(|section| !text.contains(**section));
        faults.extend(missing.map(|section| format!("{name}.md lacks {section:?}")));
    }
    Ok(faults)
}

fn pages(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        if name != "README" {
            pages.push((name.to_owned(), path));
        }
    }
    Ok(pages)
}
