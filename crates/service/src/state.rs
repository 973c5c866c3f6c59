//! A role's own directory.

use std::path::Path;

use stillwater_types::Fault;

/// Makes `dir` with mode 0700 unless it is there; refuses one that others can look into.
pub fn prepare(dir: &Path) -> Result<(), Fault> {
    unimplemented!("{dir:?}")
}
