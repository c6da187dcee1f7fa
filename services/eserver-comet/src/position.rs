//! [`Position`]: how far somebody has come in a channel. [`Epoch`] says in which life of it.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The number of a message in its channel's life: 1, 2, 3 and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(u64);

impl Seq {
    /// The first message of a life.
    pub const FIRST: Self = Seq(1);

    /// The message of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Seq(number)
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Seq(self.0.saturating_add(1))
    }

    /// The one so many before it, not before the first.
    #[must_use]
    pub(crate) fn back(self, count: u64) -> Self {
        Seq(self.0.saturating_sub(count).max(1))
    }

    /// As clients of icomet see it: 32 bits, signed, wrapping around.
    #[must_use]
    pub const fn wrapped(self) -> i32 {
        self.0 as u32 as i32
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

/// One life of a channel, from its making to its end: no two of any process are the same, as far as
/// chance can promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Epoch(number)
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x}", self.0)
    }
}

/// A place between two messages, written `EPOCH:OFFSET`: the life in hexadecimal and the number of
/// the last message that was seen, 0 before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The life.
    pub epoch: Epoch,
    /// The message that comes next.
    pub next: Seq,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.epoch, self.next.0 - 1)
    }
}

/// The text is not a position, or not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("that is no cursor that this server has given")]
pub struct BadCursor;

impl FromStr for Position {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let (epoch, offset) = text.split_once(':').ok_or(BadCursor)?;
        // What Rust reads as a number may have a plus sign, which this has not.
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_plain(epoch) || !is_plain(offset) {
            return Err(BadCursor);
        }
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| BadCursor)?;
        let offset = offset.parse::<u64>().map_err(|_| BadCursor)?;
        Ok(Position { epoch: Epoch(epoch), next: Seq(offset).next() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_written() {
        for (epoch, next) in [(0, 1), (u64::MAX, 43), (0xabc, u64::MAX)] {
            let position = Position { epoch: Epoch(epoch), next: Seq(next) };
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        assert_eq!(Position { epoch: Epoch(255), next: Seq(8) }.to_string(), "ff:7");
        for bad in ["", ":", "1:", ":1", "+1:1", "1:+1", "1:-1", "1", "g:1", "1:a", "1:1:1", " 1:1"]
        {
            assert_eq!(bad.parse::<Position>(), Err(BadCursor), "{bad}");
        }
    }
}
