//! `cargo xtask bench queue`: who meets whom, in which order, and what is kept of it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use eserver_bench::{Extent, Plan, descriptors, hold_idle, process, run as run_load};

use super::cases::{CASES, Case, Work};
use super::machine::{Machine, version};
use super::report::Report;
use super::results::{IdleSample, Results, Sample};
use super::scope::{Scope, in_turn};
use super::servers::{Family, Peer, Premises, Server, build_eserver, package_original};
use super::targets::verdicts;
use crate::{install, workspace};

/// The name of the case that measures memory, which has no load.
const IDLE: &str = "idle";

/// Idle connections whose memory is measured.
const IDLE_CONNECTIONS: usize = 15_000;

/// Longest time for one step of one idle connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages put beforehand for each second of taking; what a fast server takes in less than one.
const POPS_PER_SECOND: f64 = 100_000.0;

/// Longest time to fill a queue, and to take what was filled.
const POP_TIMEOUT: Duration = Duration::from_secs(120);

/// Servers whose idle connections are weighed.
const IDLE_PEERS: [Peer; 3] = [Peer::EserverAlways, Peer::RedisOff, Peer::BeanstalkdMemory];

/// What `cargo xtask bench queue` takes.
#[derive(Debug, Args)]
pub(super) struct QueueArgs {
    #[command(flatten)]
    scope: Scope,

    /// Only servers whose name contains one of these, such as always or Redis; publishes nothing
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    peers: Vec<String>,

    /// A checkout of the Python original, to take part
    #[arg(long, value_name = "DIR")]
    original: Option<PathBuf>,

    /// A further setting for eserver; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl QueueArgs {
    /// Whether every figure is measured that the published page shows.
    fn is_complete(&self) -> bool {
        self.scope.is_complete() && self.peers.is_empty()
    }

    fn wants_peer(&self, peer: Peer) -> bool {
        let name = peer.name().to_lowercase();
        let is_named = |part: &String| name.contains(&part.to_lowercase());
        self.peers.is_empty() || self.peers.iter().any(is_named)
    }
}

/// Runs all that is asked for, prints it, and writes it down.
pub(super) fn run(args: &QueueArgs) -> anyhow::Result<()> {
    args.scope.check(CASES.iter().map(|case| case.name).chain([IDLE]))?;
    let descriptors = descriptors::raise_limit()?;
    let most_connections = IDLE_CONNECTIONS + 1_000;
    ensure!(
        descriptors >= most_connections as u64,
        "the limit of open descriptors is {descriptors}; raise it to {most_connections} first \
         (`ulimit -Hn`)"
    );
    let premises = prepare(args)?;
    let peers: Vec<Peer> = premises.peers().filter(|&peer| args.wants_peer(peer)).collect();

    let mut results = Results::default();
    let mut failures = Vec::new();
    for round in 1..=args.scope.rounds() {
        for case in CASES.iter().filter(|case| args.scope.wants_case(case.name)) {
            println!("\nround {round} of {}: {}", args.scope.rounds(), case.title);
            for &peer in in_turn(&peers, round).iter().filter(|&&peer| case.suits(peer)) {
                match meet(*case, peer, &premises, args.scope.seconds()) {
                    Ok(sample) => results.add(round, *case, peer, sample),
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
    conclude(args, &premises, &peers, &results, &failures)
}

fn complain(case: &str, peer: Peer, error: &anyhow::Error) -> String {
    let complaint = format!("{}, {case}: {error:#}", peer.name());
    println!("  FAILED {complaint}");
    complaint
}

/// Installs and builds what takes part.
fn prepare(args: &QueueArgs) -> anyhow::Result<Premises> {
    install::ensure(&["redis-server", "beanstalkd"])?;
    let eserver = match &args.scope.eserver {
        Some(path) => path.clone(),
        None if Peer::ALL
            .iter()
            .any(|&peer| peer.family() == Family::Eserver && args.wants_peer(peer)) =>
        {
            build_eserver()?
        }
        None => PathBuf::from("eserver"),
    };
    let scratch = workspace::root().join("target/bench");
    fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    let original = args.original.as_deref().map(package_original).transpose()?;
    Ok(Premises { eserver, eserver_settings: args.set.clone(), original, scratch })
}

/// One case against a fresh instance of one server.
fn meet(case: Case, peer: Peer, premises: &Premises, seconds: f64) -> anyhow::Result<Sample> {
    let server = Server::start(peer, premises)?;
    let filled = match case.work {
        Work::Pop => fill(&server, peer, (seconds * POPS_PER_SECOND) as u64)?,
        Work::Put | Work::BatchPut => 0,
    };
    let plan = Plan {
        connections: case.connections,
        pipeline: case.pipeline,
        connection_per_burst: case.connection_per_request,
        extent: match case.work {
            // Every connection opens with one request that is not counted.
            Work::Pop => {
                Extent::Requests { count: filled - case.connections as u64, deadline: POP_TIMEOUT }
            }
            Work::Put | Work::BatchPut => Extent::Time {
                warm_up: Duration::from_secs_f64((seconds / 4.0).min(0.5)),
                measured: Duration::from_secs_f64(seconds),
            },
        },
        server_process: Some(server.process()),
        ..Plan::new(server.address)
    };
    let protocol = case.protocol(peer);
    let outcome = run_load(&plan, protocol.as_ref()).with_context(|| server.messages())?;
    println!("  {:<24}{outcome}", peer.name());
    if peer.family() == Family::Original {
        // It is known to answer one client with another's reply; it is shown as it is.
        return Ok(Sample::new(&outcome));
    }
    ensure!(outcome.errors.total() == 0, "{}; {}", outcome.errors, server.messages());
    let expected = match case.work {
        Work::Pop => filled - outcome.answered,
        Work::Put | Work::BatchPut => outcome.answered,
    };
    if let Some(length) = server.length()? {
        ensure!(
            length == expected,
            "by what was acknowledged {expected} messages should be there, and {length} are"
        );
    }
    Ok(Sample::new(&outcome))
}

/// Puts at least `messages` and says how many.
fn fill(server: &Server, peer: Peer, messages: u64) -> anyhow::Result<u64> {
    let protocol = Case::filling(peer);
    let plan = Plan {
        extent: Extent::Requests {
            count: messages.div_ceil(protocol.operations()),
            deadline: POP_TIMEOUT,
        },
        ..Plan::new(server.address)
    };
    let outcome = run_load(&plan, protocol.as_ref()).with_context(|| server.messages())?;
    ensure!(outcome.errors.total() == 0, "filling: {}", outcome.errors);
    Ok(outcome.answered)
}

/// What many idle connections add to the memory of a fresh server.
fn weigh_idle(peer: Peer, premises: &Premises) -> anyhow::Result<IdleSample> {
    let server = Server::start(peer, premises)?;
    let ping = peer.ping();
    let rss_bytes = || process::memory(server.process()).map(|memory| memory.rss_bytes);
    // One connection first, so that what a server sets up once is not divided among them.
    let before = hold_idle(server.address, 1, &ping, IDLE_TIMEOUT, rss_bytes)??;
    let after = hold_idle(server.address, IDLE_CONNECTIONS, &ping, IDLE_TIMEOUT, rss_bytes)??;
    let rss_bytes_each = (after as f64 - before as f64) / IDLE_CONNECTIONS as f64;
    println!(
        "  {:<24}{rss_bytes_each:.0} bytes of RSS each, {:.1} MiB with {IDLE_CONNECTIONS}",
        peer.name(),
        after as f64 / f64::from(1 << 20)
    );
    Ok(IdleSample { peer, connections: IDLE_CONNECTIONS, rss_bytes_each, rss_bytes: after })
}

/// Prints the tables, writes them down, and fails when anything went wrong.
fn conclude(
    args: &QueueArgs,
    premises: &Premises,
    peers: &[Peer],
    results: &Results,
    failures: &[String],
) -> anyhow::Result<()> {
    let families = [Family::Eserver, Family::Redis, Family::Beanstalkd, Family::Original];
    let versions = families
        .into_iter()
        .filter(|&family| peers.iter().any(|peer| peer.family() == family))
        .map(|family| match family {
            Family::Eserver => version(&premises.eserver.display().to_string(), "--version"),
            Family::Redis => version("redis-server", "--version"),
            Family::Beanstalkd => version("beanstalkd", "-v"),
            Family::Original => {
                format!("Python original 1.0 on {}", version("python3", "--version"))
            }
        })
        .collect();
    let report = Report {
        machine: Machine::survey(&premises.scratch)?,
        versions,
        command: command_line(args),
        seconds: args.scope.seconds(),
        rounds: args.scope.rounds(),
        peers,
        results,
        verdicts: verdicts(results),
        failures,
    };
    let markdown = report.markdown();
    println!("\n{markdown}");
    let root = workspace::root();
    let directory =
        if args.is_complete() { root.join("docs/benchmarks") } else { premises.scratch.clone() };
    fs::create_dir_all(&directory)?;
    for (name, text) in [("queue.md", markdown), ("queue.json", report.json())] {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        println!("written to {}", path.strip_prefix(root).unwrap_or(&path).display());
    }
    if !failures.is_empty() {
        bail!("{} runs failed:\n{}", failures.len(), failures.join("\n"));
    }
    Ok(())
}

/// What to type to have this again. Paths are left out: they differ elsewhere.
fn command_line(args: &QueueArgs) -> String {
    let mut command = format!("cargo xtask bench queue{}", args.scope.arguments());
    if !args.peers.is_empty() {
        command += &format!(" --peers {}", args.peers.join(","));
    }
    if args.original.is_some() {
        command += " --original DIR";
    }
    for setting in &args.set {
        command += &format!(" --set '{setting}'");
    }
    command
}
