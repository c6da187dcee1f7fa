//! [`Observer`]: the server's process and the kernel's memory, looked at from outside.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::process::{self, Memory};

/// What a run looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observer {
    /// The server's process, if it is known.
    pub(crate) pid: Option<u32>,
}

/// What was seen with so many connections.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Connections that were open.
    pub connections: u64,
    /// The server's resident memory, in bytes.
    pub server_rss_bytes: Option<u64>,
    /// The same with shared pages divided among those who share them, in bytes.
    pub server_pss_bytes: Option<u64>,
    /// The part of one core that the server took while nothing happened.
    pub server_idle_cpu: Option<f64>,
    /// The kernel's slabs, in bytes: sockets are in them, those of both ends. What counts as
    /// reclaimable is included, since the inode and the directory entry of an open socket do, though
    /// nothing can reclaim them.
    pub kernel_bytes: Option<u64>,
    /// Memory of the whole system in use, in bytes.
    pub system_used_bytes: Option<u64>,
    /// The resident memory of the load client, in bytes.
    pub client_rss_bytes: Option<u64>,
}

impl Observer {
    /// Watches process `pid`, or whoever listens at `front`.
    pub(crate) fn new(pid: Option<u32>, front: SocketAddr) -> Self {
        Self { pid: pid.or_else(|| listening_process(front)) }
    }

    /// The server's memory.
    pub(crate) fn memory(&self) -> Option<Memory> {
        self.pid.and_then(|pid| process::memory(pid).ok())
    }

    /// The server's CPU time so far.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        self.pid.and_then(|pid| process::cpu_time(pid).ok())
    }

    /// The resident memory of the server and of this process, read quickly.
    pub(crate) fn rss_bytes(&self) -> (Option<u64>, Option<u64>) {
        let server = self.pid.and_then(|pid| process::rss_bytes(pid).ok());
        (server, process::rss_bytes(std::process::id()).ok())
    }

    /// Looks at everything, after `settle` of quiet or as soon as `is_over` says so.
    pub(crate) fn sample(
        &self,
        connections: u64,
        settle: Duration,
        mut is_over: impl FnMut() -> bool,
    ) -> Sample {
        let (start, before) = (Instant::now(), self.cpu_time());
        while start.elapsed() < settle && !is_over() {
            thread::sleep(Duration::from_millis(50).min(settle));
        }
        let elapsed = start.elapsed().as_secs_f64();
        let server_idle_cpu = match (before, self.cpu_time()) {
            (Some(before), Some(after)) if elapsed > 0.1 => {
                Some(after.saturating_sub(before).as_secs_f64() / elapsed)
            }
            _ => None,
        };
        let memory = self.memory();
        let (kernel_bytes, system_used_bytes) = system_memory();
        Sample {
            connections,
            server_rss_bytes: memory.map(|memory| memory.rss_bytes),
            server_pss_bytes: memory.map(|memory| memory.pss_bytes),
            server_idle_cpu,
            kernel_bytes,
            system_used_bytes,
            client_rss_bytes: self.rss_bytes().1,
        }
    }
}

/// The kernel's own memory and that of the whole system in use, in bytes.
fn system_memory() -> (Option<u64>, Option<u64>) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |label: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
        let kibibytes: u64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
        Some(kibibytes * 1024)
    };
    let used = bytes("MemTotal:").zip(bytes("MemAvailable:"));
    (bytes("Slab:"), used.map(|(total, available)| total.saturating_sub(available)))
}

/// The process that listens at `address`, if there is one that we may look at.
///
/// Its descriptors are looked for in every thread: a server whose threads have descriptor tables of
/// their own shows its listeners only there.
fn listening_process(address: SocketAddr) -> Option<u32> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| listening_inodes(&table, address))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let holds = |directory: &Path| {
        fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| {
            fs::read_link(entry.path())
                .is_ok_and(|target| inodes.iter().any(|inode| target.as_os_str() == inode.as_str()))
        })
    };
    let is_holder = |pid: &u32| {
        let process = Path::new("/proc").join(pid.to_string());
        let threads = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
        holds(&process.join("fd")) || { threads }.any(|task| holds(&task.path().join("fd")))
    };
    let processes = fs::read_dir("/proc").ok().filter(|_| !inodes.is_empty())?;
    let mut pids: Vec<u32> =
        processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // A process that was started by the server may have its listener, too; the server is the elder.
    pids.sort_unstable();
    pids.into_iter().find(is_holder)
}

/// The inodes of the sockets of a table of `/proc/net` that listen at the port of `address`, at its
/// own IP address or at all.
fn listening_inodes(table: &str, address: SocketAddr) -> Vec<String> {
    const LISTEN: &str = "0A";
    let own = match address.ip() {
        IpAddr::V4(ip) => format!("{:08X}", u32::from_ne_bytes(ip.octets())),
        IpAddr::V6(ip) => ip
            .octets()
            .chunks_exact(4)
            .map(|word| {
                let word = [word[0], word[1], word[2], word[3]];
                format!("{:08X}", u32::from_ne_bytes(word))
            })
            .collect(),
    };
    let matches = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (ip, port) = fields.next()?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let is_ours = ip == own || ip.bytes().all(|digit| digit == b'0');
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        (is_ours && port == address.port() && state == LISTEN).then(|| inode.to_owned())
    };
    table.lines().skip(1).filter_map(matches).collect()
}

/// Waits until the server's resident memory is at most `limit_bytes`, or as long as it may take;
/// returns what it then is.
pub(crate) fn wait_for_memory(
    observer: &Observer,
    limit_bytes: u64,
    patience: Duration,
    mut is_over: impl FnMut() -> bool,
) -> io::Result<u64> {
    let start = Instant::now();
    loop {
        let pid = observer.pid.ok_or(io::ErrorKind::NotFound)?;
        let rss_bytes = process::rss_bytes(pid)?;
        if rss_bytes <= limit_bytes || start.elapsed() > patience || is_over() {
            return Ok(rss_bytes);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn whoever_listens_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(listening_process(address), Some(std::process::id()));
    }

    #[test]
    fn what_the_system_uses_is_seen() {
        let sample = Observer { pid: None }.sample(7, Duration::ZERO, || false);
        assert_eq!((sample.connections, sample.server_rss_bytes), (7, None));
        // Either may be the larger one: some of the kernel's could be given back, and is not in use.
        assert!(sample.kernel_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(sample.system_used_bytes.is_some_and(|bytes| bytes > 1 << 20));
    }
}
