//! [`Keeper`]: the thread that owns a queue, and group commit.
//!
//! Shards, drains and whoever else works on the queue hand over [`Batch`]es. The keeper takes all
//! that wait, applies them in order, commits once, and only then lets them answer: what arrives
//! during one commit shares the next. So the busier the queue, the cheaper its durability.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::disk::RealDisk;
use crate::log::LogFailed;
use crate::millis::Millis;
use crate::name::QueueName;
use crate::queue::Queue;

/// Work on a queue that is answered after its commit.
pub trait Batch: Send {
    /// Does the work; what it decides is not final before [`Batch::committed`].
    fn apply(&mut self, queue: &mut Queue<RealDisk>, now: Millis);

    /// The work is as durable as the queue's `sync` setting says: answers may leave.
    fn committed(self: Box<Self>);

    /// The log failed: nothing of this batch may be acknowledged.
    fn failed(self: Box<Self>, error: &LogFailed);

    /// Bytes of payload that the batch carries.
    fn bytes(&self) -> usize;
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
        let wall_at_start = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Clock {
            started: Instant::now(),
            wall_at_start,
        }
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn now(&self) -> Millis {
        let now = self.wall_at_start + self.started.elapsed();
        Millis::new(u64::try_from(now.as_millis()).expect("584 million years fit"))
    }
}

/// A running keeper; dropping it commits and closes the queue.
pub struct Keeper {
    name: QueueName,
    inbox: Arc<Inbox>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Batches that wait for the keeper.
struct Inbox {
    pile: Mutex<Pile>,
    wake: Condvar,
    /// Bytes handed over and not yet answered.
    bytes: AtomicUsize,
    bytes_max: usize,
}

struct Pile {
    batches: Vec<Box<dyn Batch>>,
    asleep: bool,
    closing: bool,
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
        clock: Clock,
        bytes_max: usize,
        on_failure: impl Fn(&QueueName, &LogFailed) + Send + 'static,
    ) -> std::io::Result<Self> {
        let pile = Pile {
            batches: Vec::new(),
            asleep: false,
            closing: false,
        };
        let inbox = Arc::new(Inbox {
            pile: Mutex::new(pile),
            wake: Condvar::new(),
            bytes: AtomicUsize::new(0),
            bytes_max,
        });
        let work = {
            let (inbox, name) = (Arc::clone(&inbox), name.clone());
            move || keep(&inbox, queue, clock, &|error| on_failure(&name, error))
        };
        let thread = thread::Builder::new()
            .name(format!("queue-{name}"))
            .spawn(work)?;
        Ok(Keeper {
            name,
            inbox,
            thread: Some(thread),
        })
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
        self.inbox
            .bytes
            .load(Ordering::Relaxed)
            .saturating_add(bytes)
            <= self.inbox.bytes_max
    }

    /// Hands work over. It is answered in the order of this call.
    pub fn hand_over(&self, batch: Box<dyn Batch>) {
        self.inbox.bytes.fetch_add(batch.bytes(), Ordering::Relaxed);
        let mut pile = self.inbox.pile();
        pile.batches.push(batch);
        if std::mem::take(&mut pile.asleep) {
            drop(pile);
            self.inbox.wake.notify_one();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.inbox.pile().closing = true;
        self.inbox.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(queue = %self.name, "the queue's thread panicked");
        }
    }
}

impl Inbox {
    fn pile(&self) -> MutexGuard<'_, Pile> {
        self.pile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for batches, at most until `deadline`; false when there will be none any more.
    fn take(&self, batches: &mut Vec<Box<dyn Batch>>, wait: Option<Duration>) -> bool {
        let mut pile = self.pile();
        if pile.batches.is_empty() && !pile.closing {
            pile.asleep = true;
            let awake = |pile: &mut Pile| pile.asleep && !pile.closing;
            pile = match wait {
                None => self
                    .wake
                    .wait_while(pile, awake)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(wait) => {
                    let result = self.wake.wait_timeout_while(pile, wait, awake);
                    result.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            pile.asleep = false;
        }
        std::mem::swap(&mut pile.batches, batches);
        !(batches.is_empty() && pile.closing)
    }
}

/// The keeper's life.
fn keep(inbox: &Inbox, mut queue: Queue<RealDisk>, clock: Clock, on_failure: &dyn Fn(&LogFailed)) {
    let mut batches = Vec::new();
    let mut failed = false;
    loop {
        let wait = queue
            .next_deadline()
            .map(|at| Duration::from_millis(at.since(clock.now())));
        if !inbox.take(&mut batches, wait) {
            break;
        }
        let now = clock.now();
        // A failed tick fails the commit below as well, and is reported there.
        let _ = queue.tick(now);
        let mut bytes = 0;
        for batch in &mut batches {
            bytes += batch.bytes();
            batch.apply(&mut queue, now);
        }
        match queue.commit() {
            Ok(_) => batches.drain(..).for_each(Batch::committed),
            Err(error) => {
                if !std::mem::replace(&mut failed, true) {
                    on_failure(&error);
                }
                batches.drain(..).for_each(|batch| batch.failed(&error));
            }
        }
        inbox.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
    if let Err(error) = queue.close()
        && !failed
    {
        on_failure(&error);
    }
}
