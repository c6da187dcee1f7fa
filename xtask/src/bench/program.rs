//! A server as a process: [`Program`], which listens before anybody sees it and ends with its value.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// Longest time for a server to accept its first connection.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest time for a server to end when asked to.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// Time between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A port found free may be taken a moment later; not three times.
const START_ATTEMPTS: usize = 3;

/// Lines of its messages that explain a failure.
const LAST_LINES: usize = 10;

/// A running server; killed and waited for when dropped.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    pub(super) address: SocketAddr,
    messages: PathBuf,
}

impl Program {
    /// Runs `command`, whose stdout its maker has decided on, and waits until `address` accepts a
    /// connection. What it says on stderr is appended to the file `messages`.
    pub(super) fn start(
        command: &mut Command,
        address: SocketAddr,
        messages: &Path,
    ) -> anyhow::Result<Self> {
        let stderr = File::options().create(true).append(true).open(messages)?;
        let child = command.stdin(Stdio::null()).stderr(stderr).spawn()?;
        let mut program = Self { child, address, messages: messages.to_owned() };
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = program.child.try_wait()? {
                bail!("it ended with {status}: {}", program.messages());
            }
            ensure!(Instant::now() < deadline, "it does not listen: {}", program.messages());
            thread::sleep(LOOK_AGAIN);
        }
        Ok(program)
    }

    /// The process, for CPU time and memory.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last of what it has said.
    pub(super) fn messages(&self) -> String {
        let text = fs::read(&self.messages).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Asks it to end and waits until it has.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        Command::new("kill").args(["-TERM", &self.id().to_string()]).status()?;
        let deadline = Instant::now() + END_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "it ended with {status}: {}", self.messages());
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "it does not end: {}", self.messages());
            thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Its data is thrown away, so there is nothing to be gentle about.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the first good `attempt` to start the server of this name gives, each at an address of its
/// own.
pub(super) fn start<S>(
    name: &str,
    mut attempt: impl FnMut() -> anyhow::Result<S>,
) -> anyhow::Result<S> {
    let mut started = attempt();
    for _ in 1..START_ATTEMPTS {
        if started.is_err() {
            started = attempt();
        }
    }
    started.with_context(|| format!("{name} did not start"))
}

/// A loopback address that nobody listens on at this moment.
pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
