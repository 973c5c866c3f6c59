//! Real bytes: the blocks of a guest's disk that are not zeros.

use std::fs::File;
use std::io::Read;

use bytes::{Bytes, BytesMut};
use stillwater_chunking::{BLOCK_LEN, Cutter, CutterParams, is_zero};
use stillwater_tests::workspace;

/// As much as no processor's cache holds.
const LEN: usize = 32 << 20;
const SEED: u64 = 42;

/// Bytes of a disk, and how they are cut.
pub struct Content {
    pub bytes: Bytes,
    pub chunks: Vec<Bytes>,
}

impl Content {
    /// Of the small guest that `make lab` makes.
    pub fn of_guest() -> Self {
        let image = workspace::lab_file("images/small-root.raw");
        let image = image.expect("a workspace");
        let mut file = File::open(&image).unwrap_or_else(|error| {
            panic!("open {}: {error}: run `make lab`", image.display());
        });
        let mut bytes = BytesMut::with_capacity(LEN);
        let mut block = [0; BLOCK_LEN];
        while bytes.len() < LEN && file.read_exact(&mut block).is_ok() {
            if !is_zero(&block) {
                bytes.extend_from_slice(&block);
            }
        }
        let bytes = bytes.freeze();
        let cutter = cutter();
        let chunks = cutter.chunks(&bytes);
        Self {
            chunks: chunks.map(|chunk| bytes.slice_ref(chunk)).collect(),
            bytes: bytes.clone(),
        }
    }
}

/// The cutter that disks get.
pub fn cutter() -> Cutter {
    Cutter::new(CutterParams::DISK, SEED).expect("sound parameters")
}
