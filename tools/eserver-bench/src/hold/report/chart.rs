//! [`memory_chart`]: memory by connections as a drawing.

use std::fmt::Write;

use crate::hold::report::Sample;
use crate::hold::report::table::grouped;

/// Measures of the drawing, in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const MARGIN: f64 = 60.0;

/// A line of the drawing.
#[derive(Debug, Clone, PartialEq)]
pub struct ChartLine {
    /// What it is called, in characters that need not be escaped.
    pub name: String,
    /// Its color, as CSS has it.
    pub color: String,
    /// Connections, and the bytes there were with so many.
    pub points: Vec<(u64, u64)>,
}

/// What a kind of memory has grown by since the first sample, by connections.
#[must_use]
pub fn grown(samples: &[Sample], bytes: impl Fn(&Sample) -> Option<u64>) -> Vec<(u64, u64)> {
    let Some(empty) = samples.first().and_then(&bytes) else { return Vec::new() };
    let seen = samples.iter().filter_map(|sample| Some((sample.connections, bytes(sample)?)));
    seen.map(|(connections, bytes)| (connections, bytes.saturating_sub(empty))).collect()
}

/// Lines from nothing to the most, as an element `svg` to stand in a page.
#[must_use]
pub fn memory_chart(lines: &[ChartLine]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let connections_max = points().map(|&(connections, _)| connections).max().unwrap_or(0).max(1);
    let bytes_max = points().map(|&(_, bytes)| bytes).max().unwrap_or(0).max(1);
    let x = |connections: u64| {
        MARGIN + (WIDTH - 2.0 * MARGIN) * connections as f64 / connections_max as f64
    };
    let y =
        |bytes: u64| HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * bytes as f64 / bytes_max as f64;
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" role=\"img\" \
         aria-label=\"memory by connections\" font-size=\"12\" font-family=\"sans-serif\">\n\
         <path d=\"M{MARGIN} {MARGIN}V{bottom}H{right}\" fill=\"none\" stroke=\"#333\"/>\
         <text x=\"{right}\" y=\"{below}\" text-anchor=\"end\">{connections} connections</text>\
         <text x=\"{MARGIN}\" y=\"{above}\">{megabytes:.0} MB</text>\n",
        bottom = HEIGHT - MARGIN,
        right = WIDTH - MARGIN,
        below = HEIGHT - MARGIN + 20.0,
        above = MARGIN - 8.0,
        connections = grouped(connections_max),
        megabytes = bytes_max as f64 / 1e6,
    );
    for (index, ChartLine { name, color, points }) in lines.iter().enumerate() {
        let points: Vec<String> = points
            .iter()
            .map(|&(connections, bytes)| format!("{:.1},{:.1}", x(connections), y(bytes)))
            .collect();
        let points = points.join(" ");
        let (left, top) = (MARGIN + 12.0, MARGIN + 14.0 + 16.0 * index as f64);
        writeln!(
            out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\
             <text x=\"{left}\" y=\"{top}\" fill=\"{color}\">{name}</text>"
        )
        .expect("a string takes whatever is written");
    }
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hold::report::tests::report;

    #[test]
    fn lines_begin_at_nothing_and_the_greatest_ends_at_the_top() {
        let samples = &report().rounds[0].samples;
        let line = |name: &str, bytes: fn(&Sample) -> Option<u64>| ChartLine {
            name: name.to_owned(),
            color: "#333".to_owned(),
            points: grown(samples, bytes),
        };
        let chart = memory_chart(&[
            line("server", |sample| sample.server_rss_bytes),
            line("system", |sample| sample.system_used_bytes),
        ]);
        assert!(chart.contains("points=\"60.0,260.0 660.0,60.0\""), "{chart}");
        assert!(chart.contains(">1,000 connections<"), "{chart}");
        assert!(memory_chart(&[]).ends_with("</svg>"));
    }
}
