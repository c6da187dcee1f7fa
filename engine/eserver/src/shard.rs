//! [`Shard`]: one thread, one event loop, and the connections that live there.
//!
//! A turn: take every ready event; for each, read, let the service decode and answer, write; then
//! what is left of busy peers; then the services pass their batches on; then the letters, from other
//! threads and from those services; then the deadlines. Nothing here knows a protocol.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::census::Refusal;
use crate::connection::{Connection, flag};
use crate::io::{Io, Key, key, part, ticks};
use crate::listener::{Accepted, Listener};
use crate::mailbox::{Letter, Mailbox};
use crate::service::{Conn, Received, Service};
use crate::wheel::{TICK, Tick};

/// Bytes one `read` may bring; shared by all connections of the shard.
const READ_BYTES: usize = 256 * 1024;

/// How long an unfinished request is waited for when the server ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Events taken from epoll at once.
const EVENTS: usize = 1024;

/// Tokens from here on are not connections: their generation is `u32::MAX`, which no slab reaches
/// before its listeners are long gone.
const FIRST_LISTENER: usize = 0xffff_ffff_0000_0000;
pub(crate) const WAKER: Token = Token(usize::MAX);

pub(crate) struct Shard {
    poll: Poll,
    io: Io,
    /// A service stands at the index of its listener; several addresses may share one.
    services: Vec<Box<dyn Service>>,
    listeners: Vec<(Listener, u8)>,
    mailbox: Mailbox,
    started: Instant,
    buffer: Box<[u8]>,
    /// Listeners with more newcomers than one turn's share.
    accept_again: Vec<usize>,
    due: Vec<u32>,
}

/// Why the loop goes on or ends.
#[derive(PartialEq, Eq)]
enum Course {
    On,
    Ended,
}

impl Shard {
    /// Binds this shard's listeners: `addresses` pairs each address with its service.
    pub(crate) fn new(
        poll: Poll,
        io: Io,
        mailbox: Mailbox,
        addresses: &[(SocketAddr, u8)],
        services: Vec<Box<dyn Service>>,
    ) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for (at, (address, service)) in addresses.iter().enumerate() {
            let mut listener = Listener::bind(*address)?;
            let token = Token(FIRST_LISTENER + at);
            poll.registry().register(listener.source(), token, Interest::READABLE)?;
            listeners.push((listener, *service));
        }
        Ok(Shard {
            poll,
            io,
            services,
            listeners,
            mailbox,
            started: Instant::now(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            accept_again: Vec::new(),
            due: Vec::new(),
        })
    }

    /// Turns until it is told to end and nothing is left to finish.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut letters = Vec::new();
        loop {
            self.wait(&mut events);
            self.io.tick = (self.started.elapsed().as_millis() / TICK.as_millis()) as Tick;
            self.io.counters.turns.add(1);
            for event in &events {
                match event.token() {
                    WAKER => {}
                    token if token.0 >= FIRST_LISTENER => self.accept(token.0 - FIRST_LISTENER),
                    token => {
                        let key = key(token);
                        if event.is_writable() {
                            self.io.writable(key);
                        }
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.read(key, event.is_read_closed());
                        }
                    }
                }
            }
            self.look_again();
            self.pass_on();
            // Last, since a service may have answered its batch already.
            self.mailbox.take(&mut letters);
            for letter in letters.drain(..) {
                if self.open(letter) == Course::Ended {
                    return self.end();
                }
            }
            self.io.end_run();
            self.expire();
            if self.io.draining && self.io.slab.len() == 0 {
                return self.end();
            }
        }
    }

    /// Sleeps until something happens, unless something waits already.
    fn wait(&mut self, events: &mut Events) {
        let busy = !self.io.again.is_empty() || !self.accept_again.is_empty();
        let timeout = if busy || !self.mailbox.fall_asleep() {
            Some(Duration::ZERO)
        } else {
            let resume = self.listeners.iter().filter_map(|(listener, _)| listener.resume_at).min();
            let resume = resume.map(|at| at.saturating_sub(self.io.tick));
            let next = self.io.wheel.next(self.io.tick).into_iter().chain(resume).min();
            next.map(|ticks| TICK * ticks.max(1))
        };
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            // epoll_wait fails for no other reason that a running program can meet.
            tracing::error!(%error, "epoll failed");
        }
        self.mailbox.wake_up();
    }

    /// Lets the services hand on what this turn has brought them.
    fn pass_on(&mut self) {
        for service in &mut self.services {
            service.turn_ended();
        }
    }

    fn accept(&mut self, at: usize) {
        let settings = Arc::clone(&self.io.settings);
        let Some((listener, service)) = self.listeners.get_mut(at) else {
            return;
        };
        let service = *service;
        if listener.resume_at.is_some_and(|resume| resume > self.io.tick) {
            return;
        }
        listener.resume_at = None;
        for _ in 0..settings.limits.accept_turn_max {
            let (listener, _) = &mut self.listeners[at];
            match listener.accept(self.io.tick) {
                Accepted::Nobody => return,
                Accepted::Turned(socket) => {
                    let failed = listener.resume_at.is_some();
                    if failed {
                        self.io.counters.accept_failures.add(1);
                    }
                    if let Some(socket) = socket {
                        self.refuse(service, &socket, Refusal::NoDescriptor);
                    }
                    self.listeners[at].0.keep_spare();
                    if failed {
                        return;
                    }
                }
                Accepted::Newcomer(socket, peer) => {
                    if !settings.allow[usize::from(service)].allows(peer) {
                        self.io.counters.not_allowed.add(1);
                        continue;
                    }
                    let limits = &settings.limits;
                    let per_address_max = limits.connections_per_address_max;
                    match self.io.census.enter(peer, settings.connections_max, per_address_max) {
                        Err(why) => self.refuse(service, &socket, why),
                        Ok(()) => self.admit(Connection::new(socket, peer, service)),
                    }
                }
            }
        }
        self.accept_again.push(at);
    }

    fn refuse(&self, service: u8, socket: &std::net::TcpStream, why: Refusal) {
        self.io.counters.refused.add(1);
        let mut words = Vec::new();
        self.services[usize::from(service)].refuse(why, &mut words);
        part(socket, &words);
    }

    /// Takes a newcomer in. Its first request is often there already and is read at once; a
    /// connection that this finishes never meets epoll.
    fn admit(&mut self, conn: Connection) {
        self.io.counters.accepted.add(1);
        let key = self.io.slab.insert(|_, _| conn);
        self.read(key, false);
        self.io.register(key);
    }

    /// Reads what has arrived and serves it; `closed` when the kernel said that the peer's end has
    /// come.
    fn read(&mut self, key: Key, closed: bool) {
        let mut budget = self.io.settings.limits.read_turn_bytes_max;
        loop {
            let Some(conn) = self.io.get(key) else { return };
            if closed {
                conn.flags |= flag::END_SEEN;
            }
            if conn.has(flag::PAUSED | flag::PEER_DONE | flag::BROKEN | flag::CLOSING) {
                break; // Paused: read on when it resumes.
            }
            // Once the kernel has said that the end is there, a short read is not the last one.
            let to_the_end = conn.has(flag::END_SEEN);
            match (&conn.socket).read(&mut self.buffer) {
                Ok(0) => conn.flags |= flag::PEER_DONE,
                Ok(count) => {
                    self.io.counters.bytes_in.add(count as u64);
                    self.receive(key, count);
                    if count < READ_BYTES && !to_the_end {
                        break; // The socket is empty; more will be a new event.
                    }
                    budget = budget.saturating_sub(count);
                    if budget == 0 {
                        self.io.again.push(key);
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => conn.flags |= flag::BROKEN,
            }
        }
        self.io.end_run();
        self.io.settle(key);
    }

    /// Shows the service what the last read brought, behind what was left of earlier ones.
    fn receive(&mut self, key: Key, count: usize) {
        let Some(conn) = self.io.get(key) else { return };
        let service = &mut self.services[usize::from(conn.listener)];
        let fresh = conn.spill_bytes() == 0;
        if fresh {
            let input = &self.buffer[..count];
            let received = service.receive(input, &mut Conn { io: &mut self.io, key });
            self.keep(key, received, count, |buffer, spill| {
                spill.extend_from_slice(&buffer[received.used..count]);
            });
        } else {
            let busy = conn.busy_mut();
            busy.spill.extend_from_slice(&self.buffer[..count]);
            if busy.spill.len() < busy.need {
                return;
            }
            let mut input = std::mem::take(&mut busy.spill);
            let received = service.receive(&input, &mut Conn { io: &mut self.io, key });
            let length = input.len();
            self.keep(key, received, length, |_, spill| {
                input.drain(..received.used);
                *spill = input;
            });
        }
    }

    /// Keeps the unused rest of `length` bytes until more arrives.
    fn keep(
        &mut self,
        key: Key,
        received: Received,
        length: usize,
        store: impl FnOnce(&[u8], &mut Vec<u8>),
    ) {
        let limits = &self.io.settings.limits;
        let seconds = received.need as u64 / 1024;
        let patience = ticks(limits.request_head_timeout + Duration::from_secs(seconds));
        let tick = self.io.tick;
        let Some(conn) = self.io.slab.get_mut(key.0, key.1) else {
            return;
        };
        if received.used < length {
            let busy = conn.busy_mut();
            store(&self.buffer, &mut busy.spill);
            busy.need = received.need;
            busy.request_deadline = tick + patience;
        }
    }

    /// Gives peers another share that had more than one, and those whose answers have left.
    fn look_again(&mut self) {
        for at in std::mem::take(&mut self.accept_again) {
            self.accept(at);
        }
        for at in 0..self.listeners.len() {
            if self.listeners[at].0.resume_at.is_some_and(|resume| resume <= self.io.tick) {
                self.accept(at);
            }
        }
        for key in std::mem::take(&mut self.io.again) {
            let waits = self.io.get(key).is_some_and(|conn| conn.spill_bytes() > 0);
            if waits {
                self.receive(key, 0);
                self.io.end_run();
            }
            self.read(key, false);
        }
    }

    fn expire(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.io.wheel.expire(&mut self.io.slab, self.io.tick, &mut due);
        for slot in due.drain(..) {
            self.time_out(slot);
        }
        self.due = due;
    }

    /// A connection's deadline has come: end it, unless it is only waiting for us.
    fn time_out(&mut self, slot: u32) {
        let id = self.io.slab.generation(slot).map(|generation| (slot, generation));
        let Some((key, conn)) = id.and_then(|key| Some((key, self.io.slab.at_mut(slot)?))) else {
            return;
        };
        let service = conn.listener;
        if conn.outbox_bytes() > 0 {
            if self.io.reads_on(key) {
                return self.io.settle(key);
            }
            self.io.counters.slow_readers.add(1);
            self.io.close(key);
        } else if conn.in_flight() > 0 || conn.has(flag::PAUSED) {
            self.io.settle(key);
        } else if conn.spill_bytes() > 0 {
            self.io.counters.request_timeouts.add(1);
            let mut words = Vec::new();
            let limit = self.io.settings.limits.request_head_timeout;
            self.services[usize::from(service)].too_slow(limit, &mut words);
            self.io.close_with(key, &words);
        } else {
            self.io.counters.idle_timeouts.add(1);
            self.io.close(key);
        }
    }

    fn open(&mut self, letter: Letter) -> Course {
        match letter {
            Letter::Replies(batch) => {
                for (to, bytes) in batch.iter() {
                    self.io.reply(to, |run| run.extend_from_slice(bytes));
                }
            }
            Letter::Reply(to, Some(bytes)) => {
                self.io.reply(to, |run| run.extend_from_slice(&bytes));
            }
            Letter::Reply(to, None) => self.io.abandon(to),
            Letter::Send(id, bytes) => self.io.send(id, &bytes),
            Letter::Close(id) => {
                let key = (id.slot, id.generation);
                if let Some(conn) = self.io.get(key) {
                    conn.flags |= flag::CLOSING;
                    self.io.settle(key);
                }
            }
            Letter::Settings(settings) => self.io.settings = settings,
            Letter::Shutdown => self.drain(),
            Letter::Stop => return Course::Ended,
        }
        Course::On
    }

    /// Stops accepting and lets go of everybody who waits for nothing. Newcomers that the kernel
    /// has taken already, and requests that have arrived already, are still served.
    fn drain(&mut self) {
        for at in 0..self.listeners.len() {
            self.listeners[at].0.resume_at = None;
            // The kernel holds no more than this for us.
            for _ in 0..=usize::from(u16::MAX) / self.io.settings.limits.accept_turn_max.max(1) {
                self.accept(at);
                if self.accept_again.pop().is_none() {
                    break;
                }
            }
        }
        self.accept_again.clear();
        for (mut listener, _) in self.listeners.drain(..) {
            let _ = self.poll.registry().deregister(listener.source());
        }
        self.io.draining = true;
        for (slot, generation) in self.io.slab.keys() {
            let key = (slot, generation);
            self.read(key, false);
            self.hurry(key);
        }
        // What was read just now must not wait for something else to wake the shard.
        self.pass_on();
    }

    /// A request that has arrived in part may delay the end only for [`LAST_WORDS`].
    fn hurry(&mut self, key: Key) {
        let latest = self.io.tick + ticks(LAST_WORDS);
        let Some(conn) = self.io.get(key) else { return };
        if conn.spill_bytes() > 0 {
            let busy = conn.busy_mut();
            busy.request_deadline = busy.request_deadline.min(latest);
            self.io.settle(key);
        }
    }

    fn end(mut self) {
        self.mailbox.close();
        for (slot, generation) in self.io.slab.keys() {
            self.io.close((slot, generation));
        }
    }
}
