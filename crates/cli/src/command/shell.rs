//! `stillwater completion` and `stillwater man`.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use stillwater_types::{Fault, Reason};

use crate::arguments::Arguments;
use crate::exit::Outcome;
use crate::output;

pub(super) fn completion(shell: Shell) -> Result<Outcome, Fault> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "stillwater", &mut script);
    output::write(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}

pub(super) fn man(dir: &Path) -> Result<Outcome, Fault> {
    let failed = |err: io::Error| {
        Fault::new(
            Reason::BadField,
            format!("write manual pages to {}: {err}", dir.display()),
        )
    };
    clap_mangen::generate_to(Arguments::command(), dir).map_err(failed)?;
    Ok(Outcome::Done)
}
