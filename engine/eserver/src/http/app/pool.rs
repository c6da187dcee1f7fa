//! [`Pool`]: threads for code that blocks.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

/// A fixed number of threads for handlers that block: SQL, files, slow computations.
///
/// What comes while all are at work waits in line; past the line's bound it is refused with 503.
/// Copies share the threads, which end when the last copy is gone and the line is empty.
#[derive(Clone)]
pub struct Pool(Arc<Owner>);

/// The pool has no room for one more: all threads are at work and the line is full.
#[derive(Debug)]
pub(crate) struct Full;

type Job = Box<dyn FnOnce() + Send>;

/// Tells the threads when the last copy of the pool goes.
struct Owner(Arc<Shared>);

struct Shared {
    line: Mutex<Line>,
    wake: Condvar,
    waiting_max: usize,
}

struct Line {
    jobs: VecDeque<Job>,
    /// Threads that wait for a job.
    idle: usize,
    closed: bool,
}

impl Pool {
    /// Starts `threads` threads, at least one; `waiting_max` requests may wait for one of them.
    ///
    /// # Errors
    /// When the system cannot start so many.
    pub fn new(threads: usize, waiting_max: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        let line = Mutex::new(Line { jobs: VecDeque::new(), idle: 0, closed: false });
        let owner = Owner(Arc::new(Shared { line, wake: Condvar::new(), waiting_max }));
        for number in 0..threads {
            let shared = Arc::clone(&owner.0);
            let thread = thread::Builder::new().name(format!("eserver-pool-{number}"));
            thread.spawn(move || shared.work())?;
        }
        Ok(Pool(Arc::new(owner)))
    }

    /// Runs `job` on one of the threads; what it returns, or nothing if it panicked. If the receiver
    /// is gone before its turn has come, it is not run.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Full> {
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(move || {
            // Who asked may have lost interest, perhaps before the job's turn.
            if !sender.is_closed() {
                let _ = sender.send(job());
            }
        });
        let Shared { wake, waiting_max, .. } = &*self.0.0;
        let mut line = self.0.0.line();
        if line.jobs.len() >= line.idle.saturating_add(*waiting_max) {
            return Err(Full);
        }
        line.jobs.push_back(job);
        drop(line);
        wake.notify_one();
        Ok(receiver)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.line().closed = true;
        self.0.wake.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut line = self.line();
        loop {
            if let Some(job) = line.jobs.pop_front() {
                drop(line);
                // A panic is that job's failure: its sender is dropped, and the thread goes on.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                line = self.line();
            } else if line.closed {
                return;
            } else {
                line.idle += 1;
                line = self.wake.wait(line).unwrap_or_else(PoisonError::into_inner);
                line.idle -= 1;
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing between lock and unlock can panic but an allocation failure, which aborts.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn what_does_not_fit_is_refused_and_panics_do_no_harm() {
        let pool = Pool::new(2, 1).unwrap();
        let (go, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let (here, is_here) = mpsc::channel();
        let job = |number: usize| {
            let (gate, here) = (Arc::clone(&gate), here.clone());
            move || {
                here.send(()).unwrap();
                gate.lock().unwrap().recv().unwrap();
                number
            }
        };
        let running: Vec<_> = (0..2)
            .map(|number| {
                let receiver = pool.run(job(number)).unwrap();
                is_here.recv().unwrap();
                receiver
            })
            .collect();
        let waiting = pool.run(job(2)).unwrap();
        assert!(matches!(pool.run(|| ()), Err(Full)));
        for _ in 0..3 {
            go.send(()).unwrap();
        }
        for (number, receiver) in running.into_iter().chain([waiting]).enumerate() {
            assert_eq!(receiver.blocking_recv(), Ok(number));
        }
        let panics = pool.run(|| panic!("on purpose")).unwrap();
        assert!(panics.blocking_recv().is_err());
        for number in 0..4 {
            assert_eq!(pool.run(move || number).unwrap().blocking_recv(), Ok(number));
        }
    }

    #[test]
    fn what_nobody_waits_for_is_not_run() {
        let pool = Pool::new(1, 8).unwrap();
        let (go, gate) = mpsc::channel::<()>();
        let blocked = pool.run(move || gate.recv().unwrap()).unwrap();
        let (ran, has_run) = mpsc::channel();
        let job = |number: usize| {
            let ran = ran.clone();
            move || ran.send(number).unwrap()
        };
        drop(pool.run(job(1)).unwrap());
        let last = pool.run(job(2)).unwrap();
        go.send(()).unwrap();
        blocked.blocking_recv().unwrap();
        last.blocking_recv().unwrap();
        assert_eq!(has_run.try_iter().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn threads_end_with_the_last_copy() {
        let pool = Pool::new(3, 8).unwrap();
        let shared = Arc::downgrade(&pool.0.0);
        drop(pool.clone());
        let last = pool.run(|| 7).unwrap();
        drop(pool);
        assert_eq!(last.blocking_recv(), Ok(7));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while shared.strong_count() > 0 {
            assert!(std::time::Instant::now() < deadline, "threads are left");
            thread::yield_now();
        }
    }
}
