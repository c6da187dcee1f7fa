//! The machine a run was made on, as far as it matters for the figures: [`Machine`].

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::Context;

/// Commits whose median is the cost of one.
const COMMITS: u64 = 101;

/// What kind of machine this is; nothing that would name it.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) date: String,
    pub(super) cores: usize,
    pub(super) processor: String,
    pub(super) memory_mebibytes: u64,
    pub(super) kernel: String,
    pub(super) file_system: String,
    /// One `pwrite` of 4 KiB over zeros and one `fdatasync`, the median, in microseconds.
    pub(super) commit_us: f64,
}

impl Machine {
    /// Looks at this machine and at the file system of `scratch`.
    pub(super) fn survey(scratch: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            date: printed("date", &["-u", "+%Y-%m-%d"])?,
            cores: thread::available_parallelism()?.get(),
            processor: labeled("/proc/cpuinfo", "model name")
                .or_else(|| labeled("/proc/cpuinfo", "CPU part"))
                .unwrap_or_else(|| "unknown processor".to_owned()),
            memory_mebibytes: labeled("/proc/meminfo", "MemTotal")
                .and_then(|text| text.split_ascii_whitespace().next()?.parse::<u64>().ok())
                .map_or(0, |kibibytes| kibibytes / 1024),
            kernel: printed("uname", &["-sr"])?,
            // Below a line of headings.
            file_system: printed("df", &["--output=fstype", &scratch.display().to_string()])?
                .lines()
                .last()
                .unwrap_or("unknown file system")
                .to_owned(),
            commit_us: commit_us(scratch)?,
        })
    }
}

/// What `program` prints when asked for its version.
pub(super) fn version(program: &str, flag: &str) -> String {
    match Command::new(program).arg(flag).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&text).trim().to_owned()
        }
        Err(error) => format!("{program}: {error}"),
    }
}

fn printed(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The value behind `label` and a colon in a file of such lines.
fn labeled(path: &str, label: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let value =
        text.lines().find_map(|line| line.strip_prefix(label)?.trim_start().strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

fn commit_us(scratch: &Path) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir_in(scratch)?;
    let file = File::create(directory.path().join("zeros"))?;
    let block = [0; 4096];
    for number in 0..COMMITS {
        file.write_all_at(&block, number * block.len() as u64)?;
    }
    file.sync_all()?;
    let block = [1; 4096];
    let mut times = Vec::new();
    for number in 0..COMMITS {
        let start = Instant::now();
        file.write_all_at(&block, number * block.len() as u64)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2].as_secs_f64() * 1e6)
}
