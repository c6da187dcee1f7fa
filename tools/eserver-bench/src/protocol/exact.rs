//! [`Exact`]: any request whose answer is known to the byte.

use super::{Protocol, Reply};

/// A request and the one answer to it, for questions such as "how long is the queue?".
#[derive(Debug, Clone)]
pub struct Exact {
    /// What is sent.
    pub request: Vec<u8>,
    /// What must come back, byte for byte; at least one byte.
    pub reply: Vec<u8>,
}

impl Protocol for Exact {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.request);
    }

    fn reply(&self, input: &[u8]) -> Reply {
        if input.starts_with(&self.reply) {
            Reply::Expected { bytes: self.reply.len() }
        } else if self.reply.starts_with(input) {
            Reply::Incomplete
        } else {
            // Where a wrong answer ends is unknown, so it takes all that is there.
            Reply::Unexpected { bytes: input.len() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::check;

    #[test]
    fn only_the_known_answer_is_expected() {
        let exact = Exact { request: b"LLEN queue\r\n".to_vec(), reply: b":0\r\n".to_vec() };
        check(&exact, b"LLEN queue\r\n", &[(b":0\r\n", true), (b":0\r\n", true)]);
        assert_eq!(exact.reply(b":1\r\n"), Reply::Unexpected { bytes: 4 });
        assert_eq!(exact.reply(b"-"), Reply::Unexpected { bytes: 1 });
    }
}
