//! [`Postgres`]: a PostgreSQL server.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::USER;
use crate::program::{Home, Program, find, free_port, run};

/// What Debian calls it.
const PACKAGE: &str = "postgresql";

/// A PostgreSQL server of our own.
pub struct Postgres {
    // Dropped before its directory.
    program: Option<Program>,
    port: u16,
    home: Home,
}

impl Postgres {
    /// Makes a data directory and starts a server in it.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, with the command that does it, or does not start.
    pub fn start() -> Result<Self> {
        let home = Home::new("postgres")?;
        let password_file = home.path().join("password");
        std::fs::write(&password_file, USER)?;
        let mut initdb = home.command(&program("initdb")?)?;
        initdb.args(["--pgdata=data", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile=password"]);
        run(initdb.args(["--username", USER]))?;
        let mut server = Postgres { program: None, port: free_port()?, home };
        server.restart()?;
        Ok(server)
    }

    /// Starts the server again after [`Postgres::kill`], with the same port and the same data, and
    /// waits until it accepts connections.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.program = None;
        let home = self.home.path().display();
        let arguments = [
            "-D".to_owned(),
            format!("{home}/data"),
            "-p".to_owned(),
            self.port.to_string(),
            "-k".to_owned(),
            home.to_string(),
            "-clisten_addresses=127.0.0.1".to_owned(),
            // Otherwise a killed server would leave something behind in /dev/shm.
            "-cdynamic_shared_memory_type=mmap".to_owned(),
        ];
        let accepts = || self.query("postgres", "select 1").is_ok();
        let program = Program::start(&self.home, &program("postgres")?, &arguments, accepts)?;
        self.program = Some(program);
        Ok(())
    }

    /// Kills all of its processes (SIGKILL) and waits until they are gone.
    ///
    /// # Errors
    /// When they do not go.
    pub fn kill(&mut self) -> Result<()> {
        self.program.as_mut().map_or(Ok(()), Program::kill)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How to connect to a database of it; `postgres` is always there.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database, and tells how to connect to it.
    ///
    /// # Errors
    /// When there is one of that name.
    pub fn create(&self, database: &str) -> Result<String> {
        self.query("postgres", &format!("create database {database}"))?;
        Ok(self.url(database))
    }

    /// Runs SQL with the server's own client, past any password, and returns the rows as text;
    /// `NULL` is what it says.
    ///
    /// # Errors
    /// What the database said.
    pub fn query(&self, database: &str, sql: &str) -> Result<Vec<Vec<String>>> {
        let mut psql = self.home.command(&program("psql")?)?;
        psql.arg("--host").arg(self.home.path()).args(["--port", &self.port.to_string()]);
        psql.args(["--username", USER, "--dbname", database, "--no-psqlrc", "--quiet"]);
        psql.args(["--no-align", "--tuples-only", "--pset=null=NULL", "--set=ON_ERROR_STOP=1"]);
        psql.args(["--field-separator=\u{1f}", "--record-separator=\u{1e}", "--command", sql]);
        let printed = run(&mut psql)?;
        let rows = printed.trim_end_matches('\n').split('\u{1e}').filter(|row| !row.is_empty());
        Ok(rows.map(|row| row.split('\u{1f}').map(str::to_owned).collect()).collect())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.program = None;
        // Only a server that was killed leaves this file, with the id of the segment of shared
        // memory that the kernel keeps for it, as the last number of its seventh line.
        let lock = self.home.path().join("data/postmaster.pid");
        let lock = std::fs::read_to_string(lock).unwrap_or_default();
        let segment = lock.lines().nth(6).and_then(|line| line.split_ascii_whitespace().last());
        if let Some(segment) = segment {
            // Best effort: it is a few bytes.
            let _: Result<String> = run(Command::new("ipcrm").args(["--shmem-id", segment]));
        }
    }
}

/// A program of the newest PostgreSQL that is installed.
fn program(name: &str) -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut versions: Vec<_> = versions
        .filter_map(|entry| {
            let directory = entry.ok()?.path();
            let version: u32 = directory.file_name()?.to_str()?.parse().ok()?;
            Some((version, directory.join("bin")))
        })
        .collect();
    versions.sort();
    let newest: Vec<_> = versions.into_iter().rev().map(|(_, directory)| directory).collect();
    find(name, &newest, PACKAGE).context("PostgreSQL is needed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_server_leaves_nothing_behind() {
        let mut server = Postgres::start().unwrap();
        let home = server.home.path().to_owned();
        let lock = std::fs::read_to_string(home.join("data/postmaster.pid")).unwrap();
        let segment = lock.lines().nth(6).unwrap().split_ascii_whitespace().last().unwrap();
        let is_there = || {
            let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
            segments.lines().any(|line| line.split_ascii_whitespace().nth(1) == Some(segment))
        };
        server.kill().unwrap();
        assert!(is_there());
        drop(server);
        assert!(!is_there());
        assert!(!home.exists());
    }

    #[test]
    fn what_was_committed_survives_a_kill() {
        let mut server = Postgres::start().unwrap();
        server.create("shop").unwrap();
        server.query("shop", "create table t(a int, b text)").unwrap();
        server.query("shop", "insert into t values (1, 'a\nb'), (2, null)").unwrap();
        server.kill().unwrap();
        server.query("shop", "select 1").expect_err("it was killed");
        server.restart().unwrap();
        let rows = server.query("shop", "select * from t order by a").unwrap();
        assert_eq!(rows, [["1", "a\nb"], ["2", "NULL"]]);
        assert_eq!(server.query("shop", "show fsync").unwrap(), [["on"]]);
        assert_eq!(
            server.query("shop", "select 1 where false").unwrap(),
            Vec::<Vec<String>>::new()
        );
    }
}
