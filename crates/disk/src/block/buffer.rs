//! Memory that devices can fill by themselves.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// What direct reads and writes are aligned to: offset, length and memory. No disk that we read
/// has larger sectors, and smaller ones divide it.
pub(crate) const ALIGN: usize = 4096;

/// Buffers that were used and are free again: a fresh one costs a page fault for each page.
#[derive(Debug)]
pub(crate) struct Shelf {
    free: Mutex<VecDeque<Vec<u8>>>,
    free_max: usize,
}

impl Shelf {
    pub(crate) fn new(free_max: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::default(),
            free_max,
        })
    }

    /// A buffer of `length` bytes with any content.
    pub(crate) fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let wanted = length.saturating_add(ALIGN);
        let memory = self.reuse(wanted).unwrap_or_else(|| vec![0; wanted]);
        let start = memory.as_ptr().align_offset(ALIGN);
        Buffer {
            memory,
            start,
            length,
            shelf: Arc::clone(self),
        }
    }

    /// One that is large enough and not twice as large: a reader holds on to all of it.
    fn reuse(&self, wanted: usize) -> Option<Vec<u8>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |memory: &Vec<u8>| (wanted..=wanted.saturating_mul(2)).contains(&memory.len());
        let at = free.iter().position(fits)?;
        free.remove(at)
    }

    fn put(&self, memory: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if self.free_max == 0 {
            return;
        }
        if free.len() >= self.free_max {
            // The oldest has the size that is least likely to be asked for.
            free.pop_front();
        }
        free.push_back(memory);
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.free.lock().expect("nobody panicked").len()
    }
}

/// Bytes at an aligned address. Goes back to its shelf when nobody holds it any more.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
    shelf: Arc<Shelf>,
}

impl Buffer {
    /// Part of the buffer, without a copy.
    pub(crate) fn freeze(self, part: Range<usize>) -> Bytes {
        Bytes::from_owner(self).slice(part)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.memory
            .get(self.start..self.start + self.length)
            .unwrap_or_default()
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.memory
            .get_mut(self.start..self.start + self.length)
            .unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.shelf.put(std::mem::take(&mut self.memory));
    }
}
