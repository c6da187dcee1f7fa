//! [`Millis`], the only clock of channels: the one they are told. Deadlines are kept in [`Tick`]s.

/// Milliseconds on a clock that never runs backwards, such as since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(u64);

/// A count of [`TICK_MS`]; wraps after 34 years.
pub(crate) type Tick = u32;

/// How finely deadlines are kept, in milliseconds: they come up to this much late, never early.
pub(crate) const TICK_MS: u64 = 256;

impl Millis {
    /// This many milliseconds after the clock's start.
    #[must_use]
    pub const fn new(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// The plain number of milliseconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The instant `milliseconds` later; the end of time rather than an overflow.
    #[must_use]
    pub const fn plus(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// The instant so many seconds later.
    #[must_use]
    pub const fn plus_s(self, seconds: u32) -> Self {
        self.plus(seconds as u64 * 1000)
    }

    /// The last tick that has come.
    pub(crate) fn tick(self) -> Tick {
        (self.0 / TICK_MS) as Tick
    }

    /// The first tick at which this instant has come.
    pub(crate) fn tick_after(self) -> Tick {
        Tick::try_from(self.0.div_ceil(TICK_MS)).unwrap_or(Tick::MAX - 1).min(Tick::MAX - 1)
    }

    /// When a tick comes.
    pub(crate) fn of_tick(tick: Tick) -> Self {
        Self(u64::from(tick) * TICK_MS)
    }
}
