//! [`Exit`]: what the process says with its exit code. The numbers are those of `sysexits.h`.

use std::fmt;
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// It could not: the queue is empty or full, the server refused, a log is damaged; or the answer
    /// is no: the machine is not enough.
    Failed = 1,
    /// The command line was not understood.
    Usage = 64,
    /// The server cannot be reached, or the address to listen on is taken.
    Unavailable = 69,
    /// A file or a directory cannot be created or used.
    CannotCreate = 73,
    /// Reading or writing failed.
    Io = 74,
    /// The configuration is wrong.
    Config = 78,
    /// Stopped by Ctrl-C before it was done: 128 and the number of SIGINT.
    Interrupted = 130,
}

/// The codes for `--help` and the manual.
pub(crate) const HELP: &str = "\
Exit codes:
  0   done
  1   not done: the queue is empty or full, the server refused, the machine is not enough
  64  the command line was not understood
  69  the server or a database cannot be reached, or an address to listen on is taken
  73  a file or directory cannot be created or used
  74  reading or writing failed
  78  the configuration is wrong
  130 stopped by Ctrl-C";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error that knows how the process should exit.
///
/// It shows as the error within, so that it can stand anywhere in a chain of contexts.
#[derive(Debug)]
struct Coded {
    exit: Exit,
    error: anyhow::Error,
}

impl fmt::Display for Coded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(formatter)
    }
}

impl std::error::Error for Coded {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Says with which code an error should end the process.
pub(crate) trait OrExit<T> {
    /// The same result, its error marked with `exit`.
    fn or_exit(self, exit: Exit) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> anyhow::Result<T> {
        self.map_err(|error| anyhow::Error::new(Coded { exit, error: error.into() }))
    }
}

impl Exit {
    /// The code an error asks for: its own mark, [`Exit::Io`] when it is one of input or output,
    /// and otherwise [`Exit::Failed`].
    pub(crate) fn of(error: &anyhow::Error) -> Exit {
        match error.downcast_ref::<Coded>() {
            Some(coded) => coded.exit,
            None if error.is::<std::io::Error>() => Exit::Io,
            None => Exit::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_mark_survives_context_and_is_not_seen() {
        let result: anyhow::Result<()> = Err(std::io::Error::other("disk gone"))
            .context("cannot sync")
            .or_exit(Exit::Io)
            .context("closing the queue");
        let error = result.unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Io);
        assert_eq!(format!("{error:#}"), "closing the queue: cannot sync: disk gone");
        assert_eq!(Exit::of(&anyhow::anyhow!("plain")), Exit::Failed);
    }

    #[test]
    fn every_code_is_in_the_help() {
        use Exit::{CannotCreate, Config, Failed, Interrupted, Io, Ok, Unavailable, Usage};
        for exit in [Ok, Failed, Usage, Unavailable, CannotCreate, Io, Config, Interrupted] {
            assert!(HELP.contains(&format!("\n  {:<4}", exit as u8)), "{exit:?}");
        }
    }
}
