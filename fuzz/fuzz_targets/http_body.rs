//! Bodies: cut anywhere they decode as they do whole, and their data, chunked again, stays the same.
#![no_main]

use arbitrary::Arbitrary;
use eserver_wire::http::{Body, BodyDecoder, LAST_CHUNK, encode_chunk};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    /// Of a body of known length, its length; else it is chunked.
    length: Option<u16>,
    /// Where it is cut in two.
    cut: u16,
    bytes: Vec<u8>,
}

/// Data, what follows, and whether that is known to be what follows; or the status of the refusal.
type Decoded = Result<(Vec<u8>, Vec<u8>, bool), u16>;

fn decode<'a>(body: Body, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = BodyDecoder::new(body);
    let (mut data, mut rest) = (Vec::new(), Vec::new());
    for mut piece in pieces {
        while !piece.is_empty() && !decoder.is_done() {
            let announced = decoder.announced_bytes();
            let progress = decoder.decode(piece).map_err(|refusal| refusal.status)?;
            assert!(progress.used > 0 && progress.data.end <= progress.used);
            assert!(announced == 0 || progress.data.len() as u64 <= announced);
            data.extend_from_slice(&piece[progress.data]);
            piece = &piece[progress.used..];
        }
        rest.extend_from_slice(piece);
    }
    Ok((data, rest, decoder.is_done()))
}

fuzz_target!(|input: Input| {
    let body = input.length.map_or(Body::Chunked, |bytes| Body::Length(bytes.into()));
    let whole = decode(body, [input.bytes.as_slice()]);
    assert_eq!(decode(body, input.bytes.chunks(1)), whole);
    let (front, back) = input.bytes.split_at(usize::from(input.cut).min(input.bytes.len()));
    assert_eq!(decode(body, [front, back]), whole);

    if let Ok((data, rest, true)) = whole {
        let mut again = Vec::new();
        for chunk in data.chunks(1 + usize::from(input.cut)) {
            encode_chunk(chunk, &mut again);
        }
        again.extend_from_slice(LAST_CHUNK);
        again.extend_from_slice(&rest);
        assert_eq!(decode(Body::Chunked, [again.as_slice()]), Ok((data, rest, true)));
    }
});
