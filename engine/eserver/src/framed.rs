//! Services of framed commands: the way one wrote for the old framework, in Rust.
//!
//! [`App`] is for people: commands by number, plain functions and `async fn`s. [`Application`] is
//! what stands below it, for services that answer in batches and write replies in place.

mod app;
mod application;
mod request;

pub use app::{App, RunError};
pub use application::{Answered, Application, Call, Framed};
pub use eserver_wire::framed::{BODY_BYTES_MAX, BodyTooLong, Frame};
pub use request::{OwnedRequest, Reply, Request, Responder};
