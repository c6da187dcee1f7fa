//! [`RULES`]: what is needed, one rule a function, in the order in which it is told.
//!
//! A connection that is idle needs a descriptor, a file and memory, and nothing else: a million were
//! held on two cores with every setting of the kernel as it was. So a rule complains only of what
//! would keep connections from existing, and says of the rest what it is good for.

use crate::amount::{bytes, count};
use crate::facts::{Allowance, Facts};
use crate::finding::{Finding, Purpose, Verdict};
use crate::target::Target;

/// Finds something, or nothing to say.
pub(crate) type Rule = fn(&Facts, &Target) -> Option<Finding>;

/// All rules.
pub(crate) const RULES: &[(Purpose, Rule)] = &[
    (Purpose::Hold, open_files),
    (Purpose::Hold, all_files),
    (Purpose::Hold, memory),
    (Purpose::Hold, group_memory),
    (Purpose::Hold, group_tasks),
    (Purpose::Hold, watches),
    (Purpose::Hold, connection_tracking),
    (Purpose::Hold, local_ports),
    (Purpose::Come, accept_queue),
    (Purpose::Come, half_open),
    (Purpose::Come, device_queue),
    (Purpose::Comfort, tcp_memory),
    (Purpose::Comfort, orphans),
];

/// Descriptors that a table keeps free of connections.
const RESERVED: u64 = 256;

/// Descriptors of each shard in every table.
const SHARD_DESCRIPTORS: u64 = 5;

/// Threads that hold connections, at most.
const TABLES_MAX: u64 = 512;

/// Files that the rest of a machine has open.
const OTHER_FILES: u64 = 65_536;

/// Threads of a server besides those that hold connections.
const OTHER_THREADS: u64 = 64;

/// Memory of a server without connections.
const BASE_BYTES: u64 = 64 << 20;

/// For this part of a second a listener may wait for its turn: the longest stall of a shard that was
/// measured under load was 20 ms.
const ACCEPT_STALLS_PER_S: u64 = 10;

/// For this part of a second a processor may be late to take packets up.
const DEVICE_STALLS_PER_S: u64 = 100;

/// Packets of a newcomer: its SYN, its ACK, its first bytes.
const NEWCOMER_PACKETS: u64 = 3;

/// How many of the descriptors of a table are for connections, and how many tables that makes.
fn tables(hard: u64, connections: u64) -> (u64, u64) {
    let room = hard.saturating_sub(RESERVED + SHARD_DESCRIPTORS * TABLES_MAX.min(hard / 32));
    (room, connections.div_ceil(room.max(1)))
}

/// RLIMIT_NOFILE (getrlimit(2)) bounds a table of descriptors. Threads usually share one, but each
/// may have its own (unshare(2), CLONE_FILES): then it bounds each of them.
fn open_files(facts: &Facts, target: &Target) -> Option<Finding> {
    const NAME: &str = "open files of a process";
    let Some((soft, hard)) = facts.process.open_files else {
        return Some(Finding::unknown(NAME, "/proc/self/limits cannot be read"));
    };
    let wanted = target.connections;
    if hard.saturating_sub(RESERVED) >= wanted {
        let most = if hard == u64::MAX { "no limit".to_owned() } else { count(hard) };
        let raised = if soft < hard {
            format!(", to which eserver raises the {} in force", count(soft))
        } else {
            String::new()
        };
        return Some(Finding::enough(NAME, format!("{most}{raised}")));
    }
    let (room, tables) = tables(hard, wanted);
    let tables_max = TABLES_MAX.min(hard / 32);
    if target.private_tables && room >= 64 && tables <= tables_max {
        let sentence = format!(
            "{} per table × {} tables: threads with tables of their own hold what one does not \
             (private_fd_tables = \"auto\"), so the limit can stay",
            count(hard),
            count(tables),
        );
        return Some(Finding::enough(NAME, sentence));
    }
    let needed = wanted + 2 * RESERVED;
    let sentence = format!(
        "{}; {} connections in one table need as many and {RESERVED} more",
        count(hard),
        count(wanted)
    );
    let mut finding = Finding::new(NAME, Verdict::NotEnough, sentence);
    // A limit above it cannot be set (fs, `nr_open`), so that comes first.
    if facts.number("fs.nr_open").is_some_and(|most| most < needed) {
        finding = finding.set("fs.nr_open", needed.to_string());
    }
    // A service does not get the limits of any shell, so each has its own command.
    Some(if facts.process.service.is_some() {
        finding.by(edit_unit(facts, &format!("LimitNOFILE={needed}")))
    } else {
        finding
            .by(format!(
                "ulimit -n {needed}    # in the shell that starts eserver; no other counts"
            ))
            .by(edit_unit(facts, &format!("LimitNOFILE={needed}")))
    })
}

/// The command for a setting of the service, with what to write there.
fn edit_unit(facts: &Facts, line: &str) -> String {
    let unit = facts.process.service.as_ref().map_or("eserver.service", |(_, unit)| unit);
    format!("systemctl edit {unit}    # [Service] {line}, then restart it")
}

/// What the whole machine may have open (fs, `file-max`).
fn all_files(facts: &Facts, target: &Target) -> Option<Finding> {
    const NAME: &str = "open files of the machine";
    let Some(most) = facts.number("fs.file-max") else {
        return Some(Finding::unknown(NAME, "fs.file-max cannot be read"));
    };
    let needed = target.sockets().saturating_add(OTHER_FILES);
    if most < needed {
        let sentence = format!(
            "fs.file-max is {}; {} sockets and what else is open need {}",
            count(most),
            count(target.sockets()),
            count(needed)
        );
        let finding = Finding::new(NAME, Verdict::NotEnough, sentence);
        return Some(finding.set("fs.file-max", needed.to_string()));
    }
    // By default systemd takes the bound away.
    let allowed = if most >= 1 << 62 { "without bound".to_owned() } else { count(most) };
    let open = facts.files_open.unwrap_or(0);
    let left = most.saturating_sub(open);
    let sentence = if left < target.sockets() {
        format!(
            "{allowed}, but {} are open now: unless they are of this server already, only {} more \
             fit until they are closed",
            count(open),
            count(left)
        )
    } else {
        format!("{allowed}, {} are open", count(open))
    };
    Some(Finding::enough(NAME, sentence))
}

fn memory(facts: &Facts, target: &Target) -> Option<Finding> {
    const NAME: &str = "memory";
    let Some(available) = facts.available_bytes else {
        return Some(Finding::unknown(NAME, "/proc/meminfo cannot be read"));
    };
    Some(enough_bytes(NAME, "could be had", available, target))
}

/// The kernel's memory for a socket counts as its process's (cgroup-v2, "Memory Ownership").
fn group_memory(facts: &Facts, target: &Target) -> Option<Finding> {
    let Allowance { most, used } = facts.process.group_memory?;
    // A group that may have more than there is bounds nothing.
    if facts.memory_bytes.is_some_and(|all| most >= all) {
        return None;
    }
    let left = most.saturating_sub(used);
    let how = format!("left of the {} that the control group may have", bytes(most));
    let finding = enough_bytes("memory of the group", &how, left, target);
    Some(match finding.verdict {
        Verdict::NotEnough => {
            let mebibytes = (target.bytes() + BASE_BYTES + used).div_ceil(1 << 20);
            finding
                .by(edit_unit(facts, &format!("MemoryMax={mebibytes}M")))
                .by(format!("docker run --memory {mebibytes}m    # if it is a container"))
        }
        _ => finding,
    })
}

fn enough_bytes(name: &'static str, how: &str, there: u64, target: &Target) -> Finding {
    let needed = target.bytes() + BASE_BYTES;
    let what = format!(
        "{} {how}; about {} are needed, nine tenths of it by the kernel for sockets",
        bytes(there),
        bytes(needed)
    );
    if there >= needed {
        return Finding::enough(name, what);
    }
    let each = (target.bytes() / target.connections.max(1)).max(1);
    // Rounded down to what a measured average can promise.
    let fit = there.saturating_sub(BASE_BYTES) / each / 1000 * 1000;
    Finding::new(name, Verdict::NotEnough, format!("{what}. It is enough for about {}", count(fit)))
}

fn group_tasks(facts: &Facts, target: &Target) -> Option<Finding> {
    const NAME: &str = "threads of the group";
    let allowance = facts.process.group_tasks?;
    let (_, hard) = facts.process.open_files?;
    let (_, tables) = tables(hard, target.connections);
    // The first table is the one that all other threads share.
    let holders = if target.private_tables { tables.saturating_sub(1).min(TABLES_MAX) } else { 0 };
    let needed = holders + OTHER_THREADS;
    let sentence = format!(
        "{} left of the {} that the control group may have; up to {} are needed",
        count(allowance.left()),
        count(allowance.most),
        count(needed)
    );
    if allowance.left() >= needed {
        return Some(Finding::enough(NAME, sentence));
    }
    let wanted = allowance.used + needed;
    Some(
        Finding::new(NAME, Verdict::NotEnough, sentence)
            .by(edit_unit(facts, &format!("TasksMax={wanted}")))
            .by(format!("docker run --pids-limit {wanted}    # if it is a container")),
    )
}

/// Each connection is watched by an epoll set, and a user may have so many watches (fs,
/// `max_user_watches`): by default a twenty-fifth of the memory.
fn watches(facts: &Facts, target: &Target) -> Option<Finding> {
    const NAME: &str = "epoll watches of a user";
    const MAX: &str = "fs.epoll.max_user_watches";
    let most = facts.number(MAX)?;
    // Clients on the same machine may be of the same user.
    let needed = target.sockets().saturating_add(OTHER_THREADS);
    let sentence = format!("{MAX} is {}; {} are needed", count(most), count(needed));
    Some(if most >= needed {
        Finding::enough(NAME, format!("{} are allowed", count(most)))
    } else {
        Finding::new(NAME, Verdict::NotEnough, sentence).set(MAX, needed.to_string())
    })
}

/// Where packets are tracked, each connection is an entry; past the bound new ones are dropped
/// (nf_conntrack-sysctl).
fn connection_tracking(facts: &Facts, target: &Target) -> Option<Finding> {
    const NAME: &str = "connection tracking";
    const MAX: &str = "net.netfilter.nf_conntrack_max";
    let most = facts.number(MAX)?;
    let used = facts.number("net.netfilter.nf_conntrack_count").unwrap_or(0);
    // The table is there as soon as its module is; whether anything is entered is up to the rules.
    if used == 0 && facts.sockets_in_use.is_some_and(|sockets| sockets > 0) {
        return Some(Finding::enough(NAME, "there are connections, and none of them is tracked"));
    }
    // Those that have ended are remembered for two minutes more.
    let needed = target.connections + target.connections / 10 + used;
    let there = format!("{} entries, {} used", count(most), count(used));
    if most >= needed {
        return Some(Finding::enough(NAME, there));
    }
    let full = if used >= most / 20 * 19 { " (full: newcomers are being dropped)" } else { "" };
    let sentence =
        format!("{there}{full}; about {} are needed, past it newcomers are dropped", count(needed));
    Some(Finding::new(NAME, Verdict::NotEnough, sentence).set(MAX, needed.to_string()))
}

/// A connection is a pair of addresses with ports: from one address to one, there are as many as
/// there are local ports (ip-sysctl). Servers do not notice; what connects from one machine does.
fn local_ports(facts: &Facts, target: &Target) -> Option<Finding> {
    if !target.with_clients {
        return None;
    }
    const NAME: &str = "local ports of the clients";
    let range = facts.numbers("net.ipv4.ip_local_port_range")?;
    let [low, high] = range[..] else { return None };
    let ports = high.saturating_sub(low) + 1;
    let addresses = target.connections.div_ceil((ports / 2).max(1));
    Some(Finding::enough(
        NAME,
        format!(
            "{} for each source address and address of the server; `eserver bench hold` takes as \
             many source addresses as it needs, {} or more",
            count(ports),
            count(addresses)
        ),
    ))
}

/// Newcomers that were not accepted yet wait here, at each listener (ip-sysctl, `somaxconn`;
/// listen(2)). Each shard has a listener, but a rush may come to one.
fn accept_queue(facts: &Facts, target: &Target) -> Option<Finding> {
    const NAME: &str = "queue of newcomers";
    const MAX: &str = "net.core.somaxconn";
    let Some(most) = facts.number(MAX) else {
        return Some(Finding::unknown(NAME, format!("{MAX} cannot be read")));
    };
    let needed = target.newcomers_per_s / ACCEPT_STALLS_PER_S;
    let lost = match facts.accept_overflows {
        Some(overflows) if overflows > 0 => {
            format!("; {} of all programs' were turned away since boot", count(overflows))
        }
        _ => String::new(),
    };
    if most >= needed {
        return Some(Finding::enough(NAME, format!("{MAX} is {}{lost}", count(most))));
    }
    let sentence = format!(
        "{MAX} is {}; while a shard is busy for a tenth of a second {} come, and those who find no \
         room try again after a second{lost}",
        count(most),
        count(needed)
    );
    let value = needed.max(4096).to_string();
    Some(Finding::new(NAME, Verdict::Slower, sentence).set(MAX, value))
}

/// Half-open connections are bounded by the listener's queue. Past it cookies let newcomers in; the
/// setting `tcp_max_syn_backlog` counts only where there are none (`tcp_conn_request` in
/// net/ipv4/tcp_input.c, and ip-sysctl, `tcp_syncookies`).
fn half_open(facts: &Facts, target: &Target) -> Option<Finding> {
    const NAME: &str = "half-open connections";
    let most = facts.number("net.ipv4.tcp_max_syn_backlog")?;
    if facts.number("net.ipv4.tcp_syncookies").is_none_or(|cookies| cookies > 0) {
        let sentence = "as many as wait in the queue of newcomers, and past it cookies; \
                        tcp_max_syn_backlog does not count then";
        return Some(Finding::enough(NAME, sentence));
    }
    // A newcomer's way there and back, generously.
    let needed = target.newcomers_per_s / ACCEPT_STALLS_PER_S * 2;
    let there = format!("tcp_max_syn_backlog is {} and there are no cookies", count(most));
    if most / 4 * 3 >= needed {
        return Some(Finding::enough(NAME, there));
    }
    let sentence = format!("{there}: a rush of more waits for a retry of a second");
    Some(Finding::new(NAME, Verdict::Slower, sentence).set("net.ipv4.tcp_syncookies", "1"))
}

/// Packets that a processor has not taken up yet (net, `netdev_max_backlog`): of the loopback, of
/// virtual devices and where they are steered to other processors. Others come by NAPI, without it.
fn device_queue(facts: &Facts, target: &Target) -> Option<Finding> {
    const NAME: &str = "queue of packets";
    const MAX: &str = "net.core.netdev_max_backlog";
    let most = facts.number(MAX)?;
    let needed = target.newcomers_per_s * NEWCOMER_PACKETS / DEVICE_STALLS_PER_S;
    let lost = match facts.device_drops {
        Some(drops) if drops > 0 => format!("; {} were dropped since boot", count(drops)),
        _ => String::new(),
    };
    if most >= needed {
        return Some(Finding::enough(NAME, format!("{MAX} is {}{lost}", count(most))));
    }
    let sentence = format!(
        "{MAX} is {}; {} may come before a processor takes them up, and the rest is dropped{lost}",
        count(most),
        count(needed)
    );
    Some(Finding::new(NAME, Verdict::Slower, sentence).set(MAX, needed.max(1000).to_string()))
}

/// Idle sockets have nothing in their buffers, and are not counted there: 2,000,000 of them were
/// measured to take 84 pages. It is what is on its way, or waits for slow readers, that is: a page
/// for each, however short it is (15,000 unread messages of 5 bytes took 14,592). The unit is pages
/// (ip-sysctl, `tcp_mem`).
fn tcp_memory(facts: &Facts, target: &Target) -> Option<Finding> {
    const NAME: &str = "memory of TCP buffers";
    const SETTING: &str = "net.ipv4.tcp_mem";
    let page = facts.page_bytes.max(1);
    let most = *facts.numbers(SETTING)?.get(2)?;
    let tenth = target.connections / 10;
    // On its way, it is in the buffer of one end.
    let needed = tenth;
    let there = format!("{SETTING} allows {}", bytes(most.saturating_mul(page)));
    if most >= needed {
        return Some(Finding::enough(NAME, format!("{there}; idle connections take none of it")));
    }
    let sentence = format!(
        "{there}; a message on its way to {} at once takes a page for each, {}",
        count(tenth),
        bytes(needed * page)
    );
    // Never more than half of the memory, or the cure is worse.
    let half = facts.memory_bytes.map_or(u64::MAX, |all| all / page / 2);
    let finding = Finding::new(NAME, Verdict::Slower, sentence);
    let value = |pages: u64| format!("{} {} {pages}", pages / 2, pages / 4 * 3);
    Some(if needed <= half { finding.set(SETTING, value(needed)) } else { finding })
}

/// Sockets that were closed before all was sent (ip-sysctl, `tcp_max_orphans`): the connections of a
/// server that ends, for a moment.
fn orphans(facts: &Facts, target: &Target) -> Option<Finding> {
    let most = facts.number("net.ipv4.tcp_max_orphans")?;
    let sentence = if most >= target.connections {
        format!("{} may still be closing when the server has ended", count(most))
    } else {
        format!(
            "{} may still be closing when the server has ended; beyond that clients see a reset \
             instead of an end, and come back just so",
            count(most)
        )
    };
    Some(Finding::enough("closing connections", sentence))
}
