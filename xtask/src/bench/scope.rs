//! [`Scope`]: how much of a benchmark is run, the same words for each.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;

/// What all benchmarks with cases take.
#[derive(Debug, Clone, Args)]
pub(super) struct Scope {
    /// One short round, to see that everything runs; publishes nothing
    #[arg(long)]
    quick: bool,

    /// Only these cases, of which a wrong name shows the list; publishes nothing
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,

    /// Measured seconds of each run [default: 3, with --quick 0.5]
    #[arg(long)]
    seconds: Option<f64>,

    /// How often each server meets each case; medians are reported [default: 3, with --quick 1]
    #[arg(long)]
    rounds: Option<usize>,

    /// A binary `eserver` to measure instead of building one
    #[arg(long, value_name = "FILE")]
    pub(super) eserver: Option<PathBuf>,
}

impl Scope {
    pub(super) fn is_quick(&self) -> bool {
        self.quick
    }

    pub(super) fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick { 0.5 } else { 3.0 })
    }

    pub(super) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// Whether it is worth publishing: everything, and often enough.
    pub(super) fn is_complete(&self) -> bool {
        !self.quick && self.only.is_empty() && self.rounds() >= 3
    }

    pub(super) fn wants_case(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// # Errors
    /// What makes no sense, with the names of the `cases` there are.
    pub(super) fn check<'n>(&self, cases: impl Iterator<Item = &'n str>) -> anyhow::Result<()> {
        let cases: Vec<&str> = cases.collect();
        for name in &self.only {
            let is_known = cases.contains(&name.as_str());
            ensure!(is_known, "there is no case {name}; there are {}", cases.join(", "));
        }
        ensure!(
            self.seconds() > 0.0 && self.seconds() <= 600.0,
            "a run takes more than 0 and at most 600 seconds"
        );
        ensure!(self.rounds() > 0, "there is at least one round");
        Ok(())
    }

    /// What has to be typed to have the same again, with a space in front of each word. Paths are
    /// left out: they differ elsewhere.
    pub(super) fn arguments(&self) -> String {
        let mut words = String::new();
        if self.quick {
            words += " --quick";
        }
        if !self.only.is_empty() {
            words += &format!(" --only {}", self.only.join(","));
        }
        if let Some(seconds) = self.seconds {
            words += &format!(" --seconds {seconds}");
        }
        if let Some(rounds) = self.rounds {
            words += &format!(" --rounds {rounds}");
        }
        words
    }
}

/// The servers in an order that changes from round to round, so that none always comes first.
pub(super) fn in_turn<P: Clone>(peers: &[P], round: usize) -> Vec<P> {
    let mut peers = peers.to_vec();
    if round.is_multiple_of(2) {
        peers.reverse();
    }
    peers
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        scope: Scope,
    }

    fn scope(words: &str) -> Scope {
        Command::parse_from(std::iter::once("bench").chain(words.split_whitespace())).scope
    }

    #[test]
    fn what_is_published_is_whole() {
        assert!(scope("").is_complete());
        for words in ["--quick", "--only a", "--rounds 2"] {
            assert!(!scope(words).is_complete(), "{words}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_the_rest_can_be_typed_again() {
        let cases = || ["a", "b"].into_iter();
        let refused = scope("--only a,c").check(cases()).unwrap_err();
        assert_eq!(refused.to_string(), "there is no case c; there are a, b");
        for words in ["--seconds 0", "--seconds 601", "--rounds 0"] {
            assert!(scope(words).check(cases()).is_err(), "{words}");
        }
        let words = " --quick --only a,b --seconds 1.5 --rounds 2";
        scope(words).check(cases()).unwrap();
        assert_eq!(scope(words).arguments(), words);
    }

    #[test]
    fn each_server_is_first_in_turn() {
        assert_eq!([in_turn(&[1, 2], 1), in_turn(&[1, 2], 2)], [[1, 2], [2, 1]]);
    }
}
