//! [`Deflater`] and [`Inflater`]: messages compressed one by one (RFC 7692), without memory of
//! earlier ones, so that one of each serves all connections of a thread.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use thiserror::Error;

/// What stands at the end of a compressed message and is left out (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Compresses messages. Half a megabyte, from the first of them on.
#[derive(Debug, Default)]
pub struct Deflater {
    state: Option<Compress>,
}

/// Takes the compression off messages. 43 KB, from the first of them on.
#[derive(Debug, Default)]
pub struct Inflater {
    state: Option<Decompress>,
}

/// A message that cannot be made of what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InflateError {
    /// It is not compressed as it should be.
    #[error("the message is not compressed as it says")]
    Invalid,
    /// It is longer than is taken.
    #[error("the message is too long once it is decompressed")]
    TooLong,
}

impl Deflater {
    /// Appends the payload of a frame that says `is_deflated`.
    pub fn deflate(&mut self, message: &[u8], out: &mut Vec<u8>) {
        let state = self.state.get_or_insert_with(|| Compress::new(Compression::fast(), false));
        state.reset();
        let mut rest = message;
        let mut was_full = false;
        loop {
            out.reserve(rest.len() / 2 + 64);
            let before = state.total_in();
            // Into memory that can be had, compressing cannot fail.
            let status = state.compress_vec(rest, out, FlushCompress::Sync);
            debug_assert!(status.is_ok());
            rest = &rest[(state.total_in() - before) as usize..];
            let is_full = out.len() == out.capacity();
            // The call after one that ran out of room may do no more than write what that one could
            // not, so it takes another to flush.
            if rest.is_empty() && !is_full && !was_full {
                break;
            }
            was_full = is_full;
        }
        if out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
    }
}

impl Inflater {
    /// Appends the message that a payload is, of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`InflateError`]
    pub fn inflate(
        &mut self,
        payload: &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), InflateError> {
        let state = self.state.get_or_insert_with(|| Decompress::new(false));
        state.reset(false);
        let start = out.len();
        for part in [payload, &TAIL] {
            let mut rest = part;
            loop {
                out.reserve(rest.len().clamp(256, 64 * 1024));
                let (before_in, before_out) = (state.total_in(), out.len());
                let status = state
                    .decompress_vec(rest, out, FlushDecompress::Sync)
                    .map_err(|_| InflateError::Invalid)?;
                rest = &rest[(state.total_in() - before_in) as usize..];
                if out.len() - start > bytes_max {
                    return Err(InflateError::TooLong);
                }
                let written = out.len() - before_out;
                match status {
                    // A last block may be followed by others (RFC 7692, 7.2.3.4), the tail included.
                    Status::StreamEnd => {
                        state.reset(false);
                        if rest.is_empty() {
                            break;
                        }
                    }
                    // What is left of the input may be inside the decompressor: only a call that
                    // writes nothing although there is room says that all is out.
                    _ if written == 0 && rest.is_empty() => break,
                    Status::BufError if written == 0 => return Err(InflateError::Invalid),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inflate(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, InflateError> {
        let mut out = b"before".to_vec();
        Inflater::default().inflate(payload, bytes_max, &mut out)?;
        Ok(out[6..].to_vec())
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7692, 7.2.3.1, 7.2.3.3 (no compression), 7.2.3.4 (a last block) and 7.2.3.5.
        for payload in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            assert_eq!(inflate(payload, 5).as_deref(), Ok(&b"Hello"[..]), "{payload:x?}");
            assert_eq!(inflate(payload, 4), Err(InflateError::TooLong));
        }
        assert_eq!(inflate(&[0xff, 0xff, 0xff], 99), Err(InflateError::Invalid));
    }

    #[test]
    fn a_bomb_stops_at_the_bound() {
        let mut bomb = Vec::new();
        Deflater::default().deflate(&vec![0; 64 << 20], &mut bomb);
        assert!(bomb.len() < 4 << 20, "{}", bomb.len());
        let mut out = Vec::new();
        let result = Inflater::default().inflate(&bomb, 1 << 20, &mut out);
        assert_eq!(result, Err(InflateError::TooLong));
        assert!(out.len() < 3 << 20, "{}", out.len());
    }

    /// Bytes that compress by a sixth or so, as those of pictures do: what comes of a message is
    /// longer than the room made for it at first, and ends anywhere in what is made then.
    fn picture(bytes: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as u8 % 100
        };
        (0..bytes).map(|_| next()).collect()
    }

    #[test]
    fn long_messages_come_back_whole() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
        let picture = picture(128 * 1024);
        for bytes in (0..picture.len()).step_by(997) {
            let message = &picture[..bytes];
            let (mut payload, mut back) = (Vec::new(), Vec::new());
            deflater.deflate(message, &mut payload);
            inflater.inflate(&payload, message.len(), &mut back).expect("inflates");
            assert!(back == message, "{} of {bytes} bytes", back.len());
        }
    }

    proptest! {
        #[test]
        fn messages_come_back(messages in prop::collection::vec(".{0,300}", 1..5)) {
            let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
            for message in messages {
                let (mut payload, mut back) = (Vec::new(), Vec::new());
                deflater.deflate(message.as_bytes(), &mut payload);
                inflater.inflate(&payload, message.len(), &mut back)?;
                prop_assert_eq!(back, message.as_bytes());
            }
        }

        #[test]
        fn anything_is_inflated_or_refused(payload: Vec<u8>) {
            let _ = inflate(&payload, 1000);
        }
    }
}
