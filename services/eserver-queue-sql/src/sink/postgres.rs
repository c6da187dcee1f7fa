//! [`Postgres`]: everything is sent before the first answer is awaited; runs of an insertion travel
//! as arrays, in one statement.
//!
//! All values are sent as text, in the form in which a person would type them between quotes, so
//! that every type of column takes what JSON can say.

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt::{self, Write as _};
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, Connection, Error, NoTls, Socket};

use super::run::{Form, Run, join_tuples, rows_of_each, runs};
use super::{
    ANSWER_TIMEOUT, ApplyError, CONNECT_TIMEOUT, Class, LOCK_TIMEOUT, Place, Row, SILENCE_TIMEOUT,
    STATEMENT_TIMEOUT, STATEMENTS_MAX, Sink, SinkError,
};
use crate::drain::ConnectError;
use crate::message::{Message, Param};
use crate::position::Position;
use crate::statement::{Rows, Statement};
use crate::target::words_of;

const CREATE_TABLE: &str = "create table eserver_drain(queue varchar(64) not null, \
     epoch bigint not null, lane int not null, applied_seq bigint not null, \
     unsettled text not null, primary key(queue, epoch, lane))";

/// What is said of a message that changes how those behind it are read.
const MISREADS: &str = "a statement has changed standard_conforming_strings or client_encoding, on \
     which the drain relies for reading texts as they are meant";

/// Silence on a connection after which the kernel asks whether the other side is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);

/// How long it is believed of a table that its rows may be joined. Who makes a trigger while
/// messages for the table are under way cannot know anyway which of them it will see.
const TABLE_BELIEVED: Duration = Duration::from_secs(60);

/// Whether triggers, rules or policies of a table, or of its parts, could tell rows in one statement
/// from rows in many. A trigger for each row that runs before it is inserted cannot, if it is
/// volatile: it sees the rows before its own. (Of a trigger's type, 1 is for each row, 2 before, 4
/// insertions, 64 instead of.)
const MAY_JOIN: &str = "\
    with recursive part(id) as (\
        select to_regclass($1)::oid \
        union select inhrelid from pg_inherits join part on inhparent = part.id\
    ) \
    select not exists (\
        select from pg_trigger join part on tgrelid = part.id join pg_proc on tgfoid = pg_proc.oid \
        where not tgisinternal and tgenabled <> 'D' and tgtype & 4 <> 0 \
        and (tgtype & 67 <> 3 or provolatile <> 'v')\
    ) and not exists (\
        select from pg_class join part on pg_class.oid = part.id \
        where relkind not in ('r', 'p') or relhasrules or relrowsecurity\
    )";

const MOVE_ROW: &str = "update eserver_drain set applied_seq = $1, unsettled = $2 \
     where queue = $3 and epoch = $4 and lane = $5";

/// A connection to a PostgreSQL server.
pub(crate) struct Postgres {
    client: Rc<Client>,
    io: Io,
    place: Place,
    move_row: tokio_postgres::Statement,
    /// By text; `None` when the statement came once, which is not worth it.
    prepared: HashMap<Box<str>, Option<Prepared>>,
    /// Whether rows may be joined, and since when that is known, by the table's name.
    tables: HashMap<Box<str>, (bool, Instant)>,
    /// Answers to what was sent and is no message's statement; awaited together with the next.
    answers: Vec<Answer<'static>>,
}

/// The task that reads and writes; it ends with this value, whatever the server does.
struct Io {
    task: AbortHandle,
    /// The server has told that it reads texts in another way than they were read when the statement
    /// was looked through.
    misreads: Arc<AtomicBool>,
}

impl Drop for Io {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A statement that the server has read.
#[derive(Clone)]
struct Prepared {
    single: tokio_postgres::Statement,
    /// For a whole run, with an array for each parameter; `None` if it cannot be had.
    run: Option<tokio_postgres::Statement>,
}

/// How many rows were changed, once the server has told.
type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, SinkError>> + 'a>>;

/// An answer, and the messages it is about.
struct Awaited<'a> {
    at: Range<usize>,
    answer: Answer<'a>,
}

impl Sink for Postgres {
    type Target = Config;

    async fn open(target: &Config, place: &Place) -> Result<(Self, Position), SinkError> {
        let (client, io) = connect(target).await?;
        let opened = async {
            if !has_table(&client).await? {
                let created = client.batch_execute(CREATE_TABLE).await;
                // Another lane may have been faster.
                if let Err(error) = created
                    && !has_table(&client).await?
                {
                    return Err(of_ours(&error).with_remedy(CREATE_TABLE));
                }
            }
            let position = read_position(&client, place).await?;
            Ok((position, client.prepare(MOVE_ROW).await.map_err(|error| of_ours(&error))?))
        };
        let opened = timeout(ANSWER_TIMEOUT, opened).await.map_err(|_| SinkError::silent());
        let (position, move_row) = opened.flatten()?;
        let sink = Postgres {
            client: Rc::new(client),
            io,
            place: place.clone(),
            move_row,
            prepared: HashMap::new(),
            tables: HashMap::new(),
            answers: Vec::new(),
        };
        Ok((sink, position))
    }

    async fn begin(&mut self, position: &Position) -> Result<(), SinkError> {
        self.send("begin");
        let (client, update) = (Rc::clone(&self.client), self.move_row.clone());
        let Place { queue, epoch, lane } = self.place.clone();
        let (applied_seq, unsettled) = (position.applied_seq as i64, position.encode());
        self.answers.push(sent(async move {
            let (epoch, lane) = (epoch as i64, lane as i32);
            let row: &[&(dyn ToSql + Sync)] = &[&applied_seq, &unsettled, &queue, &epoch, &lane];
            match client.execute(&update, row).await {
                Ok(1) => Ok(1),
                Ok(_) => Err(SinkError::row_is_gone()),
                Err(error) => Err(of_ours(&error)),
            }
        }));
        Ok(())
    }

    async fn apply(
        &mut self,
        messages: &[Message],
        rows: &mut Vec<Option<u64>>,
    ) -> Result<(), ApplyError> {
        let applied = self.apply_runs(messages, rows).await;
        if let Err(error) = &applied
            && let Some(message) = messages.get(error.at.start)
        {
            // The table may have changed since the statement was prepared.
            self.prepared.remove(message.statement.text());
        }
        applied
    }

    async fn savepoint(&mut self) -> Result<(), SinkError> {
        self.send("savepoint eserver");
        Ok(())
    }

    async fn rollback_to_savepoint(&mut self) -> Result<(), SinkError> {
        self.answers.clear();
        self.send("rollback to savepoint eserver");
        self.send("release savepoint eserver");
        self.collect_ours().await?;
        self.io.misreads.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn release_savepoint(&mut self) -> Result<(), SinkError> {
        self.send("release savepoint eserver");
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), SinkError> {
        // If one of these had failed, the server would take the commit for a rollback, silently.
        self.collect_ours().await?;
        // It may be refused for what the messages did.
        let commit = timeout(ANSWER_TIMEOUT, self.client.batch_execute("commit")).await;
        commit.map_err(|_| SinkError::silent())?.map_err(|error| told(&error))
    }

    async fn rollback(&mut self) -> Result<(), SinkError> {
        self.answers.clear();
        self.send("rollback");
        self.collect_ours().await?;
        // Settings of the session are undone as well.
        self.io.misreads.store(false, Ordering::Relaxed);
        Ok(())
    }
}

impl Postgres {
    /// Connects, tries to make the table, if it is not there, and to write a row, and has each
    /// statement read; says who answered. Nothing is changed.
    ///
    /// # Errors
    /// What is wrong, and with which statement.
    pub(crate) async fn verify(
        target: &Config,
        statements: &[(String, Arc<Statement>)],
    ) -> Result<String, ConnectError> {
        let failed = |error: SinkError| ConnectError { statement: None, sentence: error.text };
        let (client, _io) = connect(target).await.map_err(failed)?;
        let verified = async {
            try_row(&client).await.map_err(failed)?;
            for (name, statement) in statements {
                client.prepare(statement.text()).await.map_err(|error| ConnectError {
                    statement: Some(name.clone()),
                    sentence: told(&error).text,
                })?;
            }
            let version = client.query_one_scalar::<String, _>("show server_version", &[]).await;
            Ok(format!("PostgreSQL {}", version.map_err(|error| failed(told(&error)))?))
        };
        timeout(ANSWER_TIMEOUT, verified).await.unwrap_or_else(|_| Err(failed(SinkError::silent())))
    }

    async fn apply_runs(
        &mut self,
        messages: &[Message],
        rows: &mut Vec<Option<u64>>,
    ) -> Result<(), ApplyError> {
        let mut awaited = Vec::new();
        for mut run in runs(messages) {
            let statement = &messages[run.at.start].statement;
            let prepares = self.wants_preparing(&run, statement);
            let table = statement.rows().map(Rows::table).filter(|_| run.form != Form::Single);
            let asks = table.filter(|table| self.may_join(table).is_none());
            if prepares || asks.is_some() {
                // The order of failures shall be the order of messages.
                self.collect(messages, &mut awaited, rows).await?;
                let readied = self.make_ready(statement, prepares, asks).await;
                let at = run.at.start..run.at.start + 1;
                readied.map_err(|error| ApplyError { at, error })?;
            }
            if table.is_some_and(|table| self.may_join(table) != Some(true)) {
                run.form = Form::Single;
            }
            self.send_run(messages, run, &mut awaited);
        }
        // What is to be checked at the commit is checked now, while a failure still means that
        // nothing was committed.
        let client = Rc::clone(&self.client);
        let check = sent(async move {
            let checked = client.batch_execute("set constraints all immediate").await;
            checked.map(|()| 0).map_err(|error| told(&error))
        });
        self.collect(messages, &mut awaited, rows).await?;
        let checked = answered(check).await;
        let checked = checked.and_then(|_| match self.io.misreads.load(Ordering::Relaxed) {
            true => Err(SinkError::new(Class::Statement, MISREADS)),
            false => Ok(()),
        });
        checked.map_err(|error| ApplyError { at: 0..messages.len(), error })
    }

    /// Sends a command of ours.
    fn send(&mut self, command: &'static str) {
        let client = Rc::clone(&self.client);
        self.answers.push(sent(async move {
            let done = client.batch_execute(command).await;
            done.map(|()| 0).map_err(|error| of_ours(&error))
        }));
    }

    /// Awaits the answers to all commands of ours.
    async fn collect_ours(&mut self) -> Result<(), SinkError> {
        for answer in std::mem::take(&mut self.answers) {
            answered(answer).await?;
        }
        Ok(())
    }

    /// Awaits the answers to everything that was sent.
    async fn collect(
        &mut self,
        messages: &[Message],
        awaited: &mut Vec<Awaited<'_>>,
        rows: &mut Vec<Option<u64>>,
    ) -> Result<(), ApplyError> {
        let ours = self.collect_ours().await;
        ours.map_err(|error| ApplyError { at: 0..messages.len(), error })?;
        for Awaited { at, answer } in awaited.drain(..) {
            let total = answered(answer).await;
            let total = total.map_err(|error| ApplyError { at: at.clone(), error })?;
            let each = rows_of_each(&messages[at.clone()], Some(total));
            rows.extend(std::iter::repeat_n(each, at.len()));
        }
        Ok(())
    }

    /// A statement is prepared when it comes for the second time.
    fn wants_preparing(&mut self, run: &Run, statement: &Statement) -> bool {
        if statement.params() == 0 {
            return false;
        }
        match self.prepared.get(statement.text()) {
            Some(prepared) => prepared.is_none(),
            None if run.form == Form::Same => true,
            None => {
                self.remember(statement, None);
                false
            }
        }
    }

    /// Whether rows for a table may be joined, if that is known.
    fn may_join(&self, table: &str) -> Option<bool> {
        let known = self.tables.get(table).filter(|(_, since)| since.elapsed() < TABLE_BELIEVED);
        known.map(|(may_join, _)| *may_join)
    }

    /// Prepares the statement, and asks about the table, as far as it is wanted.
    async fn make_ready(
        &mut self,
        statement: &Statement,
        prepares: bool,
        asks: Option<&str>,
    ) -> Result<(), SinkError> {
        if let Some(table) = asks {
            let (client, name) = (Rc::clone(&self.client), table.to_owned());
            let asked = self.try_apart(async move {
                let asked = client.query_typed(MAY_JOIN, &[(&name, Type::TEXT)]).await;
                let row = asked.map_err(|error| told(&error))?.pop();
                Ok(row.is_some_and(|row| row.try_get(0).unwrap_or(false)))
            });
            // A name that is not understood here may still be one.
            let may_join = asked.await?.unwrap_or(false);
            if self.tables.len() >= STATEMENTS_MAX {
                self.tables.clear();
            }
            self.tables.insert(table.into(), (may_join, Instant::now()));
        }
        if prepares {
            self.prepare(statement).await?;
        }
        Ok(())
    }

    /// Does something of ours in the transaction, which goes on if the server refuses it.
    async fn try_apart<T>(
        &mut self,
        attempt: impl Future<Output = Result<T, SinkError>>,
    ) -> Result<Option<T>, SinkError> {
        self.send("savepoint eserver_apart");
        let attempt = timeout(ANSWER_TIMEOUT, attempt).await;
        let done = match attempt.map_err(|_| SinkError::silent())? {
            Ok(done) => Some(done),
            Err(error) if error.class == Class::Statement => {
                self.send("rollback to savepoint eserver_apart");
                None
            }
            Err(error) => return Err(error),
        };
        self.send("release savepoint eserver_apart");
        Ok(done)
    }

    fn remember(&mut self, statement: &Statement, prepared: Option<Prepared>) {
        if self.prepared.len() >= STATEMENTS_MAX {
            self.prepared.clear();
        }
        self.prepared.insert(statement.text().into(), prepared);
    }

    async fn prepare(&mut self, statement: &Statement) -> Result<(), SinkError> {
        let client = Rc::clone(&self.client);
        let prepared = timeout(ANSWER_TIMEOUT, client.prepare(statement.text())).await;
        let single = prepared.map_err(|_| SinkError::silent())?.map_err(|error| told(&error))?;
        let types = single.params().iter().map(type_name).collect::<Option<Vec<_>>>();
        let mut run = None;
        if let Some(rows) = statement.rows()
            && let Some(types) = types
            && are_written_with_commas(&client, single.params()).await?
            && let Some(text) = rows.unnest_text(&types)
        {
            // It is our text, not the message's: if the server does not like it, we do without.
            let prepare = async { client.prepare(&text).await.map_err(|error| told(&error)) };
            run = self.try_apart(prepare).await?;
        }
        self.remember(statement, Some(Prepared { single, run }));
        Ok(())
    }

    fn send_run<'a>(&self, messages: &'a [Message], run: Run, awaited: &mut Vec<Awaited<'a>>) {
        let client = || Rc::clone(&self.client);
        let part = &messages[run.at.clone()];
        if run.form == Form::Tuples {
            let (client, text) = (client(), join_tuples(part));
            let answer = sent(async move {
                client.execute_typed(&text, &[]).await.map_err(|error| told(&error))
            });
            awaited.push(Awaited { at: run.at, answer });
            return;
        }
        let prepared = self.prepared.get(part[0].statement.text()).cloned().flatten();
        if run.form == Form::Same
            && let Some(Prepared { run: Some(statement), .. }) = prepared
        {
            let client = client();
            let answer = sent(async move {
                let columns = (0..part[0].params.len()).map(|column| Column { part, column });
                let rows = client.execute_raw(&statement, columns).await;
                rows.map_err(|error| told(&error))
            });
            awaited.push(Awaited { at: run.at, answer });
            return;
        }
        for (index, message) in run.at.zip(part) {
            let (client, prepared) = (client(), prepared.clone());
            let answer = sent(async move {
                let rows = match prepared {
                    Some(Prepared { single, .. }) => {
                        client.execute_raw(&single, message.params.iter().map(Written)).await
                    }
                    None => {
                        let params: Vec<_> = message.params.iter().map(Written).collect();
                        let params: Vec<(&(dyn ToSql + Sync), Type)> = params
                            .iter()
                            .map(|param| (param as &(dyn ToSql + Sync), Type::UNKNOWN))
                            .collect();
                        client.execute_typed(message.statement.text(), &params).await
                    }
                };
                rows.map_err(|error| told(&error))
            });
            awaited.push(Awaited { at: index..index + 1, answer });
        }
    }
}

/// Sends what a future of the client sends, which it does when it is polled first. Whoever awaits
/// what is returned gets the answer.
fn sent<'a>(request: impl Future<Output = Result<u64, SinkError>> + 'a) -> Answer<'a> {
    let mut answer: Answer<'a> = Box::pin(request);
    // Nobody has to be woken: it is polled again when it is awaited.
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Box::pin(std::future::ready(result)),
        Poll::Pending => answer,
    }
}

async fn answered(answer: Answer<'_>) -> Result<u64, SinkError> {
    timeout(ANSWER_TIMEOUT, answer).await.unwrap_or_else(|_| Err(SinkError::silent()))
}

/// A value as a person would write it between quotes.
#[derive(Debug)]
struct Written<'a>(&'a Param);

impl ToSql for Written<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> ToSqlResult {
        match self.0 {
            Param::Null => return Ok(IsNull::Yes),
            Param::Bool(value) => write!(out, "{value}")?,
            Param::Integer(value) => write!(out, "{value}")?,
            Param::Number(text) | Param::Text(text) | Param::Json(text) => {
                out.put_slice(text.as_bytes());
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

type ToSqlResult = Result<IsNull, Box<dyn std::error::Error + Sync + Send>>;

/// The values of one parameter in a run, as a person would write an array: `{1,NULL,"a"}`.
struct Column<'a> {
    part: &'a [Message],
    column: usize,
}

impl ToSql for Column<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> ToSqlResult {
        for (index, message) in self.part.iter().enumerate() {
            out.put_u8(if index == 0 { b'{' } else { b',' });
            match &message.params[self.column] {
                Param::Null => out.put_slice(b"NULL"),
                Param::Bool(value) => write!(out, "{value}")?,
                Param::Integer(value) => write!(out, "{value}")?,
                Param::Number(text) | Param::Text(text) | Param::Json(text) => {
                    put_quoted(out, text);
                }
            }
        }
        out.put_u8(b'}');
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

impl fmt::Debug for Column<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.part.iter().map(|message| &message.params[self.column]);
        formatter.debug_list().entries(values).finish()
    }
}

/// An element of an array, which may hold anything between its quotes.
fn put_quoted(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    for piece in text.split_inclusive(['"', '\\']) {
        match piece.as_bytes() {
            [before @ .., last @ (b'"' | b'\\')] => {
                out.put_slice(before);
                out.put_slice(&[b'\\', *last]);
            }
            whole => out.put_slice(whole),
        }
    }
    out.put_u8(b'"');
}

/// The name of a type of which there are arrays, in SQL.
fn type_name(kind: &Type) -> Option<String> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    match kind.kind() {
        Kind::Array(_) | Kind::Pseudo => None,
        Kind::Domain(base) => type_name(base),
        _ => Some(format!("{}.{}", quoted(kind.schema()), quoted(kind.name()))),
    }
}

/// Whether arrays of these types have commas between their elements; most do.
async fn are_written_with_commas(client: &Client, types: &[Type]) -> Result<bool, SinkError> {
    let ids: Vec<u32> = types.iter().map(Type::oid).collect();
    let ids: &[(&(dyn ToSql + Sync), Type)] = &[(&ids, Type::OID_ARRAY)];
    let select = "select from pg_catalog.pg_type where oid = any($1) and typdelim <> ','";
    let others = timeout(ANSWER_TIMEOUT, client.query_typed(select, ids)).await;
    let others = others.map_err(|_| SinkError::silent())?;
    Ok(others.map_err(|error| of_ours(&error))?.is_empty())
}

async fn connect(target: &Config) -> Result<(Client, Io), SinkError> {
    let mut config = target.clone();
    if config.get_application_name().is_none() {
        config.application_name("eserver");
    }
    config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(SILENCE_TIMEOUT);
    config.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_IDLE / 2);
    config.keepalives_retries(4);
    let connected = async {
        let (client, connection) = config.connect(NoTls).await?;
        let misreads = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(read_and_write(connection, Arc::clone(&misreads))).abort_handle();
        let io = Io { task, misreads };
        client.batch_execute(&session_settings()).await?;
        io.misreads.store(false, Ordering::Relaxed);
        Ok((client, io))
    };
    let connected = timeout(CONNECT_TIMEOUT, connected).await.map_err(|_| SinkError::silent())?;
    connected.map_err(|error: Error| of_ours(&error))
}

/// Until the connection ends; its failures are told to whoever awaits an answer. The server tells
/// of settings before it tells that the statement which changed them is done.
async fn read_and_write(
    mut connection: Connection<Socket, NoTlsStream>,
    misreads: Arc<AtomicBool>,
) {
    let mut read_on = |context: &mut Context<'_>| {
        let polled = connection.poll_message(context);
        if connection.parameter("standard_conforming_strings") == Some("off")
            || connection.parameter("client_encoding").is_some_and(|name| name != "UTF8")
        {
            misreads.store(true, Ordering::Relaxed);
        }
        polled
    };
    while let Some(Ok(_)) = poll_fn(&mut read_on).await {}
}

/// What bounds the time for which this connection keeps others, or this one, waiting; and that
/// quotes are read as they were when the statement was looked through.
fn session_settings() -> String {
    let (statement, lock) = (STATEMENT_TIMEOUT.as_millis(), LOCK_TIMEOUT.as_millis());
    let (silence, idle) = (SILENCE_TIMEOUT.as_millis(), KEEPALIVE_IDLE.as_secs());
    format!(
        "set standard_conforming_strings = on; \
         set statement_timeout = {statement}; set lock_timeout = {lock}; \
         set idle_in_transaction_session_timeout = {silence}; \
         set tcp_keepalives_idle = {idle}; set tcp_keepalives_interval = {idle}; \
         set tcp_keepalives_count = 2; set client_min_messages = error; \
         select set_config(name, case name when 'tcp_user_timeout' then '{silence}' else 'on' end, \
         false) from pg_settings where name = 'tcp_user_timeout' \
         or name = 'synchronous_commit' and setting = 'off'"
    )
}

async fn has_table(client: &Client) -> Result<bool, SinkError> {
    let found = client.query_one_scalar("select to_regclass('eserver_drain') is not null", &[]);
    found.await.map_err(|error| of_ours(&error))
}

/// Does what is done at the start and for each batch, and undoes it.
async fn try_row(client: &Client) -> Result<(), SinkError> {
    client.batch_execute("begin").await.map_err(|error| of_ours(&error))?;
    if !has_table(client).await? {
        let created = client.batch_execute(CREATE_TABLE).await;
        created.map_err(|error| of_ours(&error).with_remedy(CREATE_TABLE))?;
    }
    let tried = async {
        let place = Place::of_trial();
        read_rows(client, &place).await?;
        client.execute(MOVE_ROW, &[&0_i64, &"", &place.queue, &0_i64, &0_i32]).await?;
        client.batch_execute("rollback").await
    };
    tried.await.map_err(|error| of_ours(&error))
}

async fn read_position(client: &Client, place: &Place) -> Result<Position, SinkError> {
    let read = async {
        client.batch_execute("begin").await?;
        let rows = read_rows(client, place).await?;
        client.batch_execute("commit").await?;
        Ok(rows)
    };
    place.join(read.await.map_err(|error| of_ours(&error))?)
}

/// Makes the lane's row if it is not there, and reads those of all lanes, with a lock.
async fn read_rows(client: &Client, place: &Place) -> Result<Vec<Row>, Error> {
    let Place { queue, epoch, lane } = place;
    let (epoch, lane) = (*epoch as i64, *lane as i32);
    let insert = "insert into eserver_drain values ($1, $2, $3, 0, '') on conflict do nothing";
    client.execute(insert, &[queue, &epoch, &lane]).await?;
    let select = "select lane::bigint, applied_seq::bigint, unsettled::text from eserver_drain \
                  where queue = $1 and epoch = $2 order by eserver_drain.lane for update";
    let read = |row: &tokio_postgres::Row| Row {
        lane: row.try_get(0).ok(),
        applied_seq: row.try_get(1).ok(),
        unsettled: row.try_get(2).ok(),
    };
    Ok(client.query(select, &[queue, &epoch]).await?.iter().map(read).collect())
}

fn of_ours(error: &Error) -> SinkError {
    told(error).of_ours()
}

fn told(error: &Error) -> SinkError {
    let Some(said) = error.as_db_error() else {
        return SinkError::new(class_without_code(error), &words_of(error));
    };
    let (code, message) = (said.code().code(), said.message());
    let detail = said.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    SinkError::new(class_of(code), &format!("{code}: {message}{detail}"))
}

fn class_without_code(error: &Error) -> Class {
    let io = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    match io.map(io::Error::kind) {
        // So the library says that a message is too large for the protocol.
        Some(io::ErrorKind::InvalidInput) => Class::Statement,
        Some(_) => Class::Unreachable,
        None if error.is_closed() => Class::Unreachable,
        None => Class::Statement,
    }
}

fn class_of(code: &str) -> Class {
    match code {
        "25P02" | "55P03" | "57014" => Class::Retry,
        "25006" | "25P03" | "25P04" | "26000" | "3D000" => Class::Unreachable,
        // Trouble of the system, files that cannot be read or written, damaged data.
        "58000" | "58030" | "XX001" | "XX002" => Class::Unreachable,
        // A bound that somebody has configured, such as that of temporary files.
        "53400" => Class::Statement,
        _ => match code.get(..2).unwrap_or_default() {
            "40" => Class::Retry,
            "08" | "28" | "53" | "57" => Class::Unreachable,
            // Also XX000, with which extensions refuse what is wrong, and files that a statement
            // names and are not there.
            _ => Class::Statement,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_an_array_are_quoted() {
        for (text, expected) in [
            ("", r#""""#),
            ("a,b{}", r#""a,b{}""#),
            (r#"a"b\c"#, r#""a\"b\\c""#),
            (r#""""#, r#""\"\"""#),
            ("NULL", r#""NULL""#),
            ("ä\n", "\"ä\n\""),
        ] {
            let mut out = BytesMut::new();
            put_quoted(&mut out, text);
            assert_eq!(out, expected.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn a_commit_may_be_refused() {
        let server = eserver_peers::Postgres::start().unwrap();
        let target = server.create("test").unwrap().parse().unwrap();
        server
            .query("test", "create table t(id int unique deferrable initially deferred)")
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let place = Place { queue: "jobs".to_owned(), epoch: 7, lane: 0 };
            let (mut sink, _) = Postgres::open(&target, &place).await.unwrap();
            sink.begin(&Position::default()).await.unwrap();
            sink.client.batch_execute("insert into t values (5), (5)").await.unwrap();
            let error = sink.commit().await.unwrap_err();
            assert_eq!(error.class, Class::Statement, "{error:?}");
            sink.rollback().await.unwrap();
            sink.begin(&Position::default()).await.unwrap();
            sink.commit().await.unwrap();
        });
    }

    #[test]
    fn codes_have_classes() {
        for (code, class) in [
            ("23505", Class::Statement),
            ("42601", Class::Statement),
            ("22P02", Class::Statement),
            ("54000", Class::Statement),
            ("40001", Class::Retry),
            ("40P01", Class::Retry),
            ("55P03", Class::Retry),
            ("57014", Class::Retry),
            ("57P01", Class::Unreachable),
            ("53100", Class::Unreachable),
            ("25006", Class::Unreachable),
            ("28P01", Class::Unreachable),
            ("08006", Class::Unreachable),
            ("53400", Class::Statement),
            ("58030", Class::Unreachable),
            ("58000", Class::Unreachable),
            ("58P01", Class::Statement),
            ("58P02", Class::Statement),
            ("XX000", Class::Statement),
            ("XX001", Class::Unreachable),
            ("XX002", Class::Unreachable),
        ] {
            assert_eq!(class_of(code), class, "{code}");
        }
    }
}
