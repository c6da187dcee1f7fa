//! What the tests of a running server have in common.

// Each test uses its part of this.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod client;
mod site;

pub use client::{Client, Head, Response, Subscriber};
pub use site::{Site, eventually, everywhere};

use std::time::Duration;

/// How long anything may take that is sure to come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What icomet's clients are sent: always these four keys, in this order.
pub fn object(kind: &str, channel: &str, seq: i64, content: &str) -> String {
    format!(r#"{{"type":"{kind}","cname":"{channel}","seq":{seq},"content":"{content}"}}"#)
}

/// A request without a body.
pub fn get(target: &str) -> String {
    request("GET", target)
}

/// The same by another method.
pub fn request(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A request with a form.
pub fn post(target: &str, form: &str) -> String {
    let length = form.len();
    format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{form}")
}

/// A value as it may stand in a query or a form.
pub fn encoded(value: &str) -> String {
    value.bytes().map(|byte| format!("%{byte:02x}")).collect()
}
