//! [`Sockets`]: the WebSockets of a shard.

use std::num::NonZeroU32;

use eserver::{ConnId, Conns};
use eserver_wire::ws::{CloseCode, Deflater, Inbound, Opcode, encode_close, encode_frame};

use crate::outgoing::{SubscriberId, What};
use crate::position::{Epoch, Seq};
use crate::service::right::Right;
use crate::slots::{NONE, Slab};

/// What is kept of a WebSocket: nothing of what was sent, unless it has come in part. Its connection
/// is known to the subscriber.
#[derive(Debug)]
struct Socket {
    /// The number of who it is on its channels, or [`NONE`].
    subscriber: u32,
    /// One more than the place of what few have, or [`NO_MORE`].
    more: NonZeroU32,
}

const NO_MORE: NonZeroU32 = NonZeroU32::MAX;

/// What few have.
#[derive(Debug, Default)]
struct More {
    /// The connection of one that is on no channel.
    conn: Option<ConnId>,
    /// What its token is worth; none if it has none.
    right: Option<Right>,
    /// A message that has come in part.
    inbound: Inbound,
    /// Whether messages are compressed.
    deflate: bool,
}

// A waiting WebSocket costs this beside its connection and its seat.
const _: () = assert!(size_of::<Option<Socket>>() == 8);

impl Socket {
    fn subscriber(&self) -> Option<SubscriberId> {
        (self.subscriber != NONE).then(|| SubscriberId::new(self.subscriber))
    }

    fn more(&self) -> Option<u32> {
        (self.more != NO_MORE).then(|| self.more.get() - 1)
    }
}

impl More {
    fn is_empty(&self) -> bool {
        let More { conn, right, inbound, deflate } = self;
        conn.is_none() && right.is_none() && inbound.is_idle() && !deflate
    }
}

/// Messages shorter than this are not worth compressing, in bytes.
const DEFLATE_BYTES_MIN: usize = 128;

/// The WebSockets of a shard, by number.
pub(crate) struct Sockets {
    sockets: Slab<Socket>,
    more: Slab<Box<More>>,
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
            more: Slab::new(),
            deflater: Deflater::default(),
            deflated_of: None,
            deflated: Vec::new(),
            bytes: Vec::new(),
        }
    }
}

impl Sockets {
    /// Gives back what is kept to be used again, and is not in use.
    pub(crate) fn trim(&mut self) {
        self.sockets.trim();
        self.more.trim();
        self.deflater = Deflater::default();
        self.deflated_of = None;
        (self.deflated, self.bytes) = (Vec::new(), Vec::new());
    }

    /// Takes one in that is on no channel; its number.
    pub(crate) fn insert(&mut self, conn: ConnId, right: &Right, deflate: bool) -> u32 {
        let number = self.sockets.insert(Socket { subscriber: NONE, more: NO_MORE });
        self.change(number, |more| {
            more.conn = Some(conn);
            more.right = (!matches!(right, Right::Anybody)).then(|| right.clone());
            more.deflate = deflate;
        });
        number
    }

    /// A WebSocket has ended: who it was on its channels.
    pub(crate) fn remove(&mut self, number: u32) -> Option<SubscriberId> {
        let socket = self.sockets.remove(number)?;
        if let Some(more) = socket.more() {
            self.more.remove(more);
        }
        socket.subscriber()
    }

    /// Who it is on its channels; none if it is on none.
    pub(crate) fn subscriber(&self, number: u32) -> Option<SubscriberId> {
        self.sockets.get(number)?.subscriber()
    }

    /// Its connection, if it is on no channel.
    pub(crate) fn conn(&self, number: u32) -> Option<ConnId> {
        self.more(number)?.conn
    }

    /// It is on channels as that subscriber, who knows its connection.
    pub(crate) fn set_subscriber(&mut self, number: u32, subscriber: SubscriberId) {
        if let Some(socket) = self.sockets.get_mut(number) {
            socket.subscriber = subscriber.get();
            if socket.more().is_some() {
                self.change(number, |more| more.conn = None);
            }
        }
    }

    /// It is on no channel any more.
    pub(crate) fn forget_subscriber(&mut self, number: u32, conn: ConnId) {
        if let Some(socket) = self.sockets.get_mut(number) {
            socket.subscriber = NONE;
            self.change(number, |more| more.conn = Some(conn));
        }
    }

    /// What its token is worth; none if it has none.
    pub(crate) fn right(&self, number: u32) -> Option<&Right> {
        self.more(number)?.right.as_ref()
    }

    /// Whether messages are compressed.
    pub(crate) fn deflate(&self, number: u32) -> bool {
        self.more(number).is_some_and(|more| more.deflate)
    }

    /// What has come in part, on loan: to be [put back](Self::put_inbound). None if there is no such
    /// WebSocket.
    pub(crate) fn take_inbound(&mut self, number: u32) -> Option<Inbound> {
        let more = self.sockets.get(number)?.more().and_then(|at| self.more.get_mut(at));
        Some(more.map(|more| std::mem::take(&mut more.inbound)).unwrap_or_default())
    }

    pub(crate) fn put_inbound(&mut self, number: u32, inbound: Inbound) {
        let is_nothing_new = inbound.is_idle() && self.more(number).is_none();
        if !is_nothing_new {
            self.change(number, |more| more.inbound = inbound);
        }
    }

    fn more(&self, number: u32) -> Option<&More> {
        self.more.get(self.sockets.get(number)?.more()?).map(Box::as_ref)
    }

    /// Changes what few have of a WebSocket, if there is such a one. What it does not have takes no
    /// room.
    fn change(&mut self, number: u32, change: impl FnOnce(&mut More)) {
        let Sockets { sockets, more: all, .. } = self;
        let Some(socket) = sockets.get_mut(number) else { return };
        let at = socket.more().unwrap_or_else(|| all.insert(Box::default()));
        let more = all.at_mut(at);
        change(more);
        socket.more = if more.is_empty() {
            all.remove(at);
            NO_MORE
        } else {
            NonZeroU32::MIN.saturating_add(at)
        };
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
        let is_deflated = text.len() >= DEFLATE_BYTES_MIN && self.deflate(number);
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
            What::TooSlow => {
                Self::close(conn, CloseCode::TRY_AGAIN_LATER, "it is read too slowly", conns);
            }
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
        for at in 0..self.more.end() {
            if let Some(conn) = self.more.get(at).and_then(|more| more.conn) {
                Self::close(conn, CloseCode::GOING_AWAY, "come again", conns);
            }
        }
    }
}
