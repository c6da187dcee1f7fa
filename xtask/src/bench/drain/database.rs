//! The databases that rows go into: [`Database`], private and empty.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use eserver_peers::{MariaDb, Postgres, USER};
use mysql_async::prelude::Queryable;
use rusqlite::Connection;
use tempfile::TempDir;

use super::cpu;

/// The database's name on servers.
const NAME: &str = "app";

/// Longest wait for SQLite's one writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest time for a server to write down what is left from before.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time between two looks whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Rows of each statement that shows what an engine can do by itself.
const STATEMENT_ROWS: u64 = 1_000;

/// The kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Engine {
    Sqlite,
    Postgres,
    Mariadb,
}

impl Engine {
    pub(super) fn name(self) -> &'static str {
        match self {
            Engine::Sqlite => "SQLite",
            Engine::Postgres => "PostgreSQL",
            Engine::Mariadb => "MariaDB",
        }
    }

    /// Whether it is a process of its own, which costs CPU of its own and may be away.
    pub(super) fn is_server(self) -> bool {
        self != Engine::Sqlite
    }
}

/// A database of its own with the table `t(id, num, name)`; gone when dropped.
pub(super) struct Database {
    engine: Engine,
    host: Host,
    runtime: tokio::runtime::Runtime,
}

enum Host {
    Sqlite {
        file: PathBuf,
        /// Files before this one.
        files_before: u32,
        /// One connection stays open all the time, as in an application at work: the last one to
        /// close would move the write-ahead log into the file each time.
        _connection: Connection,
        // Swept away when nobody has the file open any more.
        directory: TempDir,
    },
    Postgres(Postgres),
    MariaDb(MariaDb),
}

impl Database {
    /// Starts a server where the engine is one. Files lie below `scratch`, or where the system
    /// keeps temporary ones.
    pub(super) fn start(engine: Engine, scratch: &Path) -> anyhow::Result<Self> {
        let host = match engine {
            Engine::Sqlite => {
                let directory = tempfile::Builder::new().prefix("sqlite-").tempdir_in(scratch)?;
                let file = directory.path().join("app.db");
                Host::Sqlite { _connection: open_sqlite(&file)?, file, files_before: 0, directory }
            }
            Engine::Postgres => {
                let server = Postgres::start()?;
                server.create(NAME)?;
                Host::Postgres(server)
            }
            Engine::Mariadb => {
                let server = MariaDb::start()?;
                server.create(NAME)?;
                Host::MariaDb(server)
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { engine, host, runtime })
    }

    /// Makes the table anew, empty, with nothing left to do from what was there before.
    pub(super) fn reset(&mut self) -> anyhow::Result<()> {
        let id = match &mut self.host {
            Host::Sqlite { file, files_before, _connection, directory } => {
                // Into a new file: pages that a dropped table leaves behind cost time.
                *files_before += 1;
                let old = std::mem::replace(
                    file,
                    directory.path().join(format!("app-{files_before}.db")),
                );
                *_connection = open_sqlite(file)?;
                fs::remove_file(old)?;
                "integer primary key"
            }
            Host::Postgres(_) => "bigserial primary key",
            Host::MariaDb(_) => "bigint auto_increment primary key",
        };
        self.query("drop table if exists t")?;
        self.query(&format!("create table t(id {id}, num int, name text)"))?;
        self.settle()
    }

    /// Has a server write down what it put off, so that the next measurement does not pay for the
    /// one before.
    fn settle(&self) -> anyhow::Result<()> {
        match self.engine {
            Engine::Sqlite => {}
            Engine::Postgres => drop(self.query("checkpoint")?),
            Engine::Mariadb => {
                self.query("set global innodb_max_dirty_pages_pct = 0")?;
                let deadline = Instant::now() + SETTLE_TIMEOUT;
                while self.query(
                    "select variable_value from information_schema.global_status \
                     where variable_name = 'innodb_buffer_pool_pages_dirty'",
                )? != "0"
                {
                    ensure!(Instant::now() < deadline, "MariaDB does not come to rest");
                    thread::sleep(LOOK_AGAIN);
                }
                self.query("set global innodb_max_dirty_pages_pct = default")?;
            }
        }
        Ok(())
    }

    /// What `url` of a drain is.
    pub(super) fn url(&self) -> String {
        match &self.host {
            Host::Sqlite { file, .. } => format!("sqlite:{}", file.display()),
            Host::Postgres(server) => server.url(NAME),
            Host::MariaDb(server) => server.url(NAME),
        }
    }

    /// What PDO wants to know: data source, user, password.
    pub(super) fn data_source(&self) -> [String; 3] {
        let (source, user) = match &self.host {
            Host::Sqlite { file, .. } => (format!("sqlite:{}", file.display()), ""),
            Host::Postgres(server) => {
                (format!("pgsql:host=127.0.0.1;port={};dbname={NAME}", server.port()), USER)
            }
            Host::MariaDb(server) => {
                (format!("mysql:host=127.0.0.1;port={};dbname={NAME}", server.port()), USER)
            }
        };
        [source, user.to_owned(), user.to_owned()]
    }

    /// Inserts `rows` rows as fast as the engine can by itself: 1,000 in the text of each statement,
    /// each statement a transaction, one connection. The texts are made before the time begins.
    pub(super) fn insert_by_itself(&self, rows: u64) -> anyhow::Result<Duration> {
        let statements: Vec<String> = (1..=rows)
            .step_by(STATEMENT_ROWS as usize)
            .map(|first| literal_insert(first..(first + STATEMENT_ROWS).min(rows + 1)))
            .collect();
        match &self.host {
            Host::Sqlite { file, .. } => {
                let connection = open_sqlite(file)?;
                let start = Instant::now();
                for statement in &statements {
                    connection.execute_batch(statement)?;
                }
                Ok(start.elapsed())
            }
            Host::Postgres(server) => self.runtime.block_on(async {
                let (client, connection) =
                    tokio_postgres::connect(&server.url(NAME), tokio_postgres::NoTls).await?;
                let connection = tokio::spawn(connection);
                let start = Instant::now();
                for statement in &statements {
                    client.batch_execute(statement).await?;
                }
                let elapsed = start.elapsed();
                drop(client);
                connection.await??;
                Ok(elapsed)
            }),
            Host::MariaDb(server) => self.runtime.block_on(async {
                let mut connection = mysql_async::Conn::from_url(server.url(NAME)).await?;
                let start = Instant::now();
                for statement in &statements {
                    connection.query_drop(statement).await?;
                }
                let elapsed = start.elapsed();
                connection.disconnect().await?;
                Ok(elapsed)
            }),
        }
    }

    /// Fails unless the table has exactly so many rows.
    pub(super) fn check_rows(&self, rows: u64) -> anyhow::Result<()> {
        let count = self.query("select count(*) from t")?;
        ensure!(count == rows.to_string(), "the table has {count} rows, not {rows}");
        Ok(())
    }

    /// Fails unless the numbers in the table are 1 to `rows`, each once.
    pub(super) fn check_numbers(&self, rows: u64) -> anyhow::Result<()> {
        self.check_rows(rows)?;
        for (what, expected) in [("count(distinct num)", rows), ("min(num)", 1), ("max(num)", rows)]
        {
            let found = self.query(&format!("select {what} from t"))?;
            ensure!(found == expected.to_string(), "{what} is {found}, not {expected}");
        }
        Ok(())
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        match &mut self.host {
            Host::Sqlite { .. } => Ok(()),
            Host::Postgres(server) => server.kill(),
            Host::MariaDb(server) => server.kill(),
        }
    }

    /// The same server again; returns when it accepts connections.
    pub(super) fn restart(&mut self) -> anyhow::Result<()> {
        match &mut self.host {
            Host::Sqlite { .. } => Ok(()),
            Host::Postgres(server) => server.restart(),
            Host::MariaDb(server) => server.restart(),
        }
    }

    /// The CPU time that the server has used so far, in all its processes; `None` where the work is
    /// done inside of whoever writes.
    pub(super) fn cpu_time(&self) -> anyhow::Result<Option<Duration>> {
        let id_file = match self.engine {
            Engine::Sqlite => return Ok(None),
            Engine::Postgres => format!("{}/postmaster.pid", self.query("show data_directory")?),
            Engine::Mariadb => self.query("select @@pid_file")?,
        };
        let text = fs::read_to_string(&id_file).with_context(|| id_file.clone())?;
        let id = text.lines().next().and_then(|line| line.trim().parse().ok());
        cpu::of_family(id.with_context(|| format!("{id_file}: {text}"))?)
            .map(Some)
            .context("the CPU time of the database")
    }

    pub(super) fn version(&self) -> anyhow::Result<String> {
        let version = match self.engine {
            Engine::Sqlite => rusqlite::version().to_owned(),
            Engine::Postgres => self.query("show server_version")?,
            Engine::Mariadb => self.query("select version()")?,
        };
        Ok(format!("{} {version}", self.engine.name()))
    }

    /// The first value of the first row, as text; nothing when there is no row.
    fn query(&self, sql: &str) -> anyhow::Result<String> {
        let rows = match &self.host {
            Host::Sqlite { file, .. } => {
                let connection = open_sqlite(file)?;
                let mut statement = connection.prepare(sql)?;
                let mut rows = statement.query([])?;
                return Ok(match rows.next()? {
                    Some(row) => row.get::<_, i64>(0)?.to_string(),
                    None => String::new(),
                });
            }
            Host::Postgres(server) => server.query(NAME, sql)?,
            Host::MariaDb(server) => server.query(NAME, sql)?,
        };
        Ok(rows.into_iter().flatten().next().unwrap_or_default())
    }
}

/// As careful as the drain is, and as patient.
fn open_sqlite(file: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch("pragma journal_mode = wal; pragma synchronous = full")?;
    Ok(connection)
}

/// One statement that inserts all of `numbers`, as text.
fn literal_insert(numbers: std::ops::Range<u64>) -> String {
    let mut statement = "insert into t(num, name) values ".to_owned();
    for number in numbers {
        write!(statement, "({number}, 'name {number}'),").expect("a string takes it");
    }
    statement.pop();
    statement
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_inserted_and_one_too_few_or_too_many_is_noticed() {
        let scratch = tempfile::tempdir().unwrap();
        let mut database = Database::start(Engine::Sqlite, scratch.path()).unwrap();
        for rows in [1, 999, 1_000, 1_001, 2_500] {
            database.reset().unwrap();
            database.insert_by_itself(rows).unwrap();
            database.check_numbers(rows).unwrap();
            database.check_numbers(rows - 1).unwrap_err();
            database.check_rows(rows + 1).unwrap_err();
        }
        // As many rows as expected, but one twice and one not at all.
        database.query("update t set num = 2 where num = 3").unwrap();
        database.check_rows(2_500).unwrap();
        database.check_numbers(2_500).unwrap_err();
    }
}
