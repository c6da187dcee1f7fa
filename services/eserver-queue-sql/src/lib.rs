//! Drains: from a queue into SQL, exactly once, and never stuck.
//!
//! A message's way through the files: [`Drain`] is told how to work (`drain.rs`) and admits what it
//! could work off. At work, its dispatcher takes messages from the [`Feed`](eserver::Feed);
//! `message.rs` reads each, and the `statement.rs` it means, whose text was looked through by
//! `lexer.rs`. A `lane.rs` applies them in batches, each in one transaction that also moves the
//! lane's `position.rs` in the database; the `sink.rs` is the database, one file for each engine.
//! The verdicts go back the same way: what was applied is gone from the queue, and what fails by
//! itself is set aside with the database's words.

mod engine;
mod target;

mod drain;

mod dispatcher;
mod stats;

mod lexer;
mod message;
mod statement;

mod backoff;
mod lane;
mod position;
mod sink;

#[cfg(test)]
mod simulation;

pub use crate::drain::{
    ConnectError, Drain, DrainError, DrainSettings, Draining, LANES_MAX, check_statement,
};
pub use crate::engine::Engine;
pub use crate::target::{Target, TargetError};
