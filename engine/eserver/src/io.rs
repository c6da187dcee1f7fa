//! [`Io`]: a shard's connections, and everything that leaves through them.
//!
//! Answers are appended to one run of bytes for one connection at a time. Starting on another
//! connection, or ending the phase, writes the run with one `write`; only what the kernel did not
//! take is kept, in that connection's outbox.

use std::net::{IpAddr, Shutdown};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Token};

use crate::census::Census;
use crate::conn_id::ConnId;
use crate::connection::{Connection, flag};
use crate::counters::ShardCounters;
use crate::outbox::write_some;
use crate::reply::ReplyTo;
use crate::server::Settings;
use crate::slab::Slab;
use crate::wheel::{Links, Records, TICK, Tick, Wheel};

/// A run is written once it is this long, in bytes, even if more answers for its connection follow.
const RUN_BYTES: usize = 64 * 1024;

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
    /// The time of this turn.
    pub(crate) tick: Tick,
    /// No new connection is taken, and those that owe and are owed nothing are ended.
    pub(crate) draining: bool,
    /// Connections to look at again before sleeping: more input than one turn's share, or resumed.
    pub(crate) again: Vec<Key>,
    /// Answers for `run_of`, not yet written.
    run: Vec<u8>,
    run_of: Option<Key>,
}

impl Io {
    pub(crate) fn new(
        shard: u16,
        registry: mio::Registry,
        settings: Arc<Settings>,
        counters: Arc<ShardCounters>,
        census: Arc<Census>,
    ) -> Self {
        Io {
            shard,
            slab: Slab::new(),
            wheel: Wheel::new(),
            registry,
            settings,
            counters,
            census,
            tick: 0,
            draining: false,
            again: Vec::new(),
            run: Vec::new(),
            run_of: None,
        }
    }

    pub(crate) fn id(&self, (slot, generation): Key) -> ConnId {
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
        let may =
            conn.in_flight() < in_flight_max && conn.outbox_bytes() <= limits.outbox_bytes_max;
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
        ReplyTo { conn, ordinal }
    }

    /// Answers a request whose bytes `encode` appends; they leave when its turn has come.
    pub(crate) fn reply(&mut self, to: ReplyTo, encode: impl FnOnce(&mut Vec<u8>)) {
        let key = (to.conn.slot, to.conn.generation);
        let Some(conn) = self.slab.get_mut(key.0, key.1) else {
            self.counters.stale_replies.add(1);
            return;
        };
        let ahead = to.ordinal.wrapping_sub(conn.next_reply);
        if ahead >= conn.in_flight() {
            // Answered before: a service took a ticket for later and then answered at once.
            self.counters.stale_replies.add(1);
        } else if ahead > 0 {
            let mut bytes = Vec::new();
            encode(&mut bytes);
            let parked = &mut conn.busy_mut().parked;
            let ahead = ahead as usize;
            if parked.len() <= ahead {
                parked.resize(ahead + 1, None);
            }
            parked[ahead] = Some(bytes.into_boxed_slice());
        } else {
            self.start_run(key);
            encode(&mut self.run);
            let mut count = 1;
            if let Some(conn) = self.slab.get_mut(key.0, key.1) {
                conn.next_reply = conn.next_reply.wrapping_add(1);
                if conn.busy.is_some() {
                    count += unpark(conn, &mut self.run);
                }
            }
            self.counters.replies.add(count);
            if self.run.len() >= RUN_BYTES {
                self.write_run();
            }
        }
    }

    /// There will be no answer to this request: the connection cannot go on.
    pub(crate) fn abandon(&mut self, to: ReplyTo) {
        let key = (to.conn.slot, to.conn.generation);
        let awaited =
            |conn: &mut Connection| to.ordinal.wrapping_sub(conn.next_reply) < conn.in_flight();
        if self.get(key).is_some_and(awaited) {
            self.end_run();
            self.close(key);
        }
    }

    /// Sends what answers no request; a peer that does not read is closed at its bound.
    pub(crate) fn send(&mut self, id: ConnId, bytes: &[u8]) {
        let key = (id.slot, id.generation);
        let outbox_bytes_max = self.settings.limits.outbox_bytes_max;
        self.start_run(key);
        if self.run.len() + bytes.len() > RUN_BYTES {
            self.write_run();
        }
        match self.get(key) {
            None => self.counters.stale_replies.add(1),
            Some(conn) if conn.outbox_bytes() + bytes.len() > outbox_bytes_max => {
                self.counters.slow_readers.add(1);
                self.close(key);
            }
            Some(_) => {
                self.run.extend_from_slice(bytes);
                self.counters.replies.add(1);
            }
        }
    }

    fn start_run(&mut self, key: Key) {
        if self.run_of != Some(key) {
            self.end_run();
            self.run_of = Some(key);
        }
    }

    /// Writes what is waiting and decides what becomes of its connection. Ends every phase.
    pub(crate) fn end_run(&mut self) {
        if let Some(key) = self.run_of {
            self.write_run();
            self.run_of = None;
            self.settle(key);
        }
    }

    fn write_run(&mut self) {
        let Some(key) = self.run_of else { return };
        let Some(conn) = self.slab.get_mut(key.0, key.1) else {
            self.run.clear();
            return;
        };
        let mut rest = self.run.as_slice();
        if conn.outbox_bytes() == 0 && !conn.has(flag::BROKEN) {
            match write_some(&mut &conn.socket, rest) {
                Ok(sent) => {
                    self.counters.bytes_out.add(sent as u64);
                    rest = &rest[sent..];
                }
                Err(_) => conn.flags |= flag::BROKEN,
            }
        }
        if !rest.is_empty() && !conn.has(flag::BROKEN) {
            let busy = conn.busy_mut();
            if busy.outbox.len() == 0 {
                busy.write_deadline = self.tick + ticks(self.settings.limits.write_timeout);
                busy.shrunk = 0;
            }
            busy.outbox.push(rest);
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
        if self.run_of == Some(key) {
            return; // `end_run` settles it when its answers have left.
        }
        let limits = &self.settings.limits;
        let Some(conn) = self.slab.get_mut(key.0, key.1) else {
            return;
        };
        let (in_flight, owed) = (conn.in_flight(), conn.outbox_bytes());
        let paused = conn.has(flag::PAUSED);
        let resume_at = conn.busy.as_ref().map_or(0, |busy| busy.resume_at);
        if paused && in_flight <= resume_at && owed == 0 {
            conn.flags &= !flag::PAUSED;
            self.again.push(key);
            return;
        }
        let quiet = in_flight == 0 && owed == 0 && !paused;
        let partial = conn.spill_bytes() > 0;
        let over = conn.has(flag::BROKEN)
            || (quiet && conn.has(flag::PEER_DONE | flag::CLOSING))
            || (quiet && !partial && self.draining);
        if over {
            self.close(key);
            return;
        }
        conn.tidy();
        let deadline = match &conn.busy {
            Some(busy) if owed > 0 => Some(busy.write_deadline),
            Some(busy) if partial && !paused => Some(busy.request_deadline),
            _ if limits.idle_timeout.is_zero() => None,
            _ => Some(self.tick + ticks(limits.idle_timeout)),
        };
        match deadline {
            Some(deadline) => self.wheel.set(&mut self.slab, key.0, deadline),
            None => self.wheel.clear(&mut self.slab, key.0),
        }
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
        if self.get(key).is_none() {
            return;
        }
        self.wheel.clear(&mut self.slab, key.0);
        if self.run_of == Some(key) {
            self.run.clear();
            self.run_of = None;
        }
        if let Some(conn) = self.slab.remove(key.0, key.1) {
            self.census.leave(conn.peer());
            self.counters.closed.add(1);
        }
    }

    /// Says a last word and ends the connection, without making the kernel discard that word.
    pub(crate) fn close_with(&mut self, key: Key, words: &[u8]) {
        if let Some(conn) = self.get(key) {
            if conn.outbox_bytes() == 0 {
                part(&conn.socket, words);
            }
            self.close(key);
        }
    }

    pub(crate) fn peer(&mut self, key: Key) -> IpAddr {
        self.get(key).expect("its request is being read").peer()
    }
}

/// Writes `words`, ends our side, and takes in what has arrived: closing a socket with unread bytes
/// resets it, and the peer would lose the words.
pub(crate) fn part(mut socket: &std::net::TcpStream, words: &[u8]) {
    use std::io::Read;
    if write_some(&mut socket, words).is_ok() && socket.shutdown(Shutdown::Write).is_ok() {
        let mut scratch = [0; 4096];
        for _ in 0..16 {
            if !matches!(socket.read(&mut scratch), Ok(count) if count > 0) {
                break;
            }
        }
    }
}

/// Moves parked answers whose turn has come to `run`; how many.
fn unpark(conn: &mut Connection, run: &mut Vec<u8>) -> u64 {
    let Some(busy) = conn.busy.as_mut() else {
        return 0;
    };
    let mut count = 0;
    busy.parked.pop_front();
    while let Some(Some(bytes)) = busy.parked.front_mut().map(Option::take) {
        run.extend_from_slice(&bytes);
        busy.parked.pop_front();
        conn.next_reply = conn.next_reply.wrapping_add(1);
        count += 1;
    }
    count
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
