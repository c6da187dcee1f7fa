//! [`Sink`]: a database, as a lane needs it. One file for each engine.

pub(crate) mod mysql;
pub(crate) mod postgres;
mod run;
pub(crate) mod sqlite;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

use crate::message::Message;
use crate::position::Position;

/// Where a lane keeps its position: the key of its row in the table `eserver_drain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The queue's name.
    pub(crate) queue: String,
    /// The queue's epoch; another one is another row.
    pub(crate) epoch: u64,
    /// Which of the drain's lanes, from 0.
    pub(crate) lane: u32,
}

impl Place {
    /// A row that belongs to no queue, to try whether rows can be written.
    fn of_trial() -> Self {
        // No queue can have a name with a blank.
        Place { queue: "a trial".to_owned(), epoch: 0, lane: 0 }
    }

    /// Joins the rows of this queue and epoch to one position.
    fn join(&self, rows: impl IntoIterator<Item = Row>) -> Result<Position, SinkError> {
        let mut joined = Position::default();
        for row in rows {
            let position = row.position().map_err(|reason| {
                let (Place { queue, epoch, .. }, lane) = (self, row.lane.unwrap_or(-1));
                let row = format!("the row of queue {queue}, epoch {epoch}, lane {lane}: {reason}");
                SinkError::new(Class::Unreachable, &row)
            })?;
            joined.join(&position);
        }
        Ok(joined)
    }
}

/// A row of the table `eserver_drain`; `None` where it holds what no drain could have written.
struct Row {
    lane: Option<i64>,
    applied_seq: Option<i64>,
    unsettled: Option<String>,
}

impl Row {
    /// A sentence says what is wrong.
    fn position(&self) -> Result<Position, String> {
        let no = |what| format!("the column {what}, so somebody else has written into it");
        let applied_seq = self.applied_seq.and_then(|applied_seq| applied_seq.try_into().ok());
        let applied_seq =
            applied_seq.ok_or_else(|| no("`applied_seq` of eserver_drain holds no id"))?;
        let unsettled = self.unsettled.as_deref();
        let unsettled =
            unsettled.ok_or_else(|| no("`unsettled` of eserver_drain holds no text"))?;
        Position::decode(applied_seq, unsettled).map_err(|reason| reason.to_string())
    }
}

/// One connection to a database, with at most one transaction open.
///
/// Every method may fail with [`Class::Unreachable`]; the sink is of no use then, and the caller
/// drops it and opens another.
pub(crate) trait Sink: Sized {
    /// What is needed to connect.
    type Target: Clone + 'static;

    /// Connects, makes the table `eserver_drain` and this lane's row if they are not there, and
    /// reads **all rows of this queue and epoch**, whatever their lane, joined to one position: the
    /// number of lanes may have changed since, and an id in any row was applied. The rows are read
    /// with a lock, in the order of their lanes, so that a transaction that a lost connection left
    /// open ends first; waiting too long for that fails with [`Class::Retry`].
    async fn open(target: &Self::Target, place: &Place) -> Result<(Self, Position), SinkError>;

    /// Starts a transaction and moves the lane's row to `position` in it, before anything else: the
    /// row's lock is what keeps a lost connection's transaction and its successor apart.
    async fn begin(&mut self, position: &Position) -> Result<(), SinkError>;

    /// Applies messages in their order, in the open transaction, however is fastest, and appends to
    /// `rows` how many rows each one changed (`None` when the engine told only of several together).
    ///
    /// After a failure the transaction must be rolled back, or rolled back to the savepoint.
    async fn apply(
        &mut self,
        messages: &[Message],
        rows: &mut Vec<Option<u64>>,
    ) -> Result<(), ApplyError>;

    /// Sets the savepoint to roll back to; there is one at a time.
    async fn savepoint(&mut self) -> Result<(), SinkError>;

    /// Undoes what was applied since the savepoint, and forgets the savepoint. Fails with
    /// [`Class::Retry`] when what failed has taken the whole transaction along.
    async fn rollback_to_savepoint(&mut self) -> Result<(), SinkError>;

    /// Forgets the savepoint and keeps what was applied since.
    async fn release_savepoint(&mut self) -> Result<(), SinkError>;

    /// Ends the transaction. When that fails with [`Class::Unreachable`], the outcome is unknown, and
    /// [`Sink::open`] tells; else the database has refused, nothing was committed, and the
    /// transaction is to be rolled back.
    async fn commit(&mut self) -> Result<(), SinkError>;

    /// Gives the transaction up.
    async fn rollback(&mut self) -> Result<(), SinkError>;
}

/// What kind of failure it is, which decides what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The statement itself is at fault, and would be again: syntax, constraint, type.
    Statement,
    /// It may well succeed when tried again: deadlock, serialization failure, lock or statement
    /// timeout. The transaction is to be rolled back.
    Retry,
    /// The database cannot be reached, is shutting down, or can do nothing for anybody now (disk
    /// full, read-only, too many connections): nothing is wrong with any statement.
    Unreachable,
}

/// What a database said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SinkError {
    pub(crate) class: Class,
    /// The database's own words, with its error code: one line of at most [`ERROR_BYTES_MAX`].
    pub(crate) text: String,
}

impl SinkError {
    fn new(class: Class, words: &str) -> Self {
        let mut text = words.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        text.retain(|letter| !letter.is_control());
        text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
        SinkError { class, text }
    }

    /// The database did not answer in time.
    fn silent() -> Self {
        SinkError::new(Class::Unreachable, "the database does not answer")
    }

    /// The lane's row, which was there when the connection was opened, has gone.
    fn row_is_gone() -> Self {
        SinkError::new(Class::Unreachable, "the lane's row in the table eserver_drain is gone")
    }

    /// Of something that is no message's statement: then none of them is at fault.
    fn of_ours(mut self) -> Self {
        if self.class == Class::Statement {
            self.class = Class::Unreachable;
        }
        self
    }

    /// The table for positions cannot be made.
    fn with_remedy(self, create_table: &str) -> Self {
        let text = format!("{}; somebody who may has to run: {create_table}", self.text);
        SinkError { text, ..self }
    }
}

/// Where applying failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApplyError {
    /// The messages, as indices of the slice, among which the one at fault is; those before it
    /// would have succeeded. All of them when the engine does not tell.
    pub(crate) at: Range<usize>,
    pub(crate) error: SinkError,
}

/// Longest time for a connection to be made, its handshake included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time for one statement, after which it counts as [`Class::Retry`].
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time for an answer: the database itself ends a statement before that, so the way to it
/// is cut.
const ANSWER_TIMEOUT: Duration = STATEMENT_TIMEOUT.saturating_add(Duration::from_secs(5));

/// Longest time to wait for a lock that another transaction holds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time that a server keeps an open transaction, and its locks, for a client it no longer
/// hears of.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// Statements that are kept prepared, for each connection.
const STATEMENTS_MAX: usize = 256;

/// Longest text of an error, in bytes, without the remedy that may follow it.
const ERROR_BYTES_MAX: usize = 500;
