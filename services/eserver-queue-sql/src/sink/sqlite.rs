//! [`Sqlite`]: a file of this machine, by statements that stay prepared, one after the other, which
//! is the fastest that SQLite knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql, params};
use tokio::time::sleep;

use super::{
    ApplyError, Class, LOCK_TIMEOUT, Place, Row, STATEMENT_TIMEOUT, STATEMENTS_MAX, Sink, SinkError,
};
use crate::drain::ConnectError;
use crate::message::{Message, Param};
use crate::position::Position;
use crate::statement::Statement;

const CREATE_TABLE: &str = "create table eserver_drain(queue varchar(64) not null, \
     epoch bigint not null, lane int not null, applied_seq bigint not null, \
     unsettled text not null, primary key(queue, epoch, lane))";

/// Time between the first two attempts to become the one writer; it doubles each time.
const ASK_AGAIN: Duration = Duration::from_millis(1);

/// Longest time between two attempts to become the one writer.
const ASK_AGAIN_MAX: Duration = Duration::from_millis(100);

/// Longest wait for a lock inside of SQLite, which blocks the thread.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How many of SQLite's instructions run between two looks at the clock: less than a millisecond.
const INSTRUCTIONS_BETWEEN_LOOKS: i32 = 20_000;

/// A connection to an SQLite database. Its methods do their work at once, on the drain's thread.
pub(crate) struct Sqlite {
    connection: Connection,
    place: Place,
    /// How many messages' statements were started: by this the clock sees a new one.
    started: Arc<AtomicU64>,
}

impl Sink for Sqlite {
    type Target = PathBuf;

    async fn open(target: &PathBuf, place: &Place) -> Result<(Self, Position), SinkError> {
        let started = Arc::new(AtomicU64::new(0));
        let connection = connect(target, &started).map_err(|error| of_ours(&error))?;
        if !has_table(&connection).map_err(|error| of_ours(&error))? {
            connection
                .execute_batch(CREATE_TABLE)
                .map_err(|error| of_ours(&error).with_remedy(CREATE_TABLE))?;
        }
        let sink = Sqlite { connection, place: place.clone(), started };
        sink.begin_writing().await.map_err(|error| of_ours(&error))?;
        let rows = sink.read_rows().map_err(|error| of_ours(&error))?;
        sink.run("commit")?;
        let position = place.join(rows)?;
        Ok((sink, position))
    }

    async fn begin(&mut self, position: &Position) -> Result<(), SinkError> {
        self.begin_writing().await.map_err(|error| of_ours(&error))?;
        self.move_row(position)
    }

    async fn apply(
        &mut self,
        messages: &[Message],
        rows: &mut Vec<Option<u64>>,
    ) -> Result<(), ApplyError> {
        for (index, message) in messages.iter().enumerate() {
            let changed = self
                .apply_one(message)
                .map_err(|error| ApplyError { at: index..index + 1, error: told(&error) })?;
            rows.push(Some(changed));
        }
        Ok(())
    }

    async fn savepoint(&mut self) -> Result<(), SinkError> {
        self.run("savepoint eserver")
    }

    async fn rollback_to_savepoint(&mut self) -> Result<(), SinkError> {
        if self.connection.is_autocommit() {
            // So `on conflict rollback` and `raise(rollback)` do.
            return Err(SinkError::new(Class::Retry, "a statement ended the transaction"));
        }
        self.run("rollback to eserver")?;
        self.run("release eserver")
    }

    async fn release_savepoint(&mut self) -> Result<(), SinkError> {
        self.run("release eserver")
    }

    async fn commit(&mut self) -> Result<(), SinkError> {
        // It may be a message's fault: foreign keys can be deferred until now.
        self.connection.execute_batch("commit").map_err(|error| told(&error))
    }

    async fn rollback(&mut self) -> Result<(), SinkError> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.run("rollback")
    }
}

impl Sqlite {
    /// Opens the file, tries to make the table, if it is not there, and to write a row, and has each
    /// statement read; says who answered. Nothing is changed, and no file is made.
    ///
    /// # Errors
    /// What is wrong, and with which statement.
    pub(crate) async fn verify(
        target: &Path,
        statements: &[(String, Arc<Statement>)],
    ) -> Result<String, ConnectError> {
        let failed = |error: SinkError| ConnectError { statement: None, sentence: error.text };
        let sink = Sqlite::of_trial(target).map_err(failed)?;
        sink.try_row().await.map_err(failed)?;
        for (name, statement) in statements {
            sink.connection.prepare(statement.text()).map_err(|error| ConnectError {
                statement: Some(name.clone()),
                sentence: told(&error).text,
            })?;
        }
        Ok(format!("SQLite {}", rusqlite::version()))
    }

    /// On the file if it is there; else an empty database, which is what there would be.
    fn of_trial(target: &Path) -> Result<Self, SinkError> {
        let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let connection = if target.exists() {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            Connection::open_with_flags(target, flags)
        } else if directory.is_some_and(|directory| !directory.is_dir()) {
            let sentence = format!("there is no directory for {}", target.display());
            return Err(SinkError::new(Class::Unreachable, &sentence));
        } else {
            Connection::open_in_memory()
        };
        let connection = connection.map_err(|error| of_ours(&error))?;
        Ok(Sqlite { connection, place: Place::of_trial(), started: Arc::default() })
    }

    /// Does what is done at the start and for each batch, and undoes it.
    async fn try_row(&self) -> Result<(), SinkError> {
        self.begin_writing().await.map_err(|error| of_ours(&error))?;
        if !has_table(&self.connection).map_err(|error| of_ours(&error))? {
            self.run(CREATE_TABLE)?;
        }
        self.read_rows().map_err(|error| of_ours(&error))?;
        self.move_row(&Position::default())?;
        self.run("rollback")
    }

    /// Becomes the one writer, without keeping the thread from others meanwhile.
    async fn begin_writing(&self) -> rusqlite::Result<()> {
        let deadline = tokio::time::Instant::now() + LOCK_TIMEOUT;
        let mut wait = ASK_AGAIN;
        self.connection.busy_timeout(Duration::ZERO)?;
        loop {
            match self.connection.execute_batch("begin immediate") {
                Err(error) if is_busy(&error) && deadline.elapsed().is_zero() => {
                    sleep(wait).await;
                    wait = (wait * 2).min(ASK_AGAIN_MAX);
                }
                Err(error) => return Err(error),
                Ok(()) => return self.connection.busy_timeout(BUSY_TIMEOUT),
            }
        }
    }

    /// Makes the lane's row if it is not there, and reads those of all lanes.
    fn read_rows(&self) -> rusqlite::Result<Vec<Row>> {
        let Place { queue, epoch, lane } = &self.place;
        let epoch = *epoch as i64;
        self.connection.execute(
            "insert or ignore into eserver_drain values (?, ?, ?, 0, '')",
            params![queue, epoch, lane],
        )?;
        let mut select = self.connection.prepare(
            "select lane, applied_seq, unsettled from eserver_drain where queue = ? and epoch = ?",
        )?;
        let read = |row: &rusqlite::Row<'_>| {
            let integer = |column| row.get_ref(column).map(|value| value.as_i64().ok());
            let unsettled = row.get_ref(2)?.as_str().ok().map(str::to_owned);
            Ok(Row { lane: integer(0)?, applied_seq: integer(1)?, unsettled })
        };
        select.query_map(params![queue, epoch], read)?.collect()
    }

    fn move_row(&self, position: &Position) -> Result<(), SinkError> {
        let Place { queue, epoch, lane } = &self.place;
        let moved = self.connection.prepare_cached(
            "update eserver_drain set applied_seq = ?, unsettled = ? \
             where queue = ? and epoch = ? and lane = ?",
        );
        let (applied_seq, epoch) = (position.applied_seq as i64, *epoch as i64);
        let moved = moved.and_then(|mut update| {
            update.execute(params![applied_seq, position.encode(), queue, epoch, lane])
        });
        match moved {
            Ok(1) => Ok(()),
            Ok(_) => Err(SinkError::row_is_gone()),
            Err(error) => Err(of_ours(&error)),
        }
    }

    /// Returns how many rows it changed.
    fn apply_one(&self, message: &Message) -> rusqlite::Result<u64> {
        self.started.fetch_add(1, Ordering::Relaxed);
        let Message { statement, params, .. } = message;
        let changes = if statement.is_raw() {
            // Each is another text: keeping them would only push the others out.
            execute(&mut self.connection.prepare(statement.text())?, params)?
        } else {
            execute(&mut *self.connection.prepare_cached(statement.text())?, params)?
        };
        Ok(if changes { self.connection.changes() } else { 0 })
    }

    fn run(&self, sql: &str) -> Result<(), SinkError> {
        self.connection.execute_batch(sql).map_err(|error| of_ours(&error))
    }
}

impl ToSql for Param {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Param::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Param::Bool(value) => ToSqlOutput::Borrowed(ValueRef::Integer(i64::from(*value))),
            Param::Integer(value) => ToSqlOutput::Borrowed(ValueRef::Integer(*value)),
            Param::Number(text) => match text.parse::<f64>() {
                // A whole number that is too large would lose its last digits as a float.
                Ok(value) if value.is_finite() && text.contains(['.', 'e', 'E']) => {
                    ToSqlOutput::Owned(Value::Real(value))
                }
                _ => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            },
            Param::Text(text) | Param::Json(text) => {
                ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))
            }
        })
    }
}

fn connect(path: &Path, started: &Arc<AtomicU64>) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch("pragma journal_mode = wal; pragma synchronous = full")?;
    limit_time(&mut connection, Arc::clone(started), STATEMENT_TIMEOUT)?;
    Ok(connection)
}

fn has_table(connection: &Connection) -> rusqlite::Result<bool> {
    connection.table_exists(None, "eserver_drain")
}

/// Has SQLite interrupt a statement that takes longer than `most`.
fn limit_time(
    connection: &mut Connection,
    started: Arc<AtomicU64>,
    most: Duration,
) -> rusqlite::Result<()> {
    let (mut current, mut since) = (0, Instant::now());
    let is_too_long = move || {
        let number = started.load(Ordering::Relaxed);
        if number != current {
            (current, since) = (number, Instant::now());
        }
        since.elapsed() > most
    };
    connection.progress_handler(INSTRUCTIONS_BETWEEN_LOOKS, Some(is_too_long))
}

/// Runs a statement to its end, and returns whether it is one that changes something.
fn execute(statement: &mut rusqlite::Statement<'_>, params: &[Param]) -> rusqlite::Result<bool> {
    for (index, param) in (1..).zip(params) {
        statement.raw_bind_parameter(index, param)?;
    }
    let changes = !statement.readonly();
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    Ok(changes)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn told(error: &rusqlite::Error) -> SinkError {
    let class = error.sqlite_error_code().map_or(Class::Statement, class_of);
    let code = error.sqlite_error().map_or(0, |error| error.extended_code);
    let is_busy = error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
    let who = if is_busy { "another connection keeps writing to the file; " } else { "" };
    SinkError::new(class, &format!("{who}SQLite {code}: {error}"))
}

fn of_ours(error: &rusqlite::Error) -> SinkError {
    told(error).of_ours()
}

fn class_of(code: ErrorCode) -> Class {
    match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OperationInterrupted => {
            Class::Retry
        }
        ErrorCode::SystemIoFailure
        | ErrorCode::DiskFull
        | ErrorCode::CannotOpen
        | ErrorCode::ReadOnly
        | ErrorCode::OutOfMemory
        | ErrorCode::DatabaseCorrupt
        | ErrorCode::NotADatabase
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::PermissionDenied => Class::Unreachable,
        _ => Class::Statement,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_classes() {
        for (code, class) in [
            (ErrorCode::ConstraintViolation, Class::Statement),
            (ErrorCode::Unknown, Class::Statement),
            (ErrorCode::DatabaseBusy, Class::Retry),
            (ErrorCode::OperationInterrupted, Class::Retry),
            (ErrorCode::DiskFull, Class::Unreachable),
            (ErrorCode::NotADatabase, Class::Unreachable),
        ] {
            assert_eq!(class_of(code), class, "{code:?}");
        }
    }

    #[test]
    fn a_statement_that_takes_too_long_is_interrupted() {
        let mut connection = Connection::open_in_memory().unwrap();
        let most = Duration::from_millis(20);
        limit_time(&mut connection, Arc::new(AtomicU64::new(0)), most).unwrap();
        let endless = "with recursive t(a) as (values (1) union all select a + 1 from t) \
                       select count(*) from t";
        let error = connection.query_row(endless, [], |_| Ok(())).unwrap_err();
        assert_eq!(told(&error).class, Class::Retry, "{error}");
    }

    #[test]
    fn numbers_are_bound_as_exactly_as_can_be() {
        let connection = Connection::open_in_memory().unwrap();
        for (number, expected) in [
            ("1.5", "real 1.5"),
            ("1e3", "real 1000.0"),
            ("12345678901234567890", "text 12345678901234567890"),
            ("1e999", "text 1e999"),
        ] {
            let select = "select typeof(v) || ' ' || v from (select ? as v)";
            let bound = [Param::Number(number.into())];
            let seen: String = connection.query_row(select, bound, |row| row.get(0)).unwrap();
            assert_eq!(seen, expected);
        }
    }

    fn open(directory: &Path) -> Sqlite {
        let place = Place { queue: "jobs".to_owned(), epoch: 7, lane: 0 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(Sqlite::open(&directory.join("test.db"), &place)).unwrap().0
    }

    #[test]
    fn another_writer_is_waited_for_without_keeping_the_thread() {
        let directory = tempfile::tempdir().unwrap();
        let (sink, other) = (open(directory.path()), open(directory.path()));
        other.run("begin immediate").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let end = async {
                let ask = "pragma busy_timeout";
                let wait: i64 = sink.connection.query_row(ask, [], |row| row.get(0)).unwrap();
                assert_eq!(wait, 0, "SQLite itself does not wait");
                other.run("commit").unwrap();
            };
            let (begun, ()) = tokio::join!(sink.begin_writing(), end);
            begun.unwrap();
        });
        sink.run("commit").unwrap();
    }

    #[test]
    fn a_commit_is_on_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let ask = "select journal_mode || synchronous from pragma_journal_mode, pragma_synchronous";
        let connection = open(directory.path()).connection;
        let mode: String = connection.query_row(ask, [], |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal2", "2 is `full`");
    }

    #[test]
    fn a_question_changes_no_rows() {
        let directory = tempfile::tempdir().unwrap();
        let sink = open(directory.path());
        sink.run("create table t(a); insert into t values (1), (2)").unwrap();
        for (sql, rows) in [("select * from t", 0), ("update t set a = 1", 2), ("values (1)", 0)] {
            let statement = Arc::new(Statement::raw(crate::engine::Engine::Sqlite, sql).unwrap());
            let message =
                Message { id: 1, statement, params: Vec::new(), key: None, notify: None, bytes: 0 };
            assert_eq!(sink.apply_one(&message).unwrap(), rows, "{sql}");
        }
    }
}
