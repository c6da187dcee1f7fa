//! [`QueueFeed`]: a queue's messages for one who works them off in this process.
//!
//! A turn becomes one [`Batch`] at the keeper's desk: what was done is settled and what is ready is
//! taken in one commit, which it shares with everybody else's work. Messages that were taken have no
//! lease that could run out: whoever took them lives and dies with the queue.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use eserver::{Feed, FeedFailed, Message, Taken, Turn};

use crate::disk::{Disk, RealDisk};
use crate::keeper::{Batch, Keeper, Shared};
use crate::log::LogFailed;
use crate::millis::Millis;
use crate::name::QueueName;
use crate::queue::outcome::{ChangeError, Outcome, ReadError, Reserved};
use crate::queue::{Queue, REASON_BYTES_MAX};
use crate::seq::Seq;

/// A queue as a [`Feed`]. It outlives the queue: from then on every turn fails.
pub(crate) struct QueueFeed {
    name: QueueName,
    epoch: u64,
    next_id: u64,
    keeper: Arc<Shared>,
}

/// Whether the consumer of a queue's feed waits for messages, and how it is called.
///
/// It is read and changed only by whoever works on the queue, and so costs its puts one load.
pub(crate) struct Hunger {
    /// The instant from which on the consumer is to be called when messages are ready, in
    /// milliseconds since 1970; [`SATED`] when it is not waiting.
    from: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

type Waker = Arc<dyn Fn() + Send + Sync>;

const SATED: u64 = u64::MAX;

/// After the disk did not give back a message, it is asked again after this many milliseconds.
const READ_AGAIN_AFTER: u64 = 1000;

/// Bytes that a message adds to the log when it is taken or settled, at most.
const RECORD_BYTES: usize = 32;

impl QueueFeed {
    pub(crate) fn new(keeper: &Keeper, epoch: u64, next_id: u64) -> Self {
        let (name, keeper) = (keeper.name().clone(), Arc::clone(keeper.shared()));
        QueueFeed { name, epoch, next_id, keeper }
    }
}

impl Feed for QueueFeed {
    fn name(&self) -> &str {
        self.name.as_str()
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn next_id(&self) -> u64 {
        self.next_id
    }

    fn turn(&self, turn: Turn, answer: Give) {
        let hunger = Arc::clone(self.keeper.hunger());
        let answer = Answer(Some(answer));
        self.keeper.hand_over(Box::new(TurnBatch::new(turn, hunger, answer)));
    }

    fn wake_by(&self, waker: Box<dyn Fn() + Send + Sync>) {
        self.keeper.hunger().wake_by(waker.into());
    }
}

/// A turn on its way through the queue.
struct TurnBatch {
    /// What of it is still to be done.
    turn: Turn,
    bytes: usize,
    log_bytes: usize,
    taken: Taken,
    hunger: Arc<Hunger>,
    answer: Answer,
}

/// Who waits for the turn; whatever becomes of the turn, it is answered.
struct Answer(Option<Give>);

type Give = Box<dyn FnOnce(Result<Taken, FeedFailed>) + Send>;

impl Answer {
    fn give(&mut self, result: Result<Taken, FeedFailed>) {
        if let Some(answer) = self.0.take() {
            answer(result);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.give(Err(FeedFailed("the queue is closed".to_owned())));
    }
}

impl TurnBatch {
    fn new(turn: Turn, hunger: Arc<Hunger>, answer: Answer) -> Self {
        let Turn { done, refused, returned, messages_max, .. } = &turn;
        let reason_bytes: usize = refused.iter().map(|(_, reason)| reason.len()).sum();
        let ids = done.len() + refused.len() + returned.len();
        let kept_bytes = reason_bytes.min(refused.len() * REASON_BYTES_MAX);
        let records = ids.saturating_add(*messages_max);
        TurnBatch {
            bytes: ids * size_of::<u64>() + reason_bytes,
            log_bytes: records.saturating_mul(RECORD_BYTES).saturating_add(kept_bytes),
            taken: Taken::default(),
            turn,
            hunger,
            answer,
        }
    }

    fn take<D: Disk>(&mut self, queue: &mut Queue<D>, now: Millis) {
        let Turn { messages_max, bytes_max, .. } = self.turn;
        let taken = &mut self.taken;
        let result = queue.take(now, messages_max, bytes_max, |message| {
            let Reserved { seq, attempts, payload } = message;
            taken.push(Message { id: seq.get(), attempts, payload });
        });
        match result {
            _ if !taken.is_empty() => self.hunger.starts(None),
            Ok(_) => self.hunger.starts(Some(now)),
            Err(ReadError::Disk(_) | ReadError::NoSpace) => {
                self.hunger.starts(Some(now.plus(READ_AGAIN_AFTER)));
            }
            // The commit fails as well, and that is the answer.
            Err(ReadError::Failed(_)) => {}
        }
    }
}

impl Batch for TurnBatch {
    fn apply(&mut self, queue: &mut Queue<RealDisk>, now: Millis) {
        // With something left to settle nothing is taken: the consumer hears of both together.
        if settle(&mut self.turn, queue, now).is_ok() && self.turn.messages_max > 0 {
            self.take(queue, now);
        }
        let asked = self.turn.asked.iter().flat_map(|&(first, last)| first..=last);
        self.taken.gone = asked.filter(|id| !queue.holds(Seq::new(*id))).collect();
    }

    fn committed(mut self: Box<Self>) -> Option<Box<dyn Batch>> {
        if !is_settled(&self.turn) {
            return Some(self);
        }
        let taken = std::mem::take(&mut self.taken);
        self.answer.give(Ok(taken));
        None
    }

    fn failed(mut self: Box<Self>, error: &LogFailed) {
        self.answer.give(Err(FeedFailed(format!("{error}: {}", error.source))));
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn log_bytes(&self) -> usize {
        self.log_bytes
    }

    fn requests(&self) -> usize {
        1
    }
}

/// Does what the turn says about messages that were taken before; what the disk has no room for stays
/// in the turn. Messages that are gone by now, by whatever hand, need nothing done.
fn settle<D: Disk>(turn: &mut Turn, queue: &mut Queue<D>, now: Millis) -> Result<(), ChangeError> {
    each(&mut turn.done, |id| queue.ack(Seq::new(*id), now))?;
    each(&mut turn.refused, |(id, reason)| queue.set_aside(Seq::new(*id), reason, now))?;
    each(&mut turn.returned, |id| queue.give_back(Seq::new(*id), now))
}

fn is_settled(turn: &Turn) -> bool {
    turn.done.is_empty() && turn.refused.is_empty() && turn.returned.is_empty()
}

/// Acts on each and forgets it, up to the first error.
fn each<T>(
    list: &mut Vec<T>,
    mut act: impl FnMut(&T) -> Result<Outcome, ChangeError>,
) -> Result<(), ChangeError> {
    for at in 0..list.len() {
        if let Err(error) = act(&list[at]) {
            list.drain(..at);
            return Err(error);
        }
    }
    list.clear();
    Ok(())
}

impl Default for Hunger {
    fn default() -> Self {
        Hunger { from: AtomicU64::new(SATED), waker: Mutex::default() }
    }
}

impl Hunger {
    /// The consumer waits from then on, or not any more.
    fn starts(&self, from: Option<Millis>) {
        self.from.store(from.map_or(SATED, Millis::get), Ordering::Relaxed);
    }

    /// Whether the consumer waits and `ready` messages are reason to call it; then it no longer
    /// waits.
    #[inline]
    pub(crate) fn ends(&self, now: Millis, ready: u64) -> bool {
        let ends = ready > 0 && self.from.load(Ordering::Relaxed) <= now.get();
        if ends {
            self.starts(None);
        }
        ends
    }

    /// When the consumer is to be called, with `ready` messages, if nothing else happens.
    pub(crate) fn deadline(&self, ready: u64) -> Option<Millis> {
        let from = self.from.load(Ordering::Relaxed);
        (ready > 0 && from != SATED).then(|| Millis::new(from))
    }

    fn wake_by(&self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    /// Calls the consumer.
    pub(crate) fn wake(&self) {
        // Called without the lock, so that it may do as it likes.
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker();
        }
    }

    /// Nobody is called any more. The waker is dropped, which may hold the feed itself.
    pub(crate) fn end(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::queues::{DEFAULT_QUEUE, Queues};
    use crate::simulation::SimulatedDisk;
    use crate::{Clock, PutError, QueueSettings, Stats, SyncPolicy};
    use eserver::Feed;

    const PATIENCE: Duration = Duration::from_secs(20);
    const NOW: Millis = Millis::new(1_700_000_000_000);

    /// Anything done to the queue by somebody else.
    struct Deed<F>(F, Sender<()>);

    impl<F: FnMut(&mut Queue<RealDisk>, Millis) + Send> Batch for Deed<F> {
        fn apply(&mut self, queue: &mut Queue<RealDisk>, now: Millis) {
            (self.0)(queue, now);
        }

        fn committed(self: Box<Self>) -> Option<Box<dyn Batch>> {
            let _ = self.1.send(());
            None
        }

        fn failed(self: Box<Self>, error: &LogFailed) {
            panic!("{error}");
        }

        fn bytes(&self) -> usize {
            0
        }

        fn log_bytes(&self) -> usize {
            1000
        }

        fn requests(&self) -> usize {
            1
        }
    }

    fn open(directory: &Path) -> Queues {
        open_with(directory, SyncPolicy::Always)
    }

    fn open_with(directory: &Path, sync: SyncPolicy) -> Queues {
        let settings = QueueSettings { sync, ..QueueSettings::default() };
        let on_failure = |_: &QueueName, error: &LogFailed| panic!("{error}");
        Queues::open(directory, &[], &settings, Clock::start(), 1 << 20, on_failure).unwrap()
    }

    fn act(queues: &Queues, deed: impl FnMut(&mut Queue<RealDisk>, Millis) + Send + 'static) {
        let (committed, is_committed) = mpsc::channel();
        queues.keeper(DEFAULT_QUEUE).hand_over(Box::new(Deed(deed, committed)));
        is_committed.recv_timeout(PATIENCE).unwrap();
    }

    fn put(queues: &Queues, texts: &'static [&'static str], delay_ms: u64) {
        act(queues, move |queue, now| {
            for text in texts {
                queue.put(text.as_bytes(), None, delay_ms, now).unwrap();
            }
        });
    }

    fn stats(queues: &Queues) -> Stats {
        let (tell, told) = mpsc::channel();
        act(queues, move |queue, _| tell.send(queue.stats()).unwrap());
        told.recv().unwrap()
    }

    fn turn(feed: &dyn Feed, turn: Turn) -> Result<Taken, FeedFailed> {
        let (answer, answered) = mpsc::channel();
        feed.turn(turn, Box::new(move |result| answer.send(result).unwrap()));
        answered.recv_timeout(PATIENCE).unwrap()
    }

    fn take(messages_max: usize) -> Turn {
        Turn { messages_max, bytes_max: 1000, ..Turn::default() }
    }

    fn shown(taken: &Taken) -> Vec<(u64, u16, &str)> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        taken.iter().map(|it| (it.id, it.attempts, text(it.payload))).collect()
    }

    /// A feed whose waker tells the channel.
    fn woken_feed(queues: &Queues) -> (Arc<dyn Feed>, Receiver<()>) {
        let feed = queues.feed(DEFAULT_QUEUE);
        let (wake, woken) = mpsc::channel();
        feed.wake_by(Box::new(move || wake.send(()).unwrap()));
        (feed, woken)
    }

    #[test]
    fn a_turn_settles_what_was_taken_and_takes_more() {
        let directory = tempfile::tempdir().unwrap();
        let queues = open(directory.path());
        let feed = queues.feed(DEFAULT_QUEUE);
        assert_eq!(feed.name(), "default");
        put(&queues, &["a", "b", "c", "d", "e"], 0);
        let taken = turn(&*feed, take(3)).unwrap();
        assert_eq!(shown(&taken), [(1, 1, "a"), (2, 1, "b"), (3, 1, "c")]);
        let next = Turn {
            done: vec![1, 77],
            refused: vec![(2, "no such table".into()), (78, "never was".into())],
            returned: vec![3, 79],
            ..take(2)
        };
        let taken = turn(&*feed, next).unwrap();
        assert_eq!(shown(&taken), [(3, 2, "c"), (4, 1, "d")]);
        let now = stats(&queues);
        assert_eq!((now.ready, now.leased, now.buried), (1, 2, 1));
        // Nothing taken, nothing settled twice, and what is not its own is left alone.
        let again = Turn { done: vec![1, 4], returned: vec![5], ..take(0) };
        assert!(turn(&*feed, again).unwrap().is_empty());
        let now = stats(&queues);
        assert_eq!((now.ready, now.leased, now.buried, now.totals.acknowledged), (1, 1, 1, 2));
        let epoch = feed.epoch();
        drop(queues);
        let queues = open(directory.path());
        let feed = queues.feed(DEFAULT_QUEUE);
        assert_eq!(feed.epoch(), epoch);
        let taken = turn(&*feed, take(9)).unwrap();
        assert_eq!(shown(&taken), [(3, 3, "c"), (5, 1, "e")], "leases end with the process");
    }

    #[test]
    fn bytes_bound_a_turn_but_not_its_first_message() {
        let directory = tempfile::tempdir().unwrap();
        let queues = open(directory.path());
        let feed = queues.feed(DEFAULT_QUEUE);
        put(&queues, &["123456", "1234", "12", "1"], 0);
        let small = || Turn { messages_max: 9, bytes_max: 5, ..Turn::default() };
        let bytes = || turn(&*feed, small()).map(|taken| taken.bytes()).unwrap();
        assert_eq!([bytes(), bytes(), bytes(), bytes()], [6, 4, 3, 0]);
    }

    #[test]
    fn nobody_else_gives_back_or_buries_what_was_taken() {
        let directory = tempfile::tempdir().unwrap();
        let queues = open(directory.path());
        put(&queues, &["a"], 0);
        turn(&*queues.feed(DEFAULT_QUEUE), take(1)).unwrap();
        act(&queues, |queue, now| {
            let far = now.plus(1 << 50);
            assert_eq!(queue.next_deadline(), None, "no lease runs out");
            assert_eq!(queue.release(Seq::new(1), 0, far).unwrap(), Outcome::NotApplicable);
            assert_eq!(queue.bury(Seq::new(1), "", far).unwrap(), Outcome::NotApplicable);
            assert_eq!(queue.ready(), 0);
        });
    }

    /// Whatever makes messages ready wakes the one that waits, once; nothing else does.
    #[test]
    fn the_hungry_is_woken_once() {
        type Deed = fn(&Queues);
        let ways: [(&str, Deed); 5] = [
            ("a put", |queues| put(queues, &["a", "b"], 0)),
            ("a delay that is over", |queues| put(queues, &["a"], 30)),
            ("a lease that ran out", |queues| {
                act(queues, |queue, now| {
                    queue.put(b"a", None, 0, now).unwrap();
                    assert_eq!(queue.reserve(now, 30, 1, |_| ()).unwrap(), 1);
                });
            }),
            ("a message given back", |queues| {
                act(queues, |queue, now| {
                    let seq = queue.put(b"a", None, 0, now).unwrap();
                    queue.reserve(now, 60_000, 1, |_| ()).unwrap();
                    queue.release(seq, 0, now).unwrap();
                });
            }),
            ("a kick", |queues| {
                act(queues, |queue, now| {
                    let seq = queue.put(b"a", None, 60_000, now).unwrap();
                    queue.kick(seq, now).unwrap();
                });
            }),
        ];
        // The keeper's work is its thread's or, where nothing is synced, mostly the caller's.
        let policies = [SyncPolicy::Always, SyncPolicy::Never];
        for (sync, (way, deed)) in policies.into_iter().flat_map(|sync| ways.map(|it| (sync, it))) {
            let directory = tempfile::tempdir().unwrap();
            let queues = open_with(directory.path(), sync);
            let (feed, woken) = woken_feed(&queues);
            assert!(turn(&*feed, take(5)).unwrap().is_empty());
            act(&queues, |queue, now| {
                queue.put(b"gone at once", None, 0, now).unwrap();
                queue.pop(now, &mut Vec::new()).unwrap().unwrap();
            });
            assert!(woken.try_recv().is_err(), "{way}: nothing is ready");
            deed(&queues);
            woken.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{way} wakes"));
            put(&queues, &["more"], 0);
            assert!(!turn(&*feed, take(5)).unwrap().is_empty());
            put(&queues, &["more"], 0);
            // The keeper's thread may still be on its way to the waker; it ends with the queues.
            drop(queues);
            assert!(woken.try_recv().is_err(), "{way}: once, and only the hungry");
        }
    }

    #[test]
    fn a_turn_that_wants_none_makes_nobody_hungry() {
        let directory = tempfile::tempdir().unwrap();
        let queues = open(directory.path());
        let (feed, woken) = woken_feed(&queues);
        turn(&*feed, take(0)).unwrap();
        put(&queues, &["a"], 0);
        drop(queues);
        assert!(woken.try_recv().is_err());
    }

    #[test]
    fn after_the_end_turns_fail_and_nobody_is_woken() {
        let directory = tempfile::tempdir().unwrap();
        let queues = open(directory.path());
        let (feed, woken) = woken_feed(&queues);
        assert!(turn(&*feed, take(1)).unwrap().is_empty());
        drop(queues);
        for _ in 0..3 {
            let error = turn(&*feed, take(1)).unwrap_err();
            assert_eq!(error.to_string(), "the queue is closed");
        }
        // The waker itself is gone: whoever it holds can go too.
        assert_eq!(woken.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
        // And the queue can be opened again.
        assert_ne!(open(directory.path()).feed(DEFAULT_QUEUE).epoch(), 0);
    }

    #[test]
    fn an_answer_may_ask_for_the_next_turn() {
        fn go_on(feed: &Arc<dyn Feed>, last: Option<u64>, all: Sender<u64>) {
            let again = Arc::clone(feed);
            let next = Turn { done: last.into_iter().collect(), ..take(1) };
            let answer = move |result: Result<Taken, FeedFailed>| {
                if let Some(id) = result.unwrap().iter().next().map(|message| message.id) {
                    all.send(id).unwrap();
                    go_on(&again, Some(id), all);
                }
            };
            feed.turn(next, Box::new(answer));
        }
        let directory = tempfile::tempdir().unwrap();
        let queues = open(directory.path());
        put(&queues, &["a"; 100], 0);
        let (all, seen) = mpsc::channel();
        go_on(&queues.feed(DEFAULT_QUEUE), None, all);
        let mut ids = Vec::new();
        while let Ok(id) = seen.recv_timeout(PATIENCE) {
            ids.push(id);
        }
        assert_eq!(ids, (1..=100).collect::<Vec<_>>());
        assert_eq!(stats(&queues).totals.acknowledged, 100);
    }

    /// Puts, turns and the end of the queue at once, with a consumer that sleeps when it is told
    /// that there is nothing: it must never be left asleep.
    #[test]
    fn nothing_is_left_lying_under_load() {
        const MESSAGES: u64 = 3000;
        let directory = tempfile::tempdir().unwrap();
        let queues = open(directory.path());
        let (feed, woken) = woken_feed(&queues);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..MESSAGES / 3).for_each(|_| put(&queues, &["a"], 0)));
            }
            let deadline = Instant::now() + PATIENCE;
            let mut done = Vec::new();
            let mut ids = Vec::<u64>::new();
            while ids.len() < MESSAGES as usize {
                assert!(Instant::now() < deadline, "only {} came", ids.len());
                let taken = turn(&*feed, Turn { done: std::mem::take(&mut done), ..take(50) });
                done.extend(taken.unwrap().iter().map(|message| message.id));
                ids.extend(&done);
                if done.is_empty() {
                    woken.recv_timeout(PATIENCE).expect("woken, since there will be more");
                }
            }
            assert!(ids.iter().copied().eq(1..=MESSAGES), "each once, in order");
        });
    }

    fn simulated(disk: &SimulatedDisk) -> Queue<SimulatedDisk> {
        let settings = QueueSettings {
            segment_bytes_min: 16 << 10,
            segment_bytes_max: 16 << 10,
            ..QueueSettings::default()
        };
        Queue::open_on(disk.clone(), &settings, NOW).unwrap().0
    }

    #[test]
    fn what_a_full_disk_has_no_room_for_is_still_to_be_settled() {
        let disk = SimulatedDisk::new(1);
        disk.set_capacity(3 * (16 << 10));
        let mut queue = simulated(&disk);
        loop {
            match queue.put(&[b'x'; 10], None, 0, NOW) {
                Ok(_) => {}
                Err(PutError::NoSpace) => break,
                Err(error) => panic!("{error}"),
            }
        }
        let mut ids = Vec::new();
        queue.take(NOW, usize::MAX, usize::MAX, |message| ids.push(message.seq.get())).unwrap();
        queue.commit().unwrap();
        // Reasons take more room than there is.
        let reason = "r".repeat(REASON_BYTES_MAX);
        let (last, others) = ids.split_last().unwrap();
        let refused = others.iter().map(|id| (*id, reason.clone())).collect();
        let mut turn = Turn { refused, returned: vec![*last], ..Turn::default() };
        assert!(matches!(settle(&mut turn, &mut queue, NOW), Err(ChangeError::NoSpace)));
        queue.commit().unwrap();
        let left = turn.refused.len() as u64;
        assert!(left > 0 && left < others.len() as u64 && !is_settled(&turn));
        assert_eq!(queue.stats().buried, others.len() as u64 - left, "each once");
        disk.set_capacity(u64::MAX);
        settle(&mut turn, &mut queue, NOW.plus(500)).unwrap();
        assert!(is_settled(&turn));
        assert_eq!((queue.stats().buried, queue.ready()), (others.len() as u64, 1));
    }

    #[test]
    fn there_is_no_answer_before_all_is_settled() {
        let (tell, told) = mpsc::channel();
        let answer = Answer(Some(Box::new(move |result| tell.send(result).unwrap())));
        let turn = Turn { done: vec![1], ..Turn::default() };
        let batch = Box::new(TurnBatch::new(turn, Arc::default(), answer));
        let batch = batch.committed().expect("to be tried again");
        assert!(told.try_recv().is_err());
        drop(batch);
        assert!(told.try_recv().unwrap().is_err(), "given up, and said so");
    }

    #[test]
    fn a_disk_that_cannot_be_read_is_asked_again_later() {
        let disk = SimulatedDisk::new(1);
        let mut queue = simulated(&disk);
        queue.put(b"a", None, 0, NOW).unwrap();
        queue.commit().unwrap();
        let hunger: Arc<Hunger> = Arc::default();
        let mut batch = TurnBatch::new(take(1), Arc::clone(&hunger), Answer(None));
        disk.cut_power();
        disk.cut_power_after(Some(0));
        batch.take(&mut queue, NOW);
        assert!(batch.taken.is_empty());
        assert_eq!(hunger.deadline(queue.ready()), Some(NOW.plus(READ_AGAIN_AFTER)));
        assert!(!hunger.ends(NOW.plus(READ_AGAIN_AFTER - 1), 1), "not at once, for ever");
        assert!(hunger.ends(NOW.plus(READ_AGAIN_AFTER), 1));
        assert_eq!(hunger.deadline(1), None);
    }
}
