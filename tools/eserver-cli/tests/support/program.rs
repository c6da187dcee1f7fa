//! Programs of others that a test needs: found or asked for by name, stopped when dropped.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{PATIENCE, within};

/// The program's path; a missing one fails the test with the command that installs it.
pub(crate) fn find(program: &str, package: &str) -> PathBuf {
    find_where(program, package, |name| name == program)
}

/// The same for a program whose name carries a version, such as `php-fpm8.2`.
pub(crate) fn find_versioned(program: &str, package: &str) -> PathBuf {
    find_where(program, package, |name| {
        name.strip_prefix(program).is_some_and(|version| {
            version.chars().all(|letter| letter.is_ascii_digit() || letter == '.')
        })
    })
}

fn find_where(program: &str, package: &str, is_it: impl Fn(&str) -> bool) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin".into(), "/usr/sbin".into(), "/sbin".into()])
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flatten()
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_str().is_some_and(&is_it))
        .map(|entry| entry.path())
        .unwrap_or_else(|| panic!("{program} is missing: apt-get install -y {package}"))
}

/// Fails the test with how to run it when it is not run by root.
pub(crate) fn require_root(why: &str) {
    let ourselves = std::fs::metadata("/proc/self").expect("Linux shows a process to itself");
    assert!(ourselves.uid() == 0, "{why} needs root: sudo -E env PATH=\"$PATH\" cargo xtask test");
}

/// Runs a program to its end and answers with its stdout; a failure of it fails the test.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}

/// A program in the background; asked to end when dropped, then made to.
pub(crate) struct Background {
    child: Child,
    name: String,
    output: Vec<Transcript>,
}

impl Background {
    /// Starts it with its output kept.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let stdout = Transcript::follow(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Transcript::follow(child.stderr.take().expect("stderr is a pipe"));
        Self {
            child,
            name: command.get_program().to_string_lossy().into_owned(),
            output: vec![stdout, stderr],
        }
    }

    /// Fails the test when the program ended although it is still needed.
    pub(crate) fn assert_running(&mut self) {
        let exit = self.child.try_wait().expect("our own child");
        assert!(exit.is_none(), "{} ended with {exit:?}: {}", self.name, self.text());
    }

    /// Everything on stdout so far.
    pub(crate) fn stdout(&self) -> String {
        self.output[0].text()
    }

    fn text(&self) -> String {
        self.output.iter().map(Transcript::last_lines).collect()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // SIGTERM first: nginx and php-fpm take their workers along only when asked.
        let process = Pid::from_raw(self.child.id().cast_signed());
        let gone = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
        if !gone(&mut self.child) {
            let _ = kill(process, Signal::SIGTERM); // it may have ended just now
            if within(PATIENCE, || gone(&mut self.child).then_some(())).is_none() {
                drop(self.child.kill());
                drop(self.child.wait());
            }
        }
        for transcript in &mut self.output {
            transcript.join();
        }
        if std::thread::panicking() {
            eprintln!("--- output of {}\n{}---", self.name, self.text());
        }
    }
}

/// How many lines of output a failing test shows.
const LAST_LINES: usize = 40;

/// What a process has written to one of its outputs so far, collected by a thread.
pub(crate) struct Transcript {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Transcript {
    /// Follows `output` to its end.
    pub(crate) fn follow(output: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let collected = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut lines = BufReader::new(output);
            let mut line = Vec::new();
            while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
                let mut text = collected.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader: Some(reader) }
    }

    /// What was written so far.
    pub(crate) fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The end of it, short enough for a person to read.
    pub(crate) fn last_lines(&self) -> String {
        let text = self.text();
        let start = text.rmatch_indices('\n').nth(LAST_LINES);
        text[start.map_or(0, |(at, _)| at + 1)..].to_owned()
    }

    /// Waits for the end of the output, which comes with the end of the process.
    pub(crate) fn join(&mut self) {
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}
