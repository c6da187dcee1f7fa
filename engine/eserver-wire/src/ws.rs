//! WebSocket (RFC 6455), with messages compressed one by one if both sides want it
//! (permessage-deflate, RFC 7692).
//!
//! A server reads the opening [`Handshake`] out of a request's head. From then on [`Inbound`] takes
//! frames off the front of what has come and gives [`Event`]s; it keeps nothing but the fragments of
//! a message that has not come to its end. What is sent is written by [`encode_frame`] and
//! [`encode_close`]. A client does the same with [`Role::Client`], and masks what it sends.
//!
//! A frame is only looked at when it is whole: until then it stays where it is.

mod deflate;
mod frame;
mod handshake;
mod inbound;
mod text;

pub use deflate::{Deflater, InflateError, Inflater};
pub use frame::{
    CloseCode, FRAME_HEAD_BYTES_MAX, Opcode, encode_close, encode_frame, encode_masked_frame,
};
pub use handshake::{
    ANSWER_DEFLATE, BadHandshake, Handshake, KEY_BYTES, PROTOCOL, VERSION, accept_key,
};
pub use inbound::{Event, Inbound, Role, Rules, Scratch, Step, Violation};
