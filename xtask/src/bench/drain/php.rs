//! PHP scripts that write rows, side by side: [`run`].

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};

use crate::workspace;

/// Seconds after which a script that hangs is ended.
const TIMEOUT_SECONDS: u32 = 120;

/// What scripts have done together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) rows: u64,
    pub(super) rows_per_second: f64,
}

/// Runs a script of this directory so many times side by side; they begin together.
pub(super) fn run(script: &str, arguments: &[String], processes: usize) -> anyhow::Result<Done> {
    let scripts = (0..processes)
        .map(|_| Script::start(script, arguments))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let begun = scripts.into_iter().map(Script::begin).collect::<anyhow::Result<Vec<_>>>()?;
    let mut done = Done { rows: 0, rows_per_second: 0.0 };
    for script in begun {
        let (rows, seconds) = script.end()?;
        done.rows += rows;
        done.rows_per_second += rows as f64 / seconds;
    }
    Ok(done)
}

/// A script that is connected to what it needs, or at work; killed when dropped.
struct Script {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Script {
    fn start(script: &str, arguments: &[String]) -> anyhow::Result<Self> {
        let mut child = Command::new("timeout")
            .arg(TIMEOUT_SECONDS.to_string())
            .args(["php", "-d", "display_errors=1", "-d", "log_errors=0"])
            .arg(workspace::root().join("xtask/src/bench/drain").join(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("timeout")?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("stdout is a pipe")?);
        let mut script = Self { child, input, output };
        let mut line = String::new();
        script.output.read_line(&mut line)?;
        if line != "ready\n" {
            script.output.read_to_string(&mut line)?;
            bail!("PHP is not ready: {line}");
        }
        Ok(script)
    }

    fn begin(mut self) -> anyhow::Result<Self> {
        self.input.as_mut().context("it has begun already")?.write_all(b"go\n")?;
        Ok(self)
    }

    /// How many rows, in how many seconds.
    fn end(mut self) -> anyhow::Result<(u64, f64)> {
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        let numbers = text.trim().split_once(' ');
        let numbers =
            numbers.and_then(|(rows, time)| Some((rows.parse().ok()?, time.parse().ok()?)));
        numbers.with_context(|| format!("PHP has failed: {text}"))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // Without its input a script that has not begun ends by itself; one at work has a timeout.
        self.input = None;
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A script as the others are, which then does `work`.
    fn check(work: &str, processes: usize) -> anyhow::Result<Done> {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script.php");
        std::fs::write(&script, format!("<?php echo \"ready\\n\"; fgets(STDIN); {work}")).unwrap();
        run(script.to_str().unwrap(), &["7".to_owned()], processes)
    }

    #[test]
    fn what_all_processes_did_is_added_up() {
        let done = check("echo $argv[1], \" 0.5\\n\";", 3).unwrap();
        assert_eq!((done.rows, done.rows_per_second), (21, 42.0));
    }

    #[test]
    fn a_script_that_fails_is_an_error_with_its_words() {
        for work in ["throw new Exception('no such table');", "echo 'no such table';"] {
            let error = check(work, 1).unwrap_err().to_string();
            assert!(error.contains("no such table"), "{error}");
        }
        let error = run("no-such-script.php", &[], 1).unwrap_err().to_string();
        assert!(error.contains("no-such-script.php"), "{error}");
    }
}
