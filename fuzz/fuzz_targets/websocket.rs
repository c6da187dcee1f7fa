//! WebSocket: frames cut anywhere say what they say whole, to servers and clients, compressed or
//! not; and messages that are compressed come back.
#![no_main]

use arbitrary::Arbitrary;
use eserver_wire::ws::{
    Deflater, Event, Inbound, InflateError, Inflater, Opcode, Role, Rules, Scratch, Step,
    Violation, encode_frame, encode_masked_frame,
};
use libfuzzer_sys::fuzz_target;

/// Small, so that the fuzzer gets there.
const MESSAGE_BYTES_MAX: usize = 1_000;

#[derive(Debug, Arbitrary)]
struct Input {
    /// Where the stream is cut, as lengths of the pieces; what is left after them is one more.
    pieces: Vec<u8>,
    mask: [u8; 4],
    /// Frames whose lengths and masks are right: their first bytes and payloads.
    frames: Vec<(u8, Vec<u8>)>,
    /// What follows them, right or not.
    rest: Vec<u8>,
}

/// What came, kept.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Violation(Violation),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Seen::Text(text.into()),
            Event::Binary(bytes) => Seen::Binary(bytes.into()),
            Event::Ping(bytes) => Seen::Ping(bytes.into()),
            Event::Pong(bytes) => Seen::Pong(bytes.into()),
            Event::Close(close) => {
                Seen::Close(close.map(|(code, reason)| (code.get(), reason.into())))
            }
        }
    }
}

impl Seen {
    fn bytes(&self) -> usize {
        match self {
            Seen::Text(text) => text.len(),
            Seen::Binary(bytes) | Seen::Ping(bytes) | Seen::Pong(bytes) => bytes.len(),
            Seen::Close(close) => close.as_ref().map_or(0, |(_, reason)| reason.len()),
            Seen::Violation(_) => 0,
        }
    }
}

/// Reads piece by piece, as a connection does: what is not yet a frame is kept. What was seen, and
/// how much was taken.
fn read<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    rules: Rules,
    scratch: &mut Scratch,
) -> (Vec<Seen>, usize) {
    let mut inbound = Inbound::default();
    let (mut seen, mut kept, mut taken, mut needed) = (Vec::new(), Vec::new(), 0, 0);
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            match inbound.take(&kept, rules, scratch) {
                Ok(Step::Need(bytes)) => {
                    assert!(bytes > kept.len(), "it could have gone on");
                    needed = bytes;
                    break;
                }
                Ok(Step::Frame(bytes, event)) => {
                    assert!((needed.max(2)..=kept.len()).contains(&bytes), "it said otherwise");
                    seen.extend(event.map(Seen::from));
                    kept.drain(..bytes);
                    taken += bytes;
                    needed = 0;
                }
                Err(violation) => {
                    seen.push(Seen::Violation(violation));
                    return (seen, taken);
                }
            }
        }
    }
    (seen, taken)
}

/// The stream in pieces of the given lengths.
fn cut<'a>(mut bytes: &'a [u8], lengths: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = lengths.iter();
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let length = lengths.next().map_or(bytes.len(), |&length| usize::from(length));
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        bytes = rest;
        Some(piece)
    })
}

/// A message is compressed and comes back, and no more of it than is taken.
fn come_back(message: &[u8], deflater: &mut Deflater, inflater: &mut Inflater) {
    let (mut payload, mut back) = (Vec::new(), b"before".to_vec());
    deflater.deflate(message, &mut payload);
    inflater.inflate(&payload, message.len(), &mut back).expect("it was deflated");
    assert!(&back[6..] == message, "{} of {} bytes", back.len() - 6, message.len());
    if let Some(bytes_max) = message.len().checked_sub(1) {
        let result = inflater.inflate(&payload, bytes_max, &mut Vec::new());
        assert_eq!(result, Err(InflateError::TooLong));
    }
}

fuzz_target!(|input: Input| {
    // One for all, as on a thread: nothing of one connection may be seen on another.
    let mut scratch = Scratch::default();
    for role in [Role::Server, Role::Client] {
        let mut stream = Vec::new();
        for (first, payload) in &input.frames {
            let start = stream.len();
            match role {
                Role::Server => {
                    encode_masked_frame(Opcode::Binary, payload, false, input.mask, &mut stream);
                }
                Role::Client => encode_frame(Opcode::Binary, payload, false, &mut stream),
            }
            stream[start] = *first;
        }
        stream.extend_from_slice(&input.rest);
        for deflate in [false, true] {
            let rules = Rules { role, deflate, message_bytes_max: MESSAGE_BYTES_MAX };
            let whole = read([stream.as_slice()], rules, &mut scratch);
            assert_eq!(read(cut(&stream, &input.pieces), rules, &mut scratch), whole);
            assert_eq!(read(stream.chunks(1), rules, &mut scratch), whole);
            assert!(whole.0.iter().all(|seen| seen.bytes() <= MESSAGE_BYTES_MAX));
        }
    }

    let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
    come_back(&input.rest, &mut deflater, &mut inflater);
    let mut message = Vec::new();
    if inflater.inflate(&input.rest, MESSAGE_BYTES_MAX, &mut message).is_ok() {
        assert!(message.len() <= MESSAGE_BYTES_MAX);
        come_back(&message, &mut deflater, &mut inflater);
    }
    // Long ones: what comes of them ends anywhere in the room that is made for it.
    let repeated = input.rest.repeat(1 + usize::from(input.mask[0]));
    let varied =
        (0_u32..).zip(&repeated).map(|(at, byte)| byte ^ (at.wrapping_mul(0x9e37) >> 8) as u8);
    come_back(&varied.collect::<Vec<_>>(), &mut deflater, &mut inflater);
});
