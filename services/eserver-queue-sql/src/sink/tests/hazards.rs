//! What servers, other people, and the messages themselves do to a drain's session, transaction and
//! table.

use super::*;

/// Applies to a transaction that is given up afterwards.
async fn refused(sink: &mut impl Sink, messages: &[Message]) -> ApplyError {
    sink.begin(&Position::default()).await.unwrap();
    let failed = sink.apply(messages, &mut Vec::new()).await.unwrap_err();
    sink.rollback().await.unwrap();
    failed
}

/// Begins and applies, which succeeds, and is refused the commit.
async fn refused_commit(sink: &mut impl Sink, messages: &[Message]) -> SinkError {
    sink.begin(&position_of(messages)).await.unwrap();
    sink.apply(messages, &mut Vec::new()).await.unwrap();
    let error = sink.commit().await.unwrap_err();
    sink.rollback().await.unwrap();
    error
}

async fn verify<D: Database>(url: &str) -> Result<String, crate::drain::ConnectError> {
    match Target::parse(url, None).unwrap().connection() {
        Connection::Sqlite(target) => Sqlite::verify(target, &[]).await,
        Connection::Postgres(target) => Postgres::verify(target, &[]).await,
        Connection::MySql(target) => MySql::verify(target, &[]).await,
    }
}

/// A row that holds what no drain has written is an error that names it.
async fn an_odd_row_is_named<D: Database>(spoil: &[&str]) {
    let database = D::start();
    database.open(3).await.map(drop).unwrap();
    let spoil = spoil.iter().chain(&[
        "update eserver_drain set applied_seq = -5",
        "update eserver_drain set unsettled = '5-'",
    ]);
    for sql in spoil {
        database.ask(sql);
        let error = database.open(3).await.err().expect(sql);
        assert_eq!(error.class, Class::Unreachable, "{sql}: {error:?}");
        for words in ["eserver_drain", "queue jobs, epoch 7, lane 3"] {
            assert!(error.text.contains(words), "{sql}: {error:?}");
        }
        database.ask("update eserver_drain set applied_seq = 0, unsettled = ''");
    }
    database.open(3).await.map(drop).unwrap();
}

#[test]
fn an_odd_row_is_named_on_sqlite() {
    run(an_odd_row_is_named::<SqliteFile>(&[
        "update eserver_drain set applied_seq = 'many'",
        "update eserver_drain set unsettled = x'00'",
    ]));
}

#[test]
fn an_odd_row_is_named_on_postgres() {
    run(an_odd_row_is_named::<In<PostgresServer>>(&[
        "alter table eserver_drain alter applied_seq drop not null, alter unsettled drop not null; \
         update eserver_drain set applied_seq = null",
        "update eserver_drain set unsettled = null",
    ]));
}

#[test]
fn an_odd_row_is_named_on_mariadb() {
    run(an_odd_row_is_named::<In<MariaDb>>(&[
        "alter table eserver_drain modify applied_seq bigint, modify unsettled longtext; \
         update eserver_drain set applied_seq = null",
        "update eserver_drain set unsettled = null",
    ]));
}

/// Looking whether a drain could work finds what it would find, and changes nothing.
async fn whether_rows_can_be_written_is_tried<D: Database>(may_read: &[&str], refusal: &str) {
    let database = D::start_alone();
    verify::<D>(&database.url()).await.unwrap();
    database.open(0).await.map(drop).unwrap();
    verify::<D>(&database.url()).await.unwrap();
    assert_eq!(database.number("select count(*) from eserver_drain"), 1);
    for sql in may_read {
        database.ask(sql);
    }
    let poor = database.url().replace("eserver:eserver@", "poor:poor@");
    let error = verify::<D>(&poor).await.unwrap_err();
    assert!(error.sentence.contains(refusal), "{error:?}");
}

#[test]
fn whether_rows_can_be_written_is_tried_on_postgres() {
    let may_read =
        ["create role poor login password 'poor'", "grant select on eserver_drain to poor"];
    run(whether_rows_can_be_written_is_tried::<In<PostgresServer>>(&may_read, "42501"));
}

#[test]
fn whether_rows_can_be_written_is_tried_on_mariadb() {
    let may_read = [
        "create user poor@'%' identified by 'poor'",
        "grant select on test.eserver_drain to poor@'%'",
    ];
    run(whether_rows_can_be_written_is_tried::<In<MariaDb>>(&may_read, "1142"));
}

#[test]
fn whether_rows_can_be_written_is_tried_on_sqlite() {
    run(async {
        let database = SqliteFile::start();
        database.open(0).await.map(drop).unwrap();
        verify::<SqliteFile>(&database.url()).await.unwrap();
        assert_eq!(database.number("select count(*) from eserver_drain"), 1);
        database.ask("alter table eserver_drain rename unsettled to other");
        let error = verify::<SqliteFile>(&database.url()).await.unwrap_err();
        assert!(error.sentence.contains("unsettled"), "{error:?}");
    });
}

/// A trigger sees rows as if each had been inserted by itself.
async fn triggers_see_one_row_after_another<D: Database>(triggers: &[&str], joined: u64) {
    let database = D::start();
    let (mut sink, _) = database.open(0).await.unwrap();
    database.ask("create table t(id int)");
    database.ask("create table seen(rows_then int)");
    for sql in triggers {
        database.ask(sql);
    }
    let named = |id: u64| {
        let sql = "insert into t(id) values (?)";
        database.named(id, sql, &[Param::Integer(id as i64)])
    };
    let mut messages: Vec<_> = (1..=10).map(named).collect();
    messages.extend((11..=20).map(|id| database.raw(id, &format!("insert into t values ({id})"))));
    work(&mut sink, &messages).await;
    let seen = database.ask("select rows_then from seen order by rows_then");
    let expected: Vec<_> = (0..20).map(|rows| vec![rows.to_string()]).collect();
    assert_eq!(seen, expected);
    if D::ENGINE == Engine::Postgres {
        // What one statement inserts has one number for the command.
        assert_eq!(database.number("select count(distinct cmin::text) from t"), joined);
    }
}

const NOTE_ROWS: &str = "create function note() returns trigger language plpgsql as $$ begin \
     insert into seen select count(*) - case tg_when when 'AFTER' then 1 else 0 end from t; \
     return new; end $$";

#[test]
fn triggers_see_one_row_after_another_on_postgres() {
    for (trigger, joined) in [
        ("after insert on t for each row", 20),
        ("after insert on t for each statement", 20),
        ("before insert on t for each statement", 20),
        ("before insert on t for each row", 2),
    ] {
        let trigger = format!("create trigger note {trigger} execute function note()");
        run(triggers_see_one_row_after_another::<In<PostgresServer>>(
            &[NOTE_ROWS, &trigger],
            joined,
        ));
    }
}

#[test]
fn triggers_see_one_row_after_another_on_mariadb() {
    for trigger in [
        "create trigger note after insert on t for each row \
         insert into seen select count(*) - 1 from t",
        "create trigger note before insert on t for each row \
         insert into seen select count(*) from t",
    ] {
        run(triggers_see_one_row_after_another::<In<MariaDb>>(&[trigger], 2));
    }
}

#[test]
fn postgres_finds_triggers_of_parts_and_those_made_later() {
    run(async {
        let database = <In<PostgresServer>>::start();
        let (mut sink, _) = database.open(0).await.unwrap();
        database.ask("create table whole(id int) partition by range (id)");
        database.ask("create table t partition of whole for values from (0) to (1000)");
        database.ask("create table seen(rows_then int)");
        database.ask(NOTE_ROWS);
        let insert = |id: u64| {
            let sql = "insert into whole(id) values (?)";
            database.named(id, sql, &[Param::Integer(id as i64)])
        };
        let batch = |first| (first..first + 5).map(insert).collect::<Vec<_>>();
        work(&mut sink, &batch(0)).await;
        assert_eq!(database.number("select count(distinct cmin::text) from t"), 1);
        database.ask("create trigger note after insert on t for each row execute function note()");
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(300)).await;
        tokio::time::resume();
        work(&mut sink, &batch(5)).await;
        let seen = database.ask("select rows_then from seen order by rows_then");
        assert_eq!(seen, [["5"], ["6"], ["7"], ["8"], ["9"]]);
    });
}

#[test]
fn mariadb_tells_the_last_id_as_if_each_row_was_inserted_by_itself() {
    run(async {
        let database = <In<MariaDb>>::start();
        let (mut sink, _) = database.open(0).await.unwrap();
        database.ask("create table parent(id int auto_increment primary key, word text)");
        database.ask("create table child(parent int)");
        let parent =
            |id| database.named(id, "insert into parent(word) values (?)", &[text("word")]);
        let raw = |id| database.raw(id, "insert into parent(word) values ('word')");
        let child = |id| database.raw(id, "insert into child values (last_insert_id())");
        work(&mut sink, &[parent(1), parent(2), parent(3), child(4)]).await;
        work(&mut sink, &[raw(5), raw(6), child(7)]).await;
        assert_eq!(database.ask("select parent from child order by parent"), [["3"], ["5"]]);
    });
}

#[test]
fn sqlite_may_refuse_a_commit() {
    run(async {
        let database = SqliteFile::start();
        let (mut sink, _) = database.open(0).await.unwrap();
        database.ask("create table parent(id integer primary key)");
        database
            .ask("create table child(parent references parent(id) deferrable initially deferred)");
        let orphan = database.raw(1, "insert into child values (5)");
        let error = refused_commit(&mut sink, &[orphan]).await;
        assert_eq!(error.class, Class::Statement, "{error:?}");
        work(&mut sink, &[database.raw(2, "insert into parent values (5)")]).await;
        assert_eq!(database.number("select count(*) from child"), 0);
        assert_eq!(database.ask("select unsettled from eserver_drain"), [["2"]]);
    });
}

#[test]
fn postgres_may_refuse_a_commit() {
    run(async {
        let database = <In<PostgresServer>>::start();
        database.ask("create table t(id int)");
        database.ask(&format!(
            "alter database {} set default_transaction_isolation = serializable",
            database.name
        ));
        let (mut zero, _) = database.open(0).await.unwrap();
        let (mut one, _) = database.open(1).await.unwrap();
        // Each reads what the other writes.
        let count = |id| [database.raw(id, "insert into t select count(*) from t")];
        zero.begin(&position_of(&count(1))).await.unwrap();
        zero.apply(&count(1), &mut Vec::new()).await.unwrap();
        one.begin(&position_of(&count(2))).await.unwrap();
        one.apply(&count(2), &mut Vec::new()).await.unwrap();
        zero.commit().await.unwrap();
        let error = one.commit().await.unwrap_err();
        assert_eq!(error.class, Class::Retry, "{error:?}");
        one.rollback().await.unwrap();
        work(&mut one, &count(2)).await;
        assert_eq!(database.ask("select id from t order by id"), [["0"], ["1"]]);
    });
}

#[test]
fn sqlite_statements_may_take_the_transaction_along() {
    run(async {
        let database = SqliteFile::start();
        let (mut sink, _) = database.open(0).await.unwrap();
        database.ask("create table t(id integer unique on conflict rollback)");
        database.ask(
            "create trigger no before insert on t when new.id > 100 \
             begin select raise(rollback, 'too large'); end",
        );
        let insert = |id| database.raw(id, &format!("insert into t values ({id})"));
        for bad in [insert(1), insert(101)] {
            let messages = [insert(1), insert(2), bad];
            sink.begin(&position_of(&messages)).await.unwrap();
            sink.savepoint().await.unwrap();
            let failed = sink.apply(&messages, &mut Vec::new()).await.unwrap_err();
            assert_eq!((failed.at, failed.error.class), (2..3, Class::Statement));
            let error = sink.rollback_to_savepoint().await.unwrap_err();
            assert_eq!(error.class, Class::Retry, "{error:?}");
            sink.rollback().await.unwrap();
        }
        work(&mut sink, &[insert(1), insert(2)]).await;
        assert_eq!(database.number("select count(*) from t"), 2);
    });
}

#[test]
fn mariadb_procedures_may_take_the_transaction_along() {
    run(async {
        let database = <In<MariaDb>>::start();
        let (mut sink, _) = database.open(0).await.unwrap();
        database.ask(
            "delimiter //\n\
             create procedure no() begin rollback; signal sqlstate '45000'; end //",
        );
        sink.begin(&Position::default()).await.unwrap();
        sink.savepoint().await.unwrap();
        let call = [database.raw(1, "call no()")];
        let failed = sink.apply(&call, &mut Vec::new()).await.unwrap_err();
        assert_eq!(failed.error.class, Class::Statement, "{failed:?}");
        let error = sink.rollback_to_savepoint().await.unwrap_err();
        assert_eq!(error.class, Class::Retry, "{error:?}");
        sink.rollback().await.unwrap();
        work(&mut sink, &[database.raw(2, "select 1")]).await;
    });
}

#[test]
fn mariadb_reads_quotes_as_they_were_read_here() {
    run(async {
        let database = <In<MariaDb>>::start_alone();
        database.ask("create table t(id int auto_increment primary key, word text)");
        for mode in ["ORACLE", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES,STRICT_TRANS_TABLES", "ANSI"] {
            database.ask(&format!("set global sql_mode = '{mode}'"));
            let (mut sink, _) = database.open(0).await.unwrap();
            let messages = [
                database.raw(1, r#"insert into t(word) values ("it's")"#),
                database.raw(2, r"insert into t(word) values ('it\'s')"),
                database.raw(3, r"insert into t(word) select 'it''s \\ it'"),
                database.named(4, r"insert into t(word) values (concat('it\'s', ?))", &[text("")]),
            ];
            work(&mut sink, &messages).await;
            let seen = database.ask("select word from t order by id");
            assert_eq!(seen, [["it's"], ["it's"], [r"it's \ it"], ["it's"]], "{mode}");
            database.ask("truncate t");
        }
    });
}

#[test]
fn mariadb_takes_one_statement_from_a_text() {
    run(async {
        let database = <In<MariaDb>>::start();
        let (mut sink, _) = database.open(0).await.unwrap();
        database.ask("create table t(id int)");
        // None is let through that has two; but what if one was misread?
        for two in [
            "insert into t values (1); insert into t values (2)",
            "insert into t values (1); commit",
        ] {
            sink.query_one(two).await.unwrap_err();
        }
        sink.commit().await.unwrap();
        assert_eq!(database.number("select count(*) from t"), 0);
        let messages = [
            database.raw(1, "insert into t select 1 union select 2"),
            database.raw(2, "select * from t"),
            database.raw(3, "update t set id = 3 where id = 2"),
        ];
        assert_eq!(work(&mut sink, &messages).await, [Some(2), Some(0), Some(1)]);
    });
}

#[test]
fn postgres_refuses_what_changes_how_it_reads() {
    run(async {
        let database = <In<PostgresServer>>::start();
        let (mut sink, _) = database.open(0).await.unwrap();
        database.ask("create table t(word text)");
        let insert = |id| database.raw(id, r"insert into t values ('a\')");
        for (setting, value, local) in [
            ("standard_conforming_strings", "off", "false"),
            ("standard_conforming_strings", "off", "true"),
            ("client_encoding", "LATIN1", "false"),
        ] {
            let change = format!("select set_config('{setting}', '{value}', {local})");
            let change = [database.raw(2, &change)];
            let failed = refused(&mut sink, &change).await;
            assert_eq!((failed.at, failed.error.class), (0..1, Class::Statement));
            assert!(failed.error.text.contains(setting), "{:?}", failed.error);
            sink.begin(&position_of(&[insert(1)])).await.unwrap();
            sink.savepoint().await.unwrap();
            sink.apply(&change, &mut Vec::new()).await.unwrap_err();
            sink.rollback_to_savepoint().await.unwrap();
            sink.apply(&[insert(1), insert(2)], &mut Vec::new()).await.unwrap();
            sink.commit().await.unwrap();
        }
        assert_eq!(database.number("select count(*) from t"), 6);
        assert_eq!(database.ask("select distinct word from t"), [[r"a\"]]);
        // The server's own setting does not matter.
        let name = &database.name;
        database.ask(&format!("alter database {name} set standard_conforming_strings = off"));
        let (mut sink, _) = database.open(0).await.unwrap();
        work(&mut sink, &[insert(1)]).await;
        assert_eq!(database.ask("select distinct word from t"), [[r"a\"]]);
    });
}

#[test]
fn mariadb_may_log_statements() {
    run(async {
        let options = ["--log-bin=log", "--binlog-format=STATEMENT"];
        let database = In::alone(MariaDb::start_with(&options).unwrap());
        database.server.create(&database.name).unwrap();
        verify::<In<MariaDb>>(&database.url()).await.unwrap();
        let (mut sink, _) = database.open(0).await.unwrap();
        database.ask("create table t(id int)");
        work(&mut sink, &[database.raw(1, "insert into t values (1)")]).await;
        let (_, position) = database.open(1).await.unwrap();
        assert!(position.contains(1));
    });
}

#[test]
fn an_idle_connection_that_was_ended_is_made_anew() {
    run(async {
        let database = <In<MariaDb>>::start_alone();
        database.ask("create table t(id int)");
        let (mut sink, _) = database.open(0).await.unwrap();
        let connections = "select id from information_schema.processlist where user = 'eserver'";
        let id = database.ask(connections)[0][0].clone();
        database.ask(&format!("kill {id}"));
        work(&mut sink, &[database.raw(1, "insert into t values (1)")]).await;
        assert_eq!(database.number("select count(*) from t"), 1);
        // But not in the middle of a transaction.
        sink.begin(&Position::default()).await.unwrap();
        let id = database.ask(connections)[0][0].clone();
        database.ask(&format!("kill {id}"));
        let insert = [database.raw(2, "insert into t values (2)")];
        let failed = sink.apply(&insert, &mut Vec::new()).await.unwrap_err();
        assert_eq!(failed.error.class, Class::Unreachable, "{failed:?}");
    });
}

#[test]
fn sqlite_says_that_somebody_else_writes() {
    run(async {
        let database = SqliteFile::start();
        let (mut sink, _) = database.open(0).await.unwrap();
        let other = rusqlite::Connection::open(database.target()).unwrap();
        other.execute_batch("begin immediate").unwrap();
        // Time passes as soon as nobody has anything to do.
        tokio::time::pause();
        let error = sink.begin(&Position::default()).await.unwrap_err();
        assert_eq!(error.class, Class::Retry, "{error:?}");
        assert!(error.text.contains("another connection keeps writing"), "{error:?}");
        other.execute_batch("commit").unwrap();
        sink.begin(&Position::default()).await.unwrap();
        sink.commit().await.unwrap();
    });
}
