//! `eserver bench hold`: the options, the signals, and the report in the form that was asked for.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use eserver_bench::hold::{CONNECTIONS_MAX, HoldError, HoldPlan, HoldReport, Profile, hold};
use nix::sys::signal::{SigSet, Signal};

use super::bar::Bar;
use crate::exit::{Exit, OrExit};

pub(super) const HELP: &str = "\
Opens the connections, looks at the server's memory and idle CPU time at each step, then publishes:
one message to one channel, one to each channel, one to all. Each client notes which it has had.

A limit of descriptors bounds a table, not a process: as many threads as it takes hold the
connections, each with a table of its own. Source addresses are chosen from 127.0.0.0/8. Polls that
are answered poll again on the same connection from where they are; a noop is counted.

The server has to take so many: `comet.channels_max`, `limits.connections_max` and
`limits.connections_per_address_max` of eserver, `front.max_channels` of icomet.

Profiles:
  eserver     long polls of icomet's API on eserver: /sub?cname=NAME&seq=N
  icomet      the same of the original; its admin port is given one request at a time
  icomet-sse  /sse?cname=NAME&seq=N of either
  sse         /v1/events?channel=NAME of eserver
  websocket   /v1/socket?channel=NAME of eserver
  nchan       long polls of nchan at --subscribe-path and --publish-path; without a broadcast
  nchan-sse   the same with server-sent events
  tcp         connections that nothing is said on

Exit codes:
  0    everybody came, stayed, and received everything once and in order
  1    not so; the report says what was lost, or what the server did not give back
  64   the command line was not understood, or what it asks for cannot be done
  69   the server cannot be reached
  73   the file for the page cannot be written
  130  stopped by Ctrl-C; the report says how far it came

Examples:
  eserver bench hold --front 127.0.0.1:8100 --admin 127.0.0.1:8000 --connections 10000
  eserver bench hold --front 127.0.0.1:8100 --admin 127.0.0.1:8000 --connections 1000000 \\
      --ramp 20000 --settle 10 --html hold.html
  eserver bench hold --front 127.0.0.1:8100 --connections 15000 --profile tcp --json";

/// `eserver bench hold`.
#[derive(Debug, clap::Args)]
pub(crate) struct HoldArgs {
    /// Where subscribers connect
    #[arg(long, value_name = "HOST:PORT")]
    front: SocketAddr,
    /// Where messages are published; without it none are
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<SocketAddr>,
    /// Connections to hold
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX as i64))]
    connections: u32,
    /// What the server speaks
    #[arg(long, value_enum, default_value_t = ProfileName::Eserver)]
    profile: ProfileName,
    /// Connections to begin in a second [default: as fast as the server takes them]
    #[arg(long, value_name = "RATE")]
    ramp: Option<f64>,
    /// Connections that may be opening at the same time
    #[arg(long, value_name = "N", default_value_t = 100)]
    opening: u32,
    /// Numbers of connections at which memory is looked at, beside the last
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    #[arg(default_values_t = [0, 100_000, 200_000, 500_000, 1_000_000])]
    steps: Vec<u32>,
    /// Seconds of quiet at each step, while the server's idle CPU time is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = seconds)]
    settle: f64,
    /// Seconds to keep everybody before anything is published
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    hold: f64,
    /// Channels to spread the connections over [default: one for each]
    #[arg(long, value_name = "K", default_value_t = 0, hide_default_value = true)]
    channels: u32,
    /// What the names of channels begin with
    #[arg(long, value_name = "TEXT", default_value = "c")]
    prefix: String,
    /// Messages to publish to each channel
    #[arg(long, value_name = "M", default_value_t = 1)]
    messages: u32,
    /// The length of each message, at least
    #[arg(long, value_name = "BYTES", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=4096))]
    content_bytes: u32,
    /// Connections to the admin port
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    publishers: u32,
    /// Requests on each of them at the same time [default: 32; for icomet 1]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    pipeline: Option<u32>,
    /// How often everybody comes, is published to and leaves
    #[arg(long, value_name = "R", default_value_t = 1)]
    rounds: u32,
    /// Seconds without anything happening after which nothing more is waited for
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    timeout: f64,
    /// Milliseconds that this client rests after it has taken what was there, so that the server need
    /// not wake it each time; arrivals are late by as much
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    coalesce: u32,
    /// Seconds that the server may take to give memory back once all have left
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    memory_timeout: f64,
    /// The server's process [default: whoever listens at --front]
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Where nchan is subscribed to
    #[arg(long, value_name = "PATH", default_value = "/sub/{channel}")]
    subscribe_path: String,
    /// Where nchan is published to
    #[arg(long, value_name = "PATH", default_value = "/pub/{channel}")]
    publish_path: String,
    /// Exit with 1 as well if the server keeps more than a tenth and 20 MB above what it had
    /// before the first came
    #[arg(long)]
    check_memory: bool,
    /// Let the server be on another machine, one's own, too
    #[arg(long)]
    allow_remote: bool,
    /// Print the report as JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print what was seen at each step as comma-separated values
    #[arg(long)]
    csv: bool,
    /// Write the report as a page with a chart, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// What can be typed for a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProfileName {
    Eserver,
    Icomet,
    IcometSse,
    Sse,
    Websocket,
    Nchan,
    NchanSse,
    Tcp,
}

/// A length of time that can be waited for.
fn seconds(text: &str) -> Result<f64, String> {
    const DAY: f64 = 86_400.0;
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    (0.0..=DAY).contains(&seconds).then_some(seconds).ok_or("from 0 to 86400".to_owned())
}

impl HoldArgs {
    fn plan(self) -> HoldPlan {
        let profile = match self.profile {
            ProfileName::Eserver => Profile::Eserver,
            ProfileName::Icomet => Profile::Icomet,
            ProfileName::IcometSse => Profile::IcometSse,
            ProfileName::Sse => Profile::Sse,
            ProfileName::Websocket => Profile::WebSocket,
            ProfileName::Nchan => {
                Profile::Nchan { subscribe: self.subscribe_path, publish: self.publish_path }
            }
            ProfileName::NchanSse => {
                Profile::NchanSse { subscribe: self.subscribe_path, publish: self.publish_path }
            }
            ProfileName::Tcp => Profile::Tcp,
        };
        // The original takes forty milliseconds for each answer after the first of a pipeline.
        let pipeline_default = if profile == Profile::Icomet { 1 } else { 32 };
        HoldPlan {
            profile,
            ramp_per_s: self.ramp,
            opening_max: self.opening as usize,
            steps: self.steps.into_iter().map(|step| step as usize).collect(),
            settle: Duration::from_secs_f64(self.settle),
            hold: Duration::from_secs_f64(self.hold),
            channels: self.channels as usize,
            prefix: self.prefix,
            messages: self.messages,
            content_bytes: self.content_bytes as usize,
            publishers: self.publishers as usize,
            pipeline: self.pipeline.unwrap_or(pipeline_default) as usize,
            rounds: self.rounds,
            timeout: Duration::from_secs_f64(self.timeout),
            coalesce: Duration::from_millis(u64::from(self.coalesce)),
            memory_timeout: Duration::from_secs_f64(self.memory_timeout),
            server_pid: self.pid,
            allow_remote: self.allow_remote,
            ..HoldPlan::new(self.front, self.admin, self.connections as usize)
        }
    }
}

/// Holds, publishes, and prints what came of it.
pub(super) fn run(mut args: HoldArgs) -> anyhow::Result<Exit> {
    let (json, csv, html) = (args.json, args.csv, args.html.take());
    let check_memory = args.check_memory;
    let plan = args.plan();
    let stop = stop_on_signals()?;
    let mut bar = Bar::new();
    let result = hold(&plan, &stop, &mut |progress| bar.show(progress));
    bar.clear();
    let report = result.map_err(|error| {
        let exit = match error {
            HoldError::Plan(_) => Exit::Usage,
            HoldError::NobodyHeld { .. } | HoldError::Admin { .. } => Exit::Unavailable,
            HoldError::Start(_) => Exit::Io,
        };
        (exit, error)
    });
    let report = match report {
        Ok(report) => report,
        Err((exit, error)) => return Err(error).or_exit(exit),
    };
    if let Some(path) = html {
        std::fs::write(&path, report.to_html())
            .with_context(|| format!("cannot write {}", path.display()))
            .or_exit(Exit::CannotCreate)?;
    }
    let text = match (json, csv) {
        (true, _) => report.to_json() + "\n",
        (_, true) => report.to_csv(),
        _ => report.to_table(),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(exit_of(&report, check_memory))
}

fn exit_of(report: &HoldReport, check_memory: bool) -> Exit {
    if report.is_interrupted {
        Exit::Interrupted
    } else if report.is_faultless() && (!check_memory || report.is_memory_back()) {
        Exit::Ok
    } else {
        Exit::Failed
    }
}

/// Sets what it returns when SIGINT or SIGTERM comes; at the second the process ends at once.
///
/// The signals are blocked in every thread, the ones to come as well, and waited for in one: a
/// handler that writes into a descriptor would hit that of another table if it ran in a thread that
/// has its own.
fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("cannot block signals").or_exit(Exit::Io)?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let wait = move || {
        while signals.wait().is_ok() {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(Exit::Interrupted as i32);
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(stop)
}
