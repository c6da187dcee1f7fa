//! [`Service`]: what a listener does with the bytes of its connections.

use std::net::IpAddr;
use std::time::Duration;

use crate::census::Refusal;
use crate::conn_id::ConnId;
use crate::connection::flag;
use crate::io::{Io, Key};
use crate::reply::ReplyTo;

/// A protocol and its application, as one value per listener and shard.
///
/// It runs on the shard's thread: it must not wait, and nobody else touches it.
pub trait Service: 'static {
    /// Takes whole requests off the front of `input` and sees to their answers.
    ///
    /// It stops early when [`Conn::may_request`] says so. What it does not take is shown again,
    /// with more behind it.
    fn receive(&mut self, input: &[u8], conn: &mut Conn<'_>) -> Received;

    /// Every ready connection of this turn has been received from: the moment to pass a batch on.
    fn turn_ended(&mut self) {}

    /// Appends what a newcomer that is not let in shall read before it is closed.
    fn refuse(&self, why: Refusal, out: &mut Vec<u8>) {
        let _ = (why, out);
    }

    /// Appends what a peer whose request did not arrive whole within `limit` shall read before it
    /// is closed.
    fn too_slow(&self, limit: Duration, out: &mut Vec<u8>) {
        let _ = (limit, out);
    }
}

/// How much of its input a service took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes taken from the front.
    pub used: usize,
    /// How many bytes the rest must grow to before showing it again can change anything. Until then
    /// they are only collected, so that a request arriving byte by byte costs no repeated looks.
    pub need: usize,
}

/// A connection while bytes of it are being received.
pub struct Conn<'a> {
    pub(crate) io: &'a mut Io,
    pub(crate) key: Key,
}

impl Conn<'_> {
    /// The name other threads may use for this connection.
    #[must_use]
    pub fn id(&self) -> ConnId {
        self.io.id(self.key)
    }

    /// The address of the peer.
    #[must_use]
    pub fn peer(&mut self) -> IpAddr {
        self.io.peer(self.key)
    }

    /// Whether another request may be read now. When not, [`Service::receive`] returns, and is
    /// called again with the rest once answers have left.
    #[must_use]
    pub fn may_request(&mut self) -> bool {
        self.may_request_below(u32::MAX)
    }

    /// [`Conn::may_request`] for a request with a large answer, which is only read while fewer than
    /// `in_flight_max` of this connection wait for theirs, so that a peer that asks and does not
    /// read costs little.
    #[must_use]
    pub fn may_request_below(&mut self, in_flight_max: u32) -> bool {
        self.io.may_request(self.key, in_flight_max)
    }

    /// Numbers a request; every number must be answered once, or the connection waits for ever.
    #[must_use]
    pub fn begin_request(&mut self) -> ReplyTo {
        self.io.begin_request(self.key)
    }

    /// Answers a request of this connection; `encode` appends the answer's bytes.
    pub fn reply(&mut self, to: ReplyTo, encode: impl FnOnce(&mut Vec<u8>)) {
        debug_assert_eq!(to.conn, self.id());
        self.io.reply(to, encode);
    }

    /// Ends the connection once everything owed to it has been sent; no further request is read.
    pub fn close_after_replies(&mut self) {
        if let Some(conn) = self.io.get(self.key) {
            conn.flags |= flag::CLOSING;
        }
    }
}
