//! [`Shard`]: one thread, one event loop, and the connections that live there.
//!
//! A turn: take every ready event; for each, read, let the service decode and answer, write; then
//! what is left of busy peers; then the services pass their batches on; then the letters, from other
//! threads and from those services; then the deadlines. Nothing here knows a protocol.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::census::Refusal;
use crate::connection::{Connection, NO_SLOT, flag};
use crate::handover::{Handover, Newcomer, SOCKETS_MAX};
use crate::io::{Io, Key, LAST_WORDS, farewell, key, ticks};
use crate::listener::{Accepted, Listener};
use crate::mailbox::{Letter, Mailbox};
use crate::server::Settings;
use crate::service::{Conn, Conns, Service};
use crate::tables::Tables;
use crate::trim::{KEPT_MAX, SmallBlocks};
use crate::wheel::{TICK, Tick};

/// Bytes one `read` may bring; shared by all connections of the shard.
const READ_BYTES: usize = 256 * 1024;

/// Events taken from epoll at once.
const EVENTS: usize = 1024;

/// Tokens from here on are not connections: their generation is `u32::MAX`, which no slab reaches
/// before its listeners are long gone.
const FIRST_LISTENER: usize = 0xffff_ffff_0000_0000;
pub(crate) const WAKER: Token = Token(usize::MAX);
const HANDOVER: Token = Token(usize::MAX - 1);

pub(crate) struct Shard {
    poll: Poll,
    io: Io,
    /// A service stands at the index of its listener; several addresses may share one.
    services: Vec<Box<dyn Service>>,
    listeners: Vec<(Listener, u8)>,
    mailbox: Mailbox,
    started: Instant,
    buffer: Box<[u8]>,
    parking: Parking,
    /// Whom the process's table has no room for, each with the place that was found for it.
    leaving: Vec<(usize, Newcomer)>,
    /// Listeners with more newcomers than one turn's share.
    accept_again: Vec<usize>,
    due: Vec<u32>,
    /// Dropped when nothing is left to finish here. Others may still need what this shard's services
    /// know, so it goes on until it is told to end.
    finished: Option<mpsc::Sender<()>>,
}

/// What a shard has to do with parking.
pub(crate) enum Parking {
    /// It accepts, and hands over whom the process's table has no room for: the ways to the parking
    /// shards, none if there are none.
    Sends(Arc<Tables>, Arc<[Handover]>),
    /// It takes those.
    Takes(Handover),
}

/// Why the loop goes on or ends.
enum Course {
    On,
    /// Once what is kept to be used again has been given back, at the turn's end.
    Trim(mpsc::Sender<SmallBlocks>),
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
        parking: Parking,
        finished: mpsc::Sender<()>,
    ) -> io::Result<Self> {
        let mut listeners = Vec::new();
        let addresses = match &parking {
            Parking::Sends(..) => addresses,
            Parking::Takes(handover) => {
                let source = &mut SourceFd(&handover.raw());
                poll.registry().register(source, HANDOVER, Interest::READABLE)?;
                &[]
            }
        };
        for (at, (address, service)) in addresses.iter().enumerate() {
            let newcomers = services[usize::from(*service)].newcomers();
            let mut listener = Listener::bind(*address, newcomers)?;
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
            parking,
            leaving: Vec::new(),
            started: Instant::now(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            accept_again: Vec::new(),
            due: Vec::new(),
            finished: Some(finished),
        })
    }

    /// Turns until it is told to end.
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
                    HANDOVER => self.take_over(),
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
            let mut trims = None;
            for letter in letters.drain(..) {
                match self.open(letter) {
                    Course::On => {}
                    Course::Trim(to) => trims = Some(to),
                    Course::Ended => return self.end(),
                }
            }
            self.io.end_run();
            self.expire();
            self.tell_drained();
            self.wake_services();
            // What that leads to must not wait for something else to wake the shard.
            while self.release() {
                self.pass_on();
            }
            self.io.forget_last_kept();
            if let Some(to) = trims {
                letters = Vec::new();
                self.trim();
                // Who asked may have given up.
                let _ = to.send(SmallBlocks::take());
            }
            if self.io.draining && self.io.slab.len() == 0 {
                self.finished = None;
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
            let next = next.map(|ticks| TICK * ticks.max(1));
            let service = self.services.iter().filter_map(|service| service.deadline()).min();
            let service = service.map(|at| at.saturating_duration_since(Instant::now()));
            next.into_iter().chain(service).min()
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
            service.turn_ended(&mut Conns { io: &mut self.io });
        }
        self.io.end_run();
    }

    /// Tells the services who has read all that was kept.
    fn tell_drained(&mut self) {
        for (service, slot) in std::mem::take(&mut self.io.drained) {
            self.services[usize::from(service)].drained(slot, &mut Conns { io: &mut self.io });
        }
        self.io.end_run();
    }

    /// Wakes the services whose deadline has come.
    fn wake_services(&mut self) {
        let mut now = None;
        for service in &mut self.services {
            let is_due = |at| at <= *now.get_or_insert_with(Instant::now);
            if service.deadline().is_some_and(is_due) {
                service.wake(&mut Conns { io: &mut self.io });
            }
        }
        self.io.end_run();
    }

    /// Tells the services which of their slots are free; whether there were any.
    fn release(&mut self) -> bool {
        let were_any = !self.io.released.is_empty();
        for (service, slot) in self.io.released.drain(..) {
            self.services[usize::from(service)].released(slot);
        }
        self.io.released.shrink_to(KEPT_MAX);
        were_any
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
        // Who is on the way elsewhere still has a descriptor here: nobody else comes in before.
        let is_done = self.hand_over() && self.accept_some(at, service, &settings);
        if !self.hand_over() || !is_done {
            self.accept_again.push(at);
        }
    }

    /// Accepts a turn's share; whether nobody more waits, or nobody more can be accepted for now.
    fn accept_some(&mut self, at: usize, service: u8, settings: &Arc<Settings>) -> bool {
        for _ in 0..settings.limits.accept_turn_max {
            let (listener, _) = &mut self.listeners[at];
            match listener.accept(self.io.tick) {
                Accepted::Nobody => return true,
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
                        return true;
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
                        Ok(()) if self.enter_table(service) => {
                            self.admit(Connection::new(socket, peer, service));
                        }
                        Ok(()) => match self.place_elsewhere(service) {
                            Some(place) => {
                                self.leaving.push((place, Newcomer { socket, peer, service }));
                                if self.leaving.len() >= SOCKETS_MAX {
                                    return false;
                                }
                            }
                            None => {
                                self.io.census.leave(peer);
                                let why = Refusal::ServerFull(self.io.table.room);
                                self.refuse(service, &socket, why);
                            }
                        },
                    }
                }
            }
        }
        false
    }

    /// Counts a newcomer in at the process's table, if that has room for it.
    fn enter_table(&self, service: u8) -> bool {
        match &self.parking {
            Parking::Sends(tables, _) if self.services[usize::from(service)].may_park() => {
                self.io.table.enter_below(tables.shared_parkable_max())
            }
            _ => self.io.table.enter(),
        }
    }

    /// A parking shard that has room for a connection of this service, which is counted in there.
    fn place_elsewhere(&self, service: u8) -> Option<usize> {
        match &self.parking {
            Parking::Sends(tables, _) if self.services[usize::from(service)].may_park() => {
                tables.park()
            }
            _ => None,
        }
    }

    /// Hands newcomers over to the parking shards that have room for them; false while one of those
    /// is behind.
    fn hand_over(&mut self) -> bool {
        let Parking::Sends(tables, ways) = &self.parking else { return true };
        while let Some((place, _)) = self.leaving.first() {
            let place = *place;
            let count = self.leaving.iter().take_while(|(other, _)| *other == place).count();
            let mut newcomers: Vec<_> = self.leaving.drain(..count).map(|(_, one)| one).collect();
            let sent = ways[place].send(&mut newcomers);
            let is_behind =
                sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            if let (Err(error), false) = (sent, is_behind) {
                tracing::error!(%error, "connections cannot be handed over");
                for Newcomer { peer, .. } in newcomers.drain(..) {
                    tables.private[place].leave();
                    self.io.census.leave(peer);
                }
            }
            let left = newcomers.into_iter().map(|newcomer| (place, newcomer));
            self.leaving.splice(..0, left);
            if is_behind {
                return false;
            }
        }
        true
    }

    /// Takes over what others have no room for.
    fn take_over(&mut self) {
        loop {
            let Parking::Takes(handover) = &self.parking else { return };
            match handover.take() {
                Ok(newcomers) if newcomers.is_empty() => return,
                Ok(newcomers) => {
                    for Newcomer { socket, peer, service } in newcomers {
                        self.admit(Connection::new(socket, peer, service));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::error!(%error, "connections could not be taken over");
                    return;
                }
            }
        }
    }

    fn refuse(&self, service: u8, socket: &std::net::TcpStream, why: Refusal) {
        self.io.counters.refused.add(1);
        let mut words = Vec::new();
        self.services[usize::from(service)].refuse(why, &mut words);
        farewell(socket, &words);
    }

    /// Takes a newcomer in. Its first request is often there already and is read at once; a
    /// connection that this finishes never meets epoll.
    fn admit(&mut self, conn: Connection) {
        self.io.counters.accepted.add(1);
        let key = self.io.slab.insert(|_, _| conn);
        self.read(key, false);
        if self.io.get(key).is_some() {
            self.io.register(key);
        } else {
            self.io.counters.unregistered.add(1);
        }
    }

    /// Reads what has arrived and serves it; `closed` when the kernel said that the peer's end has
    /// come.
    fn read(&mut self, key: Key, closed: bool) {
        let mut budget = self.io.settings.limits.read_turn_bytes_max;
        let Some(conn) = self.io.get(key) else { return };
        if closed {
            conn.flags |= flag::END_SEEN;
        }
        if conn.has(flag::LINGERING) {
            return self.discard(key);
        }
        if conn.has(flag::CLOSING) {
            conn.flags |= flag::LINGERS; // It sent more, which will not be read.
        }
        loop {
            let Some(conn) = self.io.get(key) else { return };
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
        self.tell_end(key);
        if self.io.end_run() != Some(key) {
            self.io.settle(key);
        }
    }

    /// Tells the service that has something of its own for the connection that its peer will send
    /// nothing more.
    fn tell_end(&mut self, key: Key) {
        let Some(conn) = self.io.get(key) else { return };
        if !conn.has(flag::END_SEEN | flag::PEER_DONE) {
            return;
        }
        conn.tell_watchers();
        if !conn.has(flag::END_TOLD) && conn.slot != NO_SLOT {
            conn.flags |= flag::END_TOLD;
            let (service, slot) = (usize::from(conn.listener), conn.slot);
            self.services[service].peer_done(slot, &mut Conns { io: &mut self.io });
        }
    }

    /// Drops what has arrived from a peer that has had its answer.
    fn discard(&mut self, key: Key) {
        let limits = &self.io.settings.limits;
        let (mut budget, bytes_max) = (limits.read_turn_bytes_max, limits.linger_bytes_max);
        let Some(conn) = self.io.slab.get_mut(key.0, key.1) else { return };
        loop {
            match (&conn.socket).read(&mut self.buffer) {
                Ok(0) => conn.flags |= flag::PEER_DONE,
                Ok(count) => {
                    self.io.counters.bytes_in.add(count as u64);
                    let busy = conn.busy_mut();
                    busy.grown += count;
                    budget = budget.saturating_sub(count);
                    if busy.grown > bytes_max {
                        conn.flags |= flag::BROKEN;
                    } else if budget == 0 {
                        self.io.again.push(key);
                        break;
                    } else {
                        continue;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => conn.flags |= flag::BROKEN,
            }
            break;
        }
        self.io.settle(key);
    }

    /// Shows the service what the last read brought, behind what was left of earlier ones, and keeps
    /// what it does not take. A `count` of 0 looks at what was left once more.
    fn receive(&mut self, key: Key, count: usize) {
        let Some(conn) = self.io.get(key) else { return };
        let service = conn.listener;
        if conn.has(flag::BODY) {
            conn.busy_mut().grown += count;
        }
        let mut spilled = None;
        if conn.spill_bytes() > 0 {
            let busy = conn.busy_mut();
            busy.spill.extend_from_slice(&self.buffer[..count]);
            if busy.spill.len() < busy.need {
                return;
            }
            spilled = Some(std::mem::take(&mut busy.spill));
        }
        let input = spilled.as_deref().unwrap_or(&self.buffer[..count]);
        self.io.receiving = Some(key);
        let mut conn = Conn { io: &mut self.io, key };
        let received = self.services[usize::from(service)].receive(input, &mut conn);
        self.io.receiving = None;
        if received.used == input.len() {
            if spilled.is_some() {
                // What was left is gone, and with it what was known about it.
                self.io.unspill(key);
            }
            return;
        }

        let seconds = received.need as u64 / 1024;
        let patience = self.io.settings.limits.request_head_timeout;
        let mut patience = patience + Duration::from_secs(seconds);
        if self.io.draining {
            patience = patience.min(LAST_WORDS);
        }
        let (patience, tick) = (ticks(patience), self.io.tick);
        let Some(conn) = self.io.get(key) else { return };
        if conn.has(flag::CLOSING) {
            conn.flags |= flag::LINGERS;
            return;
        }
        let has_body = conn.has(flag::BODY);
        let busy = conn.busy_mut();
        // More of the same request does not make its time longer; a pause does.
        if spilled.is_none() || received.used > 0 || count == 0 {
            busy.request_started = tick;
        }
        if !has_body {
            busy.request_deadline = busy.request_started + patience;
        }
        (busy.need, busy.seen) = (received.need, received.seen);
        busy.spill = match spilled {
            Some(mut bytes) => {
                bytes.drain(..received.used);
                bytes
            }
            None => self.buffer[received.used..count].to_vec(),
        };
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
        due.shrink_to(KEPT_MAX);
        self.due = due;
    }

    /// A connection's deadline has come: end it, unless it is only waiting for us.
    fn time_out(&mut self, slot: u32) {
        let id = self.io.slab.generation(slot).map(|generation| (slot, generation));
        let Some((key, conn)) = id.and_then(|key| Some((key, self.io.slab.at_mut(slot)?))) else {
            return;
        };
        let tick = self.io.tick;
        let service = usize::from(conn.listener);
        let is_upgraded = conn.has(flag::UPGRADED);
        let is_late = conn.busy.as_ref().is_some_and(|busy| busy.request_deadline <= tick);
        if conn.has(flag::LINGERING) {
            self.io.close(key);
        } else if conn.outbox_bytes() > 0 {
            if self.io.reads_on(key) {
                return self.io.settle(key);
            }
            self.io.close_slow_reader(key);
        } else if conn.is_partial() && is_late && !conn.has(flag::PAUSED | flag::CLOSING) {
            let limits = &self.io.settings.limits;
            let mut limit = limits.request_head_timeout;
            if conn.has(flag::BODY) {
                limit = limits.request_body_timeout;
                if self.io.grows_on(key) {
                    return self.io.settle(key);
                }
            }
            self.io.counters.request_timeouts.add(1);
            let mut words = Vec::new();
            if !is_upgraded {
                self.services[service].too_slow(limit, &mut words);
            }
            self.io.close_with(key, &words);
        } else if conn.in_flight() > 0 || conn.has(flag::PAUSED) || conn.is_partial() {
            self.io.settle(key);
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
            Letter::Part(to, bytes, is_last) => self.io.part(to, &bytes, is_last),
            Letter::Parting(parting) => self.io.part_with(*parting),
            Letter::Drained(to, sender) => self.io.when_drained(to, sender),
            Letter::Watch(to, watch) => self.io.watch(to, watch),
            Letter::Send(id, bytes) => self.io.send(id, &bytes),
            Letter::Tell(service, message) => {
                if let Some(service) = self.services.get_mut(usize::from(service)) {
                    service.told(message, &mut Conns { io: &mut self.io });
                }
            }
            Letter::Close(id) => self.io.close_after_replies(id),
            Letter::Settings(settings) => self.io.settings = settings,
            Letter::Trim(to) => return Course::Trim(to),
            Letter::Shutdown => self.drain(),
            Letter::Stop => return Course::Ended,
        }
        Course::On
    }

    /// Gives back what is kept to be used again, and is not in use.
    fn trim(&mut self) {
        for service in &mut self.services {
            service.trim();
        }
        self.io.trim();
        self.mailbox.trim();
        self.due = Vec::new();
        self.leaving.shrink_to_fit();
        self.accept_again.shrink_to_fit();
    }

    /// Stops accepting and lets go of everybody who waits for nothing. Newcomers that the kernel
    /// has taken already, and requests that have arrived already, are still served.
    fn drain(&mut self) {
        self.take_over();
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
        self.mailbox.accepts_no_more();
        self.io.draining = true;
        for (slot, generation) in self.io.slab.keys() {
            let key = (slot, generation);
            self.read(key, false);
            self.hurry(key);
        }
        for service in &mut self.services {
            service.draining(&mut Conns { io: &mut self.io });
        }
        // What was read just now must not wait for something else to wake the shard.
        self.pass_on();
    }

    /// A request that has arrived in part may delay the end only for [`LAST_WORDS`].
    fn hurry(&mut self, key: Key) {
        let latest = self.io.tick + ticks(LAST_WORDS);
        let Some(conn) = self.io.get(key) else { return };
        conn.tell_watchers();
        if conn.is_partial() {
            let busy = conn.busy_mut();
            busy.request_deadline = busy.request_deadline.min(latest);
            self.io.settle(key);
        } else if conn.has(flag::LINGERING) {
            self.io.wheel.set(&mut self.io.slab, key.0, latest);
        }
    }

    fn end(mut self) {
        self.mailbox.accepts_no_more();
        self.mailbox.close();
        for (slot, generation) in self.io.slab.keys() {
            self.io.close((slot, generation));
        }
        let _ = self.release();
    }
}
