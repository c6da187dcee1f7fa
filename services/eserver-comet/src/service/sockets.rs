//! [`Sockets`]: the WebSockets of a shard.

use eserver::{ConnId, Conns};
use eserver_wire::ws::{CloseCode, Deflater, Inbound, Opcode, encode_close, encode_frame};

use crate::outgoing::{SubscriberId, What};
use crate::position::{Epoch, Seq};
use crate::service::right::Right;
use crate::slots::{NONE, Slab};

/// What is kept of a WebSocket: nothing of what was sent, unless it has come in part.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) conn: ConnId,
    /// The number of who it is on its channels, or [`NONE`].
    subscriber: u32,
    more: Option<Box<More>>,
}

/// What few have.
#[derive(Debug, Default)]
struct More {
    /// What its token is worth; none if it has none.
    right: Option<Right>,
    /// A message that has come in part.
    inbound: Inbound,
    /// Whether messages are compressed.
    deflate: bool,
}

// A waiting WebSocket costs this beside its connection and its seat.
const _: () = assert!(size_of::<Option<Socket>>() == 24);

impl Socket {
    pub(crate) fn new(conn: ConnId, right: &Right, deflate: bool) -> Self {
        let right = (!matches!(right, Right::Anybody)).then(|| right.clone());
        let has_more = right.is_some() || deflate;
        let more = More { right, inbound: Inbound::default(), deflate };
        Socket { conn, subscriber: NONE, more: has_more.then(|| Box::new(more)) }
    }

    /// Who it is on its channels; none if it has none.
    pub(crate) fn subscriber(&self) -> Option<SubscriberId> {
        (self.subscriber != NONE).then(|| SubscriberId::new(self.subscriber))
    }

    pub(crate) fn set_subscriber(&mut self, subscriber: Option<SubscriberId>) {
        self.subscriber = subscriber.map_or(NONE, SubscriberId::get);
    }

    /// What its token is worth; none if it has none.
    pub(crate) fn right(&self) -> Option<&Right> {
        self.more.as_ref()?.right.as_ref()
    }

    /// Whether messages are compressed.
    pub(crate) fn deflate(&self) -> bool {
        self.more.as_ref().is_some_and(|more| more.deflate)
    }

    /// What has come in part, on loan: to be [put back](Self::put_inbound).
    pub(crate) fn take_inbound(&mut self) -> Inbound {
        self.more.as_mut().map(|more| std::mem::take(&mut more.inbound)).unwrap_or_default()
    }

    pub(crate) fn put_inbound(&mut self, inbound: Inbound) {
        match &mut self.more {
            None if inbound.is_idle() => {}
            None => self.more = Some(Box::new(More { inbound, ..More::default() })),
            Some(more) if inbound.is_idle() && more.right.is_none() && !more.deflate => {
                self.more = None;
            }
            Some(more) => more.inbound = inbound,
        }
    }
}

/// Messages shorter than this are not worth compressing, in bytes.
const DEFLATE_BYTES_MIN: usize = 128;

/// The WebSockets of a shard, by number.
pub(crate) struct Sockets {
    sockets: Slab<Socket>,
    deflater: Deflater,
    /// The message that was compressed last, for who gets it next.
    deflated_of: Option<(Epoch, Seq)>,
    deflated: Vec<u8>,
    /// Kept to be used again.
    bytes: Vec<u8>,
}

impl Default for Sockets {
    fn default() -> Self {
        Sockets {
            sockets: Slab::new(),
            deflater: Deflater::default(),
            deflated_of: None,
            deflated: Vec::new(),
            bytes: Vec::new(),
        }
    }
}

impl Sockets {
    pub(crate) fn insert(&mut self, socket: Socket) -> u32 {
        self.sockets.insert(socket)
    }

    /// A WebSocket has ended: who it was on its channels.
    pub(crate) fn remove(&mut self, number: u32) -> Option<SubscriberId> {
        self.sockets.remove(number)?.subscriber()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Socket> {
        self.sockets.get(number)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Socket> {
        self.sockets.get_mut(number)
    }

    /// It is on no channel any more.
    pub(crate) fn forget_subscriber(&mut self, number: u32) {
        if let Some(socket) = self.sockets.get_mut(number) {
            socket.set_subscriber(None);
        }
    }

    /// Sends a text, for which there is room. `key` says which message it is, if the same may go to others.
    pub(crate) fn send(
        &mut self,
        conn: ConnId,
        number: u32,
        key: Option<(Epoch, Seq)>,
        text: &str,
        conns: &mut Conns<'_>,
    ) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.encode(number, key, text, &mut bytes);
        conns.send_whatever_waits(conn, &bytes);
        self.bytes = bytes;
    }

    /// Appends the frame of a text.
    pub(crate) fn encode(
        &mut self,
        number: u32,
        key: Option<(Epoch, Seq)>,
        text: &str,
        out: &mut Vec<u8>,
    ) {
        let wants_deflated = self.sockets.get(number).is_some_and(Socket::deflate);
        let is_deflated = wants_deflated && text.len() >= DEFLATE_BYTES_MIN;
        if is_deflated {
            if key.is_none() || key != self.deflated_of {
                self.deflated.clear();
                self.deflater.deflate(text.as_bytes(), &mut self.deflated);
                self.deflated_of = key;
            }
            encode_frame(Opcode::Text, &self.deflated, true, out);
        } else {
            encode_frame(Opcode::Text, text.as_bytes(), false, out);
        }
    }

    /// Ends a WebSocket that has been told its last, unless that was about a channel only.
    pub(crate) fn end(conn: ConnId, what: What<'_>, conns: &mut Conns<'_>) {
        match what {
            What::Goodbye { .. } => Self::close(conn, CloseCode::GOING_AWAY, "come again", conns),
            What::TokenExpired => {
                Self::close(conn, CloseCode::POLICY_VIOLATION, "the token has expired", conns);
            }
            _ => {}
        }
    }

    /// Says why, and ends the connection.
    pub(crate) fn close(conn: ConnId, code: CloseCode, reason: &str, conns: &mut Conns<'_>) {
        let mut bytes = Vec::new();
        encode_close(code, reason, &mut bytes);
        conns.send_whatever_waits(conn, &bytes);
        conns.close(conn);
    }

    /// Ends those that are on no channel: the server ends.
    pub(crate) fn dismiss(&mut self, conns: &mut Conns<'_>) {
        for number in 0..self.sockets.end() {
            if let Some(socket) = self.sockets.get(number)
                && socket.subscriber().is_none()
            {
                Self::close(socket.conn, CloseCode::GOING_AWAY, "come again", conns);
            }
        }
    }
}
