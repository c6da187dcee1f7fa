//! [`Transport`]: how a subscriber is told.

/// How a subscriber is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Transport {
    /// icomet's `/sub` and `/poll`: one answer.
    IcometPoll,
    /// icomet's `/stream`: a JSON object a line.
    IcometStream,
    /// icomet's `/sse`.
    IcometSse,
    /// icomet's `/iframe`: a script element a message.
    IcometIframe,
    /// `/v1/poll`: one answer with a cursor.
    Poll,
    /// `/v1/stream`: a JSON object a line.
    Stream,
    /// `/v1/events`: server-sent events with ids.
    Sse,
    /// `/v1/socket`: a JSON object a WebSocket message. Its subscriber may be on no channel.
    Socket,
}

impl Transport {
    /// How many there are.
    pub(crate) const COUNT: usize = 8;

    /// Whether its clients speak icomet's dialect.
    #[must_use]
    pub const fn is_icomet(self) -> bool {
        matches!(
            self,
            Transport::IcometPoll
                | Transport::IcometStream
                | Transport::IcometSse
                | Transport::IcometIframe
        )
    }

    /// Whether it ends with the first thing that is told.
    #[must_use]
    pub const fn is_poll(self) -> bool {
        matches!(self, Transport::IcometPoll | Transport::Poll)
    }
}
