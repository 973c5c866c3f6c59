//! What is on the disks.

/// A disk that is all zeros so far.
pub(crate) struct Content(Vec<u8>);

impl Content {
    pub(crate) fn zeros(length: usize) -> Self {
        Self(vec![0; length])
    }

    /// Lines of text with a number in each, which compress well and never come twice.
    pub(crate) fn text(mut self, offset: usize, length: usize, seed: u64) -> Self {
        let lines = (0u64..).flat_map(|n| {
            format!(
                "{seed} {:08x} a line of a file that was kept\n",
                n / 700 * 97
            )
            .into_bytes()
        });
        self.area(offset, length)
            .iter_mut()
            .zip(lines)
            .for_each(|(to, from)| *to = from);
        self
    }

    /// Bytes that do not compress.
    pub(crate) fn noise(mut self, offset: usize, length: usize, seed: u64) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(&seed.to_le_bytes());
        hash.finalize_xof().fill(self.area(offset, length));
        self
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn area(&mut self, offset: usize, length: usize) -> &mut [u8] {
        self.0.get_mut(offset..offset + length).unwrap_or_default()
    }
}

const MIB: usize = 1 << 20;

/// The disk that the first VM starts from: text enough for a tree of two levels, noise, and holes.
pub(crate) fn system() -> Content {
    Content::zeros(32 * MIB)
        .text(0, 6 * MIB, 1)
        .noise(7 * MIB, MIB / 4, 2)
        .text(8 * MIB, 12 * MIB, 3)
        .noise(31 * MIB - 4096, 4096, 4)
}

/// The same disk a day later.
pub(crate) fn system_later() -> Content {
    system()
        .text(9 * MIB + 8192, MIB / 8, 5)
        .noise(MIB, 4096, 6)
}

/// A disk whose length is no multiple of a block, and that ends in the middle of one.
pub(crate) fn data() -> Content {
    Content::zeros(MIB + 512)
        .text(64 << 10, 100_000, 7)
        .noise(MIB - 1000, 1512, 8)
}

/// A disk of a VM that was retired.
pub(crate) fn retired() -> Content {
    Content::zeros(2 * MIB)
        .noise(MIB / 2, 24 << 10, 10)
        .noise(MIB, 96 << 10, 9)
}

/// A disk that shares less than half of the retired one, so that its pack is compacted.
pub(crate) fn heir() -> Content {
    Content::zeros(MIB).noise(MIB / 4, 24 << 10, 10)
}

/// A disk that holds nothing.
pub(crate) fn blank() -> Content {
    Content::zeros(3 * MIB)
}
