//! [`Service`]: what a listener does with the bytes of its connections.

use std::any::Any;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::census::Refusal;
use crate::conn_id::ConnId;
use crate::connection::{NO_SLOT, flag};
use crate::io::{Io, Key};
use crate::listener::Newcomers;
use crate::reply::ReplyTo;

/// A protocol and its application, as one value per listener and shard.
///
/// It runs on the shard's thread: it must not wait, and nobody else touches it.
///
/// What it has of its own for a connection it finds by the connection's *slot*, a number that it
/// gives with [`Conn::set_slot`]. A slot stands for the answer to the request that was read last,
/// or for what comes of a body ([`Conn::await_body`]), or for the whole connection once that is
/// [upgraded](Conn::upgrade). When that is over the connection has no slot any more and the service
/// is told by [`Service::released`]; an idle connection has none.
pub trait Service: 'static {
    /// Whether the kernel may keep newcomers to itself until they have said something: right for a
    /// protocol in which the client speaks first and most clients do so at once.
    fn newcomers(&self) -> Newcomers {
        Newcomers::AtOnce
    }

    /// Whether connections may be on a thread that has a table of descriptors of its own, when the
    /// process's is full: right for a service that opens and uses no descriptors but theirs.
    fn may_park(&self) -> bool {
        false
    }

    /// Takes whole requests off the front of `input` and sees to their answers.
    ///
    /// It stops early when [`Conn::may_request`] says so. What it does not take is shown again,
    /// with more behind it.
    fn receive(&mut self, input: &[u8], conn: &mut Conn<'_>) -> Received;

    /// Every ready connection of this turn has been received from: the moment to pass a batch on.
    fn turn_ended(&mut self, conns: &mut Conns<'_>) {
        let _ = conns;
    }

    /// Somebody sent this by [`Post::tell`](crate::Post::tell).
    fn told(&mut self, message: Box<dyn Any + Send>, conns: &mut Conns<'_>) {
        let _ = (message, conns);
    }

    /// When [`Service::wake`] is to be called. Asked in every turn, so it must be at hand.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The deadline has come, perhaps a few milliseconds ago.
    fn wake(&mut self, conns: &mut Conns<'_>) {
        let _ = conns;
    }

    /// The peer of the connection with this slot has read all that was kept for it
    /// ([`Conns::tell_drained`]).
    fn drained(&mut self, slot: u32, conns: &mut Conns<'_>) {
        let _ = (slot, conns);
    }

    /// The peer of the connection with this slot will send nothing more. It may well still read; a
    /// program that has been ended looks just so.
    fn peer_done(&mut self, slot: u32, conns: &mut Conns<'_>) {
        let _ = (slot, conns);
    }

    /// No connection has this slot any more: what it stood for was answered, or the connection
    /// ended, however it ended.
    fn released(&mut self, slot: u32) {
        let _ = slot;
    }

    /// A crowd has left: what is kept to be used again, and is not in use, is to be given back.
    fn trim(&mut self) {}

    /// The server is ending: it waits until every request is answered to its end, and until the
    /// service has closed the connections that were [upgraded](Conn::upgrade). Those who would wait
    /// for long are to be answered, and streams to be ended, soon.
    fn draining(&mut self, conns: &mut Conns<'_>) {
        let _ = conns;
    }

    /// Appends what a newcomer that is not let in shall read before it is closed.
    fn refuse(&self, why: Refusal, out: &mut Vec<u8>) {
        let _ = (why, out);
    }

    /// Appends what a peer whose request did not arrive within `limit`, or whose body did not grow
    /// enough in that time, shall read before it is closed.
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
    /// How many bytes of the rest have been looked at in vain; [`Conn::seen_bytes`] of the next
    /// look.
    pub seen: usize,
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

    /// The address of the peer, IPv4 as a mapped one.
    pub(crate) fn peer_mapped(&mut self) -> Ipv6Addr {
        self.io.get(self.key).expect("its request is being read").peer_mapped()
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

    /// Sends what answers no request and waits for no other answer, such as HTTP's
    /// `100 Continue`. A peer that does not read is closed at its bound.
    pub fn send(&mut self, bytes: &[u8]) {
        self.io.send(self.id(), bytes);
    }

    /// All connections of the shard, this one too.
    pub fn conns(&mut self) -> Conns<'_> {
        Conns { io: self.io }
    }

    /// Bytes at the front of the input that an earlier look has found to be no whole request.
    #[must_use]
    pub fn seen_bytes(&mut self) -> usize {
        let conn = self.io.get(self.key);
        conn.and_then(|conn| conn.busy.as_ref()).map_or(0, |busy| busy.seen)
    }

    /// The service's own number for this connection, or [`NO_SLOT`].
    #[must_use]
    pub fn slot(&mut self) -> u32 {
        self.io.get(self.key).map_or(NO_SLOT, |conn| conn.slot)
    }

    /// Gives the connection a number of the service's own, or takes it back with [`NO_SLOT`]: then
    /// [`Service::released`] is not called.
    pub fn set_slot(&mut self, slot: u32) {
        if let Some(conn) = self.io.get(self.key) {
            conn.slot = slot;
            conn.flags &= !flag::END_TOLD;
        }
    }

    /// The rest of a request is a body whose length is known, or that is taken piece by piece: it
    /// must come at the least rate ([`Limits::request_body_timeout`]), while the deadline for a
    /// whole request no longer counts. Ends with [`Conn::body_done`].
    ///
    /// [`Limits::request_body_timeout`]: crate::Limits::request_body_timeout
    pub fn await_body(&mut self) {
        self.io.await_body(self.key);
    }

    /// The body has come, or is of no interest any more.
    pub fn body_done(&mut self) {
        if let Some(conn) = self.io.get(self.key) {
            conn.flags &= !flag::BODY;
        }
    }

    /// Whether a body is being [awaited](Conn::await_body).
    #[must_use]
    pub fn awaits_body(&mut self) -> bool {
        self.has(flag::BODY)
    }

    /// Whether the service has taken what may stand once between two requests.
    pub(crate) fn is_padded(&mut self) -> bool {
        self.has(flag::PADDED)
    }

    /// That holds until the next request begins.
    pub(crate) fn set_padded(&mut self) {
        if let Some(conn) = self.io.get(self.key) {
            conn.flags |= flag::PADDED;
        }
    }

    /// From now on the connection's bytes are another protocol's, and its slot stands until it
    /// ends.
    pub fn upgrade(&mut self, slot: u32) {
        self.set_slot(slot);
        if let Some(conn) = self.io.get(self.key) {
            conn.flags |= flag::UPGRADED;
        }
    }

    /// Whether the connection was [upgraded](Conn::upgrade).
    #[must_use]
    pub fn is_upgraded(&mut self) -> bool {
        self.has(flag::UPGRADED)
    }

    /// [`Conn::slot`] and [`Conn::is_upgraded`] by one look.
    pub(crate) fn slot_and_upgrade(&mut self) -> (u32, bool) {
        let conn = self.io.get(self.key);
        conn.map_or((NO_SLOT, false), |conn| (conn.slot, conn.has(flag::UPGRADED)))
    }

    /// Whether the server is ending: what is answered now should say that it is the last answer.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.io.draining
    }

    /// Ends the connection once everything owed to it has been sent; no further request is read.
    pub fn close_after_replies(&mut self) {
        self.close_by(flag::CLOSING);
    }

    /// [`Conn::close_after_replies`] for a peer that may still be sending: what comes is then taken
    /// in and dropped for a while ([`Limits::linger_timeout`], [`Limits::linger_bytes_max`]), since
    /// closing a socket with unread bytes resets it, and the peer would lose the answer.
    ///
    /// [`Limits::linger_timeout`]: crate::Limits::linger_timeout
    /// [`Limits::linger_bytes_max`]: crate::Limits::linger_bytes_max
    pub fn close_lingering(&mut self) {
        self.close_by(flag::CLOSING | flag::LINGERS);
    }

    /// Tells `watch` when the peer of an answer is done, and drops it when the answer is complete
    /// or cannot be.
    pub(crate) fn watch(&mut self, to: ReplyTo, watch: watch::Sender<bool>) {
        self.io.watch(to, watch);
    }

    /// A number that changes about four times a second: when to look at a clock again.
    pub(crate) fn tick(&self) -> u32 {
        self.io.tick
    }

    fn close_by(&mut self, flags: u16) {
        if let Some(conn) = self.io.get(self.key) {
            conn.flags |= flags;
        }
    }

    fn has(&mut self, flags: u16) -> bool {
        self.io.get(self.key).is_some_and(|conn| conn.has(flags))
    }
}

/// All connections of a shard, for the services on it: the way to answer without a letter.
///
/// Bytes that many connections are to get are borrowed, not copied for each: only for a peer that
/// does not read are they kept.
pub struct Conns<'a> {
    pub(crate) io: &'a mut Io,
}

impl Conns<'_> {
    /// Answers a request; `encode` appends the answer's bytes.
    pub fn reply(&mut self, to: ReplyTo, encode: impl FnOnce(&mut Vec<u8>)) {
        self.io.reply(to, encode);
    }

    /// Sends a piece of an answer. It leaves when the answer's turn has come; a peer that does not
    /// read is closed at its bound ([`Limits::outbox_bytes_max`](crate::Limits::outbox_bytes_max)).
    pub fn part(&mut self, to: ReplyTo, bytes: &[u8]) {
        self.io.part(to, bytes, false);
    }

    /// [`Conns::part`] for a service that bounds what waits by itself, by
    /// [`Conns::waiting_bytes`]: the piece is kept whatever waits already.
    pub fn part_whatever_waits(&mut self, to: ReplyTo, bytes: &[u8]) {
        self.io.part_whatever_waits(to, bytes);
    }

    /// Sends the last piece of an answer, which may be empty.
    pub fn finish(&mut self, to: ReplyTo, bytes: &[u8]) {
        self.io.part(to, bytes, true);
    }

    /// Says that a request will never be answered, or not to its end: its connection is closed once
    /// what is owed before that has left.
    pub fn abandon(&mut self, to: ReplyTo) {
        self.io.abandon(to);
    }

    /// Sends what answers no request. A peer that does not read is closed at its bound.
    pub fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.io.send(conn, bytes);
    }

    /// [`Conns::send`] for a service that bounds what waits by itself, by [`Conns::waiting_bytes`] or
    /// [`Conn::may_request`]: the bytes are kept whatever waits already.
    pub fn send_whatever_waits(&mut self, conn: ConnId, bytes: &[u8]) {
        self.io.send_whatever_waits(conn, bytes);
    }

    /// Ends a connection once what it is owed has been sent.
    pub fn close(&mut self, conn: ConnId) {
        self.io.close_after_replies(conn);
    }

    /// Ends a connection whose peer reads too slowly. It gets nothing more than what is kept for it,
    /// and has [`Limits::linger_timeout`](crate::Limits::linger_timeout) to read that; answers that
    /// wait for an earlier one are dropped.
    pub fn close_slow_reader(&mut self, conn: ConnId) {
        self.io.part_from_slow_reader(conn.key());
    }

    /// How many bytes are kept for a connection, because its peer does not read or its answer has to
    /// wait for an earlier one; `None` if it has ended.
    #[must_use]
    pub fn waiting_bytes(&mut self, conn: ConnId) -> Option<usize> {
        let conn = self.io.get(conn.key())?;
        Some(conn.outbox_bytes() + conn.parked_bytes())
    }

    /// Takes the slot off a connection: [`Service::released`] is not called for it then.
    pub fn forget_slot(&mut self, conn: ConnId) {
        if let Some(conn) = self.io.get(conn.key()) {
            conn.slot = NO_SLOT;
        }
    }

    /// The bound on what is kept for a connection ([`Limits::outbox_bytes_max`]).
    ///
    /// [`Limits::outbox_bytes_max`]: crate::Limits::outbox_bytes_max
    #[must_use]
    pub fn outbox_bytes_max(&self) -> usize {
        self.io.settings.limits.outbox_bytes_max
    }

    /// Has [`Service::drained`] called once when nothing is kept for a connection any more, if it
    /// has a slot then.
    pub fn tell_drained(&mut self, conn: ConnId) {
        self.io.tell_drained(conn.key());
    }

    /// Whether the server is ending.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.io.draining
    }
}
