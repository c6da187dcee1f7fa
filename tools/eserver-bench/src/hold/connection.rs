//! [`Connection`]: what is remembered of one held connection.

use std::net::TcpStream;

use eserver_wire::http::{Body, BodyDecoder};
use eserver_wire::ws::Inbound;

use crate::hold::publication::Publication;

/// A held connection: no buffer, no channel name, only numbers.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Option<TcpStream>,
    pub(crate) stage: Stage,
    /// Whether it waits for messages: from then on it no longer counts as opening.
    pub(crate) is_held: bool,
    /// What a poll asks for next. What it means is the profile's to say; 0 is the beginning.
    pub(crate) cursor: u64,
    /// The ordinals that have arrived, as bits.
    pub(crate) arrived: u64,
    /// Where in the body of an answer it is.
    pub(crate) body: BodyDecoder,
    /// What a WebSocket has brought of a message in fragments.
    pub(crate) frames: Inbound,
}

// A million of them are to cost less than 100 MB.
const _: () = assert!(size_of::<Connection>() == 48);

/// What comes next on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It has not been begun.
    Unopened,
    /// The head of an answer.
    Head,
    /// The body of an answer.
    Body,
    /// WebSocket frames.
    Frames,
    /// Nothing at all: a bare TCP connection.
    Silence,
    /// It has ended.
    Gone,
}

/// What an arrival means for the one it arrived at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It was due, in this order.
    InOrder,
    /// It was due, but something published later came first.
    OutOfOrder,
    /// It had arrived before.
    Duplicate,
}

impl Connection {
    /// One that has not been begun.
    pub(crate) fn new() -> Self {
        Self {
            stream: None,
            stage: Stage::Unopened,
            is_held: false,
            cursor: 0,
            arrived: 0,
            body: BodyDecoder::new(Body::None),
            frames: Inbound::default(),
        }
    }

    /// Notes that a publication has arrived.
    pub(crate) fn note(&mut self, publication: &Publication) -> Arrival {
        let bit = publication.bit();
        let arrival = if self.arrived & bit != 0 {
            Arrival::Duplicate
        } else if self.arrived > bit {
            Arrival::OutOfOrder
        } else {
            Arrival::InOrder
        };
        self.arrived |= bit;
        arrival
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_repetition_are_seen() {
        let mut connection = Connection::new();
        let mut note = |ordinal| {
            connection.note(&Publication { run: 0, ordinal, channel: None, published_us: 0 })
        };
        let seen = [1, 3, 2, 3, 63].map(&mut note);
        use Arrival::{Duplicate, InOrder, OutOfOrder};
        assert_eq!(seen, [InOrder, InOrder, OutOfOrder, Duplicate, InOrder]);
    }
}
