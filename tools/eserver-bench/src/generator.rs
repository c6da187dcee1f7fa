//! [`run`]: starts the threads of a run, tells them what phase it is, and adds up what they found.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::outcome::{Errors, Kind, Outcome};
use crate::plan::{Extent, Plan};
use crate::process;
use crate::protocol::Protocol;
use crate::worker::{Tally, Worker};

/// Why there is no outcome at all. What goes wrong with single requests is in [`Errors`] instead.
#[derive(Debug, Error)]
pub enum RunError {
    /// The client's own event loop or threads could not be set up.
    #[error("the load client could not start")]
    Start(#[source] io::Error),
    /// The connections did not all open, or not all get their first answer, in time.
    #[error("{opened} of {threads} threads had all their connections answered in time; {errors}")]
    Open {
        /// Threads whose connections were all open.
        opened: usize,
        /// Threads of the run.
        threads: usize,
        /// What went wrong on the way.
        errors: Errors,
    },
    /// CPU time could not be read, most likely because the server is no longer there.
    #[error("the CPU time of process {pid} could not be read")]
    Cpu {
        /// The process.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
}

/// What the threads are to do. Only the thread that runs the plan moves it, and only forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Open all connections; each makes one burst and then rests.
    Opening,
    /// Keep all connections busy, without counting.
    WarmUp,
    /// Keep all connections busy and count.
    Measured,
    /// Begin nothing more; wait for the answers that are due.
    Drain,
}

/// The phase, as the threads share it.
#[derive(Debug)]
pub(crate) struct PhaseClock(AtomicU8);

impl PhaseClock {
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(Phase::Opening as u8))
    }

    pub(crate) fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    pub(crate) fn get(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Opening,
            1 => Phase::WarmUp,
            2 => Phase::Measured,
            _ => Phase::Drain,
        }
    }
}

/// What a thread tells while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Every connection of mine is open.
    Opened,
    /// My requests are all answered, or I gave up.
    Finished,
}

/// Puts the load of `plan` on its server, in the words of `protocol`.
///
/// Returns when the measured part is over and every answer still due has come or is late, at most
/// about [`Plan::open_timeout`] + the extent + [`Plan::reply_timeout`] after the call.
///
/// # Errors
/// [`RunError`] when nothing could be measured. Look at [`Outcome::errors`] for the rest.
///
/// # Panics
/// When `plan` has no connections, no pipeline or no threads.
pub fn run(plan: &Plan, protocol: &dyn Protocol) -> Result<Outcome, RunError> {
    assert!(
        plan.connections > 0 && plan.pipeline > 0 && plan.threads > 0,
        "a plan has connections, a pipeline and threads"
    );
    let clock = PhaseClock::new();
    let (notify, notices) = mpsc::channel();
    let workers = (0..plan.threads.min(plan.connections))
        .map(|index| Worker::new(plan, index, protocol, &clock, notify.clone()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(RunError::Start)?;
    drop(notify);

    thread::scope(|scope| {
        let threads: Vec<_> =
            workers.into_iter().map(|worker| scope.spawn(|| worker.run())).collect();
        let window = conduct(plan, &clock, &notices, threads.len());
        // Also after a failure: threads that are waiting go home.
        clock.set(Phase::Drain);
        let tallies: Vec<Tally> = threads
            .into_iter()
            .map(|thread| thread.join().expect("a load thread does not panic"))
            .collect();
        let tally = tallies.into_iter().fold(Tally::new(), Tally::merge);
        add_up(window, tally)
    })
}

/// The measured part as seen from outside.
struct Window {
    elapsed: Duration,
    /// Whether a deadline came before the last request was answered.
    is_late: bool,
    client_cpu: Duration,
    server_cpu: Option<Duration>,
}

/// Why there was no measured part.
enum NoWindow {
    NotOpened { opened: usize, threads: usize },
    Cpu { pid: u32, source: io::Error },
}

/// Moves the clock from phase to phase and measures between two moves.
fn conduct(
    plan: &Plan,
    clock: &PhaseClock,
    notices: &Receiver<Notice>,
    threads: usize,
) -> Result<Window, NoWindow> {
    let opened = count(notices, Notice::Opened, threads, plan.open_timeout);
    if opened < threads {
        return Err(NoWindow::NotOpened { opened, threads });
    }
    let measured = match plan.extent {
        Extent::Time { warm_up, measured } => {
            clock.set(Phase::WarmUp);
            count(notices, Notice::Finished, 1, warm_up);
            measured
        }
        Extent::Requests { deadline, .. } => deadline,
    };
    let (client_before, server_before) = cpu_times(plan)?;
    let start = Instant::now();
    clock.set(Phase::Measured);
    // With an extent of time nobody finishes early but who gives up.
    let finished = count(notices, Notice::Finished, threads, measured);
    let elapsed = start.elapsed();
    let (client_after, server_after) = cpu_times(plan)?;
    clock.set(Phase::Drain);
    let is_late = matches!(plan.extent, Extent::Requests { .. }) && finished < threads;
    Ok(Window {
        elapsed,
        is_late,
        client_cpu: client_after.saturating_sub(client_before),
        server_cpu: server_after
            .zip(server_before)
            .map(|(after, before)| after.saturating_sub(before)),
    })
}

/// Waits for `wanted` notices of one kind, at most for `timeout`; how many came.
fn count(notices: &Receiver<Notice>, kind: Notice, wanted: usize, timeout: Duration) -> usize {
    let deadline = Instant::now() + timeout;
    let mut came = 0;
    while came < wanted {
        match notices.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(notice) if notice == kind => came += 1,
            // Who finishes before it has opened has given up.
            Ok(_) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    came
}

/// The CPU time so far of this process and of the server's.
fn cpu_times(plan: &Plan) -> Result<(Duration, Option<Duration>), NoWindow> {
    let read = |pid| process::cpu_time(pid).map_err(|source| NoWindow::Cpu { pid, source });
    Ok((read(std::process::id())?, plan.server_process.map(read).transpose()?))
}

fn add_up(window: Result<Window, NoWindow>, mut tally: Tally) -> Result<Outcome, RunError> {
    match window {
        Ok(window) => {
            if window.is_late {
                tally.errors.count(Kind::Timeout, || {
                    format!("the deadline came after {} operations", tally.operations)
                });
            }
            Ok(Outcome {
                operations: tally.operations,
                answered: tally.answered,
                errors: tally.errors,
                elapsed: window.elapsed,
                latency: tally.latency,
                client_cpu: window.client_cpu,
                server_cpu: window.server_cpu,
            })
        }
        Err(NoWindow::NotOpened { opened, threads }) => {
            Err(RunError::Open { opened, threads, errors: tally.errors })
        }
        Err(NoWindow::Cpu { pid, source }) => Err(RunError::Cpu { pid, source }),
    }
}
