//! Databases to drain into: private servers of each engine, asked behind the drain's back.

use std::path::PathBuf;

use eserver_peers::{MariaDb, Postgres};
use tempfile::TempDir;

/// A database of its own, with no tables.
pub(crate) enum Database {
    Sqlite { file: PathBuf, _directory: TempDir },
    Postgres(Postgres),
    MariaDb(MariaDb),
}

/// The database's name on servers.
const NAME: &str = "app";

impl Database {
    pub(crate) fn sqlite() -> Self {
        let directory = TempDir::new().expect("a private directory");
        Database::Sqlite { file: directory.path().join("app.db"), _directory: directory }
    }

    pub(crate) fn postgres() -> Self {
        let server = Postgres::start().unwrap_or_else(|error| panic!("{error:#}"));
        server.create(NAME).unwrap_or_else(|error| panic!("{error:#}"));
        Database::Postgres(server)
    }

    pub(crate) fn mariadb() -> Self {
        let server = MariaDb::start().unwrap_or_else(|error| panic!("{error:#}"));
        server.create(NAME).unwrap_or_else(|error| panic!("{error:#}"));
        Database::MariaDb(server)
    }

    /// What `url` in a drain's configuration is.
    pub(crate) fn url(&self) -> String {
        match self {
            Database::Sqlite { file, .. } => format!("sqlite:{}", file.display()),
            Database::Postgres(server) => server.url(NAME),
            Database::MariaDb(server) => server.url(NAME),
        }
    }

    /// A column type for a number that counts the rows in the order in which they came.
    pub(crate) fn counter(&self) -> &'static str {
        match self {
            Database::Sqlite { .. } => "integer primary key autoincrement",
            Database::Postgres(_) => "bigserial primary key",
            Database::MariaDb(_) => "bigint auto_increment primary key",
        }
    }

    /// Whether several connections can write at once.
    pub(crate) fn lanes_max(&self) -> usize {
        if matches!(self, Database::Sqlite { .. }) { 1 } else { 3 }
    }

    /// Runs SQL and returns the rows as text.
    pub(crate) fn query(&self, sql: &str) -> Vec<Vec<String>> {
        self.try_query(sql).unwrap_or_else(|error| panic!("{sql}: {error:#}"))
    }

    pub(crate) fn try_query(&self, sql: &str) -> anyhow::Result<Vec<Vec<String>>> {
        match self {
            Database::Sqlite { file, .. } => query_sqlite(file, sql),
            Database::Postgres(server) => server.query(NAME, sql),
            Database::MariaDb(server) => server.query(NAME, sql),
        }
    }

    /// The one number that a query answers.
    pub(crate) fn number(&self, sql: &str) -> u64 {
        let rows = self.query(sql);
        let number = rows.first().and_then(|row| row.first()).and_then(|text| text.parse().ok());
        number.unwrap_or_else(|| panic!("{sql} answers {rows:?}"))
    }

    /// `kill -9`, where there is a server.
    pub(crate) fn kill(&mut self) {
        match self {
            Database::Sqlite { .. } => Ok(()),
            Database::Postgres(server) => server.kill(),
            Database::MariaDb(server) => server.kill(),
        }
        .unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// The same server again.
    pub(crate) fn restart(&mut self) {
        match self {
            Database::Sqlite { .. } => Ok(()),
            Database::Postgres(server) => server.restart(),
            Database::MariaDb(server) => server.restart(),
        }
        .unwrap_or_else(|error| panic!("{error:#}"));
    }
}

fn query_sqlite(file: &PathBuf, sql: &str) -> anyhow::Result<Vec<Vec<String>>> {
    use rusqlite::types::ValueRef;
    let connection = rusqlite::Connection::open(file)?;
    connection.busy_timeout(super::PATIENCE)?;
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let mut read = Vec::new();
    while let Some(row) = rows.next()? {
        let text = |at| -> anyhow::Result<String> {
            Ok(match row.get_ref(at)? {
                ValueRef::Null => "NULL".to_owned(),
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Text(text) | ValueRef::Blob(text) => {
                    String::from_utf8_lossy(text).into_owned()
                }
            })
        };
        read.push((0..columns).map(text).collect::<anyhow::Result<_>>()?);
    }
    Ok(read)
}
