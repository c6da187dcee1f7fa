//! `cargo xtask bench drain`: how fast puts become rows, beside what people do without a drain.
//!
//! Each [`database`] sees every one of the [`ways`] in turn; what eserver does is done on a
//! [`site`], what PHP does by the scripts beside [`php`]. Then it is killed, and the drain has to
//! catch up ([`outage`]) with the [`arrivals`]. [`cpu`] looks at what all this costs.

mod arrivals;
mod cpu;
mod database;
mod outage;
mod php;
mod report;
mod results;
mod site;
mod targets;
mod ways;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};

use self::database::{Database, Engine};
use self::report::Report;
use self::results::Results;
use self::targets::verdicts;
use self::ways::{Extents, Way};
use super::machine::{Machine, version};
use super::servers::{Premises, build_eserver};
use crate::{install, workspace};

/// Packages of the databases and of what our peers are made of.
const PACKAGES: &[&str] = &[
    "mariadb-server",
    "php-cli",
    "php-mysql",
    "php-pgsql",
    "php-redis",
    "php-sqlite3",
    "postgresql",
    "redis-server",
];

/// What `cargo xtask bench drain` takes.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// One short round, to see that everything runs; publishes nothing
    #[arg(long)]
    quick: bool,

    /// Only these databases; publishes nothing
    #[arg(long, value_name = "DATABASE", value_delimiter = ',')]
    only: Vec<Engine>,

    /// Rows of the full queue and of the engine by itself [default: 300000, with --quick 30000]
    #[arg(long)]
    rows: Option<u64>,

    /// Measured seconds of every other run [default: 3, with --quick 0.5]
    #[arg(long)]
    seconds: Option<f64>,

    /// How often each way is measured; medians are reported [default: 3, with --quick 1]
    #[arg(long)]
    rounds: Option<usize>,

    /// Messages per second that arrive while a database is away; 0 leaves the outage out
    #[arg(long, default_value_t = 5_000)]
    arrivals: u64,

    /// Seconds that a database is away [default: 10, with --quick 2]
    #[arg(long)]
    outage_seconds: Option<u64>,

    /// A binary `eserver` to measure instead of building one
    #[arg(long, value_name = "FILE")]
    eserver: Option<PathBuf>,

    /// A further setting for eserver; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// A further line for the drain, such as "batch_max = 5000"; may be repeated
    #[arg(long, value_name = "LINE")]
    drain: Vec<String>,
}

impl DrainArgs {
    fn rows(&self) -> u64 {
        self.rows.unwrap_or(if self.quick { 30_000 } else { 300_000 })
    }

    fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick { 0.5 } else { 3.0 })
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    fn away(&self) -> Duration {
        Duration::from_secs(self.outage_seconds.unwrap_or(if self.quick { 2 } else { 10 }))
    }

    fn engines(&self) -> Vec<Engine> {
        let is_wanted = |engine: &&Engine| self.only.is_empty() || self.only.contains(engine);
        Engine::value_variants().iter().filter(is_wanted).copied().collect()
    }

    /// Whether every figure is measured that the published page shows, and as users get it.
    fn is_complete(&self) -> bool {
        !self.quick
            && self.only.is_empty()
            && self.set.is_empty()
            && self.drain.is_empty()
            && self.arrivals > 0
            && self.rounds() >= 3
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            (1_000..=100_000_000).contains(&self.rows()),
            "a run takes 1,000 to 100,000,000 rows"
        );
        ensure!(
            self.seconds() > 0.0 && self.seconds() <= 60.0,
            "a run takes more than 0 and at most 60 seconds"
        );
        ensure!(self.rounds() > 0, "there is at least one round");
        ensure!(
            self.arrivals == 0 || (100..=50_000).contains(&self.arrivals),
            "100 to 50,000 messages arrive per second, or none"
        );
        Ok(())
    }
}

/// Runs all that is asked for, prints it, and writes it down.
pub(super) fn run(args: &DrainArgs) -> anyhow::Result<()> {
    args.check()?;
    let premises = prepare(args)?;
    let extents = Extents {
        premises: &premises,
        rows: args.rows(),
        seconds: args.seconds(),
        drain_settings: &args.drain,
    };
    let (load_before, commit_us_before) =
        (load_average()?, Machine::survey(&premises.scratch)?.commit_us);
    let engines = args.engines();
    let mut results = Results::default();
    let mut failures = Vec::new();
    let mut versions = vec![
        version(&premises.eserver.display().to_string(), "--version"),
        version("redis-server", "--version"),
        first_line(&version("php", "--version")),
    ];
    for &engine in &engines {
        let mut database = Database::start(engine, &premises.scratch)?;
        versions.push(database.version()?);
        for round in 1..=args.rounds() {
            println!("\n{}, round {round} of {}", engine.name(), args.rounds());
            for way in in_turn(round) {
                match extents.measure(way, &mut database) {
                    Ok(sample) => {
                        println!("  {:<46}{:>10.0} rows/s", way.name(), sample.rows_per_second);
                        results.add(round, engine, way, sample);
                    }
                    Err(error) => failures.push(complain(engine, way.name(), &error)),
                }
            }
        }
        if engine.is_server() && args.arrivals > 0 {
            let (rate, away) = (args.arrivals, args.away());
            println!("\n{}, away for {} s", engine.name(), away.as_secs());
            match outage::measure(&mut database, &premises, &args.drain, rate, away) {
                Ok(outage) => {
                    println!("  {:.1} × the arrivals: {outage:?}", outage.ratio());
                    results.add_outage(engine, outage);
                }
                Err(error) => failures.push(complain(engine, "the outage", &error)),
            }
        }
    }
    let report = Report {
        machine: Machine::survey(&premises.scratch)?,
        versions,
        load_before,
        commit_us_before,
        command: command_line(args),
        rows: args.rows(),
        seconds: args.seconds(),
        rounds: args.rounds(),
        engines: &engines,
        results: &results,
        verdicts: verdicts(&engines, &results),
        failures: &failures,
    };
    conclude(&report, args.is_complete(), &premises)
}

/// Installs and builds what takes part.
fn prepare(args: &DrainArgs) -> anyhow::Result<Premises> {
    install::ensure(PACKAGES)?;
    let eserver = match &args.eserver {
        // Servers are started in directories of their own.
        Some(path) => path.canonicalize().with_context(|| path.display().to_string())?,
        None => build_eserver()?,
    };
    let scratch = workspace::root().join("target/bench");
    fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    Ok(Premises { eserver, eserver_settings: args.set.clone(), original: None, scratch })
}

/// The ways in an order that changes from round to round, so that none always comes first.
fn in_turn(round: usize) -> Vec<Way> {
    let mut ways = Way::ALL.to_vec();
    if round.is_multiple_of(2) {
        ways.reverse();
    }
    ways
}

fn complain(engine: Engine, what: &str, error: &anyhow::Error) -> String {
    let complaint = format!("{}, {what}: {error:#}", engine.name());
    println!("  FAILED {complaint}");
    complaint
}

/// Prints the tables, writes them down, and fails when anything went wrong.
fn conclude(report: &Report<'_>, publish: bool, premises: &Premises) -> anyhow::Result<()> {
    let markdown = report.markdown();
    println!("\n{markdown}");
    let root = workspace::root();
    let directory = if publish { root.join("docs/benchmarks") } else { premises.scratch.clone() };
    fs::create_dir_all(&directory)?;
    for (name, text) in [("drain.md", markdown), ("drain.json", report.json())] {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        println!("written to {}", workspace::shown(&path));
    }
    if !report.failures.is_empty() {
        bail!("{} runs failed:\n{}", report.failures.len(), report.failures.join("\n"));
    }
    Ok(())
}

/// What to type to have this again. Paths are left out: they differ elsewhere.
fn command_line(args: &DrainArgs) -> String {
    let mut command = "cargo xtask bench drain".to_owned();
    if args.quick {
        command += " --quick";
    }
    if !args.only.is_empty() {
        let names = args.only.iter().map(|engine| engine.name().to_lowercase());
        let names: Vec<_> = names.collect();
        command += &format!(" --only {}", names.join(","));
    }
    let numbers = [
        ("rows", args.rows.map(|rows| rows.to_string())),
        ("seconds", args.seconds.map(|seconds| seconds.to_string())),
        ("rounds", args.rounds.map(|rounds| rounds.to_string())),
        ("arrivals", (args.arrivals != 5_000).then(|| args.arrivals.to_string())),
        ("outage-seconds", args.outage_seconds.map(|seconds| seconds.to_string())),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            command += &format!(" --{name} {value}");
        }
    }
    for (name, values) in [("set", &args.set), ("drain", &args.drain)] {
        for value in values {
            command += &format!(" --{name} '{value}'");
        }
    }
    command
}

/// Of the last minute.
fn load_average() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let average = text.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
    average.with_context(|| format!("/proc/loadavg reads otherwise than known: {text}"))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
