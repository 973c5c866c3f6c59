//! Segments: immutable files of rows in their order.
//!
//! ```text
//! blocks of 22 rows (1024 each, the last one shorter) · fences · filter · packs · footer (64)
//! ```
//!
//! A fence is the first eight bytes of a block's first id. Fences, filter and packs are cut into
//! pieces of at most 64 KiB. Each block and piece ends in a CRC-32C that is seeded with its segment,
//! section and place, so that one which was changed, moved or left over is noticed when it is read.
//! This is a cache of this program: no other reads it, and a newer version makes it anew.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use stillwater_format::pack::SALT_LEN;
use stillwater_types::{DatasetId, PackId};

use super::PackFacts;
use super::fences::Fences;
use super::filter::{Filter, LINE_LEN, line_count};
use super::row::{Key, ROW_LEN, Row};
use crate::vfs::{Access, File, Vfs};
use crate::{Error, durable, layout};

const MAGIC: &[u8; 4] = b"SWIX";
const VERSION: u32 = 2;
const FOOTER_LEN: usize = 64;
const CRC_LEN: usize = 4;
/// A hit reads and checks one; the fences take eight bytes of memory for each.
const BLOCK_LEN: usize = 1024;
const BLOCK_ROWS: usize = (BLOCK_LEN - CRC_LEN) / ROW_LEN;
/// Payload of a piece; whole lines of the filter and whole fences.
const PIECE_LEN: usize = (1 << 16) - LINE_LEN;
/// Blocks that a merge reads at once from each segment.
const READ_AHEAD: usize = 64;
/// A writer gathers this many bytes.
const BUFFER_BYTES: usize = 1 << 20;
const SUFFIX: &str = ".seg";

/// Why the index cannot go on as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// What is on disk cannot be used. It has to be made anew.
    #[error("read the {what} of index segment {sequence:016x}")]
    Damaged {
        /// The part.
        what: &'static str,
        /// The segment.
        sequence: u64,
    },
    /// The engine panicked. It has to be made anew.
    #[error("use the index: it panicked")]
    Panicked,
    /// An attempt to make it anew did not come to its end.
    #[error("use the index: it is not whole")]
    Torn,
    /// A segment could not be written. What there is stays good.
    #[error("write an index segment")]
    Write(#[source] Error),
    /// It was told to stop.
    #[error("stop a merge")]
    Stopped,
}

/// What a section is, for its checksums.
#[derive(Debug, Clone, Copy)]
enum Section {
    Blocks,
    Fences,
    Filter,
    Packs,
    Footer,
}

impl Section {
    const fn name(self) -> &'static str {
        match self {
            Section::Blocks => "rows",
            Section::Fences => "fences",
            Section::Filter => "filter",
            Section::Packs => "packs",
            Section::Footer => "footer",
        }
    }
}

/// The path of a segment.
pub(super) fn path(sequence: u64) -> PathBuf {
    Path::new(layout::INDEX).join(format!("{sequence:016x}{SUFFIX}"))
}

/// The sequence of the segment with that name.
pub(super) fn parse(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (digits.len() == 16).then_some(number)
}

/// A pack whose rows are all in a segment.
#[derive(Debug, Clone)]
pub(super) struct Covered {
    pub(super) facts: PackFacts,
    pub(super) rank: u64,
}

/// How long the parts are; all else follows.
#[derive(Debug, Clone, Copy)]
struct Shape {
    sequence: u64,
    rows: u64,
    lines: u64,
    packs_len: u64,
}

impl Shape {
    const fn block_count(&self) -> u64 {
        self.rows.div_ceil(BLOCK_ROWS as u64)
    }

    /// Offset and length of a block.
    fn block(&self, number: u64) -> (u64, usize) {
        let before = number.saturating_mul(BLOCK_ROWS as u64);
        let rows = self.rows.saturating_sub(before).min(BLOCK_ROWS as u64) as usize;
        let length = if rows == BLOCK_ROWS {
            BLOCK_LEN
        } else {
            rows * ROW_LEN + CRC_LEN
        };
        (number.saturating_mul(BLOCK_LEN as u64), length)
    }

    fn blocks_len(&self) -> u64 {
        match self
            .block_count()
            .checked_sub(1)
            .map(|last| self.block(last))
        {
            Some((offset, length)) => offset.saturating_add(length as u64),
            None => 0,
        }
    }

    const fn fences_len(&self) -> u64 {
        self.block_count().saturating_mul(8)
    }

    const fn filter_len(&self) -> u64 {
        self.lines.saturating_mul(LINE_LEN as u64)
    }

    /// Where a section begins.
    fn offset(&self, section: Section) -> u64 {
        let fences = self.blocks_len();
        let filter = fences.saturating_add(in_pieces(self.fences_len()));
        let packs = filter.saturating_add(in_pieces(self.filter_len()));
        let footer = packs.saturating_add(in_pieces(self.packs_len));
        match section {
            Section::Blocks => 0,
            Section::Fences => fences,
            Section::Filter => filter,
            Section::Packs => packs,
            Section::Footer => footer,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        for field in [self.sequence, self.rows, self.lines, self.packs_len] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.resize(FOOTER_LEN - CRC_LEN, 0);
        seal(&mut out, 0, self.sequence, Section::Footer, 0);
        out
    }

    /// Reads a footer; the parts that it tells of must make up the file.
    fn decode(bytes: &[u8; FOOTER_LEN], sequence: u64, length: u64) -> Option<Self> {
        let fields = unseal(bytes, sequence, Section::Footer, 0)?;
        let (magic, rest) = fields.split_first_chunk::<4>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let mut numbers = rest
            .chunks_exact(8)
            .filter_map(|bytes| Some(u64::from_le_bytes(*bytes.first_chunk()?)));
        let shape = Shape {
            sequence: numbers.next()?,
            rows: numbers.next()?,
            lines: numbers.next()?,
            packs_len: numbers.next()?,
        };
        let end = shape
            .offset(Section::Footer)
            .checked_add(FOOTER_LEN as u64)?;
        let fits = magic == MAGIC
            && u32::from_le_bytes(*version) == VERSION
            && shape.sequence == sequence
            && end == length;
        fits.then_some(shape)
    }
}

/// The length of a section that is cut into pieces.
const fn in_pieces(length: u64) -> u64 {
    length.saturating_add(
        length
            .div_ceil(PIECE_LEN as u64)
            .saturating_mul(CRC_LEN as u64),
    )
}

fn checksum(bytes: &[u8], sequence: u64, section: Section, place: u64) -> u32 {
    let [a, b, c, d, e, f, g, h] = place.to_le_bytes();
    let [i, j, k, l, m, n, o, p] = sequence.to_le_bytes();
    let seed = [
        section as u8,
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        h,
        i,
        j,
        k,
        l,
        m,
        n,
        o,
        p,
    ];
    crc32c::crc32c_append(crc32c::crc32c(&seed), bytes)
}

/// Closes what stands in `out` from `start` on.
fn seal(out: &mut Vec<u8>, start: usize, sequence: u64, section: Section, place: u64) {
    let body = out.get(start..).unwrap_or_default();
    let crc = checksum(body, sequence, section, place);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// What [`seal`] closed, if it is unchanged.
fn unseal(bytes: &[u8], sequence: u64, section: Section, place: u64) -> Option<&[u8]> {
    let (body, crc) = bytes.split_last_chunk::<CRC_LEN>()?;
    let fits = checksum(body, sequence, section, place) == u32::from_le_bytes(*crc);
    fits.then_some(body)
}

/// A segment that is open.
pub(super) struct Segment {
    file: Box<dyn File>,
    shape: Shape,
    fences: Fences,
    /// Absent until it was read: without it every probe reads a block.
    filter: OnceLock<Filter>,
    /// The numbers that its packs have in the roster; [`ABSENT`] where there is no such pack any more.
    packs: Vec<u32>,
}

/// The number of no pack.
pub(super) const ABSENT: u32 = u32::MAX;

impl Segment {
    /// Opens a segment, but for its filter. Its packs have no numbers yet.
    pub(super) fn open(vfs: &dyn Vfs, sequence: u64) -> Result<(Self, Vec<Covered>), Trouble> {
        let damaged = |what| Trouble::Damaged { what, sequence };
        let file = vfs.open(&path(sequence), Access::Read);
        let file = file.map_err(|_| damaged("file"))?;
        let length = file.len().map_err(|_| damaged("length"))?;
        let mut footer = [0; FOOTER_LEN];
        let at = length.checked_sub(FOOTER_LEN as u64);
        let at = at.ok_or(damaged("length"))?;
        file.read_exact_at(&mut footer, at)
            .map_err(|_| damaged("footer"))?;
        let shape = Shape::decode(&footer, sequence, length).ok_or(damaged("footer"))?;
        let mut segment = Self {
            file,
            shape,
            fences: Fences::default(),
            filter: OnceLock::new(),
            packs: Vec::new(),
        };
        let mut fences = Vec::with_capacity(shape.block_count() as usize);
        segment.pieces(Section::Fences, shape.fences_len(), |_, bytes| {
            let words = bytes
                .chunks_exact(8)
                .filter_map(|bytes| bytes.first_chunk());
            fences.extend(words.map(|bytes| u64::from_le_bytes(*bytes)));
        })?;
        segment.fences = Fences::new(fences);
        let covered = segment.covered()?;
        Ok((segment, covered))
    }

    pub(super) const fn sequence(&self) -> u64 {
        self.shape.sequence
    }

    pub(super) const fn rows(&self) -> u64 {
        self.shape.rows
    }

    /// The numbers of its packs.
    pub(super) fn packs(&self) -> &[u32] {
        &self.packs
    }

    pub(super) fn set_packs(&mut self, packs: Vec<u32>) {
        self.packs = packs;
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> u64 {
        let filter = self.filter.get().map_or(0, |_| self.shape.filter_len());
        filter + 8 * self.fences.len() as u64 + 4 * self.packs.len() as u64
    }

    /// Bytes of disk that it takes.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.shape.offset(Section::Footer) + FOOTER_LEN as u64
    }

    pub(super) fn filter_bytes(&self) -> u64 {
        self.shape.filter_len()
    }

    /// Reads the filter, unless that was done.
    pub(super) fn load_filter(&self) -> Result<(), Trouble> {
        if self.filter.get().is_some() {
            return Ok(());
        }
        let mut filter = Filter::new(self.shape.lines as usize);
        self.pieces(Section::Filter, self.shape.filter_len(), |at, bytes| {
            filter.fill(at / LINE_LEN, bytes);
        })?;
        // Two readers at once read the same.
        self.filter.get_or_init(|| filter);
        Ok(())
    }

    /// The packs that it covers, by their numbers in it.
    pub(super) fn covered(&self) -> Result<Vec<Covered>, Trouble> {
        let mut bytes = Vec::with_capacity(self.shape.packs_len as usize);
        self.pieces(Section::Packs, self.shape.packs_len, |_, piece| {
            bytes.extend_from_slice(piece);
        })?;
        let mut rest = bytes.as_slice();
        let mut covered = Vec::new();
        while !rest.is_empty() {
            let next = take_covered(&mut rest);
            covered.push(next.ok_or_else(|| self.damaged(Section::Packs))?);
        }
        Ok(covered)
    }

    /// Adds the copies of a record that it has, with the numbers that packs have in the roster.
    pub(super) fn find(&self, key: &Key, found: &mut Vec<Row>) -> Result<(), Trouble> {
        if let Some(filter) = self.filter.get()
            && !filter.may_hold(key)
        {
            return Ok(());
        }
        let mut buffer = [0; BLOCK_LEN];
        for number in self.blocks_with(key, &mut buffer)? {
            let rows = self.block(number, &mut buffer)?;
            let after = partition(rows, |row| row.key < *key);
            for row in rows.chunks_exact(ROW_LEN).skip(after).map(row_of) {
                if row.key != *key {
                    return Ok(());
                }
                found.push(self.renumbered(row)?);
            }
        }
        Ok(())
    }

    /// The blocks that may hold the key: one, or two if it may lie across a border.
    fn blocks_with(
        &self,
        key: &Key,
        buffer: &mut [u8; BLOCK_LEN],
    ) -> Result<std::ops::Range<u64>, Trouble> {
        let prefix = key.prefix();
        let before = self.fences.before(prefix);
        let mut low = before.saturating_sub(1) as u64;
        let mut high = self.fences.through(prefix, before) as u64;
        // Many blocks with one fence are not of honest ids; they cost a bisection and not a scan.
        while high - low > 2 {
            let middle = low + (high - low) / 2;
            let rows = self.block(middle, buffer)?;
            match rows.first_chunk().map(Row::take) {
                Some(row) if row.key < *key => low = middle,
                Some(row) if row.key > *key => high = middle,
                _ => return Ok(middle - 1..high),
            }
        }
        Ok(low..high)
    }

    /// Reads a block and checks it.
    fn block<'a>(&self, number: u64, buffer: &'a mut [u8; BLOCK_LEN]) -> Result<&'a [u8], Trouble> {
        let damaged = || self.damaged(Section::Blocks);
        let (offset, length) = self.shape.block(number);
        let bytes = buffer.get_mut(..length).ok_or_else(damaged)?;
        let read = self.file.read_exact_at(bytes, offset);
        read.map_err(|_| damaged())?;
        unseal(bytes, self.sequence(), Section::Blocks, number).ok_or_else(damaged)
    }

    fn renumbered(&self, row: Row) -> Result<Row, Trouble> {
        let pack = self.packs.get(row.pack as usize);
        let pack = *pack.ok_or_else(|| self.damaged(Section::Blocks))?;
        Ok(Row { pack, ..row })
    }

    fn damaged(&self, section: Section) -> Trouble {
        Trouble::Damaged {
            what: section.name(),
            sequence: self.sequence(),
        }
    }

    /// Reads a section piece by piece; `take` gets the offset in the section and the bytes.
    fn pieces(
        &self,
        section: Section,
        length: u64,
        mut take: impl FnMut(usize, &[u8]),
    ) -> Result<(), Trouble> {
        let damaged = || self.damaged(section);
        let mut offset = self.shape.offset(section);
        let mut buffer = vec![0; PIECE_LEN + CRC_LEN];
        let (mut done, mut place) = (0, 0);
        while done < length {
            let body = (length - done).min(PIECE_LEN as u64) as usize;
            let bytes = buffer.get_mut(..body + CRC_LEN).ok_or_else(damaged)?;
            let read = self.file.read_exact_at(bytes, offset);
            read.map_err(|_| damaged())?;
            let piece = unseal(bytes, self.sequence(), section, place).ok_or_else(damaged)?;
            take(done as usize, piece);
            done += body as u64;
            offset += (body + CRC_LEN) as u64;
            place += 1;
        }
        Ok(())
    }
}

/// How many rows of a block come before the first one for which `before` is false.
fn partition(rows: &[u8], before: impl Fn(&Row) -> bool) -> usize {
    let (mut low, mut high) = (0, rows.len() / ROW_LEN);
    while low < high {
        let middle = low + (high - low) / 2;
        let bytes = rows.get(middle * ROW_LEN..).unwrap_or_default();
        if bytes
            .first_chunk()
            .map(Row::take)
            .is_some_and(|row| before(&row))
        {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn row_of(bytes: &[u8]) -> Row {
    bytes
        .first_chunk()
        .map(Row::take)
        .expect("rows are cut at their length")
}

/// Reads a segment's rows in their order, a few blocks at a time.
pub(super) struct Cursor<'a> {
    segment: &'a Segment,
    next_block: u64,
    buffer: Vec<u8>,
    rows: std::vec::IntoIter<Row>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(segment: &'a Segment) -> Self {
        Self {
            segment,
            next_block: 0,
            buffer: Vec::new(),
            rows: Vec::new().into_iter(),
        }
    }

    /// The next row, with the number that its pack has in the roster.
    pub(super) fn next(&mut self) -> Result<Option<Row>, Trouble> {
        loop {
            if let Some(row) = self.rows.next() {
                return self.segment.renumbered(row).map(Some);
            }
            if self.next_block >= self.segment.shape.block_count() {
                return Ok(None);
            }
            self.rows = self.read()?.into_iter();
        }
    }

    fn read(&mut self) -> Result<Vec<Row>, Trouble> {
        let Segment { file, shape, .. } = self.segment;
        let damaged = || self.segment.damaged(Section::Blocks);
        let first = self.next_block;
        let end = shape.block_count().min(first + READ_AHEAD as u64);
        let (start, _) = shape.block(first);
        let (last_start, last_len) = shape.block(end - 1);
        let length = (last_start - start) as usize + last_len;
        self.buffer.resize(length, 0);
        let read = file.read_exact_at(&mut self.buffer, start);
        read.map_err(|_| damaged())?;
        let mut rows = Vec::with_capacity(READ_AHEAD * BLOCK_ROWS);
        for (number, bytes) in (first..end).zip(self.buffer.chunks(BLOCK_LEN)) {
            let body = unseal(bytes, shape.sequence, Section::Blocks, number);
            let body = body.ok_or_else(damaged)?;
            rows.extend(body.chunks_exact(ROW_LEN).map(row_of));
        }
        self.next_block = end;
        Ok(rows)
    }
}

/// Writes a segment: rows in their order, then all else.
pub(super) struct Writer<'a> {
    vfs: &'a dyn Vfs,
    sequence: u64,
    tmp: PathBuf,
    file: Option<Box<dyn File>>,
    buffer: Vec<u8>,
    written: u64,
    block: Vec<u8>,
    rows: u64,
    fences: Vec<u64>,
    filter: Filter,
}

impl<'a> Writer<'a> {
    /// Begins a segment of at most `rows_max` rows.
    pub(super) fn begin(vfs: &'a dyn Vfs, sequence: u64, rows_max: u64) -> Result<Self, Error> {
        let tmp = Path::new(layout::TMP).join(format!("index-{sequence:016x}"));
        let file = vfs.create_new(&tmp).map_err(Error::io("create", &tmp))?;
        Ok(Self {
            vfs,
            sequence,
            tmp,
            file: Some(file),
            buffer: Vec::with_capacity(BUFFER_BYTES + PIECE_LEN + BLOCK_LEN),
            written: 0,
            block: Vec::with_capacity(BLOCK_LEN),
            rows: 0,
            fences: Vec::new(),
            filter: Filter::new(line_count(rows_max) as usize),
        })
    }

    /// Adds a row, whose pack has its number in this segment.
    pub(super) fn push(&mut self, row: &Row) -> Result<(), Error> {
        if self.block.is_empty() {
            self.fences.push(row.key.prefix());
        }
        row.put(&mut self.block);
        self.filter.insert(&row.key);
        self.rows += 1;
        if self.block.len() == BLOCK_ROWS * ROW_LEN {
            self.block.resize(BLOCK_LEN - CRC_LEN, 0);
            self.end_block()?;
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), Error> {
        let start = self.buffer.len();
        self.buffer.append(&mut self.block);
        let place = self.fences.len() as u64 - 1;
        seal(
            &mut self.buffer,
            start,
            self.sequence,
            Section::Blocks,
            place,
        );
        self.flush_if(BUFFER_BYTES)
    }

    /// Ends the segment, makes it durable and gives it its name.
    pub(super) fn finish(mut self, packs: &[Covered]) -> Result<Segment, Error> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let fences = std::mem::take(&mut self.fences);
        let filter = std::mem::replace(&mut self.filter, Filter::new(0));
        self.section(
            Section::Fences,
            fences.iter().flat_map(|fence| fence.to_le_bytes()),
        )?;
        self.section(Section::Filter, filter.bytes().flatten())?;
        let mut table = Vec::new();
        packs.iter().for_each(|pack| put_covered(pack, &mut table));
        let shape = Shape {
            sequence: self.sequence,
            rows: self.rows,
            lines: filter.bytes().count() as u64 * 8 / LINE_LEN as u64,
            packs_len: table.len() as u64,
        };
        self.section(Section::Packs, table.into_iter())?;
        self.buffer.extend_from_slice(&shape.encode());
        self.flush_if(1)?;
        let file = self.file.as_ref().ok_or(Error::Poisoned)?;
        file.sync().map_err(Error::io("sync", &self.tmp))?;
        durable::reveal(self.vfs, &self.tmp, &path(self.sequence))?;
        let file = self.file.take().ok_or(Error::Poisoned)?;
        Ok(Segment {
            file,
            shape,
            fences: Fences::new(fences),
            filter: OnceLock::from(filter),
            packs: Vec::new(),
        })
    }

    fn section(
        &mut self,
        section: Section,
        mut bytes: impl Iterator<Item = u8>,
    ) -> Result<(), Error> {
        for place in 0.. {
            let start = self.buffer.len();
            self.buffer.extend(bytes.by_ref().take(PIECE_LEN));
            if self.buffer.len() == start {
                break;
            }
            seal(&mut self.buffer, start, self.sequence, section, place);
            self.flush_if(BUFFER_BYTES)?;
        }
        Ok(())
    }

    fn flush_if(&mut self, least: usize) -> Result<(), Error> {
        if self.buffer.len() < least {
            return Ok(());
        }
        let file = self.file.as_ref().ok_or(Error::Poisoned)?;
        file.write_at(&self.buffer, self.written)
            .map_err(Error::io("write", &self.tmp))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            durable::discard(self.vfs, &self.tmp);
        }
    }
}

fn put_covered(pack: &Covered, out: &mut Vec<u8>) {
    let Covered { facts, rank } = pack;
    out.extend_from_slice(facts.pack.as_bytes());
    out.extend_from_slice(facts.dataset.as_bytes());
    for field in [facts.fence, facts.length, *rank] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for field in [
        facts.chunk_count,
        facts.node_count,
        facts.salts.len() as u32,
    ] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.push(u8::from(facts.is_whole));
    for (slot, salt) in &facts.salts {
        out.extend_from_slice(&slot.to_le_bytes());
        out.extend_from_slice(salt);
    }
}

fn take_covered(rest: &mut &[u8]) -> Option<Covered> {
    let pack = PackId::from_bytes(*chunk(rest)?);
    let dataset = DatasetId::from_bytes(*chunk(rest)?);
    let fence = u64::from_le_bytes(*chunk(rest)?);
    let length = u64::from_le_bytes(*chunk(rest)?);
    let rank = u64::from_le_bytes(*chunk(rest)?);
    let chunk_count = u32::from_le_bytes(*chunk(rest)?);
    let node_count = u32::from_le_bytes(*chunk(rest)?);
    let salt_count = u32::from_le_bytes(*chunk(rest)?);
    let [is_whole] = *chunk(rest)?;
    let mut salt = || Some((u16::from_le_bytes(*chunk(rest)?), *chunk::<SALT_LEN>(rest)?));
    let salts = (0..salt_count)
        .map(|_| salt())
        .collect::<Option<Vec<_>>>()?;
    let is_whole = is_whole == 1;
    let facts = PackFacts {
        pack,
        dataset,
        fence,
        length,
        is_whole,
        chunk_count,
        node_count,
        salts,
    };
    Some(Covered { facts, rank })
}

fn chunk<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (chunk, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(chunk)
}
