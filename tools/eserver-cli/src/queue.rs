//! `eserver queue …`: a client of a running server, for people and scripts.
//!
//! [`client`] holds the connection, [`answer`] says what a reply means. One file for each thing to
//! do: [`push`] puts messages in, [`statement`] those for a drain, [`take`] pops or reserves them,
//! [`settle`] says what became of reserved ones, [`buried`] sees to those put aside, [`stats`] shows
//! what is in the queues, [`watch`] what drains announce. Messages go to stdout, one to a line;
//! everything else that a person reads is a sentence on stderr and an exit code.

mod answer;
mod buried;
mod client;
mod push;
mod settle;
mod statement;
mod stats;
mod take;
mod watch;

use std::time::Duration;

use clap::Subcommand;

use crate::exit::{self, Exit};
use client::Client;
use statement::StatementArgs;

/// The name of the queue that requests without a name go to.
const DEFAULT: &str = "default";

/// Commands of the framed protocol.
mod command {
    pub(super) const PUT: u16 = 8001;
    pub(super) const POP: u16 = 8002;
    pub(super) const LENGTH: u16 = 8003;
    pub(super) const RESERVE: u16 = 8011;
    pub(super) const ACK: u16 = 8012;
    pub(super) const RELEASE: u16 = 8013;
    pub(super) const BURY: u16 = 8014;
    pub(super) const PUT_BATCH: u16 = 8015;
    pub(super) const STATS: u16 = 8016;
    pub(super) const BURIED: u16 = 8017;
    pub(super) const KICK: u16 = 8018;
    pub(super) const DROP: u16 = 8019;
    pub(super) const WATCH: u16 = 8020;
}

/// `eserver queue`.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub(crate) struct QueueArgs {
    /// The server
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "ESERVER_ADDR",
        hide_env_values = true,
        default_value = "127.0.0.1:8888"
    )]
    addr: String,
    /// Seconds to wait for the server
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    timeout: u64,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  eserver queue push \"insert into t(num) values (1)\"
  eserver queue push < statements.sql            one statement to a line
  eserver queue push --queue sql '{\"user\": 7}'   a named queue takes JSON objects
  eserver queue push --stmt add_num --param 5    a queue with a drain that knows the statement
  eserver queue pop --count 10
  eserver queue reserve --lease-ms 60000         take a message without losing it in a crash
  eserver queue ack 17                           it is done; 17 is its id
  eserver queue buried                           what could not be done, with the reasons
  eserver queue kick --all                       try all of that again";

/// What is to be done with a queue.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Put messages in, one request each as old clients do
    ///
    /// A message of the default queue is SQL text; a single %d or the like in it is replaced by a
    /// counter. A message of a named queue is a JSON object. A queue with a drain also takes the name
    /// of a statement with its parameters.
    Push {
        #[command(flatten)]
        queue: Name,
        #[command(flatten)]
        statement: StatementArgs,
        /// Messages; without any, each line of the standard input is one
        #[arg(value_name = "SQL_OR_JSON")]
        items: Vec<String>,
    },
    /// Put messages in, as many to a request as fit, and print their ids
    ///
    /// A message is any JSON value; what is no JSON is taken as text.
    Put {
        #[command(flatten)]
        queue: Name,
        /// Messages, JSON or plain text; without any, each line of the standard input is one
        #[arg(value_name = "JSON_OR_TEXT")]
        items: Vec<String>,
    },
    /// Take messages out for good, oldest first, and print each
    Pop {
        #[command(flatten)]
        queue: Name,
        /// Take up to this many
        #[arg(long, value_name = "N", default_value_t = 1)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        count: u64,
        /// Print each message as JSON, so that each is one line whatever is in it
        #[arg(long)]
        json: bool,
    },
    /// Take messages for a while and print each with its id
    ///
    /// A message that is not acked before its lease ends is given to the next who asks.
    Reserve {
        #[command(flatten)]
        queue: Name,
        /// Milliseconds for which the messages are ours
        #[arg(long, value_name = "MS", default_value_t = 30_000)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        lease_ms: u64,
        /// Take up to this many
        #[arg(long, value_name = "N", default_value_t = 1)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        max: u64,
    },
    /// Say that reserved messages are done: they are removed
    Ack {
        #[command(flatten)]
        queue: Name,
        /// Ids as `reserve` printed them
        #[arg(value_name = "ID", required = true)]
        ids: Vec<u64>,
    },
    /// Give reserved messages back
    Release {
        #[command(flatten)]
        queue: Name,
        /// Ids as `reserve` printed them
        #[arg(value_name = "ID", required = true)]
        ids: Vec<u64>,
        /// Milliseconds before they can be taken again
        #[arg(long, value_name = "MS", default_value_t = 0)]
        delay_ms: u64,
    },
    /// Put reserved messages aside, with a reason, until somebody looks at them
    Bury {
        #[command(flatten)]
        queue: Name,
        /// Ids as `reserve` printed them
        #[arg(value_name = "ID", required = true)]
        ids: Vec<u64>,
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// List messages that were put aside, oldest first, each with the reason
    Buried {
        #[command(flatten)]
        queue: Name,
        /// Begin with this id
        #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
        from: u64,
        /// List up to this many
        #[arg(long, value_name = "N", default_value_t = 100)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        max: u64,
        /// Print each message as one line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring messages that were put aside back into their place, to be tried again
    Kick {
        #[command(flatten)]
        queue: Name,
        #[command(flatten)]
        which: Which,
    },
    /// Throw messages away that were put aside
    Drop {
        #[command(flatten)]
        queue: Name,
        #[command(flatten)]
        which: Which,
    },
    /// Print how many messages a queue holds
    Length {
        #[command(flatten)]
        queue: Name,
    },
    /// Show what is in one queue, or in all of them
    Stats {
        /// Only this queue [default: all]
        #[arg(long, value_name = "NAME")]
        queue: Option<String>,
        /// Print the server's answer as it is
        #[arg(long)]
        json: bool,
    },
    /// Print what became of messages that asked for it with `notify`, as it happens
    ///
    /// Each event is one line of JSON: {"channel": …, "event": …}.
    Watch {
        /// Only this channel [default: all]
        #[arg(long, value_name = "NAME")]
        channel: Option<String>,
        /// End after this many events
        #[arg(long, value_name = "N")]
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
}

/// Which queue is meant.
#[derive(Debug, clap::Args)]
struct Name {
    /// The queue
    #[arg(long = "queue", value_name = "NAME", default_value = DEFAULT)]
    name: String,
}

/// Which buried messages are meant.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Ids as `buried` printed them
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
    /// All that are buried
    #[arg(long)]
    all: bool,
}

impl Name {
    /// The name for requests of the old protocol, in which the default queue has none.
    fn legacy(&self) -> Option<&str> {
        (self.name != DEFAULT).then_some(self.name.as_str())
    }
}

/// Connects and does what is asked.
pub(crate) fn run(args: QueueArgs) -> anyhow::Result<Exit> {
    let QueueArgs { addr, timeout, verb } = args;
    let connect = || Client::connect(&addr, Duration::from_secs(timeout));
    match verb {
        Verb::Push { queue, statement, items } => match statement.message() {
            Some(message) => statement::push(&mut connect()?, &queue, &message)?,
            None => push::push(&mut connect()?, &queue, items)?,
        },
        Verb::Put { queue, items } => push::put(&mut connect()?, &queue, items)?,
        Verb::Pop { queue, count, json } => take::pop(&mut connect()?, &queue, count, json)?,
        Verb::Reserve { queue, lease_ms, max } => {
            take::reserve(&mut connect()?, &queue, lease_ms, max)?;
        }
        Verb::Ack { queue, ids } => settle::ack(&mut connect()?, &queue, &ids)?,
        Verb::Release { queue, ids, delay_ms } => {
            settle::release(&mut connect()?, &queue, &ids, delay_ms)?;
        }
        Verb::Bury { queue, ids, reason } => {
            settle::bury(&mut connect()?, &queue, &ids, &reason)?;
        }
        Verb::Buried { queue, from, max, json } => {
            buried::list(&mut connect()?, &queue, from, max, json)?;
        }
        Verb::Kick { queue, which } => buried::kick(&mut connect()?, &queue, &which)?,
        Verb::Drop { queue, which } => buried::discard(&mut connect()?, &queue, &which)?,
        Verb::Length { queue } => stats::length(&mut connect()?, &queue)?,
        Verb::Stats { queue, json } => stats::stats(&mut connect()?, queue.as_deref(), json)?,
        Verb::Watch { channel, count } => {
            let timeout = Duration::from_secs(timeout);
            watch::watch(&mut connect()?, channel.as_deref(), count, timeout)?;
        }
    }
    Ok(Exit::Ok)
}
