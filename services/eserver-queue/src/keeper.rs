//! [`Keeper`]: the one who works on a queue, and group commit.
//!
//! Shards, feeds and whoever else wants something of the queue hand over [`Batch`]es. The keeper
//! takes all that wait, applies them in order, commits once, and only then lets them answer: what
//! arrives during one commit shares the next. So the busier the queue, the cheaper its durability.
//!
//! The keeper is a thread, because a commit may wait for a disk and a shard must not. But two
//! hand-overs between threads cost more than a small write, and about as much as a sync of a fast
//! disk; so whoever hands over a batch does the keeper's work itself where that is quick: see
//! [`Desk::is_quick`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::disk::RealDisk;
use crate::feed::Hunger;
use crate::log::LogFailed;
use crate::millis::Millis;
use crate::name::QueueName;
use crate::queue::Queue;
use crate::settings::SyncPolicy;

/// Work on a queue that is answered after its commit.
///
/// What is handed over to a keeper that is ending is dropped, neither committed nor failed.
pub trait Batch: Send {
    /// Does the work; what it decides is not final before [`Batch::committed`].
    fn apply(&mut self, queue: &mut Queue<RealDisk>, now: Millis);

    /// The work is as durable as the queue's `sync` setting says: answers may leave. Work that must
    /// be done and found no room on the disk hands itself back, to be applied again a little later.
    fn committed(self: Box<Self>) -> Option<Box<dyn Batch>>;

    /// The log failed: nothing of this batch may be acknowledged.
    fn failed(self: Box<Self>, error: &LogFailed);

    /// Bytes of memory that the batch holds until it is answered; does not change.
    fn bytes(&self) -> usize;

    /// Bytes that the work will add to the log, at most.
    fn log_bytes(&self) -> usize;

    /// Requests that wait for this batch's answers; counted as one when there are none.
    fn requests(&self) -> usize;
}

/// The time as queues see it: milliseconds since 1970, but immune to jumps of the clock after the
/// start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    wall_at_start: Duration,
}

impl Clock {
    /// Takes the wall clock's word for what time it is, once.
    #[must_use]
    pub fn start() -> Self {
        let wall_at_start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { started: Instant::now(), wall_at_start }
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn now(&self) -> Millis {
        let now = self.wall_at_start + self.started.elapsed();
        Millis::new(u64::try_from(now.as_millis()).expect("584 million years fit"))
    }
}

/// How long the keeper waits for a group to fill whose requests it has reason to expect.
const GROUP_WAIT: Duration = Duration::from_micros(300);

/// How long a group may take to gather when requests come as fast as they just did.
const GATHER: Duration = Duration::from_micros(150);

/// Requests that a group is never waited for beyond.
const GROUP_MAX: usize = 4096;

/// A shard syncs by itself only while syncs take less than this, on average.
const QUICK_SYNC: Duration = Duration::from_micros(250);

/// A shard adds no more than so many bytes to the log by itself.
const QUICK_LOG_BYTES: usize = 64 * 1024;

/// Work that takes longer than this was not quick at all: the disk is behind, and for
/// [`KEEP_OFF`] shards leave the work to the thread.
const SLOW_WORK: Duration = Duration::from_millis(10);
const KEEP_OFF: Duration = Duration::from_secs(1);

/// Work that found no room on the disk is tried again after this many milliseconds.
const TRY_AGAIN_AFTER: u64 = 500;

/// A running keeper; dropping it commits and closes the queue.
pub struct Keeper {
    name: QueueName,
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the keeper's thread and those who hand over share.
pub(crate) struct Shared {
    inbox: Inbox,
    /// Whoever holds this works on the queue.
    desk: Mutex<Desk>,
    /// Whether the feed's consumer is to be told of ready messages.
    hunger: Arc<Hunger>,
    clock: Clock,
    on_failure: Box<dyn Fn(&LogFailed) + Send + Sync>,
}

/// Batches that wait to be worked on.
struct Inbox {
    pile: Mutex<Pile>,
    wake: Condvar,
    /// Bytes handed over and not yet answered.
    bytes: AtomicUsize,
    bytes_max: usize,
}

#[derive(Default)]
struct Pile {
    batches: Vec<Box<dyn Batch>>,
    /// Requests in `batches`.
    requests: usize,
    /// The sleeping thread is woken once so many requests wait; 0 while it is awake.
    wake_at: usize,
    /// The thread shall look at its deadline again.
    roused: bool,
    closing: bool,
}

/// The queue and what is known about the work on it.
struct Desk {
    /// `None` once the keeper has ended.
    queue: Option<Queue<RealDisk>>,
    sync: SyncPolicy,
    /// Room for batches in work, used again and again.
    batches: Vec<Box<dyn Batch>>,
    /// Work that found no room on the disk, and when to try it again.
    postponed: Vec<Box<dyn Batch>>,
    retry_at: Option<Millis>,
    /// The log has failed and that was reported.
    failed: bool,
    /// When the thread looks after the queue by itself.
    deadline: Option<Millis>,
    /// How many requests the next commit is worth waiting for.
    expected: usize,
    /// When the last commit was done.
    last: Instant,
    /// How long a sync takes, a running average.
    sync_time: Duration,
    /// When a commit was slow.
    slow_at: Option<Instant>,
}

impl Keeper {
    /// Starts the thread. `on_failure` is called once, should the log fail.
    ///
    /// Past `bytes_max` bytes handed over and not yet answered, [`Keeper::has_room`] says no.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        name: QueueName,
        queue: Queue<RealDisk>,
        sync: SyncPolicy,
        clock: Clock,
        bytes_max: usize,
        on_failure: impl Fn(&QueueName, &LogFailed) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            inbox: Inbox {
                pile: Mutex::default(),
                wake: Condvar::new(),
                bytes: AtomicUsize::new(0),
                bytes_max,
            },
            desk: Mutex::new(Desk {
                queue: Some(queue),
                sync,
                batches: Vec::new(),
                postponed: Vec::new(),
                retry_at: None,
                failed: false,
                deadline: None,
                expected: 1,
                last: Instant::now(),
                sync_time: QUICK_SYNC,
                slow_at: None,
            }),
            hunger: Arc::default(),
            clock,
            on_failure: {
                let name = name.clone();
                Box::new(move |error| on_failure(&name, error))
            },
        });
        let work = {
            let shared = Arc::clone(&shared);
            move || {
                if catch_unwind(AssertUnwindSafe(|| shared.keep())).is_err() {
                    tracing::error!("a queue's thread panicked; ending the process");
                    std::process::exit(70);
                }
            }
        };
        let thread = thread::Builder::new().name(format!("queue-{name}")).spawn(work)?;
        Ok(Keeper { name, shared, thread: Some(thread) })
    }

    /// The queue's name.
    #[must_use]
    pub fn name(&self) -> &QueueName {
        &self.name
    }

    /// Whether `bytes` more may be handed over now. Whoever gets a no answers "busy" and stores
    /// nothing, so that a slow disk cannot fill the memory.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.shared.has_room(bytes)
    }

    /// Hands work over. It is answered in the order of these calls, perhaps before this one
    /// returns.
    pub fn hand_over(&self, batch: Box<dyn Batch>) {
        self.shared.hand_over(batch);
    }

    /// Where work can be handed over also after the keeper's end, to be dropped then.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.inbox.pile().closing = true;
        self.shared.inbox.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // Its panic has ended the process already.
            let _ = thread.join();
        }
    }
}

impl Inbox {
    fn pile(&self) -> MutexGuard<'_, Pile> {
        self.pile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, batch: Box<dyn Batch>) {
        let mut pile = self.pile();
        if pile.closing {
            // Dropped without the lock: that may be an answer, and be followed by more work.
            drop(pile);
            return;
        }
        pile.requests += batch.requests().max(1);
        pile.batches.push(batch);
        if (1..=pile.requests).contains(&pile.wake_at) {
            pile.wake_at = 0;
            drop(pile);
            self.wake.notify_one();
        }
    }

    /// Whether nothing waits, and the keeper is not about to end.
    fn is_idle(&self) -> bool {
        let pile = self.pile();
        pile.batches.is_empty() && !pile.closing
    }

    /// How many requests wait now.
    fn waiting(&self) -> usize {
        self.pile().requests
    }

    /// Wakes the thread to look at its deadline again; if it is about to sleep, it will not.
    fn rouse(&self) {
        self.pile().roused = true;
        self.wake.notify_one();
    }

    /// Waits for a group of about `expected` requests, but not longer than [`GROUP_WAIT`]; then,
    /// should there be none at all, for the first one or until `idle` has passed. False when there
    /// will be nothing any more.
    fn wait(&self, expected: usize, idle: Option<Duration>) -> bool {
        let mut pile = self.pile();
        if expected > 1 {
            let wait = idle.map_or(GROUP_WAIT, |idle| idle.min(GROUP_WAIT));
            pile = self.sleep(pile, expected, Some(wait));
        }
        pile = self.sleep(pile, 1, idle);
        pile.roused = false;
        !(pile.batches.is_empty() && pile.closing)
    }

    /// Sleeps until `wake_at` requests wait, or it is roused, or the time is over.
    fn sleep<'a>(
        &self,
        mut pile: MutexGuard<'a, Pile>,
        wake_at: usize,
        wait: Option<Duration>,
    ) -> MutexGuard<'a, Pile> {
        if pile.requests >= wake_at || pile.roused || pile.closing {
            return pile;
        }
        pile.wake_at = wake_at;
        let goes_on = |pile: &mut Pile| pile.wake_at > 0 && !pile.roused && !pile.closing;
        pile = match wait {
            None => self.wake.wait_while(pile, goes_on).unwrap_or_else(PoisonError::into_inner),
            Some(wait) => {
                let result = self.wake.wait_timeout_while(pile, wait, goes_on);
                result.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        pile.wake_at = 0;
        pile
    }

    /// Moves what waits to `batches`, which is empty.
    fn take(&self, batches: &mut Vec<Box<dyn Batch>>) {
        let mut pile = self.pile();
        std::mem::swap(&mut pile.batches, batches);
        pile.requests = 0;
    }
}

impl Shared {
    /// See [`Keeper::has_room`].
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let inbox = &self.inbox;
        inbox.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= inbox.bytes_max
    }

    /// See [`Keeper::hand_over`].
    pub(crate) fn hand_over(&self, batch: Box<dyn Batch>) {
        self.inbox.bytes.fetch_add(batch.bytes(), Ordering::Relaxed);
        let batch = match self.desk.try_lock() {
            // The desk is free. What waits in the inbox came first; only the thread takes that on.
            Ok(mut desk) if desk.is_quick(&*batch, self.clock.now()) && self.inbox.is_idle() => {
                desk.batches.push(batch);
                let is_awaited = self.work(&mut desk);
                let deadline = desk.next_deadline(&self.hunger);
                if deadline.is_some_and(|at| desk.deadline.is_none_or(|known| at < known)) {
                    desk.deadline = deadline;
                    self.inbox.rouse();
                }
                drop(desk);
                if is_awaited {
                    self.hunger.wake();
                }
                return;
            }
            _ => batch,
        };
        self.inbox.push(batch);
    }

    pub(crate) fn hunger(&self) -> &Arc<Hunger> {
        &self.hunger
    }

    /// The thread's life.
    fn keep(&self) {
        loop {
            let (expected, deadline) = {
                let mut desk = self.desk();
                desk.deadline = desk.next_deadline(&self.hunger);
                (desk.expected, desk.deadline)
            };
            let idle = deadline.map(|at| Duration::from_millis(at.since(self.clock.now())));
            if !self.inbox.wait(expected, idle) {
                break;
            }
            let mut desk = self.desk();
            // Taken only with the desk in hand: whoever finds the desk free and the inbox empty may
            // be sure that nobody's earlier work is on its way.
            self.inbox.take(&mut desk.batches);
            let is_awaited = self.work(&mut desk);
            drop(desk);
            if is_awaited {
                self.hunger.wake();
            }
        }
        self.hunger.end();
        let mut desk = self.desk();
        let postponed = std::mem::take(&mut desk.postponed);
        if let Some(queue) = desk.queue.take()
            && let Err(error) = queue.close()
            && !desk.failed
        {
            (self.on_failure)(&error);
        }
        drop(desk);
        drop(postponed);
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the desk's batches: applies them, commits once, lets them answer. Says whether the
    /// feed's consumer waits for what is ready now: it is woken when the desk is free again.
    #[must_use]
    fn work(&self, desk: &mut Desk) -> bool {
        let (now, began) = (self.clock.now(), Instant::now());
        // A failed tick fails the commit below as well, and is reported there.
        let _ = desk.queue().tick(now);
        let (mut bytes, mut requests) = (0, 0);
        let mut batches = std::mem::take(&mut desk.batches);
        if desk.retry_at.is_some_and(|at| at <= now) {
            desk.retry_at = None;
            batches.splice(0..0, desk.postponed.drain(..));
        }
        for batch in &mut batches {
            bytes += batch.bytes();
            requests += batch.requests();
            batch.apply(desk.queue(), now);
        }
        let started = Instant::now();
        match desk.queue().commit() {
            Ok(committed) => {
                let took = started.elapsed();
                if committed.bytes > 0 && committed.synced {
                    desk.sync_time = (desk.sync_time * 7 + took) / 8;
                }
                if began.elapsed() > SLOW_WORK {
                    desk.slow_at = Some(began);
                }
                for postponed in batches.drain(..).filter_map(Batch::committed) {
                    bytes -= postponed.bytes();
                    desk.postponed.push(postponed);
                    desk.retry_at = Some(now.plus(TRY_AGAIN_AFTER));
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut desk.failed, true) {
                    (self.on_failure)(&error);
                }
                batches.append(&mut desk.postponed);
                batches.drain(..).for_each(|batch| batch.failed(&error));
            }
        }
        desk.batches = batches;
        self.inbox.bytes.fetch_sub(bytes, Ordering::Relaxed);
        desk.expect(requests, self.inbox.waiting());
        self.hunger.ends(now, desk.queue().ready())
    }
}

impl Desk {
    fn queue(&mut self) -> &mut Queue<RealDisk> {
        self.queue.as_mut().expect("it is open until the keeper ends, and then nobody asks")
    }

    /// When there is something to do that nobody asks for.
    fn next_deadline(&mut self, hunger: &Hunger) -> Option<Millis> {
        // A failed log has nothing to look after, and would be late for it for ever.
        if self.failed {
            return None;
        }
        let retry_at = self.retry_at;
        let queue = self.queue();
        let deadlines = [queue.next_deadline(), hunger.deadline(queue.ready()), retry_at];
        deadlines.into_iter().flatten().min()
    }

    /// Whether this batch takes so little time that its shard may do the work by itself: a short
    /// write, and where every commit syncs, a disk that does so in less time than a busy turn of the
    /// shard takes anyway.
    fn is_quick(&self, batch: &dyn Batch, now: Millis) -> bool {
        let log_bytes = batch.log_bytes();
        let is_behind = self.slow_at.is_some_and(|at| at.elapsed() < KEEP_OFF);
        let syncs_fast = match self.sync {
            SyncPolicy::Interval { .. } | SyncPolicy::Never => true,
            SyncPolicy::Always => self.sync_time < QUICK_SYNC,
        };
        let queue = self.queue.as_ref();
        log_bytes <= QUICK_LOG_BYTES
            && syncs_fast
            && !is_behind
            && queue.is_some_and(|queue| queue.is_short_work(log_bytes, now))
    }

    /// Estimates how many requests the next commit is worth waiting for, after one of `requests`,
    /// while `waiting` more wait already.
    ///
    /// A commit, its wake-ups and its answers cost about the same for one request as for many, so a
    /// busy queue gathers: as many as come in within [`GATHER`], but not more than three quarters of
    /// the clients at work, who are those just answered and those who wait. The others would be
    /// waited for in vain, since they wait for us; and a lone client is never waited for.
    fn expect(&mut self, requests: usize, waiting: usize) {
        let now = Instant::now();
        let cycle = now.duration_since(std::mem::replace(&mut self.last, now));
        let gathered = requests as u128 * GATHER.as_nanos() / cycle.as_nanos().max(1);
        let at_work = (requests + waiting) * 3 / 4;
        let gathered = usize::try_from(gathered).unwrap_or(GROUP_MAX);
        self.expected = gathered.min(at_work).clamp(1, GROUP_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;
    use crate::{QueueSettings, Seq};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A put that tells its number once it is committed.
    struct Put {
        seq: Option<Seq>,
        requests: usize,
        committed: Sender<Seq>,
    }

    impl Batch for Put {
        fn apply(&mut self, queue: &mut Queue<RealDisk>, now: Millis) {
            self.seq = Some(queue.put(b"a message", None, 0, now).unwrap());
        }

        fn committed(self: Box<Self>) -> Option<Box<dyn Batch>> {
            let _ = self.committed.send(self.seq.unwrap());
            None
        }

        fn failed(self: Box<Self>, error: &LogFailed) {
            panic!("{error}");
        }

        fn bytes(&self) -> usize {
            9
        }

        fn log_bytes(&self) -> usize {
            100
        }

        fn requests(&self) -> usize {
            self.requests
        }
    }

    fn start(directory: &std::path::Path, sync: SyncPolicy) -> Keeper {
        let settings = QueueSettings { sync, ..QueueSettings::default() };
        let clock = Clock::start();
        let (queue, _) = Queue::open(directory, &settings, clock.now()).unwrap();
        let name = QueueName::new("test").unwrap();
        let on_failure = |_: &QueueName, error: &LogFailed| panic!("{error}");
        Keeper::start(name, queue, sync, clock, 1 << 20, on_failure).unwrap()
    }

    fn put(keeper: &Keeper, requests: usize) -> Receiver<Seq> {
        let (committed, is_committed) = mpsc::channel();
        keeper.hand_over(Box::new(Put { seq: None, requests, committed }));
        is_committed
    }

    #[test]
    fn a_quick_batch_is_answered_before_hand_over_returns() {
        let directory = tempfile::tempdir().unwrap();
        let keeper = start(directory.path(), SyncPolicy::Never);
        // Whether the disk is behind is the machine's business, so one of some will do.
        let quick = (1..=50).filter(|_| put(&keeper, 1).try_recv().is_ok()).count();
        assert!(quick > 0);
    }

    #[test]
    fn a_group_is_left_to_the_thread_and_answered_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let keeper = start(directory.path(), SyncPolicy::Always);
        for n in 1..=50 {
            let requests = if n % 7 == 0 { 100 } else { 1 };
            assert_eq!(put(&keeper, requests).recv_timeout(PATIENCE).unwrap(), Seq::new(n));
        }
    }

    #[test]
    fn each_thread_s_batches_keep_their_order() {
        let directory = tempfile::tempdir().unwrap();
        for sync in [SyncPolicy::Never, SyncPolicy::Always] {
            let keeper = start(&directory.path().join(format!("{sync:?}")), sync);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let waiting: Vec<_> = (0..200).map(|_| put(&keeper, 1)).collect();
                        let seqs: Vec<_> =
                            waiting.iter().map(|one| one.recv_timeout(PATIENCE).unwrap()).collect();
                        assert!(seqs.is_sorted(), "{seqs:?}");
                    });
                }
            });
        }
    }

    #[test]
    fn what_a_shard_wrote_is_synced_when_its_interval_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let keeper = start(directory.path(), SyncPolicy::Interval { milliseconds: 1 });
        for _ in 0..200 {
            put(&keeper, 1).recv_timeout(PATIENCE).unwrap();
            let deadline = Instant::now() + PATIENCE;
            while keeper.shared.desk().queue().next_deadline().is_some() {
                assert!(Instant::now() < deadline, "the thread sleeps over unsynced data");
                std::thread::yield_now();
            }
        }
    }

    /// A put that finds no room until there is some, as it says.
    struct Unlucky {
        has_room: Arc<AtomicBool>,
        put: Box<Put>,
    }

    impl Batch for Unlucky {
        fn apply(&mut self, queue: &mut Queue<RealDisk>, now: Millis) {
            if self.has_room.load(Ordering::Relaxed) {
                self.put.apply(queue, now);
            }
        }

        fn committed(self: Box<Self>) -> Option<Box<dyn Batch>> {
            if self.put.seq.is_none() { Some(self) } else { self.put.committed() }
        }

        fn failed(self: Box<Self>, error: &LogFailed) {
            panic!("{error}");
        }

        fn bytes(&self) -> usize {
            9
        }

        fn log_bytes(&self) -> usize {
            100
        }

        fn requests(&self) -> usize {
            1
        }
    }

    #[test]
    fn what_finds_no_room_is_tried_again_and_holds_up_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let keeper = start(directory.path(), SyncPolicy::Always);
        let (committed, is_committed) = mpsc::channel();
        let has_room: Arc<AtomicBool> = Arc::default();
        let put_later = Box::new(Put { seq: None, requests: 1, committed });
        keeper.hand_over(Box::new(Unlucky { has_room: Arc::clone(&has_room), put: put_later }));
        assert_eq!(put(&keeper, 1).recv_timeout(PATIENCE).unwrap(), Seq::new(1));
        assert!(!keeper.has_room(1 << 20), "it waits");
        has_room.store(true, Ordering::Relaxed);
        assert_eq!(is_committed.recv_timeout(PATIENCE).unwrap(), Seq::new(2));
        assert_eq!(put(&keeper, 1).recv_timeout(PATIENCE).unwrap(), Seq::new(3));
        let deadline = Instant::now() + PATIENCE;
        while !keeper.has_room(1 << 20) {
            assert!(Instant::now() < deadline, "all are answered, and still bytes are counted");
            thread::yield_now();
        }
    }

    #[test]
    fn dropping_the_keeper_commits_what_waits() {
        let directory = tempfile::tempdir().unwrap();
        let keeper = start(directory.path(), SyncPolicy::Always);
        let waiting: Vec<_> = (0..100).map(|_| put(&keeper, 50)).collect();
        drop(keeper);
        for (n, one) in waiting.iter().enumerate() {
            assert_eq!(one.try_recv().unwrap(), Seq::new(n as u64 + 1));
        }
    }
}
