//! [`repoll`]: how soon a message reaches a poller that has just polled again.
//!
//! One connection polls, another publishes a while after the poll has left, again and again. A
//! server that leaves small segments to Nagle's algorithm, and a client whose kernel delays its
//! acknowledgements, wait for one another here, and nowhere else.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use eserver_wire::ws::Scratch;
use hdrhistogram::Histogram;

use crate::hold::connection::{Connection, Stage};
use crate::hold::profile::{Heard, Profile, shown};
use crate::hold::publisher::Lane;
use crate::hold::reader::{Found, Leftover, read};
use crate::hold::report::Milliseconds;
use crate::outcome::latencies;

/// Polls before those that count: a new connection's first acknowledgements are not delayed.
const WARM_UP: u32 = 20;

/// The channel that is polled.
const CHANNEL: &str = "repoll";

/// What one poller does.
#[derive(Debug, Clone)]
pub struct RepollPlan {
    /// Where it polls.
    pub front: SocketAddr,
    /// Where is published.
    pub admin: SocketAddr,
    /// What the server speaks; one whose subscribers poll.
    pub profile: Profile,
    /// How long after each poll is published.
    pub delay: Duration,
    /// Messages that count.
    pub messages: u32,
    /// The length of each message, in bytes.
    pub content_bytes: usize,
    /// Longest time for each answer.
    pub timeout: Duration,
}

/// Measures the time from each publication's write to the end of the answer that brings it.
///
/// # Errors
/// What the system says, or [`io::ErrorKind::InvalidData`] when the server does not answer as it
/// should.
pub fn repoll(plan: &RepollPlan) -> io::Result<Milliseconds> {
    let mut poller = Poller::connect(plan)?;
    let mut publisher = Lane::connect(plan.admin, plan.timeout)?;
    let content = "x".repeat(plan.content_bytes);
    let mut publication = String::new();
    plan.profile.publish(Some(CHANNEL), &content, plan.admin, &mut publication);
    if plan.profile.first_poll_returns() {
        poller.poll()?;
        poller.answer()?;
    }
    let mut latency: Histogram<u64> = latencies();
    for number in 0..WARM_UP + plan.messages {
        poller.poll()?;
        thread::sleep(plan.delay);
        let published = Instant::now();
        publisher.stream.write_all(publication.as_bytes())?;
        let heard = poller.answer()?;
        let waited = published.elapsed();
        if heard.as_deref() != Some(content.as_str()) {
            let heard = heard.map_or_else(|| "nothing".to_owned(), |text| shown(&text));
            return Err(invalid(format!("the poll brought {heard}")));
        }
        publisher.read()?.accepted().map_err(invalid)?;
        if number >= WARM_UP {
            latency.saturating_record(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX));
        }
    }
    Milliseconds::of(&latency).ok_or_else(|| invalid("no message was to count".to_owned()))
}

fn invalid(sentence: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, sentence)
}

/// A connection that polls and waits.
struct Poller<'plan> {
    plan: &'plan RepollPlan,
    stream: TcpStream,
    connection: Connection,
    leftover: Leftover,
    scratch: Scratch,
    request: String,
}

impl<'plan> Poller<'plan> {
    fn connect(plan: &'plan RepollPlan) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&plan.front, plan.timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(plan.timeout))?;
        Ok(Self {
            plan,
            stream,
            connection: Connection { stage: Stage::Head, ..Connection::new() },
            leftover: Leftover::default(),
            scratch: Scratch::default(),
            request: String::new(),
        })
    }

    /// Asks for what comes next.
    fn poll(&mut self) -> io::Result<()> {
        self.request.clear();
        let (plan, cursor) = (self.plan, self.connection.cursor);
        plan.profile.subscribe(CHANNEL, cursor, plan.front, &mut self.request);
        self.stream.write_all(self.request.as_bytes())
    }

    /// Waits until the poll is answered; the message in the answer, if there is one.
    fn answer(&mut self) -> io::Result<Option<String>> {
        let profile = &self.plan.profile;
        let (mut message, mut is_answered) = (None, false);
        let mut buffer = [0; 16 * 1024];
        while !is_answered {
            let bytes = match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => bytes,
            };
            let (connection, leftover) = (&mut self.connection, &mut self.leftover);
            let input = &buffer[..bytes];
            read(connection, profile, input, leftover, &mut self.scratch, |connection, found| {
                match found {
                    Found::Text(text) => profile.hear(text, |heard| match heard {
                        Heard::Message { content, next } => {
                            connection.cursor = next.unwrap_or(connection.cursor);
                            message = Some(content.into_owned());
                        }
                        Heard::Next(next) => connection.cursor = next,
                        Heard::Noop | Heard::Other | Heard::Refused => {}
                    })?,
                    Found::Answered => is_answered = true,
                    Found::Accepted | Found::Ping(_) => {}
                }
                Ok(())
            })
            .map_err(invalid)?;
        }
        Ok(message)
    }
}
