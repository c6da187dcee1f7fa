//! The framed protocol of the Python eserver: `u16` command, `u16` body length, body; big-endian.
//!
//! The frame looks the same in both directions, so one [`decode`] and one [`encode`] serve clients
//! and servers. Every byte string is a sequence of frames, perhaps with an unfinished one at the
//! end: the framing itself cannot be wrong, only a body can, and that is for the layer above.

use thiserror::Error;

/// Bytes before the body: the command and the body's length.
pub const HEADER_BYTES: usize = 4;

/// The longest body the length field can announce, in bytes.
pub const BODY_BYTES_MAX: usize = u16::MAX as usize;

/// The longest frame, header included, in bytes.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + BODY_BYTES_MAX;

/// One message, borrowed from the buffer it arrived in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What is asked for, or what kind of answer this is.
    pub command: u16,
    /// At most [`BODY_BYTES_MAX`] bytes; for eserver's own services, UTF-8 JSON.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// The length of this frame on the wire, header included.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }
}

/// A body longer than the 16-bit length field can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a frame's body holds at most {BODY_BYTES_MAX} bytes, this one has {0}")]
pub struct BodyTooLong(pub usize);

/// The first frame of `input`, or `None` while it is not all there.
///
/// The frame took [`Frame::encoded_bytes`] bytes from the front of `input`; what follows is the
/// next frame's.
///
/// ```
/// use eserver_wire::framed::{self, Frame};
///
/// let bytes = [0x1f, 0x43, 0, 2, b'{', b'}', 0x1f];
/// let frame = framed::decode(&bytes).expect("a whole frame stands in front");
/// assert_eq!(frame, Frame { command: 8003, body: b"{}" });
/// assert_eq!(framed::decode(&bytes[frame.encoded_bytes()..]), None);
/// ```
#[must_use]
#[inline]
pub fn decode(input: &[u8]) -> Option<Frame<'_>> {
    let (header, rest) = input.split_first_chunk::<HEADER_BYTES>()?;
    let [command_high, command_low, length_high, length_low] = *header;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    Some(Frame {
        command: u16::from_be_bytes([command_high, command_low]),
        body: rest.get(..length)?,
    })
}

/// Appends the frame to `out`.
///
/// # Errors
/// [`BodyTooLong`] past [`BODY_BYTES_MAX`]; `out` is then as it was.
#[inline]
pub fn encode(command: u16, body: &[u8], out: &mut Vec<u8>) -> Result<(), BodyTooLong> {
    let length = u16::try_from(body.len()).map_err(|_| BodyTooLong(body.len()))?;
    out.reserve(HEADER_BYTES + body.len());
    out.extend_from_slice(&command.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
    Ok(())
}

/// Appends a frame whose body `write` appends in place, so that a reply is built without a copy.
///
/// # Errors
/// [`BodyTooLong`] when `write` appended more than [`BODY_BYTES_MAX`]; `out` is then as it was.
#[inline]
pub fn encode_with(
    command: u16,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) -> Result<(), BodyTooLong> {
    let start = out.len();
    out.extend_from_slice(&command.to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    write(out);
    let body_bytes = out.len() - start - HEADER_BYTES;
    let Ok(length) = u16::try_from(body_bytes) else {
        out.truncate(start);
        return Err(BodyTooLong(body_bytes));
    };
    out[start + 2..start + HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes `pieces` as a connection would: what is left over is kept for the next piece.
    fn decode_in_pieces<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<(u16, Vec<u8>)>, usize) {
        let mut frames = Vec::new();
        let mut kept = Vec::new();
        for piece in pieces {
            kept.extend_from_slice(piece);
            while let Some(frame) = decode(&kept) {
                let taken = frame.encoded_bytes();
                frames.push((frame.command, frame.body.to_vec()));
                kept.drain(..taken);
            }
        }
        (frames, kept.len())
    }

    /// One input, three ways: whole, byte by byte, and cut in two at every index.
    fn check(input: &[u8], expected: &[(u16, &[u8])], left: usize) {
        let expected: Vec<_> = expected.iter().map(|(c, b)| (*c, b.to_vec())).collect();
        let expected = (expected, left);
        assert_eq!(decode_in_pieces([input]), expected, "whole");
        assert_eq!(decode_in_pieces(input.chunks(1)), expected, "byte by byte");
        for cut in 0..=input.len() {
            let (head, tail) = input.split_at(cut);
            assert_eq!(decode_in_pieces([head, tail]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn what_php_packs_is_a_frame() {
        // pack("nna{$len}", 8001, 13, '{"sql":"x?"}\n')
        check(b"\x1f\x41\x00\x0d{\"sql\":\"x?\"}\n", &[(8001, b"{\"sql\":\"x?\"}\n")], 0);
    }

    #[test]
    fn an_empty_body_is_a_frame() {
        check(b"\x1f\x42\x00\x00", &[(8002, b"")], 0);
        check(b"\x00\x00\x00\x00", &[(0, b"")], 0);
    }

    #[test]
    fn pipelined_frames_come_out_in_order() {
        check(
            b"\x1f\x41\x00\x01a\x1f\x42\x00\x00\x1f\x43\x00\x02bc",
            &[(8001, b"a"), (8002, b""), (8003, b"bc")],
            0,
        );
    }

    #[test]
    fn an_unfinished_frame_waits() {
        check(b"", &[], 0);
        check(b"\x1f", &[], 1);
        check(b"\x1f\x41\x00", &[], 3);
        check(b"\x1f\x41\xff\xffabc", &[], 7);
        check(b"\x1f\x41\x00\x01a\x1f\x41\x00\x02b", &[(8001, b"a")], 5);
    }

    #[test]
    fn the_longest_body_fits_and_one_more_byte_does_not() {
        let body = vec![b'x'; BODY_BYTES_MAX];
        let mut wire = Vec::new();
        encode(7, &body, &mut wire).unwrap();
        assert_eq!(wire.len(), FRAME_BYTES_MAX);
        assert_eq!(decode(&wire[..wire.len() - 1]), None);
        assert_eq!(decode(&wire), Some(Frame { command: 7, body: &body }));

        let long = vec![b'x'; BODY_BYTES_MAX + 1];
        let mut out = vec![1, 2, 3];
        assert_eq!(encode(7, &long, &mut out), Err(BodyTooLong(BODY_BYTES_MAX + 1)));
        assert_eq!(
            encode_with(7, &mut out, |out| out.extend_from_slice(&long)),
            Err(BodyTooLong(BODY_BYTES_MAX + 1))
        );
        assert_eq!(out, [1, 2, 3], "a refused frame leaves nothing behind");
    }

    #[test]
    fn both_encoders_agree() {
        let (mut plain, mut in_place) = (vec![9], vec![9]);
        encode(8001, b"{\"msg\":\"success\"}", &mut plain).unwrap();
        encode_with(8001, &mut in_place, |out| {
            out.extend_from_slice(b"{\"msg\":\"success\"}");
        })
        .unwrap();
        assert_eq!(plain, in_place);
        assert_eq!(&plain[1..], b"\x1f\x41\x00\x11{\"msg\":\"success\"}");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(frames in prop::collection::vec(
            (any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..6)
        ) {
            let mut wire = Vec::new();
            for (command, body) in &frames {
                encode(*command, body, &mut wire).unwrap();
            }
            let expected: Vec<_> = frames.iter().map(|(c, b)| (*c, b.as_slice())).collect();
            check(&wire, &expected, 0);
        }
    }
}
