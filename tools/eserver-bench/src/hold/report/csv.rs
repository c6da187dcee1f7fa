//! A report's samples as comma-separated values.

use std::fmt::Write;

use crate::hold::report::HoldReport;

const NAMES: &str = "round,connections,server_rss_bytes,server_pss_bytes,server_idle_cpu,\
                     kernel_bytes,system_used_bytes,client_rss_bytes";

/// A line of names and a line for each sample; what is not known is empty.
pub(super) fn of(report: &HoldReport) -> String {
    let mut out = format!("{NAMES}\n");
    for (round, number) in report.rounds.iter().zip(1..) {
        for sample in &round.samples {
            let known =
                |bytes: Option<u64>| bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
            let cpu = sample.server_idle_cpu.map(|cpu| format!("{cpu:.5}")).unwrap_or_default();
            writeln!(
                out,
                "{number},{},{},{},{cpu},{},{},{}",
                sample.connections,
                known(sample.server_rss_bytes),
                known(sample.server_pss_bytes),
                known(sample.kernel_bytes),
                known(sample.system_used_bytes),
                known(sample.client_rss_bytes),
            )
            .expect("a string takes whatever is written");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hold::report::tests::report;

    #[test]
    fn each_line_has_as_many_values_as_there_are_names() {
        let mut report = report();
        report.rounds[0].samples[0].server_rss_bytes = None;
        let csv = of(&report);
        let counts: Vec<_> = csv.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(counts, [8; 3]);
        assert!(csv.contains("\n1,0,,9000000,0.00100,100000000,"), "{csv}");
    }
}
