//! WebSocket: what a server makes of what clients send, whole, cut anywhere, and hostile; and beside
//! another implementation in both directions.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::io::{Cursor, Read, Write};

use eserver_wire::ws::{
    CloseCode, Deflater, Event, Inbound, Opcode, Role, Rules, Scratch, Step, Violation,
    encode_close, encode_frame, encode_masked_frame,
};
use proptest::prelude::*;
use tungstenite::Message;
use tungstenite::protocol::{Role as PeerRole, WebSocket, WebSocketConfig};

const SERVER: Rules = Rules { role: Role::Server, deflate: false, message_bytes_max: 1000 };
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What came, kept.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// Reads pieces as they come.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, rules: Rules) -> Vec<Seen> {
    let (mut inbound, mut scratch) = (Inbound::default(), Scratch::default());
    let (mut seen, mut kept) = (Vec::new(), Vec::new());
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            match inbound.take(&kept, rules, &mut scratch) {
                Ok(Step::Need(bytes)) => {
                    assert!(bytes > kept.len(), "it could have gone on");
                    break;
                }
                Ok(Step::Frame(bytes, event)) => {
                    seen.extend(event.map(Seen::from));
                    kept.drain(..bytes);
                }
                Err(violation) => {
                    seen.push(Seen::Violation(violation));
                    return seen;
                }
            }
        }
    }
    seen
}

/// The same whole, byte by byte, and cut at every index.
#[track_caller]
fn check(input: &[u8], rules: Rules, expected: &[Seen]) {
    assert_eq!(read([input], rules), expected, "whole: {}", input.escape_ascii());
    assert_eq!(read(input.chunks(1), rules), expected, "byte by byte: {}", input.escape_ascii());
    for cut in 0..=input.len() {
        let (front, back) = input.split_at(cut);
        assert_eq!(read([front, back], rules), expected, "cut at {cut}");
    }
}

fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_masked_frame(opcode, payload, false, MASK, &mut out);
    out
}

/// A frame with these first bits, however wrong.
fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = masked(Opcode::Text, payload);
    out[0] = first;
    out
}

fn text(text: &str) -> Seen {
    Seen::Text(text.into())
}

#[test]
fn messages_and_their_fragments() {
    check(&masked(Opcode::Text, "Hellö".as_bytes()), SERVER, &[text("Hellö")]);
    check(&masked(Opcode::Binary, &[0, 255]), SERVER, &[Seen::Binary(vec![0, 255])]);
    check(&masked(Opcode::Text, b""), SERVER, &[text("")]);
    // RFC 6455, 5.7, with a ping in between.
    let input = [raw(0x01, b"Hel"), raw(0x89, b"ping"), raw(0x80, b"lo")].concat();
    check(&input, SERVER, &[Seen::Ping(b"ping".into()), text("Hello")]);
    // A character that is cut by the fragments.
    let input = [raw(0x01, &[0xc3]), raw(0x00, b""), raw(0x80, &[0xb6])].concat();
    check(&input, SERVER, &[text("ö")]);
    let long = vec![b'x'; 1000];
    check(&masked(Opcode::Binary, &long), SERVER, &[Seen::Binary(long)]);
    let input = [masked(Opcode::Pong, b"p"), masked(Opcode::Close, b"\x03\xe8bye")].concat();
    check(&input, SERVER, &[Seen::Pong(b"p".into()), Seen::Close(Some((1000, "bye".into())))]);
    check(&masked(Opcode::Close, b""), SERVER, &[Seen::Close(None)]);
    let client = Rules { role: Role::Client, ..SERVER };
    check(b"\x81\x05Hello", client, &[text("Hello")]);
}

#[test]
fn compressed_messages() {
    let rules = Rules { deflate: true, ..SERVER };
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    check(&raw(0xc1, &hello), rules, &[text("Hello")]);
    let input = [raw(0x41, &hello[..3]), raw(0x80, &hello[3..])].concat();
    check(&input, rules, &[text("Hello")]);
    // It may be used or not, message by message.
    let input = [raw(0x81, b"plain"), raw(0xc1, &hello)].concat();
    check(&input, rules, &[text("plain"), text("Hello")]);
    let mut bomb = Vec::new();
    Deflater::default().deflate(&[b'x'; 1001], &mut bomb);
    check(&raw(0xc1, &bomb), rules, &[Seen::Violation(Violation::TooLong)]);
}

#[test]
fn hostile_frames_end_the_connection_with_the_right_code() {
    use Violation::{
        Close, Control, Deflate, Fragments, Length, Mask, Opcode as Unknown, ReservedBits, TooLong,
    };
    let hello = raw(0x81, b"Hello");
    let unmasked = |opcode: Opcode, payload: &[u8]| {
        let mut out = Vec::new();
        encode_frame(opcode, payload, false, &mut out);
        out
    };
    let begun = raw(0x01, b"Hel");
    let close = |code: u16| [&code.to_be_bytes()[..], b"why"].concat();
    let mut cases: Vec<(Vec<u8>, Violation)> = vec![
        (raw(0x91, b"x"), ReservedBits),
        (raw(0xa1, b"x"), ReservedBits),
        (raw(0xc1, b"x"), ReservedBits),
        (raw(0xf1, b""), ReservedBits),
        (raw(0xc0, b"x"), ReservedBits),
        (raw(0xc9, b"x"), ReservedBits),
        (unmasked(Opcode::Text, b"Hello"), Mask),
        (unmasked(Opcode::Binary, b""), Mask),
        (unmasked(Opcode::Ping, b""), Mask),
        (unmasked(Opcode::Close, b""), Mask),
        (raw(0x09, b"p"), Control),
        (raw(0x08, b""), Control),
        (raw(0x0a, b""), Control),
        (raw(0x89, &[0; 126]), Control),
        (raw(0x88, &[0; 126]), Control),
        (raw(0x8a, &[0; 300]), Control),
        (raw(0x80, b"x"), Fragments),
        (raw(0x00, b"x"), Fragments),
        ([begun.clone(), hello.clone()].concat(), Fragments),
        ([begun.clone(), raw(0x01, b"x")].concat(), Fragments),
        ([begun.clone(), raw(0x82, b"x")].concat(), Fragments),
        (b"\x81\xfe\x00\x7d".to_vec(), Length),
        (b"\x81\xfe\x00\x00".to_vec(), Length),
        (b"\x81\xff\x00\x00\x00\x00\x00\x00\xff\xff".to_vec(), Length),
        (b"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00".to_vec(), Length),
        (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(), Length),
        (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00".to_vec(), TooLong),
        (b"\x82\xfe\x03\xe9\x00\x00\x00\x00".to_vec(), TooLong),
        ([raw(0x01, &[b'x'; 1000]), raw(0x80, b"x")].concat(), TooLong),
        ([raw(0x02, &[b'x'; 600]), raw(0x00, &[b'x'; 600])].concat(), TooLong),
        (raw(0x81, &[0xff]), Violation::Text),
        (raw(0x81, &[0xc3]), Violation::Text),
        (raw(0x81, &[0xed, 0xa0, 0x80]), Violation::Text),
        (raw(0x81, &[0xf4, 0x90, 0x80, 0x80]), Violation::Text),
        (raw(0x81, &[0xc0, 0x80]), Violation::Text),
        (raw(0x01, &[0xce, 0xff]), Violation::Text),
        ([raw(0x01, &[0xc3]), raw(0x00, b"x")].concat(), Violation::Text),
        ([raw(0x01, &[0xc3]), raw(0x80, b"")].concat(), Violation::Text),
        (raw(0x88, &[3]), Close),
        (raw(0x88, b"\x03\xe8\xff"), Violation::Text),
    ];
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        cases.push((raw(0x80 | opcode, b"x"), Unknown));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        cases.push((raw(0x88, &close(code)), Close));
    }
    for first in [0x00, 0x80] {
        let input = [begun.clone(), raw(first, b"")].concat();
        cases.push(([input, hello.clone(), raw(0x80, b"x")].concat(), Fragments));
    }
    // The second of them is a message, and what follows it is not.
    let (input, _) = cases.pop().unwrap();
    check(&input, SERVER, &[text("Hel"), text("Hello"), Seen::Violation(Fragments)]);
    assert!(cases.len() >= 57, "{}", cases.len());
    for (input, violation) in cases {
        check(&input, SERVER, &[Seen::Violation(violation)]);
        // What came before counts, and what comes after does not.
        let around = [hello.clone(), input, hello.clone()].concat();
        assert_eq!(read([&around[..]], SERVER), [text("Hello"), Seen::Violation(violation)]);
    }
    let deflates = Rules { deflate: true, ..SERVER };
    check(&raw(0xc1, &[0xff, 0xff]), deflates, &[Seen::Violation(Deflate)]);
    let input = [raw(0x41, b"x"), raw(0xc0, b"y")].concat();
    check(&input, deflates, &[Seen::Violation(ReservedBits)]);
    assert_eq!(Violation::Text.code(), CloseCode::INVALID_DATA);
    assert_eq!(TooLong.code(), CloseCode::TOO_BIG);
    assert_eq!(Mask.code(), CloseCode::PROTOCOL_ERROR);
}

/// A socket in memory: what is to be read, and what was written.
struct Pipe {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.input.read(buffer)? {
            0 => Err(std::io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn peer(role: PeerRole, input: Vec<u8>) -> WebSocket<Pipe> {
    let config = WebSocketConfig::default().max_message_size(Some(1000)).max_frame_size(Some(1000));
    let pipe = Pipe { input: Cursor::new(input), output: Vec::new() };
    WebSocket::from_raw_socket(pipe, role, Some(config))
}

/// First bytes of frames, more often those that have a meaning.
fn first_byte() -> impl Strategy<Value = u8> {
    let usual = prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a, 0x88]);
    prop_oneof![9 => usual, 1 => any::<u8>()]
}

proptest! {
    #[test]
    fn what_another_client_sends_is_understood(messages in prop::collection::vec((any::<bool>(), ".{0,200}"), 0..6)) {
        let mut client = peer(PeerRole::Client, Vec::new());
        let mut expected = Vec::new();
        for (is_text, message) in messages {
            if is_text {
                client.send(Message::text(message.clone()))?;
                expected.push(Seen::Text(message));
            } else {
                client.send(Message::binary(message.clone().into_bytes()))?;
                expected.push(Seen::Binary(message.into_bytes()));
            }
        }
        let sent = &client.get_ref().output;
        prop_assert_eq!(&read([&sent[..]], SERVER), &expected);
        prop_assert_eq!(&read(sent.chunks(1), SERVER), &expected);
    }

    #[test]
    fn what_is_sent_another_client_understands(messages in prop::collection::vec(".{0,200}", 0..6), reason in ".{0,40}") {
        let mut sent = Vec::new();
        for message in &messages {
            encode_frame(Opcode::Text, message.as_bytes(), false, &mut sent);
        }
        encode_close(CloseCode::GOING_AWAY, &reason, &mut sent);
        let mut client = peer(PeerRole::Client, sent);
        for message in messages {
            prop_assert_eq!(client.read()?, Message::text(message));
        }
        let Message::Close(Some(close)) = client.read()? else { panic!("it is a close") };
        prop_assert_eq!(u16::from(close.code), 1001);
        prop_assert!(reason.starts_with(close.reason.as_str()));
    }

    /// Frames that are right, nearly right or wrong, from both sides, with messages that are
    /// compressed, are read the same however they are cut.
    #[test]
    fn cut_anywhere_it_says_what_it_says_whole(
        frames in prop::collection::vec((first_byte(), ".{0,80}", any::<bool>()), 0..6),
        rest in prop::collection::vec(any::<u8>(), 0..20),
        lengths in prop::collection::vec(0_usize..40, 0..20),
        deflate: bool,
    ) {
        let mut deflater = Deflater::default();
        for role in [Role::Server, Role::Client] {
            let mut input = Vec::new();
            for (first, text, is_deflated) in &frames {
                let mut payload = text.as_bytes().to_vec();
                if *is_deflated {
                    payload.clear();
                    deflater.deflate(text.as_bytes(), &mut payload);
                }
                let start = input.len();
                match role {
                    Role::Server => {
                        encode_masked_frame(Opcode::Text, &payload, false, MASK, &mut input);
                    }
                    Role::Client => encode_frame(Opcode::Text, &payload, false, &mut input),
                }
                input[start] = if *is_deflated { first | 0x40 } else { *first };
            }
            input.extend_from_slice(&rest);
            let rules = Rules { role, deflate, message_bytes_max: 200 };
            let whole = read([&input[..]], rules);
            prop_assert_eq!(&read(input.chunks(1), rules), &whole);
            let mut left = &input[..];
            let mut pieces: Vec<&[u8]> = lengths
                .iter()
                .map(|length| left.split_off(..(*length).min(left.len())).unwrap())
                .collect();
            pieces.push(left);
            prop_assert_eq!(&read(pieces, rules), &whole);
        }
    }

    /// Where one of the two refuses, so does the other, up to a few things that the other leaves to
    /// its callers.
    #[test]
    fn whatever_comes_is_read_as_another_server_reads_it(input in prop::collection::vec(
        prop_oneof![
            Just(0x81_u8), Just(0x82), Just(0x01), Just(0x80), Just(0x00), Just(0x89), Just(0x88), any::<u8>(),
        ].prop_flat_map(|first| {
            prop::collection::vec(any::<u8>(), 0..20).prop_map(move |payload| raw(first, &payload))
        }), 1..5))
    {
        let input = input.concat();
        let ours = read([&input[..]], SERVER);
        let mut server = peer(PeerRole::Server, input);
        for seen in ours {
            match (server.read(), seen) {
                (Ok(Message::Text(theirs)), Seen::Text(text)) => prop_assert_eq!(theirs.as_str(), text),
                (Ok(Message::Binary(theirs)), Seen::Binary(bytes)) => prop_assert_eq!(&theirs[..], bytes),
                (Ok(Message::Ping(theirs)), Seen::Ping(bytes)) => prop_assert_eq!(&theirs[..], bytes),
                (Ok(Message::Pong(theirs)), Seen::Pong(bytes)) => prop_assert_eq!(&theirs[..], bytes),
                // What follows a close frame does not count.
                (Ok(Message::Close(_)), Seen::Close(_)) => break,
                // It answers a bad code, or passes it on.
                (Ok(Message::Close(_)), Seen::Violation(Violation::Close)) => break,
                // It may want to see a frame whole before it says so.
                (Err(_), Seen::Violation(_)) => break,
                (theirs, ours) => prop_assert!(false, "theirs {theirs:?}, ours {ours:?}"),
            }
        }
    }
}
