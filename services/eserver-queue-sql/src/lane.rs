//! [`Lane`]: applies batches to its database, one after another, whatever it takes.
//!
//! A batch is one transaction: the lane's row is moved, the messages are applied, and both become
//! true together. What may go wrong, and what is done:
//!
//! - *The database cannot be reached, or the connection breaks*, even in the middle of a commit: the
//!   lane connects again, for as long as it takes, reads what was applied, and goes on from there.
//! - *A statement fails by itself*: a trial with savepoints finds out which, it is refused, and the
//!   others are applied without it.
//! - *The transaction fails and may succeed when tried again* (deadlock), or the connection breaks
//!   again and again while statements are applied: it is tried again, some times with growing waits.
//!   Then the messages are applied one by one. One that fails even alone is refused if another one
//!   would succeed; if not, nobody is to blame, and all of them wait on.
//!
//! So a message is refused for two reasons only: the database says that the statement is wrong, or
//! it keeps failing while its neighbors would not.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::message::Message;
use crate::position::Position;
use crate::sink::{Class, Place, Sink, SinkError};
use crate::stats::Stats;

/// Messages tried to find out whether one that fails alone is to blame for it.
pub(crate) const PROBES_MAX: usize = 4;

/// In the trial, the length of the part that is tried behind a message at fault.
const PART_AFTER_FAULT: usize = 16;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was applied and committed; how many rows it changed, if that is known.
    Applied { rows: Option<u64> },
    /// It cannot be applied; the database's words.
    Refused(String),
}

/// A batch that a lane is done with, for now.
#[derive(Debug)]
pub(crate) struct Worked {
    /// The lane's number for it, to be told when the queue has settled it.
    pub(crate) batch: u64,
    /// What became of messages, in their order.
    pub(crate) verdicts: Vec<(Message, Verdict)>,
    /// Messages that wait on, in their order, before all others.
    pub(crate) waiting: Vec<Message>,
}

/// A lane's connection, and what it must remember between batches.
pub(crate) struct Lane<S: Sink> {
    target: S::Target,
    place: Place,
    /// What the database is called when speaking to people.
    called: String,
    retries_max: u32,
    stats: Arc<Stats>,
    sink: Option<S>,
    /// Something is wrong with the database, and that was said.
    is_troubled: bool,
    /// Attempts that failed for passing reasons since a message got its verdict.
    again: Backoff,
    away: Backoff,
    /// Applied by batches that the queue has perhaps not settled yet, by their number.
    unsettled: VecDeque<(u64, Position)>,
    batches: u64,
    /// The highest id that any lane is known to have applied.
    applied_seq: u64,
    progress: Rc<Progress>,
    origin: Rc<Origin>,
}

/// What a lane and its dispatcher tell one another.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The queue is known to have made durable what became of batches up to this number.
    pub(crate) settled: Cell<u64>,
    /// All that earlier connections had applied, as far as it was found written down, without what
    /// the queue is known not to hold any more.
    pub(crate) known: RefCell<Position>,
}

/// What the database may have applied of the queue before this drain was started; shared by its
/// lanes.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The id that the next message had when the queue was opened.
    next_id: u64,
    /// The first connection has found nothing that contradicts it.
    is_checked: Cell<bool>,
}

impl Origin {
    pub(crate) fn new(next_id: u64) -> Self {
        Origin { next_id, is_checked: Cell::new(false) }
    }

    /// Rows that were written before this drain began to work know no id that the queue is still to
    /// give. If one does, the queue's files are older than the database: ids will come twice, and
    /// new messages would be taken for applied ones.
    fn check(&self, position: &Position, place: &Place) -> Result<(), SinkError> {
        if self.is_checked.get() || position.applied_seq < self.next_id {
            self.is_checked.set(true);
            return Ok(());
        }
        let (queue, epoch) = (&place.queue, place.epoch);
        let text = format!(
            "the database has applied message {} of this queue, whose next one is {}: the data \
             directory is older than the database, was it restored? To begin anew, end the server \
             and remove queues/{queue}/epoch, or the rows of eserver_drain with epoch {epoch}",
            position.applied_seq, self.next_id
        );
        Err(SinkError { class: Class::Unreachable, text })
    }
}

/// How far a transaction came before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// No message had its turn.
    Begin,
    Apply,
    Commit,
}

/// Why a transaction did not come about.
#[derive(Debug)]
struct Failure {
    step: Step,
    error: SinkError,
    /// It was rolled back and the connection is fit for the next one. If not, perhaps the
    /// transaction did come about, and only the row can tell.
    is_rolled_back: bool,
}

impl<S: Sink> Lane<S> {
    pub(crate) fn new(
        target: S::Target,
        place: Place,
        called: String,
        retries_max: u32,
        stats: Arc<Stats>,
        origin: Rc<Origin>,
    ) -> Self {
        Lane {
            target,
            place,
            called,
            retries_max,
            stats,
            sink: None,
            is_troubled: false,
            again: Backoff::retry(),
            away: Backoff::unreachable(),
            unsettled: VecDeque::new(),
            batches: 0,
            applied_seq: 0,
            progress: Rc::default(),
            origin,
        }
    }

    /// Where lane and dispatcher tell one another how far they are.
    pub(crate) fn progress(&self) -> Rc<Progress> {
        Rc::clone(&self.progress)
    }

    /// Connects if that is still to be done, and returns once it is.
    pub(crate) async fn connect(&mut self) {
        while self.sink.is_none() {
            let opened = S::open(&self.target, &self.place).await;
            let checked = opened.and_then(|(sink, position)| {
                self.origin.check(&position, &self.place).map(|()| (sink, position))
            });
            match checked {
                Ok((sink, position)) => {
                    self.stats.connected();
                    self.applied_seq = self.applied_seq.max(position.applied_seq);
                    self.progress.known.borrow_mut().join(&position);
                    self.sink = Some(sink);
                }
                Err(error) => {
                    self.report(&error);
                    sleep(self.away.next()).await;
                }
            }
        }
    }

    /// Says once that the database is of no use now, and shows in the statistics what is waited for.
    fn report(&mut self, error: &SinkError) {
        let (called, text) = (&self.called, &error.text);
        self.stats.set_waiting(self.place.lane, Some(format!("waiting for {called}: {text}")));
        // A deadlock is nothing special, but one that will not end is.
        let is_news = error.class == Class::Unreachable || self.again.failures() > self.retries_max;
        if is_news && !std::mem::replace(&mut self.is_troubled, true) {
            tracing::warn!(queue = %self.place.queue, lane = self.place.lane,
                database = %called, error = %text,
                "the drain cannot use its database; messages wait in the queue");
        }
    }

    /// A batch went through, or the first connection was made: whatever was wrong is over.
    pub(crate) fn all_is_well(&mut self) {
        self.again = Backoff::retry();
        self.away = Backoff::unreachable();
        self.stats.set_waiting(self.place.lane, None);
        if std::mem::take(&mut self.is_troubled) {
            tracing::info!(queue = %self.place.queue, lane = self.place.lane,
                database = %self.called, "the drain can use its database again");
        }
    }

    /// Applies a batch, and returns when its messages have their verdicts, however long the database
    /// may be away; or earlier, when nobody can say whose fault it is that nothing can be applied,
    /// to be given the same messages again, and more, if there are more.
    pub(crate) async fn work(&mut self, batch: Vec<Message>) -> Worked {
        self.batches += 1;
        let mut work = Work::new(batch);
        while !work.waiting.is_empty() {
            self.connect().await;
            self.settle_known(&mut work);
            if work.waiting.is_empty() {
                break;
            }
            let mut sink = self.sink.take().expect("it is connected");
            let alone = self.again.failures() > self.retries_max;
            let attempt = if alone {
                self.one_by_one(&mut sink, &mut work).await
            } else {
                self.together(&mut sink, &mut work).await
            };
            let Err(failure) = attempt else {
                self.sink = Some(sink);
                self.all_is_well();
                continue;
            };
            // Dropping a sink that is not fit any more is what ends its connection.
            self.sink = failure.is_rolled_back.then_some(sink);
            self.stats.retried(work.waiting.len());
            self.report(&failure.error);
            sleep(self.wait_after(&failure)).await;
            if alone {
                break;
            }
        }
        let (verdicts, waiting) = work.into_parts();
        Worked { batch: self.batches, verdicts, waiting }
    }

    /// What was found applied, after a crash or a lost connection, need not be done.
    fn settle_known(&self, work: &mut Work) {
        let known = self.progress.known.borrow();
        let found = work.settle(|message| {
            let verdict = Verdict::Applied { rows: None };
            known.contains(message.id).then_some(verdict)
        });
        self.stats.found_applied(found);
    }

    fn wait_after(&mut self, failure: &Failure) -> Duration {
        let is_away = failure.error.class == Class::Unreachable;
        if failure.step == Step::Begin {
            return self.away.next();
        }
        // Whose statements break connections again and again shall be found out as well.
        let again = self.again.next();
        if is_away { self.away.next() } else { again }
    }

    /// All in one transaction. Messages that fail by themselves are found and refused; the others
    /// then still wait.
    async fn together(&mut self, sink: &mut S, work: &mut Work) -> Result<(), Failure> {
        let messages = &work.waiting;
        let started = Instant::now();
        let mut rows = Vec::with_capacity(messages.len());
        match self.transaction(sink, messages, &mut rows).await {
            Ok(()) => {
                self.stats.committed(messages.len(), started.elapsed());
                let mut rows = rows.into_iter();
                work.settle(|_| Some(Verdict::Applied { rows: rows.next().flatten() }));
                Ok(())
            }
            Err(failure) if failure.is_at_fault() => {
                let refused = match failure.step {
                    Step::Apply => self.find_refused(sink, messages).await?,
                    // What only a commit tells, no trial does.
                    Step::Begin | Step::Commit => Vec::new(),
                };
                if refused.is_empty() {
                    return self.one_by_one(sink, work).await;
                }
                self.stats.buried(refused.len());
                let mut refused = refused.into_iter().peekable();
                work.settle_at(|at, _| {
                    let (_, text) = refused.next_if(|(index, _)| *index == at)?;
                    Some(Verdict::Refused(text))
                });
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Each in a transaction of its own, in their order, up to the first that fails without being to
    /// blame.
    async fn one_by_one(&mut self, sink: &mut S, work: &mut Work) -> Result<(), Failure> {
        while let Some(message) = work.waiting.first().cloned() {
            let mut rows = Vec::new();
            let started = Instant::now();
            let verdict =
                match self.transaction(sink, std::slice::from_ref(&message), &mut rows).await {
                    Ok(()) => {
                        self.stats.committed(1, started.elapsed());
                        Verdict::Applied { rows: rows.first().copied().flatten() }
                    }
                    Err(mut failure) => {
                        if !self.is_to_blame(sink, &mut failure, &work.waiting).await? {
                            return Err(failure);
                        }
                        self.stats.buried(1);
                        Verdict::Refused(failure.error.text)
                    }
                };
            work.settle(|other| (other.id == message.id).then(|| verdict.clone()));
        }
        Ok(())
    }

    /// Whether the first of `waiting`, which failed alone, is at fault itself: the database says so,
    /// or one of those behind it would succeed. A connection that it broke is made anew for that.
    async fn is_to_blame(
        &mut self,
        sink: &mut S,
        failure: &mut Failure,
        waiting: &[Message],
    ) -> Result<bool, Failure> {
        if failure.is_at_fault() {
            return Ok(true);
        }
        if failure.step == Step::Begin {
            return Ok(false);
        }
        if !failure.is_rolled_back {
            let position = self.open_again(sink).await?;
            failure.is_rolled_back = true;
            if position.contains(waiting[0].id) {
                return Ok(false);
            }
        }
        let row = self.row(&Position::default());
        // Any of them, and others the next time: some may be at fault as well.
        let mut others: Vec<_> = waiting[1..].iter().collect();
        fastrand::shuffle(&mut others);
        for message in others.into_iter().take(PROBES_MAX) {
            sink.begin(&row).await.map_err(|error| lost(Step::Begin, error))?;
            match sink.apply(std::slice::from_ref(message), &mut Vec::new()).await {
                Err(failed) if failed.error.class == Class::Unreachable => {
                    self.open_again(sink).await?;
                }
                tried => {
                    sink.rollback().await.map_err(|error| lost(Step::Begin, error))?;
                    if tried.is_ok() {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// A new connection in place of one that broke.
    async fn open_again(&self, sink: &mut S) -> Result<Position, Failure> {
        let opened = S::open(&self.target, &self.place).await;
        let (fresh, position) = opened.map_err(|error| lost(Step::Begin, error))?;
        *sink = fresh;
        self.progress.known.borrow_mut().join(&position);
        Ok(position)
    }

    /// One transaction with these messages in it, and the lane's row.
    async fn transaction(
        &mut self,
        sink: &mut S,
        messages: &[Message],
        rows: &mut Vec<Option<u64>>,
    ) -> Result<(), Failure> {
        let mut applied = Position::default();
        applied.add(messages.iter().map(|message| message.id));
        let row = self.row(&applied);
        if let Err(error) = sink.begin(&row).await {
            return Err(roll_back(sink, Step::Begin, error).await);
        }
        if let Err(failed) = sink.apply(messages, rows).await {
            return Err(roll_back(sink, Step::Apply, failed.error).await);
        }
        if let Err(error) = sink.commit().await {
            return Err(roll_back(sink, Step::Commit, error).await);
        }
        self.remember(applied);
        Ok(())
    }

    /// What the lane's row must hold when `applied` is added: also all that the queue would offer
    /// again if the process ended now.
    fn row(&mut self, applied: &Position) -> Position {
        let settled = self.progress.settled.get();
        while self.unsettled.front().is_some_and(|(batch, _)| *batch <= settled) {
            self.unsettled.pop_front();
        }
        let mut row = self.progress.known.borrow().clone();
        for (_, position) in &self.unsettled {
            row.join(position);
        }
        row.join(applied);
        // What is settled is forgotten, but not how far it went.
        row.applied_seq = row.applied_seq.max(self.applied_seq);
        row
    }

    fn remember(&mut self, applied: Position) {
        self.applied_seq = self.applied_seq.max(applied.applied_seq);
        match self.unsettled.back_mut() {
            Some((batch, position)) if *batch == self.batches => position.join(&applied),
            _ => self.unsettled.push_back((self.batches, applied)),
        }
    }

    /// Tries the messages in a transaction that is then given up, and returns the indices of those
    /// that fail by themselves, with the database's words. None are found when the trial itself is
    /// given up by the database.
    async fn find_refused(
        &mut self,
        sink: &mut S,
        messages: &[Message],
    ) -> Result<Vec<(usize, String)>, Failure> {
        let row = self.row(&Position::default());
        let tried = try_parts(sink, &row, messages).await;
        match tried {
            Err(error) if error.class == Class::Unreachable => Err(lost(Step::Apply, error)),
            tried => match sink.rollback().await {
                Ok(()) => Ok(tried.unwrap_or_default()),
                Err(error) => Err(lost(Step::Apply, error)),
            },
        }
    }
}

/// Applies part after part, and undoes those in which a message fails, to try what was before it,
/// and it alone, and then what is behind it: short parts first, that grow as they succeed, since
/// faults are often neighbors.
async fn try_parts<S: Sink>(
    sink: &mut S,
    row: &Position,
    messages: &[Message],
) -> Result<Vec<(usize, String)>, SinkError> {
    sink.begin(row).await?;
    let mut refused = Vec::new();
    let (mut next, mut length) = (0, messages.len());
    // How long the part behind this one is to be, should this one succeed.
    let mut then = None;
    while next < messages.len() {
        let part = next..messages.len().min(next + length);
        sink.savepoint().await?;
        let failed = match sink.apply(&messages[part.clone()], &mut Vec::new()).await {
            Ok(()) => {
                sink.release_savepoint().await?;
                next = part.end;
                length = then.take().unwrap_or(length.saturating_mul(2));
                continue;
            }
            Err(failed) if failed.error.class == Class::Statement => failed,
            Err(failed) => return Err(failed.error),
        };
        sink.rollback_to_savepoint().await?;
        let start = failed.at.start.min(part.len() - 1);
        let count = failed.at.end.clamp(start + 1, part.len()) - start;
        if start > 0 {
            (length, then) = (start, Some(count));
        } else if count > 1 {
            (length, then) = (count / 2, None);
        } else {
            refused.push((next, failed.error.text));
            next += 1;
            (length, then) = (PART_AFTER_FAULT, None);
        }
    }
    Ok(refused)
}

impl Failure {
    /// Whether the database says that it is a message's own fault.
    fn is_at_fault(&self) -> bool {
        self.error.class == Class::Statement && self.step != Step::Begin && self.is_rolled_back
    }
}

/// The connection is of no use any more, or the outcome is unknown.
fn lost(step: Step, error: SinkError) -> Failure {
    Failure { step, error, is_rolled_back: false }
}

/// Makes the connection fit for the next transaction, if it can still be; a commit that was refused
/// in so many words did not come about.
async fn roll_back<S: Sink>(sink: &mut S, step: Step, error: SinkError) -> Failure {
    if error.class == Class::Unreachable {
        return lost(step, error);
    }
    let is_rolled_back = sink.rollback().await.is_ok();
    Failure { step, error, is_rolled_back }
}

/// A batch while its messages are getting their verdicts.
struct Work {
    waiting: Vec<Message>,
    /// With the place in the batch.
    settled: Vec<(usize, Message, Verdict)>,
    /// The place in the batch of each message of `waiting`.
    places: Vec<usize>,
}

impl Work {
    fn new(batch: Vec<Message>) -> Self {
        let places = (0..batch.len()).collect();
        Work { waiting: batch, settled: Vec::new(), places }
    }

    /// Settles those for whom `judge` has a verdict; how many.
    fn settle(&mut self, mut judge: impl FnMut(&Message) -> Option<Verdict>) -> usize {
        self.settle_at(|_, message| judge(message))
    }

    /// [`Work::settle`] that also knows the index among those who wait.
    fn settle_at(&mut self, mut judge: impl FnMut(usize, &Message) -> Option<Verdict>) -> usize {
        let before = self.settled.len();
        let waiting = std::mem::take(&mut self.waiting);
        let places = std::mem::take(&mut self.places);
        for (at, (message, place)) in waiting.into_iter().zip(places).enumerate() {
            match judge(at, &message) {
                Some(verdict) => self.settled.push((place, message, verdict)),
                None => {
                    self.waiting.push(message);
                    self.places.push(place);
                }
            }
        }
        self.settled.len() - before
    }

    /// The verdicts, in the order of the batch, and those who wait on.
    fn into_parts(mut self) -> (Vec<(Message, Verdict)>, Vec<Message>) {
        self.settled.sort_unstable_by_key(|(place, ..)| *place);
        let verdicts = self.settled.into_iter().map(|(_, message, verdict)| (message, verdict));
        (verdicts.collect(), self.waiting)
    }
}
