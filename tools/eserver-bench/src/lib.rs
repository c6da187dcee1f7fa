//! A closed-loop load generator: requests go out, answers are checked, time and CPU are counted.
//!
//! A [`Protocol`] is a value that knows one request and how to recognize its answer; there is one
//! for eserver's frames, one for HTTP, one for Redis and one for beanstalkd, so that every server
//! is measured by the same loop. A [`Plan`] says how many connections, how deep the pipeline, how
//! long. [`run`] encodes one burst of requests once and gives each of its threads a share of the
//! connections:
//!
//! ```text
//! Dialer ──▶ connection ──▶ the burst, one write ──▶ server ──▶ one read ──▶ Protocol::reply
//!                 ▲                                                               │
//!                 └──────────── the next burst, when the last answer is in ◀──────┘
//! ```
//!
//! What comes out is an [`Outcome`]: operations, latency percentiles, and the CPU time that the
//! client and the server took for them. Nothing is estimated: an answer that is wrong, missing or
//! late is counted in [`Errors`] and its first occurrence is kept in words. Every wait has an end,
//! so a server that hangs makes a run fail and never makes it hang.
//!
//! [`hold`](hold::hold) opens up to a million connections to a comet server instead, publishes, and
//! sees whether everything reaches everybody; [`hold::repoll`] times one poller. [`hold_idle`] keeps many silent connections open, to see what they cost the server, and
//! [`process`] reads CPU time and memory of any process.

mod plan;
pub mod protocol;

mod dialer;
mod generator;
mod idle;
mod worker;

mod outcome;

pub mod descriptors;
pub mod hold;
pub mod process;

pub use generator::{RunError, run};
pub use idle::{IdleError, hold_idle};
pub use outcome::{Errors, Outcome};
pub use plan::{Extent, Plan};
pub use protocol::{Protocol, Reply};
