//! `cargo xtask bench`: eserver and its peers under the same load, in turn, on this machine.
//!
//! [`queue`]: servers ([`servers`], one private instance at a time, each a [`program`]) meet
//! [`cases`] under the clients of `eserver-bench`; each meeting is a sample in [`results`], the
//! samples are held against [`targets`], and [`report`] writes down what came out, met or not.
//! [`mod@drain`] does the same with databases, [`http`] with servers that answer HTTP;
//! [`comet`] with servers that push; [`million`] holds a crowd.

mod cases;
mod comet;
mod cores;
mod drain;
mod http;
mod machine;
mod million;
mod program;
mod queue;
mod report;
mod results;
mod scope;
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
    /// Drains into databases against the databases alone, PHP, and consumers of Redis
    Drain(drain::DrainArgs),
    /// Small answers by HTTP against nginx, hyper, the kernel alone, and the servers of every day
    Http(http::HttpArgs),
    /// Waiting polls, fan-out, publishing and latency against icomet and nchan
    Comet(comet::CometArgs),
    /// A crowd of subscribers in one server: memory, CPU while idle, and whether anything is lost
    Million(million::MillionArgs),
}

/// Runs the benchmark and prints its tables. A missed target is a result, not a failure.
///
/// # Errors
/// When a server does not start, answers wrongly or loses an answer.
pub(crate) fn run(args: BenchArgs) -> anyhow::Result<()> {
    match args.subject {
        Subject::Queue(args) => queue::run(&args),
        Subject::Drain(args) => drain::run(&args),
        Subject::Http(args) => http::run(&args),
        Subject::Comet(args) => comet::run(&args),
        Subject::Million(args) => million::run(&args),
    }
}
