//! Real database servers, started privately for tests and benchmarks.
//!
//! Each has a data directory, a port on 127.0.0.1 and a socket of its own, so any number of them
//! run at once, and none is mistaken for one that the machine runs anyway. They write to disk as
//! carefully as in production: what they committed survives [`Postgres::kill`]. When the value is
//! dropped, or the process that started it ends, however it ends, the server is gone.

mod mariadb;
mod postgres;
mod program;

pub use crate::mariadb::MariaDb;
pub use crate::postgres::Postgres;

/// The user and the password of every server here, with all rights.
pub const USER: &str = "eserver";
