//! The queue on a disk that does all a disk may do, against a model that knows what it must not.
//!
//! A seed decides everything: the settings, the commands, the faults, the moment of the power cut.
//! `ESERVER_SEED=N` runs one seed, `ESERVER_SEEDS=N` so many instead of the usual number.

mod damage;
mod disk;
mod full;
mod inside;
mod model;
mod run;

pub(crate) use disk::SimulatedDisk;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 10_000;

/// Says which seed it was when a test fails.
struct Announce(u64);

impl Drop for Announce {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the simulation failed; to see it again: ESERVER_SEED={}", self.0);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

#[test]
fn any_seed_keeps_the_promises() {
    if let Some(seed) = number("ESERVER_SEED") {
        let _announce = Announce(seed);
        eprintln!("{:#?}", run::run(seed));
        return;
    }
    let seeds = number("ESERVER_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let seen = thread::scope(|scope| {
        let worker = || {
            let mut seen = run::Seen::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds {
                    return seen;
                }
                let _announce = Announce(seed);
                seen.add(&run::run(seed));
            }
        };
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        let mut seen = run::Seen::default();
        for worker in workers {
            seen.add(&worker.join().expect("a seed failed"));
        }
        seen
    });
    if seeds >= SEEDS {
        seen.assert_everything_happened();
    }
}
