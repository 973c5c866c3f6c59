//! A disk that takes writes, which nobody keeps.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use stillwater_nbd::{Errno, Export, Piece, Trouble};
use stillwater_types::Extent;
use tokio::sync::RwLock;

/// What a guest writes at least; what it writes less of is filled up from below.
const BLOCK: u64 = 4096;

/// Another disk with what was written over it, in a file without a name that goes with this.
pub(crate) struct Overlay {
    below: Arc<dyn Export>,
    file: Arc<File>,
    /// Where the file counts: starts with ends, in whole blocks, apart from each other.
    written: RwLock<BTreeMap<u64, u64>>,
}

impl Overlay {
    /// Nothing is written yet.
    ///
    /// # Errors
    /// The directory for temporary files takes none.
    pub fn new(below: Arc<dyn Export>) -> std::io::Result<Self> {
        Ok(Self {
            below,
            file: Arc::new(tempfile::tempfile()?),
            written: RwLock::default(),
        })
    }

    /// Reads by what counts where.
    async fn look(
        &self,
        written: &BTreeMap<u64, u64>,
        range: Extent,
    ) -> Result<Vec<Piece>, Trouble> {
        let mut pieces = Vec::new();
        for (part, is_written) in parts(written, range) {
            match is_written {
                true => pieces.push(Piece::Data(self.load(part).await?)),
                false => pieces.extend(self.below.read(part).await?),
            }
        }
        Ok(pieces)
    }

    async fn load(&self, part: Extent) -> Result<Bytes, Trouble> {
        let file = Arc::clone(&self.file);
        let read = move || {
            let mut bytes = BytesMut::zeroed(usize::try_from(part.length).unwrap_or(0));
            file.read_exact_at(&mut bytes, part.start)
                .map(|()| bytes.freeze())
        };
        blocking(read).await
    }

    async fn store(&self, offset: u64, bytes: Bytes, length: u64) -> Result<(), Trouble> {
        let file = Arc::clone(&self.file);
        let write = move || {
            // Reads of whole blocks may not end before the file does.
            if file.metadata()?.len() < length {
                file.set_len(length)?;
            }
            file.write_all_at(&bytes, offset)
        };
        blocking(write).await
    }

    /// The bytes of a block's part that a write leaves as they were.
    async fn rest(&self, written: &BTreeMap<u64, u64>, part: Extent) -> Result<BytesMut, Trouble> {
        let mut bytes = BytesMut::new();
        if part.length == 0 {
            return Ok(bytes);
        }
        for piece in self.look(written, part).await? {
            match piece {
                Piece::Data(data) => bytes.extend_from_slice(&data),
                Piece::Zeros(length) => {
                    bytes.resize(bytes.len() + usize::try_from(length).unwrap_or(0), 0)
                }
            }
        }
        Ok(bytes)
    }
}

/// A range in parts, each with whether it was written.
fn parts(written: &BTreeMap<u64, u64>, range: Extent) -> Vec<(Extent, bool)> {
    let mut parts = Vec::new();
    let mut at = range.start;
    let first = written.range(..=at).next_back();
    for (start, end) in first.into_iter().chain(written.range(at + 1..range.end())) {
        let (start, end) = ((*start).max(at), (*end).min(range.end()));
        if start >= end {
            continue;
        }
        if start > at {
            parts.push((Extent::new(at, start - at), false));
        }
        parts.push((Extent::new(start, end - start), true));
        at = end;
    }
    if at < range.end() {
        parts.push((Extent::new(at, range.end() - at), false));
    }
    parts
}

/// Adds a range, joined with those that it touches.
fn add(written: &mut BTreeMap<u64, u64>, range: Extent) {
    let (mut start, mut end) = (range.start, range.end());
    while let Some((at, until)) = written
        .range(..=end)
        .next_back()
        .map(|(at, until)| (*at, *until))
    {
        if until < start {
            break;
        }
        written.remove(&at);
        start = start.min(at);
        end = end.max(until);
    }
    written.insert(start, end);
}

#[async_trait]
impl Export for Overlay {
    fn name(&self) -> &str {
        self.below.name()
    }

    fn length(&self) -> u64 {
        self.below.length()
    }

    fn description(&self) -> String {
        format!(
            "{}, what is written is thrown away",
            self.below.description()
        )
    }

    fn is_writable(&self) -> bool {
        true
    }

    async fn read(&self, range: Extent) -> Result<Vec<Piece>, Trouble> {
        let written = self.written.read().await;
        self.look(&written, range).await
    }

    async fn holes(&self, range: Extent) -> Result<Vec<(u64, bool)>, Trouble> {
        let written = self.written.read().await;
        let mut told = Vec::new();
        for (part, is_written) in parts(&written, range) {
            match is_written {
                true => told.push((part.length, false)),
                false => {
                    let below = self.below.holes(part).await?;
                    let sum: u64 = below.iter().map(|(length, _)| length).sum();
                    told.extend(below);
                    // What it did not tell may be asked for next.
                    if sum < part.length {
                        break;
                    }
                }
            }
        }
        Ok(told)
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> Result<(), Trouble> {
        let mut written = self.written.write().await;
        let (end, length) = (offset + bytes.len() as u64, self.length());
        let first = offset / BLOCK * BLOCK;
        let last = end.next_multiple_of(BLOCK).min(length);
        let mut whole = self
            .rest(&written, Extent::new(first, offset - first))
            .await?;
        whole.extend_from_slice(&bytes);
        whole.extend_from_slice(&self.rest(&written, Extent::new(end, last - end)).await?);
        self.store(first, whole.freeze(), length).await?;
        add(&mut written, Extent::new(first, last - first));
        Ok(())
    }

    async fn zero(&self, range: Extent) -> Result<(), Trouble> {
        const STEP: u64 = 1 << 20;
        let zeros = Bytes::from(vec![0; STEP as usize]);
        for at in (range.start..range.end()).step_by(STEP as usize) {
            let length = usize::try_from(STEP.min(range.end() - at)).unwrap_or(0);
            self.write(at, zeros.slice(..length)).await?;
        }
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Trouble> {
    let done = tokio::task::spawn_blocking(act).await;
    let done = done.map_err(|_| Trouble::new(Errno::Io, "the thread of the overlay ended"))?;
    done.map_err(|error| {
        let errno = match error.kind() {
            std::io::ErrorKind::StorageFull => Errno::NoSpace,
            _ => Errno::Io,
        };
        Trouble::new(errno, format!("keep what is written: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LENGTH: u64 = 40 * 1024 + 512;

    struct Below(Vec<u8>);

    #[async_trait]
    impl Export for Below {
        fn name(&self) -> &str {
            "below"
        }

        fn length(&self) -> u64 {
            self.0.len() as u64
        }

        async fn read(&self, range: Extent) -> Result<Vec<Piece>, Trouble> {
            let bytes = &self.0[range.start as usize..range.end() as usize];
            Ok(vec![match bytes.iter().all(|byte| *byte == 0) {
                true => Piece::Zeros(range.length),
                false => Piece::Data(Bytes::copy_from_slice(bytes)),
            }])
        }

        async fn holes(&self, range: Extent) -> Result<Vec<(u64, bool)>, Trouble> {
            Ok(vec![(range.length, false)])
        }
    }

    fn plain(pieces: Vec<Piece>) -> Vec<u8> {
        let bytes = |piece| match piece {
            Piece::Data(data) => data.to_vec(),
            Piece::Zeros(length) => vec![0; length as usize],
        };
        pieces.into_iter().flat_map(bytes).collect()
    }

    proptest! {
        /// Whatever is written and zeroed in whatever order, a reader sees what a plain disk would show.
        #[test]
        fn what_was_written_is_read(
            acts in proptest::collection::vec((0..LENGTH, 1..9000_u64, any::<u8>(), any::<bool>()), 1..24),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut want: Vec<u8> = (0..LENGTH).map(|at| if at / 8192 % 2 == 0 { 0 } else { (at / 64) as u8 }).collect();
            runtime.block_on(async {
                let overlay = Overlay::new(Arc::new(Below(want.clone()))).unwrap();
                for (start, length, byte, zero) in acts {
                    let length = length.min(LENGTH - start);
                    let fill = if zero { 0 } else { byte };
                    want[start as usize..(start + length) as usize].fill(fill);
                    match zero {
                        true => overlay.zero(Extent::new(start, length)).await.unwrap(),
                        false => overlay.write(start, Bytes::from(vec![byte; length as usize])).await.unwrap(),
                    }
                    let told: u64 = overlay.holes(Extent::new(0, LENGTH)).await.unwrap().iter().map(|(length, _)| length).sum();
                    prop_assert_eq!(told, LENGTH);
                }
                let read = plain(overlay.read(Extent::new(0, LENGTH)).await.unwrap());
                prop_assert!(read == want);
                let part = plain(overlay.read(Extent::new(5000, 9001)).await.unwrap());
                prop_assert!(part == want[5000..14001]);
                Ok(())
            })?;
        }
    }
}
