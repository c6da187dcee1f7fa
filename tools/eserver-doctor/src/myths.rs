//! [`MYTHS`]: advice that is found everywhere and does harm, or nothing, if a machine has taken it.

use crate::amount::{bytes, count};
use crate::facts::Facts;
use crate::finding::{Finding, Purpose, Verdict};

/// Recognizes advice that was taken.
pub(crate) type Myth = fn(&Facts) -> Option<Finding>;

/// All that are recognized.
pub(crate) const MYTHS: &[Myth] = &[
    recycled,
    bytes_for_pages,
    no_cookies,
    no_timestamps,
    no_windows,
    no_selective_acknowledgments,
    resets,
    hasty_end,
    few_ends,
    few_orphans,
    ports_of_servers,
    large_receive_buffers,
    large_send_buffers,
];

/// What is told about advice, whether it was taken or not: `eserver doctor --myths`.
pub const MYTHS_TOLD: &str = "\
Advice about many connections that is found everywhere, and what is true. Sources: the kernel's
Documentation/networking/ip-sysctl and nf_conntrack-sysctl, admin-guide/sysctl/fs and net.

tcp_tw_recycle = 1
  Gone since Linux 4.12. Before, it dropped the connections of clients that share an address.
tcp_tw_reuse = 1
  Is about connections that this machine opens; a server's are opened by others. Does no harm
  here, and is on for the loopback anyway (2).
tcp_fin_timeout = 5 against TIME-WAIT
  It bounds FIN-WAIT-2 of sockets that nobody holds any more. TIME-WAIT is 60 s, whatever is
  set, and costs 256 bytes, no descriptor and no port of a server.
tcp_max_tw_buckets, tcp_max_orphans: lowered
  The documentation says that one must not: they are bounds against attacks.
tcp_mem in bytes
  Its unit is pages. A number of bytes is 4,096 times too much, and TCP may then take all
  memory.
tcp_mem raised for idle connections
  Those take none of it. What waits for slow readers does.
tcp_rmem, tcp_wmem: a large number in the middle
  That is what each socket begins with. Buffers grow by themselves up to the third number, where
  that helps; a peer that does not read holds all of it.
net.core.rmem_max, wmem_max
  Bound what a program asks for by setsockopt. eserver does not ask, and TCP's own growth has
  its bound in tcp_rmem and tcp_wmem.
tcp_syncookies = 0
  Then a flood of half-open connections keeps everybody out. With cookies nothing is lost until
  the queue is full, and little after.
tcp_max_syn_backlog raised
  Counts only where cookies are off. The queue is bounded by what the program gives to
  listen(2), 65,535 here, and net.core.somaxconn.
tcp_timestamps = 0, tcp_sack = 0, tcp_window_scaling = 0
  Save a few bytes and take away protection against old packets, repair of losses, and speed.
tcp_abort_on_overflow = 1
  Turns a rush that would pass within a second into errors that people see.
ip_local_port_range = 1024 65535 on a server
  Is for those who connect. It lets an outgoing connection take the port of a server that is
  being restarted; reserve those in ip_local_reserved_ports.
tcp_keepalive_time = 60
  Counts for sockets that ask for it. eserver ends silent connections by limits.idle_timeout_s.
ulimit -n in a shell, /etc/security/limits.conf
  Count for what is started from that shell, or from a login. A service of systemd has
  LimitNOFILE; look at what a running one has in /proc/PID/limits.
fs.file-max raised
  systemd has taken that bound away long ago. It was never the bound of one process.
fs.nr_open raised
  Is needed only for a limit of more than 1,048,576 descriptors in one table.
vm.max_map_count, vm.swappiness, kernel.pid_max
  Have nothing to do with connections: eserver maps a few dozen areas and starts a few dozen
  threads.
";

fn harmful(name: &'static str, sentence: impl Into<String>) -> Finding {
    let finding = Finding::new(name, Verdict::Harmful, sentence);
    Finding { purpose: Purpose::Myth, ..finding }
}

/// A switch that is on by default and was turned off.
fn turned_off(facts: &Facts, name: &'static str, sentence: &str) -> Option<Finding> {
    (facts.number(name) == Some(0)).then(|| harmful(name, sentence).set(name, "1"))
}

/// A switch that is off by default and was turned on.
fn turned_on(facts: &Facts, name: &'static str, sentence: &str) -> Option<Finding> {
    let is_on = facts.number(name).is_some_and(|number| number > 0);
    is_on.then(|| harmful(name, sentence).set(name, "0"))
}

/// Gone since Linux 4.12, when the offset of timestamps became another for each connection.
fn recycled(facts: &Facts) -> Option<Finding> {
    let sentence = "it drops clients that share an address; kernels since 4.12 do not have it";
    turned_on(facts, "net.ipv4.tcp_tw_recycle", sentence)
}

/// The unit is pages, and advice is often in bytes: then it bounds nothing (ip-sysctl).
fn bytes_for_pages(facts: &Facts) -> Option<Finding> {
    const NAME: &str = "net.ipv4.tcp_mem";
    let most = *facts.numbers(NAME)?.get(2)?;
    let pages = facts.memory_bytes? / facts.page_bytes.max(1);
    (most > pages).then(|| {
        let sentence = format!(
            "its unit is pages, not bytes: {} pages are more than the machine has, so TCP may take \
             all of the memory",
            count(most)
        );
        // As the kernel chooses it (`tcp_init_mem` in net/ipv4/tcp.c): a sixteenth, and so on.
        let low = pages / 16 / 4 * 3;
        harmful(NAME, sentence).set(NAME, format!("{low} {} {}", pages / 16, low * 2))
    })
}

fn no_cookies(facts: &Facts) -> Option<Finding> {
    let sentence = "without cookies a flood of half-open connections keeps everybody out";
    turned_off(facts, "net.ipv4.tcp_syncookies", sentence)
}

fn no_timestamps(facts: &Facts) -> Option<Finding> {
    let sentence = "without timestamps old packets are not told from new ones, ports cannot be used \
                    again early, and cookies remember less of a newcomer";
    turned_off(facts, "net.ipv4.tcp_timestamps", sentence)
}

fn no_windows(facts: &Facts) -> Option<Finding> {
    let sentence = "without it no more than 64 KiB are on their way to a peer at a time";
    turned_off(facts, "net.ipv4.tcp_window_scaling", sentence)
}

fn no_selective_acknowledgments(facts: &Facts) -> Option<Finding> {
    let sentence = "without it one lost packet makes those after it be sent again";
    turned_off(facts, "net.ipv4.tcp_sack", sentence)
}

/// ip-sysctl: "Enabling this option can harm clients of your server."
fn resets(facts: &Facts) -> Option<Finding> {
    let sentence = "a rush that would pass within a second becomes errors that people see";
    turned_on(facts, "net.ipv4.tcp_abort_on_overflow", sentence)
}

/// It is about FIN-WAIT-2 of sockets that nobody holds (ip-sysctl), and not about TIME-WAIT, which is
/// `TCP_TIMEWAIT_LEN` of include/net/tcp.h.
fn hasty_end(facts: &Facts) -> Option<Finding> {
    const NAME: &str = "net.ipv4.tcp_fin_timeout";
    let seconds = facts.number(NAME)?;
    (seconds < 10).then(|| {
        let sentence = format!(
            "{seconds} s do not shorten TIME-WAIT, which is always 60 s, but cut off peers that are \
             slow to end"
        );
        harmful(NAME, sentence).set(NAME, "60")
    })
}

/// ip-sysctl says of both: "you _must_ not lower the limit artificially".
fn lowered(facts: &Facts, name: &'static str, what_happens: &str) -> Option<Finding> {
    let most = facts.number(name)?;
    // By default half as many as TCP's hash table has buckets (`tcp_init` in net/ipv4/tcp.c): one for
    // 256 KiB of memory, rounded up to a power of two, at most 262,144. An eighth of that is nobody's default.
    let usual = (facts.memory_bytes? >> 18).next_power_of_two().min(1 << 18);
    (most < usual / 8).then(|| {
        let sentence = format!("{}, of {} by default: {what_happens}", count(most), count(usual));
        harmful(name, sentence).set(name, usual.to_string())
    })
}

fn few_ends(facts: &Facts) -> Option<Finding> {
    let sentence = "what is past it is forgotten at once, and its late packets meet whoever uses \
                    the port next; it saves 256 bytes each";
    lowered(facts, "net.ipv4.tcp_max_tw_buckets", sentence)
}

fn few_orphans(facts: &Facts) -> Option<Finding> {
    let sentence = "what is past it loses the end of what was sent to it";
    lowered(facts, "net.ipv4.tcp_max_orphans", sentence)
}

/// The ports that eserver listens on unless told otherwise.
const PORTS: [u64; 3] = [8000, 8100, 8888];

/// Outgoing connections take any port of the range that is not reserved (ip-sysctl).
fn ports_of_servers(facts: &Facts) -> Option<Finding> {
    const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";
    let range = facts.numbers("net.ipv4.ip_local_port_range")?;
    let [low, high] = range[..] else { return None };
    let reserved = facts.sysctls.get(RESERVED).map_or("", String::as_str);
    let is_reserved = |port: u64| {
        reserved.split(',').any(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let bounds = first.trim().parse::<u64>().ok().zip(last.trim().parse::<u64>().ok());
            bounds.is_some_and(|(first, last)| (first..=last).contains(&port))
        })
    };
    let in_danger = |port: &u64| (low..=high).contains(port) && !is_reserved(*port);
    let free: Vec<String> =
        PORTS.into_iter().filter(in_danger).map(|port| port.to_string()).collect();
    (!free.is_empty()).then(|| {
        let sentence = format!(
            "{low} to {high}: an outgoing connection may hold port {} when a server is to start there",
            free.join(" or ")
        );
        let all: Vec<&str> = [reserved]
            .into_iter()
            .filter(|text| !text.is_empty())
            .chain(free.iter().map(String::as_str))
            .collect();
        harmful("net.ipv4.ip_local_port_range", sentence).set(RESERVED, all.join(","))
    })
}

/// What every socket begins with; buffers grow by themselves where that helps (ip-sysctl,
/// `tcp_moderate_rcvbuf`).
fn large_buffers(facts: &Facts, name: &'static str, usual: &str) -> Option<Finding> {
    let start = *facts.numbers(name)?.get(1)?;
    (start > 1 << 20).then(|| {
        let sentence = format!(
            "sockets begin with {}: buffers grow by themselves, and a peer that does not read holds \
             all of it",
            bytes(start)
        );
        harmful(name, sentence).set(name, usual)
    })
}

fn large_receive_buffers(facts: &Facts) -> Option<Finding> {
    large_buffers(facts, "net.ipv4.tcp_rmem", "4096 131072 6291456")
}

fn large_send_buffers(facts: &Facts) -> Option<Finding> {
    large_buffers(facts, "net.ipv4.tcp_wmem", "4096 16384 4194304")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_a_page() {
        for line in MYTHS_TOLD.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }

    #[test]
    fn ports_may_be_reserved_one_by_one_and_in_ranges() {
        let mut facts = Facts::default();
        let mut set = |name: &str, value: &str| {
            facts.sysctls.insert(name.to_owned(), value.to_owned());
            ports_of_servers(&facts).map(|finding| finding.settings)
        };
        assert_eq!(set("net.ipv4.ip_local_port_range", "32768 60999"), None);
        let reserved = "net.ipv4.ip_local_reserved_ports";
        assert_eq!(
            set("net.ipv4.ip_local_port_range", "1024 65535"),
            Some(vec![(reserved, "8000,8100,8888".to_owned())])
        );
        assert_eq!(
            set(reserved, "7000,8000-8200"),
            Some(vec![(reserved, "7000,8000-8200,8888".to_owned())])
        );
        assert_eq!(set(reserved, "8000-9000"), None);
    }
}
