//! [`Worker`]: one thread's share of the connections and the loop that keeps them busy.
//!
//! Its loop allocates nothing while answers come whole: requests were encoded once, one buffer
//! receives for all connections, and each connection is one record in a vector.

use std::io::{self, Read, Write};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::dialer::{Demand, Dialer};
use crate::generator::{Notice, Phase, PhaseClock};
use crate::outcome::{Errors, Kind, latencies};
use crate::plan::{Extent, Plan};
use crate::protocol::{Protocol, Reply};

/// Connections of a thread that are being opened at the same time. Fewer than any server's backlog,
/// and each counts as opening until its first answer, so that a backlog never overflows.
const OPENING_MAX: usize = 128;

/// Events taken from the kernel at once.
const EVENTS_PER_TURN: usize = 1024;

/// Room for what one read brings.
const READ_BYTES: usize = 64 * 1024;

/// How long the loop sleeps at most while answers are due, so that it notices a new phase.
const TURN_MAX: Duration = Duration::from_millis(20);

/// The same while nothing is due: the next thing to happen is a new phase, and measuring has begun.
const REST_MAX: Duration = Duration::from_millis(1);

/// How often connections are looked through for answers that are late.
const LATENESS_CHECK: Duration = Duration::from_millis(250);

/// What a thread has counted.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Operations answered as expected while measured.
    pub(crate) operations: u64,
    /// Operations answered as expected at any time.
    pub(crate) answered: u64,
    pub(crate) errors: Errors,
    /// Nanoseconds, once per request, while measured.
    pub(crate) latency: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { operations: 0, answered: 0, errors: Errors::default(), latency: latencies() }
    }

    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.operations += other.operations;
        self.answered += other.answered;
        self.errors.merge(other.errors);
        self.latency.add(other.latency).expect("all histograms have the same bounds");
        self
    }
}

/// One connection. Idle exactly when `owed` is 0.
#[derive(Debug)]
struct Connection {
    stream: Option<TcpStream>,
    /// When the burst was written, or the connection begun for it.
    begun: Instant,
    /// Bytes of the burst that were not written yet.
    unsent: usize,
    /// Answers that are due.
    owed: u32,
    /// Whether an answer ever came: from then on it is no longer opening.
    has_answered: bool,
    /// The beginning of an answer whose rest is still to come.
    kept: Vec<u8>,
}

/// What became of a connection in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Answers are still due.
    Waits,
    /// The burst is answered.
    Done,
    /// An error was counted and the connection closed.
    Failed,
}

/// One thread's share of a run.
pub(crate) struct Worker<'run> {
    plan: &'run Plan,
    protocol: &'run dyn Protocol,
    clock: &'run PhaseClock,
    notify: Sender<Notice>,
    dialer: Dialer,
    poll: Poll,
    connections: Vec<Connection>,
    /// The burst, encoded once.
    burst: Vec<u8>,
    buffer: Vec<u8>,
    phase: Phase,
    /// Bursts still to begin while measured; `None` when time decides.
    bursts_left: Option<u64>,
    /// Errors this thread may count before it gives up.
    errors_max: u64,
    /// Connections that failed and were not opened again yet.
    failed: Vec<usize>,
    /// Connections never opened yet start here.
    next_to_open: usize,
    /// Connections of which the first answer is due.
    opening: usize,
    /// Connections of which any answer is due.
    busy: usize,
    tally: Tally,
}

impl<'run> Worker<'run> {
    /// The thread number `index` of the plan, with its event loop but no connection yet.
    pub(crate) fn new(
        plan: &'run Plan,
        index: usize,
        protocol: &'run dyn Protocol,
        clock: &'run PhaseClock,
        notify: Sender<Notice>,
    ) -> io::Result<Self> {
        let threads = plan.threads.min(plan.connections);
        let share = |total: usize| total / threads + usize::from(index < total % threads);
        let connections = share(plan.connections);
        let demand =
            if plan.connection_per_burst { Demand::Short } else { Demand::Kept(connections) };
        let bursts_left = match plan.extent {
            Extent::Time { .. } => None,
            Extent::Requests { count, .. } => {
                let bursts = count.div_ceil(u64::from(plan.pipeline));
                let threads = threads as u64;
                Some(bursts / threads + u64::from((index as u64) < bursts % threads))
            }
        };
        let mut burst = Vec::new();
        for _ in 0..plan.pipeline {
            protocol.encode(&mut burst);
        }
        let unopened = || Connection {
            stream: None,
            begun: Instant::now(),
            unsent: 0,
            owed: 0,
            has_answered: false,
            kept: Vec::new(),
        };
        Ok(Self {
            plan,
            protocol,
            clock,
            notify,
            dialer: Dialer::new(plan.target, demand, index),
            poll: Poll::new()?,
            connections: (0..connections).map(|_| unopened()).collect(),
            burst,
            buffer: vec![0; READ_BYTES],
            phase: Phase::Opening,
            bursts_left,
            errors_max: plan.errors_max / threads as u64,
            failed: Vec::new(),
            next_to_open: 0,
            opening: 0,
            busy: 0,
            tally: Tally::new(),
        })
    }

    /// Runs until the clock says drain and all is answered or late.
    pub(crate) fn run(mut self) -> Tally {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut next_lateness_check = Instant::now() + LATENESS_CHECK;
        // A connection of its own for each burst leaves nothing to open beforehand.
        let mut is_opened = self.plan.connection_per_burst;
        if is_opened {
            self.next_to_open = self.connections.len();
            self.tell(Notice::Opened);
        }
        let mut is_finished = false;
        loop {
            self.follow_clock();
            self.revive();
            if !is_opened {
                self.open_more();
                if self.opening == 0
                    && self.failed.is_empty()
                    && self.next_to_open == self.connections.len()
                {
                    is_opened = true;
                    self.tell(Notice::Opened);
                }
            }
            if !is_finished && (self.has_given_up() || self.has_spent_its_requests()) {
                is_finished = true;
                self.tell(Notice::Finished);
            }
            if self.phase == Phase::Drain && (self.busy == 0 || self.has_given_up()) {
                return self.tally;
            }
            if let Err(error) = self.turn(&mut events) {
                let errors = &mut self.tally.errors;
                errors.count(Kind::Closed, || format!("the event loop failed: {error}"));
                self.tell(Notice::Finished);
                return self.tally;
            }
            let now = Instant::now();
            if now >= next_lateness_check {
                next_lateness_check = now + LATENESS_CHECK;
                self.fail_late_connections(now);
            }
        }
    }

    /// Takes every event that is ready and serves it.
    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = if self.busy == 0 { REST_MAX } else { TURN_MAX };
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &*events {
            let Token(index) = event.token();
            if event.is_writable() && self.connections[index].unsent > 0 {
                self.write(index);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.read(index, event.is_read_closed() || event.is_error());
            }
        }
        Ok(())
    }

    /// Moves to the clock's phase; all connections that rest begin when there is something to do.
    fn follow_clock(&mut self) {
        let phase = self.clock.get();
        if phase == self.phase {
            return;
        }
        let rested = self.phase == Phase::Opening;
        self.phase = phase;
        if rested && phase < Phase::Drain {
            self.failed.clear();
            let now = Instant::now();
            for index in 0..self.connections.len() {
                self.begin_next(index, now);
            }
        }
    }

    fn open_more(&mut self) {
        let now = Instant::now();
        while self.opening < OPENING_MAX
            && self.next_to_open < self.connections.len()
            && !self.has_given_up()
        {
            self.next_to_open += 1;
            self.begin(self.next_to_open - 1, now);
        }
    }

    fn tell(&self, notice: Notice) {
        // Nobody listens any more once the run is being ended; then the clock says so too.
        let _ = self.notify.send(notice);
    }

    fn has_given_up(&self) -> bool {
        self.tally.errors.total() > self.errors_max
    }

    fn has_spent_its_requests(&self) -> bool {
        self.phase == Phase::Measured && self.bursts_left == Some(0) && self.busy == 0
    }

    /// Begins the next burst on a connection that rests, if the phase has one for it.
    fn begin_next(&mut self, index: usize, now: Instant) {
        if !matches!(self.phase, Phase::WarmUp | Phase::Measured) || self.has_given_up() {
            return;
        }
        match &mut self.bursts_left {
            Some(0) => return,
            Some(left) if self.phase == Phase::Measured => *left -= 1,
            _ => {}
        }
        self.begin(index, now);
    }

    /// Sends a burst on connection `index`, which rests; opens it first when it is not open.
    fn begin(&mut self, index: usize, now: Instant) {
        let connection = &mut self.connections[index];
        connection.begun = now;
        connection.unsent = self.burst.len();
        connection.owed = self.plan.pipeline;
        self.busy += 1;
        self.opening += usize::from(!connection.has_answered);
        if connection.stream.is_some() {
            self.write(index);
        } else {
            self.connect(index);
        }
    }

    /// Opens connection `index` and sends what it can at once: on the loopback a connection is
    /// often established when `connect` returns.
    fn connect(&mut self, index: usize) {
        let opened = self.dialer.begin().and_then(|stream| {
            let stream = TcpStream::from_std(stream);
            if !self.plan.connection_per_burst {
                stream.set_nodelay(true)?;
            }
            Ok(stream)
        });
        match opened {
            Err(error) => self.fail(index, Kind::Connect, || format!("connecting: {error}")),
            Ok(stream) => {
                self.connections[index].stream = Some(stream);
                if self.write(index) != Step::Failed {
                    self.register(index);
                }
            }
        }
    }

    /// Asks for the events of a connection, after its first write: then the kernel has only the
    /// answer to tell, and tells at once if it is there already.
    fn register(&mut self, index: usize) {
        let Some(stream) = &mut self.connections[index].stream else {
            return;
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(stream, Token(index), interest) {
            self.fail(index, Kind::Connect, || format!("registering: {error}"));
        }
    }

    /// Writes what is unsent of the burst, as far as the kernel takes it.
    fn write(&mut self, index: usize) -> Step {
        let connection = &mut self.connections[index];
        let Some(stream) = &mut connection.stream else {
            return Step::Failed;
        };
        while connection.unsent > 0 {
            match stream.write(&self.burst[self.burst.len() - connection.unsent..]) {
                Ok(bytes) => connection.unsent -= bytes,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    // Not connected yet is one more way of not yet.
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => break,
                    _ => {
                        let kind =
                            if connection.has_answered { Kind::Closed } else { Kind::Connect };
                        self.fail(index, kind, || format!("sending: {error}"));
                        return Step::Failed;
                    }
                },
            }
        }
        Step::Waits
    }

    /// Reads what has arrived and, when the burst is answered, begins the next.
    fn read(&mut self, index: usize, until_end: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let step = self.read_into(&mut buffer, index, until_end);
        self.buffer = buffer;
        if step == Step::Done {
            self.finish_burst(index);
        }
    }

    fn read_into(&mut self, buffer: &mut [u8], index: usize, until_end: bool) -> Step {
        loop {
            let Some(stream) = &mut self.connections[index].stream else {
                return Step::Failed;
            };
            match stream.read(buffer) {
                Ok(0) => {
                    self.fail(index, Kind::Closed, || "closed by the server".to_owned());
                    return Step::Failed;
                }
                Ok(bytes) => {
                    let step = self.receive(index, &buffer[..bytes]);
                    // A short read has emptied the socket, and what comes later is a new event;
                    // only the end of the stream came with this one.
                    if step != Step::Waits || (bytes < buffer.len() && !until_end) {
                        return step;
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return Step::Waits,
                    _ => {
                        self.fail(index, Kind::Closed, || format!("receiving: {error}"));
                        return Step::Failed;
                    }
                },
            }
        }
    }

    /// Counts the answers in `input`, which follows what was kept of the connection.
    fn receive(&mut self, index: usize, input: &[u8]) -> Step {
        let mut kept = std::mem::take(&mut self.connections[index].kept);
        let whole = if kept.is_empty() {
            input
        } else {
            kept.extend_from_slice(input);
            &kept
        };
        let mut at = 0;
        let mut expected = 0;
        loop {
            let rest = &whole[at..];
            let owed = self.connections[index].owed;
            match self.protocol.reply(rest) {
                Reply::Incomplete => break,
                Reply::Expected { bytes } if owed > 0 => {
                    at += bytes;
                    expected += 1;
                }
                Reply::Unexpected { bytes } if owed > 0 => {
                    at += bytes;
                    let errors = &mut self.tally.errors;
                    errors.count(Kind::Unexpected, || describe("answered", &rest[..bytes]));
                }
                Reply::Expected { bytes } | Reply::Unexpected { bytes } => {
                    self.count_expected(expected);
                    let answer = &rest[..bytes];
                    self.fail(index, Kind::Unexpected, || describe("unasked", answer));
                    return Step::Failed;
                }
            }
            self.connections[index].owed -= 1;
        }
        self.count_expected(expected);
        let is_done = self.connections[index].owed == 0 && at == whole.len();
        if kept.is_empty() {
            kept.extend_from_slice(&input[at..]);
        } else {
            kept.drain(..at);
        }
        self.connections[index].kept = kept;
        if is_done { Step::Done } else { Step::Waits }
    }

    fn count_expected(&mut self, requests: u64) {
        let operations = requests * self.protocol.operations();
        self.tally.answered += operations;
        if self.phase == Phase::Measured {
            self.tally.operations += operations;
        }
    }

    /// The burst of connection `index` is answered: notes how long it took and begins the next.
    fn finish_burst(&mut self, index: usize) {
        let now = Instant::now();
        let connection = &mut self.connections[index];
        if self.phase == Phase::Measured {
            let nanoseconds = now.duration_since(connection.begun).as_nanos();
            let nanoseconds = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
            let requests = u64::from(self.plan.pipeline);
            self.tally.latency.saturating_record_n(nanoseconds, requests);
        }
        self.busy -= 1;
        self.opening -= usize::from(!connection.has_answered);
        connection.has_answered = true;
        if self.plan.connection_per_burst {
            connection.stream = None;
        }
        self.begin_next(index, now);
    }

    /// Counts an error and closes the connection; the loop opens it again when there is still work.
    fn fail(&mut self, index: usize, kind: Kind, describe: impl FnOnce() -> String) {
        self.tally.errors.count(kind, describe);
        let connection = &mut self.connections[index];
        connection.stream = None;
        connection.kept.clear();
        connection.unsent = 0;
        if connection.owed > 0 {
            connection.owed = 0;
            self.busy -= 1;
            self.opening -= usize::from(!connection.has_answered);
        }
        self.failed.push(index);
    }

    /// Gives connections that failed since the last turn their next burst. Not at once when they
    /// fail: a server that refuses would be asked again and again from within the asking.
    fn revive(&mut self) {
        if self.failed.is_empty() {
            return;
        }
        let now = Instant::now();
        for index in std::mem::take(&mut self.failed) {
            if self.phase != Phase::Opening {
                self.begin_next(index, now);
            } else if !self.has_given_up() {
                self.begin(index, now);
            }
        }
    }

    fn fail_late_connections(&mut self, now: Instant) {
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            let owed = connection.owed;
            let waited = now.saturating_duration_since(connection.begun);
            if owed > 0 && waited > self.plan.reply_timeout {
                self.fail(index, Kind::Timeout, || {
                    format!("{owed} answers were due for {:.1} s", waited.as_secs_f64())
                });
            }
        }
    }
}

/// An answer in words, cut to what fits a line.
fn describe(what: &str, answer: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 120;
    let shown = &answer[..answer.len().min(SHOWN_BYTES_MAX)];
    format!("{what}: {:?}", String::from_utf8_lossy(shown))
}
