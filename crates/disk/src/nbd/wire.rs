//! The bytes of the protocol, without I/O. Numbers are big-endian.

use super::NbdError;

const MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_MAGIC: u32 = 0x6744_6698;
const CHUNK_MAGIC: u32 = 0x668e_33ef;

const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;

/// Length of the server's first words.
pub const GREETING_LEN: usize = 18;
/// Length of the head of an answer to an option.
pub const OPTION_REPLY_LEN: usize = 20;
/// Length of a request, without what is written.
pub const REQUEST_LEN: usize = 28;
/// Length of what simple answers and chunks begin with.
pub const REPLY_LEN: usize = 16;
/// The most of an answer to an option: names have up to 4096 bytes.
pub const OPTION_REPLY_MAX: u32 = 16 * 1024;
/// The most of a chunk that is not content: an error's words, or 8192 ranges.
pub const CHUNK_WORDS_MAX: u32 = 64 * 1024 + 4;

/// A number of the protocol that is not known here is kept as it is.
macro_rules! numbers {
    ($(#[$doc:meta])* $name:ident($of:ty) { $($(#[$item_doc:meta])* $item:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub $of);
        impl $name {
            $($(#[$item_doc])* pub const $item: Self = Self($value);)*
        }
    };
}

numbers! {
    /// What a client asks for before the transmission.
    OptionKind(u32) {
        /// Speak TLS from here on.
        STARTTLS = 5,
        /// Begin the transmission of an export.
        GO = 7,
        /// Answer in chunks.
        STRUCTURED_REPLY = 8,
        /// Tell about ranges.
        SET_META_CONTEXT = 10,
    }
}

numbers! {
    /// What the server answers to an option; errors have the highest bit.
    OptionAnswer(u32) {
        /// Done.
        ACK = 1,
        /// Something about the export; more follows.
        INFO = 3,
        /// The number of a context; more follows.
        META_CONTEXT = 4,
    }
}

numbers! {
    /// What a client asks for in the transmission.
    Command(u16) {
        /// Bytes.
        READ = 0,
        /// To keep bytes.
        WRITE = 1,
        /// To end.
        DISCONNECT = 2,
        /// To have on the medium what was written.
        FLUSH = 3,
        /// To make a range zeros.
        WRITE_ZEROES = 6,
        /// What ranges hold.
        BLOCK_STATUS = 7,
    }
}

numbers! {
    /// What a chunk holds; errors have the highest bit.
    ChunkKind(u16) {
        /// Nothing.
        NONE = 0,
        /// Bytes.
        DATA = 1,
        /// Zeros.
        HOLE = 2,
        /// What ranges hold.
        BLOCK_STATUS = 5,
    }
}

impl OptionAnswer {
    /// What the error means; none when it is no error.
    pub fn error(self) -> Option<String> {
        let words = match self.0.checked_sub(1 << 31)? {
            1 => "it does not know this",
            2 => "its policy forbids it",
            3 => "it calls this invalid",
            4 => "its platform has no such thing",
            5 => "it demands tls",
            6 => "it has no such export",
            7 => "it is shutting down",
            8 => "it demands block sizes",
            9 => "it is too large",
            other => return Some(format!("error {other}")),
        };
        Some(words.to_owned())
    }
}

impl ChunkKind {
    /// Whether it tells that the request failed.
    pub fn is_error(self) -> bool {
        self.0 & (1 << 15) != 0
    }
}

/// What an error number of the transmission means.
pub fn errno(number: u32) -> String {
    match number {
        1 => "operation not permitted".into(),
        5 => "i/o error".into(),
        12 => "out of memory".into(),
        22 => "invalid argument".into(),
        28 => "no space left".into(),
        75 => "too large".into(),
        95 => "not supported".into(),
        108 => "it is shutting down".into(),
        other => format!("error {other}"),
    }
}

/// `ENOSPC`.
pub const NO_SPACE: u32 = 28;

/// Reads the server's first words: whether it speaks the fixed newstyle, and what to answer.
pub fn greeting(bytes: &[u8; GREETING_LEN]) -> Result<[u8; 4], NbdError> {
    let mut fields = Fields(bytes);
    if fields.u64() != Some(MAGIC) {
        return Err(NbdError::protocol("it is no nbd server"));
    }
    let newstyle = fields.u64() == Some(OPTION_MAGIC);
    let flags = fields.u16().unwrap_or_default();
    if !newstyle || flags & FIXED_NEWSTYLE == 0 {
        return Err(NbdError::protocol("it only speaks an old style of nbd"));
    }
    Ok(u32::from(flags & (FIXED_NEWSTYLE | NO_ZEROES)).to_be_bytes())
}

/// Writes an option.
pub fn option(kind: OptionKind, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + data.len());
    bytes.extend(OPTION_MAGIC.to_be_bytes());
    bytes.extend(kind.0.to_be_bytes());
    bytes.extend(length(data).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// The data of [`OptionKind::GO`]: the export, and that its block sizes are wanted.
pub fn go(export: &str) -> Vec<u8> {
    let mut data = named(export);
    data.extend(1u16.to_be_bytes());
    data.extend(InfoKind::BLOCK_SIZE.0.to_be_bytes());
    data
}

/// The data of [`OptionKind::SET_META_CONTEXT`] with one context.
pub fn meta_context(export: &str, context: &str) -> Vec<u8> {
    let mut data = named(export);
    data.extend(1u32.to_be_bytes());
    data.extend(named(context));
    data
}

fn named(name: &str) -> Vec<u8> {
    let mut data = length(name.as_bytes()).to_be_bytes().to_vec();
    data.extend(name.as_bytes());
    data
}

/// Names are bounded before they come here.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// The head of an answer to an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionReply {
    /// To what.
    pub option: OptionKind,
    /// What.
    pub answer: OptionAnswer,
    /// How many bytes follow; bounded.
    pub length: u32,
}

impl OptionReply {
    /// Reads one.
    pub fn decode(bytes: &[u8; OPTION_REPLY_LEN]) -> Result<Self, NbdError> {
        let mut fields = Fields(bytes);
        let magic = fields.u64();
        let parts = (fields.u32(), fields.u32(), fields.u32());
        let (Some(OPTION_REPLY_MAGIC), (Some(option), Some(answer), Some(length))) = (magic, parts)
        else {
            return Err(NbdError::protocol("an answer to an option begins wrongly"));
        };
        if length > OPTION_REPLY_MAX {
            return Err(NbdError::protocol(format!(
                "an answer to an option has {length} bytes"
            )));
        }
        Ok(Self {
            option: OptionKind(option),
            answer: OptionAnswer(answer),
            length,
        })
    }
}

numbers! {
    /// What an information is about.
    InfoKind(u16) {
        /// Size and abilities.
        EXPORT = 0,
        /// Sizes of requests.
        BLOCK_SIZE = 3,
    }
}

/// Something about the export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Info {
    /// Size and abilities.
    Export {
        /// Size of the disk.
        length: u64,
        /// What the server can do.
        abilities: Abilities,
    },
    /// What requests must look like.
    BlockSize {
        /// What offset and length are multiples of.
        minimum: u32,
        /// The most in one request.
        maximum: u32,
    },
    /// Anything else.
    Other,
}

impl Info {
    /// Reads one.
    pub fn decode(bytes: &[u8]) -> Result<Self, NbdError> {
        let bad = || NbdError::protocol("it describes the export wrongly");
        let mut fields = Fields(bytes);
        match InfoKind(fields.u16().ok_or_else(bad)?) {
            InfoKind::EXPORT => {
                let (length, flags) = (fields.u64(), fields.u16());
                let (Some(length), Some(flags), true) = (length, flags, fields.is_empty()) else {
                    return Err(bad());
                };
                // Offsets of local files are signed; no disk is larger.
                if i64::try_from(length).is_err() {
                    return Err(bad());
                }
                Ok(Self::Export {
                    length,
                    abilities: Abilities(flags),
                })
            }
            InfoKind::BLOCK_SIZE => {
                let sizes = (fields.u32(), fields.u32(), fields.u32());
                let (Some(minimum), Some(_), Some(maximum)) = sizes else {
                    return Err(bad());
                };
                if !fields.is_empty() || !minimum.is_power_of_two() || maximum < minimum {
                    return Err(bad());
                }
                Ok(Self::BlockSize { minimum, maximum })
            }
            _ => Ok(Self::Other),
        }
    }
}

/// Flags of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities(pub u16);

impl Abilities {
    fn has(self, bit: u16) -> bool {
        // Bit 0 says that the others mean anything.
        self.0 & 1 != 0 && self.0 & (1 << bit) != 0
    }

    /// It cannot be written.
    pub fn is_read_only(self) -> bool {
        self.has(1)
    }

    /// It takes [`Command::FLUSH`].
    pub fn can_flush(self) -> bool {
        self.has(2)
    }

    /// It takes [`Command::WRITE_ZEROES`].
    pub fn can_zero(self) -> bool {
        self.has(6)
    }

    /// What one connection has written and flushed, all others see.
    pub fn can_multi_conn(self) -> bool {
        self.has(8)
    }
}

/// Writes the head of a request.
pub fn request(command: Command, handle: u64, offset: u64, length: u32) -> [u8; REQUEST_LEN] {
    let mut bytes = [0; REQUEST_LEN];
    let parts: [&[u8]; 6] = [
        &REQUEST_MAGIC.to_be_bytes(),
        // Flags: none is needed.
        &0u16.to_be_bytes(),
        &command.0.to_be_bytes(),
        &handle.to_be_bytes(),
        &offset.to_be_bytes(),
        &length.to_be_bytes(),
    ];
    bytes
        .iter_mut()
        .zip(parts.into_iter().flatten())
        .for_each(|(to, from)| *to = *from);
    bytes
}

/// What an answer begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// All of an answer; content follows if it is one to a read without error.
    Simple {
        /// To which request.
        handle: u64,
        /// 0 when it was done.
        error: u32,
    },
    /// A part of an answer. The length of what follows comes next, in four bytes.
    Chunk {
        /// To which request.
        handle: u64,
        /// Whether it is the last.
        done: bool,
        /// What it holds.
        kind: ChunkKind,
    },
}

impl Reply {
    /// Reads one.
    pub fn decode(bytes: &[u8; REPLY_LEN]) -> Result<Self, NbdError> {
        let mut fields = Fields(bytes);
        let bad = || NbdError::protocol("an answer begins wrongly");
        match fields.u32() {
            Some(SIMPLE_MAGIC) => match (fields.u32(), fields.u64()) {
                (Some(error), Some(handle)) => Ok(Self::Simple { handle, error }),
                _ => Err(bad()),
            },
            Some(CHUNK_MAGIC) => match (fields.u16(), fields.u16(), fields.u64()) {
                (Some(flags), Some(kind), Some(handle)) => Ok(Self::Chunk {
                    handle,
                    done: flags & 1 != 0,
                    kind: ChunkKind(kind),
                }),
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    }
}

/// A failed request, in the words of a chunk: the number and what the server says about it.
pub fn chunk_error(bytes: &[u8]) -> Result<(u32, String), NbdError> {
    let bad = || NbdError::protocol("it tells an error wrongly");
    let mut fields = Fields(bytes);
    let (Some(number), Some(length)) = (fields.u32(), fields.u16()) else {
        return Err(bad());
    };
    let words = fields.0.get(..usize::from(length)).ok_or_else(bad)?;
    if number == 0 {
        return Err(bad());
    }
    Ok((number, words_of(words)))
}

/// What a server says, fit for a log: bounded and without control characters.
pub fn words_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// What ranges hold, in the words of a chunk: the context, and lengths with flags.
pub fn block_status(bytes: &[u8]) -> Result<(u32, Vec<(u32, u32)>), NbdError> {
    let bad = || NbdError::protocol("it tells what ranges hold wrongly");
    let mut fields = Fields(bytes);
    let context = fields.u32().ok_or_else(bad)?;
    let (ranges, rest) = fields.0.as_chunks::<8>();
    if ranges.is_empty() || !rest.is_empty() {
        return Err(bad());
    }
    let ranges = ranges.iter().map(|range| {
        let mut fields = Fields(range);
        match (fields.u32(), fields.u32()) {
            (Some(length @ 1..), Some(flags)) => Ok((length, flags)),
            _ => Err(bad()),
        }
    });
    Ok((context, ranges.collect::<Result<_, _>>()?))
}

/// The number and the name of a context.
pub fn context_reply(bytes: &[u8]) -> Result<(u32, &[u8]), NbdError> {
    let mut fields = Fields(bytes);
    match fields.u32() {
        Some(id) => Ok((id, fields.0)),
        None => Err(NbdError::protocol("it names a context wrongly")),
    }
}

/// Takes numbers off the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
