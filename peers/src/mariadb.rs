//! [`MariaDb`]: a MariaDB server.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::USER;
use crate::program::{Home, Program, find, free_port, run};

/// What Debian calls it.
const PACKAGE: &str = "mariadb-server";

/// A MariaDB server of our own.
pub struct MariaDb {
    // Dropped before its directory.
    program: Option<Program>,
    port: u16,
    home: Home,
    options: Vec<String>,
}

impl MariaDb {
    /// Makes a data directory and starts a server in it.
    ///
    /// # Errors
    /// When MariaDB is not installed, with the command that does it, or does not start.
    pub fn start() -> Result<Self> {
        MariaDb::start_with(&[])
    }

    /// [`MariaDb::start`] with further options for the server, such as `--log-bin`.
    ///
    /// # Errors
    /// As with [`MariaDb::start`].
    pub fn start_with(options: &[&str]) -> Result<Self> {
        let home = Home::new("mariadb")?;
        let mut install = home.command(&program("mariadb-install-db")?)?;
        install.args(["--no-defaults", "--skip-test-db", "--skip-name-resolve"]);
        install.arg(format!("--datadir={}/data", home.path().display()));
        install.arg("--auth-root-authentication-method=normal");
        run(install.arg("--debug-no-sync"))?; // there is nothing to lose yet
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut server = MariaDb { program: None, port: free_port()?, home, options };
        server.restart()?;
        let user = format!("{USER}@'%' identified by '{USER}' with grant option");
        server.query("mysql", &format!("grant all on *.* to {user}"))?;
        Ok(server)
    }

    /// Starts the server again after [`MariaDb::kill`], with the same port and the same data, and
    /// waits until it accepts connections.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.program = None;
        let home = self.home.path().display();
        let mut arguments = vec![
            "--no-defaults".to_owned(),
            format!("--datadir={home}/data"),
            format!("--socket={home}/socket"),
            format!("--pid-file={home}/pid"),
            format!("--tmpdir={home}"),
            format!("--port={}", self.port),
            "--bind-address=127.0.0.1".to_owned(),
            "--skip-name-resolve".to_owned(),
            "--character-set-server=utf8mb4".to_owned(),
            "--innodb-flush-log-at-trx-commit=1".to_owned(),
        ];
        arguments.extend_from_slice(&self.options);
        let accepts = || self.query("mysql", "select 1").is_ok();
        let program = Program::start(&self.home, &program("mariadbd")?, &arguments, accepts)?;
        self.program = Some(program);
        Ok(())
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub fn kill(&mut self) -> Result<()> {
        self.program.as_mut().map_or(Ok(()), Program::kill)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How to connect to a database of it; `mysql` is always there.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("mysql://{USER}:{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database, and tells how to connect to it.
    ///
    /// # Errors
    /// When there is one of that name.
    pub fn create(&self, database: &str) -> Result<String> {
        self.query("mysql", &format!("create database {database}"))?;
        Ok(self.url(database))
    }

    /// Runs SQL with the server's own client, past any password, and returns the rows as text;
    /// `NULL` is what it says.
    ///
    /// # Errors
    /// What the database said.
    pub fn query(&self, database: &str, sql: &str) -> Result<Vec<Vec<String>>> {
        let mut client = self.home.command(&program("mariadb")?)?;
        client.args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"]);
        client.args(["--default-character-set=utf8mb4", "--socket=socket", "--database", database]);
        let printed = run(client.args(["--execute", sql]))?;
        Ok(printed.lines().map(|row| row.split('\t').map(unescape).collect()).collect())
    }
}

/// Undoes what the client does to blanks and backslashes in a value.
fn unescape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '\\' => match letters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('0') => '\0',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    text
}

fn program(name: &str) -> Result<PathBuf> {
    find(name, &[], PACKAGE).context("MariaDB is needed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_survives_a_kill() {
        let mut server = MariaDb::start().unwrap();
        server.create("shop").unwrap();
        server.query("shop", "create table t(a int, b text)").unwrap();
        server.query("shop", "insert into t values (1, 'a\\n\\tb\\\\'), (2, null)").unwrap();
        server.kill().unwrap();
        server.query("shop", "select 1").expect_err("it was killed");
        server.restart().unwrap();
        let rows = server.query("shop", "select * from t order by a").unwrap();
        assert_eq!(rows, [["1", "a\n\tb\\"], ["2", "NULL"]]);
        let flush = server.query("shop", "select @@innodb_flush_log_at_trx_commit").unwrap();
        assert_eq!(flush, [["1"]]);
    }
}
