//! [`Publication`]: what is published, so that whoever receives it knows what, for whom and since
//! when.

use std::fmt::Write;

/// A message of one run, as its content says it: `hRUN.ORDINAL.CHANNEL.MICROSECONDS.` and filling.
///
/// Nothing in it needs an escape in JSON, in a URL or in a header, so that it arrives as it left
/// through any protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Publication {
    /// Tells the messages of this run from what the server still knew.
    pub(crate) run: u32,
    /// Which message of the round it is, from 1 up to 62: a bit in a connection's record.
    pub(crate) ordinal: u8,
    /// The channel it was published to; none if to all.
    pub(crate) channel: Option<u32>,
    /// When it was published, in microseconds since the run began.
    pub(crate) published_us: u64,
}

impl Publication {
    /// Appends the content, filled up to `bytes_min`.
    pub(crate) fn encode(&self, bytes_min: usize, out: &mut String) {
        let start = out.len();
        let Self { run, ordinal, published_us, .. } = self;
        let channel = self.channel.map_or(-1, i64::from);
        write!(out, "h{run:x}.{ordinal}.{channel}.{published_us}.")
            .expect("a string takes whatever is written");
        while out.len() < start + bytes_min {
            out.push('x');
        }
    }

    /// What `content` says, or `None` if it is nobody's publication.
    pub(crate) fn decode(content: &str) -> Option<Self> {
        let mut parts = content.strip_prefix('h')?.splitn(5, '.');
        let run = u32::from_str_radix(parts.next()?, 16).ok()?;
        let ordinal = parts.next()?.parse().ok().filter(|ordinal| (1..64).contains(ordinal))?;
        let channel: i64 = parts.next()?.parse().ok()?;
        let channel = if channel == -1 { None } else { Some(u32::try_from(channel).ok()?) };
        let published_us = parts.next()?.parse().ok()?;
        let filling = parts.next()?;
        filling.bytes().all(|byte| byte == b'x').then_some(())?;
        Some(Self { run, ordinal, channel, published_us })
    }

    /// Its bit in a record of what has arrived.
    pub(crate) fn bit(&self) -> u64 {
        1 << self.ordinal
    }
}

/// Whom a publication is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Everybody on one channel.
    Channel(u32),
    /// Everybody.
    All,
}

/// What was published in a round, by ordinal from 1 on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Published(Vec<Audience>);

impl Published {
    /// Notes one more and returns its ordinal.
    pub(crate) fn add(&mut self, audience: Audience) -> u8 {
        self.0.push(audience);
        u8::try_from(self.0.len()).expect("a round's messages are fewer than the bits of a record")
    }

    /// What a connection on `channel` must have received, as bits.
    pub(crate) fn due(&self, channel: u32) -> u64 {
        let is_due = |audience: &Audience| {
            matches!(audience, Audience::All) || *audience == Audience::Channel(channel)
        };
        (1..)
            .zip(&self.0)
            .filter(|(_, audience)| is_due(audience))
            .fold(0, |bits, (bit, _)| bits | 1 << bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for channel in [None, Some(0), Some(u32::MAX)] {
            let publication =
                Publication { run: 0xbeef, ordinal: 62, channel, published_us: 1 << 50 };
            for bytes_min in [0, 60, 300] {
                let mut content = "kept".to_owned();
                publication.encode(bytes_min, &mut content);
                assert!(content.len() >= 4 + bytes_min);
                assert_eq!(Publication::decode(&content[4..]), Some(publication));
            }
        }
    }

    #[test]
    fn other_texts_are_nobodys() {
        for text in [
            "",
            "h",
            "hello",
            "h1.1.1",
            "h1.1.1.1",
            "h1.0.1.1.",
            "h1.64.1.1.",
            "h1.1.-2.1.",
            "h1.1.1.1.xy",
        ] {
            assert_eq!(Publication::decode(text), None, "{text}");
        }
    }

    #[test]
    fn each_channel_is_due_what_was_published_to_it_or_to_all() {
        let mut published = Published::default();
        assert_eq!(published.due(7), 0);
        assert_eq!(published.add(Audience::Channel(7)), 1);
        assert_eq!(published.add(Audience::All), 2);
        assert_eq!((published.due(7), published.due(8)), (0b110, 0b100));
    }
}
