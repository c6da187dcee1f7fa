//! [`Steps`]: commands that run one after the other, their times, and the tests they counted.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The score of a run. A failed step does not keep the next from running.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<Step>,
    /// Of all steps together.
    tests: Tests,
}

#[derive(Debug)]
struct Step {
    name: String,
    took: Duration,
    passed: bool,
}

/// Tests as cargo counts them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tests {
    passed: u64,
    failed: u64,
}

impl Steps {
    /// Runs `command` with its output shown, and counts the tests that it reports.
    ///
    /// # Errors
    /// When the command cannot be started at all.
    pub(crate) fn run(&mut self, name: &str, command: &mut Command) -> Result<()> {
        announce(name);
        let start = Instant::now();
        let (passed, mut tests) = watch(command)?;
        if !passed && tests.failed == 0 {
            tests.failed = 1; // a failure that is no test's: a build, a lint, a crash
        }
        self.tests.passed += tests.passed;
        self.tests.failed += tests.failed;
        self.note(name, start, passed);
        Ok(())
    }

    /// Runs a check of our own.
    pub(crate) fn check(&mut self, name: &str, check: impl FnOnce() -> Result<()>) {
        announce(name);
        let start = Instant::now();
        let result = check();
        if let Err(error) = &result {
            println!("{error:#}");
            self.tests.failed += 1;
        }
        self.note(name, start, result.is_ok());
    }

    fn note(&mut self, name: &str, start: Instant, passed: bool) {
        self.done.push(Step { name: name.to_owned(), took: start.elapsed(), passed });
    }

    /// Prints the summary, whose last line reads `12 passed, 0 failed`; a failed step is a failure.
    pub(crate) fn finish(self) -> ExitCode {
        println!("\n== summary");
        for step in &self.done {
            let verdict = if step.passed { "ok" } else { "FAILED" };
            println!("{:>8.1} s  {verdict:<6}  {}", step.took.as_secs_f64(), step.name);
        }
        let total: Duration = self.done.iter().map(|step| step.took).sum();
        println!("{:>8.1} s  in all", total.as_secs_f64());
        let failed: Vec<_> =
            self.done.iter().filter(|step| !step.passed).map(|step| step.name.as_str()).collect();
        if !failed.is_empty() {
            println!("failed: {}", failed.join(", "));
        }
        println!("{} passed, {} failed", self.tests.passed, self.tests.failed);
        if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn announce(name: &str) {
    println!("\n== {name}");
}

/// Runs the command, copies its stdout to ours, and adds up its test results.
fn watch(command: &mut Command) -> Result<(bool, Tests)> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let output = child.stdout.take().expect("stdout is a pipe");
    let mut tests = Tests::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("the output broke off")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(counted) = parse_result(&line) {
            tests.passed += counted.passed;
            tests.failed += counted.failed;
        }
    }
    let status = child.wait().context("the command is our own child")?;
    Ok((status.success(), tests))
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn parse_result(line: &str) -> Option<Tests> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse().ok())
    };
    Some(Tests { passed: count("passed")?, failed: count("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<(u64, u64)>) {
        let expected = expected.map(|(passed, failed)| Tests { passed, failed });
        assert_eq!(parse_result(line), expected, "{line}");
    }

    #[test]
    fn results_are_read() {
        let rest = "0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        check(&format!("test result: ok. 3 passed; 0 failed; {rest}"), Some((3, 0)));
        check(&format!("test result: FAILED. 10 passed; 2 failed; {rest}"), Some((10, 2)));
        check("test a ... ok", None);
        check("test result: ", None);
        check("test result: ok. three passed; 0 failed", None);
    }

    #[test]
    fn a_command_is_counted_and_its_failure_seen() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; exit 3"]);
        let (passed, tests) = watch(&mut command).expect("there is a shell");
        assert!(!passed);
        assert_eq!(tests, Tests { passed: 2, failed: 0 });
    }
}
