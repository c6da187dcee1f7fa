//! Recorded machines (`machines/NAME.txt`), and what is said about them (`machines/NAME.N.out`).
//!
//! `ESERVER_GOLDEN=write cargo test -p eserver-doctor` writes the second kind; look at the difference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eserver_doctor::{Facts, Finding, Purpose, Report, Target, Verdict, examine, sysctl_file};

type Files = BTreeMap<String, String>;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines").join(name)
}

/// Reads a recording: what it is, perhaps `like NAME` with what is not said here, and after
/// `== PATH` the text of that file, in which ␀ stands for a zero byte.
fn machine(name: &str) -> Files {
    let text = std::fs::read_to_string(path(&format!("{name}.txt"))).expect("recorded");
    let mut sections = text.split("\n== ");
    let head = sections.next().expect("split gives one at least");
    let mut files = match head.lines().find_map(|line| line.strip_prefix("like ")) {
        Some(other) => machine(other),
        None => Files::new(),
    };
    for section in sections {
        let (path, text) = section.split_once('\n').expect("a path has a line");
        files.insert(path.to_owned(), format!("{}\n", text.trim_end().replace('␀', "\0")));
    }
    files
}

fn facts(name: &str) -> Facts {
    Facts::from_files(&machine(name))
}

fn names(findings: &[Finding], verdict: Verdict) -> Vec<&'static str> {
    let found = findings.iter().filter(|finding| finding.verdict == verdict);
    found.map(|finding| finding.name).collect()
}

/// Compares the whole page and the file with what is recorded, and gives the findings.
#[track_caller]
fn check(name: &str, target: &Target) -> Vec<Finding> {
    let facts = facts(name);
    let findings = examine(&facts, target);
    let page = Report { facts: &facts, target, findings: &findings }.to_string();
    for line in page.lines().filter(|line| !line.contains("  # ") && !line.contains("    #")) {
        assert!(line.chars().count() <= 100, "{line}");
    }
    let file = sysctl_file(&findings).unwrap_or_else(|| "none\n".to_owned());
    let found = format!("{page}\n--- file for /etc/sysctl.d ---\n{file}");
    let clients = if target.with_clients { "-with-clients" } else { "" };
    let golden = path(&format!("{name}.{}{clients}.out", target.connections));
    if std::env::var_os("ESERVER_GOLDEN").is_some() {
        std::fs::write(&golden, &found).expect("writable");
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(found == expected, "{}:\n{found}", golden.display());
    findings
}

#[test]
fn a_stock_machine_needs_nothing_for_a_hundred_thousand() {
    let findings = check("debian-12-small", &Target::new(100_000));
    assert_eq!(names(&findings, Verdict::Enough).len(), findings.len());
}

#[test]
fn for_a_million_it_needs_memory_and_says_for_how_many_there_is_enough() {
    let findings = check("debian-12-small", &Target::new(1_000_000));
    assert_eq!(names(&findings, Verdict::NotEnough), ["memory", "epoll watches of a user"]);
    assert!(findings.iter().any(|one| one.sentence.ends_with("enough for about 811,000")));
}

#[test]
fn a_low_limit_bounds_a_table_unless_all_share_one() {
    let findings = check("two-cores", &Target::new(1_000_000));
    assert_eq!(names(&findings, Verdict::Enough).len(), findings.len());
    let one = Target { private_tables: false, ..Target::new(1_000_000) };
    let findings = examine(&facts("two-cores"), &one);
    assert_eq!(names(&findings, Verdict::NotEnough), ["open files of a process"]);
    assert_eq!(findings[0].settings, []);
    assert!(findings[0].commands[0].starts_with("ulimit -n 1000512 "), "{findings:?}");
    assert!(findings[0].commands[1].contains("LimitNOFILE=1000512"), "{findings:?}");
    // Above what any process may have, that comes first.
    let more = Target { connections: 2_000_000, ..one };
    let findings = examine(&facts("two-cores"), &more);
    assert_eq!(findings[0].settings, [("fs.nr_open", "2000512".to_owned())]);
    // Far too low for tables of that many threads.
    let mut files = machine("two-cores");
    files.insert("/proc/self/limits".into(), "Max open files  64  64  files\n".into());
    let findings = examine(&Facts::from_files(&files), &Target::new(10_000));
    assert_eq!(names(&findings, Verdict::NotEnough), ["open files of a process"]);
}

#[test]
fn a_container_is_held_to_its_group() {
    let findings = check("container", &Target::new(100_000));
    let expected = ["memory of the group", "threads of the group"];
    assert_eq!(names(&findings, Verdict::NotEnough), expected);
    // A server without connections has threads, too.
    let findings = examine(&facts("container"), &Target::new(0));
    assert_eq!(names(&findings, Verdict::NotEnough), ["threads of the group"]);
}

#[test]
fn a_tracked_network_needs_entries() {
    let findings = check("tracked", &Target::new(100_000));
    assert_eq!(names(&findings, Verdict::NotEnough), ["connection tracking"]);
    // The module alone tracks nothing.
    let mut files = machine("tracked");
    files.insert("/proc/sys/net/netfilter/nf_conntrack_count".into(), "0\n".into());
    let findings = examine(&Facts::from_files(&files), &Target::new(100_000));
    assert_eq!(names(&findings, Verdict::NotEnough), [""; 0]);
}

#[test]
fn the_limits_are_those_of_the_service_that_runs() {
    let findings = check("tuned", &Target::new(1_000_000));
    assert_eq!(names(&findings, Verdict::Enough).len(), findings.len());
    assert_eq!(facts("tuned").process.service, Some((812, "eserver.service".to_owned())));
}

#[test]
fn advice_that_does_harm_is_named() {
    let findings = check("misled", &Target::new(100_000));
    let myths = findings.iter().filter(|one| one.purpose == Purpose::Myth);
    assert!(myths.clone().all(|one| one.verdict == Verdict::Harmful && !one.settings.is_empty()));
    assert_eq!(myths.count(), 13);
    let expected = ["open files of the machine"];
    assert_eq!(names(&findings, Verdict::NotEnough), expected);
    let slower = ["queue of newcomers", "half-open connections", "queue of packets"];
    assert_eq!(names(&findings, Verdict::Slower), slower);
}

#[test]
fn clients_on_the_same_machine_count_twice() {
    let target = Target { with_clients: true, ..Target::new(300_000) };
    let findings = check("two-cores", &target);
    assert!(findings.iter().any(|one| one.name == "local ports of the clients"));
    // Half as many as without.
    let target = Target { with_clients: true, ..Target::new(600_000) };
    let findings = examine(&facts("debian-12-small"), &target);
    assert_eq!(
        names(&findings, Verdict::NotEnough),
        ["memory", "epoll watches of a user"],
        "{findings:?}"
    );
}

#[test]
fn files_of_others_that_are_open_are_told_but_not_held_against_it() {
    let mut files = machine("two-cores");
    files.insert("/proc/sys/fs/file-nr".into(), "2001175\t0\t2466183\n".into());
    let findings = examine(&Facts::from_files(&files), &Target::new(1_000_000));
    assert_eq!(findings[1].verdict, Verdict::Enough);
    assert!(findings[1].sentence.contains("only 465,008 more"), "{}", findings[1].sentence);
}

#[test]
fn what_cannot_be_read_is_said() {
    let facts = Facts::from_files(&Files::new());
    let findings = examine(&facts, &Target::new(1000));
    let expected =
        ["open files of a process", "open files of the machine", "memory", "queue of newcomers"];
    assert_eq!(names(&findings, Verdict::Unknown), expected);
    assert_eq!(findings.len(), expected.len());
}
