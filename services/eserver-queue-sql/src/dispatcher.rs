//! [`Dispatcher`]: between a feed and the lanes.
//!
//! It takes messages while those in hand are few, reads them, deals them to the lanes by their keys,
//! gives each lane a batch when it is free, and brings the verdicts back to the feed. One *turn* does
//! settling and taking at once, so that the two share a commit.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use eserver::{Announce, Feed, FeedFailed, Taken, Turn};
use serde::Serialize;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::lane::{Lane, PROBES_MAX, Progress, Verdict, Worked};
use crate::message::{Message, Reader};
use crate::sink::Sink;
use crate::stats::Stats;

/// Bytes of payload taken from the feed at once.
const TURN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Batches that are in hand for each lane at most: one in work and one ready.
const BATCHES_PER_LANE: usize = 2;

/// Messages that may be in hand for each lane however short batches are, so that one that fails is
/// seen among others.
const IN_HAND_MIN: usize = 16;

/// Bytes of payload in hand beyond which no more are taken, however few messages they are.
const IN_HAND_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The log says no more often than this that messages are refused.
const REFUSALS_SAID_EVERY: Duration = Duration::from_secs(10);

/// Ids that the feed is asked about at once.
const ASKED_MAX: u64 = 4096;

/// How a dispatcher gathers and deals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dealing {
    /// Messages in one batch, at most.
    pub(crate) batch_max: usize,
    /// How long a batch that is not full waits for more, from its first message on.
    pub(crate) linger: Duration,
}

pub(crate) struct Dispatcher {
    feed: Arc<dyn Feed>,
    announce: Arc<dyn Announce>,
    reader: Reader,
    stats: Arc<Stats>,
    dealing: Dealing,
    desks: Vec<Desk>,
    finished: mpsc::UnboundedReceiver<Finished>,
    /// What the next turn settles.
    settling: Settling,
    /// Messages taken whose settling has not been answered yet, and the bytes of their payloads.
    in_hand: usize,
    in_hand_bytes: usize,
    /// Messages refused since that was last said in the log, and when it was.
    refused_unsaid: u64,
    refused_said: Option<Instant>,
    /// The last turn found nothing: the feed will wake us.
    is_feed_empty: bool,
}

/// A lane as the dispatcher sees it.
struct Desk {
    batches: mpsc::UnboundedSender<Vec<Message>>,
    progress: Rc<Progress>,
    waiting: VecDeque<Message>,
    /// How many of `waiting` the lane gave back, to be judged among others.
    given_back: usize,
    /// When the first of `waiting` came.
    since: Instant,
    is_busy: bool,
}

/// A batch that a lane is done with.
struct Finished {
    lane: usize,
    worked: Worked,
}

/// A turn that the feed has not answered yet.
struct Asked {
    answer: oneshot::Receiver<Result<Taken, FeedFailed>>,
    settling: Settling,
}

/// What is to be told to the feed, and to others once the feed has it.
#[derive(Default)]
struct Settling {
    turn: Turn,
    events: Vec<(Box<str>, Vec<u8>)>,
    /// The newest batch of each lane that is in it.
    batches: Vec<(usize, u64)>,
    messages: usize,
    bytes: usize,
}

/// What those who listen are told about one message.
#[derive(Serialize)]
struct Event<'a> {
    queue: &'a str,
    id: u64,
    /// It was applied and is committed; else it was buried.
    ok: bool,
    /// Rows it changed; null when the database told only of several messages together.
    rows: Option<u64>,
    error: Option<&'a str>,
}

impl Dispatcher {
    pub(crate) fn new(
        feed: Arc<dyn Feed>,
        announce: Arc<dyn Announce>,
        reader: Reader,
        stats: Arc<Stats>,
        dealing: Dealing,
    ) -> (Self, Finishing) {
        let (sender, finished) = mpsc::unbounded_channel();
        let dispatcher = Dispatcher {
            feed,
            announce,
            reader,
            stats,
            dealing,
            desks: Vec::new(),
            finished,
            settling: Settling::default(),
            in_hand: 0,
            in_hand_bytes: 0,
            refused_unsaid: 0,
            refused_said: None,
            is_feed_empty: false,
        };
        (dispatcher, Finishing(sender))
    }

    /// Takes one more lane, and returns what is to be run beside the dispatcher on the same thread.
    pub(crate) fn add_lane<S: Sink + 'static>(
        &mut self,
        finishing: &Finishing,
        mut lane: Lane<S>,
    ) -> impl Future<Output = ()> + use<S> {
        let (batches, mut given) = mpsc::unbounded_channel();
        let progress = lane.progress();
        let index = self.desks.len();
        self.desks.push(Desk {
            batches,
            progress,
            waiting: VecDeque::new(),
            given_back: 0,
            since: Instant::now(),
            is_busy: false,
        });
        let finishing = finishing.0.clone();
        async move {
            lane.connect().await;
            lane.all_is_well();
            while let Some(batch) = given.recv().await {
                let worked = lane.work(batch).await;
                if finishing.send(Finished { lane: index, worked }).is_err() {
                    break;
                }
            }
        }
    }

    /// Works until `stop` says so, then until the lanes have ended the batches they are at.
    ///
    /// # Errors
    /// When the feed has failed.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), FeedFailed> {
        let ready = Arc::new(Notify::new());
        let waker = Arc::clone(&ready);
        self.feed.wake_by(Box::new(move || waker.notify_one()));
        let mut asked: Option<Asked> = None;
        loop {
            let stopping = *stop.borrow();
            if !stopping {
                self.deal();
            }
            if asked.is_none() {
                asked = self.next_turn(stopping);
            }
            let is_idle = self.desks.iter().all(|desk| !desk.is_busy);
            if stopping && is_idle && asked.is_none() {
                return Ok(());
            }
            let linger = if stopping { None } else { self.next_linger() };
            tokio::select! {
                biased;
                taken = answer_of(&mut asked) => {
                    let settling = asked.take().map(|asked| asked.settling).unwrap_or_default();
                    let taken = taken?;
                    self.settled(settling);
                    self.receive(&taken);
                }
                Some(finished) = self.finished.recv() => {
                    self.finish(finished);
                    // Whatever else is finished shares the turn.
                    while let Ok(finished) = self.finished.try_recv() {
                        self.finish(finished);
                    }
                }
                () = ready.notified(), if self.is_feed_empty => self.is_feed_empty = false,
                () = sleep_until(linger.unwrap_or_else(Instant::now)), if linger.is_some() => {}
                () = changed(&mut stop), if !stopping => {}
            }
        }
    }

    /// The next turn at the feed, if there is anything to tell or to ask.
    fn next_turn(&mut self, stopping: bool) -> Option<Asked> {
        let each = (BATCHES_PER_LANE * self.dealing.batch_max).max(IN_HAND_MIN);
        let in_hand_max = self.desks.len() * each;
        let may_take = !stopping && !self.is_feed_empty && self.in_hand_bytes < IN_HAND_BYTES_MAX;
        let room = if may_take { in_hand_max - self.in_hand } else { 0 };
        // Small rests are left to grow: a turn costs a commit.
        let messages_max =
            if room >= self.dealing.batch_max.min(in_hand_max / 2) { room } else { 0 };
        if messages_max == 0 && self.settling.messages == 0 {
            return None;
        }
        let mut settling = std::mem::take(&mut self.settling);
        let mut turn = std::mem::take(&mut settling.turn);
        turn.messages_max = messages_max.min(each.div_ceil(2) * self.desks.len());
        turn.bytes_max = TURN_BYTES_MAX;
        turn.asked = self.runs_to_ask();
        // A take that finds nothing must not be taken for one that did not ask.
        self.is_feed_empty |= turn.messages_max > 0;
        let (answer, answered) = oneshot::channel();
        self.feed.turn(turn, Box::new(move |taken| drop(answer.send(taken))));
        Some(Asked { answer: answered, settling })
    }

    /// What lanes keep in their rows only until the queue is known not to hold it any more.
    fn runs_to_ask(&self) -> Vec<(u64, u64)> {
        let (mut runs, mut room) = (Vec::new(), ASKED_MAX);
        for desk in &self.desks {
            for &(first, last) in desk.progress.known.borrow().runs() {
                if room == 0 {
                    return runs;
                }
                let last = last.min(first + room - 1);
                room -= last - first + 1;
                runs.push((first, last));
            }
        }
        runs
    }

    /// The feed has made durable what a turn told it.
    fn settled(&mut self, settling: Settling) {
        self.in_hand -= settling.messages;
        self.in_hand_bytes -= settling.bytes;
        for (lane, batch) in settling.batches {
            self.desks[lane].progress.settled.set(batch);
        }
        for (channel, event) in settling.events {
            self.announce.announce(&channel, &event);
        }
        self.stats.set_in_hand(self.in_hand);
    }

    /// Reads what was taken and deals it out.
    fn receive(&mut self, taken: &Taken) {
        if !taken.gone.is_empty() {
            let gone: BTreeSet<u64> = taken.gone.iter().copied().collect();
            for desk in &self.desks {
                desk.progress.known.borrow_mut().forget(&gone);
            }
        }
        if taken.is_empty() {
            return;
        }
        self.is_feed_empty = false;
        self.in_hand += taken.len();
        self.in_hand_bytes += taken.bytes();
        self.stats.set_in_hand(self.in_hand);
        let lanes = self.desks.len() as u64;
        for message in taken.iter() {
            match self.reader.read(message.id, message.payload) {
                Ok(message) => {
                    let lane = message.key.map_or(0, |key| key % lanes);
                    let desk = &mut self.desks[lane as usize];
                    if desk.waiting.is_empty() {
                        desk.since = Instant::now();
                    }
                    desk.waiting.push_back(message);
                }
                // It was put before the drain was there, or the configuration has changed since.
                Err(reason) => {
                    self.stats.buried(1);
                    let verdict = Verdict::Refused(reason);
                    let channel = self.reader.notify_of(message.payload);
                    self.settling.bytes += message.payload.len();
                    self.settle(message.id, channel, verdict);
                }
            }
        }
    }

    /// Gives every lane that is free the batch that is ready for it.
    fn deal(&mut self) {
        for desk in &mut self.desks {
            let count_max = match desk.given_back {
                0 => self.dealing.batch_max,
                given_back => self.dealing.batch_max.max(given_back + PROBES_MAX),
            };
            let count = desk.waiting.len().min(count_max);
            let is_ready = count >= self.dealing.batch_max
                || (count > 0 && desk.since.elapsed() >= self.dealing.linger);
            if desk.is_busy || !is_ready {
                continue;
            }
            let batch = desk.waiting.drain(..count).collect();
            desk.since = Instant::now();
            desk.given_back = 0;
            desk.is_busy = desk.batches.send(batch).is_ok();
        }
    }

    /// When the first batch that waits to fill has waited long enough.
    fn next_linger(&self) -> Option<Instant> {
        let waits = |desk: &&Desk| !desk.is_busy && !desk.waiting.is_empty();
        self.desks.iter().filter(waits).map(|desk| desk.since + self.dealing.linger).min()
    }

    /// Turns a lane's verdicts into what the feed and others are told; those without wait on, before
    /// all others.
    fn finish(&mut self, Finished { lane, worked }: Finished) {
        let desk = &mut self.desks[lane];
        desk.is_busy = false;
        desk.given_back = worked.waiting.len();
        for message in worked.waiting.into_iter().rev() {
            desk.waiting.push_front(message);
        }
        self.settling.batches.push((lane, worked.batch));
        for (message, verdict) in worked.verdicts {
            self.settling.bytes += message.bytes as usize;
            self.settle(message.id, message.notify, verdict);
        }
    }

    fn settle(&mut self, id: u64, channel: Option<Box<str>>, verdict: Verdict) {
        let settling = &mut self.settling;
        settling.messages += 1;
        if let Some(channel) = channel {
            let (rows, error) = match &verdict {
                Verdict::Applied { rows } => (*rows, None),
                Verdict::Refused(text) => (None, Some(text.as_str())),
            };
            let event = Event { queue: self.feed.name(), id, ok: error.is_none(), rows, error };
            let event = serde_json::to_vec(&event).expect("an event is plain data");
            settling.events.push((channel, event));
        }
        match verdict {
            Verdict::Applied { .. } => settling.turn.done.push(id),
            Verdict::Refused(text) => {
                self.refused_unsaid += 1;
                if self.refused_said.is_none_or(|at| at.elapsed() >= REFUSALS_SAID_EVERY) {
                    let count = std::mem::take(&mut self.refused_unsaid);
                    self.refused_said = Some(Instant::now());
                    tracing::warn!(queue = %self.feed.name(), id, reason = %text, count,
                        "messages were buried, this is the last of them; see `eserver queue buried`");
                }
                settling.turn.refused.push((id, text));
            }
        }
    }
}

/// What the feed answers; never, when nothing was asked.
async fn answer_of(asked: &mut Option<Asked>) -> Result<Taken, FeedFailed> {
    match asked {
        Some(Asked { answer, .. }) => {
            let lost = || FeedFailed("the queue has ended".to_owned());
            answer.await.unwrap_or_else(|_| Err(lost()))
        }
        None => std::future::pending().await,
    }
}

/// Returns when the drain is told something new; never, when nobody is left to do so.
async fn changed(stop: &mut watch::Receiver<bool>) {
    if stop.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Where lanes report.
pub(crate) struct Finishing(mpsc::UnboundedSender<Finished>);
