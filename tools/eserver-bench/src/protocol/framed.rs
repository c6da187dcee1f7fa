//! eserver's frames: [`FramedPut`] puts one message (8001), [`FramedPop`] takes one (8002),
//! [`FramedBatchPut`] puts many (8015).

use eserver_wire::framed::{self, BODY_BYTES_MAX, BodyTooLong};

use super::{Protocol, Reply};

const PUT: u16 = 8001;
const POP: u16 = 8002;
const BATCH_PUT: u16 = 8015;

/// Puts one statement into the default queue: `{"sql":"…"}`.
#[derive(Debug, Clone)]
pub struct FramedPut {
    body: Vec<u8>,
}

impl FramedPut {
    /// A put of `statement`, which is sent as it is and so may hold nothing JSON would escape.
    ///
    /// # Errors
    /// [`BodyTooLong`] when it does not fit into a frame.
    pub fn new(statement: &str) -> Result<Self, BodyTooLong> {
        let body = format!(r#"{{"sql":"{statement}"}}"#).into_bytes();
        if body.len() > BODY_BYTES_MAX {
            return Err(BodyTooLong(body.len()));
        }
        Ok(Self { body })
    }
}

impl Protocol for FramedPut {
    fn encode(&self, out: &mut Vec<u8>) {
        framed::encode(PUT, &self.body, out).expect("the length was checked when it was made");
    }

    fn reply(&self, input: &[u8]) -> Reply {
        match framed::decode(input) {
            None => Reply::Incomplete,
            // The second spelling is the Python original's.
            Some(frame) => Reply::whole(
                frame.encoded_bytes(),
                frame.command == PUT
                    && matches!(frame.body, br#"{"msg":"success"}"# | br#"{"msg": "success"}"#),
            ),
        }
    }
}

/// Takes one statement from the default queue; an empty queue is an unexpected answer.
#[derive(Debug, Clone)]
pub struct FramedPop;

impl Protocol for FramedPop {
    fn encode(&self, out: &mut Vec<u8>) {
        framed::encode(POP, b"{}", out).expect("two bytes fit into a frame");
    }

    fn reply(&self, input: &[u8]) -> Reply {
        match framed::decode(input) {
            None => Reply::Incomplete,
            Some(frame) => Reply::whole(
                frame.encoded_bytes(),
                frame.command == POP && matches!(frame.body, [b'"', .., b'"']),
            ),
        }
    }
}

/// Puts as many equal messages as one frame holds into the default queue.
#[derive(Debug, Clone)]
pub struct FramedBatchPut {
    body: Vec<u8>,
    items: usize,
}

impl FramedBatchPut {
    /// A batch of messages of `item_bytes` bytes each, filled up to the longest body.
    ///
    /// # Panics
    /// When not even one such message fits.
    #[must_use]
    pub fn full(item_bytes: usize) -> Self {
        const OPENING: &str = r#"{"queue":"default","items":["#;
        const CLOSING: &str = "]}";
        let item = format!(r#""{}""#, "x".repeat(item_bytes));
        // Every item but the first brings a comma.
        let items = (BODY_BYTES_MAX - OPENING.len() - CLOSING.len() + 1) / (item.len() + 1);
        assert!(items > 0, "an item of {item_bytes} bytes fits into a frame");
        let body = format!("{OPENING}{}{CLOSING}", vec![item; items].join(",")).into_bytes();
        Self { body, items }
    }

    /// Messages in each batch.
    #[must_use]
    pub fn items(&self) -> usize {
        self.items
    }
}

impl Protocol for FramedBatchPut {
    fn encode(&self, out: &mut Vec<u8>) {
        framed::encode(BATCH_PUT, &self.body, out).expect("a full batch fits into a frame");
    }

    fn operations(&self) -> u64 {
        self.items as u64
    }

    fn reply(&self, input: &[u8]) -> Reply {
        match framed::decode(input) {
            None => Reply::Incomplete,
            Some(frame) => Reply::whole(
                frame.encoded_bytes(),
                frame.command == BATCH_PUT && ids(frame.body) == Some(self.items),
            ),
        }
    }
}

/// How many ids stand in `{"ids":[1,2,3]}`; `None` when it is anything else.
fn ids(body: &[u8]) -> Option<usize> {
    let ids = body.strip_prefix(br#"{"ids":["#)?.strip_suffix(b"]}")?;
    // The first and the last are looked at; in between, counting commas is all that a loop which
    // sees gigabytes of ids can afford.
    ids.first().filter(|byte| byte.is_ascii_digit())?;
    ids.last().filter(|byte| byte.is_ascii_digit())?;
    Some(1 + ids.iter().filter(|&&byte| byte == b',').count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::check;

    fn frame(command: u16, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        framed::encode(command, body, &mut out).unwrap();
        out
    }

    #[test]
    fn a_put_is_answered_by_success_alone() {
        check(
            &FramedPut::new("insert into t(num) values (%d)").unwrap(),
            &frame(8001, br#"{"sql":"insert into t(num) values (%d)"}"#),
            &[
                (&frame(8001, br#"{"msg":"success"}"#), true),
                (&frame(8001, br#"{"msg": "success"}"#), true),
                (&frame(8001, br#"{"msg":"success7"}"#), false),
                (&frame(0, br#"{"msg":"error"}"#), false),
                (&frame(8001, br#"{"msg":"success"}"#), true),
                (&frame(0, b""), false),
            ],
        );
    }

    #[test]
    fn a_pop_is_answered_by_a_statement() {
        check(
            &FramedPop,
            &frame(8002, b"{}"),
            &[
                (&frame(8002, br#""insert into t(num) values (1)""#), true),
                (&frame(8002, br#""""#), true),
                (&frame(8002, br#"""#), false),
                (&frame(0, br#"{"msg":"error"}"#), false),
                (&frame(4002, br#"{"msg":"queue is empty"}"#), false),
            ],
        );
    }

    #[test]
    fn a_statement_longer_than_a_frame_is_refused() {
        // `{"sql":""}` takes ten bytes of the body.
        assert!(FramedPut::new(&"x".repeat(BODY_BYTES_MAX - 10)).is_ok());
        assert_eq!(
            FramedPut::new(&"x".repeat(BODY_BYTES_MAX - 9)).unwrap_err(),
            BodyTooLong(BODY_BYTES_MAX + 1)
        );
    }

    #[test]
    fn a_batch_is_full_and_answered_by_as_many_ids() {
        let batch = FramedBatchPut::full(30_000);
        assert_eq!((batch.items(), batch.operations()), (2, 2));
        let item = "x".repeat(30_000);
        check(
            &batch,
            &frame(
                8015,
                format!(r#"{{"queue":"default","items":["{item}","{item}"]}}"#).as_bytes(),
            ),
            &[
                (&frame(8015, br#"{"ids":[1,2]}"#), true),
                (&frame(8015, br#"{"ids":[1]}"#), false),
                (&frame(8015, br#"{"ids":[]}"#), false),
                (&frame(8015, br#"{"ids":[1,2,3]}"#), false),
                (&frame(8015, br#"{"ids":[1,]}"#), false),
                (&frame(0, br#"{"error":"full"}"#), false),
            ],
        );
    }

    #[test]
    fn no_further_item_would_fit() {
        for item_bytes in [1, 60, 128, 65_503] {
            let batch = FramedBatchPut::full(item_bytes);
            let mut out = Vec::new();
            batch.encode(&mut out);
            let free = framed::FRAME_BYTES_MAX - out.len();
            assert!(free < item_bytes + 3, "{item_bytes}: {free} bytes are free");
        }
    }
}
