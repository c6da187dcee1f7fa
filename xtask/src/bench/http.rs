//! `cargo xtask bench http`: what a small answer costs, beside nginx, hyper and the kernel alone.
//!
//! Each of the [`servers`], alone on one core, meets the [`cases`] of load, which come from another
//! core: from the clients of `eserver-bench`, or from [`ab`]. The servers people use every day
//! ([`everyday`]) meet some of them once. A meeting is a sample in [`results`]; the samples are held
//! against [`targets`], and [`report`] and [`chart`] show them.

mod ab;
mod cases;
mod chart;
mod everyday;
mod report;
mod results;
mod servers;
mod targets;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use eserver_bench::protocol::HttpGet;
use eserver_bench::{Extent, Plan, descriptors, hold_idle, process, run as run_load};

use self::cases::{CASES, Case, Load};
use self::report::Report;
use self::results::{IdleSample, Results, Sample};
use self::servers::{BODY, Peer, Premises, Server, build_peers};
use self::targets::verdicts;
use super::cores::{self, Cores};
use super::machine::{Machine, version};
use super::scope::{Scope, in_turn};
use super::servers::build_eserver;
use crate::{install, workspace};

/// The name of the case that measures memory, which has no load.
const IDLE: &str = "idle";

/// The name of the case in which the everyday servers appear.
const EVERYDAY: &str = "everyday";

/// Idle connections whose memory is measured.
const IDLE_CONNECTIONS: usize = 10_000;

/// Longest time for one step of one idle connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Servers whose idle connections are weighed.
const IDLE_PEERS: [Peer; 4] = [Peer::Eserver, Peer::Floor, Peer::Nginx, Peer::Hyper];

/// What `cargo xtask bench http` takes.
#[derive(Debug, Args)]
pub(super) struct HttpArgs {
    #[command(flatten)]
    scope: Scope,

    /// Only servers whose name contains one of these, such as floor; publishes nothing
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    peers: Vec<String>,

    /// A further setting for eserver; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl HttpArgs {
    /// Whether every figure is measured that the published page shows, and as users get it.
    fn is_complete(&self) -> bool {
        self.scope.is_complete() && self.peers.is_empty() && self.set.is_empty()
    }

    fn wants_peer(&self, peer: Peer) -> bool {
        let name = peer.name().to_lowercase();
        let is_named = |part: &String| name.contains(&part.to_lowercase());
        self.peers.is_empty() || self.peers.iter().any(is_named)
    }
}

/// Runs all that is asked for, prints it, and writes it down.
pub(super) fn run(args: &HttpArgs) -> anyhow::Result<()> {
    args.scope.check(CASES.iter().map(|case| case.name).chain([IDLE, EVERYDAY]))?;
    let descriptors = descriptors::raise_limit()?;
    let most_connections = IDLE_CONNECTIONS + 1_000;
    ensure!(
        descriptors >= most_connections as u64,
        "the limit of open descriptors is {descriptors}; raise it to {most_connections} first \
         (`ulimit -Hn`)"
    );
    let premises = prepare(args)?;
    let mut peers: Vec<Peer> =
        Peer::FAST.into_iter().filter(|&peer| args.wants_peer(peer)).collect();
    let mut absent = Vec::new();
    let everyday = everyday_peers(args, &premises, &mut absent)?;
    // Before this process has only one core left to see.
    let machine = Machine::survey(&premises.scratch)?;
    premises.cores.keep_to_load()?;
    let load_before = cores::load_average()?;

    let mut results = Results::default();
    let mut failures = Vec::new();
    for round in 1..=args.scope.rounds() {
        for case in CASES.iter().filter(|case| args.scope.wants_case(case.name)) {
            println!("\nround {round} of {}: {}", args.scope.rounds(), case.title);
            for &peer in in_turn(&peers, round).iter().filter(|&&peer| case.suits(peer)) {
                match meet(case, peer, &premises, args.scope.seconds()) {
                    Ok(sample) => results.add(round, case.name, peer, sample),
                    Err(error) => failures.push(complain(case.title, peer, &error)),
                }
            }
        }
        if args.scope.wants_case(IDLE) {
            println!("\nround {round} of {}: memory of idle connections", args.scope.rounds());
            for &peer in in_turn(&peers, round).iter().filter(|peer| IDLE_PEERS.contains(peer)) {
                match weigh_idle(peer, &premises) {
                    Ok(sample) => results.add_idle(sample),
                    Err(error) => failures.push(complain(IDLE, peer, &error)),
                }
            }
        }
    }
    if args.scope.wants_case(EVERYDAY) {
        println!("\nonce: the everyday servers");
        for case in CASES.iter().filter(|case| case.is_everyday) {
            for &peer in &everyday {
                match meet(case, peer, &premises, args.scope.seconds()) {
                    Ok(sample) => results.add(1, case.name, peer, sample),
                    Err(error) => failures.push(complain(case.title, peer, &error)),
                }
            }
        }
    }
    peers.extend(everyday);
    let report = Report {
        machine,
        versions: versions(args, &premises, &peers),
        command: command_line(args),
        seconds: args.scope.seconds(),
        rounds: args.scope.rounds(),
        loads: [load_before, cores::load_average()?],
        peers: &peers,
        results: &results,
        verdicts: verdicts(&results),
        absent: &absent,
        failures: &failures,
    };
    conclude(args, &premises, &report)
}

fn complain(case: &str, peer: Peer, error: &anyhow::Error) -> String {
    let complaint = format!("{}, {case}: {error:#}", peer.name());
    println!("  FAILED {complaint}");
    complaint
}

/// Installs and builds what takes part.
fn prepare(args: &HttpArgs) -> anyhow::Result<Premises> {
    install::ensure(&["apache2-utils", "nginx", "util-linux"])?;
    let eserver = match &args.scope.eserver {
        Some(path) => path.clone(),
        None if args.wants_peer(Peer::Eserver) || args.wants_peer(Peer::EserverAtOnce) => {
            build_eserver()?
        }
        None => PathBuf::from("eserver"),
    };
    let scratch = workspace::root().join("target/bench");
    fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    Ok(Premises {
        eserver,
        eserver_settings: args.set.clone(),
        peers: build_peers()?,
        python: scratch.join("python/bin/python"),
        scratch,
        cores: Cores::of_this_machine()?,
    })
}

/// The everyday servers that can take part. Why the others cannot goes to `absent`.
fn everyday_peers(
    args: &HttpArgs,
    premises: &Premises,
    absent: &mut Vec<String>,
) -> anyhow::Result<Vec<Peer>> {
    if !args.scope.wants_case(EVERYDAY) {
        return Ok(Vec::new());
    }
    let mut peers = Peer::EVERYDAY.to_vec();
    peers.retain(|&peer| args.wants_peer(peer));
    if peers.is_empty() {
        return Ok(peers);
    }
    install::ensure(&["python3"])?;
    let environment = everyday::make_environment(&premises.python);
    let ensure = |peer| match &environment {
        Ok(()) => everyday::ensure(peer, &premises.python),
        Err(error) => bail!("{error:#}"),
    };
    peers.retain(|&peer| match ensure(peer) {
        Ok(()) => true,
        Err(error) => {
            absent.push(format!("{} did not take part: {error:#}", peer.name()));
            false
        }
    });
    Ok(peers)
}

/// One case against a fresh instance of one server.
fn meet(case: &Case, peer: Peer, premises: &Premises, seconds: f64) -> anyhow::Result<Sample> {
    let server = Server::start(peer, case, premises)?;
    let sample = match case.load {
        Load::Ab => ab::run(case.connections, seconds, server.address, server.process())?,
        Load::Kept { .. } | Load::PerRequest => {
            let (pipeline, protocol) = match case.load {
                Load::Kept { pipeline } => (pipeline, get(&server, false)?),
                _ => (1, get(&server, true)?),
            };
            let plan = Plan {
                connections: case.connections,
                pipeline,
                connection_per_burst: case.load == Load::PerRequest,
                extent: Extent::Time {
                    warm_up: Duration::from_secs_f64((seconds / 4.0).min(0.5)),
                    measured: Duration::from_secs_f64(seconds),
                },
                server_process: Some(server.process()),
                ..Plan::new(server.address)
            };
            let outcome = run_load(&plan, &protocol).with_context(|| server.messages())?;
            ensure!(outcome.errors.total() == 0, "{}; {}", outcome.errors, server.messages());
            Sample::of(&outcome)
        }
    };
    let rss_bytes = process::peak_rss_bytes(server.process())?;
    let sample = Sample { rss_bytes: rss_bytes as f64, ..sample };
    println!("  {:<26}{sample}", peer.name());
    Ok(sample)
}

fn get(server: &Server, is_closing: bool) -> anyhow::Result<HttpGet> {
    let host = server.address.to_string();
    let make = if is_closing { HttpGet::closing } else { HttpGet::new };
    Ok(make(&host, "/", BODY.as_bytes())?)
}

/// What many idle connections add to the memory of a fresh server.
fn weigh_idle(peer: Peer, premises: &Premises) -> anyhow::Result<IdleSample> {
    let server = Server::start(peer, Case::kept(), premises)?;
    let get = get(&server, false)?;
    let rss_bytes = || process::memory(server.process()).map(|memory| memory.rss_bytes);
    // One connection first, so that what a server sets up once is not divided among them.
    let before = hold_idle(server.address, 1, &get, IDLE_TIMEOUT, rss_bytes)??;
    let after = hold_idle(server.address, IDLE_CONNECTIONS, &get, IDLE_TIMEOUT, rss_bytes)??;
    let rss_bytes_each = (after as f64 - before as f64) / IDLE_CONNECTIONS as f64;
    println!("  {:<26}{rss_bytes_each:.0} bytes of RSS each", peer.name());
    Ok(IdleSample { peer, rss_bytes_each, rss_bytes: after })
}

/// What the programs that took part say of themselves.
fn versions(args: &HttpArgs, premises: &Premises, peers: &[Peer]) -> Vec<String> {
    let mut versions: Vec<String> =
        peers.iter().filter_map(|peer| peer.version(premises)).collect();
    versions.dedup();
    if args.scope.wants_case("ab") {
        versions.push(first_line(&version("ab", "-V")));
    }
    versions
}

/// Prints the tables, writes them down, and fails when anything went wrong.
fn conclude(args: &HttpArgs, premises: &Premises, report: &Report<'_>) -> anyhow::Result<()> {
    let markdown = report.markdown();
    println!("\n{markdown}");
    let root = workspace::root();
    let directory =
        if args.is_complete() { root.join("docs/benchmarks") } else { premises.scratch.clone() };
    fs::create_dir_all(&directory)?;
    for (name, text) in [
        ("http.md", markdown),
        ("http.json", report.json()),
        (report::CHART, chart::svg(report.peers, report.results)),
    ] {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        println!("written to {}", path.strip_prefix(root).unwrap_or(&path).display());
    }
    if !report.failures.is_empty() {
        bail!("{} runs failed:\n{}", report.failures.len(), report.failures.join("\n"));
    }
    Ok(())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// What to type to have this again. Paths are left out: they differ elsewhere.
fn command_line(args: &HttpArgs) -> String {
    let mut command = format!("cargo xtask bench http{}", args.scope.arguments());
    if !args.peers.is_empty() {
        command += &format!(" --peers {}", args.peers.join(","));
    }
    for setting in &args.set {
        command += &format!(" --set '{setting}'");
    }
    command
}
