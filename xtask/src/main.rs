//! The project's own chores: what a person would otherwise type in several lines, each time.
//!
//! [`mod@test`] is what has to pass before a change goes in, [`soak`] the long form of its hardest
//! parts, [`fuzz`] the search for inputs nobody thought of, [`mod@bench`] the comparison with others.
//! [`tidy`] checks what no compiler checks. [`steps`] runs commands and keeps score for them,
//! [`install`] gets the programs they need, [`workspace`] knows where things lie.

mod bench;
mod fuzz;
mod install;
mod soak;
mod steps;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The chores of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Everything that has to pass: tidy, format, lints, tests, documentation
    Test(test::TestArgs),
    /// Checks shelves, module documentation, and that written commands exist
    Tidy,
    /// The long form of the durability and load tests, against the release build
    Soak(soak::SoakArgs),
    /// Feeds generated inputs to the codecs (needs cargo-fuzz and a nightly toolchain)
    Fuzz(fuzz::FuzzArgs),
    /// Measures eserver beside its peers
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<ExitCode> {
    match chore {
        Chore::Test(arguments) => test::run(&arguments),
        Chore::Tidy => tidy::run().map(|()| ExitCode::SUCCESS),
        Chore::Soak(arguments) => soak::run(&arguments),
        Chore::Fuzz(arguments) => fuzz::run(&arguments),
        Chore::Bench(arguments) => bench::run(arguments).map(|()| ExitCode::SUCCESS),
    }
}
