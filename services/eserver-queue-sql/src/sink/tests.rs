//! The same scenarios for every engine, with real servers.

mod hazards;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;

use eserver_peers::{MariaDb, Postgres as PostgresServer};
use tempfile::TempDir;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::mysql::MySql;
use super::postgres::Postgres;
use super::sqlite::Sqlite;
use super::*;
use crate::engine::Engine;
use crate::message::Param;
use crate::statement::Statement;
use crate::target::{Connection, Target};

/// A database of our own, with a view from outside.
trait Database {
    type Sink: Sink;
    const ENGINE: Engine;

    /// With a server that others may use, too.
    fn start() -> Self;
    /// With a server that this test may kill and change.
    fn start_alone() -> Self;
    fn url(&self) -> String;
    fn ask(&self, sql: &str) -> Vec<Vec<String>>;
    fn kill(&mut self);
    fn restart(&mut self);
    fn target_of(target: &Target) -> <Self::Sink as Sink>::Target;

    fn target(&self) -> <Self::Sink as Sink>::Target {
        Self::target_of(&Target::parse(&self.url(), None).unwrap())
    }

    async fn open(&self, lane: u32) -> Result<(Self::Sink, Position), SinkError> {
        let place = Place { queue: "jobs".to_owned(), epoch: 7, lane };
        Self::Sink::open(&self.target(), &place).await
    }

    fn named(&self, id: u64, sql: &str, params: &[Param]) -> Message {
        message(id, Statement::with_params(Self::ENGINE, sql).unwrap(), params)
    }

    fn raw(&self, id: u64, sql: &str) -> Message {
        message(id, Statement::raw(Self::ENGINE, sql).unwrap(), &[])
    }

    fn number(&self, sql: &str) -> u64 {
        self.ask(sql)[0][0].parse().unwrap()
    }
}

struct SqliteFile(TempDir);

impl Database for SqliteFile {
    type Sink = Sqlite;
    const ENGINE: Engine = Engine::Sqlite;

    fn start() -> Self {
        SqliteFile(tempfile::tempdir().unwrap())
    }

    fn start_alone() -> Self {
        Self::start()
    }

    fn url(&self) -> String {
        format!("sqlite:{}/test.db", self.0.path().display())
    }

    fn ask(&self, sql: &str) -> Vec<Vec<String>> {
        let connection = rusqlite::Connection::open(self.target()).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        let mut all = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let text = |column| match row.get_ref(column).unwrap() {
                rusqlite::types::ValueRef::Null => "NULL".to_owned(),
                rusqlite::types::ValueRef::Integer(value) => value.to_string(),
                rusqlite::types::ValueRef::Real(value) => value.to_string(),
                other => other.as_str().unwrap().to_owned(),
            };
            all.push((0..columns).map(text).collect());
        }
        all
    }

    // There is no server.
    fn kill(&mut self) {}
    fn restart(&mut self) {}

    fn target_of(target: &Target) -> std::path::PathBuf {
        let Connection::Sqlite(file) = target.connection() else { panic!("{target}") };
        file.clone()
    }
}

/// A database of its own in a server that tests share while several of them run.
struct In<S> {
    server: Arc<S>,
    name: String,
}

impl<S> In<S> {
    fn shared(server: &Mutex<Weak<S>>, start: impl FnOnce() -> S) -> Self {
        static NAMES: AtomicU64 = AtomicU64::new(0);
        let mut shared = server.lock().unwrap();
        let server = shared.upgrade().unwrap_or_else(|| Arc::new(start()));
        *shared = Arc::downgrade(&server);
        In { server, name: format!("test{}", NAMES.fetch_add(1, Ordering::Relaxed)) }
    }

    fn alone(server: S) -> Self {
        In { server: Arc::new(server), name: "test".to_owned() }
    }

    fn server(&mut self) -> &mut S {
        Arc::get_mut(&mut self.server).expect("the test has started a server for itself")
    }
}

impl Database for In<PostgresServer> {
    type Sink = Postgres;
    const ENGINE: Engine = Engine::Postgres;

    fn start() -> Self {
        static SERVER: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());
        let database = In::shared(&SERVER, || PostgresServer::start().unwrap());
        database.server.create(&database.name).unwrap();
        database
    }

    fn start_alone() -> Self {
        let database = In::alone(PostgresServer::start().unwrap());
        database.server.create(&database.name).unwrap();
        database
    }

    fn url(&self) -> String {
        self.server.url(&self.name)
    }

    fn ask(&self, sql: &str) -> Vec<Vec<String>> {
        self.server.query(&self.name, sql).unwrap()
    }

    fn kill(&mut self) {
        self.server().kill().unwrap();
    }

    fn restart(&mut self) {
        self.server().restart().unwrap();
    }

    fn target_of(target: &Target) -> tokio_postgres::Config {
        let Connection::Postgres(config) = target.connection() else { panic!("{target}") };
        (**config).clone()
    }
}

impl Database for In<MariaDb> {
    type Sink = MySql;
    const ENGINE: Engine = Engine::MySql;

    fn start() -> Self {
        static SERVER: Mutex<Weak<MariaDb>> = Mutex::new(Weak::new());
        let database = In::shared(&SERVER, || MariaDb::start().unwrap());
        database.server.create(&database.name).unwrap();
        database
    }

    fn start_alone() -> Self {
        let database = In::alone(MariaDb::start().unwrap());
        database.server.create(&database.name).unwrap();
        database
    }

    fn url(&self) -> String {
        self.server.url(&self.name)
    }

    fn ask(&self, sql: &str) -> Vec<Vec<String>> {
        self.server.query(&self.name, sql).unwrap()
    }

    fn kill(&mut self) {
        self.server().kill().unwrap();
    }

    fn restart(&mut self) {
        self.server().restart().unwrap();
    }

    fn target_of(target: &Target) -> mysql_async::Opts {
        let Connection::MySql(options) = target.connection() else { panic!("{target}") };
        options.clone()
    }
}

macro_rules! for_every_engine {
    ($($scenario:ident),* $(,)?) => {
        mod on_sqlite {
            use super::SqliteFile;
            $(#[test] fn $scenario() { super::run(super::$scenario::<SqliteFile>()); })*
        }
        mod on_postgres {
            use super::{In, PostgresServer};
            $(#[test] fn $scenario() { super::run(super::$scenario::<In<PostgresServer>>()); })*
        }
        mod on_mariadb {
            use super::{In, MariaDb};
            $(#[test] fn $scenario() { super::run(super::$scenario::<In<MariaDb>>()); })*
        }
    };
}

for_every_engine!(
    a_run_of_a_thousand_arrives_as_it_was_sent,
    order_is_kept_among_different_statements,
    raw_tuples_arrive,
    the_number_of_rows_is_told,
    what_violates_a_constraint_is_found,
    a_fault_among_different_statements_is_found_exactly,
    the_position_moves_with_the_commit,
    positions_of_all_lanes_are_joined,
    a_transaction_that_was_cut_off_is_gone,
    a_lane_whose_row_has_gone_stops,
    statements_are_verified,
);

fn run(scenario: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, scenario);
}

fn message(id: u64, statement: Statement, params: &[Param]) -> Message {
    Message {
        id,
        statement: Arc::new(statement),
        params: params.to_vec(),
        key: None,
        notify: None,
        bytes: 0,
    }
}

fn text(text: &str) -> Param {
    Param::Text(text.into())
}

fn position_of(messages: &[Message]) -> Position {
    let mut position = Position::default();
    position.add(messages.iter().map(|message| message.id));
    position
}

/// Applies and commits.
async fn work(sink: &mut impl Sink, messages: &[Message]) -> Vec<Option<u64>> {
    let mut rows = Vec::new();
    sink.begin(&position_of(messages)).await.unwrap();
    sink.apply(messages, &mut rows).await.unwrap();
    sink.commit().await.unwrap();
    assert_eq!(rows.len(), messages.len());
    rows
}

/// What a text may hold that somebody could take for something else.
const WORDS: &[&str] = &[
    "plain",
    "it's",
    "\"quoted\"",
    "back\\slash\\",
    "{a,b}",
    "NULL",
    "",
    " blank ",
    "ünïcödé 🦀",
    "two\nlines",
    "tab\t",
    "?",
    "$1",
    ":name",
    "%d",
    "-- no",
    "/* no */",
    "a,b",
    "\\x41",
    "'",
];

async fn a_run_of_a_thousand_arrives_as_it_was_sent<D: Database>() {
    let database = D::start();
    let (mut sink, _) = database.open(0).await.unwrap();
    database.ask("create table t(id int, word text, number decimal(30, 3), flag boolean)");
    let sql = "insert into t(id, word, number, flag) values (?, ?, ?, ?)";
    let (mut messages, mut expected) = (Vec::new(), Vec::new());
    for id in 0..1_000_u64 {
        let (word, word_seen) = match WORDS.get(id as usize % (WORDS.len() + 1)) {
            Some(word) => (text(word), *word),
            None => (Param::Null, "NULL"),
        };
        let (number, number_seen) = match id % 4 {
            0 => (Param::Integer(-7), "-7"),
            1 => (Param::Number("1.5".into()), "1.5"),
            2 => (Param::Null, "NULL"),
            _ => (Param::Number("2.5e2".into()), "250"),
        };
        let (flag, flag_seen) = match id % 3 {
            0 => (Param::Bool(true), "yes"),
            1 => (Param::Bool(false), "no"),
            _ => (Param::Null, "NULL"),
        };
        messages.push(database.named(id, sql, &[Param::Integer(id as i64), word, number, flag]));
        expected.push((word_seen, number_seen, flag_seen));
    }
    let rows = work(&mut sink, &messages).await;
    assert_eq!(rows, vec![Some(1); 1_000]);
    // The same again, each by itself.
    for part in messages.chunks(1).take(50) {
        work(&mut sink, part).await;
    }
    for half in [0, 1] {
        let seen = database.ask(
            "select id, word, number, case when flag then 'yes' when not flag then 'no' end \
             from t order by id",
        );
        assert_eq!(seen.len(), 1_050);
        let each = |id: usize| if id < 50 { id * 2 + half } else { id + 50 };
        for (id, (word, number, flag)) in expected.iter().enumerate() {
            let row = &seen[each(id)];
            assert_eq!(row[0], id.to_string());
            assert_eq!(row[1], *word, "{row:?}");
            let shown = row[2].strip_suffix("00").map(|number| number.trim_end_matches(".0"));
            assert_eq!(shown.unwrap_or(&row[2]), *number, "{row:?}");
            assert_eq!(row[3], *flag, "{row:?}");
        }
    }
}

async fn order_is_kept_among_different_statements<D: Database>() {
    let database = D::start();
    let (mut sink, _) = database.open(0).await.unwrap();
    database.ask("create table t(id int primary key, n int)");
    let mut messages = vec![database.named(
        0,
        "insert into t(id, n) values (?, ?)",
        &[Param::Integer(1), Param::Integer(1)],
    )];
    let mut n = 1_u64;
    for id in 1..=600 {
        let value = Param::Integer(id as i64);
        // Runs of one, of two and of many; prepared, seen once, and raw.
        let (message, next) = match (id / 10 % 3, id % 3) {
            (0, _) | (_, 0) => (
                database.named(id, "update t set n = (n * 3 + ?) % 9973", &[value]),
                (n * 3 + id) % 9_973,
            ),
            (1, _) => (
                database.raw(id, &format!("update t set n = (n * 5 + {id}) % 9973")),
                (n * 5 + id) % 9_973,
            ),
            _ => (
                database.named(id, &format!("update t set n = (n + {id} * ?) % 9973"), &[value]),
                (n + id * id) % 9_973,
            ),
        };
        n = next;
        messages.push(message);
    }
    for batch in messages.chunks(200) {
        work(&mut sink, batch).await;
    }
    assert_eq!(database.number("select n from t"), n);
}

async fn raw_tuples_arrive<D: Database>() {
    let database = D::start();
    let (mut sink, _) = database.open(0).await.unwrap();
    database.ask("create table t(id int, word text)");
    let messages: Vec<_> = (0..2_500)
        .map(|id| database.raw(id, &format!("insert into t values ({id}, 'it''s {id}')")))
        .collect();
    let rows = work(&mut sink, &messages).await;
    assert_eq!(rows, vec![Some(1); 2_500]);
    assert_eq!(database.number("select count(distinct id) from t"), 2_500);
    assert_eq!(database.ask("select word from t where id = 2499"), [["it's 2499"]]);
}

async fn the_number_of_rows_is_told<D: Database>() {
    let database = D::start();
    let (mut sink, _) = database.open(0).await.unwrap();
    database.ask("create table t(id int primary key, n int)");
    let insert = |id| {
        let values = [Param::Integer(id), Param::Integer(0)];
        database.named(id as u64, "insert into t(id, n) values (?, ?)", &values)
    };
    let rows = work(&mut sink, &[insert(1), insert(2), insert(3)]).await;
    assert_eq!(rows, [Some(1); 3]);
    let update = |least| {
        let mut message =
            database.named(9, "update t set n = 5 where id >= ?", &[Param::Integer(least)]);
        message.notify = Some("me".into());
        message
    };
    let select = database.raw(10, "select * from t");
    // A row that is found counts, also when it holds already what it is set to.
    let rows = work(&mut sink, &[update(1), update(2), update(4), select.clone()]).await;
    assert_eq!(rows[..3], [Some(3), Some(2), Some(0)]);
    let rows = work(&mut sink, &[update(3), select, database.raw(11, "delete from t")]).await;
    assert_eq!((rows[0], rows[2]), (Some(1), Some(3)));
}

async fn what_violates_a_constraint_is_found<D: Database>() {
    let database = D::start();
    let (mut sink, _) = database.open(0).await.unwrap();
    database.ask("create table t(id int primary key)");
    let messages: Vec<_> = [0, 1, 2, 3, 4, 5, 6, 3, 8, 9]
        .iter()
        .zip(0..)
        .map(|(key, id)| {
            database.named(id, "insert into t(id) values (?)", &[Param::Integer(*key)])
        })
        .collect();
    let mut rows = Vec::new();
    sink.begin(&position_of(&messages[..7])).await.unwrap();
    sink.savepoint().await.unwrap();
    let failed = sink.apply(&messages, &mut rows).await.unwrap_err();
    assert!(failed.at.contains(&7), "{failed:?}");
    assert_eq!(failed.error.class, Class::Statement, "{failed:?}");
    assert!(failed.error.text.to_lowercase().contains('t'), "{failed:?}");
    sink.rollback_to_savepoint().await.unwrap();
    sink.savepoint().await.unwrap();
    let failed = sink.apply(&messages[7..8], &mut rows).await;
    assert_eq!(failed, Ok(()), "the others are not there any more");
    sink.rollback_to_savepoint().await.unwrap();
    rows.clear();
    sink.savepoint().await.unwrap();
    sink.apply(&messages[..7], &mut rows).await.unwrap();
    sink.release_savepoint().await.unwrap();
    sink.savepoint().await.unwrap();
    let failed = sink.apply(&messages[7..8], &mut Vec::new()).await.unwrap_err();
    assert_eq!(failed.at, 0..1);
    sink.rollback_to_savepoint().await.unwrap();
    sink.commit().await.unwrap();
    assert_eq!(rows, [Some(1); 7]);
    assert_eq!(database.number("select count(*) from t"), 7);
    let (_, position) = database.open(0).await.unwrap();
    assert_eq!(position, position_of(&messages[..7]));
}

async fn a_fault_among_different_statements_is_found_exactly<D: Database>() {
    let database = D::start();
    let (mut sink, _) = database.open(0).await.unwrap();
    database.ask("create table t(id int primary key)");
    let insert = |id: u64| {
        let value = [Param::Integer(id as i64)];
        if id.is_multiple_of(2) {
            database.named(id, "insert into t(id) values (?)", &value)
        } else {
            database.named(id, "insert into t(id) values (? + 0)", &value)
        }
    };
    for fault in [
        database.raw(100, "insert into nowhere values (1)"),
        database.named(100, "insert into t(nothing) values (?)", &[Param::Integer(1)]),
        database.raw(100, "insert into t(id) values (0)"),
        database.raw(100, "select no such thing"),
    ] {
        let mut messages: Vec<_> = (0..20).map(insert).collect();
        messages[13] = fault;
        // Behind it is something new that is at fault as well.
        let mistake = [Param::Integer(1)];
        messages.extend([
            database.named(20, "insert into missing(id) values (?)", &mistake),
            database.named(21, "insert into missing(id) values (?)", &mistake),
        ]);
        sink.begin(&position_of(&messages)).await.unwrap();
        let failed = sink.apply(&messages, &mut Vec::new()).await.unwrap_err();
        assert_eq!(failed.at, 13..14, "{failed:?}");
        assert_eq!(failed.error.class, Class::Statement, "{failed:?}");
        assert!(!failed.error.text.contains('\n') && failed.error.text.len() <= ERROR_BYTES_MAX);
        sink.rollback().await.unwrap();
    }
    assert_eq!(database.number("select count(*) from t"), 0);
    let messages: Vec<_> = (0..20).map(insert).collect();
    work(&mut sink, &messages).await;
    assert_eq!(database.number("select count(*) from t"), 20);
}

async fn the_position_moves_with_the_commit<D: Database>() {
    let database = D::start();
    let (mut sink, position) = database.open(0).await.unwrap();
    assert_eq!(position, Position::default());
    database.ask("create table t(id int)");
    let messages: Vec<_> =
        (1..=5).map(|id| database.raw(id, &format!("insert into t values ({id})"))).collect();
    sink.begin(&position_of(&messages)).await.unwrap();
    sink.apply(&messages, &mut Vec::new()).await.unwrap();
    sink.rollback().await.unwrap();
    let (other, position) = database.open(0).await.unwrap();
    assert_eq!(position, Position::default());
    drop(other);
    assert_eq!(database.number("select count(*) from t"), 0);
    work(&mut sink, &messages).await;
    let (_, position) = database.open(0).await.unwrap();
    assert_eq!(position, position_of(&messages));
    assert_eq!(position.applied_seq, 5);
    assert_eq!(database.number("select count(*) from t"), 5);
    let row = database.ask("select queue, epoch, lane, applied_seq, unsettled from eserver_drain");
    assert_eq!(row, [["jobs", "7", "0", "5", "1-5"]]);
}

async fn positions_of_all_lanes_are_joined<D: Database>() {
    let database = D::start();
    let (mut zero, _) = database.open(0).await.unwrap();
    let (mut one, _) = database.open(1).await.unwrap();
    database.ask("create table t(id int)");
    let insert = |id| database.raw(id, &format!("insert into t values ({id})"));
    work(&mut zero, &[insert(1)]).await;
    work(&mut one, &[insert(2)]).await;
    let (_, position) = database.open(0).await.unwrap();
    assert_eq!(position, position_of(&[insert(1), insert(2)]));
    let other = Place { queue: "jobs".to_owned(), epoch: 8, lane: 0 };
    let (_, position) = D::Sink::open(&database.target(), &other).await.unwrap();
    assert_eq!(position, Position::default(), "another epoch has applied nothing");
}

async fn a_transaction_that_was_cut_off_is_gone<D: Database>() {
    let mut database = D::start_alone();
    let (mut sink, _) = database.open(0).await.unwrap();
    database.ask("create table t(id int)");
    let insert = |database: &D, id: u64| {
        let value = [Param::Integer(id as i64)];
        database.named(id, "insert into t(id) values (?)", &value)
    };
    let first = [insert(&database, 1), insert(&database, 2)];
    work(&mut sink, &first).await;
    // The client goes without a word.
    let second = [insert(&database, 3), insert(&database, 4)];
    sink.begin(&position_of(&second)).await.unwrap();
    sink.apply(&second, &mut Vec::new()).await.unwrap();
    drop(sink);
    let (mut sink, position) = database.open(0).await.unwrap();
    assert_eq!(position, position_of(&first));
    // The server does.
    sink.begin(&position_of(&second)).await.unwrap();
    sink.apply(&second, &mut Vec::new()).await.unwrap();
    database.kill();
    if D::ENGINE != Engine::Sqlite {
        let error = sink.commit().await.unwrap_err();
        assert_eq!(error.class, Class::Unreachable, "{error:?}");
        let error = database.open(0).await.err().expect("it was killed");
        assert_eq!(error.class, Class::Unreachable, "{error:?}");
    }
    drop(sink);
    database.restart();
    let (mut sink, position) = database.open(0).await.unwrap();
    assert_eq!(position, position_of(&first));
    assert_eq!(database.number("select count(*) from t"), 2);
    work(&mut sink, &second).await;
    assert_eq!(database.number("select count(*) from t"), 4);
}

/// Whoever opens a lane waits for what its last owner, or that of another lane, may still commit.
async fn an_open_transaction_is_waited_for<D: Database>(locks_waited_for: &str) {
    let database = D::start_alone();
    let (mut sink, _) = database.open(0).await.unwrap();
    database.open(1).await.map(drop).unwrap();
    for (id, lane) in [(1, 0), (2, 1)] {
        let messages = [database.raw(id, "select 1")];
        sink.begin(&position_of(&messages)).await.unwrap();
        sink.apply(&messages, &mut Vec::new()).await.unwrap();
        let mut opening = pin!(database.open(lane));
        loop {
            // MariaDB refreshes what it shows at most ten times a second.
            let opened = timeout(Duration::from_millis(150), &mut opening).await;
            assert!(opened.is_err(), "it did not wait: {:?}", opened.map(Result::err));
            if database.number(locks_waited_for) > 0 {
                break;
            }
        }
        sink.commit().await.unwrap();
        let (_, position) = opening.await.unwrap();
        assert_eq!(position, position_of(&messages));
    }
}

#[test]
fn an_open_transaction_is_waited_for_on_postgres() {
    let locks = "select count(*) from pg_locks where not granted";
    run(an_open_transaction_is_waited_for::<In<PostgresServer>>(locks));
}

#[test]
fn an_open_transaction_is_waited_for_on_mariadb() {
    let locks = "select count(*) from information_schema.innodb_trx where trx_state = 'LOCK WAIT'";
    run(an_open_transaction_is_waited_for::<In<MariaDb>>(locks));
}

async fn a_lane_whose_row_has_gone_stops<D: Database>() {
    let database = D::start();
    let (mut sink, _) = database.open(0).await.unwrap();
    database.ask("create table t(id int)");
    let messages = [database.raw(1, "insert into t values (1)")];
    // An unchanged row is found as well.
    work(&mut sink, &messages).await;
    work(&mut sink, &messages).await;
    database.ask("delete from eserver_drain");
    let begun = sink.begin(&position_of(&messages)).await;
    let applied = sink.apply(&messages, &mut Vec::new()).await.map_err(|failed| failed.error);
    let error = begun.and(applied).unwrap_err();
    assert_eq!(error.class, Class::Unreachable, "{error:?}");
    assert!(error.text.contains("row"), "{error:?}");
    drop(sink);
    let (mut sink, _) = database.open(0).await.unwrap();
    database.ask("delete from eserver_drain");
    let begun = sink.begin(&position_of(&messages)).await;
    begun.and(sink.commit().await).expect_err("nothing is committed without the row");
    drop(sink);
    assert_eq!(database.number("select count(*) from t"), 2);
}

async fn statements_are_verified<D: Database>() {
    let database = D::start();
    database.ask("create table t(id int)");
    let named = |sql| Arc::new(Statement::with_params(D::ENGINE, sql).unwrap());
    let good = ("good".to_owned(), named("insert into t(id) values (?)"));
    let bad = ("bad".to_owned(), named("insert into nowhere(id) values (?)"));
    let verify = async |statements: &[(String, Arc<Statement>)]| {
        let target = Target::parse(&database.url(), None).unwrap();
        match target.connection() {
            Connection::Sqlite(target) => Sqlite::verify(target, statements).await,
            Connection::Postgres(target) => Postgres::verify(target, statements).await,
            Connection::MySql(target) => MySql::verify(target, statements).await,
        }
    };
    let version = verify(std::slice::from_ref(&good)).await.unwrap();
    assert!(version.contains(char::is_numeric), "{version}");
    let error = verify(&[good, bad]).await.unwrap_err();
    assert_eq!(error.statement.as_deref(), Some("bad"));
    assert!(error.sentence.contains("nowhere"), "{error:?}");
}

/// Two lanes that wait for each other.
async fn a_deadlock_may_be_tried_again<D: Database>() {
    let database = D::start();
    let (mut zero, _) = database.open(0).await.unwrap();
    let (mut one, _) = database.open(1).await.unwrap();
    database.ask("create table t(id int primary key, n int)");
    work(&mut zero, &[database.raw(1, "insert into t values (1, 0), (2, 0)")]).await;
    let update = |id| {
        [database.named(id, "update t set n = n + 1 where id = ?", &[Param::Integer(id as i64)])]
    };
    for (sink, id) in [(&mut zero, 1), (&mut one, 2)] {
        sink.begin(&Position::default()).await.unwrap();
        sink.apply(&update(id), &mut Vec::new()).await.unwrap();
    }
    let (two, one_of) = (update(2), update(1));
    let (mut rows, mut others) = (Vec::new(), Vec::new());
    let cross = async {
        let result = zero.apply(&two, &mut rows).await;
        zero.rollback().await.unwrap();
        result
    };
    let against = async {
        let result = one.apply(&one_of, &mut others).await;
        one.rollback().await.unwrap();
        result
    };
    let (cross, against) = tokio::join!(cross, against);
    let failed = cross.and(against).unwrap_err();
    assert_eq!(failed.error.class, Class::Retry, "{failed:?}");
}

#[test]
fn a_deadlock_may_be_tried_again_on_postgres() {
    run(a_deadlock_may_be_tried_again::<In<PostgresServer>>());
}

#[test]
fn a_deadlock_may_be_tried_again_on_mariadb() {
    run(a_deadlock_may_be_tried_again::<In<MariaDb>>());
}

/// What keeps a lane from its database, and the words that it leaves.
async fn the_way_to_a_server_may_be_barred<D: Database>(no_table: &str, may: &[&str]) {
    let database = D::start_alone();
    let place = Place { queue: "jobs".to_owned(), epoch: 7, lane: 0 };
    let check = async |url: &str, expected: &[&str]| {
        let target = D::target_of(&Target::parse(url, None).unwrap());
        let error = D::Sink::open(&target, &place).await.err().expect(url);
        assert_eq!(error.class, Class::Unreachable, "{error:?}");
        for words in expected {
            assert!(error.text.contains(words), "{words}: {error:?}");
        }
        target
    };
    let url = database.url();
    check(&url.replace(":eserver@", ":wrong@"), &["eserver"]).await;
    check(&url.replace("/test", "/nowhere"), &["nowhere"]).await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (before, _) = url.rsplit_once(':').unwrap();
    check(&format!("{before}:{port}/test"), &["refused"]).await;
    // Somebody who may not make the table says which to make, and is content with it.
    for sql in may {
        database.ask(sql);
    }
    let poor = url.replace("eserver:eserver@", "poor:poor@");
    let target = check(&poor, &[no_table, "create table eserver_drain("]).await;
    let (sink, _) = database.open(1).await.unwrap();
    drop(sink);
    database.ask(match D::ENGINE {
        Engine::Postgres => "grant select, insert, update on eserver_drain to poor",
        _ => "grant select, insert, update on test.eserver_drain to poor",
    });
    D::Sink::open(&target, &place).await.map(drop).unwrap();
}

#[test]
fn the_way_to_postgres_may_be_barred() {
    let may =
        ["create role poor login password 'poor'", "revoke create on schema public from public"];
    run(the_way_to_a_server_may_be_barred::<In<PostgresServer>>("42501", &may));
}

#[test]
fn the_way_to_mariadb_may_be_barred() {
    let may = [
        "create user poor@'%' identified by 'poor'",
        "create table t(id int)",
        "grant select on test.t to poor@'%'",
    ];
    run(the_way_to_a_server_may_be_barred::<In<MariaDb>>("1142", &may));
}

/// A connection that goes silent, as when a cable is cut, is given up.
async fn silence_ends_a_connection<D: Database>() {
    let database = D::start();
    let address = database.url();
    let (address, _) = address.rsplit_once('@').unwrap().1.split_once('/').unwrap();
    let wire = Wire::lay(address.to_owned());
    let url = database.url().replace(address, &wire.address);
    let target = D::target_of(&Target::parse(&url, None).unwrap());
    let place = Place { queue: "jobs".to_owned(), epoch: 7, lane: 0 };
    let (mut sink, _) = D::Sink::open(&target, &place).await.unwrap();
    let messages = [database.raw(1, "select 1")];
    work(&mut sink, &messages).await;
    wire.is_cut.store(true, Ordering::Relaxed);
    // From here on, time passes as soon as nobody has anything to do.
    tokio::time::pause();
    let begun = sink.begin(&Position::default()).await;
    let applied = sink.apply(&messages, &mut Vec::new()).await.map_err(|failed| failed.error);
    let error = begun.and(applied).unwrap_err();
    assert_eq!(error.class, Class::Unreachable, "{error:?}");
    let error = D::Sink::open(&target, &place).await.err().expect("nobody answers");
    assert_eq!(error.class, Class::Unreachable, "{error:?}");
}

/// Between a client and a server.
struct Wire {
    address: String,
    is_cut: Arc<AtomicBool>,
}

impl Wire {
    fn lay(server: String) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        // It ends with the process, like a wire that nobody takes down.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
                let ends = (client.try_clone().unwrap(), server.try_clone().unwrap());
                for (from, to) in [ends, (server, client)] {
                    let cut = Arc::clone(&cut);
                    thread::spawn(move || carry(from, to, &cut));
                }
            }
        });
        Wire { address, is_cut }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, is_cut: &AtomicBool) {
    let mut buffer = [0; 4_096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !is_cut.load(Ordering::Relaxed) && to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

#[test]
fn silence_ends_a_connection_to_postgres() {
    run(silence_ends_a_connection::<In<PostgresServer>>());
}

#[test]
fn silence_ends_a_connection_to_mariadb() {
    run(silence_ends_a_connection::<In<MariaDb>>());
}

#[test]
fn postgres_reads_every_type_from_text() {
    run(async {
        let database = <In<PostgresServer>>::start();
        database.ask("create type mood as enum ('good', 'it''s bad')");
        database.ask("create domain positive as int check (value > 0)");
        let kinds: &[(&str, Param, &str)] = &[
            ("json", Param::Json(r#"{"a":["x\"y",null]}"#.into()), r#"{"a":["x\"y",null]}"#),
            ("jsonb", Param::Json("[1, 2]".into()), "[1, 2]"),
            ("json", Param::Bool(true), "true"),
            (
                "uuid",
                text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            ),
            ("timestamptz", text("2024-02-29 12:00:00+00"), "2024-02-29 12:00:00+00"),
            ("date", text("2024-02-29"), "2024-02-29"),
            (
                "numeric",
                Param::Number("123456789012345678901234567890.5".into()),
                "123456789012345678901234567890.5",
            ),
            ("float8", Param::Number("1e-3".into()), "0.001"),
            ("smallint", Param::Integer(-5), "-5"),
            ("text", Param::Integer(5), "5"),
            ("bytea", text("\\x0041ff"), "\\x0041ff"),
            ("int[]", text("{1,NULL,3}"), "{1,NULL,3}"),
            ("text[]", text(r#"{"a,b","c\"d"}"#), r#"{"a,b","c\"d"}"#),
            ("mood", text("it's bad"), "it's bad"),
            ("positive", Param::Integer(3), "3"),
            ("varchar(3)", text("abc"), "abc"),
            ("char(3)", text("a"), "a  "),
            ("\"char\"", text("a"), "a"),
            ("bit(3)", text("101"), "101"),
            ("inet", text("10.0.0.1"), "10.0.0.1"),
            ("box", text("(1,1),(0,0)"), "(1,1),(0,0)"),
            ("boolean", Param::Bool(false), "f"),
            ("int4range", text("[1,5)"), "[1,5)"),
            ("interval", text("1 day"), "1 day"),
        ];
        database.ask("set client_min_messages = error");
        let (mut sink, _) = database.open(0).await.unwrap();
        for (kind, param, expected) in kinds {
            database.ask("drop table if exists t");
            database.ask(&format!("create table t(v {kind})"));
            let sql = "insert into t(v) values (?)";
            // One that is prepared for once, then a run, then one by the statement prepared.
            let one = database.named(1, sql, std::slice::from_ref(param));
            let null = database.named(1, sql, &[Param::Null]);
            work(&mut sink, std::slice::from_ref(&one)).await;
            work(&mut sink, &[one.clone(), null.clone(), one.clone()]).await;
            work(&mut sink, &[one]).await;
            let seen = database.ask("select v from t");
            assert_eq!(seen.len(), 5, "{kind}");
            for (index, row) in seen.iter().enumerate() {
                assert_eq!(row[0], if index == 2 { "NULL" } else { expected }, "{kind}");
            }
            // Types of an earlier table were forgotten: this is another connection.
            (sink, _) = database.open(0).await.unwrap();
        }
    });
}

#[test]
fn postgres_tells_of_a_deferred_constraint_before_the_commit() {
    run(async {
        let database = <In<PostgresServer>>::start();
        let (mut sink, _) = database.open(0).await.unwrap();
        database.ask("create table t(id int unique deferrable initially deferred)");
        let insert = |id, key| database.raw(id, &format!("insert into t values ({key})"));
        sink.begin(&Position::default()).await.unwrap();
        let failed = sink.apply(&[insert(1, 5), insert(2, 5)], &mut Vec::new()).await.unwrap_err();
        assert_eq!(failed.error.class, Class::Statement, "{failed:?}");
        sink.rollback().await.unwrap();
        work(&mut sink, &[insert(1, 5), insert(2, 6)]).await;
    });
}

#[test]
fn postgres_notices_that_a_column_has_another_type() {
    run(async {
        let database = <In<PostgresServer>>::start();
        let (mut sink, _) = database.open(0).await.unwrap();
        database.ask("create table t(v int)");
        let insert = |value| database.named(1, "insert into t(v) values (?)", &[value]);
        work(&mut sink, &[insert(Param::Integer(1)), insert(Param::Integer(2))]).await;
        database.ask("alter table t alter v type text");
        let words = [insert(text("one")), insert(text("two"))];
        sink.begin(&Position::default()).await.unwrap();
        sink.apply(&words, &mut Vec::new()).await.unwrap_err();
        sink.rollback().await.unwrap();
        work(&mut sink, &words).await;
        assert_eq!(database.number("select count(*) from t"), 4);
    });
}

#[test]
fn mariadb_keeps_what_rows_mean_where_it_is_not_strict() {
    run(async {
        let database = <In<MariaDb>>::start_alone();
        database.ask("create table t(v int not null)");
        database.ask("set global sql_mode = ''");
        let (mut sink, _) = database.open(0).await.unwrap();
        // By itself NULL is refused; with others in one statement it would become 0.
        let insert = |id| [database.raw(id, "insert into t values (null)")];
        let both = [insert(1), insert(2)].concat();
        sink.begin(&Position::default()).await.unwrap();
        let failed = sink.apply(&both, &mut Vec::new()).await.unwrap_err();
        assert_eq!(failed.at, 0..1, "{failed:?}");
        sink.rollback().await.unwrap();
        let sql = "insert into t(v) values (?)";
        let both = [1, 2].map(|id| database.named(id, sql, &[Param::Null]));
        sink.begin(&Position::default()).await.unwrap();
        let failed = sink.apply(&both, &mut Vec::new()).await.unwrap_err();
        assert!(failed.at.contains(&0), "{failed:?}");
    });
}

#[test]
fn sqlite_makes_the_file_but_no_directory() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let place = Place { queue: "jobs".to_owned(), epoch: 7, lane: 0 };
        let nowhere = directory.path().join("nowhere/test.db");
        let error = Sqlite::open(&nowhere, &place).await.err().expect("there is no directory");
        assert_eq!(error.class, Class::Unreachable, "{error:?}");
        let error = Sqlite::verify(&nowhere, &[]).await.unwrap_err();
        assert!(error.sentence.contains("no directory"), "{error:?}");
        let file = directory.path().join("test.db");
        Sqlite::verify(&file, &[]).await.unwrap();
        assert!(!file.exists(), "looking makes nothing");
        Sqlite::open(&file, &place).await.map(drop).unwrap();
        assert!(file.exists());
        let no_database = directory.path().join("text.db");
        std::fs::write(&no_database, "this is a text, and a rather long one at that".repeat(50))
            .unwrap();
        let error = Sqlite::open(&no_database, &place).await.err().expect("it is a text");
        assert_eq!(error.class, Class::Unreachable, "{error:?}");
    });
}

/// Rows in one measurement, and in one transaction of it.
const MEASURED_ROWS: u64 = 200_000;
const MEASURED_BATCH: u64 = 1_000;

/// How fast batches arrive, beside literal insertions of as many rows on one connection. Prints
/// rows per second; the messages are made beforehand.
async fn measure<D: Database, F: AsyncFnMut(String)>(database: &D, mut execute: F) {
    let make =
        |one: &dyn Fn(u64) -> Message| -> Vec<Message> { (1..=MEASURED_ROWS).map(one).collect() };
    let (mut sink, _) = database.open(0).await.unwrap();
    let word = |id: u64| text(&format!("some words {id}"));
    let named = Arc::new(
        Statement::with_params(D::ENGINE, "insert into t(num, word) values (?, ?)").unwrap(),
    );
    let update =
        Arc::new(Statement::with_params(D::ENGINE, "update u set word = ? where num = ?").unwrap());
    let with = |id, statement: &Arc<Statement>, params| Message {
        id,
        statement: Arc::clone(statement),
        params,
        key: None,
        notify: None,
        bytes: 0,
    };
    let kinds = [
        ("named", make(&|id| with(id, &named, vec![Param::Integer(id as i64), word(id)]))),
        (
            "updates",
            make(&|id| with(id, &update, vec![word(id), Param::Integer(id as i64 % 1_000)])),
        ),
        (
            "raw tuples",
            make(&|id| {
                let sql = format!("insert into t(num, word) values ({id}, 'some words {id}')");
                message(id, Statement::raw(D::ENGINE, &sql).unwrap(), &[])
            }),
        ),
        (
            "raw others",
            make(&|id| {
                let sql = format!("insert into t(num, word) select {id}, 'some words {id}'");
                message(id, Statement::raw(D::ENGINE, &sql).unwrap(), &[])
            }),
        ),
    ];
    database.ask("create table t(num int, word varchar(100))");
    database.ask("create table u(num int primary key, word varchar(100))");
    for num in 0..1_000 {
        execute(format!("insert into u values ({num}, '')")).await;
    }
    let rate = |start: std::time::Instant| MEASURED_ROWS as f64 / start.elapsed().as_secs_f64();
    for _ in 0..3 {
        let start = std::time::Instant::now();
        for first in (0..MEASURED_ROWS).step_by(MEASURED_BATCH as usize) {
            let tuples =
                (first..first + MEASURED_BATCH).map(|id| format!("({id}, 'some words {id}')"));
            let tuples = tuples.collect::<Vec<_>>().join(", ");
            execute(format!("insert into t(num, word) values {tuples}")).await;
        }
        println!("{} literal: {:.0} rows/s", D::ENGINE, rate(start));
        for (name, messages) in &kinds {
            let start = std::time::Instant::now();
            for batch in messages.chunks(MEASURED_BATCH as usize) {
                work(&mut sink, batch).await;
            }
            println!("{} {name}: {:.0} rows/s", D::ENGINE, rate(start));
        }
    }
}

#[test]
#[ignore = "a measurement, to be run with --release and --nocapture"]
fn rates() {
    run(async {
        let database = SqliteFile::start();
        let (_, _) = database.open(0).await.unwrap();
        let connection = rusqlite::Connection::open(database.target()).unwrap();
        connection.execute_batch("pragma synchronous = full").unwrap();
        measure(&database, async |sql| connection.execute_batch(&sql).unwrap()).await;
        let database = <In<PostgresServer>>::start_alone();
        let (client, connection) = database.target().connect(tokio_postgres::NoTls).await.unwrap();
        tokio::task::spawn_local(connection);
        measure(&database, async |sql| client.batch_execute(&sql).await.unwrap()).await;
        let database = <In<MariaDb>>::start_alone();
        let mut connection = mysql_async::Conn::new(database.target()).await.unwrap();
        measure(&database, async |sql| {
            mysql_async::prelude::Queryable::query_drop(&mut connection, sql).await.unwrap();
        })
        .await;
    });
}
