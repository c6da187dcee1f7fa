//! What the tests of the binary share: a private server, a client, honest producers, and the
//! programs of others. Each is stopped and removed when dropped, so also when a test fails.
//!
//! Nothing here sleeps until something "should" have happened: [`eventually`] asks again and again
//! until a deadline that only a hung server reaches.
#![allow(dead_code, reason = "each test file uses its own part of this")]

pub(crate) mod client;
pub(crate) mod corpus;
pub(crate) mod database;
pub(crate) mod http;
pub(crate) mod listener;
pub(crate) mod load;
pub(crate) mod mounts;
pub(crate) mod program;
pub(crate) mod server;

use std::time::{Duration, Instant};

/// How long anything may take before the server counts as hung; generous, since machines are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Asks `attempt` until it answers; fails the test with `what` when [`PATIENCE`] is over.
pub(crate) fn eventually<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, attempt).unwrap_or_else(|| panic!("not within {PATIENCE:?}: {what}"))
}

/// Asks `attempt` until it answers or `limit` is over.
pub(crate) fn within<T>(limit: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = attempt() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// How many rounds a repeated test runs: `usual`, or what the environment variable says.
pub(crate) fn rounds(variable: &str, usual: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is a number of rounds, not {text:?}")),
        Err(_) => usual,
    }
}
