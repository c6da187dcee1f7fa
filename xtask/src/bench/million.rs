//! `cargo xtask bench million`: a crowd of subscribers in one server, by each transport, as
//! `eserver bench hold` sees it.
//!
//! A hundred thousand unless it is said otherwise; a million takes 10 GB of memory. Server and client
//! run under the same low limit of descriptors.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use eserver_bench::hold::{ChartLine, HoldReport, grown, memory_chart};

use super::machine::Machine;
use super::report::thousands;
use super::servers::build_eserver;
use crate::workspace::root;

#[derive(Debug, Args)]
pub(crate) struct MillionArgs {
    /// Connections to hold
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    connections: u64,
    /// Seconds to keep them before anything is published
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    hold: u64,
    /// Descriptors that a table may have, of the server and of the client
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    descriptors: u64,
    /// The binary to measure instead of a new release build
    #[arg(long, value_name = "FILE")]
    eserver: Option<PathBuf>,
    /// Write the page here instead of docs/benchmarks/million.md
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What is measured, what it is called, and the color of its line.
const PROFILES: [(&str, &str, &str); 3] = [
    ("eserver", "Long polls", "#c0392b"),
    ("sse", "Server-sent events", "#2980b9"),
    ("websocket", "WebSocket", "#27ae60"),
];

/// How long the client rests after it has taken what was there, in milliseconds. It is one client for
/// all, on the server's machine: waking it is not what the server is measured for.
const COALESCE_MS: &str = "5";

/// How a drawing begins that is a file of its own, and shows on dark pages as well.
const SVG_WHITE: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" style=\"background:#fff\" ";

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures and writes the page.
///
/// # Errors
/// When the server does not start, or something is lost.
pub(crate) fn run(args: &MillionArgs) -> anyhow::Result<()> {
    let binary = match &args.eserver {
        Some(binary) => binary.clone(),
        None => build_eserver()?,
    };
    let count = args.connections;
    let machine = Machine::survey(&std::env::temp_dir())?;
    let output = args.output.clone();
    let output = output.unwrap_or_else(|| root().join("docs/benchmarks/million.md"));
    let picture = output.with_extension("svg");
    let mut page = format!(
        "# {} subscribers in one process\n\nMade by `cargo xtask bench million --connections {count} \
         --hold {}`.\n\n{}\n- Server and client may have {} descriptors in a table (`prlimit \
         --nofile`); no setting of the kernel was changed. Each subscriber is on a channel of its \
         own. What the columns mean is in [bench.md](../bench.md).\n- Idle CPU is of one core, while \
         nothing happens. A poll that is answered polls again at once: its broadcast has that in \
         it.\n- The client rests for {COALESCE_MS} ms after it has taken what was there: arrivals are \
         late by as much.\n\n\
         ![Resident memory of the server, less that of the empty one, by subscribers]({})\n",
        thousands(count as f64),
        args.hold,
        format_args!(
            "- Made on {}: {} cores ({}), {} MiB of memory, {}",
            machine.date,
            machine.cores,
            machine.processor,
            machine.memory_mebibytes,
            machine.kernel
        ),
        args.descriptors,
        picture.file_name().unwrap_or_default().display(),
    );
    let mut lines = Vec::new();
    for (profile, title, color) in PROFILES {
        println!("== {title}");
        let report = hold(&binary, profile, args)?;
        let table = report.to_table();
        println!("{table}");
        page.push_str(&format!("\n## {title}\n\n```\n{}\n```\n", table.trim()));
        lines.push(ChartLine {
            name: title.to_owned(),
            color: color.to_owned(),
            points: grown(&report.rounds[0].samples, |sample| sample.server_rss_bytes),
        });
    }
    let chart = memory_chart(&lines).replacen("<svg ", SVG_WHITE, 1);
    for (path, text) in [(&output, page), (&picture, chart)] {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// Starts a server, holds the crowd, and gives the report.
fn hold(binary: &Path, profile: &str, args: &MillionArgs) -> anyhow::Result<HoldReport> {
    let home = tempfile::tempdir()?;
    let messages = home.path().join("messages");
    let limit = format!("--nofile={}", args.descriptors);
    let mut server = Command::new("prlimit");
    server.arg(&limit).arg(binary).arg("serve").arg("--data-dir").arg(home.path().join("data"));
    for setting in [
        "queue.listen=127.0.0.1:0".to_owned(),
        "comet.listen=127.0.0.1:0".to_owned(),
        "admin.listen=127.0.0.1:0".to_owned(),
        "comet.poll_timeout_s=14400".to_owned(),
        // Those who publish are connections, too.
        format!("limits.connections_max={}", args.connections + 1_000),
        format!("comet.channels_max={}", args.connections),
    ] {
        server.arg("--set").arg(setting);
    }
    let output = File::create(&messages)?;
    let mut server =
        server.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
    let report = (|| {
        let (public, admin) = addresses(&messages)?;
        let mut client = Command::new("prlimit");
        client.arg(&limit).arg(binary).args(["bench", "hold", "--json", "--profile", profile]);
        client.args(["--front", &public, "--admin", &admin, "--settle", "5", "--timeout", "60"]);
        client.args(["--coalesce", COALESCE_MS, "--memory-timeout", "90"]);
        client.args(["--connections", &args.connections.to_string()]);
        client.args(["--hold", &args.hold.to_string(), "--pid", &server.id().to_string()]);
        let output = client.stderr(Stdio::inherit()).output()?;
        let text = String::from_utf8(output.stdout)?;
        ensure!(output.status.success(), "something went wrong:\n{text}");
        let report: HoldReport = serde_json::from_str(&text)?;
        Ok(HoldReport { front: "the public port".to_owned(), ..report })
    })();
    server.kill()?;
    server.wait()?;
    report
}

/// Where the server says that it listens.
fn addresses(messages: &Path) -> anyhow::Result<(String, String)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(messages)?;
        let address = |service: &str| {
            let line = text.lines().find(|line| line.starts_with(service))?;
            let (_, rest) = line.split_once("listening on ")?;
            rest.split_once(' ').map(|(address, _)| address.to_owned())
        };
        if let (Some(public), Some(admin), true) =
            (address("public "), address("admin "), text.contains("\ndata "))
        {
            return Ok((public, admin));
        }
        if Instant::now() >= deadline {
            bail!("the server does not start:\n{text}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
