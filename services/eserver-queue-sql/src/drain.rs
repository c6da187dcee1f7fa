//! [`Drain`]: from one queue into one database.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use eserver::{Announce, Consumer, Feed, FeedFailed, Report};
use thiserror::Error;
use tokio::runtime;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet, LocalSet};

use crate::dispatcher::{Dealing, Dispatcher};
use crate::engine::Engine;
use crate::lane::{Lane, Origin};
use crate::message::Reader;
use crate::sink::mysql::MySql;
use crate::sink::postgres::Postgres;
use crate::sink::sqlite::Sqlite;
use crate::sink::{Place, Sink};
use crate::statement::Statement;
use crate::stats::Stats;
use crate::target::{Connection, Target};

/// Lanes a drain may have at most.
pub const LANES_MAX: usize = 64;

/// How a drain works.
#[derive(Debug, Clone)]
pub struct DrainSettings {
    /// The queue's name, for people; which queue it really is, the feed says.
    pub queue: String,
    /// The database.
    pub target: Target,
    /// Messages in one transaction, at most; at least 1.
    pub batch_max: usize,
    /// How long a batch that is not full waits for more.
    pub linger: Duration,
    /// Connections that work side by side, 1 to [`LANES_MAX`]. Order is kept among messages with the
    /// same key, and among those without.
    pub lanes: usize,
    /// Whether a message may bring SQL of its own.
    pub raw_sql: bool,
    /// How often a batch that failed for a passing reason is tried again as a whole.
    pub retries_max: u32,
    /// SQL by name, with `?` for each parameter.
    pub statements: Vec<(String, String)>,
}

/// Why a drain cannot be made.
#[derive(Debug, Error)]
pub enum DrainError {
    /// A named statement cannot be one of a drain.
    #[error("the statement {name:?}: {sentence}")]
    Statement {
        /// Its name.
        name: String,
        /// What is wrong with it.
        sentence: String,
    },
    /// More than one lane into a database that has one writer.
    #[error("{0} has one writer at a time: `lanes` must be 1")]
    Lanes(Engine),
}

/// Why a database cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{sentence}")]
pub struct ConnectError {
    /// The name of the statement that the database refuses, if that is why.
    pub statement: Option<String>,
    /// What is wrong, in the database's words.
    pub sentence: String,
}

/// Looks a statement through, as it would stand in a configuration, and tells how many parameters it
/// takes.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn check_statement(engine: Engine, sql: &str) -> Result<usize, String> {
    let checked = Statement::with_params(engine, sql);
    checked.map(|statement| statement.params()).map_err(|error| error.to_string())
}

/// A drain that is not at work yet: it knows what it would do with a message.
pub struct Drain {
    settings: DrainSettings,
    reader: Reader,
    stats: Arc<Stats>,
}

impl Drain {
    /// Looks the statements through.
    ///
    /// # Errors
    /// [`DrainError`].
    pub fn new(settings: DrainSettings) -> Result<Self, DrainError> {
        let engine = settings.target.engine();
        if engine == Engine::Sqlite && settings.lanes > 1 {
            return Err(DrainError::Lanes(engine));
        }
        let reader = Reader::new(engine, &settings.statements, settings.raw_sql)
            .map_err(|(name, error)| DrainError::Statement { name, sentence: error.to_string() })?;
        Ok(Drain { settings, reader, stats: Arc::new(Stats::default()) })
    }

    /// How it works.
    #[must_use]
    pub fn settings(&self) -> &DrainSettings {
        &self.settings
    }

    /// Connects, looks whether positions can be kept there, and has the database look at every named
    /// statement; says who answered, such as `PostgreSQL 15.18`. Blocks.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn try_connect(&self) -> Result<String, ConnectError> {
        let statements = self.reader.named();
        let runtime = new_runtime().map_err(|error| ConnectError {
            statement: None,
            sentence: format!("cannot start a runtime: {error}"),
        })?;
        LocalSet::new().block_on(&runtime, async {
            match self.settings.target.connection() {
                Connection::Sqlite(target) => Sqlite::verify(target, &statements).await,
                Connection::Postgres(target) => Postgres::verify(target, &statements).await,
                Connection::MySql(target) => MySql::verify(target, &statements).await,
            }
        })
    }

    /// Starts to work on a thread of its own.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        self: &Arc<Self>,
        feed: Arc<dyn Feed>,
        announce: Arc<dyn Announce>,
    ) -> std::io::Result<Draining> {
        let (stop, stopped) = watch::channel(false);
        let (ended, has_ended) = mpsc::channel();
        let drain = Arc::clone(self);
        let runtime = new_runtime()?;
        let work = move || {
            let run = async {
                match drain.settings.target.connection() {
                    Connection::Sqlite(target) => {
                        drain.run::<Sqlite>(target, feed, announce, stopped).await
                    }
                    Connection::Postgres(target) => {
                        drain.run::<Postgres>(target, feed, announce, stopped).await
                    }
                    Connection::MySql(target) => {
                        drain.run::<MySql>(target, feed, announce, stopped).await
                    }
                }
            };
            let run = || LocalSet::new().block_on(&runtime, run);
            match catch_unwind(AssertUnwindSafe(run)) {
                Ok(Ok(())) => {}
                // The queue's failure is reported by the queue, and ends the process.
                Ok(Err(error)) => {
                    tracing::warn!(queue = %drain.settings.queue, %error, "the drain has ended");
                }
                Err(_) => {
                    tracing::error!("a drain's thread panicked; ending the process");
                    std::process::exit(70);
                }
            }
            drop(ended);
        };
        let name = format!("drain-{}", self.settings.queue);
        thread::Builder::new().name(name).spawn(work)?;
        Ok(Draining { queue: self.settings.queue.clone(), stop, has_ended })
    }

    async fn run<S: Sink + 'static>(
        &self,
        target: &S::Target,
        feed: Arc<dyn Feed>,
        announce: Arc<dyn Announce>,
        stop: watch::Receiver<bool>,
    ) -> Result<(), FeedFailed> {
        let settings = &self.settings;
        let reader = Reader::new(settings.target.engine(), &settings.statements, settings.raw_sql);
        let Ok(reader) = reader else {
            unreachable!("the same statements were looked through before");
        };
        let dealing = Dealing { batch_max: settings.batch_max.max(1), linger: settings.linger };
        let (queue, epoch) = (feed.name().to_owned(), feed.epoch());
        let origin = Rc::new(Origin::new(feed.next_id()));
        let (mut dispatcher, finishing) =
            Dispatcher::new(feed, announce, reader, Arc::clone(&self.stats), dealing);
        let mut lanes = JoinSet::new();
        for lane in 0..settings.lanes.clamp(1, LANES_MAX) {
            let place = Place { queue: queue.clone(), epoch, lane: lane as u32 };
            let (called, stats) = (settings.target.describe(), Arc::clone(&self.stats));
            let (retries_max, origin) = (settings.retries_max, Rc::clone(&origin));
            let lane = Lane::<S>::new(target.clone(), place, called, retries_max, stats, origin);
            lanes.spawn_local(dispatcher.add_lane(&finishing, lane));
        }
        tokio::select! {
            ended = dispatcher.run(stop) => ended,
            Some(lane) = lanes.join_next() => {
                // Lanes end before their dispatcher only by a panic, which goes on from here.
                match lane.map_err(JoinError::try_into_panic) {
                    Err(Ok(panic)) => resume_unwind(panic),
                    _ => Err(FeedFailed("a lane has ended".to_owned())),
                }
            }
        }
    }
}

impl Consumer for Drain {
    fn admit(&self, payload: &[u8]) -> Result<(), String> {
        self.reader.admit(payload)
    }

    fn report(&self) -> Report {
        self.stats.report()
    }
}

/// A drain at work. Dropping it lets it work on, until the process ends.
pub struct Draining {
    queue: String,
    stop: watch::Sender<bool>,
    has_ended: mpsc::Receiver<()>,
}

impl Draining {
    /// Asks it to stop, and returns at once; [`Draining::stop`] waits for it.
    pub fn begin_stop(&self) {
        // Nobody listens when it has ended already.
        let _ = self.stop.send(true);
    }

    /// Takes no more messages, lets the transactions that are open end, and settles what they did;
    /// whatever is still at work after `patience` is left alone: nothing is lost or done twice
    /// thereby.
    pub fn stop(self, patience: Duration) {
        self.begin_stop();
        if self.has_ended.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!(queue = %self.queue,
                "the drain's database did not answer in time; its last batch is settled at the \
                 next start");
        }
    }
}

/// One thread is enough: the databases do the work.
fn new_runtime() -> std::io::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}
