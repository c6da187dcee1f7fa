//! `Event`, what happened to messages: what the log holds and the state is made of.
//!
//! Each kind of record that concerns messages is one event. Live operation applies it when the
//! record is appended, recovery when the record is read; there is no other way to change a state.

use crate::log::record::{Header, Kind};
use crate::{Millis, Seq};

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A new message, at the end.
    Put { seq: Seq, due: Option<Millis>, payload_bytes: u32 },
    /// So many messages from `first` on are gone.
    Removed { first: Seq, count: u64 },
    /// So many messages from `first` on were handed to a consumer.
    Reserved { first: Seq, count: u64 },
    /// Back in its place, now or when due.
    Released { seq: Seq, due: Option<Millis> },
    /// Set aside until somebody kicks it.
    Buried { seq: Seq },
    /// Back in its place, from burial or delay.
    Kicked { seq: Seq },
    /// Written again so that its old segment can go.
    Moved { seq: Seq, moved: Moved, payload_bytes: u32 },
    /// The puts that follow happened at this time, to the second.
    Clock(Millis),
}

/// What is known about a message besides its payload.
///
/// On disk: attempts (2 bytes), what holds it (1), zero (1), the reason's length (4), the due time
/// (8), then the reason and the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) attempts: u16,
    pub(crate) hold: Hold,
    pub(crate) reason_bytes: u32,
}

/// What keeps a moved message from being taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nothing, or a lease, which does not outlive the process.
    Free,
    /// A delay until then.
    Until(Millis),
    /// It is buried.
    Buried,
}

/// Bytes of a moved message's body before its reason.
pub(crate) const MOVED_BYTES: usize = 16;

/// Bytes of a due time.
pub(crate) const DUE_BYTES: usize = 8;

impl Moved {
    pub(crate) fn encode(&self) -> [u8; MOVED_BYTES] {
        let (hold, due) = match self.hold {
            Hold::Free => (0, 0),
            Hold::Until(due) => (1, due.get()),
            Hold::Buried => (2, 0),
        };
        let mut bytes = [0; MOVED_BYTES];
        bytes[..2].copy_from_slice(&self.attempts.to_le_bytes());
        bytes[2] = hold;
        bytes[4..8].copy_from_slice(&self.reason_bytes.to_le_bytes());
        bytes[8..].copy_from_slice(&due.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let bytes: &[u8; MOVED_BYTES] = body.first_chunk()?;
        let hold = match bytes[2] {
            0 => Hold::Free,
            1 => Hold::Until(number(&bytes[8..])?),
            2 => Hold::Buried,
            _ => return None,
        };
        let reason_bytes = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let attempts = u16::from_le_bytes([bytes[0], bytes[1]]);
        let whole = body.len() - MOVED_BYTES >= reason_bytes as usize;
        whole.then_some(Self { attempts, hold, reason_bytes })
    }
}

impl Event {
    /// The event of a record; `None` for records that are not about messages, and for a body that
    /// no version of this crate has written.
    pub(crate) fn of(header: &Header, body: &[u8]) -> Option<Self> {
        let seq = Seq::new(header.number);
        Some(match header.kind {
            Kind::Put => Self::Put { seq, due: None, payload_bytes: header.body_bytes },
            Kind::PutDelayed => Self::Put {
                seq,
                due: Some(number(body)?),
                payload_bytes: header.body_bytes - DUE_BYTES as u32,
            },
            Kind::Remove => Self::Removed { first: seq, count: run(body)? },
            Kind::Reserve => Self::Reserved { first: seq, count: run(body)? },
            Kind::Release if body.is_empty() => Self::Released { seq, due: None },
            Kind::Release => Self::Released { seq, due: Some(number(body)?) },
            Kind::Bury => Self::Buried { seq },
            Kind::Kick => Self::Kicked { seq },
            Kind::Move => {
                let moved = Moved::decode(body)?;
                let payload_bytes = header.body_bytes - MOVED_BYTES as u32 - moved.reason_bytes;
                Self::Moved { seq, moved, payload_bytes }
            }
            Kind::Clock => Self::Clock(Millis::new(header.number)),
            Kind::Oldest | Kind::Restart | Kind::CleanEnd | Kind::SegmentEnd => return None,
        })
    }
}

/// The payload in the body of a record that holds a message.
pub(crate) fn payload(kind: Kind, body: &[u8]) -> Option<&[u8]> {
    match kind {
        Kind::Put => Some(body),
        Kind::PutDelayed => body.get(DUE_BYTES..),
        Kind::Move => {
            let moved = Moved::decode(body)?;
            body.get(MOVED_BYTES + moved.reason_bytes as usize..)
        }
        _ => None,
    }
}

/// The reason in the body of a record that buried a message.
pub(crate) fn reason(kind: Kind, body: &[u8]) -> Option<&[u8]> {
    match kind {
        Kind::Bury => Some(body),
        Kind::Move => {
            let moved = Moved::decode(body)?;
            body.get(MOVED_BYTES..MOVED_BYTES + moved.reason_bytes as usize)
        }
        _ => None,
    }
}

/// How many messages a record is about: one, unless the body says otherwise.
fn run(body: &[u8]) -> Option<u64> {
    if body.is_empty() { Some(1) } else { number(body).map(Millis::get) }
}

fn number(bytes: &[u8]) -> Option<Millis> {
    Some(Millis::new(u64::from_le_bytes(*bytes.first_chunk()?)))
}
