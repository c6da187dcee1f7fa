//! [`hold`]: many connections to a comet server, and whether all that is published reaches them.
//!
//! ```text
//! plan ─▶ conductor ──Command──▶ holder (a thread, a descriptor table) ◀──▶ connections ──▶ front
//!             │  ▲                  │
//!             │  └─Notice, Counters─┘
//!             └──▶ publisher ──▶ admin          observer ──▶ /proc
//! ```
//!
//! A [`HoldPlan`] says how many, how fast, and in what [`Profile`]'s words. The conductor, this
//! file, shares the connections out among as many `holder`s as their descriptors need and fills
//! one after the other, so that few threads are busy at a time. At each step the `observer` looks
//! at the server's memory and idle CPU time. Then the `publisher` sends numbered
//! `publication`s: one to one channel, some to every channel, one to all. A `connection` is a
//! record of numbers; what arrives is taken apart by the `reader` from one buffer, and each
//! connection notes which publications it has had. What was due and did not arrive, arrived twice,
//! late or at the wrong one is in the [`HoldReport`].

mod plan;
mod profile;
mod publication;

mod bare_send;
mod connection;
mod holder;
mod observer;
mod publisher;
mod reader;
mod repoll;
mod tally;

mod report;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use mio::{Poll, Waker};
use thiserror::Error;

use crate::descriptors;
use crate::hold::holder::{Command, Holder, Notice, Run, WAKE};
use crate::hold::observer::{Observer, wait_for_memory};
use crate::hold::publication::{Audience, Published};
use crate::hold::publisher::Publisher;
use crate::hold::tally::{Counters, Counts, Tally};

pub use bare_send::bare_send;
pub use observer::Sample;
pub use plan::{CONNECTIONS_MAX, HoldPlan, MESSAGES_MAX};
pub use profile::Profile;
pub use repoll::{RepollPlan, repoll};
pub use report::{
    After, BareSends, ChartLine, HoldReport, Milliseconds, Phase, PhaseKind, Round, grown,
    memory_chart,
};
pub use tally::Deliveries;

/// How often the conductor looks up.
const LOOK: Duration = Duration::from_millis(20);

/// How often whoever watches is told.
const SHOW: Duration = Duration::from_millis(100);

/// How long everybody is listened to after the last message that is due, for one that is not.
const AFTERMATH: Duration = Duration::from_millis(300);

/// Descriptors of a table that are not for connections: event loops, and what was open before.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Stack of a holder, in bytes: it has little on it, and there may be fifty.
const STACK_BYTES: usize = 256 * 1024;

/// How long a harvest or a farewell may take, for a million connections on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no report.
#[derive(Debug, Error)]
pub enum HoldError {
    /// The plan cannot be carried out as it stands.
    #[error("{0}")]
    Plan(String),
    /// Threads, event loops or private descriptor tables could not be had.
    #[error("the load client could not start")]
    Start(#[source] io::Error),
    /// Not a single connection was accepted.
    #[error("no connection to {front} is held: {first_error}")]
    NobodyHeld {
        /// Where subscribers were to connect.
        front: std::net::SocketAddr,
        /// What happened to the first.
        first_error: String,
    },
    /// The admin port could not be reached.
    #[error("cannot connect to the admin port {admin}")]
    Admin {
        /// Where it should be.
        admin: std::net::SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// What is going on, for whoever watches.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// What is being done.
    pub what: &'a str,
    /// How much of it.
    pub done: u64,
    /// How much there is; 0 if that is not known.
    pub total: u64,
    /// Connections that ended though they should not, and subscriptions that failed.
    pub errors: u64,
    /// The resident memory of this process, in bytes.
    pub client_rss_bytes: Option<u64>,
    /// The resident memory of the server, in bytes.
    pub server_rss_bytes: Option<u64>,
}

/// Carries out `plan`, telling `watch` some times a second how far it is.
///
/// Once `stop` is set nothing more is begun, all is closed, and the report says what there is; that
/// takes a few seconds at most.
///
/// # Errors
/// [`HoldError`] when there is nothing to report. What goes wrong with single connections and
/// messages is in the report.
pub fn hold(
    plan: &HoldPlan,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<HoldReport, HoldError> {
    check(plan)?;
    let limit = descriptors::raise_limit().map_err(HoldError::Start)?;
    let shares = shares(plan, limit)?;
    let run =
        Run { plan, id: RandomState::new().hash_one(plan.front) as u32, start: Instant::now() };
    let counters: Vec<Counters> = shares.iter().map(|_| Counters::default()).collect();
    // Before any thread has a table of its own: a waker has to have the same number in all of them.
    let mut polls: Vec<Poll> =
        shares.iter().map(|_| Poll::new()).collect::<io::Result<_>>().map_err(HoldError::Start)?;
    let wakers: Vec<Waker> = polls
        .iter()
        .map(|poll| Waker::new(poll.registry(), WAKE))
        .collect::<io::Result<_>>()
        .map_err(HoldError::Start)?;
    let (tell, notices) = mpsc::channel();
    thread::scope(|scope| {
        let mut links = Vec::new();
        let mut first = 0;
        for (((index, share), poll), waker) in
            shares.iter().copied().enumerate().zip(&mut polls).zip(&wakers)
        {
            let (send, commands) = mpsc::channel();
            let place = (index, first, share);
            let holder = Holder::new(&run, place, &counters[index], poll, commands, tell.clone());
            links.push(Link { commands: Some(send), waker, share });
            first += share;
            start(scope, index, holder).map_err(HoldError::Start)?;
        }
        drop(tell);
        let mut conductor = Conductor {
            run: &run,
            links,
            counters: &counters,
            notices: &notices,
            // Found only now: it opens files, which no table should have a copy of.
            observer: Observer { pid: None },
            stop,
            watch,
            last_shown: Instant::now(),
            first_error: None,
            empty_rss_bytes: None,
            is_stalled: false,
        };
        conductor.wait_until_ready()?;
        conductor.observer = Observer::new(plan.server_pid, plan.front);
        conductor.conduct()
    })
}

fn start<'scope, 'run: 'scope>(
    scope: &'scope Scope<'scope, '_>,
    index: usize,
    holder: Holder<'run>,
) -> io::Result<()> {
    let builder = thread::Builder::new().name(format!("holder {index}")).stack_size(STACK_BYTES);
    builder.spawn_scoped(scope, move || holder.run()).map(|_| ())
}

fn check(plan: &HoldPlan) -> Result<(), HoldError> {
    let wrong = |sentence: String| Err(HoldError::Plan(sentence));
    if plan.connections == 0 || plan.connections > CONNECTIONS_MAX {
        return wrong(format!("connections are 1 to {CONNECTIONS_MAX}"));
    }
    if plan.messages == 0 || plan.messages > MESSAGES_MAX {
        return wrong(format!("messages for each channel are 1 to {MESSAGES_MAX}"));
    }
    if plan.messages_in_a_round() > MESSAGES_MAX + 2 {
        return wrong(format!("the messages of a round are at most {}", MESSAGES_MAX + 2));
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !plan.prefix.bytes().all(is_name) || plan.prefix.len() > 32 {
        return wrong("the prefix of channels has at most 32 letters, digits, _ and -".to_owned());
    }
    if plan.opening_max == 0 || plan.ramp_per_s.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
        return wrong("at that rate no connection would ever be opened".to_owned());
    }
    for address in [Some(plan.front), plan.admin].into_iter().flatten() {
        if !plan.allow_remote && !address.ip().is_loopback() {
            return wrong(format!(
                "{address} is not on this machine's loopback; load belongs on servers of one's own"
            ));
        }
    }
    Ok(())
}

/// How the connections are shared out: as few tables as hold them, all about equally full.
fn shares(plan: &HoldPlan, limit: u64) -> Result<Vec<usize>, HoldError> {
    let limit = plan.descriptors_max.map_or(limit, |most| most.min(limit));
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64);
    let mut holders = 1;
    loop {
        // The event loop and the waker of every holder are in every table.
        let reserved = open + DESCRIPTORS_RESERVED + 2 * holders as u64;
        let room = usize::try_from(limit.saturating_sub(reserved)).unwrap_or(usize::MAX);
        if room == 0 {
            return Err(HoldError::Plan(format!("{limit} descriptors are too few")));
        }
        let needed = plan.connections.div_ceil(room);
        if needed <= holders {
            let (each, more) = (plan.connections / holders, plan.connections % holders);
            return Ok((0..holders).map(|index| each + usize::from(index < more)).collect());
        }
        holders = needed;
    }
}

/// The conductor's end of a holder.
struct Link<'run> {
    commands: Option<Sender<Command>>,
    waker: &'run Waker,
    share: usize,
}

impl Link<'_> {
    fn send(&self, command: Command) {
        // One that has ended says nothing more, which is noticed where an answer is due.
        let _ = self.commands.as_ref().map(|commands| commands.send(command));
        let _ = self.waker.wake();
    }
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        self.commands = None;
        let _ = self.waker.wake();
    }
}

/// Leads a run from the first connection to the last.
struct Conductor<'run> {
    run: &'run Run<'run>,
    links: Vec<Link<'run>>,
    counters: &'run [Counters],
    notices: &'run Receiver<Notice>,
    observer: Observer,
    stop: &'run AtomicBool,
    watch: &'run mut dyn FnMut(Progress<'_>),
    last_shown: Instant,
    first_error: Option<String>,
    /// The server's resident memory before the first connection of the first round.
    empty_rss_bytes: Option<u64>,
    /// Whether connections stopped to open before all were.
    is_stalled: bool,
}

impl Conductor<'_> {
    fn wait_until_ready(&self) -> Result<(), HoldError> {
        for _ in &self.links {
            match self.notices.recv_timeout(PATIENCE) {
                Ok(Notice::Ready(Ok(()))) => {}
                Ok(Notice::Ready(Err(error))) => return Err(HoldError::Start(error.into())),
                _ => return Err(HoldError::Start(io::ErrorKind::TimedOut.into())),
            }
        }
        Ok(())
    }

    fn conduct(&mut self) -> Result<HoldReport, HoldError> {
        let plan = self.run.plan;
        self.empty_rss_bytes = self.observer.rss_bytes().0;
        let mut rounds = Vec::new();
        for _ in 0..plan.rounds.max(1) {
            if self.is_stopped() {
                break;
            }
            rounds.push(self.round()?);
        }
        Ok(HoldReport {
            profile: plan.profile.name().to_owned(),
            front: plan.front.to_string(),
            connections: plan.connections as u64,
            channels: plan.channel_count() as u64,
            threads: self.links.len() as u64,
            server_pid: self.observer.pid,
            rounds,
            is_interrupted: self.is_stopped(),
            first_error: self
                .first_error
                .take()
                .or_else(|| self.is_stalled.then(|| "no connection opened any more".to_owned())),
        })
    }

    /// Everybody comes, is published to, and leaves.
    fn round(&mut self) -> Result<Round, HoldError> {
        let plan = self.run.plan;
        let mut samples = Vec::new();
        let before = self.counts();
        let (mut opening, mut opened) = (Duration::ZERO, 0);
        for step in plan.steps_in_force() {
            let start = Instant::now();
            opened = self.open(step, before)?;
            opening += start.elapsed();
            self.show("measuring", step as u64, plan.connections as u64, before);
            let stop = self.stop;
            let is_over = move || stop.load(Ordering::Relaxed);
            samples.push(self.observer.sample(opened, plan.settle, is_over));
            if self.is_stopped() || opened < step as u64 {
                break;
            }
        }
        self.keep(before);
        let mut round = Round {
            opened,
            opening_s: opening.as_secs_f64(),
            samples,
            subscribers: None,
            phases: Vec::new(),
            before: Deliveries::default(),
            bare_send_ns: None,
            after: None,
        };
        round.before = self.harvest(&Published::default(), 0).deliveries;
        if let Some(admin) = plan.admin
            && plan.profile != Profile::Tcp
            && !self.is_stopped()
            && opened > 0
        {
            let publisher = Publisher::connect(self.run, admin);
            let publisher = publisher.map_err(|source| HoldError::Admin { admin, source });
            match publisher {
                Ok(mut publisher) => self.publish(&mut publisher, &mut round, before),
                Err(error) => {
                    self.close();
                    return Err(error);
                }
            }
        }
        round.bare_send_ns = self.bare_send_ns(&round);
        self.close();
        round.after = self.wait_for_memory();
        Ok(round)
    }

    /// What a bare send of what was delivered takes while the crowd is there, whose sockets are in the
    /// kernel's tables and in nobody's cache.
    fn bare_send_ns(&self, round: &Round) -> Option<f64> {
        let last = round.phases.iter().rfind(|phase| phase.deliveries.delivered > 0)?;
        let wire_bytes = last.wire_bytes.round() as usize;
        if wire_bytes == 0 || self.is_stopped() {
            return None;
        }
        let cost = bare_send(wire_bytes, self.run.plan.connections).ok()?;
        Some(cost.as_nanos() as f64)
    }

    /// Has `upto` connections held, and returns how many are.
    fn open(&mut self, upto: usize, before: Counts) -> Result<u64, HoldError> {
        let plan = self.run.plan;
        let (mut first, mut begun) = (0, 0);
        let mut last_change = Instant::now();
        for index in 0..self.links.len() {
            let share = self.links[index].share;
            let wanted = upto.saturating_sub(first).min(share);
            first += share;
            begun += wanted as u64;
            if wanted == 0 || self.is_stopped() {
                break;
            }
            self.links[index].send(Command::Open { upto: wanted, rate_per_s: plan.ramp_per_s });
            let mut last = self.counts();
            while last.held - before.held < begun && !self.is_stopped() {
                thread::sleep(LOOK.min(Duration::from_millis(2)));
                let now = self.counts();
                if now.held != last.held || now.begun != last.begun {
                    last_change = Instant::now();
                }
                last = now;
                let (held, gone) = (now.held - before.held, now.gone - before.gone);
                if last_change.elapsed() > plan.timeout || (gone > 100 && gone * 2 > held) {
                    self.is_stalled = true;
                    return self.held_or_nobody(before);
                }
                let what = "opening";
                self.show(what, held, plan.connections as u64, before);
            }
        }
        if upto == 0 { Ok(0) } else { self.held_or_nobody(before) }
    }

    fn note_first_error(&mut self, sentence: &str) {
        self.first_error.get_or_insert_with(|| sentence.to_owned());
    }

    fn held_or_nobody(&mut self, before: Counts) -> Result<u64, HoldError> {
        let now = self.counts();
        // One that failed counts as held, so that nobody waits for it, and as gone.
        let open = (now.held - before.held).saturating_sub(now.gone - before.gone);
        if open == 0 && !self.is_stopped() {
            self.first_error = None;
            self.harvest(&Published::default(), 0);
            let first_error = self.first_error.take();
            let first_error = first_error.unwrap_or_else(|| "nothing was answered".to_owned());
            return Err(HoldError::NobodyHeld { front: self.run.plan.front, first_error });
        }
        Ok(open)
    }

    /// Keeps all for as long as was asked.
    fn keep(&mut self, before: Counts) {
        let (start, hold) = (Instant::now(), self.run.plan.hold);
        while start.elapsed() < hold && !self.is_stopped() {
            let (done, total) = (start.elapsed().as_secs(), hold.as_secs());
            self.show("holding, seconds", done, total, before);
            thread::sleep(LOOK);
        }
    }

    fn publish(&mut self, publisher: &mut Publisher<'_>, round: &mut Round, before: Counts) {
        let plan = self.run.plan;
        round.subscribers = self.wait_for_subscribers(publisher, round.opened);
        let channels = u32::try_from(plan.channel_count()).expect("the plan bounds the channels");
        let mut published = Published::default();
        for &kind in &plan.phases {
            if kind == PhaseKind::Broadcast && !plan.profile.has_broadcast() {
                continue;
            }
            if self.is_stopped() {
                break;
            }
            let rejected_before = publisher.rejected;
            let (arrivals_before, cpu_before) = (self.counts(), self.observer.cpu_time());
            let start = self.run.start.elapsed();
            let mut ordinals = 0;
            let mut messages = 0;
            let mut add = |audience| {
                let ordinal = published.add(audience);
                ordinals |= 1 << ordinal;
                ordinal
            };
            let result = match kind {
                PhaseKind::OneChannel => {
                    messages += 1;
                    let channel = channels / 2;
                    publisher.publish(
                        add(Audience::Channel(channel)),
                        [channel].into_iter(),
                        self.stop,
                    )
                }
                PhaseKind::EachChannel => (0..plan.messages).try_for_each(|_| {
                    messages += u64::from(channels);
                    publisher.publish(add(Audience::All), 0..channels, self.stop)
                }),
                PhaseKind::Broadcast => {
                    messages += 1;
                    // Its answer may come only when everybody has been told.
                    let patience = publisher.be_patient(plan.timeout + PATIENCE);
                    patience.and_then(|()| publisher.broadcast(add(Audience::All)))
                }
            };
            let published_in = self.run.start.elapsed() - start;
            if let Err(error) = &result {
                self.note_first_error(&format!("publishing: {error}"));
            }
            self.wait_for_arrivals(kind, round.opened, before, arrivals_before);
            let cpu = self.observer.cpu_time().zip(cpu_before);
            let received = self.counts();
            let tally = self.harvest(&published, ordinals);
            let arrived = (received.arrived - arrivals_before.arrived).max(1);
            let bytes = received.received_bytes - arrivals_before.received_bytes;
            let since = |moment: Duration| moment.saturating_sub(start).as_secs_f64() * 1e3;
            round.phases.push(Phase {
                kind,
                messages,
                rejected: publisher.rejected - rejected_before + u64::from(result.is_err()),
                published_in_s: published_in.as_secs_f64(),
                first_arrival_ms: tally.arrivals.map(|(first, _)| since(first)),
                last_arrival_ms: tally.arrivals.map(|(_, last)| since(last)),
                latency: Milliseconds::of(&tally.latency),
                server_cpu_s: cpu.map(|(after, before)| (after - before).as_secs_f64()),
                wire_bytes: bytes as f64 / arrived as f64,
                deliveries: tally.deliveries,
            });
            if let Some(sentence) = publisher.first_rejection.take() {
                self.note_first_error(&sentence);
            }
        }
    }

    /// Waits until the server itself counts all subscribers, if it counts them, and returns what it
    /// counts.
    fn wait_for_subscribers(&self, publisher: &mut Publisher<'_>, opened: u64) -> Option<u64> {
        let start = Instant::now();
        loop {
            let subscribers = publisher.subscribers()?;
            if subscribers >= opened
                || start.elapsed() > Duration::from_secs(2)
                || self.is_stopped()
            {
                return Some(subscribers);
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until as much has arrived as is due, or nothing has for a while; and a little longer.
    fn wait_for_arrivals(&mut self, kind: PhaseKind, opened: u64, before: Counts, start: Counts) {
        let plan = self.run.plan;
        let channels = plan.channel_count() as u64;
        let due = match kind {
            PhaseKind::OneChannel => {
                let (channel, connections) = (channels / 2, plan.connections as u64);
                connections / channels + u64::from(channel < connections % channels)
            }
            PhaseKind::EachChannel => opened * u64::from(plan.messages),
            PhaseKind::Broadcast => opened,
        };
        let (mut last, mut last_change) = (start.arrived, Instant::now());
        while !self.is_stopped() {
            let now = self.counts().arrived;
            if now != last {
                (last, last_change) = (now, Instant::now());
            }
            self.show(kind.name(), now - start.arrived, due, before);
            if now - start.arrived >= due || last_change.elapsed() > plan.timeout {
                break;
            }
            thread::sleep(LOOK.min(Duration::from_millis(2)));
        }
        thread::sleep(AFTERMATH);
    }

    /// What was counted since the last time, and which of `ordinals` did not arrive.
    fn harvest(&mut self, published: &Published, ordinals: u64) -> Tally {
        for link in &self.links {
            link.send(Command::Harvest { published: published.clone(), ordinals });
        }
        let mut sum = Tally::new();
        for _ in &self.links {
            match self.notices.recv_timeout(PATIENCE) {
                Ok(Notice::Harvest(tally)) => sum.merge(*tally),
                _ => {
                    self.note_first_error("a thread of the load client has failed");
                    break;
                }
            }
        }
        if let Some(sentence) = sum.first_error.take() {
            self.note_first_error(&sentence);
        }
        sum
    }

    fn close(&mut self) {
        for link in &self.links {
            link.send(Command::Close);
        }
        for _ in &self.links {
            if self.notices.recv_timeout(PATIENCE).is_err() {
                self.note_first_error("a thread of the load client has failed");
                break;
            }
        }
    }

    /// Sees whether the server gives back what the connections took.
    fn wait_for_memory(&self) -> Option<After> {
        let limit_bytes = After::limit_bytes(self.empty_rss_bytes?);
        let start = Instant::now();
        let patience = self.run.plan.memory_timeout;
        let is_over = || self.is_stopped();
        let rss = wait_for_memory(&self.observer, limit_bytes, patience, is_over).ok()?;
        Some(After { server_rss_bytes: rss, limit_bytes, waited_s: start.elapsed().as_secs_f64() })
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn counts(&self) -> Counts {
        Counts::of(self.counters)
    }

    /// Tells whoever watches, but not so often that it costs anything.
    fn show(&mut self, what: &str, done: u64, total: u64, before: Counts) {
        if self.last_shown.elapsed() < SHOW {
            return;
        }
        self.last_shown = Instant::now();
        let (server_rss_bytes, client_rss_bytes) = self.observer.rss_bytes();
        let errors = self.counts().gone - before.gone;
        (self.watch)(Progress { what, done, total, errors, client_rss_bytes, server_rss_bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(connections: usize) -> HoldPlan {
        HoldPlan::new("127.0.0.1:1".parse().unwrap(), None, connections)
    }

    #[test]
    fn connections_are_shared_out_among_as_many_tables_as_needed() {
        let one = shares(&plan(10), 20_000).unwrap();
        assert_eq!(one, [10]);
        let many = shares(&plan(1_000_000), 20_000).unwrap();
        assert!(many.len() > 50 && many.len() < 54, "{}", many.len());
        assert_eq!(many.iter().sum::<usize>(), 1_000_000);
        assert!(many.iter().all(|share| *share < 19_900));
        assert!(shares(&plan(10), 8).is_err());
    }

    #[test]
    fn plans_that_make_no_sense_are_refused() {
        let refused = |change: fn(&mut HoldPlan)| {
            let mut plan = plan(10);
            change(&mut plan);
            matches!(check(&plan), Err(HoldError::Plan(_)))
        };
        assert!(!refused(|_| {}));
        assert!(refused(|plan| plan.connections = 0));
        assert!(refused(|plan| plan.messages = MESSAGES_MAX + 1));
        assert!(refused(|plan| plan.phases = vec![PhaseKind::OneChannel; 63]));
        assert!(refused(|plan| plan.ramp_per_s = Some(0.0)));
        assert!(refused(|plan| plan.prefix = "a&b".to_owned()));
        assert!(refused(|plan| plan.front = "192.0.2.1:80".parse().unwrap()));
        assert!(refused(|plan| plan.admin = Some("192.0.2.1:80".parse().unwrap())));
        assert!(!refused(|plan| {
            plan.front = "192.0.2.1:80".parse().unwrap();
            plan.allow_remote = true;
        }));
    }
}
