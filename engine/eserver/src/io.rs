//! [`Io`]: a shard's connections, and everything that leaves through them.
//!
//! Answers are appended to one run of bytes for one connection at a time. Starting on another
//! connection, or ending the phase, writes the run with one `write`; only what the kernel did not
//! take is kept, in that connection's outbox.

use std::collections::VecDeque;
use std::net::{IpAddr, Shutdown};
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Token};
use tokio::sync::{oneshot, watch};

use crate::census::Census;
use crate::conn_id::ConnId;
use crate::connection::{Busy, Connection, End, NO_SLOT, Parked, flag};
use crate::counters::ShardCounters;
use crate::mailbox::Parting;
use crate::outbox::{LastKept, write_last, write_some};
use crate::reply::ReplyTo;
use crate::server::Settings;
use crate::slab::Slab;
use crate::tables::Table;
use crate::wheel::{Links, Records, TICK, Tick, Wheel};

/// A run is written once it is this long, in bytes, even if more answers for its connection follow.
const RUN_BYTES: usize = 64 * 1024;

/// How long an unfinished request is waited for when the server ends.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// Names a connection of this shard: its slot and generation.
pub(crate) type Key = (u32, u32);

impl Records for Slab<Connection> {
    fn links(&mut self, slot: u32) -> &mut Links {
        &mut self.at_mut(slot).expect("who is on the wheel is in the slab").links
    }
}

pub(crate) struct Io {
    pub(crate) shard: u16,
    pub(crate) slab: Slab<Connection>,
    pub(crate) wheel: Wheel,
    pub(crate) registry: mio::Registry,
    pub(crate) settings: Arc<Settings>,
    pub(crate) counters: Arc<ShardCounters>,
    pub(crate) census: Arc<Census>,
    /// The table of descriptors that the connections are in.
    pub(crate) table: Arc<Table>,
    /// The time of this turn.
    pub(crate) tick: Tick,
    /// No new connection is taken, and those that owe and are owed nothing are ended.
    pub(crate) draining: bool,
    /// Connections to look at again before sleeping: more input than one turn's share, or resumed.
    pub(crate) again: Vec<Key>,
    /// Services' slots that no connection has any more, each with its service: yet to be told.
    pub(crate) released: Vec<(u8, u32)>,
    /// Services' slots of connections for which nothing is kept any more, likewise.
    pub(crate) drained: Vec<(u8, u32)>,
    /// The connection whose bytes a service looks at: nothing is decided about it meanwhile.
    pub(crate) receiving: Option<Key>,
    /// Answers for `run_of`, not yet written.
    run: Vec<u8>,
    run_of: Option<Key>,
    last_kept: LastKept,
}

impl Io {
    pub(crate) fn new(
        shard: u16,
        registry: mio::Registry,
        settings: Arc<Settings>,
        counters: Arc<ShardCounters>,
        census: Arc<Census>,
        table: Arc<Table>,
    ) -> Self {
        Io {
            shard,
            slab: Slab::new(),
            wheel: Wheel::new(),
            registry,
            settings,
            counters,
            census,
            table,
            tick: 0,
            draining: false,
            again: Vec::new(),
            released: Vec::new(),
            drained: Vec::new(),
            receiving: None,
            run: Vec::new(),
            run_of: None,
            last_kept: LastKept::default(),
        }
    }

    /// Gives back what is kept to be used again, and is not in use.
    pub(crate) fn trim(&mut self) {
        self.slab.trim();
        self.again.shrink_to_fit();
        self.released.shrink_to_fit();
        self.drained.shrink_to_fit();
        self.run.shrink_to_fit();
    }

    pub(crate) fn id(&self, (slot, generation): Key) -> ConnId {
        let generation = NonZeroU32::new(generation).expect("generations begin at 1");
        ConnId { slot, generation, shard: self.shard }
    }

    #[inline]
    pub(crate) fn get(&mut self, key: Key) -> Option<&mut Connection> {
        self.slab.get_mut(key.0, key.1)
    }

    /// Whether another request of this connection may be read now, with fewer than `in_flight_max`
    /// in flight. When not, the connection is paused: it is looked at again when answers have left.
    pub(crate) fn may_request(&mut self, key: Key, in_flight_max: u32) -> bool {
        let limits = &self.settings.limits;
        let Some(conn) = self.slab.get_mut(key.0, key.1) else {
            return false;
        };
        if conn.has(flag::CLOSING | flag::BROKEN) {
            return false;
        }
        let in_flight_max = in_flight_max.min(limits.pipeline_requests_max).max(1);
        let kept_bytes = conn.outbox_bytes() + conn.parked_bytes();
        let may = conn.in_flight() < in_flight_max && kept_bytes <= limits.outbox_bytes_max;
        if !may {
            conn.flags |= flag::PAUSED;
            conn.busy_mut().resume_at = in_flight_max / 2;
        }
        may
    }

    /// Numbers a request that was read.
    pub(crate) fn begin_request(&mut self, key: Key) -> ReplyTo {
        let conn = self.id(key);
        self.counters.requests.add(1);
        let record = self.get(key).expect("its request is being read");
        let ordinal = record.next_request;
        record.next_request = ordinal.wrapping_add(1);
        record.flags &= !flag::PADDED;
        ReplyTo { conn, ordinal }
    }

    /// Answers a request whose bytes `encode` appends; they leave when its turn has come.
    pub(crate) fn reply(&mut self, to: ReplyTo, encode: impl FnOnce(&mut Vec<u8>)) {
        let key = to.conn.key();
        let Some(conn) = self.slab.get_mut(key.0, key.1) else {
            self.counters.stale_replies.add(1);
            return;
        };
        let ahead = to.ordinal.wrapping_sub(conn.next_reply);
        if ahead >= conn.in_flight() {
            // Answered before: a service took a ticket for later and then answered at once.
            self.counters.stale_replies.add(1);
        } else if ahead > 0 {
            let Busy { parked, parked_bytes, .. } = conn.busy_mut();
            let place = park(parked, ahead as usize);
            if place.end.is_some() {
                self.counters.stale_replies.add(1);
                return;
            }
            let before = place.bytes.len();
            encode(&mut place.bytes);
            place.end = Some(End::Whole);
            *parked_bytes += place.bytes.len() - before;
        } else {
            self.start_run(key);
            encode(&mut self.run);
            self.complete(key);
        }
    }

    /// Sends a piece of an answer when its turn has come; a peer that does not read is closed at
    /// its bound. What no bytes wait in front of is taken whatever its length.
    pub(crate) fn part(&mut self, to: ReplyTo, bytes: &[u8], is_last: bool) {
        self.part_within(self.settings.limits.outbox_bytes_max, to, bytes, is_last);
    }

    /// [`Io::part`] for who has looked at what waits already.
    pub(crate) fn part_whatever_waits(&mut self, to: ReplyTo, bytes: &[u8]) {
        self.part_within(usize::MAX, to, bytes, false);
    }

    fn part_within(&mut self, outbox_bytes_max: usize, to: ReplyTo, bytes: &[u8], is_last: bool) {
        let key = to.conn.key();
        let ahead = |conn: &Connection| to.ordinal.wrapping_sub(conn.next_reply);
        match self.get(key) {
            Some(conn) if ahead(conn) == 0 && conn.in_flight() > 0 => {
                self.start_run(key);
                if self.run.len() + bytes.len() > RUN_BYTES {
                    self.write_run(false);
                }
                let waiting = self.get(key).map_or(0, |conn| conn.outbox_bytes());
                if waiting > 0 && waiting.saturating_add(bytes.len()) > outbox_bytes_max {
                    return self.close_slow_reader(key);
                }
                self.run.extend_from_slice(bytes);
                if is_last {
                    self.complete(key);
                }
            }
            Some(conn) if ahead(conn) < conn.in_flight() => {
                let ahead = ahead(conn) as usize;
                let Busy { parked, parked_bytes, .. } = conn.busy_mut();
                let place = park(parked, ahead);
                if place.end.is_some() {
                    self.counters.stale_replies.add(1);
                    return;
                }
                let waiting = !place.bytes.is_empty();
                if waiting && *parked_bytes + bytes.len() > outbox_bytes_max {
                    return self.close_slow_reader(key);
                }
                place.bytes.extend_from_slice(bytes);
                place.end = is_last.then_some(End::Whole);
                *parked_bytes += bytes.len();
            }
            _ => self.counters.stale_replies.add(1),
        }
    }

    /// The answer whose turn it was is in the run; those that waited for it follow.
    fn complete(&mut self, key: Key) {
        let mut count = 1;
        if let Some(conn) = self.slab.get_mut(key.0, key.1) {
            conn.next_reply = conn.next_reply.wrapping_add(1);
            if conn.busy.is_some() {
                count += unpark(conn, &mut self.run);
                dismiss_watchers(conn);
            }
            if conn.slot != NO_SLOT && conn.in_flight() == 0 && !conn.has(KEEPS_SLOT) {
                release(conn, &mut self.released);
            }
        }
        self.counters.replies.add(count);
        if self.run.len() >= RUN_BYTES {
            self.write_run(false);
        }
    }

    /// Tells `sender` once it is the turn of this answer and all that was written has left.
    pub(crate) fn when_drained(&mut self, to: ReplyTo, sender: oneshot::Sender<()>) {
        let key = to.conn.key();
        let Some(conn) = self.get(key) else { return };
        if to.ordinal.wrapping_sub(conn.next_reply) < conn.in_flight() {
            conn.busy_mut().drained.push((to.ordinal, sender));
            self.end_run();
            self.settle(key);
        }
    }

    /// Tells `watch` when the peer of an answer is done or the server is ending, and drops it when
    /// the answer is complete or cannot be.
    pub(crate) fn watch(&mut self, to: ReplyTo, watch: watch::Sender<bool>) {
        let (key, draining) = (to.conn.key(), self.draining);
        let Some(conn) = self.get(key) else { return };
        if to.ordinal.wrapping_sub(conn.next_reply) < conn.in_flight() {
            watch.send_replace(draining || conn.has(flag::END_SEEN | flag::PEER_DONE));
            conn.busy_mut().watchers.push((to.ordinal, watch));
        }
    }

    /// A body is to come at the least rate from now on.
    pub(crate) fn await_body(&mut self, key: Key) {
        let deadline = self.tick + ticks(self.settings.limits.request_body_timeout);
        let Some(conn) = self.get(key) else { return };
        if !conn.has(flag::BODY) {
            conn.flags |= flag::BODY;
            let busy = conn.busy_mut();
            busy.request_deadline = deadline;
            busy.grown = 0;
        }
    }

    /// A body's deadline has come: whether it grew at the least rate since the last one. If so, it
    /// has as much time again.
    pub(crate) fn grows_on(&mut self, key: Key) -> bool {
        let limits = &self.settings.limits;
        let patience = limits.request_body_timeout;
        let rate = u128::from(limits.request_body_bytes_per_s_min);
        let least = (patience.as_millis() * rate / 1000).max(1);
        let Some(conn) = self.slab.get_mut(key.0, key.1) else {
            return false;
        };
        let busy = conn.busy_mut();
        let enough = busy.grown as u128 >= least;
        busy.grown = 0;
        busy.request_deadline = self.tick + ticks(patience);
        enough
    }

    /// There will be no answer to this request: the connection cannot go on, and ends once those
    /// before it have left.
    pub(crate) fn abandon(&mut self, to: ReplyTo) {
        let key = to.conn.key();
        let Some(conn) = self.get(key) else { return };
        let ahead = to.ordinal.wrapping_sub(conn.next_reply);
        if ahead >= conn.in_flight() {
            return;
        }
        if ahead > 0 {
            park(&mut conn.busy_mut().parked, ahead as usize).end.get_or_insert(End::Cut);
        } else {
            cut(conn);
            self.end_run();
            self.settle(key);
        }
    }

    /// Whether this answer is to say that it is its connection's last: the connection `ends` with
    /// it, or the server is ending, and no request was read behind it. None is from now on.
    pub(crate) fn is_last(&mut self, to: ReplyTo, ends: bool) -> bool {
        let (key, draining) = (to.conn.key(), self.draining);
        if !ends && !draining {
            return false;
        }
        let Some(conn) = self.get(key) else { return false };
        if to.ordinal.wrapping_sub(conn.next_reply) >= conn.in_flight() {
            return false;
        }
        let is_last = to.ordinal.wrapping_add(1) == conn.next_request;
        if is_last || ends {
            conn.flags |= flag::CLOSING;
        }
        is_last
    }

    /// Gives an answer, or the front of one, that says that it is the last one if it is.
    pub(crate) fn part_with(&mut self, parting: Parting) {
        let Parting { to, mut bytes, is_whole, words, words_at, ends } = parting;
        if self.is_last(to, ends) {
            bytes.splice(words_at..words_at, words.iter().copied());
        }
        if is_whole {
            self.reply(to, |run| run.extend_from_slice(&bytes));
        } else {
            self.part(to, &bytes, false);
        }
    }

    /// Nothing is left of what had arrived in part.
    pub(crate) fn unspill(&mut self, key: Key) {
        if let Some(busy) = self.get(key).and_then(|conn| conn.busy.as_mut()) {
            (busy.need, busy.seen) = (0, 0);
        }
    }

    pub(crate) fn close_after_replies(&mut self, id: ConnId) {
        let key = id.key();
        if let Some(conn) = self.get(key) {
            conn.flags |= flag::CLOSING;
            self.settle(key);
        }
    }

    /// The connection's service is to be told when nothing is kept for its peer any more.
    pub(crate) fn tell_drained(&mut self, key: Key) {
        let Some(conn) = self.get(key) else { return };
        conn.flags |= flag::TELLS_DRAINED;
        self.settle(key);
    }

    /// A peer does not read: its connection ends now, and is counted unless it was before.
    pub(crate) fn close_slow_reader(&mut self, key: Key) {
        let was_counted = self.get(key).is_some_and(|conn| conn.has(flag::TOO_SLOW));
        self.counters.slow_readers.add(u64::from(!was_counted));
        self.close(key);
    }

    /// A peer reads too slowly: its connection ends with what is kept for it, for which it has the
    /// time of `Limits::linger_timeout`.
    pub(crate) fn part_from_slow_reader(&mut self, key: Key) {
        self.end_run();
        let deadline = self.tick + ticks(self.settings.limits.linger_timeout);
        let Some(conn) = self.get(key) else { return };
        cut(conn);
        conn.flags |= flag::TOO_SLOW;
        if let Some(busy) = conn.busy.as_mut() {
            busy.write_deadline = busy.write_deadline.min(deadline);
        }
        self.counters.slow_readers.add(1);
        self.settle(key);
    }

    /// Sends what answers no request; a peer that does not read is closed at its bound. What no bytes
    /// wait in front of is taken whatever its length.
    pub(crate) fn send(&mut self, id: ConnId, bytes: &[u8]) {
        self.send_within(self.settings.limits.outbox_bytes_max, id, bytes);
    }

    /// [`Io::send`] for who has looked at what waits already.
    pub(crate) fn send_whatever_waits(&mut self, id: ConnId, bytes: &[u8]) {
        self.send_within(usize::MAX, id, bytes);
    }

    fn send_within(&mut self, outbox_bytes_max: usize, id: ConnId, bytes: &[u8]) {
        let key = id.key();
        self.start_run(key);
        if self.run.len() + bytes.len() > RUN_BYTES {
            self.write_run(false);
        }
        match self.get(key).map(|conn| conn.outbox_bytes()) {
            None => self.counters.stale_replies.add(1),
            Some(waiting)
                if waiting > 0 && waiting.saturating_add(bytes.len()) > outbox_bytes_max =>
            {
                self.close_slow_reader(key);
            }
            Some(_) => {
                self.run.extend_from_slice(bytes);
                self.counters.replies.add(1);
            }
        }
    }

    /// The turn is over: whoever was to be sent the same as others has been, and only those who wait
    /// for it keep it.
    pub(crate) fn forget_last_kept(&mut self) {
        self.last_kept = LastKept::default();
    }

    fn start_run(&mut self, key: Key) {
        if self.run_of != Some(key) {
            self.end_run();
            self.run_of = Some(key);
        }
    }

    /// Writes what is waiting and decides what becomes of its connection, which it returns. Ends
    /// every phase.
    pub(crate) fn end_run(&mut self) -> Option<Key> {
        let key = self.run_of?;
        self.write_run(true);
        self.run_of = None;
        self.settle(key);
        Some(key)
    }

    /// Writes what is waiting. `is_end` says that it is about to be decided what becomes of the
    /// connection.
    fn write_run(&mut self, is_end: bool) {
        let Some(key) = self.run_of else { return };
        let is_end = is_end && self.receiving != Some(key);
        let Some(conn) = self.slab.get_mut(key.0, key.1) else {
            self.run.clear();
            return;
        };
        let mut sent = 0;
        if conn.outbox_bytes() == 0 && !conn.has(flag::BROKEN) {
            let written = match is_end && conn.is_over() {
                true => write_last(&conn.socket, &self.run),
                false => write_some(&mut &conn.socket, &self.run),
            };
            match written {
                Ok(taken) => {
                    self.counters.bytes_out.add(taken as u64);
                    sent = taken;
                }
                Err(_) => conn.flags |= flag::BROKEN,
            }
        }
        if sent < self.run.len() && !conn.has(flag::BROKEN) {
            let busy = conn.busy_mut();
            if busy.outbox.len() == 0 {
                busy.write_deadline = self.tick + ticks(self.settings.limits.write_timeout);
                busy.shrunk = 0;
            }
            busy.outbox.push(&self.run, sent, &mut self.last_kept);
            if !conn.has(flag::WATCH_WRITE) {
                conn.flags |= flag::WATCH_WRITE;
                watch(&self.registry, conn, key);
            }
        }
        self.run.clear();
        if self.run.capacity() > 4 * RUN_BYTES {
            self.run = Vec::with_capacity(RUN_BYTES);
        }
    }

    /// A write deadline has come: whether the peer read at the least rate of 1 KiB a second since
    /// the last one. If so, it has as much time again.
    pub(crate) fn reads_on(&mut self, key: Key) -> bool {
        let patience = self.settings.limits.write_timeout;
        let Some(conn) = self.slab.get_mut(key.0, key.1) else {
            return false;
        };
        if conn.has(flag::TOO_SLOW) {
            return false;
        }
        let busy = conn.busy_mut();
        let least = (patience.as_millis() * 1024 / 1000).max(1);
        let enough = busy.shrunk as u128 >= least;
        busy.shrunk = 0;
        busy.write_deadline = self.tick + ticks(patience);
        enough
    }

    /// The socket takes bytes again.
    pub(crate) fn writable(&mut self, key: Key) {
        let Some(conn) = self.slab.get_mut(key.0, key.1) else {
            return;
        };
        if let Some(busy) = conn.busy.as_mut() {
            let before = busy.outbox.len();
            if before > 0 {
                let result = busy.outbox.send(&mut &conn.socket);
                let after = busy.outbox.len();
                busy.shrunk += before - after;
                self.counters.bytes_out.add((before - after) as u64);
                if result.is_err() {
                    conn.flags |= flag::BROKEN;
                }
            }
        }
        if conn.outbox_bytes() == 0 && conn.has(flag::WATCH_WRITE) {
            conn.flags &= !flag::WATCH_WRITE;
            watch(&self.registry, conn, key);
        }
        self.settle(key);
    }

    /// Decides what becomes of a connection after something happened to it: it ends, it is looked
    /// at again, or it waits, with the deadline that its state calls for.
    pub(crate) fn settle(&mut self, key: Key) {
        if self.run_of == Some(key) || self.receiving == Some(key) {
            return; // `end_run` settles it when its answers have left, or who shows its bytes.
        }
        let Some(conn) = self.slab.get_mut(key.0, key.1) else {
            return;
        };
        if conn.has(flag::LINGERING) {
            if conn.has(flag::BROKEN | flag::PEER_DONE) {
                self.close(key);
            }
            return;
        }
        let (in_flight, owed) = (conn.in_flight(), conn.outbox_bytes());
        let paused = conn.has(flag::PAUSED);
        let resume_at = conn.busy.as_ref().map_or(0, |busy| busy.resume_at);
        let outbox_bytes_max = self.settings.limits.outbox_bytes_max;
        let parks_little = conn.parked_bytes() <= outbox_bytes_max / 2;
        if paused && in_flight <= resume_at && owed == 0 && parks_little {
            conn.flags &= !flag::PAUSED;
            self.again.push(key);
            return;
        }
        if owed == 0 {
            tell_drained(conn);
            if conn.has(flag::TELLS_DRAINED) && conn.parked_bytes() == 0 {
                conn.flags &= !flag::TELLS_DRAINED;
                if conn.slot != NO_SLOT {
                    self.drained.push((conn.listener, conn.slot));
                }
            }
        }
        let closing = conn.has(flag::CLOSING);
        let quiet = in_flight == 0 && owed == 0 && !paused;
        let partial = conn.is_partial();
        let over = conn.has(flag::BROKEN)
            || (quiet && conn.has(flag::PEER_DONE | flag::CLOSING))
            || (quiet && !partial && self.draining && !conn.has(flag::UPGRADED));
        if over {
            if conn.has(flag::LINGERS) && !conn.has(flag::BROKEN | flag::PEER_DONE) {
                return self.linger(key);
            }
            return self.close(key);
        }
        conn.tidy();
        let deadline = match &conn.busy {
            Some(busy) if owed > 0 => Some(busy.write_deadline),
            Some(busy) if partial && !paused && !closing => Some(busy.request_deadline),
            _ if self.settings.idle_ticks == 0 => None,
            _ => Some(self.tick + self.settings.idle_ticks),
        };
        match deadline {
            Some(deadline) => self.wheel.set(&mut self.slab, key.0, deadline),
            None => self.wheel.clear(&mut self.slab, key.0),
        }
    }

    /// Ends our side of a connection whose peer may still be sending, and drops what it sends.
    fn linger(&mut self, key: Key) {
        let limits = &self.settings.limits;
        let patience = limits.linger_timeout;
        let patience = if self.draining { patience.min(LAST_WORDS) } else { patience };
        let deadline = self.tick + ticks(patience);
        let Some(conn) = self.slab.get_mut(key.0, key.1) else {
            return;
        };
        if conn.socket.shutdown(Shutdown::Write).is_err() {
            return self.close(key);
        }
        release(conn, &mut self.released);
        conn.flags = conn.flags & !flag::BODY | flag::LINGERING;
        let busy = conn.busy_mut();
        *busy = Busy { request_deadline: deadline, ..Busy::default() };
        self.wheel.set(&mut self.slab, key.0, deadline);
        self.counters.lingered.add(1);
        self.again.push(key);
    }

    /// Tells epoll about a newcomer.
    pub(crate) fn register(&mut self, key: Key) {
        let Some(conn) = self.slab.get_mut(key.0, key.1) else {
            return;
        };
        let fd = conn.socket.as_raw_fd();
        let interest = interest(conn.has(flag::WATCH_WRITE));
        conn.flags |= flag::REGISTERED;
        let result = self.registry.register(&mut SourceFd(&fd), token(key), interest);
        if let Err(error) = result {
            tracing::warn!(%error, "a connection could not be watched");
            self.close(key);
        }
    }

    /// Ends a connection now; what was queued for it is dropped.
    pub(crate) fn close(&mut self, key: Key) {
        let Some(conn) = self.slab.get_mut(key.0, key.1) else {
            return;
        };
        if self.receiving == Some(key) {
            // Its service still looks at its bytes, and is not to find it gone.
            conn.flags |= flag::BROKEN;
            return;
        }
        release(conn, &mut self.released);
        self.wheel.clear(&mut self.slab, key.0);
        if self.run_of == Some(key) {
            self.run.clear();
            self.run_of = None;
        }
        if let Some(conn) = self.slab.remove(key.0, key.1) {
            self.census.leave(conn.peer());
            self.table.leave();
            self.counters.closed.add(1);
        }
    }

    /// Says a last word, after the answers that are owed, and ends the connection without making
    /// the kernel discard that word.
    pub(crate) fn close_with(&mut self, key: Key, words: &[u8]) {
        let conn_id = self.id(key);
        let Some(conn) = self.get(key) else { return };
        conn.flags = conn.flags & !flag::BODY | flag::CLOSING | flag::LINGERS;
        if let Some(busy) = conn.busy.as_mut() {
            busy.spill = Vec::new();
        }
        let ordinal = conn.next_request;
        conn.next_request = ordinal.wrapping_add(1);
        self.part(ReplyTo { conn: conn_id, ordinal }, words, true);
        self.end_run();
        self.settle(key);
    }

    pub(crate) fn peer(&mut self, key: Key) -> IpAddr {
        self.get(key).expect("its request is being read").peer()
    }
}

/// Writes `words`, ends our side, and takes in what has arrived: closing a socket with unread bytes
/// resets it, and the peer would lose the words.
pub(crate) fn farewell(mut socket: &std::net::TcpStream, words: &[u8]) {
    use std::io::Read;
    if write_last(socket, words).is_ok() {
        let mut scratch = [0; 4096];
        for _ in 0..16 {
            if !matches!(socket.read(&mut scratch), Ok(count) if count > 0) {
                break;
            }
        }
    }
}

/// Where to keep what is ready `ahead` answers before its turn.
fn park(parked: &mut VecDeque<Option<Parked>>, ahead: usize) -> &mut Parked {
    if parked.len() <= ahead {
        parked.resize(ahead + 1, None);
    }
    parked[ahead].get_or_insert_default()
}

/// Moves parked answers whose turn has come to `run`; how many, but for one that goes on.
fn unpark(conn: &mut Connection, run: &mut Vec<u8>) -> u64 {
    let Some(busy) = conn.busy.as_mut() else {
        return 0;
    };
    let mut count = 0;
    busy.parked.pop_front();
    while let Some(Some(parked)) = busy.parked.front_mut().map(Option::take) {
        run.extend_from_slice(&parked.bytes);
        busy.parked_bytes -= parked.bytes.len();
        match parked.end {
            Some(End::Whole) => {}
            Some(End::Cut) => {
                cut(conn);
                break;
            }
            None => break,
        }
        busy.parked.pop_front();
        conn.next_reply = conn.next_reply.wrapping_add(1);
        count += 1;
    }
    count
}

/// Nothing follows what was written so far: forgets the requests that are in flight.
fn cut(conn: &mut Connection) {
    conn.next_request = conn.next_reply;
    conn.flags = conn.flags & !flag::PAUSED | flag::CLOSING | flag::LINGERS;
    if let Some(busy) = conn.busy.as_mut() {
        busy.spill = Vec::new();
        busy.parked = VecDeque::new();
        busy.parked_bytes = 0;
        busy.drained.clear();
        busy.watchers.clear();
    }
}

/// Flags of connections whose slot does not stand for an answer.
const KEEPS_SLOT: u16 = flag::BODY | flag::UPGRADED;

/// Takes the slot off a connection, to tell its service.
fn release(conn: &mut Connection, released: &mut Vec<(u8, u32)>) {
    let slot = std::mem::replace(&mut conn.slot, NO_SLOT);
    if slot != NO_SLOT {
        released.push((conn.listener, slot));
    }
}

/// Lets those go whose answer is complete.
fn dismiss_watchers(conn: &mut Connection) {
    let (next_reply, in_flight) = (conn.next_reply, conn.in_flight());
    if let Some(busy) = conn.busy.as_mut() {
        busy.watchers.retain(|(ordinal, _)| ordinal.wrapping_sub(next_reply) < in_flight);
    }
}

/// Nothing waits to be sent: tells those who asked, if it is the turn of their answer or past it.
fn tell_drained(conn: &mut Connection) {
    let (next_reply, in_flight) = (conn.next_reply, conn.in_flight());
    let Some(busy) = conn.busy.as_mut() else { return };
    let is_early = |ordinal: u32| (1..in_flight).contains(&ordinal.wrapping_sub(next_reply));
    for (_, sender) in busy.drained.extract_if(.., |(ordinal, _)| !is_early(*ordinal)) {
        // Who asked may have lost interest.
        let _ = sender.send(());
    }
}

/// Tells epoll what to report now; a newcomer is told about when it is registered.
fn watch(registry: &mio::Registry, conn: &mut Connection, key: Key) {
    if !conn.has(flag::REGISTERED) {
        return;
    }
    let fd = conn.socket.as_raw_fd();
    let interest = interest(conn.has(flag::WATCH_WRITE));
    if registry.reregister(&mut SourceFd(&fd), token(key), interest).is_err() {
        conn.flags |= flag::BROKEN;
    }
}

fn interest(write: bool) -> Interest {
    if write { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
}

/// A duration as ticks, rounded up.
pub(crate) fn ticks(duration: Duration) -> Tick {
    let ticks = duration.as_millis().div_ceil(TICK.as_millis());
    Tick::try_from(ticks).unwrap_or(Tick::MAX / 2).min(Tick::MAX / 2)
}

fn token((slot, generation): Key) -> Token {
    Token(slot as usize | (generation as usize) << 32)
}

pub(crate) fn key(token: Token) -> Key {
    (token.0 as u32, (token.0 >> 32) as u32)
}
