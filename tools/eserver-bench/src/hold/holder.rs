//! [`Holder`]: a thread with a descriptor table of its own, and the connections in it.
//!
//! The limit of descriptors bounds a table, not a process, so as many holders as are needed hold a
//! million connections where each may have twenty thousand. What was open when the table was copied
//! stays open in it: the conductor makes all event loops and their wakers first, and opens nothing
//! of its own until every holder has said that it is [`Ready`].
//!
//! A holder sleeps in its event loop until something arrives or the conductor wakes it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use eserver_wire::ws::{Opcode, Scratch, encode_masked_frame};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sched::{CloneFlags, unshare};

use crate::dialer::{Demand, Dialer};
use crate::hold::connection::{Arrival, Connection, Stage};
use crate::hold::plan::HoldPlan;
use crate::hold::profile::{Framing, Heard, Profile, shown};
use crate::hold::publication::{Publication, Published};
use crate::hold::reader::{Found, Leftover, read};
use crate::hold::tally::{Counters, Tally};

/// The event of the conductor's waker; every other is the number of a connection.
pub(crate) const WAKE: Token = Token(usize::MAX);

/// Events taken from the kernel at once.
const EVENTS_PER_TURN: usize = 1024;

/// Room for what one read brings, for all connections of a holder.
const READ_BYTES: usize = 64 * 1024;

/// Connections begun between two looks at what has arrived.
const OPENED_PER_TURN: usize = 256;

/// How long a holder sleeps at most while its connections are due at a certain rate.
const RAMP_TURN_MAX: Duration = Duration::from_millis(5);

/// What the conductor wants.
#[derive(Debug)]
pub(crate) enum Command {
    /// Have this many connections, begun at this rate.
    Open { upto: usize, rate_per_s: Option<f64> },
    /// Say what was counted, and which of these ordinals, as bits, did not arrive.
    Harvest { published: Published, ordinals: u64 },
    /// Close all, and be as new.
    Close,
}

/// What a holder says to the conductor.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The table is the holder's own, or could not be.
    Ready(nix::Result<()>),
    /// The answer to [`Command::Harvest`].
    Harvest(Box<Tally>),
    /// The answer to [`Command::Close`].
    Closed,
}

/// What all holders of a run know.
#[derive(Debug)]
pub(crate) struct Run<'run> {
    pub(crate) plan: &'run HoldPlan,
    /// Tells the messages of this run from others.
    pub(crate) id: u32,
    /// What times are counted from.
    pub(crate) start: Instant,
}

impl Run<'_> {
    /// The channel of connection `index`, of all connections.
    pub(crate) fn channel_of(&self, index: usize) -> u32 {
        let channel = index % self.plan.channel_count();
        u32::try_from(channel).expect("the plan bounds the connections")
    }

    /// Writes the name of a channel.
    pub(crate) fn write_name(&self, channel: u32, name: &mut String) {
        use std::fmt::Write;
        name.clear();
        write!(name, "{}{channel}", self.plan.prefix).expect("a string takes whatever is written");
    }
}

/// One thread's share of the connections.
pub(crate) struct Holder<'run> {
    run: &'run Run<'run>,
    counters: &'run Counters,
    poll: &'run mut Poll,
    commands: Receiver<Command>,
    notices: Sender<Notice>,
    dialer: Dialer,
    /// The number of its first connection among all.
    first: usize,
    connections: Vec<Connection>,
    leftovers: HashMap<usize, Leftover>,
    buffer: Vec<u8>,
    scratch: Scratch,
    request: String,
    name: String,
    /// Connections to have begun, and how many of them were.
    upto: usize,
    begun: usize,
    /// The rate to begin them at, since when, and how many were begun before.
    ramp: Option<(f64, Instant, usize)>,
    /// Connections begun that do not wait for messages yet.
    opening: usize,
    tally: Tally,
}

impl<'run> Holder<'run> {
    /// The holder number `index`, with `share` connections from number `first` on.
    pub(crate) fn new(
        run: &'run Run<'run>,
        (index, first, share): (usize, usize, usize),
        counters: &'run Counters,
        poll: &'run mut Poll,
        commands: Receiver<Command>,
        notices: Sender<Notice>,
    ) -> Self {
        Self {
            run,
            counters,
            poll,
            commands,
            notices,
            dialer: Dialer::new(run.plan.front, Demand::Held(share), index),
            first,
            connections: (0..share).map(|_| Connection::new()).collect(),
            leftovers: HashMap::new(),
            buffer: vec![0; READ_BYTES],
            scratch: Scratch::default(),
            request: String::new(),
            name: String::new(),
            upto: 0,
            begun: 0,
            ramp: None,
            opening: 0,
            tally: Tally::new(),
        }
    }

    /// Runs until the conductor hangs up.
    pub(crate) fn run(mut self) {
        let unshared = unshare(CloneFlags::CLONE_FILES);
        self.tell(Notice::Ready(unshared));
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            loop {
                match self.commands.try_recv() {
                    Ok(command) => self.obey(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            let patience = self.open_more();
            if let Err(error) = self.turn(&mut events, patience) {
                self.note_error(|| format!("the event loop failed: {error}"));
                return;
            }
            let (coalesce, taken) = (self.run.plan.coalesce, events.iter().count());
            let is_busy = (1..EVENTS_PER_TURN).contains(&taken) && self.begun == self.upto;
            if !coalesce.is_zero() && is_busy {
                thread::sleep(coalesce);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Open { upto, rate_per_s } => {
                self.upto = upto.min(self.connections.len());
                self.ramp = rate_per_s.map(|rate| (rate, Instant::now(), self.begun));
            }
            Command::Harvest { published, ordinals } => {
                let tally = self.harvest(&published, ordinals);
                self.tell(Notice::Harvest(Box::new(tally)));
            }
            Command::Close => {
                for connection in &mut self.connections {
                    *connection = Connection::new();
                }
                self.leftovers.clear();
                (self.upto, self.begun, self.opening) = (0, 0, 0);
                self.tell(Notice::Closed);
            }
        }
    }

    fn harvest(&mut self, published: &Published, ordinals: u64) -> Tally {
        let mut tally = std::mem::replace(&mut self.tally, Tally::new());
        let held = self.connections.iter().enumerate().filter(|(_, connection)| connection.is_held);
        for (index, connection) in held {
            let due = published.due(self.run.channel_of(self.first + index)) & ordinals;
            let deliveries = &mut tally.deliveries;
            deliveries.expected += u64::from(due.count_ones());
            deliveries.delivered += u64::from((due & connection.arrived).count_ones());
            deliveries.lost += u64::from((due & !connection.arrived).count_ones());
        }
        tally
    }

    fn tell(&self, notice: Notice) {
        // The conductor may have given up; then it hangs up as well.
        let _ = self.notices.send(notice);
    }

    fn note_error(&mut self, describe: impl FnOnce() -> String) {
        self.tally.first_error.get_or_insert_with(describe);
    }

    /// Begins what is due and returns how long to sleep at most.
    fn open_more(&mut self) -> Option<Duration> {
        let before_this_turn = self.begun;
        while self.begun < self.upto && self.opening < self.run.plan.opening_max {
            if let Some((rate, since, before)) = self.ramp {
                let due = rate * since.elapsed().as_secs_f64();
                if (self.begun - before) as f64 >= due {
                    let turn_s = (1.0 / rate).min(RAMP_TURN_MAX.as_secs_f64());
                    return Some(Duration::from_secs_f64(turn_s));
                }
            }
            if self.begun - before_this_turn == OPENED_PER_TURN {
                return Some(Duration::ZERO); // those that were opened, and the conductor, first
            }
            self.begun += 1;
            Counters::add(&self.counters.begun, 1);
            self.open(self.begun - 1);
        }
        None
    }

    /// Begins a connection and sends its request at once: on the loopback it is often established
    /// when `connect` returns.
    fn open(&mut self, index: usize) {
        self.opening += 1;
        match self.dialer.begin() {
            Err(error) => self.fail(index, || format!("connecting: {error}")),
            Ok(stream) => {
                let framing = self.run.plan.profile.framing();
                let connection = &mut self.connections[index];
                connection.stage =
                    if framing == Framing::Silence { Stage::Silence } else { Stage::Head };
                connection.stream = Some(stream);
                let is_sent = self.subscribe(index);
                let is_connected = framing != Framing::Silence || self.is_connected(index);
                self.register(index, is_sent && is_connected);
            }
        }
    }

    /// Asks for a connection's events, after its first write: then the kernel has only the answer to
    /// tell, and tells at once if it is there already.
    fn register(&mut self, index: usize, is_sent: bool) {
        let interest =
            if is_sent { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        let Some(stream) = &self.connections[index].stream else {
            return; // it has failed already
        };
        let descriptor = stream.as_raw_fd();
        let registered =
            self.poll.registry().register(&mut SourceFd(&descriptor), Token(index), interest);
        if let Err(error) = registered {
            self.fail(index, || format!("registering: {error}"));
        } else if is_sent && !self.waits_for_an_answer(index) {
            self.hold(index);
        }
    }

    /// Whether more has to come before this connection counts as held.
    fn waits_for_an_answer(&self, index: usize) -> bool {
        let profile = &self.run.plan.profile;
        match profile.framing() {
            Framing::Silence => false,
            // The second poll of icomet's kind and the first of nchan's wait until something
            // happens; that they were sent is all there is to know.
            Framing::Polls => profile.first_poll_returns() && self.connections[index].cursor == 0,
            Framing::Events | Framing::Frames => true,
        }
    }

    fn is_connected(&self, index: usize) -> bool {
        let stream = self.connections[index].stream.as_ref();
        stream.is_some_and(|stream| stream.peer_addr().is_ok())
    }

    fn hold(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.is_held && connection.stream.is_some() {
            connection.is_held = true;
            self.opening -= 1;
            Counters::add(&self.counters.held, 1);
        }
    }

    /// Sends a connection's next request; whether all of it has left.
    fn subscribe(&mut self, index: usize) -> bool {
        let channel = self.run.channel_of(self.first + index);
        self.run.write_name(channel, &mut self.name);
        self.request.clear();
        let (plan, cursor) = (self.run.plan, self.connections[index].cursor);
        plan.profile.subscribe(&self.name, cursor, plan.front, &mut self.request);
        let mut request = std::mem::take(&mut self.request);
        let is_sent = self.send(index, request.as_bytes());
        request.clear();
        self.request = request;
        is_sent
    }

    /// Sends bytes on a connection, behind what is unsent; whether all of them have left.
    fn send(&mut self, index: usize, bytes: &[u8]) -> bool {
        if let Some(leftover) =
            self.leftovers.get_mut(&index).filter(|left| !left.unsent.is_empty())
        {
            leftover.unsent.extend_from_slice(bytes);
            return false;
        }
        match self.write(index, bytes) {
            None => true, // it has failed
            Some(written) if written == bytes.len() => true,
            Some(written) => {
                let leftover = self.leftovers.entry(index).or_default();
                leftover.unsent.extend_from_slice(&bytes[written..]);
                false
            }
        }
    }

    /// Writes as much as the kernel takes, or `None` if the connection has failed.
    fn write(&mut self, index: usize, bytes: &[u8]) -> Option<usize> {
        let mut written = 0;
        while written < bytes.len() {
            let stream = self.connections[index].stream.as_mut()?;
            match stream.write(&bytes[written..]) {
                Ok(more) => written += more,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    // Not connected yet is one more way of not yet.
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => break,
                    _ => {
                        self.fail(index, || format!("sending: {error}"));
                        return None;
                    }
                },
            }
        }
        Some(written)
    }

    /// Takes every event that is ready and serves it.
    fn turn(&mut self, events: &mut Events, patience: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, patience) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in events.iter().filter(|event| event.token() != WAKE) {
            let Token(index) = event.token();
            if event.is_writable() {
                self.writable(index);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.readable(index, event.is_read_closed() || event.is_error());
            }
        }
        Ok(())
    }

    fn writable(&mut self, index: usize) {
        if let Some(leftover) = self.leftovers.get_mut(&index) {
            let unsent = std::mem::take(&mut leftover.unsent);
            if leftover.is_empty() {
                self.leftovers.remove(&index);
            }
            if !unsent.is_empty() && !self.send(index, &unsent) {
                return;
            }
        }
        let is_bare = self.run.plan.profile.framing() == Framing::Silence;
        if (!is_bare || self.is_connected(index)) && !self.waits_for_an_answer(index) {
            self.hold(index);
        }
    }

    /// Reads what has arrived on a connection.
    fn readable(&mut self, index: usize, until_end: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(stream) = &mut self.connections[index].stream {
            match stream.read(&mut buffer) {
                Ok(0) => {
                    self.fail(index, || "closed by the server".to_owned());
                    break;
                }
                Ok(bytes) => {
                    Counters::add(&self.counters.received_bytes, bytes as u64);
                    self.receive(index, &buffer[..bytes]);
                    // A short read has emptied the socket, and what comes later is a new event;
                    // only the end of the stream came with this one.
                    if bytes < buffer.len() && !until_end {
                        break;
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => break,
                    _ => {
                        self.fail(index, || format!("receiving: {error}"));
                        break;
                    }
                },
            }
        }
        self.buffer = buffer;
    }

    fn receive(&mut self, index: usize, input: &[u8]) {
        let mut leftover = self.leftovers.remove(&index).unwrap_or_default();
        let mut hearing = Hearing {
            run: self.run,
            channel: self.run.channel_of(self.first + index),
            now: self.run.start.elapsed(),
            tally: &mut self.tally,
            arrived: 0,
            is_accepted: false,
            is_answered: false,
            refusal: None,
            pongs: Vec::new(),
        };
        let connection = &mut self.connections[index];
        let profile = &self.run.plan.profile;
        let scratch = &mut self.scratch;
        let result =
            read(connection, profile, input, &mut leftover, scratch, |connection, found| {
                hearing.hear(connection, found)
            });
        let Hearing { arrived, is_accepted, is_answered, refusal, pongs, .. } = hearing;
        if arrived > 0 {
            Counters::add(&self.counters.arrived, arrived);
        }
        if !leftover.is_empty() {
            self.leftovers.insert(index, leftover);
        }
        if let Some(sentence) = refusal {
            // Asking again would be answered the same, without end.
            self.tally.deliveries.refused += 1;
            self.end(index, || sentence);
            return;
        }
        if let Err(sentence) = result {
            self.fail(index, || sentence);
            return;
        }
        let mut is_sent = true;
        if !pongs.is_empty() {
            is_sent = self.send(index, &pongs);
        }
        if is_answered {
            is_sent = self.subscribe(index);
        }
        if !is_sent {
            self.reregister(index);
        } else if (is_accepted && self.run.plan.profile.framing() != Framing::Polls)
            || (is_answered && !self.waits_for_an_answer(index))
        {
            self.hold(index);
        }
    }

    /// Asks to be told when the kernel takes more.
    fn reregister(&mut self, index: usize) {
        let Some(stream) = &self.connections[index].stream else {
            return;
        };
        let descriptor = stream.as_raw_fd();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let mut source = SourceFd(&descriptor);
        if let Err(error) = self.poll.registry().reregister(&mut source, Token(index), interest) {
            self.fail(index, || format!("registering: {error}"));
        }
    }

    /// Counts a connection that ended though it should not, and closes it.
    fn fail(&mut self, index: usize, describe: impl FnOnce() -> String) {
        if self.connections[index].stage != Stage::Gone {
            self.tally.deliveries.closed += 1;
            self.end(index, describe);
        }
    }

    /// Closes a connection before its time.
    fn end(&mut self, index: usize, describe: impl FnOnce() -> String) {
        let channel = self.run.channel_of(self.first + index);
        let connection = &mut self.connections[index];
        connection.stream = None;
        connection.stage = Stage::Gone;
        if !connection.is_held {
            self.opening -= 1;
            Counters::add(&self.counters.held, 1);
        }
        self.leftovers.remove(&index);
        Counters::add(&self.counters.gone, 1);
        let prefix = &self.run.plan.prefix;
        self.tally.first_error.get_or_insert_with(|| format!("{prefix}{channel}: {}", describe()));
    }
}

/// Takes note of what one connection hears.
struct Hearing<'a> {
    run: &'a Run<'a>,
    channel: u32,
    now: Duration,
    tally: &'a mut Tally,
    arrived: u64,
    is_accepted: bool,
    is_answered: bool,
    /// What the server said instead of accepting.
    refusal: Option<String>,
    /// Frames that answer pings.
    pongs: Vec<u8>,
}

impl Hearing<'_> {
    fn hear(&mut self, connection: &mut Connection, found: Found<'_>) -> Result<(), String> {
        match found {
            Found::Accepted => self.is_accepted = true,
            Found::Answered => self.is_answered = true,
            Found::Ping(payload) => {
                // Nobody between us and the server has to be kept from foreseeing it.
                encode_masked_frame(Opcode::Pong, payload, false, [0; 4], &mut self.pongs);
            }
            Found::Text(text) => {
                let profile: &Profile = &self.run.plan.profile;
                return profile.hear(text, |heard| self.take(connection, heard, text));
            }
        }
        Ok(())
    }

    fn take(&mut self, connection: &mut Connection, heard: Heard<'_>, text: &str) {
        match heard {
            Heard::Message { content, next } => {
                connection.cursor = next.unwrap_or(connection.cursor);
                self.take_message(connection, &content);
            }
            Heard::Next(next) => connection.cursor = next,
            Heard::Noop => self.tally.deliveries.noops += 1,
            Heard::Other => {}
            Heard::Refused => self.refusal = Some(format!("refused: {}", shown(text))),
        }
    }

    fn take_message(&mut self, connection: &mut Connection, content: &str) {
        let deliveries = &mut self.tally.deliveries;
        let Some(publication) = Publication::decode(content) else {
            deliveries.misdelivered += 1;
            let sentence = || format!("a message of nobody's: {}", shown(content));
            self.tally.first_error.get_or_insert_with(sentence);
            return;
        };
        if publication.run != self.run.id {
            return; // what the server still knew of a run before
        }
        if publication.channel.is_some_and(|channel| channel != self.channel) {
            deliveries.misdelivered += 1;
            let channel = self.channel;
            let sentence = || format!("on channel {channel}: {}", shown(content));
            self.tally.first_error.get_or_insert_with(sentence);
            return;
        }
        match connection.note(&publication) {
            Arrival::InOrder => {}
            Arrival::OutOfOrder => deliveries.out_of_order += 1,
            Arrival::Duplicate => {
                deliveries.duplicated += 1;
                return;
            }
        }
        self.arrived += 1;
        self.tally.arrive(Duration::from_micros(publication.published_us), self.now);
    }
}
