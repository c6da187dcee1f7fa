//! `cargo xtask soak`: the tests whose answer is a matter of luck, often enough to leave none.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::install;
use crate::steps::Steps;
use crate::workspace::{cargo, release_binary};

#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// What to soak; everything unless given
    subject: Option<Subject>,
    /// How many rounds, seeds or seconds instead of the usual number
    #[arg(long)]
    rounds: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// 20 power cuts of a loop-mounted file system under load
    Power,
    /// 200 times `kill -9` under load
    Kill,
    /// 1,000,000 seeds of the simulated disk
    Seeds,
    /// The old PHP client behind nginx, 20,000 requests, 1,000 and 10,000 at once
    Php,
    /// 200,000 statements of 64 clients into each database, 10 times `kill -9` for the server and 5
    /// for the database
    Drain,
    /// A million subscribers for ten minutes, by polls, by event streams and by WebSocket, with 20,000
    /// descriptors; takes 10 GB of memory and most of an hour
    Million,
    /// An hour of everything at once, with one in ten of the subscribers replaced in ten seconds:
    /// memory and descriptors are not to grow
    Mixed,
}

impl Subject {
    /// The environment variable that says how often or how long, the usual number, and of what.
    fn rounds(self) -> Option<(&'static str, u64, &'static str)> {
        match self {
            Self::Power => Some(("ESERVER_POWER_ROUNDS", 20, "rounds")),
            Self::Kill => Some(("ESERVER_KILL_ROUNDS", 200, "rounds")),
            Self::Seeds => Some(("ESERVER_SEEDS", 1_000_000, "seeds")),
            Self::Mixed => Some(("ESERVER_MIXED_SECONDS", 3600, "seconds")),
            Self::Php | Self::Drain | Self::Million => None,
        }
    }

    /// Environment variables that are always the same.
    fn variables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Drain => &[
                ("ESERVER_DRAIN_CLIENTS", "64"),
                ("ESERVER_DRAIN_ROWS", "3125"),
                ("ESERVER_DRAIN_SERVER_KILLS", "10"),
                ("ESERVER_DRAIN_DATABASE_KILLS", "5"),
            ],
            Self::Million => &[
                ("ESERVER_HOLD_CONNECTIONS", "1000000"),
                ("ESERVER_HOLD_SECONDS", "600"),
                ("ESERVER_HOLD_DESCRIPTORS", "20000"),
            ],
            _ => &[],
        }
    }

    /// The tests that soak it.
    fn tests(self) -> &'static str {
        match self {
            Self::Power => "test --package eserver-cli --test durability -- power_cut",
            Self::Kill => "test --package eserver-cli --test durability -- messages_survive_kill",
            Self::Seeds => "test --release --package eserver-queue",
            Self::Php => {
                "test --package eserver-cli --test php -- --include-ignored --test-threads=1"
            }
            Self::Million => {
                "test --package eserver-cli --test million -- --test-threads=1 --nocapture"
            }
            Self::Mixed => "test --package eserver-cli --test mixed -- --nocapture",
            Self::Drain => {
                "test --package eserver-cli --test drain -- every_statement_once --test-threads=1"
            }
        }
    }

    /// Packages of the programs that it needs.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Power => &["e2fsprogs", "mount", "perl"],
            Self::Kill | Self::Seeds | Self::Million | Self::Mixed => &[],
            Self::Php => {
                &["php-cli", "php-fpm", "nginx", "apache2-utils", "iproute2", "mariadb-server"]
            }
            Self::Drain => &["postgresql", "mariadb-server"],
        }
    }
}

/// Builds the release binary and soaks it.
///
/// # Errors
/// When it cannot be built or a needed program cannot be had.
pub(crate) fn run(arguments: &SoakArgs) -> Result<ExitCode> {
    let subjects = match &arguments.subject {
        Some(subject) => std::slice::from_ref(subject),
        None => Subject::value_variants(),
    };
    let status = cargo(["build", "--release", "--package", "eserver-cli"]).status()?;
    if !status.success() {
        bail!("the release build ended with {status}");
    }
    let mut steps = Steps::default();
    for subject in subjects {
        install::ensure(subject.packages())?;
        let mut command = cargo(subject.tests().split(' '));
        command.env("ESERVER_TEST_BINARY", release_binary());
        command.envs(subject.variables().iter().copied());
        let mut name = format!("{subject:?}").to_lowercase();
        if let Some((variable, usual, unit)) = subject.rounds() {
            let rounds = arguments.rounds.unwrap_or(usual);
            command.env(variable, rounds.to_string());
            name = format!("{name}, {rounds} {unit}");
        }
        steps.run(&name, &mut command)?;
    }
    Ok(steps.finish())
}
