//! `eserver doctor`: what this machine has to have for so many connections.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use eserver_doctor::{Facts, MYTHS_TOLD, Report, Target, examine, sysctl_file};

use crate::exit::{Exit, OrExit};

/// `eserver doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct DoctorArgs {
    /// Connections to be held at once
    #[arg(long, value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    connections: u64,
    /// New connections per second [default: N, at most 20000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    connect_rate: Option<u64>,
    /// The clients are on this machine, too, as those of `eserver bench hold` are
    #[arg(long)]
    with_clients: bool,
    /// All connections share one table of descriptors (`private_fd_tables = "off"`, or a port that is
    /// not the public one)
    #[arg(long)]
    one_table: bool,
    /// Print facts and findings as JSON
    #[arg(long)]
    json: bool,
    /// Write what has to change as a file for /etc/sysctl.d, which must not be there yet
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Tell what is true of advice that is found everywhere, whether this machine took it or not
    #[arg(long, conflicts_with_all = ["json", "write"])]
    myths: bool,
}

const HELP: &str = "\
Changes nothing but the file it is told to write. The limits are those of a running `eserver serve`
that systemd has started, or else those of this shell. What is on the web and does harm
(tcp_tw_recycle, tcp_mem in bytes, no timestamps, …) is named if this machine has it.

Exit codes:
  0   there is enough of everything to hold them
  1   there is not
  64  the command line was not understood
  73  the file is there already, or cannot be written

Examples:
  eserver doctor
  eserver doctor --connections 1000000
  eserver doctor --connections 1000000 --connect-rate 50000 --with-clients
  eserver doctor --connections 1000000 --write eserver-sysctl.conf
  eserver doctor --myths";

/// Looks at this machine.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let mut out = std::io::stdout().lock();
    if args.myths {
        out.write_all(MYTHS_TOLD.as_bytes())?;
        return Ok(Exit::Ok);
    }
    let usual = Target::new(args.connections);
    let target = Target {
        newcomers_per_s: args.connect_rate.unwrap_or(usual.newcomers_per_s),
        with_clients: args.with_clients,
        private_tables: !args.one_table,
        ..usual
    };
    let facts = Facts::read();
    let findings = examine(&facts, &target);
    let report = Report { facts: &facts, target: &target, findings: &findings };
    if args.json {
        let json = serde_json::json!({
            "connections": target.connections,
            "newcomers_per_s": target.newcomers_per_s,
            "enough": report.is_enough(),
            "findings": &findings,
            "facts": &facts,
        });
        writeln!(out, "{json:#}")?;
    } else {
        write!(out, "{report}")?;
    }
    out.flush()?;
    if let Some(path) = &args.write {
        write(path, sysctl_file(&findings))?;
    }
    Ok(if report.is_enough() { Exit::Ok } else { Exit::Failed })
}

/// Writes the file, which must not be there: what somebody has thought about is not overwritten.
fn write(path: &Path, text: Option<String>) -> anyhow::Result<()> {
    let Some(text) = text else {
        eprintln!("note: no setting has to change, so there is no file to write");
        return Ok(());
    };
    let shown = path.display();
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {shown}"))
        .or_exit(Exit::CannotCreate)?;
    eprintln!("note: wrote {shown}; `sysctl -p {shown}` applies it, in /etc/sysctl.d it stays");
    Ok(())
}
