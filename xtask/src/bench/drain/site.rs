//! eserver with and without a drain on the same data: a [`Site`], and the [`Eserver`] that runs on
//! it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use eserver_wire::framed;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::database::Database;
use crate::bench::program::{Program, free_address};
use crate::bench::servers::Premises;

/// Puts items into a queue.
const PUT: u16 = 8015;

/// Asks for a queue's numbers.
const STATS: u16 = 8016;

/// Items in each put when a queue is filled; they fit into a frame.
const FILL_ITEMS: u64 = 1_000;

/// Longest time for one answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest time until the last message is applied.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);

/// Time between two looks at how far the drain is.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A data directory, and how eserver is started on it.
pub(super) struct Site<'run> {
    premises: &'run Premises,
    directory: TempDir,
    /// Lines below `[[drain]]`, besides queue and URL.
    settings: &'run [String],
}

impl<'run> Site<'run> {
    pub(super) fn new(premises: &'run Premises, settings: &'run [String]) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("site-").tempdir_in(&premises.scratch)?;
        Ok(Self { premises, directory, settings })
    }

    /// Starts eserver, with a drain when there is a database for it.
    pub(super) fn start(&self, drain: Option<&Database>) -> anyhow::Result<Eserver> {
        let home = self.directory.path();
        let mut configuration = String::new();
        if let Some(database) = drain {
            configuration = format!(
                "[[drain]]\nqueue = \"default\"\nurl = {:?}\n{}\n[drain.statements]\n\
                 add = \"insert into t(num, name) values (?, ?)\"\n",
                database.url(),
                self.settings.join("\n")
            );
        }
        let file = home.join("eserver.toml");
        fs::write(&file, configuration)?;
        let (address, messages) = (free_address()?, home.join("messages"));
        let mut command = Command::new(&self.premises.eserver);
        command.arg("serve").arg("--config").arg(&file).arg("--data-dir").arg(home.join("data"));
        let listen = format!("queue.listen={address}");
        // Never full.
        for setting in [listen.as_str(), "queue.length_max=1000000000", "comet.listen=[]"]
            .into_iter()
            .chain(self.premises.eserver_settings.iter().map(String::as_str))
        {
            command.arg("--set").arg(setting);
        }
        command.stdout(File::options().create(true).append(true).open(&messages)?);
        let program =
            Program::start(&mut command, address, &messages).context("eserver did not start")?;
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ASK_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Eserver { program, stream })
    }
}

/// A message that becomes the row `(number, "name number")`.
pub(super) fn message(number: u64) -> Value {
    json!({ "stmt": "add", "params": [number, format!("name {number}")] })
}

/// A running eserver and a connection to it.
pub(super) struct Eserver {
    pub(super) program: Program,
    stream: TcpStream,
}

impl Eserver {
    /// Puts the messages 1 to `count`.
    pub(super) fn fill(&mut self, count: u64) -> anyhow::Result<()> {
        for first in (1..=count).step_by(FILL_ITEMS as usize) {
            let last = count.min(first + FILL_ITEMS - 1);
            let items: Vec<_> = (first..=last).map(message).collect();
            let answer = self.ask(PUT, &json!({ "items": items }))?;
            let stored = answer["ids"].as_array().map_or(0, Vec::len);
            ensure!(stored as u64 == last - first + 1, "a put was not stored: {answer}");
        }
        Ok(())
    }

    /// How far the drain is.
    pub(super) fn progress(&mut self) -> anyhow::Result<Progress> {
        let stats = self.ask(STATS, &json!({ "queue": "default" }))?;
        let number =
            |value: &Value| value.as_u64().with_context(|| format!("a number is missing: {stats}"));
        let progress = Progress {
            waiting: number(&stats["length"])?,
            applied: number(&stats["drain"]["applied"])?,
        };
        let buried = number(&stats["buried"])?;
        ensure!(buried == 0, "{buried} messages were buried: {stats}");
        Ok(progress)
    }

    /// Looks again and again until `enough`, and says what was seen then, and when.
    pub(super) fn wait_until(
        &mut self,
        enough: impl Fn(Progress) -> bool,
    ) -> anyhow::Result<(Progress, Instant)> {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        loop {
            let progress = self.progress()?;
            let now = Instant::now();
            if enough(progress) {
                return Ok((progress, now));
            }
            if now > deadline {
                bail!("the drain does not get on: {progress:?}; {}", self.program.messages());
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn ask(&mut self, command: u16, body: &Value) -> anyhow::Result<Value> {
        let mut bytes = Vec::new();
        framed::encode(command, body.to_string().as_bytes(), &mut bytes)?;
        self.stream.write_all(&bytes)?;
        let mut received = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(frame) = framed::decode(&received) {
                let answer = serde_json::from_slice(frame.body)?;
                ensure!(frame.command == command, "{command} was refused: {answer}");
                return Ok(answer);
            }
            match self.stream.read(&mut buffer) {
                Ok(bytes) if bytes > 0 => received.extend_from_slice(&buffer[..bytes]),
                Ok(_) => bail!("it hung up: {}", self.program.messages()),
                Err(error) => return Err(error).with_context(|| self.program.messages()),
            }
        }
    }
}

/// What the drain has done and has to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    /// Messages in the queue.
    pub(super) waiting: u64,
    /// Messages whose rows are committed, since eserver was started.
    pub(super) applied: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_put_of_the_longest_messages_fits_into_a_frame() {
        let items = vec![message(99_999_999); FILL_ITEMS as usize];
        let bytes = json!({ "items": items }).to_string().len();
        assert!(bytes <= framed::BODY_BYTES_MAX, "{bytes} bytes");
    }
}
