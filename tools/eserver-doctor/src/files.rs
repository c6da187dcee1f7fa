//! [`Files`]: what the kernel shows as files, of this machine or of one that was recorded.

use std::collections::BTreeMap;
use std::fs;

/// Where facts are read from.
pub trait Files {
    /// The text of the file at this absolute path; `None` if it is not there or may not be read.
    fn read(&self, path: &str) -> Option<String>;

    /// The processes there are, by number, in rising order.
    fn processes(&self) -> Vec<u32>;
}

/// This machine.
#[derive(Debug, Clone, Copy)]
pub struct Here;

impl Files for Here {
    fn read(&self, path: &str) -> Option<String> {
        // The arguments of a process need not be UTF-8.
        fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn processes(&self) -> Vec<u32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let mut processes: Vec<u32> = entries.filter_map(number).collect();
        processes.sort_unstable();
        processes
    }
}

/// A recorded machine: texts by path.
impl Files for BTreeMap<String, String> {
    fn read(&self, path: &str) -> Option<String> {
        self.get(path).cloned()
    }

    fn processes(&self) -> Vec<u32> {
        let number =
            |path: &String| path.strip_prefix("/proc/")?.strip_suffix("/comm")?.parse().ok();
        let mut processes: Vec<u32> = self.keys().filter_map(number).collect();
        processes.sort_unstable();
        processes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn here_is_at_least_this_process() {
        assert!(Here.processes().contains(&std::process::id()));
        assert!(Here.read("/proc/self/comm").is_some_and(|name| !name.trim().is_empty()));
        assert_eq!(Here.read("/proc/no/such/file"), None);
    }
}
