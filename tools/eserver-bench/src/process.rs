//! CPU time and memory of a process, from the outside, as the kernel counts them under `/proc`.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The ticks of `/proc/PID/stat` in a second: `USER_HZ`, part of Linux's interface, whatever the
/// kernel itself ticks by.
const TICKS_PER_SECOND: u32 = 100;

/// The CPU time that process `pid` has used since it began, in user and kernel, over all threads.
///
/// Two sources, because each falls short: `schedstat` counts nanoseconds but only of threads that
/// still live, `stat` includes those that ended but counts in ticks of 10 ms and so is up
/// to two ticks short. The larger is the truth within the tick.
///
/// # Errors
/// When there is no such process, or it may not be looked at.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    Ok(cpu_time_of_living_threads(pid)?.max(cpu_time_in_ticks(pid)?))
}

fn cpu_time_of_living_threads(pid: u32) -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(directory(pid).join("task"))? {
        // A thread may end between the listing and the look.
        if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
            nanoseconds += field(text.split_ascii_whitespace().next(), "schedstat")?;
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}

fn cpu_time_in_ticks(pid: u32) -> io::Result<Duration> {
    let text = fs::read_to_string(directory(pid).join("stat"))?;
    // The second field is the program's name in parentheses and may itself hold anything.
    let (_, fields) = text.rsplit_once(')').ok_or_else(|| malformed("stat"))?;
    // Behind the name come the fields from the third on; utime and stime are the 14th and 15th.
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let ticks = field(fields.next(), "stat")? + field(fields.next(), "stat")?;
    Ok(Duration::from_secs(ticks) / TICKS_PER_SECOND)
}

/// What a process occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes resident in RAM, pages shared with other processes in full.
    pub rss_bytes: u64,
    /// Bytes resident in RAM, shared pages divided among those who share them.
    pub pss_bytes: u64,
}

/// The memory that process `pid` occupies now. Socket buffers and other memory of the kernel's own
/// is not in it.
///
/// # Errors
/// When there is no such process, or it may not be looked at.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let text = fs::read_to_string(directory(pid).join("smaps_rollup"))?;
    let bytes = |label| labeled_bytes(&text, label, "smaps_rollup");
    Ok(Memory { rss_bytes: bytes("Rss:")?, pss_bytes: bytes("Pss:")? })
}

/// The bytes that process `pid` has resident in RAM now. Quick, where [`memory`] goes through all of
/// the process's pages.
///
/// # Errors
/// When there is no such process, or it may not be looked at.
pub fn rss_bytes(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(directory(pid).join("status"))?;
    labeled_bytes(&text, "VmRSS:", "status")
}

/// The most bytes that process `pid` has had resident in RAM at any time.
///
/// # Errors
/// When there is no such process, or it may not be looked at.
pub fn peak_rss_bytes(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(directory(pid).join("status"))?;
    labeled_bytes(&text, "VmHWM:", "status")
}

/// The kibibytes behind `label` at the beginning of a line, in bytes.
fn labeled_bytes(text: &str, label: &str, file: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    let kibibytes = line.and_then(|rest| rest.split_ascii_whitespace().next());
    field(kibibytes, file).map(|kibibytes| kibibytes * 1024)
}

fn directory(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

fn field(text: Option<&str>, file: &str) -> io::Result<u64> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| malformed(file))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the kernel's {what} of the process reads otherwise than known"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::thread;

    fn work_until(enough: impl Fn() -> bool) {
        while !enough() {
            black_box((0..10_000u64).map(black_box).sum::<u64>());
        }
    }

    #[test]
    fn time_of_threads_that_live_and_that_ended_is_counted() {
        let pid = std::process::id();
        let start = cpu_time(pid).unwrap();
        let ended = thread::spawn(move || {
            work_until(|| cpu_time(pid).unwrap() > start + Duration::from_millis(100));
        });
        ended.join().unwrap();
        // Up to two ticks of the thread that ended are not seen.
        assert!(cpu_time(pid).unwrap() > start + Duration::from_millis(60));
    }

    #[test]
    fn memory_that_is_used_is_counted() {
        let pid = std::process::id();
        let before = memory(pid).unwrap();
        let block = black_box(vec![1u8; 32 << 20]);
        let after = memory(pid).unwrap();
        assert!(after.rss_bytes > before.rss_bytes + (24 << 20));
        assert!(rss_bytes(pid).unwrap() > before.rss_bytes + (24 << 20));
        assert!(after.pss_bytes > before.pss_bytes + (24 << 20));
        drop(block);
        // The kernel's counters are behind by some pages of each thread.
        assert!(peak_rss_bytes(pid).unwrap() > before.rss_bytes + (24 << 20), "it stays the most");
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(cpu_time(u32::MAX).is_err());
        assert!(memory(u32::MAX).is_err());
        assert!(peak_rss_bytes(u32::MAX).is_err());
        assert!(rss_bytes(u32::MAX).is_err());
    }
}
