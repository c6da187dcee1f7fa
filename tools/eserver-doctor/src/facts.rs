//! [`Facts`]: what a machine says of itself. The one place that knows which files of `/proc` and
//! `/sys` say it, and in which form.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::files::{Files, Here};
use crate::group::{Groups, Hierarchy};

/// The settings under `/proc/sys` that are looked at.
const SYSCTLS: &[&str] = &[
    "fs.epoll.max_user_watches",
    "fs.file-max",
    "fs.nr_open",
    "kernel.threads-max",
    "net.core.netdev_max_backlog",
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_sack",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_tw_recycle",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_window_scaling",
    "net.ipv4.tcp_wmem",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "vm.max_map_count",
];

/// What a machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Facts {
    /// Whose limits count: a running server that is a service, or else this process, whose limits a
    /// server gets that is started from the same shell.
    pub process: Process,
    /// Memory that could be had, in bytes.
    pub available_bytes: Option<u64>,
    /// All memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// A page of memory, in bytes.
    pub page_bytes: u64,
    /// Files that are open, of all processes.
    pub files_open: Option<u64>,
    /// TCP sockets in use, of this network.
    pub sockets_in_use: Option<u64>,
    /// Newcomers that were turned away since boot because a listener's queue was full.
    pub accept_overflows: Option<u64>,
    /// Packets that were dropped since boot because a processor's queue was full.
    pub device_drops: Option<u64>,
    /// Settings of the kernel, by name; those that are not there are left out.
    pub sysctls: BTreeMap<String, String>,
}

/// Limits of one process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Process {
    /// Its number and its unit, if it is a service of systemd that runs `eserver serve`.
    pub service: Option<(u32, String)>,
    /// The limit on open files in force, and as far as it may be raised without privileges.
    pub open_files: Option<(u64, u64)>,
    /// Bytes of memory, of the control group that has the least left.
    pub group_memory: Option<Allowance>,
    /// Threads and processes, of the control group that has the least left.
    pub group_tasks: Option<Allowance>,
}

/// What a control group may have, and has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Allowance {
    /// May have.
    pub most: u64,
    /// Has; of memory without what could be given back.
    pub used: u64,
}

impl Allowance {
    /// What is left.
    #[must_use]
    pub fn left(self) -> u64 {
        self.most.saturating_sub(self.used)
    }
}

impl Facts {
    /// Of this machine.
    #[must_use]
    pub fn read() -> Self {
        Self::from_files(&Here)
    }

    /// Of the machine whose files these are. What is not there or has another form is unknown.
    #[must_use]
    pub fn from_files(files: &impl Files) -> Self {
        let text = |path: &str| files.read(path).unwrap_or_default();
        let sysctl = |name: &&str| {
            let value = files.read(&format!("/proc/sys/{}", name.replace('.', "/")))?;
            Some(((*name).to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
        };
        let memory = text("/proc/meminfo");
        Facts {
            process: Process::running(files).unwrap_or_else(|| Process::read(files, "self")),
            available_bytes: kibibytes(&memory, "MemAvailable:"),
            memory_bytes: kibibytes(&memory, "MemTotal:"),
            page_bytes: kibibytes(&text("/proc/self/smaps"), "KernelPageSize:").unwrap_or(4096),
            files_open: first_number(&text("/proc/sys/fs/file-nr")),
            sockets_in_use: sockets_in_use(&text("/proc/net/sockstat")),
            accept_overflows: counter(&text("/proc/net/netstat"), "TcpExt:", "ListenOverflows"),
            device_drops: device_drops(&text("/proc/net/softnet_stat")),
            sysctls: SYSCTLS.iter().filter_map(sysctl).collect(),
        }
    }

    /// A setting that is one number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.numbers(name)?.first().copied()
    }

    /// A setting that is several numbers.
    #[must_use]
    pub fn numbers(&self, name: &str) -> Option<Vec<u64>> {
        let value = self.sysctls.get(name)?;
        value.split_whitespace().map(|word| word.parse().ok()).collect()
    }
}

impl Process {
    /// The first server that systemd runs.
    fn running(files: &impl Files) -> Option<Self> {
        files.processes().into_iter().find_map(|number| {
            let name = files.read(&format!("/proc/{number}/comm"))?;
            if name.trim_end() != "eserver" {
                return None;
            }
            let arguments = files.read(&format!("/proc/{number}/cmdline"))?;
            let serves = arguments.split('\0').nth(1) == Some("serve");
            let groups = files.read(&format!("/proc/{number}/cgroup"))?;
            let unit = Groups::new(&groups, "").service().filter(|_| serves)?.to_owned();
            let process = Process::read(files, &number.to_string());
            Some(Process { service: Some((number, unit)), ..process })
        })
    }

    fn read(files: &impl Files, process: &str) -> Self {
        let text = |path: &str| files.read(path).unwrap_or_default();
        let membership = text(&format!("/proc/{process}/cgroup"));
        let mounts = text("/proc/self/mountinfo");
        let groups = Groups::new(&membership, &mounts);
        Process {
            service: None,
            open_files: limit(&text(&format!("/proc/{process}/limits")), "Max open files"),
            group_memory: groups.with("memory").and_then(|found| least(files, &found, memory_of)),
            group_tasks: groups.with("pids").and_then(|found| least(files, &found, tasks_of)),
        }
    }
}

/// The allowance of the group that has the least left.
fn least<F: Files>(
    files: &F,
    groups: &Hierarchy,
    of: impl Fn(&F, &str, bool) -> Option<Allowance>,
) -> Option<Allowance> {
    let all = groups.directories.iter();
    all.filter_map(|group| of(files, group, groups.is_unified)).min_by_key(|one| one.left())
}

/// Memory of a group. The kernel's memory for sockets counts, and so does what is cached of files,
/// which it gives back when it has to (cgroup-v2, `memory.stat`).
fn memory_of(files: &impl Files, group: &str, is_unified: bool) -> Option<Allowance> {
    let (most, used, cached) = if is_unified {
        ("memory.max", "memory.current", "inactive_file")
    } else {
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    };
    let read = |name: &str| files.read(&format!("{group}/{name}"));
    let most = limit_of(&read(most)?)?;
    let statistics = read("memory.stat").unwrap_or_default();
    let cached = statistics
        .lines()
        .find_map(|line| line.strip_prefix(cached)?.trim().parse::<u64>().ok())
        .unwrap_or(0);
    let used = read(used).and_then(|text| first_number(&text)).unwrap_or(0);
    Some(Allowance { most, used: used.saturating_sub(cached) })
}

fn tasks_of(files: &impl Files, group: &str, _: bool) -> Option<Allowance> {
    let most = limit_of(&files.read(&format!("{group}/pids.max"))?)?;
    let used = files.read(&format!("{group}/pids.current"));
    Some(Allowance { most, used: used.and_then(|text| first_number(&text)).unwrap_or(0) })
}

/// A limit; none if it says that there is none.
fn limit_of(text: &str) -> Option<u64> {
    // The old groups say so by a number that no machine has.
    text.trim().parse().ok().filter(|limit| *limit < 1 << 60)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// A line of `/proc/meminfo` or `/proc/self/smaps`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(first_number(line)? * 1024)
}

/// A line of `/proc/PID/limits`: in force, and as far as it may be raised.
fn limit(text: &str, name: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number = |word: &str| match word {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    };
    let mut words = line.split_whitespace();
    Some((number(words.next()?)?, number(words.next()?)?))
}

/// The sockets of a line such as `TCP: inuse 6 orphan 0 tw 22` in `/proc/net/sockstat`.
fn sockets_in_use(text: &str) -> Option<u64> {
    first_number(text.lines().find_map(|line| line.strip_prefix("TCP: inuse "))?)
}

/// A counter of `/proc/net/netstat`, where a line of names is followed by one of numbers.
fn counter(text: &str, family: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(family));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|one| one == name)?;
    numbers.split_whitespace().nth(at)?.parse().ok()
}

/// The second column of `/proc/net/softnet_stat`, which is hexadecimal and has a line for each
/// processor.
fn device_drops(text: &str) -> Option<u64> {
    let drops = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    let all: Vec<u64> = text.lines().map(drops).collect::<Option<_>>()?;
    (!all.is_empty()).then(|| all.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_read() {
        let facts = Facts::read();
        assert!(facts.process.open_files.is_some_and(|(soft, hard)| soft > 0 && soft <= hard));
        assert!(facts.available_bytes <= facts.memory_bytes);
        assert!(facts.page_bytes >= 4096 && facts.page_bytes.is_power_of_two());
        assert!(facts.files_open.is_some() && facts.sockets_in_use.is_some());
        assert!(facts.number("fs.file-max").is_some_and(|number| number > 1000));
        assert_eq!(facts.numbers("net.ipv4.tcp_mem").map(|all| all.len()), Some(3));
        assert_eq!(facts.number("net.ipv4.no_such_thing"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       24683632 kB\nMemAvailable:   22000000 kB\n";
        assert_eq!(kibibytes(text, "MemAvailable:"), Some(22_000_000 * 1024));
        assert_eq!(kibibytes(text, "SwapFree:"), None);
        let smaps =
            "55d0-55d1 r--p 0000 08:01 13 /usr/bin/x\nSize:    8 kB\nKernelPageSize:   64 kB\n";
        assert_eq!(kibibytes(smaps, "KernelPageSize:"), Some(65_536));
    }

    #[test]
    fn limits_of_processes_are_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             96365                unlimited            processes \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(limit(text, "Max open files"), Some((1024, 524_288)));
        assert_eq!(limit(text, "Max processes"), Some((96_365, u64::MAX)));
        assert_eq!(limit(text, "Max locked memory"), None);
        assert_eq!(limit("Max open files  many", "Max open files"), None);
    }

    #[test]
    fn limits_of_groups_are_read() {
        assert_eq!(limit_of("max\n"), None);
        assert_eq!(limit_of("9223372036854771712\n"), None);
        assert_eq!(limit_of("2147483648\n"), Some(2 << 30));
    }

    #[test]
    fn what_the_network_counts_is_read() {
        assert_eq!(sockets_in_use("sockets: used 9\nTCP: inuse 6 orphan 0\n"), Some(6));
        assert_eq!(sockets_in_use("UDP: inuse 6 mem 0\n"), None);
        let netstat = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 5 129 130\n\
                       IpExt: InNoRoutes\nIpExt: 0\n";
        assert_eq!(counter(netstat, "TcpExt:", "ListenOverflows"), Some(129));
        assert_eq!(counter(netstat, "TcpExt:", "NoSuchThing"), None);
        assert_eq!(counter("", "TcpExt:", "ListenOverflows"), None);
        assert_eq!(device_drops("0000272d 00000000 1\n000034d9 0000001f 0\n"), Some(31));
        assert_eq!(device_drops(""), None);
        assert_eq!(device_drops("0000272d\n"), None);
    }
}
