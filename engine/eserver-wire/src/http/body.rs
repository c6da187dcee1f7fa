//! Bodies: the decoder for both roles, and chunks to send.

use std::ops::Range;

use super::fields::{is_token_byte, is_value_byte};
use super::{BadRequest, Body};

/// The longest extension of one chunk, in bytes; a longer one is refused.
pub const CHUNK_EXTENSION_BYTES_MAX: u16 = 256;

/// All extensions of a body's chunks, in bytes; more are refused.
pub const CHUNK_EXTENSIONS_BYTES_MAX: u16 = 4 << 10;

/// The trailer fields after a body's last chunk, in bytes; more are refused with status 431.
pub const TRAILER_BYTES_MAX: u16 = 8 << 10;

/// The most digits of a chunk's size, so that it fits into 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;

/// What ends a chunked body that has no trailer fields.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Takes a body off its framing, in pieces of any size.
///
/// Extensions and trailer fields are checked and dropped: they could say nothing that the head has
/// not said that may be believed. The decoder adds up nothing, so nothing overflows; how much data
/// is too much is for the caller, who counts it and asks [`announced_bytes`](Self::announced_bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyDecoder {
    /// Data to come: of the body, or of this chunk.
    remaining: u64,
    /// Bytes of this chunk's extension.
    extension_bytes: u16,
    /// Bytes of all extensions.
    extensions_bytes: u16,
    trailer_bytes: u16,
    /// Digits of this chunk's size.
    digits: u8,
    state: State,
}

// It sits in the record of a connection.
const _: () = assert!(size_of::<BodyDecoder>() == 16);

/// What the next byte belongs to. The first three are the body's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Plain,
    Chunk,
    UntilClose,
    Size,
    SizeEnd,
    ExtensionStart,
    ExtensionName,
    ExtensionValue,
    ExtensionToken,
    ExtensionQuoted,
    ExtensionEscape,
    ExtensionQuotedEnd,
    DataCarriageReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

/// What one call of [`BodyDecoder::decode`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that are done with. What follows them is the next message's if the
    /// decoder [is done](BodyDecoder::is_done), and is to be given to it again otherwise.
    pub used: usize,
    /// Where in the input a run of the body stands; perhaps empty.
    pub data: Range<usize>,
}

impl BodyDecoder {
    /// A decoder of what the head has announced.
    #[must_use]
    pub fn new(body: Body) -> Self {
        let (state, remaining) = match body {
            Body::None | Body::Length(0) => (State::Done, 0),
            Body::Length(bytes) => (State::Plain, bytes),
            Body::Chunked => (State::Size, 0),
            Body::UntilClose => (State::UntilClose, 0),
        };
        Self {
            remaining,
            extension_bytes: 0,
            extensions_bytes: 0,
            trailer_bytes: 0,
            digits: 0,
            state,
        }
    }

    /// Whether all of the body has come. One that lasts until the connection ends never has.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// How much data is sure to come yet, in bytes: for a refusal before it does.
    #[must_use]
    pub fn announced_bytes(&self) -> u64 {
        if matches!(self.state, State::Plain | State::Chunk) { self.remaining } else { 0 }
    }

    /// Goes through `input` up to its end, the body's end or the second run of data.
    ///
    /// Call it again with the rest while there is one and the decoder is not done. At least one
    /// byte is used each time, so nothing of a body ever has to be kept for later.
    ///
    /// ```
    /// use eserver_wire::http::{Body, BodyDecoder};
    ///
    /// let input = b"5\r\nhello\r\n0\r\n\r\nGET /";
    /// let mut decoder = BodyDecoder::new(Body::Chunked);
    /// let progress = decoder.decode(input)?;
    /// assert_eq!(&input[progress.data], b"hello");
    /// assert!(decoder.is_done());
    /// assert_eq!(&input[progress.used..], b"GET /");
    /// # Ok::<(), eserver_wire::http::BadRequest>(())
    /// ```
    ///
    /// # Errors
    /// [`BadRequest`] when this is no chunked body, or has too much beside the data. The decoder is
    /// of no use then, nor is the connection.
    pub fn decode(&mut self, input: &[u8]) -> Result<Progress, BadRequest> {
        let mut used = 0;
        let mut data = 0..0;
        while let Some(&byte) = input.get(used) {
            match self.state {
                State::Done => break,
                State::Plain | State::Chunk | State::UntilClose if !data.is_empty() => break,
                State::UntilClose => {
                    data = used..input.len();
                    used = input.len();
                }
                State::Plain | State::Chunk => {
                    let here = input.len() - used;
                    let bytes = usize::try_from(self.remaining).map_or(here, |all| all.min(here));
                    data = used..used + bytes;
                    used += bytes;
                    self.remaining -= bytes as u64;
                    if self.remaining == 0 {
                        self.state = if self.state == State::Chunk {
                            State::DataCarriageReturn
                        } else {
                            State::Done
                        };
                    }
                }
                _ => {
                    self.state = self.step(byte)?;
                    used += 1;
                }
            }
        }
        Ok(Progress { used, data })
    }

    /// The state after a byte of the framing.
    fn step(&mut self, byte: u8) -> Result<State, BadRequest> {
        match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => Ok(State::SizeEnd),
            (State::Size, b';') if self.digits > 0 => self.begin_extension(),
            (State::Size, _) => self.size_digit(byte),
            (State::SizeEnd, b'\n') => Ok(self.begin_data()),

            (State::ExtensionName | State::ExtensionToken | State::ExtensionQuotedEnd, b'\r') => {
                Ok(State::SizeEnd)
            }
            (
                State::ExtensionStart
                | State::ExtensionName
                | State::ExtensionValue
                | State::ExtensionToken
                | State::ExtensionQuoted
                | State::ExtensionEscape
                | State::ExtensionQuotedEnd,
                _,
            ) => self.extension_byte(byte),

            (State::DataCarriageReturn, b'\r') => Ok(State::DataLineFeed),
            (State::DataLineFeed, b'\n') => Ok(self.begin_size()),
            (State::DataCarriageReturn | State::DataLineFeed, _) => {
                Err(BadRequest::new("a chunk is longer than it says"))
            }

            (State::TrailerStart, b'\r') => Ok(State::LastLineFeed),
            (State::LastLineFeed, b'\n') => Ok(State::Done),
            (
                State::TrailerStart
                | State::TrailerName
                | State::TrailerValue
                | State::TrailerLineFeed,
                _,
            ) => self.trailer_byte(byte),
            _ => Err(BadRequest::new("a line between chunks does not end as it must")),
        }
    }

    fn begin_size(&mut self) -> State {
        self.digits = 0;
        State::Size
    }

    fn size_digit(&mut self, byte: u8) -> Result<State, BadRequest> {
        let digit = (byte as char).to_digit(16);
        let digit = digit.ok_or(BadRequest::new("a chunk's size is not a hexadecimal number"))?;
        if self.digits == SIZE_DIGITS_MAX {
            return Err(BadRequest::new("a chunk's size is beyond counting"));
        }
        self.digits += 1;
        // All bits are zero between chunks, so the digits of the last one do not get in.
        self.remaining = self.remaining << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn begin_data(&mut self) -> State {
        if self.remaining == 0 { State::TrailerStart } else { State::Chunk }
    }

    fn begin_extension(&mut self) -> Result<State, BadRequest> {
        self.extension_bytes = 0;
        self.count_extension()?;
        Ok(State::ExtensionStart)
    }

    fn count_extension(&mut self) -> Result<(), BadRequest> {
        self.extension_bytes += 1;
        self.extensions_bytes += 1;
        if self.extension_bytes > CHUNK_EXTENSION_BYTES_MAX
            || self.extensions_bytes > CHUNK_EXTENSIONS_BYTES_MAX
        {
            return Err(BadRequest::new("the chunks' extensions are too long"));
        }
        Ok(())
    }

    /// A byte of `*( ";" name [ "=" ( token / quoted-string ) ] )`. The RFC tolerates white space
    /// there, but nobody sends any.
    fn extension_byte(&mut self, byte: u8) -> Result<State, BadRequest> {
        self.count_extension()?;
        match (self.state, byte) {
            (State::ExtensionStart | State::ExtensionName, _) if is_token_byte(byte) => {
                Ok(State::ExtensionName)
            }
            (State::ExtensionName, b'=') => Ok(State::ExtensionValue),
            (State::ExtensionValue, b'"') => Ok(State::ExtensionQuoted),
            (State::ExtensionValue | State::ExtensionToken, _) if is_token_byte(byte) => {
                Ok(State::ExtensionToken)
            }
            (State::ExtensionQuoted, b'"') => Ok(State::ExtensionQuotedEnd),
            (State::ExtensionQuoted, b'\\') => Ok(State::ExtensionEscape),
            (State::ExtensionQuoted | State::ExtensionEscape, _) if is_value_byte(byte) => {
                Ok(State::ExtensionQuoted)
            }
            (State::ExtensionName | State::ExtensionToken | State::ExtensionQuotedEnd, b';') => {
                Ok(State::ExtensionStart)
            }
            _ => Err(BadRequest::new("a chunk's extension is not as it must be")),
        }
    }

    /// A byte of a trailer field's line.
    fn trailer_byte(&mut self, byte: u8) -> Result<State, BadRequest> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(BadRequest::with_status(431, "the trailer fields are too long"));
        }
        match (self.state, byte) {
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => {
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLineFeed),
            (State::TrailerValue, _) if is_value_byte(byte) => Ok(State::TrailerValue),
            (State::TrailerLineFeed, b'\n') => Ok(State::TrailerStart),
            _ => Err(BadRequest::new("a trailer field is not as it must be")),
        }
    }
}

/// Appends `data` as a chunk; nothing for no data, which would end the body.
pub fn encode_chunk(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    let digits = (data.len().ilog2() / 4 + 1) as usize;
    out.reserve(digits + data.len() + 4);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[data.len() >> (place * 4) & 15]);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Body and what is left over, or the status of the refusal.
    type Decoded = Result<(Vec<u8>, Vec<u8>, bool), u16>;

    fn decode_in_pieces<'a>(body: Body, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
        let mut decoder = BodyDecoder::new(body);
        let (mut data, mut rest) = (Vec::new(), Vec::new());
        for mut piece in pieces {
            while !piece.is_empty() && !decoder.is_done() {
                let progress = decoder.decode(piece).map_err(|error| error.status)?;
                assert!(progress.used > 0, "a call goes on");
                assert!(progress.data.end <= progress.used);
                data.extend_from_slice(&piece[progress.data]);
                piece = &piece[progress.used..];
            }
            rest.extend_from_slice(piece);
        }
        Ok((data, rest, decoder.is_done()))
    }

    /// One input, three ways: whole, byte by byte, and cut in two at every index.
    fn check_decoded(body: Body, input: &[u8], expected: &Decoded) {
        assert_eq!(decode_in_pieces(body, [input]), *expected, "whole: {}", input.escape_ascii());
        let bytes = decode_in_pieces(body, input.chunks(1));
        assert_eq!(bytes, *expected, "byte by byte: {}", input.escape_ascii());
        for cut in 0..=input.len() {
            let (front, back) = input.split_at(cut);
            let halves = decode_in_pieces(body, [front, back]);
            assert_eq!(halves, *expected, "cut at {cut}: {}", input.escape_ascii());
        }
    }

    fn check(body: Body, input: &[u8], data: &[u8], rest: &[u8], is_done: bool) {
        check_decoded(body, input, &Ok((data.to_vec(), rest.to_vec(), is_done)));
    }

    #[test]
    fn bodies_of_a_known_length() {
        check(Body::None, b"GET /", b"", b"GET /", true);
        check(Body::Length(0), b"GET /", b"", b"GET /", true);
        check(Body::Length(5), b"helloGET /", b"hello", b"GET /", true);
        check(Body::Length(5), b"hell", b"hell", b"", false);
        check(Body::Length(u64::MAX), b"hell", b"hell", b"", false);
        check(Body::UntilClose, b"hello\r\n0\r\n", b"hello\r\n0\r\n", b"", false);
        assert_eq!(BodyDecoder::new(Body::Length(7)).announced_bytes(), 7);
    }

    #[test]
    fn chunked_bodies() {
        let chunked = |input: &[u8], data: &[u8], rest: &[u8], is_done| {
            check(Body::Chunked, input, data, rest, is_done);
        };
        // The example that most texts on chunks have.
        chunked(b"4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n", b"Wikipedia", b"", true);
        chunked(b"0\r\n\r\nGET /", b"", b"GET /", true);
        chunked(b"000\r\n\r\n", b"", b"", true);
        chunked(
            b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
            &b"0123456789".repeat(2),
            b"",
            true,
        );
        chunked(b"0000000000000005\r\nhello\r\n0\r\n\r\nx", b"hello", b"x", true);
        chunked(b"5;a\r\nhello\r\n0;b=c;d=\"e\\\"\t;\xff\";f\r\n\r\n", b"hello", b"", true);
        chunked(b"5\r\nhello\r\n0\r\nA:\r\nb-c: d e\t\xff\r\n\r\nx", b"hello", b"x", true);
        chunked(b"5\r\nhello\r\n0\r\nA: b\r\n", b"hello", b"", false);
        chunked(b"5\r\nhel", b"hel", b"", false);
        chunked(b"ffffffffffffffff\r\nhel", b"hel", b"", false);
    }

    #[test]
    fn bodies_that_are_refused() {
        for input in [
            "\r\n",
            "g\r\n",
            "+5\r\n",
            "-5\r\n",
            " 5\r\n",
            "5 \r\n",
            "5\t\r\n",
            "0x5\r\n",
            "5h\r\n",
            "1_0\r\n",
            "\n",
            "5\n",
            "5\rx",
            "5\r\r",
            "00000000000000000\r\n",
            "10000000000000000\r\n",
            "fffffffffffffffff\r\n",
            "5\r\nhello\n",
            "5\r\nhello0",
            "5\r\nhello\r0",
            "5\r\nhello!!\r\n",
            "5\r\nhello\r\n\r\n",
            "5;\r\n",
            "5;=a\r\n",
            "5;a=\r\n",
            "5;a b\r\n",
            "5; a\r\n",
            "5;a\n",
            "5;a\rb\r\n",
            "5;a\r\r\n",
            "5;a=\"b\r\n",
            "5;a=\"b\"c\r\n",
            "5;a=b\"\r\n",
            "5;a;;b\r\n",
            "5;a[\r\n",
            "5;\0\r\n",
            "5;a=\"\0\"\r\n",
            "5;a=\"\\\n\r\n",
            "5;a==b\r\n",
            "0\r\n\n",
            "0\r\n\rx",
            "0\r\n:a\r\n",
            "0\r\n a: b\r\n",
            "0\r\na\r\n",
            "0\r\na : b\r\n",
            "0\r\na: b\n",
            "0\r\na: b\r\r\n",
            "0\r\na: b\rc\r\n",
            "0\r\na: \0\r\n",
            "0\r\na: b\r\n c\r\n",
            "0\n\r\n",
            "0;\r\n",
        ] {
            check_decoded(Body::Chunked, input.as_bytes(), &Err(400));
        }
    }

    #[test]
    fn what_stands_beside_the_data_is_bounded() {
        let extension = |bytes: usize| format!("1;{}\r\nx\r\n", "a".repeat(bytes - 1));
        let longest = usize::from(CHUNK_EXTENSION_BYTES_MAX);
        check(Body::Chunked, extension(longest).as_bytes(), b"x", b"", false);
        check_decoded(Body::Chunked, extension(longest + 1).as_bytes(), &Err(400));
        let most = usize::from(CHUNK_EXTENSIONS_BYTES_MAX) / longest;
        let all = extension(longest).repeat(most);
        check(Body::Chunked, all.as_bytes(), &b"x".repeat(most), b"", false);
        check_decoded(Body::Chunked, (all + "1;").as_bytes(), &Err(400));

        let line = |bytes: usize| format!("a:{}\r\n", "b".repeat(bytes - 4));
        let longest = usize::from(TRAILER_BYTES_MAX);
        let whole = format!("0\r\n{}{}\r\n", line(longest / 2), line(longest / 2));
        assert_eq!(
            decode_in_pieces(Body::Chunked, [whole.as_bytes()]),
            Ok((Vec::new(), Vec::new(), true))
        );
        let longer = format!("0\r\n{}{}\r\n", line(longest / 2), line(longest / 2 + 1));
        assert_eq!(decode_in_pieces(Body::Chunked, [longer.as_bytes()]), Err(431));
        assert_eq!(decode_in_pieces(Body::Chunked, longer.as_bytes().chunks(1)), Err(431));
    }

    #[test]
    fn a_chunk_that_is_too_long_is_known_before_it_comes() {
        let mut decoder = BodyDecoder::new(Body::Chunked);
        assert_eq!(decoder.announced_bytes(), 0);
        assert_eq!(decoder.decode(b"ffffffffffffffff\r\n").unwrap().used, 18);
        assert_eq!(decoder.announced_bytes(), u64::MAX);
        decoder.decode(b"abc").unwrap();
        assert_eq!(decoder.announced_bytes(), u64::MAX - 3);
    }

    #[test]
    fn one_call_takes_a_small_body() {
        let mut decoder = BodyDecoder::new(Body::Chunked);
        let progress = decoder.decode(b"5\r\nhello\r\n0\r\n\r\n").unwrap();
        assert_eq!(progress, Progress { used: 15, data: 3..8 });
    }

    #[test]
    fn sizes_are_hexadecimal() {
        for bytes in [1, 9, 10, 15, 16, 255, 256, 4096, 65_535, 65_536] {
            let mut out = Vec::new();
            encode_chunk(&vec![b'x'; bytes], &mut out);
            assert!(out.starts_with(format!("{bytes:x}\r\nx").as_bytes()), "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            rest in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                encode_chunk(chunk, &mut wire);
            }
            wire.extend_from_slice(LAST_CHUNK);
            wire.extend_from_slice(&rest);
            check(Body::Chunked, &wire, &chunks.concat(), &rest, true);
        }
    }
}
