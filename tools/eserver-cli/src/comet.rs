//! `eserver comet …`: a client of a running server's channels, for people and scripts.
//!
//! [`client`] makes requests. Messages go to stdout, one to a line; everything else that a person
//! reads is a sentence on stderr and an exit code.

mod client;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::exit::{self, Exit, OrExit};
use client::{Client, encoded};

/// `eserver comet`.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub(crate) struct CometArgs {
    /// The port where messages are published
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "ESERVER_ADMIN_ADDR",
        hide_env_values = true,
        default_value = "127.0.0.1:8000"
    )]
    admin: String,
    /// The port where subscribers are
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "ESERVER_PUBLIC_ADDR",
        hide_env_values = true,
        default_value = "127.0.0.1:8100"
    )]
    public: String,
    /// Seconds to wait for the server
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  eserver comet publish news 'the kettle is on'
  eserver comet publish orders/7 '{\"state\": \"paid\"}' --json
  eserver comet subscribe news orders/7          goes on where it was when the server restarts
  eserver comet info news";

/// What is to be done with channels.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Publish a message to a channel, and print how many listen to it
    Publish {
        /// The channel
        channel: String,
        /// What it says: text, or JSON with --json
        data: String,
        /// What this sort of message is called
        #[arg(long, value_name = "NAME")]
        event: Option<String>,
        /// The data is JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what is published, one JSON object to a line, until Ctrl-C
    Subscribe {
        /// The channels
        #[arg(required = true, value_name = "CHANNEL")]
        channels: Vec<String>,
        /// Go on from here: a cursor that was printed
        #[arg(long, value_name = "CURSOR")]
        cursor: Option<String>,
        /// Begin with all that the channels still have
        #[arg(long)]
        all: bool,
        /// A token, where one is needed
        #[arg(long, value_name = "TOKEN", env = "ESERVER_TOKEN", hide_env_values = true)]
        token: Option<String>,
        /// Print this many messages, then end
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Print what is known of a channel, or how many channels and subscribers there are
    Info {
        /// The channel
        channel: Option<String>,
    },
}

/// How long to wait before a connection that was cut off is made again, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

pub(crate) fn run(args: CometArgs) -> anyhow::Result<Exit> {
    let timeout = Duration::from_secs(args.timeout);
    match args.verb {
        Verb::Publish { channel, data, event, json } => {
            let data = if json {
                serde_json::from_str(&data).context("the data is not JSON").or_exit(Exit::Usage)?
            } else {
                Value::from(data)
            };
            let mut body = json!({ "channel": channel, "data": data });
            if let Some(event) = event {
                body["event"] = Value::from(event);
            }
            let mut client = Client::connect(&args.admin, "--admin", timeout)?;
            let answer = client.ask("POST", "/v1/publish", Some(&body))?;
            println!("{answer}");
            Ok(Exit::Ok)
        }
        Verb::Info { channel } => {
            let target = match channel {
                Some(channel) => format!("/v1/channels/{}", encoded(&channel)),
                None => "/info".to_owned(),
            };
            println!(
                "{}",
                Client::connect(&args.admin, "--admin", timeout)?.ask("GET", &target, None)?
            );
            Ok(Exit::Ok)
        }
        Verb::Subscribe { channels, cursor, all, token, count } => {
            let channels: Vec<_> =
                channels.iter().map(|channel| format!("channel={}", encoded(channel))).collect();
            let wanted = Wanted { channels: channels.join("&"), all, token, timeout };
            subscribe(&args.public, &wanted, cursor, count)
        }
    }
}

/// What a subscription is to.
struct Wanted {
    /// As a query.
    channels: String,
    all: bool,
    token: Option<String>,
    timeout: Duration,
}

/// Prints messages, and comes again where it was when it is cut off.
fn subscribe(
    address: &str,
    wanted: &Wanted,
    mut cursor: Option<String>,
    count: Option<u64>,
) -> anyhow::Result<Exit> {
    let (mut left, mut wait, mut is_first) = (count, FIRST_WAIT, true);
    loop {
        match listen(address, wanted, &mut cursor, &mut left, &mut wait) {
            Ok(()) if left == Some(0) => return Ok(Exit::Ok),
            Ok(()) => {}
            // Who was never there is told why; who was waits for the server.
            Err(error) if is_first => return Err(error),
            Err(error) => eprintln!("{error:#}; trying again"),
        }
        is_first = false;
        std::thread::sleep(wait);
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Prints messages until the connection ends, or there are enough.
fn listen(
    address: &str,
    wanted: &Wanted,
    cursor: &mut Option<String>,
    left: &mut Option<u64>,
    wait: &mut Duration,
) -> anyhow::Result<()> {
    let mut target = format!("/v1/stream?{}", wanted.channels);
    for (name, value) in [
        ("cursor", cursor.as_deref()),
        ("token", wanted.token.as_deref()),
        ("start", wanted.all.then_some("all")),
    ] {
        if let Some(value) = value {
            target.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    let mut client = Client::connect(address, "--public", wanted.timeout)?;
    let mut lines = client.lines(&target)?;
    let mut out = std::io::stdout().lock();
    while let Some(line) = lines.next_line()? {
        let object: Value = serde_json::from_str(&line)
            .map_err(|_| anyhow!("{address} does not answer as eserver does: {line:?}"))?;
        *wait = FIRST_WAIT;
        if let Some(at) = object["cursor"].as_str() {
            *cursor = Some(at.to_owned());
        }
        match object["type"].as_str() {
            Some("message" | "broadcast") => {
                writeln!(out, "{line}")?;
                out.flush()?;
                *left = left.map(|left| left.saturating_sub(1));
                if *left == Some(0) {
                    return Ok(());
                }
            }
            Some("ping" | "goodbye") => {}
            Some("subscribed") if out.is_terminal() => {
                eprintln!("listening to {}; Ctrl-C ends", object["channel"]);
            }
            Some("subscribed") => {}
            _ => eprintln!("{line}"),
        }
    }
    Ok(())
}
