//! Bytes in, messages out, and back again; no socket, no clock, no allocation on the way in.
//!
//! The caller owns the buffer. A decoder looks at its front and answers one of two things: a
//! message borrowed from the buffer together with the number of bytes it took, or "not enough
//! yet". Nothing is consumed until a message is whole, so a codec keeps no state between calls
//! and cutting the input anywhere changes nothing. The one thing that may be too long for a buffer,
//! an HTTP body, has a decoder of a few words that takes whatever has come.
//!
//! Both roles live side by side: what a server decodes a client encodes, so the load generator,
//! the tests and the server share one understanding of each protocol.

pub mod framed;
pub mod http;
pub mod sse;
pub mod ws;
