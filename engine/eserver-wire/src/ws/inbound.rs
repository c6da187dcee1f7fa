//! [`Inbound`]: frames in, messages out.

use thiserror::Error;

use super::deflate::{InflateError, Inflater};
use super::frame::{CloseCode, FrameHead, Opcode, apply_mask};
use super::text::Text;

/// Who reads: a server wants frames masked, a client wants them plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads what clients send.
    Server,
    /// Reads what servers send.
    Client,
}

/// What holds for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Who reads.
    pub role: Role,
    /// Whether messages may be compressed.
    pub deflate: bool,
    /// How long a message may be, in bytes, also once it is decompressed.
    pub message_bytes_max: usize,
}

/// Something that came.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message that is text.
    Text(&'a str),
    /// A message that is not.
    Binary(&'a [u8]),
    /// To be answered with a pong that has the same payload.
    Ping(&'a [u8]),
    /// An answer to a ping.
    Pong(&'a [u8]),
    /// The peer ends the connection, and is to be answered with a close frame; nothing that follows
    /// counts.
    Close(Option<(CloseCode, &'a str)>),
}

/// How far one look has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// No frame is whole before so many bytes are there.
    Need(usize),
    /// So many bytes were a frame, and perhaps the last one of something.
    Frame(usize, Option<Event<'a>>),
}

/// What a peer must not do; the connection ends with [`Violation::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// A bit is set that has no meaning here.
    #[error("a reserved bit is set")]
    ReservedBits,
    /// A frame of an unknown kind.
    #[error("the opcode is unknown")]
    Opcode,
    /// A control frame in pieces, or of more than 125 bytes.
    #[error("a control frame is whole and has at most 125 bytes")]
    Control,
    /// A length that is not written as shortly as it could be, or that is too large to be one.
    #[error("the length is not written as it must be")]
    Length,
    /// A client's frame without a mask, or a server's with one.
    #[error("clients mask their frames, and servers do not")]
    Mask,
    /// A continuation of nothing, or a new message within another one.
    #[error("the fragments of a message follow each other")]
    Fragments,
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// A close frame with one byte, an unknown code, or a reason that is not UTF-8.
    #[error("the close frame is not as it must be")]
    Close,
    /// A message that cannot be decompressed.
    #[error("the message is not compressed as it says")]
    Deflate,
    /// A message that is longer than is taken.
    #[error("the message is too long")]
    TooLong,
}

impl Violation {
    /// What the close frame says.
    #[must_use]
    pub const fn code(self) -> CloseCode {
        match self {
            Violation::Text | Violation::Deflate => CloseCode::INVALID_DATA,
            Violation::TooLong => CloseCode::TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

/// What one connection keeps of what it was sent: nothing, unless a message has come in part.
#[derive(Debug, Default)]
pub struct Inbound {
    message: Option<Box<Unfinished>>,
}

// A connection that waits costs this much.
const _: () = assert!(size_of::<Inbound>() == 8);

/// A message that has not come to its end.
#[derive(Debug)]
struct Unfinished {
    is_text: bool,
    is_deflated: bool,
    payload: Vec<u8>,
    text: Text,
}

/// Room to read in, for all connections of a thread.
#[derive(Debug, Default)]
pub struct Scratch {
    payload: Vec<u8>,
    message: Vec<u8>,
    inflater: Inflater,
}

/// How much room is kept between messages, in bytes.
const SCRATCH_BYTES_MAX: usize = 256 * 1024;

impl Inbound {
    /// Whether nothing has come in part.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.message.is_none()
    }

    /// Takes one frame off the front of `input`.
    ///
    /// # Errors
    /// [`Violation`]; nothing more is to be read then.
    pub fn take<'a>(
        &mut self,
        input: &[u8],
        rules: Rules,
        scratch: &'a mut Scratch,
    ) -> Result<Step<'a>, Violation> {
        let Some(head) = FrameHead::parse(input)? else {
            return Ok(Step::Need(input.len() + 1));
        };
        self.check(&head, rules)?;
        let bytes = head.head_bytes + head.payload_bytes as usize;
        let Some(payload) = input.get(head.head_bytes..bytes) else {
            return Ok(Step::Need(bytes));
        };
        scratch.forget();
        scratch.payload.extend_from_slice(payload);
        if let Some(mask) = head.mask {
            apply_mask(&mut scratch.payload, mask);
        }
        let event = match head.opcode {
            Opcode::Ping => Some(Event::Ping(&scratch.payload)),
            Opcode::Pong => Some(Event::Pong(&scratch.payload)),
            Opcode::Close => Some(Event::Close(read_close(&scratch.payload)?)),
            _ => self.take_data(&head, rules, scratch)?,
        };
        Ok(Step::Frame(bytes, event))
    }

    /// What can be said against a frame before its payload is there.
    fn check(&self, head: &FrameHead, rules: Rules) -> Result<(), Violation> {
        if head.mask.is_some() != (rules.role == Role::Server) {
            return Err(Violation::Mask);
        }
        let begins = matches!(head.opcode, Opcode::Text | Opcode::Binary);
        if head.is_deflated && !(rules.deflate && begins) {
            return Err(Violation::ReservedBits);
        }
        if head.opcode.is_control() {
            return Ok(());
        }
        if begins == self.message.is_some() {
            return Err(Violation::Fragments);
        }
        let before = self.message.as_ref().map_or(0, |message| message.payload.len());
        if head.payload_bytes > rules.message_bytes_max.saturating_sub(before) as u64 {
            return Err(Violation::TooLong);
        }
        Ok(())
    }

    /// A frame of a message, whose payload is in the scratch.
    fn take_data<'a>(
        &mut self,
        head: &FrameHead,
        rules: Rules,
        scratch: &'a mut Scratch,
    ) -> Result<Option<Event<'a>>, Violation> {
        let Scratch { payload, message: whole, inflater } = scratch;
        if head.is_last && self.message.is_none() {
            // The usual case keeps nothing.
            let is_text = head.opcode == Opcode::Text;
            if head.is_deflated {
                inflate(inflater, payload, rules, whole)?;
                return event(is_text, whole).map(Some);
            }
            return event(is_text, payload).map(Some);
        }
        let message = self.message.get_or_insert_with(|| {
            Box::new(Unfinished {
                is_text: head.opcode == Opcode::Text,
                is_deflated: head.is_deflated,
                payload: Vec::new(),
                text: Text::default(),
            })
        });
        message.payload.extend_from_slice(payload);
        let Unfinished { is_text, is_deflated, payload, text } = &mut **message;
        if *is_text && !*is_deflated && !text.look(payload) {
            return Err(Violation::Text);
        }
        if !head.is_last {
            return Ok(None);
        }
        if *is_deflated {
            inflate(inflater, payload, rules, whole)?;
        } else if *is_text && !text.is_whole(payload) {
            return Err(Violation::Text);
        } else {
            std::mem::swap(payload, whole);
        }
        let is_text = *is_text;
        self.message = None;
        event(is_text, whole).map(Some)
    }
}

impl Scratch {
    fn forget(&mut self) {
        for room in [&mut self.payload, &mut self.message] {
            room.clear();
            if room.capacity() > SCRATCH_BYTES_MAX {
                *room = Vec::new();
            }
        }
    }
}

fn inflate(
    inflater: &mut Inflater,
    payload: &[u8],
    rules: Rules,
    out: &mut Vec<u8>,
) -> Result<(), Violation> {
    inflater.inflate(payload, rules.message_bytes_max, out).map_err(|error| match error {
        InflateError::Invalid => Violation::Deflate,
        InflateError::TooLong => Violation::TooLong,
    })
}

fn event(is_text: bool, message: &[u8]) -> Result<Event<'_>, Violation> {
    if is_text {
        str::from_utf8(message).map(Event::Text).map_err(|_| Violation::Text)
    } else {
        Ok(Event::Binary(message))
    }
}

fn read_close(payload: &[u8]) -> Result<Option<(CloseCode, &str)>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::Close) };
    };
    let code = CloseCode::new(u16::from_be_bytes(*code)).ok_or(Violation::Close)?;
    let reason = str::from_utf8(reason).map_err(|_| Violation::Text)?;
    Ok(Some((code, reason)))
}
