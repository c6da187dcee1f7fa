//! Frames (RFC 6455, 5.2), as they are written, and their heads as they are read.

use super::inbound::Violation;

/// The longest head of a frame, in bytes.
pub const FRAME_HEAD_BYTES_MAX: usize = 14;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// More of a message that has begun.
    Continuation = 0,
    /// A message that is UTF-8 text, or its beginning.
    Text = 1,
    /// A message that is not, or its beginning.
    Binary = 2,
    /// The end of the connection.
    Close = 8,
    /// To be answered with a pong.
    Ping = 9,
    /// An answer to a ping.
    Pong = 10,
}

impl Opcode {
    pub(super) fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// Why a connection ends (RFC 6455, 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// All is done.
    pub const NORMAL: Self = Self(1000);
    /// The server ends, or the page is left.
    pub const GOING_AWAY: Self = Self(1001);
    /// The server cannot go on with this connection, and may with another (the registry of RFC 6455,
    /// "Try Again Later").
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// What came is not in the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A text is not UTF-8, or a compressed message cannot be read.
    pub const INVALID_DATA: Self = Self(1007);
    /// The peer may not do what it did.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// A message is longer than is taken.
    pub const TOO_BIG: Self = Self(1009);

    /// A code that may be sent: one that the protocol defines for this, or one of 3000 to 4999.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) is_last: bool,
    /// The message is compressed.
    pub(super) is_deflated: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) payload_bytes: u64,
    /// How long the head itself is.
    pub(super) head_bytes: usize,
}

impl FrameHead {
    /// The head in front of `input`; `None` while it is not all there.
    pub(super) fn parse(input: &[u8]) -> Result<Option<Self>, Violation> {
        let [first, second, rest @ ..] = input else { return Ok(None) };
        if first & 0x30 != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return Err(Violation::Opcode),
        };
        let is_last = first & 0x80 != 0;
        let short = second & 0x7f;
        if opcode.is_control() && (short > 125 || !is_last) {
            return Err(Violation::Control);
        }
        let (payload_bytes, rest, length_bytes) = match short {
            126 => {
                let Some((bytes, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
                let length = u64::from(u16::from_be_bytes(*bytes));
                (Some(length).filter(|length| *length > 125), rest, 2)
            }
            127 => {
                let Some((bytes, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
                let length = u64::from_be_bytes(*bytes);
                let minimal = u64::from(u16::MAX) + 1..1 << 63;
                (Some(length).filter(|length| minimal.contains(length)), rest, 8)
            }
            short => (Some(u64::from(short)), rest, 0),
        };
        let payload_bytes = payload_bytes.ok_or(Violation::Length)?;
        let mut head_bytes = 2 + length_bytes;
        let mut mask = None;
        if second & 0x80 != 0 {
            let Some((bytes, _)) = rest.split_first_chunk::<4>() else { return Ok(None) };
            mask = Some(*bytes);
            head_bytes += 4;
        }
        let is_deflated = first & 0x40 != 0;
        Ok(Some(FrameHead { is_last, is_deflated, opcode, mask, payload_bytes, head_bytes }))
    }
}

/// Appends a frame that is not masked, as a server sends it: a whole message, or a control frame.
/// `is_deflated` says that the payload is what a [`Deflater`](super::Deflater) made.
pub fn encode_frame(opcode: Opcode, payload: &[u8], is_deflated: bool, out: &mut Vec<u8>) {
    write_head(opcode, payload.len(), is_deflated, 0, out);
    out.extend_from_slice(payload);
}

/// Appends a frame as a client sends it, masked with a key that nobody can foresee.
pub fn encode_masked_frame(
    opcode: Opcode,
    payload: &[u8],
    is_deflated: bool,
    mask: [u8; 4],
    out: &mut Vec<u8>,
) {
    write_head(opcode, payload.len(), is_deflated, 0x80, out);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask);
}

/// Appends a close frame of a server. Of a reason that is longer than fits, the beginning is sent.
pub fn encode_close(code: CloseCode, reason: &str, out: &mut Vec<u8>) {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    write_head(Opcode::Close, 2 + end, false, 0, out);
    out.extend_from_slice(&code.get().to_be_bytes());
    out.extend_from_slice(&reason.as_bytes()[..end]);
}

fn write_head(opcode: Opcode, bytes: usize, is_deflated: bool, masked: u8, out: &mut Vec<u8>) {
    out.push(0x80 | if is_deflated { 0x40 } else { 0 } | opcode as u8);
    match bytes {
        0..=125 => out.push(masked | bytes as u8),
        126..=0xffff => {
            out.push(masked | 126);
            out.extend_from_slice(&(bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(bytes as u64).to_be_bytes());
        }
    }
}

/// Masks a payload, or takes the mask off: eight bytes at a time, since a message may be long.
pub(super) fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_rfc() {
        let mut out = Vec::new();
        encode_frame(Opcode::Text, b"Hello", false, &mut out);
        assert_eq!(out, b"\x81\x05Hello");
        out.clear();
        encode_masked_frame(Opcode::Text, b"Hello", false, [0x37, 0xfa, 0x21, 0x3d], &mut out);
        assert_eq!(out, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        for (bytes, head) in [
            (125, &b"\x82\x7d"[..]),
            (126, b"\x82\x7e\x00\x7e"),
            (256, b"\x82\x7e\x01\x00"),
            (65535, b"\x82\x7e\xff\xff"),
            (65536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
        ] {
            out.clear();
            encode_frame(Opcode::Binary, &vec![7; bytes], false, &mut out);
            assert_eq!(&out[..out.len() - bytes], head);
            let parsed = FrameHead::parse(&out).expect("it is good").expect("it is whole");
            assert_eq!((parsed.payload_bytes, parsed.head_bytes), (bytes as u64, head.len()));
            for cut in 0..head.len() {
                assert_eq!(FrameHead::parse(&out[..cut]), Ok(None), "{cut}");
            }
        }
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        encode_close(CloseCode::GOING_AWAY, &"é".repeat(100), &mut out);
        assert_eq!(out.len(), 2 + 2 + 122);
        assert!(str::from_utf8(&out[4..]).is_ok());
    }

    proptest! {
        #[test]
        fn masking_twice_is_not_masking(payload: Vec<u8>, mask: [u8; 4]) {
            let mut masked = payload.clone();
            apply_mask(&mut masked, mask);
            let by_bytes = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
            prop_assert!(by_bytes.eq(masked.iter().copied()));
            apply_mask(&mut masked, mask);
            prop_assert_eq!(masked, payload);
        }
    }
}
