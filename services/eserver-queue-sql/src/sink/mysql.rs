//! [`MySql`]: MySQL and MariaDB. What is repeated travels by MariaDB's bulk execution, insertions
//! into MySQL in one statement with many tuples, anything else one after the other.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, IoError, Opts, OptsBuilder, Params, Value};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::run::{Form, Run, join_tuples, rows_of_each, runs};
use super::{
    ANSWER_TIMEOUT, ApplyError, CONNECT_TIMEOUT, Class, LOCK_TIMEOUT, Place, Row, SILENCE_TIMEOUT,
    STATEMENT_TIMEOUT, Sink, SinkError,
};
use crate::drain::ConnectError;
use crate::message::{Message, Param};
use crate::position::Position;
use crate::statement::Statement;

const CREATE_TABLE: &str = "create table eserver_drain(queue varchar(64) not null, \
     epoch bigint not null, lane int not null, applied_seq bigint not null, \
     unsettled longtext not null, primary key(queue, epoch, lane)) engine = InnoDB";

/// Most placeholders in one statement, as the protocol counts them.
const PLACEHOLDERS_MAX: usize = 65_535;

/// Statements that are kept prepared, for each connection: a server has a bound for those of all its
/// clients together, 16,382 if nobody has set it.
const STATEMENTS_MAX: usize = 64;

/// Silence on a connection after which the kernel asks whether the other side is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);

/// A connection to a MySQL or MariaDB server.
pub(crate) struct MySql {
    target: Opts,
    connection: Conn,
    place: Place,
    server: Server,
    /// Longest time for an answer.
    patience: Duration,
}

/// What matters of the server.
struct Server {
    /// What it calls itself.
    version: String,
    /// Whether it is MariaDB, which executes a statement with many sets of values at once.
    is_mariadb: bool,
    /// Whether it refuses what does not fit. Otherwise several rows in one statement would be
    /// treated worse than each by itself: NULL becomes some value.
    is_strict: bool,
    /// Whether it logs statements instead of rows, which it does not do for transactions that see
    /// what others commit meanwhile.
    logs_statements: bool,
}

/// How neighbors are applied.
#[derive(Clone, Copy)]
enum Way {
    /// One after the other.
    Alone,
    /// As one text with the tuples of all.
    Tuples,
    /// As one statement with placeholders for all.
    Values,
    /// By one statement with many sets of values.
    Bulk,
}

impl Sink for MySql {
    type Target = Opts;

    async fn open(target: &Opts, place: &Place) -> Result<(Self, Position), SinkError> {
        let mut sink = MySql::connect(target, place).await?;
        let opened = async {
            sink.make_table().await?;
            let rows = sink.read_rows().await.map_err(|error| of_ours(&error))?;
            sink.connection.query_drop("commit").await.map_err(|error| of_ours(&error))?;
            place.join(rows)
        };
        let position = timeout(ANSWER_TIMEOUT, opened).await.map_err(|_| SinkError::silent())??;
        Ok((sink, position))
    }

    async fn begin(&mut self, position: &Position) -> Result<(), SinkError> {
        // The transaction begins by itself, since autocommit is off.
        let mut moved = self.move_row(position).await;
        if moved.as_ref().is_err_and(has_gone) {
            // Servers end connections that had nothing to do for a while. Nothing was begun on it
            // that could be lost, and nobody else moves the row.
            (self.connection, self.server) = connect(&self.target).await?;
            moved = self.move_row(position).await;
        }
        match moved.map_err(|error| of_ours(&error))? {
            1 => Ok(()),
            _ => Err(SinkError::row_is_gone()),
        }
    }

    async fn apply(
        &mut self,
        messages: &[Message],
        rows: &mut Vec<Option<u64>>,
    ) -> Result<(), ApplyError> {
        for run in runs(messages) {
            let way = self.way_of(messages, &run);
            let mut start = run.at.start;
            while start < run.at.end {
                let rest = &messages[start..run.at.end];
                let part = &rest[..way.length(rest)];
                let at = start..start + part.len();
                match self.apply_part(way, part).await {
                    Ok(total) => {
                        let each = rows_of_each(part, Some(total));
                        rows.extend(std::iter::repeat_n(each, part.len()));
                    }
                    Err(error) => {
                        if is_silence(&error) {
                            self.kill_abandoned().await;
                        }
                        return Err(ApplyError { at, error: told(&error) });
                    }
                }
                start = at.end;
            }
        }
        Ok(())
    }

    async fn savepoint(&mut self) -> Result<(), SinkError> {
        self.run("savepoint eserver").await.map_err(|error| of_ours(&error))
    }

    async fn rollback_to_savepoint(&mut self) -> Result<(), SinkError> {
        match self.run("rollback to savepoint eserver").await {
            Ok(()) => self.release_savepoint().await,
            // So a procedure does that rolls back and fails.
            Err(Error::Server(said)) if said.code == NO_SUCH_SAVEPOINT => {
                Err(SinkError::new(Class::Retry, "a statement ended the transaction"))
            }
            Err(error) => Err(of_ours(&error)),
        }
    }

    async fn release_savepoint(&mut self) -> Result<(), SinkError> {
        self.run("release savepoint eserver").await.map_err(|error| of_ours(&error))
    }

    async fn commit(&mut self) -> Result<(), SinkError> {
        let committed = self.run("commit").await;
        committed.map_err(|error| SinkError { class: class_of_commit(&error), ..told(&error) })
    }

    async fn rollback(&mut self) -> Result<(), SinkError> {
        self.run("rollback").await.map_err(|error| of_ours(&error))
    }
}

impl MySql {
    /// Connects, makes the table if it is not there, which cannot be tried otherwise, tries to write
    /// a row, and has each statement read; says who answered.
    ///
    /// # Errors
    /// What is wrong, and with which statement.
    pub(crate) async fn verify(
        target: &Opts,
        statements: &[(String, Arc<Statement>)],
    ) -> Result<String, ConnectError> {
        let failed = |error: SinkError| ConnectError { statement: None, sentence: error.text };
        let mut sink = MySql::connect(target, &Place::of_trial()).await.map_err(failed)?;
        let verified = async {
            sink.make_table().await.map_err(failed)?;
            sink.try_row().await.map_err(|error| failed(of_ours(&error)))?;
            for (name, statement) in statements {
                sink.connection.prep(statement.text()).await.map_err(|error| ConnectError {
                    statement: Some(name.clone()),
                    sentence: told(&error).text,
                })?;
            }
            let name = if sink.server.is_mariadb { "MariaDB" } else { "MySQL" };
            Ok(format!("{name} {}", sink.server.version))
        };
        timeout(ANSWER_TIMEOUT, verified).await.unwrap_or_else(|_| Err(failed(SinkError::silent())))
    }

    async fn connect(target: &Opts, place: &Place) -> Result<Self, SinkError> {
        let (connection, server) = connect(target).await?;
        let (target, place) = (target.clone(), place.clone());
        Ok(MySql { target, connection, place, server, patience: ANSWER_TIMEOUT })
    }

    /// Makes the table if it is not there.
    async fn make_table(&mut self) -> Result<(), SinkError> {
        if has_table(&mut self.connection).await? {
            return Ok(());
        }
        let created = self.connection.query_drop(CREATE_TABLE).await;
        match created {
            // Another lane may have been faster.
            Err(error) if !has_table(&mut self.connection).await? => {
                Err(of_ours(&error).with_remedy(CREATE_TABLE))
            }
            _ => Ok(()),
        }
    }

    /// Makes the lane's row if it is not there, and reads those of all lanes, with a lock.
    async fn read_rows(&mut self) -> Result<Vec<Row>, Error> {
        let Place { queue, epoch, lane } = &self.place;
        if !self.server.logs_statements {
            // The gaps between the rows of other lanes need no lock.
            let isolation = "set transaction isolation level read committed";
            self.connection.query_drop(isolation).await?;
        }
        let insert = "insert ignore into eserver_drain values (?, ?, ?, 0, '')";
        self.connection.exec_drop(insert, (queue, epoch, lane)).await?;
        let select = "select lane, applied_seq, unsettled from eserver_drain \
                      where queue = ? and epoch = ? order by lane for update";
        let rows: Vec<mysql_async::Row> = self.connection.exec(select, (queue, epoch)).await?;
        let read = |row: &mysql_async::Row| Row {
            lane: value_at(row, 0),
            applied_seq: value_at(row, 1),
            unsettled: value_at(row, 2),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// Tells how many rows it found, moved or not, which is 1.
    async fn move_row(&mut self, position: &Position) -> Result<u64, Error> {
        let Place { queue, epoch, lane } = &self.place;
        let row = (position.applied_seq, position.encode(), queue, epoch, lane);
        let update = "update eserver_drain set applied_seq = ?, unsettled = ? \
                      where queue = ? and epoch = ? and lane = ?";
        let row = row.into();
        self.execute(update, row).await
    }

    /// Does what is done at the start and for each batch, and undoes it.
    async fn try_row(&mut self) -> Result<(), Error> {
        self.read_rows().await?;
        self.move_row(&Position::default()).await?;
        self.run("rollback").await
    }

    fn way_of(&self, messages: &[Message], run: &Run) -> Way {
        let statement = &messages[run.at.start].statement;
        let joins = statement.rows().is_some() && self.server.is_strict;
        match run.form {
            Form::Tuples if joins => Way::Tuples,
            Form::Same if self.server.is_mariadb && may_be_bulk(statement) => Way::Bulk,
            Form::Same if joins => Way::Values,
            Form::Single | Form::Same | Form::Tuples => Way::Alone,
        }
    }

    /// Applies what goes together, and tells how many rows that changed.
    async fn apply_part(&mut self, way: Way, part: &[Message]) -> Result<u64, Error> {
        let Message { statement, params, .. } = &part[0];
        match way {
            Way::Alone if statement.params() == 0 => self.query_one(statement.text()).await,
            Way::Alone => {
                let values = params.iter().map(value_of).collect();
                self.execute(statement.text(), Params::Positional(values)).await
            }
            // They were looked through and hold nothing but literals.
            Way::Tuples => self.query(&join_tuples(part)).await,
            Way::Values => {
                let text = statement.rows().map(|rows| rows.values_text(part.len()));
                let text = text.expect("only insertions are joined");
                let values = part.iter().flat_map(|message| &message.params).map(value_of);
                self.execute(&text, Params::Positional(values.collect())).await
            }
            Way::Bulk => {
                let sets = bulk_values(part);
                let done = self.connection.exec_batch(statement.text(), sets);
                answered(self.patience, done).await?;
                Ok(self.connection.affected_rows())
            }
        }
    }

    /// Carries out a text that is one statement, whatever the server finds in it: prepared are no
    /// more than one at a time, while the protocol for texts, as the library speaks it, would take
    /// several.
    pub(super) async fn query_one(&mut self, text: &str) -> Result<u64, Error> {
        let quoted = text.replace('\\', "\\\\").replace('\'', "''");
        self.query(&format!("prepare eserver from '{quoted}'; execute eserver")).await
    }

    /// By the protocol for texts.
    async fn query(&mut self, text: &str) -> Result<u64, Error> {
        answered(self.patience, self.connection.query_drop(text)).await?;
        Ok(self.connection.affected_rows())
    }

    /// By a statement that stays prepared.
    async fn execute(&mut self, text: &str, values: Params) -> Result<u64, Error> {
        answered(self.patience, self.connection.exec_drop(text, values)).await?;
        Ok(self.connection.affected_rows())
    }

    async fn run(&mut self, sql: &str) -> Result<(), Error> {
        answered(self.patience, self.connection.query_drop(sql)).await
    }

    /// Ends what the server still does for this connection and nobody awaits any more: MySQL does not
    /// bound its time, and its locks would keep the next connection waiting.
    async fn kill_abandoned(&self) {
        let (id, least) = (self.connection.id(), self.patience.as_secs().saturating_sub(1));
        // Behind a proxy the id may be another thread's; ours is at it for that long.
        let is_ours = |thread: &mysql_async::Row| {
            value_at(thread, "Id") == Some(id) && value_at(thread, "Time") >= Some(least)
        };
        let kill = async {
            let mut connection = Conn::new(self.target.clone()).await?;
            let threads: Vec<mysql_async::Row> = connection.query("show processlist").await?;
            if threads.iter().any(is_ours) {
                connection.query_drop(format!("kill {id}")).await?;
            }
            connection.disconnect().await
        };
        if let Ok(Err(error)) | Err(error) = timeout(CONNECT_TIMEOUT, kill).await.map_err(silence) {
            tracing::debug!(%error, "an abandoned statement could not be ended");
        }
    }
}

impl Way {
    /// How many of these go together.
    fn length(self, messages: &[Message]) -> usize {
        match self {
            Way::Alone => 1,
            Way::Tuples | Way::Bulk => messages.len(),
            Way::Values => joined_length(messages),
        }
    }
}

/// The values of many messages, those of a column all of one type.
fn bulk_values(part: &[Message]) -> Vec<Params> {
    let columns = 0..part[0].params.len();
    let are_numbers: Vec<_> = columns
        .map(|column| part.iter().all(|message| is_small_number(&message.params[column])))
        .collect();
    let value = |(param, is_number): (&Param, &bool)| {
        if *is_number { value_of(param) } else { bytes_of(param) }
    };
    let set = |message: &Message| {
        Params::Positional(message.params.iter().zip(&are_numbers).map(value).collect())
    };
    part.iter().map(set).collect()
}

/// Whether the server executes it in bulk; it answers with an error to anything else.
fn may_be_bulk(statement: &Statement) -> bool {
    let verb = statement.text().split(|letter: char| !letter.is_ascii_alphabetic()).next();
    let verb = verb.unwrap_or_default();
    ["insert", "update", "delete", "replace"].iter().any(|known| verb.eq_ignore_ascii_case(known))
}

/// How many of these insertions go into the next statement: a power of two, so that only a few
/// statements have to be kept prepared.
fn joined_length(messages: &[Message]) -> usize {
    let params = messages[0].params.len().max(1);
    let most = messages.len().min(PLACEHOLDERS_MAX / params).max(1);
    1 << most.ilog2()
}

fn is_small_number(param: &Param) -> bool {
    matches!(param, Param::Null | Param::Bool(_) | Param::Integer(_))
}

fn value_of(param: &Param) -> Value {
    match param {
        Param::Null => Value::NULL,
        Param::Bool(value) => Value::Int(i64::from(*value)),
        Param::Integer(value) => Value::Int(*value),
        // The server reads numbers exactly.
        Param::Number(text) | Param::Text(text) | Param::Json(text) => {
            Value::Bytes(text.as_bytes().to_vec())
        }
    }
}

fn bytes_of(param: &Param) -> Value {
    match value_of(param) {
        Value::Int(value) => Value::Bytes(value.to_string().into_bytes()),
        other => other,
    }
}

/// A column's value, if there is one of this type.
fn value_at<T: mysql_async::prelude::FromValue>(
    row: &mysql_async::Row,
    column: impl mysql_async::prelude::ColumnIndex,
) -> Option<T> {
    row.get_opt(column)?.ok()
}

async fn answered<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(patience, answer).await.map_err(silence)?
}

/// The database did not answer in time.
fn silence(_: Elapsed) -> Error {
    Error::Io(IoError::Io(io::ErrorKind::TimedOut.into()))
}

fn is_silence(error: &Error) -> bool {
    matches!(error, Error::Io(IoError::Io(error)) if error.kind() == io::ErrorKind::TimedOut)
}

/// Whether the server has ended the connection.
fn has_gone(error: &Error) -> bool {
    match error {
        Error::Io(_) => !is_silence(error),
        Error::Driver(DriverError::ConnectionClosed) => true,
        Error::Server(said) => matches!(said.code, CONNECTION_KILLED | IDLE_FOR_TOO_LONG),
        _ => false,
    }
}

async fn connect(target: &Opts) -> Result<(Conn, Server), SinkError> {
    let options = OptsBuilder::from_opts(target.clone())
        .client_found_rows(true)
        .stmt_cache_size(STATEMENTS_MAX)
        .tcp_keepalive(Some(KEEPALIVE_IDLE))
        .tcp_nodelay(true);
    let connected = async {
        let mut connection = Conn::new(options).await?;
        let mut variables = read_variables(&mut connection).await?;
        let mut variable = |name| variables.remove(name).unwrap_or_default();
        let version = variable("version");
        let is_mariadb = version.contains("MariaDB");
        let mode = quoting_as_read(&variable("sql_mode"));
        connection.query_drop(session_settings(is_mariadb)).await?;
        connection.exec_drop("set session sql_mode = ?", (mode,)).await?;
        let mode = read_variables(&mut connection).await?.remove("sql_mode").unwrap_or_default();
        let is_strict = mode.contains("STRICT_");
        let logs_statements =
            variable("log_bin") == "ON" && variable("binlog_format") == "STATEMENT";
        Ok((connection, Server { version, is_mariadb, is_strict, logs_statements }, mode))
    };
    let connected = timeout(CONNECT_TIMEOUT, connected).await.map_err(|_| SinkError::silent())?;
    let (connection, server, mode) = connected.map_err(|error: Error| of_ours(&error))?;
    check_mode(&mode).map(|()| (connection, server))
}

/// Those that matter, by name.
async fn read_variables(connection: &mut Conn) -> Result<HashMap<String, String>, Error> {
    let show = "show session variables where variable_name in \
                ('version', 'sql_mode', 'log_bin', 'binlog_format')";
    let rows: Vec<mysql_async::Row> = connection.query(show).await?;
    Ok(rows.iter().filter_map(|row| Some((value_at(row, 0)?, value_at(row, 1)?))).collect())
}

/// What bounds the time for which this connection keeps others, or this one, waiting.
fn session_settings(is_mariadb: bool) -> String {
    let (statement, lock) = (STATEMENT_TIMEOUT.as_secs(), LOCK_TIMEOUT.as_secs());
    let silence = SILENCE_TIMEOUT.as_secs();
    let own = if is_mariadb {
        format!("max_statement_time = {statement}, idle_transaction_timeout = {silence}")
    } else {
        // It also ends a connection that has nothing to do, which is then made anew.
        format!("wait_timeout = {silence}")
    };
    format!(
        "set session autocommit = 0, innodb_lock_wait_timeout = {lock}, \
         lock_wait_timeout = {lock}, {own}"
    )
}

/// The server's mode without what would make it read quotes in another way than they were read when
/// the statement was looked through. The names of other databases stand for such modes, too.
fn quoting_as_read(mode: &str) -> String {
    let changes_quotes = [
        "ANSI_QUOTES",
        "NO_BACKSLASH_ESCAPES",
        "ANSI",
        "DB2",
        "MAXDB",
        "MSSQL",
        "ORACLE",
        "POSTGRESQL",
    ];
    let kept = mode.split(',').filter(|part| !changes_quotes.contains(part));
    kept.collect::<Vec<_>>().join(",")
}

fn check_mode(mode: &str) -> Result<(), SinkError> {
    if mode == quoting_as_read(mode) {
        return Ok(());
    }
    let words = format!("the server would misread quotes, its sql_mode cannot be changed: {mode}");
    Err(SinkError::new(Class::Unreachable, &words))
}

async fn has_table(connection: &mut Conn) -> Result<bool, SinkError> {
    let show = "show tables like 'eserver\\_drain'";
    let found = connection.query_first::<mysql_async::Row, _>(show).await;
    Ok(found.map_err(|error| of_ours(&error))?.is_some())
}

fn of_ours(error: &Error) -> SinkError {
    told(error).of_ours()
}

fn told(error: &Error) -> SinkError {
    match error {
        Error::Server(said) => {
            let class = class_of(said.code, &said.message);
            SinkError::new(class, &format!("{}: {}", said.code, said.message))
        }
        Error::Driver(
            DriverError::PacketTooLarge
            | DriverError::BulkExecute(_)
            | DriverError::MixedParams
            | DriverError::Params(_)
            | DriverError::StmtParamsMismatch { .. }
            | DriverError::StmtParamsNumberExceedsLimit { .. }
            | DriverError::LocalInfile(_),
        ) => SinkError::new(Class::Statement, &error.to_string()),
        error if is_silence(error) => SinkError::silent(),
        _ => SinkError::new(Class::Unreachable, &error.to_string()),
    }
}

/// The savepoint, or whatever else is named, does not exist.
const NO_SUCH_SAVEPOINT: u16 = 1305;

/// Somebody has ended the connection.
const CONNECTION_KILLED: u16 = 1927;

/// MySQL ends a connection that has nothing to do; MariaDB does so without a word.
const IDLE_FOR_TOO_LONG: u16 = 4031;

/// Anything but these may be said, by the log or by a replica, when it is committed already.
fn class_of_commit(error: &Error) -> Class {
    match error {
        // A deadlock is what clusters call a conflict with another node; or it was rolled back.
        Error::Server(said) if matches!(said.code, 1213 | 3101) => Class::Retry,
        _ => Class::Unreachable,
    }
}

fn class_of(code: u16, message: &str) -> Class {
    match code {
        // Changed since it was read, sort aborted, too large for the log (together with others),
        // lock wait timeout, too many locks, deadlock, interrupted, a temporary failure, defined
        // anew, to be prepared anew, lock not to be had, too long a time in MariaDB and in MySQL,
        // deadlock of named locks, rolled back by the group, lock not to be had.
        1020 | 1028 | 1197 | 1205 | 1206 | 1213 | 1297 | 1317 | 1412 | 1615 | 1689 | 1705 | 1969
        | 3024 | 3058 | 3101 | 3572 => Class::Retry,
        // An option prevents it; this one says where files may be.
        1290 if message.contains("secure-file-priv") => Class::Statement,
        // Files: cannot be made, read, written, closed, locked, are too large, the disk is full.
        1..=5 | 10..=11 | 14 | 20 | 28 | 1021 | 1023..=1026 | 1039 | 1114 | 1878
        // The storage engine and its files are in trouble.
        | 1030 | 1033..=1036 | 1194..=1195 | 1296 | 1712 | 1812 | 1814 | 1877
        // Out of memory, connections, threads, transactions, prepared statements.
        | 1037..=1038 | 1040..=1041 | 1135 | 1203 | 1226 | 1461 | 1637
        // The node is not ready, the server is shutting down, or read-only.
        | 1047 | 1053 | 1077..=1081 | 1290 | 1792 | 1836 | 3168
        // The connection; a packet that is too large is the statement's own fault.
        | 1042..=1043 | 1129..=1130 | 1152 | 1154..=1161 | 1184 | 1243 | 1429 | 2002..=2013 | 3159
        | 3169 | CONNECTION_KILLED | IDLE_FOR_TOO_LONG
        // The end of a transaction, of which nobody can say how it went.
        | 1180..=1181 | 3100 => Class::Unreachable,
        _ => Class::Statement,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;

    #[test]
    fn codes_have_classes() {
        let check = |class, codes: &[u16]| {
            for code in codes {
                assert_eq!(class_of(*code, "words"), class, "{code}");
            }
        };
        check(Class::Statement, &[1048, 1062, 1064, 1153, 1264, 1305, 1406, 1452, 1644, 1713]);
        check(Class::Retry, &[1020, 1197, 1205, 1206, 1213, 1317, 1412, 1615, 1969, 3024]);
        check(Class::Unreachable, &[3, 20, 28, 1021, 1026, 1030, 1114, 1461]);
        check(Class::Unreachable, &[1053, 1152, 1154, 1290, 1836, 1927, 2013]);
        let secure = "The server is running with the --secure-file-priv option";
        assert_eq!(class_of(1290, secure), Class::Statement);
    }

    #[test]
    fn only_what_has_certainly_undone_a_commit_is_tried_again() {
        for (code, class) in
            [(1213, Class::Retry), (3101, Class::Retry), (1205, Class::Unreachable)]
        {
            let said = mysql_async::ServerError {
                code,
                message: "words".to_owned(),
                state: "HY000".to_owned(),
            };
            assert_eq!(class_of_commit(&Error::Server(said)), class, "{code}");
        }
    }

    #[test]
    fn what_nobody_awaits_any_more_is_ended() {
        let server = eserver_peers::MariaDb::start().unwrap();
        let url = server.create("test").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let place = Place { queue: "jobs".to_owned(), epoch: 7, lane: 0 };
            let target = Opts::from_url(&url).unwrap();
            let (mut sink, _) = MySql::open(&target, &place).await.unwrap();
            // As in MySQL, which does not bound the time of what changes something.
            sink.run("set max_statement_time = 0").await.unwrap();
            sink.begin(&Position::default()).await.unwrap();
            sink.patience = Duration::from_secs(1);
            let statement = Statement::raw(Engine::MySql, "select sleep(100000)").unwrap();
            let params = Vec::new();
            let statement = Arc::new(statement);
            let sleep = Message { id: 1, statement, params, key: None, notify: None, bytes: 0 };
            let failed = sink.apply(&[sleep], &mut Vec::new()).await.unwrap_err();
            assert_eq!(failed.error, SinkError::silent());
            // Otherwise its lock on the row would be waited for, in vain.
            MySql::open(&target, &place).await.map(drop).unwrap();
        });
    }

    #[test]
    fn quotes_are_read_as_they_were_or_not_at_all() {
        for (mode, kept) in [
            ("", ""),
            ("STRICT_TRANS_TABLES,ANSI_QUOTES", "STRICT_TRANS_TABLES"),
            ("PIPES_AS_CONCAT,ANSI_QUOTES,IGNORE_SPACE,ORACLE", "PIPES_AS_CONCAT,IGNORE_SPACE"),
            (
                "ANSI,MSSQL,DB2,POSTGRESQL,MAXDB,NO_BACKSLASH_ESCAPES,ALLOW_INVALID_DATES",
                "ALLOW_INVALID_DATES",
            ),
        ] {
            assert_eq!(quoting_as_read(mode), kept);
            assert_eq!(check_mode(mode).is_ok(), mode == kept, "{mode}");
        }
        let error = check_mode("ANSI_QUOTES").unwrap_err();
        assert_eq!(error.class, Class::Unreachable);
        assert!(error.text.contains("sql_mode"), "{error:?}");
    }

    #[test]
    fn insertions_are_joined_by_powers_of_two_within_what_can_be_counted() {
        let check = |messages: usize, params: usize, expected: usize| {
            let marks = vec!["?"; params].join(", ");
            let sql = format!("insert into t values ({marks})");
            let statement = Statement::with_params(Engine::MySql, &sql).unwrap();
            let message = Message {
                id: 0,
                statement: Arc::new(statement),
                params: vec![Param::Null; params],
                key: None,
                notify: None,
                bytes: 0,
            };
            assert_eq!(joined_length(&vec![message; messages]), expected);
        };
        check(1, 2, 1);
        check(1_000, 2, 512);
        check(3, 2, 2);
        check(1_000, 1_000, 64);
        check(5, 60_000, 1);
    }

    #[test]
    fn only_changes_are_executed_in_bulk() {
        let statement = |sql| Statement::with_params(Engine::MySql, sql).unwrap();
        assert!(may_be_bulk(&statement("INSERT into t values (?)")));
        assert!(may_be_bulk(&statement("update t set a = ?")));
        assert!(!may_be_bulk(&statement("call p(?)")));
        assert!(!may_be_bulk(&statement("with x as (select ?) select * from x")));
    }
}
