//! CPU time of a server that is several processes, and [`Meter`], which reads it at both ends.

use std::fs;
use std::io;
use std::time::Duration;

use eserver_bench::process;

use super::database::Database;

/// The ticks of `/proc/PID/stat` in a second: `USER_HZ`, part of Linux's interface.
const TICKS_PER_SECOND: u32 = 100;

/// CPU time between two looks.
pub(super) struct Meter<'run> {
    eserver: Option<u32>,
    database: &'run Database,
    eserver_before: Duration,
    database_before: Option<Duration>,
}

impl<'run> Meter<'run> {
    /// Begins to count: the process `eserver`, where it takes part, and the database.
    pub(super) fn start(eserver: Option<u32>, database: &'run Database) -> anyhow::Result<Self> {
        let eserver_before = eserver.map(process::cpu_time).transpose()?.unwrap_or_default();
        let database_before = database.cpu_time()?;
        Ok(Self { eserver, database, eserver_before, database_before })
    }

    /// Milliseconds of CPU for each 1,000 of `rows`: eserver's and the database's.
    pub(super) fn stop(self, rows: u64) -> anyhow::Result<(Option<f64>, Option<f64>)> {
        let eserver = self.eserver.map(process::cpu_time).transpose()?;
        let database = self.database.cpu_time()?;
        let each = |after: Duration, before: Duration| {
            after.saturating_sub(before).as_secs_f64() * 1e6 / rows.max(1) as f64
        };
        Ok((
            eserver.map(|after| each(after, self.eserver_before)),
            database.zip(self.database_before).map(|(after, before)| each(after, before)),
        ))
    }
}

/// The CPU time so far of a process and of its children, living and ended.
pub(super) fn of_family(id: u32) -> io::Result<Duration> {
    let stat = Stat::of(&id.to_string())?;
    let ended = Duration::from_secs(stat.ticks_of_ended_children) / TICKS_PER_SECOND;
    let mut sum = process::cpu_time(id)? + ended;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue; // not a process
        };
        // One that ends between the two looks is among the ended next time.
        if Stat::of(&child.to_string()).is_ok_and(|stat| stat.parent == id) {
            sum += process::cpu_time(child).unwrap_or_default();
        }
    }
    Ok(sum)
}

/// What we read of `/proc/PID/stat`.
struct Stat {
    parent: u32,
    ticks_of_ended_children: u64,
}

impl Stat {
    fn of(id: &str) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The second field is the program's name in parentheses and may itself hold anything. Behind
        // it come the state, the parent, and as the 16th and 17th of all the children's time.
        let fields = text.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
        let fields: Vec<_> = fields.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        match (number(1), number(13), number(14)) {
            (Some(parent), Some(user), Some(kernel)) => Ok(Self {
                parent: u32::try_from(parent).unwrap_or_default(),
                ticks_of_ended_children: user + kernel,
            }),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::Instant;

    use super::*;

    /// Whether a process and its children are ever seen to have used so much.
    fn uses(id: u32, milliseconds: u64) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if of_family(id).unwrap() > Duration::from_millis(milliseconds) {
                return true;
            }
            thread::yield_now();
        }
        false
    }

    #[test]
    fn a_living_child_counts() {
        // This one takes its child along when it is told to end.
        let busy = "while :; do :; done";
        let mut parent = Command::new("timeout").args(["200", "sh", "-c", busy]).spawn().unwrap();
        let seen = uses(parent.id(), 150);
        Command::new("kill").arg(parent.id().to_string()).status().unwrap();
        parent.wait().unwrap();
        assert!(seen, "the child's time is missing");
    }

    #[test]
    fn a_child_that_ended_counts() {
        // The child ends by its limit of a second; the parent when its input does.
        let script = "(ulimit -t 1; while :; do :; done) 2> /dev/null; cat";
        let mut parent =
            Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let stat = parent.id().to_string();
        let deadline = Instant::now() + Duration::from_secs(60);
        while Stat::of(&stat).unwrap().ticks_of_ended_children == 0 && Instant::now() < deadline {
            thread::yield_now();
        }
        let seen = uses(parent.id(), 150);
        drop(parent.stdin.take());
        parent.wait().unwrap();
        assert!(seen, "the time of the child that ended is missing");
    }
}
