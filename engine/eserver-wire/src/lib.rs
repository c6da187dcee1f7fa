//! Bytes in, messages out, and back again; no socket, no clock, no allocation on the way in.
//!
//! The caller owns the buffer. A decoder looks at its front and answers one of two things: a
//! message borrowed from the buffer together with the number of bytes it took, or "not enough
//! yet". Nothing is consumed until a message is whole, so a codec keeps no state between calls
//! and cutting the input anywhere changes nothing.
//!
//! Both roles live side by side: what a server decodes a client encodes, so the load generator,
//! the tests and the server share one understanding of each protocol.

pub mod framed;
