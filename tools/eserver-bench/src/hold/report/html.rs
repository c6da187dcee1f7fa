//! A report as one page: the tables as text and a chart, nothing from elsewhere.

use crate::hold::report::chart::{ChartLine, grown, memory_chart};
use crate::hold::report::{HoldReport, Sample};

/// What is drawn: a name, a color, and where the bytes stand.
type Kind = (&'static str, &'static str, fn(&Sample) -> Option<u64>);

const KINDS: [Kind; 4] = [
    ("server", "#c0392b", |sample| sample.server_rss_bytes),
    ("kernel", "#2980b9", |sample| sample.kernel_bytes),
    ("system in use", "#7f8c8d", |sample| sample.system_used_bytes),
    ("client", "#27ae60", |sample| sample.client_rss_bytes),
];

/// The page.
pub(super) fn of(report: &HoldReport) -> String {
    let samples: Vec<Sample> =
        report.rounds.iter().flat_map(|round| round.samples.clone()).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>eserver bench hold</title>\n<style>body{{font:14px sans-serif;margin:2em;\
         max-width:80em}}pre{{background:#f6f6f6;padding:1em;overflow:auto}}</style></head>\n\
         <body><h1>eserver bench hold</h1>\n<p>Memory, more than with nobody there, by \
         connections held.</p>\n{}\n<pre>{}</pre>\n</body></html>\n",
        chart(&samples),
        escaped(&report.to_table()),
    )
}

fn chart(samples: &[Sample]) -> String {
    let lines = KINDS.map(|(name, color, bytes)| ChartLine {
        name: name.to_owned(),
        color: color.to_owned(),
        // What it has grown by: the kernel and the system have a life before.
        points: grown(samples, bytes),
    });
    memory_chart(&lines)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hold::report::tests::report;

    #[test]
    fn the_page_stands_alone_and_escapes_what_the_server_said() {
        let mut report = report();
        report.first_error = Some("<script>".to_owned());
        let page = of(&report);
        assert!(page.contains("<svg") && page.contains("&lt;script&gt;"));
        for foreign in ["<script", "http:", "https:", "href", "src="] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }
}
