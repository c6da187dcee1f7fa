//! `cargo xtask bench`: eserver and its peers under the same load, in turn, on this machine.
//!
//! Servers ([`servers`], one private instance at a time) meet [`cases`] under the clients of
//! `eserver-bench`; each meeting is a sample in [`results`], the samples are held against
//! [`targets`], and [`report`] writes down what came out, met or not.

mod cases;
mod machine;
mod queue;
mod report;
mod results;
mod servers;
mod targets;

use clap::{Args, Subcommand};

/// What `cargo xtask bench` takes.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// The queue against Redis, beanstalkd and the Python original.
    Queue(queue::QueueArgs),
}

/// Runs the benchmark and prints its tables. A missed target is a result, not a failure.
///
/// # Errors
/// When a server does not start, answers wrongly or loses an answer.
pub(crate) fn run(args: BenchArgs) -> anyhow::Result<()> {
    match args.subject {
        Subject::Queue(args) => queue::run(&args),
    }
}
