//! `eserver bench …`: load for servers of one's own, ours or others.
//!
//! The clients are in the crate `eserver-bench`; here is what is typed and what is printed.
//! [`hold`] keeps many connections to a comet server, [`bar`] shows how far it is.

mod bar;
mod hold;

use clap::Subcommand;

use crate::exit::Exit;

/// `eserver bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  eserver bench hold --front 127.0.0.1:8100 --admin 127.0.0.1:8000 --connections 10000";

/// What is to be measured.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Hold many connections to a comet server, publish, and see whether all of it reaches everybody
    #[command(after_help = hold::HELP)]
    Hold(Box<hold::HoldArgs>),
}

/// Carries out what was typed.
pub(crate) fn run(args: BenchArgs) -> anyhow::Result<Exit> {
    match args.verb {
        Verb::Hold(args) => hold::run(*args),
    }
}
