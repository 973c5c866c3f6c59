//! Compiles the protocol with cargo alone: no protoc on the machine.

use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("../../proto");
    let dir = root.join("stillwater/controller/v1");
    println!("cargo::rerun-if-changed={}", dir.display());
    let descriptors = protox::compile(protos(&dir)?, [root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("descriptors.bin"),
        protox::prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}

fn protos(dir: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut protos = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        protos.push(entry?.path());
    }
    // In one order, so that two builds of the same sources are the same.
    protos.sort();
    Ok(protos)
}
