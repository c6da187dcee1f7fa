//! [`Application`]: frames in, answers out, on the shard's own thread.

use std::net::IpAddr;
use std::time::Duration;

use eserver_wire::framed::{self, Frame, HEADER_BYTES};

use crate::census::Refusal;
use crate::conn_id::ConnId;
use crate::reply::ReplyTo;
use crate::service::{Conn, Conns, Received, Service};

/// What serves frames: one value per shard.
pub trait Application: 'static {
    /// Sees to the answer of one frame: now, or later by the [`ReplyTo`] it takes along.
    fn call(&mut self, frame: Frame<'_>, call: Call<'_, '_>) -> Answered;

    /// How many requests of a connection may be in flight, this one included, for a request with
    /// this command to be read: fewer for commands whose answers are large.
    fn in_flight_max(&self, command: u16) -> u32 {
        let _ = command;
        u32::MAX
    }

    /// Every frame of this turn has been called: the moment to pass a batch on.
    fn turn_ended(&mut self) {}
}

/// Proof that a call was answered, or will be.
pub struct Answered(());

/// The answer that a frame still needs. Using it up is the only way to get an [`Answered`].
pub struct Call<'a, 'b> {
    conn: &'a mut Conn<'b>,
    to: ReplyTo,
}

impl Call<'_, '_> {
    /// The connection that asked.
    #[must_use]
    pub fn conn_id(&self) -> ConnId {
        self.to.conn()
    }

    /// The address of the peer.
    #[must_use]
    pub fn peer(&mut self) -> IpAddr {
        self.conn.peer()
    }

    pub(crate) fn ticket(&self) -> ReplyTo {
        self.to
    }

    /// Answers now.
    pub fn reply(self, command: u16, body: &[u8]) -> Answered {
        self.conn.reply(self.to, |out| encode(command, body, out));
        Answered(())
    }

    /// Answers now with frames that `encode` appends: one for a plain answer.
    pub fn reply_with(self, encode: impl FnOnce(&mut Vec<u8>)) -> Answered {
        self.conn.reply(self.to, encode);
        Answered(())
    }

    /// Promises to answer later through [`Post`](crate::Post).
    #[must_use]
    pub fn later(self) -> (ReplyTo, Answered) {
        (self.to, Answered(()))
    }
}

/// Appends a frame; a body that cannot be sent becomes an error frame that says so.
pub(crate) fn encode(command: u16, body: &[u8], out: &mut Vec<u8>) {
    if let Err(error) = framed::encode(command, body, out) {
        encode_error(&error.to_string(), out);
    }
}

/// Appends the frame in which the protocol reports failures: command 0, `{"error": sentence}`.
///
/// `sentence` must need no escaping in JSON.
pub(crate) fn encode_error(sentence: &str, out: &mut Vec<u8>) {
    debug_assert!(!sentence.contains(['"', '\\']) && !sentence.contains(char::is_control));
    let body = format!("{{\"error\":\"{sentence}\"}}");
    framed::encode(0, body.as_bytes(), out).expect("our own sentences are short");
}

/// The framed protocol in front of an [`Application`].
pub struct Framed<A>(pub A);

impl<A: Application> Service for Framed<A> {
    fn receive(&mut self, input: &[u8], conn: &mut Conn<'_>) -> Received {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let Some(frame) = framed::decode(rest) else {
                return Received { used, need: bytes_needed(rest), seen: 0 };
            };
            if !conn.may_request_below(self.0.in_flight_max(frame.command)) {
                return Received { used, need: 0, seen: 0 };
            }
            let to = conn.begin_request();
            used += frame.encoded_bytes();
            let Answered(()) = self.0.call(frame, Call { conn, to });
        }
    }

    fn turn_ended(&mut self, _: &mut Conns<'_>) {
        self.0.turn_ended();
    }

    fn refuse(&self, why: Refusal, out: &mut Vec<u8>) {
        encode_error(&why.to_string(), out);
    }

    fn too_slow(&self, limit: Duration, out: &mut Vec<u8>) {
        let seconds = limit.as_secs_f64();
        encode_error(&format!("the frame did not arrive whole within {seconds} s"), out);
    }
}

/// How long an unfinished frame must become before it can be decoded, as far as is known.
fn bytes_needed(rest: &[u8]) -> usize {
    match rest.get(2..HEADER_BYTES) {
        Some(&[high, low]) => HEADER_BYTES + usize::from(u16::from_be_bytes([high, low])),
        _ => HEADER_BYTES,
    }
}
