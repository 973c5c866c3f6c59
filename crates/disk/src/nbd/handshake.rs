//! What is said before the transmission, without I/O.

use super::NbdError;
use super::wire::{
    self, Abilities, GREETING_LEN, Info, OPTION_REPLY_LEN, OptionAnswer, OptionKind, OptionReply,
};

const CONTEXT: &str = "base:allocation";
/// The protocol's own bound of a name.
const NAME_BYTES_MAX: usize = 4096;
/// No server tells more before it begins.
const ANSWERS_MAX: u32 = 64;
/// What the protocol takes for granted when the server does not say.
const REQUEST_BYTES_MAX: u32 = 32 * 1024 * 1024;

/// What the client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    /// The name of the export; may be empty.
    pub export: String,
    /// Nothing but the wish for TLS is said without it.
    pub tls: bool,
}

/// What the server agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Size of the disk.
    pub length: u64,
    /// What the server can do.
    pub abilities: Abilities,
    /// Offset and length of a request are multiples of this.
    pub block_bytes: u32,
    /// The most in one request.
    pub request_bytes_max: u32,
    /// Answers come in chunks.
    pub structured: bool,
    /// The number of `base:allocation`, when the server can tell what ranges hold.
    pub allocation: Option<u32>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Read just so many bytes and give them to [`Handshake::take`].
    Read(usize),
    /// Send these first.
    Send(Vec<u8>),
    /// Do the handshake of TLS. Nothing that came before it counts after it.
    StartTls,
    /// Begin.
    Done(Export),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting,
    /// The head of an answer.
    Head,
    /// The rest of an answer.
    Body(OptionReply),
}

/// The client's side of the handshake.
#[derive(Debug)]
pub struct Handshake {
    wishes: Wishes,
    stage: Stage,
    asked: OptionKind,
    answers: u32,
    described: bool,
    export: Export,
}

impl Handshake {
    /// One that begins. What is to be done first is to read [`GREETING_LEN`] bytes.
    pub fn new(wishes: Wishes) -> Result<Self, NbdError> {
        if wishes.export.len() > NAME_BYTES_MAX || wishes.export.contains('\0') {
            return Err(NbdError::Refused {
                what: "the export",
                problem: "no export has such a name".into(),
            });
        }
        Ok(Self {
            wishes,
            stage: Stage::Greeting,
            asked: OptionKind::STARTTLS,
            answers: 0,
            described: false,
            export: Export {
                length: 0,
                abilities: Abilities(0),
                block_bytes: 1,
                request_bytes_max: REQUEST_BYTES_MAX,
                structured: false,
                allocation: None,
            },
        })
    }

    /// How many bytes the next call of [`Handshake::take`] wants.
    pub fn wanted(&self) -> usize {
        match self.stage {
            Stage::Greeting => GREETING_LEN,
            Stage::Head => OPTION_REPLY_LEN,
            Stage::Body(reply) => reply.length as usize,
        }
    }

    /// Goes on with what the server said.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<Step>, NbdError> {
        let short = || NbdError::protocol("it said too little");
        match self.stage {
            Stage::Greeting => {
                let hello = wire::greeting(bytes.first_chunk().ok_or_else(short)?)?;
                let first = match self.wishes.tls {
                    true => OptionKind::STARTTLS,
                    false => OptionKind::STRUCTURED_REPLY,
                };
                let mut words = hello.to_vec();
                words.extend(self.ask(first));
                Ok(vec![Step::Send(words), self.read_head()])
            }
            Stage::Head => {
                let reply = OptionReply::decode(bytes.first_chunk().ok_or_else(short)?)?;
                if reply.option != self.asked {
                    return Err(NbdError::protocol("it answers what was not asked"));
                }
                self.answers += 1;
                if self.answers > ANSWERS_MAX {
                    return Err(NbdError::protocol("it does not come to an end"));
                }
                self.stage = Stage::Body(reply);
                Ok(vec![Step::Read(self.wanted())])
            }
            Stage::Body(reply) => {
                if bytes.len() != reply.length as usize {
                    return Err(short());
                }
                self.answered(reply.answer, bytes)
            }
        }
    }

    fn answered(&mut self, answer: OptionAnswer, body: &[u8]) -> Result<Vec<Step>, NbdError> {
        let refusal = answer.error().map(|error| match wire::words_of(body) {
            words if words.is_empty() => error,
            words => format!("{error}: {words}"),
        });
        match (self.asked, answer, refusal) {
            (OptionKind::STARTTLS, OptionAnswer::ACK, _) => {
                let next = self.ask(OptionKind::STRUCTURED_REPLY);
                Ok(vec![Step::StartTls, Step::Send(next), self.read_head()])
            }
            (OptionKind::STARTTLS, _, Some(problem)) => Err(NbdError::NoTls { problem }),
            (OptionKind::STRUCTURED_REPLY, OptionAnswer::ACK, _) => {
                self.export.structured = true;
                Ok(self.go_on(OptionKind::SET_META_CONTEXT))
            }
            // Simple answers do.
            (OptionKind::STRUCTURED_REPLY, _, Some(_)) => Ok(self.go_on(OptionKind::GO)),
            (OptionKind::SET_META_CONTEXT, OptionAnswer::META_CONTEXT, _) => {
                let (id, name) = wire::context_reply(body)?;
                if name == CONTEXT.as_bytes() {
                    self.export.allocation = Some(id);
                }
                Ok(vec![self.read_head()])
            }
            (OptionKind::SET_META_CONTEXT, OptionAnswer::ACK, _) => Ok(self.go_on(OptionKind::GO)),
            // It tells nothing about ranges.
            (OptionKind::SET_META_CONTEXT, _, Some(_)) => {
                self.export.allocation = None;
                Ok(self.go_on(OptionKind::GO))
            }
            (OptionKind::GO, OptionAnswer::INFO, _) => {
                self.describe(Info::decode(body)?);
                Ok(vec![self.read_head()])
            }
            (OptionKind::GO, OptionAnswer::ACK, _) if self.described => {
                Ok(vec![Step::Done(self.export.clone())])
            }
            (OptionKind::GO, _, Some(problem)) => Err(NbdError::Refused {
                what: "the export",
                problem,
            }),
            _ => Err(NbdError::protocol("it answers an option wrongly")),
        }
    }

    fn describe(&mut self, info: Info) {
        match info {
            Info::Export { length, abilities } => {
                self.described = true;
                self.export.length = length;
                self.export.abilities = abilities;
            }
            Info::BlockSize { minimum, maximum } => {
                self.export.block_bytes = minimum;
                self.export.request_bytes_max = maximum.min(REQUEST_BYTES_MAX);
            }
            Info::Other => {}
        }
    }

    fn go_on(&mut self, next: OptionKind) -> Vec<Step> {
        vec![Step::Send(self.ask(next)), self.read_head()]
    }

    fn read_head(&mut self) -> Step {
        self.stage = Stage::Head;
        Step::Read(self.wanted())
    }

    fn ask(&mut self, kind: OptionKind) -> Vec<u8> {
        self.asked = kind;
        let data = match kind {
            OptionKind::GO => wire::go(&self.wishes.export),
            OptionKind::SET_META_CONTEXT => wire::meta_context(&self.wishes.export, CONTEXT),
            _ => Vec::new(),
        };
        wire::option(kind, &data)
    }
}

#[cfg(test)]
mod tests;
