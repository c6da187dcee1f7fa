//! A database that is away for a while, and how the drain catches up: [`measure`].

use std::time::{Duration, Instant};

use super::arrivals::Arrivals;
use super::database::Database;
use super::site::Site;
use super::ways::put_request;
use crate::bench::servers::Premises;

/// How long all is well before the outage.
const BEFORE: Duration = Duration::from_secs(2);

/// The drain has caught up when no more is left than what arrives in this part of a second.
const LEFT_PART: u64 = 10;

/// What an outage was like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outage {
    /// Acknowledged puts, all the time.
    pub(super) arrivals_per_second: f64,
    /// From the kill until the database accepted connections again.
    pub(super) outage_seconds: f64,
    /// Messages in the queue when it did.
    pub(super) backlog: u64,
    /// From then until the first batch was applied.
    pub(super) reconnect_seconds: f64,
    /// From the first batch until the drain had caught up.
    pub(super) catch_up_seconds: f64,
    /// Rows applied while catching up, per second.
    pub(super) rows_per_second: f64,
}

impl Outage {
    /// How many times faster than messages arrived the drain worked off what had gathered.
    pub(super) fn ratio(&self) -> f64 {
        self.rows_per_second / self.arrivals_per_second
    }
}

/// Kills the database, for at least `away`, while messages arrive at `rate` per second.
pub(super) fn measure(
    database: &mut Database,
    premises: &Premises,
    drain_settings: &[String],
    rate: u64,
    away: Duration,
) -> anyhow::Result<Outage> {
    database.reset()?;
    let site = Site::new(premises, drain_settings)?;
    let mut eserver = site.start(Some(database))?;
    let arrivals = Arrivals::start(eserver.program.address, &put_request(), rate);
    arrivals.go_on(BEFORE);
    let killed = Instant::now();
    database.kill()?;
    arrivals.go_on(away);
    database.restart()?;
    let accepts = Instant::now();
    let at_return = eserver.progress()?;
    let (first, first_at) = eserver.wait_until(|progress| progress.applied > at_return.applied)?;
    let (last, last_at) = eserver.wait_until(|progress| progress.waiting < rate / LEFT_PART)?;
    let (acknowledged, arrivals_per_second) = arrivals.end()?;
    eserver.wait_until(|progress| progress.waiting == 0)?;
    eserver.program.end()?;
    database.check_rows(acknowledged)?;
    let catch_up_seconds = (last_at - first_at).as_secs_f64();
    Ok(Outage {
        arrivals_per_second,
        outage_seconds: (accepts - killed).as_secs_f64(),
        backlog: at_return.waiting,
        reconnect_seconds: (first_at - accepts).as_secs_f64(),
        catch_up_seconds,
        rows_per_second: (last.applied - first.applied) as f64 / catch_up_seconds,
    })
}
