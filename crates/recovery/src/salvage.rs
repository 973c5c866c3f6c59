//! Finding records in a pack whose trailer is damaged, a window at a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use stillwater_format::pack::{Entry, HEADER_LEN, RECORD_HEADER_LEN, STORED_BYTES_MAX, scan};

/// The longest record.
const RECORD_BYTES_MAX: u64 = RECORD_HEADER_LEN as u64 + STORED_BYTES_MAX as u64;
/// What is held at once, beside the header that every window pretends to have.
const WINDOW: u64 = 8 * RECORD_BYTES_MAX;

/// Every whole record of the first `length` bytes of a file. What cannot be read is passed over; the
/// last of such errors is told.
pub(crate) fn records(file: &File, length: u64) -> (Vec<Entry>, Option<io::Error>) {
    let (mut found, mut fault) = (Vec::new(), None);
    let mut start = HEADER_LEN as u64;
    while start < length {
        let count = WINDOW.min(length - start);
        let mut bytes = vec![0; HEADER_LEN + count as usize];
        let window = bytes.get_mut(HEADER_LEN..).unwrap_or_default();
        if let Err(error) = read_window(file, window, start) {
            fault = Some(error);
        }
        // A record that begins further back may be cut by the window's end: the next one has it whole.
        let is_last = start + count == length;
        let sure = if is_last {
            count
        } else {
            count - RECORD_BYTES_MAX
        };
        let mut next = start + sure;
        for (entry, _) in scan(&bytes) {
            let at = entry.offset - HEADER_LEN as u64;
            if at >= sure {
                break;
            }
            let offset = start + at;
            next = next.max(offset + RECORD_HEADER_LEN as u64 + u64::from(entry.stored_len));
            found.push(Entry { offset, ..entry });
        }
        start = next;
    }
    (found, fault)
}

/// Fills a window; where the disk has a bad sector, zeros stand for one block.
fn read_window(file: &File, window: &mut [u8], start: u64) -> io::Result<()> {
    const BLOCK: usize = 4096;
    if file.read_exact_at(window, start).is_ok() {
        return Ok(());
    }
    let mut outcome = Ok(());
    for (block, at) in window.chunks_mut(BLOCK).zip((start..).step_by(BLOCK)) {
        if let Err(error) = file.read_exact_at(block, at) {
            block.fill(0);
            outcome = Err(error);
        }
    }
    outcome
}
