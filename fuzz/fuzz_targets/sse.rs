//! Event streams: cut anywhere they decode as they do whole, and what they say can be said again.
#![no_main]

use eserver_wire::sse::{Block, Event, decode, encode, encode_retry};
use libfuzzer_sys::fuzz_target;

fn decode_all<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Block> {
    let (mut blocks, mut kept) = (Vec::new(), Vec::new());
    for piece in pieces {
        kept.extend_from_slice(piece);
        while let Some(block) = decode(&kept) {
            assert!(block.encoded_bytes > 0);
            kept.drain(..block.encoded_bytes);
            // How many line ends a block took depends on the cut, and nothing else does.
            blocks.push(Block { encoded_bytes: 0, ..block });
        }
    }
    blocks
}

fuzz_target!(|input: &[u8]| {
    let blocks = decode_all([input]);
    assert_eq!(decode_all(input.chunks(1)), blocks);

    for block in blocks {
        let mut out = Vec::new();
        let event = Event {
            id: block.id.as_deref(),
            event: block.event.as_deref(),
            data: block.data.as_deref(),
        };
        encode(&event, &mut out).expect("it came out of a stream");
        if let Some(retry) = block.retry {
            out.pop();
            encode_retry(retry, &mut out);
        }
        if block != Block::default() {
            assert_eq!(decode_all([out.as_slice()]), [block]);
        }
    }
});
