//! The ways of a row into the table: each [`Way`] and how it is measured.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use eserver_bench::protocol::{Exact, RedisPush};
use eserver_bench::{Extent, Plan, Protocol, run as run_load};
use eserver_wire::framed;

use super::cpu::Meter;
use super::database::Database;
use super::php;
use super::results::Sample;
use super::site::{Site, message};
use crate::bench::servers::{Peer, Premises, Server};

/// Clients that put singly.
const CLIENTS: usize = 64;

/// PHP processes that each write a row per connection.
const PHP_PROCESSES: usize = 8;

/// Messages in Redis before its consumer starts; more than one that works singly takes in a run.
const REDIS_MESSAGES: u64 = 60_000;

/// Messages of each command that fills the Redis list.
const REDIS_FILL: usize = 500;

/// Messages of each transaction of the better consumer.
const REDIS_BATCH: u64 = 100;

/// Longest time to fill a Redis list.
const FILL_TIMEOUT: Duration = Duration::from_secs(60);

/// How a row gets into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// 1,000 rows in the text of each statement, one connection: what the engine can do.
    Engine,
    /// A drain works off a full queue.
    Backlog,
    /// Clients put singly into a queue with a drain.
    Put,
    /// PHP connects, inserts a row, and disconnects.
    PhpRequest,
    /// PHP takes one message from Redis and inserts it.
    RedisSingly,
    /// PHP takes 100 messages from Redis and inserts them in one transaction.
    RedisBatch,
}

impl Way {
    /// All of them, in the order of the report.
    pub(super) const ALL: [Self; 6] = [
        Self::Engine,
        Self::Backlog,
        Self::Put,
        Self::PhpRequest,
        Self::RedisSingly,
        Self::RedisBatch,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine by itself, 1,000-row statements",
            Self::Backlog => "eserver, a full queue",
            Self::Put => "eserver, 64 clients put singly",
            Self::PhpRequest => "(a) PHP, a connection per row, 8 processes",
            Self::RedisSingly => "(b) PHP from Redis, one by one",
            Self::RedisBatch => "(b) PHP from Redis, 100 in each transaction",
        }
    }

    /// Its name for programs.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Backlog => "backlog",
            Self::Put => "put",
            Self::PhpRequest => "php_request",
            Self::RedisSingly => "redis_singly",
            Self::RedisBatch => "redis_batch",
        }
    }
}

/// How much is measured, and with what.
#[derive(Debug)]
pub(super) struct Extents<'run> {
    pub(super) premises: &'run Premises,
    /// Rows of the engine by itself and of the full queue.
    pub(super) rows: u64,
    /// Seconds of every other way.
    pub(super) seconds: f64,
    /// Lines below `[[drain]]`.
    pub(super) drain_settings: &'run [String],
}

impl Extents<'_> {
    /// Measures one way into a table made anew, and looks whether every row is there.
    pub(super) fn measure(&self, way: Way, database: &mut Database) -> anyhow::Result<Sample> {
        database.reset()?;
        match way {
            Way::Engine => self.engine(database),
            Way::Backlog => self.backlog(database),
            Way::Put => self.put(database),
            Way::PhpRequest => self.php_request(database),
            Way::RedisSingly => self.redis(database, 1),
            Way::RedisBatch => self.redis(database, REDIS_BATCH),
        }
    }

    fn engine(&self, database: &Database) -> anyhow::Result<Sample> {
        let meter = Meter::start(None, database)?;
        let elapsed = database.insert_by_itself(self.rows)?;
        let sample =
            Sample::new(self.rows as f64 / elapsed.as_secs_f64()).cpu(meter.stop(self.rows)?);
        database.check_numbers(self.rows)?;
        Ok(sample)
    }

    fn backlog(&self, database: &Database) -> anyhow::Result<Sample> {
        let site = Site::new(self.premises, self.drain_settings)?;
        let mut filling = site.start(None)?;
        filling.fill(self.rows)?;
        filling.program.end()?;
        let mut eserver = site.start(Some(database))?;
        let meter = Meter::start(Some(eserver.program.id()), database)?;
        let (start, before) = (Instant::now(), eserver.progress()?.applied);
        let (_, end) = eserver.wait_until(|progress| progress.applied >= self.rows)?;
        // What was applied before the first look does not count, and neither does its time.
        let rows = self.rows - before;
        ensure!(rows > self.rows / 2, "too few rows: {before} were applied before the first look");
        let sample = Sample::new(rows as f64 / (end - start).as_secs_f64()).cpu(meter.stop(rows)?);
        eserver.program.end()?;
        database.check_numbers(self.rows)?;
        Ok(sample)
    }

    fn put(&self, database: &Database) -> anyhow::Result<Sample> {
        let site = Site::new(self.premises, self.drain_settings)?;
        let mut eserver = site.start(Some(database))?;
        let plan = Plan {
            connections: CLIENTS,
            extent: Extent::Time {
                warm_up: Duration::from_secs_f64((self.seconds / 4.0).min(0.5)),
                measured: Duration::from_secs_f64(self.seconds),
            },
            ..Plan::new(eserver.program.address)
        };
        let meter = Meter::start(Some(eserver.program.id()), database)?;
        let start = Instant::now();
        let outcome =
            run_load(&plan, &put_request()).with_context(|| eserver.program.messages())?;
        ensure!(outcome.errors.total() == 0, "{}", outcome.errors);
        let last_answer = Instant::now();
        let rows = outcome.answered;
        let (_, end) = eserver.wait_until(|progress| progress.applied >= rows)?;
        let mut sample =
            Sample::new(rows as f64 / (end - start).as_secs_f64()).cpu(meter.stop(rows)?);
        sample.puts_per_second = Some(outcome.operations_per_second());
        sample.put_p99_us = Some(outcome.latency_us(0.99));
        sample.behind_seconds = Some((end - last_answer).as_secs_f64());
        eserver.program.end()?;
        database.check_rows(rows)?;
        Ok(sample)
    }

    fn php_request(&self, database: &Database) -> anyhow::Result<Sample> {
        let arguments = [&database.data_source()[..], &[self.seconds.to_string()]].concat();
        self.php(database, "insert.php", &arguments, PHP_PROCESSES)
    }

    fn redis(&self, database: &Database, batch: u64) -> anyhow::Result<Sample> {
        // Without a log of its own: what is in it is lost with it, but nothing is faster.
        let server = Server::start(Peer::RedisOff, self.premises)?;
        let value = r#"{"num":1,"name":"name 1"}"#;
        let push = RedisPush::new(value, REDIS_FILL);
        let plan = Plan {
            extent: Extent::Requests {
                count: REDIS_MESSAGES / push.operations(),
                deadline: FILL_TIMEOUT,
            },
            ..Plan::new(server.address)
        };
        let outcome = run_load(&plan, &push).with_context(|| server.messages())?;
        ensure!(outcome.errors.total() == 0, "filling: {}", outcome.errors);
        let numbers =
            [self.seconds.to_string(), server.address.port().to_string(), batch.to_string()];
        let arguments = [&database.data_source()[..], &numbers].concat();
        self.php(database, "consume.php", &arguments, 1)
    }

    fn php(
        &self,
        database: &Database,
        script: &str,
        arguments: &[String],
        processes: usize,
    ) -> anyhow::Result<Sample> {
        let meter = Meter::start(None, database)?;
        let done = php::run(script, arguments, processes)?;
        let sample = Sample::new(done.rows_per_second).cpu(meter.stop(done.rows)?);
        database.check_rows(done.rows)?;
        Ok(sample)
    }
}

/// The put of one message into a queue with a drain, and its answer.
pub(super) fn put_request() -> Exact {
    const PUT: u16 = 8001;
    let frame = |body: &[u8]| {
        let mut bytes = Vec::new();
        framed::encode(PUT, body, &mut bytes).expect("a short body fits into a frame");
        bytes
    };
    Exact {
        request: frame(message(1).to_string().as_bytes()),
        reply: frame(br#"{"msg":"success"}"#),
    }
}
