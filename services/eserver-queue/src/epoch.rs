//! The epoch: a number that says for how long a queue's ids mean the same messages.
//!
//! Whoever must do nothing twice remembers ids together with the epoch. It stands in the file
//! `epoch` beside the segments, one word a line: the number; the log's identity; and `synced`, or
//! the boot of the machine in which the log was last used without a sync for every commit. What is
//! not synced may be lost in a power cut, its numbers are then given out again, and that begins a
//! new epoch.

use std::fmt;
use std::io;
use std::path::Path;

use crate::disk::Disk;
use crate::name::QueueName;
use crate::opening::recovery::Recovery;
use crate::queue::Queue;
use crate::settings::SyncPolicy;
use crate::store::{StoreError, failed, replace_file};

/// The file's name in a queue's directory.
const FILE: &str = "epoch";

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Epoch {
    /// From 1 to 2^63 - 1: databases have no larger numbers.
    number: u64,
    /// Whose messages' numbers it is about.
    identity: u128,
    /// What the numbers have to outlive to stay unique, besides being closed in good order.
    used: Used,
}

/// How a log was last used.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Used {
    /// Each commit was synced.
    Synced,
    /// Commits were left to the kernel of this boot.
    InBoot(String),
}

/// What the kernel calls this boot, or nothing if it does not say.
pub(crate) fn current_boot() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let boot = text.trim();
    (!boot.is_empty()).then(|| boot.to_owned())
}

/// The epoch of a queue that was just opened in `directory`, a new one if need be.
///
/// The file is up to date when this returns: before anybody can have remembered a number.
pub(crate) fn open(
    directory: &Path,
    name: &QueueName,
    queue: &Queue<impl Disk>,
    recovery: &Recovery,
    boot: Option<&str>,
) -> Result<u64, StoreError> {
    let path = directory.join(FILE);
    let identity = queue.log.identity;
    let used = match queue.log.settings.sync {
        SyncPolicy::Always => Used::Synced,
        // An unknown boot is like none before.
        SyncPolicy::Interval { .. } | SyncPolicy::Never => {
            Used::InBoot(boot.unwrap_or("unknown").to_owned())
        }
    };
    let before = match std::fs::read(&path) {
        Ok(text) => Some(Epoch::parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let kept = match &before {
        None if recovery.is_new => None,
        None => {
            tracing::info!(queue = %name, "the queue has no epoch yet: it gets its first");
            None
        }
        Some(None) => {
            tracing::warn!(
                queue = %name, path = %path.display(),
                "the file of the epoch is damaged: a new epoch begins"
            );
            None
        }
        Some(Some(before)) if before.identity != identity => {
            tracing::info!(queue = %name, "the queue is made anew: a new epoch begins");
            None
        }
        Some(Some(before)) if recovery.is_clean || before.used.is_safe(boot) => Some(before.number),
        Some(Some(_)) => {
            tracing::warn!(
                queue = %name,
                "the machine went down while the queue was open, and not every commit was synced: \
                 messages may be lost and their numbers given out again, so a new epoch begins"
            );
            None
        }
    };
    let number = match kept {
        Some(number) => number,
        None => new_number(&queue.log.disk).map_err(failed("make a number for", &path))?,
    };
    let epoch = Epoch { number, identity, used };
    if before.flatten().as_ref() != Some(&epoch) {
        replace_file(directory, FILE, &epoch.to_string())?;
    }
    Ok(number)
}

fn new_number(disk: &impl Disk) -> io::Result<u64> {
    let random = disk.random()? as u64;
    Ok((random >> 1).max(1))
}

impl Used {
    /// Whether nothing that was committed can be lost, unclean as the end was, in `boot`.
    fn is_safe(&self, boot: Option<&str>) -> bool {
        match self {
            Used::Synced => true,
            Used::InBoot(before) => boot == Some(before),
        }
    }
}

impl Epoch {
    fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(text).ok()?.lines();
        let number = lines.next()?.parse().ok()?;
        let identity = u128::from_str_radix(lines.next()?, 16).ok()?;
        let used = match lines.next()? {
            "" => return None,
            "synced" => Used::Synced,
            boot => Used::InBoot(boot.to_owned()),
        };
        let is_whole = lines.next().is_none() && text.ends_with(b"\n");
        let is_valid = (1..=i64::MAX as u64).contains(&number);
        (is_whole && is_valid).then_some(Epoch { number, identity, used })
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = match &self.used {
            Used::Synced => "synced",
            Used::InBoot(boot) => boot,
        };
        writeln!(formatter, "{}\n{:032x}\n{used}", self.number, self.identity)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Millis, QueueSettings};

    const NOW: Millis = Millis::new(1_700_000_000_000);

    /// Opens the queue in a boot, and its epoch; closes it in good order or not.
    fn live(directory: &Path, sync: SyncPolicy, boot: Option<&str>, is_clean: bool) -> u64 {
        let settings = QueueSettings { sync, ..QueueSettings::default() };
        let (mut queue, recovery) = Queue::open(directory, &settings, NOW).unwrap();
        let name = QueueName::new("test").unwrap();
        let number = open(directory, &name, &queue, &recovery, boot).unwrap();
        assert!((1..=i64::MAX as u64).contains(&number));
        queue.put(b"a", None, 0, NOW).unwrap();
        queue.commit().unwrap();
        if is_clean {
            queue.close().unwrap();
        }
        number
    }

    /// A life: how it syncs, in which boot, whether it ends in good order, and whether the epoch is
    /// the one before.
    type Life = (SyncPolicy, Option<&'static str>, bool, bool);

    #[test]
    fn an_epoch_lasts_as_long_as_numbers_are_given_once() {
        const INTERVAL: SyncPolicy = SyncPolicy::Interval { milliseconds: 1000 };
        const ALWAYS: SyncPolicy = SyncPolicy::Always;
        const NEVER: SyncPolicy = SyncPolicy::Never;
        let stories: &[&[Life]] = &[
            // With a sync for each commit it outlives everything.
            &[
                (ALWAYS, Some("a"), false, false),
                (ALWAYS, Some("a"), false, true),
                (ALWAYS, Some("b"), false, true),
                (ALWAYS, None, true, true),
            ],
            // Without, the process may die and the machine may go down in good order.
            &[
                (NEVER, Some("a"), false, false),
                (NEVER, Some("a"), true, true),
                (NEVER, Some("b"), false, true),
                (NEVER, Some("b"), false, true),
                (NEVER, Some("c"), false, false),
                (INTERVAL, Some("c"), false, true),
                (INTERVAL, Some("d"), false, false),
            ],
            // What counts is how the log was used before.
            &[
                (ALWAYS, Some("a"), false, false),
                (NEVER, Some("b"), false, true),
                (ALWAYS, Some("c"), false, false),
                (NEVER, Some("d"), false, true),
            ],
            // A kernel that says nothing is trusted with nothing.
            &[(NEVER, None, false, false), (NEVER, None, false, false), (NEVER, None, true, false)],
        ];
        for story in stories {
            let directory = tempfile::tempdir().unwrap();
            let mut before = 0;
            for (at, &(sync, boot, is_clean, is_same)) in story.iter().enumerate() {
                let number = live(directory.path(), sync, boot, is_clean);
                assert_eq!(number == before, is_same, "life {at} of {story:?}");
                before = number;
            }
        }
    }

    #[test]
    fn a_file_that_is_gone_or_damaged_begins_a_new_epoch() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let again = || live(directory.path(), SyncPolicy::Always, Some("a"), false);
        let first = again();
        assert_eq!(again(), first);
        let sound = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = sound.lines().collect();
        let damaged = [
            String::new(),
            "\u{0}".repeat(sound.len()),
            sound[..sound.len() - 1].to_owned(),
            format!("{sound}more\n"),
            format!("0\n{}\nsynced\n", lines[1]),
            format!("9223372036854775808\n{}\nsynced\n", lines[1]),
            format!("{}\n{}\n\n", lines[0], lines[1]),
            format!("{}\nnot a number\nsynced\n", lines[0]),
        ];
        let mut seen = vec![first];
        for text in damaged {
            fs::write(&path, &text).unwrap();
            let number = again();
            assert!(!seen.contains(&number), "{text:?}");
            assert_eq!(again(), number, "mended");
            seen.push(number);
        }
        fs::remove_file(&path).unwrap();
        assert!(!seen.contains(&again()));
    }

    #[test]
    fn a_queue_that_is_made_anew_has_a_new_epoch() {
        let directory = tempfile::tempdir().unwrap();
        let again = || live(directory.path(), SyncPolicy::Always, Some("a"), true);
        let first = again();
        for entry in fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "segment") {
                fs::remove_file(path).unwrap();
            }
        }
        assert_ne!(again(), first);
    }
}
