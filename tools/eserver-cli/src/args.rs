//! [`Args`]: what can be typed after `eserver`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::bench::BenchArgs;
use crate::comet::CometArgs;
use crate::config::{ConfigFile, FILE_DEFAULT, Flag, Sources};
use crate::doctor::DoctorArgs;
use crate::exit;
use crate::queue::QueueArgs;

/// Absorbs bursts of small writes from tens of thousands of clients, durably
#[derive(Debug, Parser)]
#[command(name = "eserver", version, disable_help_subcommand = true, max_term_width = 100)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub(crate) struct Args {
    /// Without one, the help is shown.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  eserver serve                            run on ports 8888, 8100 and 8000 of this machine
  eserver queue push \"insert into t(num) values (1)\"
  eserver queue pop
  eserver comet publish news hello
  eserver check --explain > eserver.toml   a commented configuration to start from";

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    #[command(after_help = SERVE_HELP)]
    Serve(ConfigArgs),
    /// Show the configuration that `serve` would run by, or all that is wrong with it
    #[command(after_help = CHECK_HELP)]
    Check(CheckArgs),
    /// Put messages into a running server's queues, take them out, look at them
    Queue(QueueArgs),
    /// Publish to a running server's channels, listen to them, look at them
    Comet(CometArgs),
    /// Put load on a server of one's own and see what becomes of it
    Bench(BenchArgs),
    /// Say what this machine needs to hold so many connections
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell to complete for
        shell: Shell,
    },
    /// Print the manual page, or write one page for each command into a directory
    #[command(after_help = MAN_HELP)]
    Man {
        /// Write eserver.1, eserver-serve.1 and so on into this directory
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

const SERVE_HELP: &str = "\
Every key of the configuration can be given in four places; the first of these that has it wins:
  flag         --set queue.listen=127.0.0.1:9000
  environment  ESERVER__QUEUE__LISTEN=127.0.0.1:9000
  file         [queue] listen = \"127.0.0.1:9000\"
  default      `eserver check --explain` shows them all with what they mean

Sections that repeat are counted from 0: ESERVER__DRAIN__0__PASSWORD_FILE=/run/secrets/db,
ESERVER__DRAIN__0__STATEMENTS__ADD_NUM=\"insert into t(num) values (?)\".

Signals:
  SIGTERM, SIGINT  stop accepting, finish what is in flight, exit 0; a second one ends at once
  SIGHUP           read the configuration again; one that is wrong changes nothing

Examples:
  eserver serve
  eserver serve --config /etc/eserver.toml --data-dir /var/lib/eserver
  eserver serve --set queue.allow=127.0.0.1,10.0.0.0/8 --set queue.listen=0.0.0.0:8888";

const CHECK_HELP: &str = "\
Prints TOML, each value with where it came from, and exits 0; or prints every error at once, each
with its file, line and column, and exits 78. Passwords are not shown.

With --connect it also exits 78 when a database refuses a statement, 69 when it cannot be reached or
does not let us in.

Examples:
  eserver check --config /etc/eserver.toml
  eserver check --connect
  eserver check --explain > eserver.toml     a commented configuration to start from
  ESERVER__QUEUE__SYNC=never eserver check   what a variable changes";

const COMPLETIONS_HELP: &str = "\
Examples:
  eserver completions bash > /usr/share/bash-completion/completions/eserver
  eserver completions zsh > \"${fpath[1]}/_eserver\"
  eserver completions fish > ~/.config/fish/completions/eserver.fish";

const MAN_HELP: &str = "\
Examples:
  eserver man | man -l -
  eserver man --dir /usr/local/share/man/man1";

/// Where the configuration comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file [default: eserver.toml in the current directory, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory that holds the queues; the same as --set data_dir=DIR
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Set any key of the configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// `eserver check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Connect to the database of each `[[drain]]` and have it look at the statements
    #[arg(long)]
    pub(crate) connect: bool,
    /// Say above each key what it means
    #[arg(long)]
    pub(crate) explain: bool,
}

impl ConfigArgs {
    /// Where to look, with the environment of this process.
    pub(crate) fn sources(self) -> Sources {
        let own = |directory| Flag::Own("--data-dir", "data_dir", directory);
        Sources {
            file: match self.config {
                Some(path) => ConfigFile::Named(path),
                None => ConfigFile::IfPresent(PathBuf::from(FILE_DEFAULT)),
            },
            environment: std::env::vars_os().collect(),
            flags: self.set.into_iter().map(Flag::Set).chain(self.data_dir.map(own)).collect(),
        }
    }
}
