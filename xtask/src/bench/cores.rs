//! Who computes where: [`Cores`].

use std::process::Command;
use std::thread;

use anyhow::{Context, ensure};

/// One core for the server and another for the load, so that neither takes the other's time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cores {
    server: usize,
    load: usize,
}

impl Cores {
    /// The last core for the server, since the first has the machine's interrupts.
    ///
    /// # Errors
    /// When there is only one.
    pub(super) fn of_this_machine() -> anyhow::Result<Self> {
        let cores = thread::available_parallelism()?.get();
        ensure!(cores >= 2, "server and load need a core each, and this machine has {cores}");
        Ok(Self { server: cores - 1, load: cores - 2 })
    }

    /// Keeps this thread, and all threads and processes that it starts from now on, to the core of
    /// the load.
    pub(super) fn keep_to_load(self) -> anyhow::Result<()> {
        let status = Command::new("taskset")
            .args(["--pid", "--cpu-list", &self.load.to_string()])
            .arg(std::process::id().to_string())
            .stdout(std::process::Stdio::null())
            .status()
            .context("cannot run taskset")?;
        ensure!(status.success(), "taskset ended with {status}");
        Ok(())
    }

    /// A command for `program` on the core of the server. The process is the program's own.
    pub(super) fn server_command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &self.server.to_string()]).arg(program);
        command
    }
}

/// The machine's load average of the last minute.
pub(super) fn load_average() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    text.split_ascii_whitespace().next().context("there is a figure")?.parse().context("a figure")
}
