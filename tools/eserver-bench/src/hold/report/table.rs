//! A report as tables for people.

use std::fmt::Write;

use crate::hold::report::{HoldReport, Phase, Round, slope};

/// The whole report.
pub(super) fn of(report: &HoldReport) -> String {
    let mut out = String::new();
    write(report, &mut out).expect("a string takes whatever is written");
    out
}

fn write(report: &HoldReport, out: &mut String) -> std::fmt::Result {
    let HoldReport { profile, front, connections, channels, threads, .. } = report;
    writeln!(
        out,
        "{} connections ({profile}) to {front}, {} channels, {threads} descriptor tables",
        grouped(*connections),
        grouped(*channels),
    )?;
    if report.server_pid.is_none() {
        writeln!(out, "The server's process was not found, so its memory is not known: --pid")?;
    }
    for (round, number) in report.rounds.iter().zip(1..) {
        if report.rounds.len() > 1 {
            writeln!(out, "\nround {number}")?;
        }
        write_samples(round, out)?;
        write_phases(round, out)?;
        write_after(round, out)?;
    }
    write_verdict(report, out)
}

fn write_samples(round: &Round, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "\n{:>11}  {:>10} {:>10} {:>8}  {:>10} {:>8}  {:>11}  {:>8}  {:>10}",
        "connections",
        "server RSS",
        "PSS",
        "B/conn.",
        "kernel",
        "B/socket",
        "system used",
        "idle CPU",
        "client RSS"
    )?;
    for (index, sample) in round.samples.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| &round.samples[before]);
        let server =
            before.and_then(|before| slope(before, sample, |sample| sample.server_rss_bytes));
        let kernel = before.and_then(|before| slope(before, sample, |sample| sample.kernel_bytes));
        writeln!(
            out,
            "{:>11}  {:>10} {:>10} {:>8}  {:>10} {:>8}  {:>11}  {:>8}  {:>10}",
            grouped(sample.connections),
            megabytes(sample.server_rss_bytes),
            megabytes(sample.server_pss_bytes),
            number(server),
            megabytes(sample.kernel_bytes),
            number(kernel.map(|bytes| bytes / 2.0)),
            megabytes(sample.system_used_bytes),
            sample.server_idle_cpu.map_or("-".to_owned(), |cpu| format!("{:.2} %", cpu * 100.0)),
            megabytes(sample.client_rss_bytes),
        )?;
    }
    let rate = round.opened as f64 / round.opening_s.max(1e-9);
    writeln!(
        out,
        "\nopened     {} in {:.1} s, {} a second",
        grouped(round.opened),
        round.opening_s,
        grouped(rate as u64)
    )?;
    if let Some(subscribers) = round.subscribers {
        writeln!(out, "server     counts {} subscribers", grouped(subscribers))?;
    }
    if !round.before.is_faultless() {
        let (closed, refused) = (round.before.closed, round.before.refused);
        writeln!(
            out,
            "before     {closed} closed, {refused} refused before anything was published"
        )?;
    }
    Ok(())
}

fn write_phases(round: &Round, out: &mut String) -> std::fmt::Result {
    if round.phases.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:<13} {:>10} {:>10} {:>6} {:>6} {:>7} {:>9}  {:>9} {:>9}  {:>8} {:>8} {:>8} {:>8}",
        "published to",
        "delivered",
        "expected",
        "lost",
        "twice",
        "unorder",
        "server s",
        "first ms",
        "last ms",
        "p50 ms",
        "p99 ms",
        "p99.9",
        "max"
    )?;
    round.phases.iter().try_for_each(|phase| write_phase(phase, out))
}

fn write_phase(phase: &Phase, out: &mut String) -> std::fmt::Result {
    let deliveries = &phase.deliveries;
    let fixed = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
    let latency = |pick: fn(&super::Milliseconds) -> f64| fixed(phase.latency.as_ref().map(pick));
    writeln!(
        out,
        "{:<13} {:>10} {:>10} {:>6} {:>6} {:>7} {:>9}  {:>9} {:>9}  {:>8} {:>8} {:>8} {:>8}",
        phase.kind.name(),
        grouped(deliveries.delivered),
        grouped(deliveries.expected),
        deliveries.lost,
        deliveries.duplicated,
        deliveries.out_of_order,
        phase.server_cpu_s.map_or("-".to_owned(), |seconds| format!("{seconds:.2}")),
        fixed(phase.first_arrival_ms),
        fixed(phase.last_arrival_ms),
        latency(|latency| latency.p50),
        latency(|latency| latency.p99),
        latency(|latency| latency.p999),
        latency(|latency| latency.max),
    )?;
    let counts = [
        (phase.rejected, "publications rejected"),
        (deliveries.misdelivered, "messages that were not for whom they reached"),
        (deliveries.refused, "subscriptions refused"),
        (deliveries.closed, "connections closed by the server"),
        (deliveries.noops, "noops"),
    ];
    for (count, what) in counts.iter().filter(|(count, _)| *count > 0) {
        writeln!(out, "              {count} {what}")?;
    }
    Ok(())
}

fn write_after(round: &Round, out: &mut String) -> std::fmt::Result {
    writeln!(out)?;
    if let Some(bytes) = round.server_bytes_per_connection() {
        writeln!(out, "server     {bytes:.0} bytes for each connection")?;
    }
    if let Some(bytes) = round.client_bytes_per_connection() {
        writeln!(
            out,
            "client     {bytes:.0} bytes for each connection, the program itself shared out"
        )?;
    }
    if let (Some(bare_ns), Some(multiple)) = (round.bare_send_ns, round.broadcast_in_bare_sends()) {
        writeln!(
            out,
            "broadcast  had reached the last after {:.2} × the time of as many bare sends, {:.2} µs \
             each, and taken the server {:.2} × in CPU time",
            multiple.until_the_last,
            bare_ns / 1e3,
            multiple.cpu_time
        )?;
    }
    if let Some(after) = round.after {
        let (rss, limit) =
            (megabytes(Some(after.server_rss_bytes)), megabytes(Some(after.limit_bytes)));
        let waited = after.waited_s;
        match after.is_back() {
            true => writeln!(out, "after      {rss}, back where it was after {waited:.1} s")?,
            false => writeln!(out, "after      {rss} after {waited:.1} s, not back below {limit}")?,
        }
    }
    Ok(())
}

fn write_verdict(report: &HoldReport, out: &mut String) -> std::fmt::Result {
    if let Some(sentence) = &report.first_error {
        writeln!(out, "first      {sentence}")?;
    }
    let deliveries = report.deliveries();
    let expected = grouped(deliveries.expected);
    match (report.is_interrupted, report.is_faultless()) {
        (true, _) => writeln!(out, "verdict    interrupted"),
        (false, true) => writeln!(out, "verdict    nothing lost of {expected}"),
        (false, false) => {
            writeln!(out, "verdict    NOT in order: {} of {expected} lost", deliveries.lost)
        }
    }
}

/// A number with its thousands set apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn megabytes(bytes: Option<u64>) -> String {
    bytes.map_or("-".to_owned(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6))
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hold::report::tests::report;

    #[test]
    fn thousands_are_set_apart() {
        let expected = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in expected {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn the_verdict_is_the_last_line() {
        let last = |report: &HoldReport| of(report).lines().last().unwrap().to_owned();
        let mut report = report();
        assert_eq!(last(&report), "verdict    nothing lost of 2,000");
        assert!(of(&report).contains("the server 3.00 ×"), "{}", of(&report));
        report.rounds[0].phases[0].deliveries.lost = 1;
        assert_eq!(last(&report), "verdict    NOT in order: 1 of 2,000 lost");
        report.is_interrupted = true;
        assert_eq!(last(&report), "verdict    interrupted");
    }
}
