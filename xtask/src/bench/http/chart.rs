//! The comparison with the servers of every day as a picture: [`svg`].

use std::fmt::Write;

use super::cases::CASES;
use super::results::Results;
use super::servers::Peer;
use crate::bench::report::thousands;

/// Measures of the picture, in pixels.
const WIDTH: u32 = 760;
const MARGIN: u32 = 24;
const NAMES_WIDTH: u32 = 130;
const FIGURES_WIDTH: u32 = 80;
const BAR_HEIGHT: u32 = 20;
const BAR_STEP: u32 = 28;
const TITLE_HEIGHT: u32 = 36;
const GROUP_GAP: u32 = 20;

/// Answers per second as bars, a group for each case that all servers meet.
pub(super) fn svg(peers: &[Peer], results: &Results) -> String {
    let mut body = String::new();
    let mut y = MARGIN;
    for case in CASES.iter().filter(|case| case.is_everyday) {
        let mut rates: Vec<(Peer, f64)> = peers
            .iter()
            .filter(|peer| !peer.is_variant())
            .filter_map(|&peer| Some((peer, results.median(case.name, peer)?.requests_per_second)))
            .collect();
        rates.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let Some(&(_, most)) = rates.first() else { continue };
        let heading = format!("{}: answers per second of one core", case.heading());
        text(&mut body, (MARGIN, y + BAR_HEIGHT - 6), r#"class="title""#, &heading);
        y += TITLE_HEIGHT;
        for (peer, rate) in rates {
            write_bar(&mut body, y, peer, rate, rate / most);
            y += BAR_STEP;
        }
        y += GROUP_GAP;
    }
    let height = y + MARGIN - GROUP_GAP.min(y);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="14">
<style>.title {{ font-weight: 600; font-size: 15px }} text {{ fill: #222 }} .bar {{ fill: #9db4c8 }} .own {{ fill: #d9622b }}</style>
<rect width="100%" height="100%" fill="#fff"/>
{body}</svg>
"##
    )
}

fn write_bar(body: &mut String, y: u32, peer: Peer, rate: f64, share: f64) {
    let names_end = MARGIN + NAMES_WIDTH;
    let longest = WIDTH - names_end - FIGURES_WIDTH - MARGIN;
    let length = (f64::from(longest) * share).max(1.0);
    let baseline = y + BAR_HEIGHT - 5;
    let class = if peer == Peer::Eserver { "own" } else { "bar" };
    text(body, (names_end - 10, baseline), r#"text-anchor="end""#, peer.name());
    line(
        body,
        format_args!(
            r#"<rect class="{class}" x="{names_end}" y="{y}" width="{length:.1}" height="{BAR_HEIGHT}" rx="2"/>"#
        ),
    );
    let figure_at = names_end + length as u32 + 8;
    text(body, (figure_at, baseline), "", &thousands(rate));
}

/// A line of text; nothing in it would have to be escaped.
fn text(body: &mut String, (x, y): (u32, u32), attributes: &str, words: &str) {
    let space = if attributes.is_empty() { "" } else { " " };
    line(body, format_args!(r#"<text x="{x}" y="{y}"{space}{attributes}>{words}</text>"#));
}

fn line(body: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(body, "{text}").expect("a string takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::sample;
    use super::*;

    #[test]
    fn every_server_has_a_bar_and_the_fastest_comes_first() {
        let mut results = Results::default();
        for (peer, cpu_us) in [(Peer::Gevent, 100.0), (Peer::Eserver, 5.0), (Peer::Floor, 4.0)] {
            results.add(1, "c64", peer, sample(cpu_us));
        }
        results.add(1, "reconnect", Peer::FloorDeferred, sample(1.0));
        let svg = svg(&[Peer::Gevent, Peer::Eserver, Peer::Floor, Peer::FloorDeferred], &results);
        assert_eq!(svg.matches("<rect class=").count(), 3);
        assert_eq!(svg.matches(r#"class="own""#).count(), 1);
        let place = |words: &str| svg.find(&format!(">{words}</text>")).expect(words);
        assert!(place("floor") < place("eserver") && place("eserver") < place("gevent"));
        assert!(place("250,000") < place("10,000"));
        assert!(!svg.contains("deferred"));
    }

    #[test]
    fn nothing_measured_is_an_empty_picture() {
        assert!(svg(&[Peer::Eserver], &Results::default()).ends_with("</svg>\n"));
    }
}
