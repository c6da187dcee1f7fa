//! `cargo xtask bench comet`: what pushing costs, beside icomet and nchan.
//!
//! Each of the [`servers`], alone on one core, meets the [`cases`] of load, which come from another
//! core: from `hold` and the other clients of `eserver-bench`. A meeting is a sample in [`results`];
//! the samples are held against [`targets`], and [`report`] shows them. icomet is not part of this
//! repository nor of any distribution; whoever has built it names the binary.

mod cases;
mod report;
mod results;
mod servers;
mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use eserver_bench::hold::{HoldPlan, Phase, PhaseKind, RepollPlan, hold, repoll};
use eserver_bench::{Extent, Plan, descriptors, run as run_load};

use self::cases::{CASES, Case, Figure, Load, Publish, Way};
use self::report::Report;
use self::results::{Results, Sample};
use self::servers::{Peer, Premises, Server};
use self::targets::verdicts;
use super::cores::{self, Cores};
use super::machine::Machine;
use super::results::median;
use super::scope::{Scope, in_turn};
use super::servers::build_eserver;
use crate::{install, workspace};

/// Descriptors that a server needs, and the load client.
const DESCRIPTORS: u64 = 17_000;

/// The length of a message, in bytes.
const CONTENT_BYTES: usize = 60;

/// Connections that publish.
const PUBLISHERS: usize = 16;

/// How long the client of crowds rests after it has taken what was there.
const COALESCE: Duration = Duration::from_millis(1);

/// Longest time for whatever is due.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What `cargo xtask bench comet` takes.
#[derive(Debug, Args)]
pub(super) struct CometArgs {
    #[command(flatten)]
    scope: Scope,

    /// A binary `icomet-server`, built from its source; without it icomet does not take part
    #[arg(long, value_name = "BINARY")]
    icomet: Option<PathBuf>,
}

impl CometArgs {
    /// How often one message goes to everybody after the first time, which does not count.
    fn repetitions(&self) -> usize {
        if self.scope.is_quick() { 1 } else { 5 }
    }

    /// How often a poller polls again.
    fn repolls(&self) -> u32 {
        if self.scope.is_quick() { 20 } else { 200 }
    }

    /// Whether every figure is measured that the published page shows.
    fn is_complete(&self) -> bool {
        self.scope.is_complete() && self.icomet.is_some()
    }
}

/// Runs all that is asked for, prints it, and writes it down.
pub(super) fn run(args: &CometArgs) -> anyhow::Result<()> {
    args.scope.check(CASES.iter().map(|case| case.name))?;
    let descriptors = descriptors::raise_limit()?;
    ensure!(
        descriptors >= DESCRIPTORS,
        "the limit of open descriptors is {descriptors}; raise it to {DESCRIPTORS} first \
         (`ulimit -Hn`)"
    );
    let mut absent = Vec::new();
    let premises = prepare(args, &mut absent)?;
    let mut peers = vec![Peer::Eserver];
    peers.extend(premises.icomet.is_some().then_some(Peer::Icomet));
    peers.extend(premises.nchan.is_some().then_some(Peer::Nchan));
    // Before this process has only one core left to see.
    let machine = Machine::survey(&premises.scratch)?;
    premises.cores.keep_to_load()?;
    let load_before = cores::load_average()?;

    let mut results = Results::default();
    let mut failures = Vec::new();
    for round in 1..=args.scope.rounds() {
        for case in CASES.iter().filter(|case| args.scope.wants_case(case.name)) {
            println!("\nround {round} of {}: {}", args.scope.rounds(), case.title);
            for peer in in_turn(&peers, round) {
                match meet(case, peer, &premises, args) {
                    Ok(sample) => {
                        println!("  {:<8} {sample}", peer.name());
                        results.add(round, case.name, peer, sample);
                    }
                    Err(error) => {
                        let complaint = format!("{}, {}: {error:#}", peer.name(), case.title);
                        println!("  FAILED {complaint}");
                        failures.push(complaint);
                    }
                }
            }
        }
    }
    let report = Report {
        machine,
        versions: peers.iter().flat_map(|peer| peer.versions(&premises)).collect(),
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
    conclude(args, &premises.scratch, &report)
}

/// Installs and builds what takes part. Who cannot, and why, goes to `absent`.
fn prepare(args: &CometArgs, absent: &mut Vec<String>) -> anyhow::Result<Premises> {
    install::ensure(&["util-linux"])?;
    if args.icomet.is_none() {
        absent.push(
            "icomet did not take part: no binary was named. Build \
             https://github.com/ideawu/icomet and give `--icomet BINARY`."
                .to_owned(),
        );
    }
    let icomet = args.icomet.as_ref().map(|path| {
        // It is started elsewhere.
        fs::canonicalize(path).with_context(|| path.display().to_string())
    });
    let nchan = match install::ensure(&["nginx", "libnginx-mod-nchan"]) {
        Ok(()) => install::find("/usr/lib/nginx/*/ngx_nchan_module.so"),
        Err(error) => {
            absent.push(format!("nchan did not take part: {error:#}"));
            None
        }
    };
    let eserver = match &args.scope.eserver {
        Some(path) => path.clone(),
        None => build_eserver()?,
    };
    let scratch = workspace::root().join("target/bench");
    fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    let cores = Cores::of_this_machine()?;
    Ok(Premises { eserver, icomet: icomet.transpose()?, nchan, scratch, cores })
}

/// One case against a fresh instance of one server.
fn meet(case: &Case, peer: Peer, premises: &Premises, args: &CometArgs) -> anyhow::Result<Sample> {
    let server = Server::start(peer, premises)?;
    let sample = match case.load {
        Load::Hold { way, connections, channels, publish } => {
            let phases = match publish {
                Publish::Nothing => Vec::new(),
                Publish::OneByOne => vec![PhaseKind::OneChannel; 1 + args.repetitions()],
                Publish::ToEach => vec![PhaseKind::EachChannel; 1 + args.repetitions()],
            };
            let settle = match publish {
                Publish::Nothing => Duration::from_secs_f64(args.scope.seconds()),
                _ => Duration::ZERO,
            };
            let plan = HoldPlan {
                profile: peer.profile(way),
                channels,
                phases,
                settle,
                content_bytes: CONTENT_BYTES,
                // icomet is slow to answer more than one at a time on a connection.
                publishers: PUBLISHERS,
                pipeline: 1,
                timeout: TIMEOUT,
                coalesce: COALESCE,
                // What is kept of channels, and for how long, is another question.
                memory_timeout: Duration::ZERO,
                server_pid: Some(server.process()),
                ..HoldPlan::new(server.front, Some(server.admin), connections)
            };
            hold_sample(&plan)
        }
        Load::Publish { pipeline } => publish_sample(peer, &server, pipeline, args.scope.seconds()),
        Load::Repoll { delay_ms } => repoll(&RepollPlan {
            front: server.front,
            admin: server.admin,
            profile: peer.profile(Way::Polls),
            delay: Duration::from_millis(delay_ms),
            messages: args.repolls(),
            content_bytes: CONTENT_BYTES,
            timeout: TIMEOUT,
        })
        .map(|waited| {
            Sample::default()
                .with(Figure::P99Ms, waited.p99)
                .with(Figure::P50Ms, waited.p50)
                .with(Figure::MaxMs, waited.max)
        })
        .map_err(Into::into),
    };
    sample.with_context(|| server.messages())
}

/// Holds subscribers and publishes to them; all of it has to arrive.
fn hold_sample(plan: &HoldPlan) -> anyhow::Result<Sample> {
    let report = hold(plan, &AtomicBool::new(false), &mut |_| {})?;
    if !report.is_faultless() {
        let first = report.first_error.as_deref().unwrap_or("no error was noted");
        bail!("{:?}; {first}", report.deliveries());
    }
    let round = report.rounds.first().context("there was no round")?;
    let or_nothing = |value: Option<f64>| value.unwrap_or(f64::NAN);
    if plan.phases.is_empty() {
        let idle = round.samples.last().and_then(|sample| sample.server_idle_cpu);
        return Ok(Sample::default()
            .with(Figure::RssBytesEach, or_nothing(round.server_bytes_per_connection()))
            .with(Figure::IdleCpuPercent, or_nothing(idle) * 100.0)
            .with(Figure::OpenedPerSecond, round.opened as f64 / round.opening_s));
    }
    Ok(deliveries_sample(round.bare_send_ns, &round.phases[1..]))
}

/// The medians of `phases`.
fn deliveries_sample(bare_send_ns: Option<f64>, phases: &[Phase]) -> Sample {
    let of = |figure: &dyn Fn(&Phase) -> Option<f64>| {
        median(phases.iter().filter_map(figure)).unwrap_or(f64::NAN)
    };
    let cpu_us =
        of(&|phase| Some(phase.server_cpu_s? * 1e6 / phase.deliveries.delivered.max(1) as f64));
    let bare_send_us = bare_send_ns.map_or(f64::NAN, |nanoseconds| nanoseconds / 1e3);
    Sample::default()
        .with(Figure::CpuUs, cpu_us)
        .with(Figure::BareSends, cpu_us / bare_send_us)
        .with(Figure::BareSendUs, bare_send_us)
        .with(Figure::FirstMs, of(&|phase| phase.first_arrival_ms))
        .with(Figure::LastMs, of(&|phase| phase.last_arrival_ms))
}

/// Publishes as fast as it goes to a channel that nobody listens to.
fn publish_sample(
    peer: Peer,
    server: &Server,
    pipeline: u32,
    seconds: f64,
) -> anyhow::Result<Sample> {
    let publication = peer.publication(server.admin, &"x".repeat(CONTENT_BYTES))?;
    let plan = Plan {
        connections: PUBLISHERS,
        pipeline,
        extent: Extent::Time {
            warm_up: Duration::from_secs_f64((seconds / 4.0).min(0.5)),
            measured: Duration::from_secs_f64(seconds),
        },
        server_process: Some(server.process()),
        ..Plan::new(server.admin)
    };
    let outcome = run_load(&plan, &publication)?;
    ensure!(outcome.errors.total() == 0, "{}", outcome.errors);
    let busy = outcome.client_cpu.as_secs_f64() / outcome.elapsed.as_secs_f64();
    Ok(Sample::default()
        .with(Figure::CpuUs, outcome.server_cpu_us_per_operation().unwrap_or(f64::NAN))
        .with(Figure::PerSecond, outcome.operations_per_second())
        .with(Figure::ClientBusy, busy * 100.0)
        .with(Figure::P50Ms, outcome.latency_us(0.5) / 1e3)
        .with(Figure::P99Ms, outcome.latency_us(0.99) / 1e3))
}

/// Prints the tables, writes them down, and fails when anything went wrong.
fn conclude(args: &CometArgs, scratch: &Path, report: &Report<'_>) -> anyhow::Result<()> {
    let markdown = report.markdown();
    println!("\n{markdown}");
    let root = workspace::root();
    let directory =
        if args.is_complete() { root.join("docs/benchmarks") } else { scratch.to_owned() };
    fs::create_dir_all(&directory)?;
    for (name, text) in [("comet.md", markdown), ("comet.json", report.json())] {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        println!("written to {}", path.strip_prefix(root).unwrap_or(&path).display());
    }
    if !report.failures.is_empty() {
        bail!("{} runs failed:\n{}", report.failures.len(), report.failures.join("\n"));
    }
    Ok(())
}

/// What to type to have this again. Paths are left out: they differ elsewhere.
fn command_line(args: &CometArgs) -> String {
    let icomet = if args.icomet.is_some() { " --icomet icomet-server" } else { "" };
    format!("cargo xtask bench comet{}{icomet}", args.scope.arguments())
}
