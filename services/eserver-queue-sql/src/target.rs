//! [`Target`]: which database, and how to get there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;
use tokio_postgres::config::{Host, SslMode};

use crate::engine::Engine;

/// A database and how to connect to it; neither `Display` nor `Debug` show the password.
#[derive(Clone)]
pub struct Target {
    connection: Connection,
}

/// What the engine's own library needs to know.
#[derive(Clone)]
pub(crate) enum Connection {
    /// The database file.
    Sqlite(PathBuf),
    Postgres(Box<tokio_postgres::Config>),
    MySql(mysql_async::Opts),
}

/// Why a text does not name a database. No sentence here repeats the text, which may hold a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TargetError {
    /// It begins with nothing known.
    #[error(
        "begin the URL with the engine: `sqlite:PATH`, `postgres://USER@HOST/DATABASE` or \
         `mysql://USER@HOST/DATABASE`"
    )]
    UnknownEngine,
    /// SQLite without a file.
    #[error("name the file, as in `sqlite:app.db`")]
    NoFile,
    /// SQLite in memory.
    #[error("a database in memory loses what was applied; name a file, as in `sqlite:app.db`")]
    InMemory,
    /// SQLite with options.
    #[error("`sqlite:` takes the path of a file and nothing else, but here is a `?`")]
    FileOptions,
    /// SQLite with a password.
    #[error("SQLite knows no password")]
    NeedlessPassword,
    /// A part without which nobody can connect.
    #[error("the URL names no {0}; write `{1}://USER@HOST/DATABASE`")]
    Missing(&'static str, &'static str),
    /// The password stands in the URL and elsewhere.
    #[error("the password is given twice, in the URL and beside it")]
    TwoPasswords,
    /// Encryption is demanded.
    #[error(
        "connections to databases are not encrypted yet: leave the option out and reach the \
         database by a private network, a tunnel or a Unix socket"
    )]
    Encryption,
    /// The engine's library does not understand it.
    #[error("this is no URL for {0}: {1}")]
    Invalid(Engine, String),
}

impl Target {
    /// Reads `sqlite:app.db`, `postgres://user:password@host:port/database?option=value` or
    /// `mysql://…` (`postgresql://` and `mariadb://` too). The password may be given beside it
    /// instead, and is then taken as it is, without percent signs for special characters.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(url: &str, password: Option<&str>) -> Result<Target, TargetError> {
        let (scheme, rest) = url.split_once(':').ok_or(TargetError::UnknownEngine)?;
        let connection = match scheme {
            "sqlite" if password.is_some() => return Err(TargetError::NeedlessPassword),
            "sqlite" => Connection::Sqlite(parse_file(rest)?),
            "postgres" | "postgresql" => Connection::Postgres(parse_postgres(url, password)?),
            "mysql" | "mariadb" => Connection::MySql(parse_mysql(rest, password)?),
            _ => return Err(TargetError::UnknownEngine),
        };
        Ok(Target { connection })
    }

    /// Which kind of database it is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match &self.connection {
            Connection::Sqlite(_) => Engine::Sqlite,
            Connection::Postgres(_) => Engine::Postgres,
            Connection::MySql(_) => Engine::MySql,
        }
    }

    /// For people, without the password: `PostgreSQL user@host:port/database`.
    #[must_use]
    pub fn describe(&self) -> String {
        let engine = self.engine();
        match &self.connection {
            Connection::Sqlite(file) => format!("{engine} {}", file.display()),
            Connection::Postgres(config) => {
                let (user, database) = (config.get_user(), config.get_dbname());
                let (user, database) = (user.unwrap_or_default(), database.unwrap_or_default());
                let hosts = config.get_hosts().iter().enumerate().map(|(at, host)| {
                    let ports = config.get_ports();
                    // One port is for all hosts.
                    let port = ports.get(at).or(ports.first()).unwrap_or(&POSTGRES_PORT);
                    match host {
                        Host::Tcp(host) => format!("{host}:{port}"),
                        Host::Unix(directory) => format!("{}:{port}", directory.display()),
                    }
                });
                format!("{engine} {user}@{}/{database}", hosts.collect::<Vec<_>>().join(","))
            }
            Connection::MySql(options) => {
                let user = options.user().unwrap_or_default();
                let place = options.socket().map_or_else(
                    || format!("{}:{}", options.ip_or_hostname(), options.tcp_port()),
                    str::to_owned,
                );
                format!("{engine} {user}@{place}/{}", options.db_name().unwrap_or_default())
            }
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.describe())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Target({})", self.describe())
    }
}

/// The port when none is given.
const POSTGRES_PORT: u16 = 5432;

fn parse_file(rest: &str) -> Result<PathBuf, TargetError> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    match path {
        "" => Err(TargetError::NoFile),
        _ if path.contains(":memory:") => Err(TargetError::InMemory),
        _ if path.contains('?') => Err(TargetError::FileOptions),
        _ => Ok(Path::new(path).to_owned()),
    }
}

fn parse_postgres(
    url: &str,
    password: Option<&str>,
) -> Result<Box<tokio_postgres::Config>, TargetError> {
    // The library knows no more than `require`; who wrote these wants at least that.
    if url.contains("sslmode=verify") {
        return Err(TargetError::Encryption);
    }
    let invalid =
        |error: tokio_postgres::Error| TargetError::Invalid(Engine::Postgres, words_of(&error));
    let mut config = tokio_postgres::Config::from_str(url).map_err(invalid)?;
    if config.get_ssl_mode() == SslMode::Require {
        return Err(TargetError::Encryption);
    }
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(TargetError::Missing("host", "postgres"));
    }
    if config.get_user().is_none() {
        return Err(TargetError::Missing("user", "postgres"));
    }
    if config.get_dbname().is_none() {
        return Err(TargetError::Missing("database", "postgres"));
    }
    if let Some(password) = password {
        if config.get_password().is_some() {
            return Err(TargetError::TwoPasswords);
        }
        config.password(password);
    }
    Ok(Box::new(config))
}

fn parse_mysql(rest: &str, password: Option<&str>) -> Result<mysql_async::Opts, TargetError> {
    if rest.contains("require_ssl=true") || rest.contains("ssl-mode=") {
        return Err(TargetError::Encryption);
    }
    let invalid =
        |error: mysql_async::UrlError| TargetError::Invalid(Engine::MySql, error.to_string());
    let options = mysql_async::Opts::from_url(&format!("mysql:{rest}")).map_err(invalid)?;
    if options.user().is_none_or(str::is_empty) {
        return Err(TargetError::Missing("user", "mysql"));
    }
    if options.db_name().is_none_or(str::is_empty) {
        return Err(TargetError::Missing("database", "mysql"));
    }
    let has_socket = options.socket().is_some();
    let in_url = options.pass().is_some();
    // Without this it would leave the port that the URL names for a socket that the server names.
    let mut options = mysql_async::OptsBuilder::from_opts(options).prefer_socket(has_socket);
    if let Some(password) = password {
        if in_url {
            return Err(TargetError::TwoPasswords);
        }
        options = options.pass(Some(password));
    }
    Ok(options.into())
}

/// An error with its causes, on one line.
pub(crate) fn words_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let target = Target::parse(url, None).unwrap();
        assert_eq!(target.describe(), expected);
        assert_eq!(target.to_string(), expected);
        assert!(!format!("{target:?}").contains("secret"), "{target:?}");
    }

    #[track_caller]
    fn check_refused(url: &str, password: Option<&str>, expected: &str) {
        let error = Target::parse(url, password).expect_err(url).to_string();
        assert!(error.contains(expected), "{url}: {error}");
        assert!(!error.contains("secret"), "{url}: {error}");
    }

    #[test]
    fn urls_name_a_database() {
        check("sqlite:app.db", "SQLite app.db");
        check("sqlite:data/app.db", "SQLite data/app.db");
        check("sqlite:///var/app.db", "SQLite /var/app.db");
        check("sqlite:/var/app.db", "SQLite /var/app.db");
        check("postgres://me:secret@db/shop", "PostgreSQL me@db:5432/shop");
        check("postgresql://me@db:5433/shop?connect_timeout=3", "PostgreSQL me@db:5433/shop");
        check("postgres://me@a:1,b:2/shop", "PostgreSQL me@a:1,b:2/shop");
        check("postgres://me@%2Frun%2Fpg/shop", "PostgreSQL me@/run/pg:5432/shop");
        check("mysql://me:secret@db/shop", "MySQL me@db:3306/shop");
        check("mariadb://me@10.0.0.1:3307/shop", "MySQL me@10.0.0.1:3307/shop");
        check("mysql://me@localhost/shop?socket=/run/db.sock", "MySQL me@/run/db.sock/shop");
    }

    #[test]
    fn a_password_may_be_given_beside_the_url() {
        let target = Target::parse("postgres://me@db/shop", Some("p%4")).unwrap();
        let Connection::Postgres(config) = target.connection() else { panic!("{target}") };
        assert_eq!(config.get_password(), Some(&b"p%4"[..]));
        let target = Target::parse("mysql://me@db/shop", Some("p%4")).unwrap();
        let Connection::MySql(options) = target.connection() else { panic!("{target}") };
        assert_eq!(options.pass(), Some("p%4"));
    }

    #[test]
    fn what_names_no_database_is_refused_with_a_reason() {
        check_refused("app.db", None, "begin the URL with the engine");
        check_refused("oracle://me:secret@db/shop", None, "`sqlite:PATH`, `postgres://");
        check_refused("sqlite:", None, "name the file");
        check_refused("sqlite::memory:", None, "in memory");
        check_refused("sqlite:app.db?mode=rwc", None, "`?`");
        check_refused("sqlite:app.db", Some("x"), "no password");
        check_refused("postgres://me:secret@db/shop", Some("x"), "given twice");
        check_refused("mysql://me:secret@db/shop", Some("x"), "given twice");
        check_refused("postgres://me:secret@db", None, "names no database");
        check_refused("postgres://db/shop", None, "names no user");
        check_refused("postgres://me:secret@/shop", None, "names no host");
        check_refused("mysql://me:secret@db", None, "names no database");
        check_refused("mysql://db/shop", None, "names no user");
        check_refused("postgres://me:secret@db/shop?sslmode=require", None, "not encrypted yet");
        check_refused("postgres://me:secret@db/shop?sslmode=verify-full", None, "not encrypted");
        check_refused("mysql://me:secret@db/shop?require_ssl=true", None, "not encrypted yet");
        check_refused("postgres://me:secret@db:port/shop", None, "no URL for PostgreSQL");
        check_refused("postgres://me:secret@db/shop?wrong=1", None, "wrong");
        check_refused("mysql://me:secret@db/shop?wrong=1", None, "wrong");
    }
}
