//! [`Report`]: the findings for a person, in lines of 100 columns at most.

use std::fmt;

use crate::amount::count;
use crate::facts::Facts;
use crate::finding::{Finding, Purpose, Verdict};
use crate::target::Target;

/// Columns of a line, at most; a command that is longer keeps its line.
const COLUMNS: usize = 100;

/// Columns of a verdict.
const VERDICT_COLUMNS: usize = 10;

/// What is to be told; shows as text.
#[derive(Debug, Clone, Copy)]
pub struct Report<'f> {
    /// The machine.
    pub facts: &'f Facts,
    /// What is wanted of it.
    pub target: &'f Target,
    /// What was found.
    pub findings: &'f [Finding],
}

impl Report<'_> {
    /// Whether so many connections can be held. What only makes them slower does not count, nor what
    /// cannot be told.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict != Verdict::NotEnough)
    }

    /// One group of findings under its heading, if there are any.
    fn section(
        &self,
        formatter: &mut fmt::Formatter<'_>,
        heading: &str,
        purpose: Purpose,
    ) -> fmt::Result {
        let mut found = self.findings.iter().filter(|one| one.purpose == purpose).peekable();
        if found.peek().is_some() {
            writeln!(formatter, "\n{heading}")?;
        }
        let name_columns = self.findings.iter().map(|one| one.name.len()).max().unwrap_or(0);
        let indent = 2 + VERDICT_COLUMNS + 2 + name_columns + 2;
        for finding in found {
            let verdict = word(finding.verdict);
            write!(formatter, "  {verdict:VERDICT_COLUMNS$}  {:name_columns$}  ", finding.name)?;
            let lines = wrap(&finding.sentence, COLUMNS.saturating_sub(indent).max(30));
            for (number, line) in lines.iter().enumerate() {
                let indent = if number == 0 { 0 } else { indent };
                writeln!(formatter, "{:indent$}{line}", "")?;
            }
        }
        Ok(())
    }

    /// What is to be typed, each once.
    fn commands(
        &self,
        formatter: &mut fmt::Formatter<'_>,
        heading: &str,
        for_what: impl Fn(Verdict) -> bool,
        told: &mut Vec<String>,
    ) -> fmt::Result {
        let mut heading = Some(heading);
        for finding in self.findings.iter().filter(|one| for_what(one.verdict)) {
            for command in &finding.commands {
                // Two rules may want the same setting; the first one counts.
                let what = command.split('=').next().unwrap_or_default().to_owned();
                if told.contains(&what) {
                    continue;
                }
                told.push(what);
                if let Some(heading) = heading.take() {
                    writeln!(formatter, "\n{heading}")?;
                }
                writeln!(formatter, "  {command}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = count(self.target.connections);
        let whose = match &self.facts.process.service {
            Some((number, unit)) => format!("as {unit} finds it (process {number})"),
            None => "as a server finds it that is started from here".to_owned(),
        };
        writeln!(formatter, "{connections} connections on this machine, {whose}.")?;
        self.section(formatter, "To hold them:", Purpose::Hold)?;
        let newcomers = count(self.target.newcomers_per_s);
        let heading = format!("To let {newcomers} come in a second:");
        self.section(formatter, &heading, Purpose::Come)?;
        self.section(formatter, "Nice to have:", Purpose::Comfort)?;
        self.section(formatter, "Advice that was taken here, and does harm:", Purpose::Myth)?;
        let mut told = Vec::new();
        let needed = |verdict| verdict == Verdict::NotEnough;
        self.commands(formatter, "What is needed, as root:", needed, &mut told)?;
        let better = |verdict| matches!(verdict, Verdict::Slower | Verdict::Harmful);
        self.commands(formatter, "Not needed, but better:", better, &mut told)?;
        if self.is_enough() {
            writeln!(formatter, "\nThis machine can hold {connections} connections.")
        } else {
            writeln!(formatter, "\nThis machine cannot hold {connections} connections as it is.")
        }
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Enough => "enough",
        Verdict::NotEnough => "NOT ENOUGH",
        Verdict::Slower => "slower",
        Verdict::Harmful => "HARMFUL",
        Verdict::Unknown => "unknown",
    }
}

/// Lines of so many columns at most, unless a word is longer.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a first line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a-very-long-word b", 4), ["a-very-long-word", "b"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
