//! Redis: [`RedisPush`] appends values to a list with one `RPUSH`, [`RedisPop`] takes the first.

use super::{Protocol, Reply, is_number, line_reply};

/// The list that stands for the queue.
const KEY: &str = "queue";

/// `RPUSH queue value…` in RESP; Redis answers with the list's length.
#[derive(Debug, Clone)]
pub struct RedisPush {
    request: Vec<u8>,
    values: u64,
}

impl RedisPush {
    /// A push of `value`, `count` times in one command.
    #[must_use]
    pub fn new(value: &str, count: usize) -> Self {
        let mut request = format!("*{}\r\n", count + 2);
        for part in ["RPUSH", KEY].into_iter().chain(std::iter::repeat_n(value, count)) {
            request.push_str(&format!("${}\r\n{part}\r\n", part.len()));
        }
        Self { request: request.into_bytes(), values: count as u64 }
    }
}

impl Protocol for RedisPush {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.request);
    }

    fn operations(&self) -> u64 {
        self.values
    }

    fn reply(&self, input: &[u8]) -> Reply {
        line_reply(input, |line| line.strip_prefix(b":").is_some_and(is_number))
    }
}

/// `LPOP queue` in RESP; an empty list is an unexpected answer.
#[derive(Debug, Clone)]
pub struct RedisPop;

impl Protocol for RedisPop {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("*2\r\n$4\r\nLPOP\r\n$5\r\n{KEY}\r\n").as_bytes());
    }

    fn reply(&self, input: &[u8]) -> Reply {
        let mut value_bytes = None;
        let line = line_reply(input, |line| {
            let length = line.strip_prefix(b"$").filter(|text| is_number(text));
            value_bytes = length
                .and_then(|text| std::str::from_utf8(text).ok())
                .and_then(|text| text.parse::<usize>().ok());
            value_bytes.is_some()
        });
        let (Reply::Expected { bytes }, Some(value_bytes)) = (line, value_bytes) else {
            return line;
        };
        let bytes = bytes.saturating_add(value_bytes).saturating_add(2);
        match input.get(..bytes) {
            None => Reply::Incomplete,
            Some(reply) => Reply::whole(bytes, reply.ends_with(b"\r\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::check;

    #[test]
    fn a_push_is_answered_by_the_length() {
        check(
            &RedisPush::new("hello", 1),
            b"*3\r\n$5\r\nRPUSH\r\n$5\r\nqueue\r\n$5\r\nhello\r\n",
            &[
                (b":1\r\n", true),
                (b":1000000\r\n", true),
                (b"-OOM command not allowed\r\n", false),
                (b":\r\n", false),
                (b":-1\r\n", false),
                (b"+OK\r\n", false),
                (b":2\r\n", true),
            ],
        );
    }

    #[test]
    fn a_push_of_many_counts_each() {
        let push = RedisPush::new("ab", 3);
        assert_eq!(push.operations(), 3);
        check(
            &push,
            b"*5\r\n$5\r\nRPUSH\r\n$5\r\nqueue\r\n$2\r\nab\r\n$2\r\nab\r\n$2\r\nab\r\n",
            &[(b":3\r\n", true)],
        );
    }

    #[test]
    fn a_pop_is_answered_by_a_value() {
        check(
            &RedisPop,
            b"*2\r\n$4\r\nLPOP\r\n$5\r\nqueue\r\n",
            &[
                (b"$5\r\nhello\r\n", true),
                (b"$4\r\na\r\nb\r\n", true),
                (b"$0\r\n\r\n", true),
                (b"$-1\r\n", false),
                (b"-ERR unknown command\r\n", false),
                (b"$1\r\nxyz", false),
            ],
        );
        assert_eq!(RedisPop.reply(b"$18446744073709551615\r\nx"), Reply::Incomplete);
    }
}
