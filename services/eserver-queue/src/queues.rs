//! [`Queues`]: every queue of a server, each with its keeper.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use eserver::{Consumer, Feed, Intake};
use thiserror::Error;

use crate::events::Events;
use crate::feed::QueueFeed;
use crate::intake::QueueIntake;
use crate::keeper::{Clock, Keeper};
use crate::log::LogFailed;
use crate::name::{QueueName, QueueNameError};
use crate::opening::recovery::{OpenError, Recovery};
use crate::queue::Queue;
use crate::settings::QueueSettings;
use crate::store::{Store, StoreError};

/// The index of the queue for requests that name none.
pub const DEFAULT_QUEUE: usize = 0;

/// Its name, which no configured queue may have.
pub const DEFAULT_QUEUE_NAME: &str = "default";

/// The queues of one data directory, which is locked while they are open.
///
/// Dropping them commits and closes each.
pub struct Queues {
    members: Vec<Member>,
    events: Arc<Events>,
    /// Held until the keepers have ended: fields are dropped in this order.
    _store: Store,
}

/// One queue and those who have to do with it.
struct Member {
    keeper: Keeper,
    epoch: u64,
    /// What the next message's number was at the opening.
    next_id: u64,
    consumer: Option<Arc<dyn Consumer>>,
}

/// Why the queues cannot be opened.
#[derive(Debug, Error)]
pub enum QueuesError {
    /// A name breaks a rule.
    #[error("{0:?} cannot be a queue's name")]
    Name(String, #[source] QueueNameError),
    /// A name stands twice, or is that of the default queue.
    #[error("there are two queues named {0:?}")]
    Duplicate(String),
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A queue cannot be opened.
    #[error("cannot open the queue {0}")]
    Open(QueueName, #[source] OpenError),
    /// A queue's thread cannot be started.
    #[error("cannot start the thread of the queue {0}")]
    Thread(QueueName, #[source] std::io::Error),
}

impl Queues {
    /// Opens the default queue and one for each of `names` in `directory`, and starts their
    /// keepers. What recovery found is logged.
    ///
    /// `on_failure` is called when a queue's log fails; nothing in that queue is acknowledged from
    /// then on. For `inbox_bytes_max` see [`Keeper::start`].
    ///
    /// # Errors
    /// [`QueuesError`]; no thread is left running then.
    pub fn open(
        directory: &Path,
        names: &[String],
        settings: &QueueSettings,
        clock: Clock,
        inbox_bytes_max: usize,
        on_failure: impl Fn(&QueueName, &LogFailed) + Send + Sync + 'static,
    ) -> Result<Self, QueuesError> {
        let mut seen = HashSet::new();
        let mut parsed = Vec::new();
        for name in std::iter::once(DEFAULT_QUEUE_NAME).chain(names.iter().map(String::as_str)) {
            if !seen.insert(name) {
                return Err(QueuesError::Duplicate(name.to_owned()));
            }
            let valid = QueueName::new(name);
            parsed.push(valid.map_err(|error| QueuesError::Name(name.to_owned(), error))?);
        }
        let store = Store::open(directory)?;
        for name in store.queues()?.iter().filter(|name| !parsed.contains(name)) {
            tracing::warn!(
                queue = %name,
                "is in the data directory but not among the configured names; it is left as it is"
            );
        }
        let on_failure = Arc::new(on_failure);
        let mut members = Vec::new();
        for name in parsed {
            let opened = store.open_queue(&name, settings, clock.now());
            let (queue, recovery) =
                opened.map_err(|error| QueuesError::Open(name.clone(), error))?;
            report(&name, &queue, &recovery);
            let epoch = store.epoch(&name, &queue, &recovery)?;
            let next_id = queue.stats().next_seq;
            let on_failure = Arc::clone(&on_failure);
            let on_failure = move |name: &QueueName, error: &LogFailed| on_failure(name, error);
            let keeper = Keeper::start(
                name.clone(),
                queue,
                settings.sync,
                clock,
                inbox_bytes_max,
                on_failure,
            );
            let keeper = keeper.map_err(|error| QueuesError::Thread(name, error))?;
            members.push(Member { keeper, epoch, next_id, consumer: None });
        }
        Ok(Queues { members, events: Arc::default(), _store: store })
    }

    /// Says who works off a queue: it is asked whether it admits a message before that is put, and
    /// is a part of the queue's statistics. To be said before anybody is served.
    pub fn set_consumer(&mut self, index: usize, consumer: Arc<dyn Consumer>) {
        self.members[index].consumer = Some(consumer);
    }

    /// Who works off the queue at an index, if anybody does.
    #[must_use]
    pub fn consumer(&self, index: usize) -> Option<&dyn Consumer> {
        self.members[index].consumer.as_deref()
    }

    /// The messages of the queue at an index, for one consumer in this process. It does not keep the
    /// queue open; once that is closed its turns fail.
    #[must_use]
    pub fn feed(&self, index: usize) -> Arc<dyn Feed> {
        let Member { keeper, epoch, next_id, .. } = &self.members[index];
        Arc::new(QueueFeed::new(keeper, *epoch, *next_id))
    }

    /// The way into the queue at an index, for services of this process. It does not keep the queue
    /// open; once that is closed nothing is taken.
    #[must_use]
    pub fn intake(&self, index: usize) -> Arc<dyn Intake> {
        Arc::new(QueueIntake::new(&self.members[index].keeper))
    }

    /// Where clients watch what is announced.
    #[must_use]
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// All keepers; the default queue's stands first.
    pub fn keepers(&self) -> impl ExactSizeIterator<Item = &Keeper> {
        self.members.iter().map(|member| &member.keeper)
    }

    /// The keeper at an index below the number of [`Queues::keepers`].
    #[must_use]
    pub fn keeper(&self, index: usize) -> &Keeper {
        &self.members[index].keeper
    }

    /// The index of the queue with this name.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        // Some names and a short comparison each: quicker than hashing.
        self.keepers().position(|keeper| keeper.name().as_str() == name)
    }
}

/// Logs what recovery found: nothing special is one line, damage is an error for each.
fn report(name: &QueueName, queue: &Queue, recovery: &Recovery) {
    let messages = queue.length();
    if !recovery.is_new {
        tracing::info!(queue = %name, messages, clean = recovery.is_clean, "queue opened");
    }
    if let Some(torn) = &recovery.torn {
        tracing::warn!(
            queue = %name, segment = torn.segment, offset = torn.offset, bytes = torn.bytes,
            "cut off an unfinished write at the end of the log; none of it was acknowledged"
        );
    }
    for damage in &recovery.damages {
        tracing::error!(queue = %name, ?damage, "the log is damaged; everything readable is kept");
    }
    for (first, last) in &recovery.lost {
        tracing::error!(queue = %name, %first, %last, "messages are lost with the damaged part");
    }
}
