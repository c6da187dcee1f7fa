//! [`Cursor`]: where a subscriber is in all of its channels, as one text.
//!
//! For one channel the text is its [`Position`]. For several it is base64url of a version byte and,
//! for each channel, four bytes of the name's hash, eight of the epoch and the next message's number
//! as a variable-length integer. It names channels by hash so that it stays short, and does not
//! depend on the order in which they are asked for. Should two names have the same hash, the worst
//! is that one gets the other's position, whose epoch is not its own: an explicit reset.

use std::str::FromStr;

use crate::base64url;
use crate::channel_name::ChannelName;
use crate::position::{BadCursor, Epoch, Position, Seq};

const VERSION: u8 = 1;

/// The positions of a subscriber that comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// In its only channel.
    One(Position),
    /// In several, by the hash of the name.
    Several(Vec<(u32, Position)>),
}

impl Cursor {
    /// Where it was in this channel, if the cursor knows.
    #[must_use]
    pub fn position(&self, channel: ChannelName<'_>) -> Option<Position> {
        match self {
            Cursor::One(position) => Some(*position),
            Cursor::Several(positions) => {
                let hash = hash(channel.as_str());
                positions.iter().find(|(held, _)| *held == hash).map(|(_, position)| *position)
            }
        }
    }

    /// Appends the text for several channels.
    pub fn write_several<'a>(
        positions: impl IntoIterator<Item = (&'a str, Position)>,
        out: &mut String,
    ) {
        let mut bytes = vec![VERSION];
        for (channel, position) in positions {
            bytes.extend_from_slice(&hash(channel).to_be_bytes());
            bytes.extend_from_slice(&position.epoch.get().to_be_bytes());
            let mut next = position.next.get();
            while next >= 0x80 {
                bytes.push(next as u8 | 0x80);
                next >>= 7;
            }
            bytes.push(next as u8);
        }
        base64url::encode(&bytes, out);
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        if text.contains(':') {
            return text.parse().map(Cursor::One);
        }
        let bytes = base64url::decode(text).ok_or(BadCursor)?;
        let (VERSION, mut rest) = bytes.split_first().map(|(v, r)| (*v, r)).ok_or(BadCursor)?
        else {
            return Err(BadCursor);
        };
        let mut positions = Vec::new();
        while !rest.is_empty() {
            let (hash, after) = rest.split_first_chunk::<4>().ok_or(BadCursor)?;
            let (epoch, after) = after.split_first_chunk::<8>().ok_or(BadCursor)?;
            let (next, after) = read_varint(after).ok_or(BadCursor)?;
            if next == 0 {
                return Err(BadCursor);
            }
            let epoch = Epoch::new(u64::from_be_bytes(*epoch));
            let position = Position { epoch, next: Seq::new(next) };
            positions.push((u32::from_be_bytes(*hash), position));
            rest = after;
        }
        Ok(Cursor::Several(positions))
    }
}

fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (nth, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        value |= bits.checked_shl(7 * nth as u32).filter(|high| high >> (7 * nth) == bits)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[nth + 1..]));
        }
    }
    None
}

/// FNV-1a: the same in every process and version.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_of_a_cursor_is_a_promise() {
        let position = Position { epoch: Epoch::new(0x0102_0304_0506_0708), next: Seq::new(300) };
        let mut text = String::new();
        Cursor::write_several([("a", position)], &mut text);
        assert_eq!(text, "AeQMKSwBAgMEBQYHCKwC");
    }

    proptest! {
        #[test]
        fn cursors_come_back(all in prop::collection::btree_map(".{0,20}", (any::<u64>(), 1..u64::MAX), 0..20)) {
            let positions = all.iter().map(|(name, (epoch, next))| {
                (name.as_str(), Position { epoch: Epoch::new(*epoch), next: Seq::new(*next) })
            });
            let mut text = String::new();
            Cursor::write_several(positions.clone(), &mut text);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            let cursor: Cursor = text.parse()?;
            for (name, position) in positions {
                let name = ChannelName::new(name)?;
                prop_assert_eq!(cursor.position(name), Some(position));
                // A position alone is a cursor, too.
                let alone: Cursor = position.to_string().parse()?;
                prop_assert_eq!(alone.position(name), Some(position));
            }
        }

        #[test]
        fn whatever_comes_is_read_or_refused(text in "[A-Za-z0-9_:-]{0,60}") {
            let _ = text.parse::<Cursor>();
        }
    }
}
