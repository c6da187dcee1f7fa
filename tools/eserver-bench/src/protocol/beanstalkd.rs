//! beanstalkd: [`BeanstalkdPut`] puts one job into the default tube.

use super::{Protocol, Reply, is_number, line_reply};

/// `put` with priority 0, no delay and a minute to run; beanstalkd answers with the job's id.
#[derive(Debug, Clone)]
pub struct BeanstalkdPut {
    request: Vec<u8>,
}

impl BeanstalkdPut {
    /// A put of `value`.
    #[must_use]
    pub fn new(value: &str) -> Self {
        let request = format!("put 0 0 60 {}\r\n{value}\r\n", value.len()).into_bytes();
        Self { request }
    }
}

impl Protocol for BeanstalkdPut {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.request);
    }

    fn reply(&self, input: &[u8]) -> Reply {
        line_reply(input, |line| line.strip_prefix(b"INSERTED ").is_some_and(is_number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::check;

    #[test]
    fn a_put_is_answered_by_an_id() {
        check(
            &BeanstalkdPut::new("hello"),
            b"put 0 0 60 5\r\nhello\r\n",
            &[
                (b"INSERTED 1\r\n", true),
                (b"INSERTED 1234567\r\n", true),
                (b"BURIED 3\r\n", false),
                (b"OUT_OF_MEMORY\r\n", false),
                (b"INSERTED \r\n", false),
                (b"INSERTED 4\r\n", true),
            ],
        );
    }
}
