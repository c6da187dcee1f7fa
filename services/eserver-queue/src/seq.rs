//! `Seq`, the number a message keeps for life.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// The number of a message in its queue.
///
/// The first message of a queue is number 1, each put takes the next one, and no number is given
/// out twice as long as what was acknowledged survives: the counter goes on across restarts. It is
/// the order of the queue, the id that clients acknowledge by, and what a placeholder becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// The number of a queue's first message.
    pub const FIRST: Self = Self(1);

    /// The message with this number, whether or not there ever was one.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number that the put after this one takes.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for Seq {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}
