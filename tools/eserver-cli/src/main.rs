//! The binary `eserver`: what is typed becomes a command, a command ends with an exit code.
//!
//! [`args`] is the command line. `serve` and `check` gather their configuration through [`config`];
//! [`serve`] runs the server by it, [`check`] prints it. [`queue`] and [`comet`] are clients of a
//! running server, [`mod@bench`] puts load on one, [`doctor`] says what the machine can hold.
//! [`generate`] prints what shells and `man` want to know. [`log`] says where events go, and
//! [`exit`] what the process says last.

mod args;
mod bench;
mod check;
mod comet;
mod config;
mod doctor;
mod exit;
mod generate;
mod log;
mod queue;
mod serve;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Args, Command};
use exit::Exit;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            // Nobody is left to hear that a help text could not be printed.
            let _ = error.print();
            return exit.into();
        }
    };
    match run(args) {
        Ok(exit) => exit.into(),
        Err(error) if is_closed_pipe(&error) => Exit::Ok.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            Exit::of(&error).into()
        }
    }
}

fn run(args: Args) -> anyhow::Result<Exit> {
    let Some(command) = args.command else {
        Args::command().print_help()?;
        return Ok(Exit::Ok);
    };
    match command {
        Command::Serve(args) => {
            let sources = args.sources();
            match sources.load() {
                Ok(loaded) => {
                    loaded.notes.print();
                    serve::run(&sources, loaded)?;
                    Ok(Exit::Ok)
                }
                Err(problems) => {
                    problems.print();
                    Ok(Exit::Config)
                }
            }
        }
        Command::Check(args) => check::run(args),
        Command::Queue(args) => queue::run(args),
        Command::Comet(args) => comet::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { dir } => generate::manual(dir.as_deref()),
    }
}

/// Whoever read our output has seen enough: `eserver check | head -1`.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
