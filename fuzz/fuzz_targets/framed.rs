//! The framed codec: bytes cut anywhere decode as they do whole, and encode to what they were.
#![no_main]

use arbitrary::Arbitrary;
use eserver_wire::framed::{self, HEADER_BYTES};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    /// Where the stream is cut, as lengths of the pieces; what is left after them is one more.
    pieces: Vec<u8>,
    /// The stream.
    bytes: Vec<u8>,
}

/// Decodes piece by piece, as a connection does: what is not yet a frame is kept.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<(u16, Vec<u8>)>, Vec<u8>) {
    let (mut frames, mut kept) = (Vec::new(), Vec::new());
    for piece in pieces {
        kept.extend_from_slice(piece);
        while let Some(frame) = framed::decode(&kept) {
            let taken = frame.encoded_bytes();
            assert!((HEADER_BYTES..=kept.len()).contains(&taken));
            frames.push((frame.command, frame.body.to_vec()));
            kept.drain(..taken);
        }
    }
    (frames, kept)
}

/// The stream in pieces of the given lengths.
fn cut<'a>(mut bytes: &'a [u8], lengths: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = lengths.iter();
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let length = lengths
            .next()
            .map_or(bytes.len(), |&length| usize::from(length));
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        bytes = rest;
        Some(piece)
    })
}

fuzz_target!(|input: Input| {
    let whole = decode(std::iter::once(input.bytes.as_slice()));
    assert_eq!(decode(cut(&input.bytes, &input.pieces)), whole);

    let (frames, kept) = whole;
    let mut again = Vec::new();
    for (command, body) in &frames {
        framed::encode(*command, body, &mut again).expect("it came out of a frame");
    }
    again.extend_from_slice(&kept);
    assert_eq!(again, input.bytes);
});
