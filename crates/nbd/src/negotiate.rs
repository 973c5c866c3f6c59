//! From the greeting to the choice of an export.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::Error;
use crate::export::Export;
use crate::wire::{
    FIXED_NEWSTYLE, Fields, NO_ZEROES, OPTION_LEN, OPTION_MAX, REQUEST_MAX, abilities, answer,
    bounded, greeting, info, option, option_head, option_reply,
};

/// More than any client needs before it chooses.
const OPTIONS_MAX: usize = 128;
/// The one context that there is, and its number.
const ALLOCATION: &str = "base:allocation";
/// The number that block status is told under.
pub(crate) const ALLOCATION_ID: u32 = 1;

/// What was agreed.
pub(crate) struct Agreed {
    /// The disk.
    pub(crate) export: Arc<dyn Export>,
    /// Whether answers come in chunks.
    pub(crate) is_structured: bool,
    /// Whether block status may be asked for.
    pub(crate) has_allocation: bool,
}

/// What an option leads to.
enum Next {
    Continue,
    Go(Arc<dyn Export>),
    End,
}

/// A client that has not chosen yet.
struct Guest<'a, S> {
    stream: &'a mut S,
    exports: &'a [Arc<dyn Export>],
    no_zeroes: bool,
    is_structured: bool,
    /// The export that the context was asked for.
    allocation_of: Option<String>,
}

/// Speaks with a client until it has chosen an export; nothing when it goes without.
pub(crate) async fn negotiate<S>(
    stream: &mut S,
    exports: &[Arc<dyn Export>],
) -> Result<Option<Agreed>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&greeting()).await?;
    let flags = stream.read_u32().await?;
    let known = u32::from(FIXED_NEWSTYLE | NO_ZEROES);
    if flags & u32::from(FIXED_NEWSTYLE) == 0 || flags & !known != 0 {
        return Err(Error::Protocol("it does not speak the fixed newstyle"));
    }
    let mut guest = Guest {
        stream,
        exports,
        no_zeroes: flags & u32::from(NO_ZEROES) != 0,
        is_structured: false,
        allocation_of: None,
    };
    for _ in 0..OPTIONS_MAX {
        match guest.option().await? {
            Next::Continue => {}
            Next::End => return Ok(None),
            Next::Go(export) => {
                let asked = guest.allocation_of.as_deref();
                let has_allocation = asked.is_some_and(|name| is_called(&*export, name, exports));
                return Ok(Some(Agreed {
                    is_structured: guest.is_structured,
                    has_allocation,
                    export,
                }));
            }
        }
    }
    Err(Error::Protocol("it never chooses an export"))
}

fn is_called(export: &dyn Export, name: &str, exports: &[Arc<dyn Export>]) -> bool {
    export.name() == name || (name.is_empty() && exports.len() == 1)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guest<'_, S> {
    async fn option(&mut self) -> Result<Next, Error> {
        let mut head = [0; OPTION_LEN];
        self.stream.read_exact(&mut head).await?;
        let (option, length) = option_head(head)?;
        if length > OPTION_MAX {
            return self.refuse_long(option, length).await;
        }
        let mut data = vec![0; length as usize];
        self.stream.read_exact(&mut data).await?;
        match option {
            option::EXPORT_NAME => self.export_name(&data).await,
            option::ABORT => {
                self.reply(option, answer::ACK, &[]).await?;
                Ok(Next::End)
            }
            option::LIST => self.list(&data).await,
            option::INFO | option::GO => self.info(option, &data).await,
            option::STRUCTURED_REPLY => {
                self.is_structured = data.is_empty();
                let answer = if data.is_empty() {
                    answer::ACK
                } else {
                    answer::INVALID
                };
                self.reply(option, answer, &[]).await
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => {
                self.contexts(option, &data).await
            }
            _ => self.reply(option, answer::UNSUPPORTED, &[]).await,
        }
    }

    /// Longer than anything that makes sense, but within what may be skipped.
    async fn refuse_long(&mut self, option: u32, length: u32) -> Result<Next, Error> {
        if length > REQUEST_MAX {
            return Err(Error::Protocol("an option is longer than any request"));
        }
        let mut rest = (&mut *self.stream).take(u64::from(length));
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
        self.reply(option, answer::TOO_BIG, &[]).await
    }

    async fn reply(&mut self, option: u32, answer: u32, data: &[u8]) -> Result<Next, Error> {
        self.stream
            .write_all(&option_reply(option, answer, data))
            .await?;
        Ok(Next::Continue)
    }

    fn find(&self, name: &str) -> Option<Arc<dyn Export>> {
        let found = self
            .exports
            .iter()
            .find(|export| is_called(&***export, name, self.exports));
        found.cloned()
    }

    /// The old-fashioned choice: its only refusal is to hang up.
    async fn export_name(&mut self, data: &[u8]) -> Result<Next, Error> {
        let name = std::str::from_utf8(data).ok();
        let Some(export) = name.and_then(|name| self.find(name)) else {
            return Ok(Next::End);
        };
        let mut bytes = BytesMut::new();
        bytes.put_u64(export.length());
        bytes.put_u16(abilities(export.is_writable()));
        if !self.no_zeroes {
            bytes.put_bytes(0, 124);
        }
        self.stream.write_all(&bytes).await?;
        Ok(Next::Go(export))
    }

    async fn list(&mut self, data: &[u8]) -> Result<Next, Error> {
        if !data.is_empty() {
            return self.reply(option::LIST, answer::INVALID, &[]).await;
        }
        for export in self.exports {
            let mut named = BytesMut::new();
            named.put_u32(bounded(export.name().len()));
            named.extend_from_slice(export.name().as_bytes());
            self.reply(option::LIST, answer::SERVER, &named).await?;
        }
        self.reply(option::LIST, answer::ACK, &[]).await
    }

    async fn info(&mut self, option: u32, data: &[u8]) -> Result<Next, Error> {
        let mut fields = Fields(data);
        // Which informations are wanted follows the name; all that there are come anyway.
        let Some(name) = fields.text() else {
            return self.reply(option, answer::INVALID, &[]).await;
        };
        let Some(export) = self.find(name) else {
            return self
                .reply(option, answer::UNKNOWN, b"no disk of this name is served")
                .await;
        };
        for words in informations(&*export) {
            self.reply(option, answer::INFO, &words).await?;
        }
        self.reply(option, answer::ACK, &[]).await?;
        Ok(match option {
            option::GO => Next::Go(export),
            _ => Next::Continue,
        })
    }

    async fn contexts(&mut self, option: u32, data: &[u8]) -> Result<Next, Error> {
        let Some((name, queries)) = queries(data).filter(|_| self.is_structured) else {
            return self.reply(option, answer::INVALID, &[]).await;
        };
        if self.find(name).is_none() {
            return self.reply(option, answer::UNKNOWN, &[]).await;
        }
        let is_set = option == option::SET_META_CONTEXT;
        let listed = !is_set && (queries.is_empty() || queries.contains(&"base:"));
        let asked = listed || queries.contains(&ALLOCATION);
        if is_set {
            self.allocation_of = asked.then(|| name.to_owned());
        }
        if asked {
            let mut words = BytesMut::new();
            words.put_u32(ALLOCATION_ID);
            words.extend_from_slice(ALLOCATION.as_bytes());
            self.reply(option, answer::META_CONTEXT, &words).await?;
        }
        self.reply(option, answer::ACK, &[]).await
    }
}

/// The export and the contexts that are asked about.
fn queries(data: &[u8]) -> Option<(&str, Vec<&str>)> {
    let mut fields = Fields(data);
    let name = fields.text()?;
    let count = fields.u32()?;
    // Each takes four bytes at least: the data bounds them.
    let queries: Option<Vec<&str>> = (0..count).map(|_| fields.text()).collect();
    Some((name, queries?))
}

/// Everything about an export, an answer each.
fn informations(export: &dyn Export) -> Vec<BytesMut> {
    let mut size = BytesMut::new();
    size.put_u16(info::EXPORT);
    size.put_u64(export.length());
    size.put_u16(abilities(export.is_writable()));
    let mut blocks = BytesMut::new();
    blocks.put_u16(info::BLOCK_SIZE);
    blocks.put_u32(1);
    // What is stored together, on average.
    blocks.put_u32(32 << 10);
    blocks.put_u32(REQUEST_MAX);
    let mut description = BytesMut::new();
    description.put_u16(info::DESCRIPTION);
    let text = export.description();
    let end = text.floor_char_boundary(4096);
    description.extend_from_slice(&text.as_bytes()[..end]);
    vec![size, blocks, description]
}
