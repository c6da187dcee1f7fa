//! The protocols a server may speak, as values: a request to send and how to know its answer.
//!
//! One file each. A request is encoded once and sent many times, so encoding may take its time;
//! [`Protocol::reply`] runs for every answer and must not.

mod beanstalkd;
mod exact;
mod framed;
mod http;
mod redis;

pub use beanstalkd::BeanstalkdPut;
pub use exact::Exact;
pub use framed::{FramedBatchPut, FramedPop, FramedPut};
pub use http::{HttpGet, HttpPublish};
pub use redis::{RedisPop, RedisPush};

/// One kind of request and its answer.
pub trait Protocol: Send + Sync {
    /// Appends one request to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// The operations that one request stands for, such as the messages of a batch.
    fn operations(&self) -> u64 {
        1
    }

    /// What stands in front of `input`.
    ///
    /// Called again for what follows when a reply was there; never asked to remember anything, so
    /// input may be cut anywhere.
    fn reply(&self, input: &[u8]) -> Reply;
}

/// What [`Protocol::reply`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Not all of a reply yet.
    Incomplete,
    /// The answer that says the request was carried out.
    Expected {
        /// Its length.
        bytes: usize,
    },
    /// Any other answer.
    Unexpected {
        /// Its length.
        bytes: usize,
    },
}

impl Reply {
    /// A reply that is all there.
    fn whole(bytes: usize, expected: bool) -> Self {
        if expected { Self::Expected { bytes } } else { Self::Unexpected { bytes } }
    }
}

/// A reply of one line that ends in CR LF, judged without its end.
fn line_reply(input: &[u8], is_expected: impl FnOnce(&[u8]) -> bool) -> Reply {
    match input.windows(2).position(|pair| pair == b"\r\n") {
        None => Reply::Incomplete,
        Some(length) => Reply::whole(length + 2, is_expected(&input[..length])),
    }
}

/// Whether `text` is a decimal number as servers write counts and ids.
fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The request is `request`; and `replies`, each with whether it is the expected one, are
    /// recognized whole, cut at every byte, and one behind the other.
    pub(crate) fn check(protocol: &dyn Protocol, request: &[u8], replies: &[(&[u8], bool)]) {
        let mut out = b"kept".to_vec();
        protocol.encode(&mut out);
        assert_eq!(String::from_utf8_lossy(&out[4..]), String::from_utf8_lossy(request));
        let stream: Vec<u8> = replies.iter().flat_map(|(reply, _)| *reply).copied().collect();
        let mut rest = stream.as_slice();
        for (reply, expected) in replies {
            for cut in 0..reply.len() {
                assert_eq!(
                    protocol.reply(&reply[..cut]),
                    Reply::Incomplete,
                    "{:?} cut at {cut}",
                    String::from_utf8_lossy(reply)
                );
            }
            let found = protocol.reply(rest);
            assert_eq!(
                found,
                Reply::whole(reply.len(), *expected),
                "{:?}",
                String::from_utf8_lossy(reply)
            );
            rest = &rest[reply.len()..];
        }
        assert_eq!(protocol.reply(rest), Reply::Incomplete);
    }
}
