//! `ab`, the client that everybody has, as a source of load.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, ensure};
use eserver_bench::process;

use super::results::Sample;

/// Requests for each second that a run shall take about.
const REQUESTS_PER_SECOND: f64 = 20_000.0;

/// Asks for `/` by so many connections at a time, one per request.
pub(super) fn run(
    connections: usize,
    seconds: f64,
    address: SocketAddr,
    server: u32,
) -> anyhow::Result<Sample> {
    let requests = (REQUESTS_PER_SECOND * seconds).max(connections as f64) as u64;
    let before = process::cpu_time(server)?;
    let output = Command::new("ab")
        .args(["-q", "-c", &connections.to_string(), "-n", &requests.to_string()])
        .arg(format!("http://{address}/"))
        .output()
        .context("cannot run ab")?;
    let cpu = process::cpu_time(server)?.saturating_sub(before);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ab ended with {}: {complaint}", output.status);
    let printed = String::from_utf8_lossy(&output.stdout);
    let answered = figure(&printed, "Complete requests:")?;
    let failed = figure(&printed, "Failed requests:")?;
    ensure!(
        failed == 0.0 && answered == requests as f64,
        "of {requests} requests {answered} were answered and {failed} failed"
    );
    Ok(Sample {
        requests_per_second: figure(&printed, "Requests per second:")?,
        server_cpu_us: cpu.as_secs_f64() * 1e6 / answered,
        client_busy: f64::NAN, // it computes elsewhere
        p50_us: figure(&printed, "  50%")? * 1e3,
        p99_us: figure(&printed, "  99%")? * 1e3,
        rss_bytes: f64::NAN,
    })
}

/// The number behind `label` at the beginning of a line.
fn figure(printed: &str, label: &str) -> anyhow::Result<f64> {
    let rest = printed.lines().find_map(|line| line.strip_prefix(label));
    let number = rest.and_then(|rest| rest.split_ascii_whitespace().next());
    let number = number.with_context(|| format!("ab printed no line {label}"))?;
    number.parse().with_context(|| format!("{label} {number} is no figure"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
Complete requests:      10000
Failed requests:        3
   (Connect: 0, Receive: 0, Length: 3, Exceptions: 0)
Requests per second:    26117.21 [#/sec] (mean)

Percentage of the requests served within a certain time (ms)
  50%     71
  99%    105
 100%    111 (longest request)
";

    #[test]
    fn figures_are_found_by_their_labels() {
        for (label, expected) in [
            ("Complete requests:", 10_000.0),
            ("Failed requests:", 3.0),
            ("Requests per second:", 26_117.21),
            ("  50%", 71.0),
            ("  99%", 105.0),
        ] {
            assert_eq!(figure(PRINTED, label).unwrap(), expected);
        }
        assert!(figure(PRINTED, "Time taken for tests:").is_err());
        assert!(figure(PRINTED, "   (Connect:").is_err());
    }
}
