//! [`SlowPolicy`]: what becomes of a subscriber that reads more slowly than it is sent to.

/// The choice, per channel. It is about what is published; what is told again of before, for who comes
/// (back), goes at the pace of the reader ([`pace`](SlowPolicy::pace)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowPolicy {
    /// It is told why and disconnected; what it missed it gets when it comes back.
    #[default]
    Disconnect,
    /// It misses messages until it reads again, and is then given those that the history still has.
    DropOldest,
    /// It misses messages until it reads again, and is then given the newest.
    Conflate,
}

/// What to do with a message for a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Yes,
    /// Not this one and none of the channel's until [`Room::catch_up`](crate::Room::catch_up). For
    /// messages only: anything else is not told again.
    Later,
    /// It cannot be: the connection ends, and the subscriber is gone.
    Gone,
}

impl SlowPolicy {
    /// Decides for a message while `waiting_bytes` of earlier ones have not left.
    #[must_use]
    pub fn decide(self, waiting_bytes: usize, outbox_bytes_max: usize) -> Sent {
        match self {
            _ if waiting_bytes < outbox_bytes_max => Sent::Yes,
            SlowPolicy::Disconnect => Sent::Gone,
            SlowPolicy::DropOldest | SlowPolicy::Conflate => Sent::Later,
        }
    }

    /// Decides for messages of before, whatever the policy: who was closed for them would come back
    /// to the same ones.
    #[must_use]
    pub fn pace(waiting_bytes: usize, outbox_bytes_max: usize) -> Sent {
        if waiting_bytes < outbox_bytes_max { Sent::Yes } else { Sent::Later }
    }

    /// Whether a subscriber that was sent nothing for a while has read enough to catch up.
    #[must_use]
    pub fn may_catch_up(waiting_bytes: usize, outbox_bytes_max: usize) -> bool {
        waiting_bytes <= outbox_bytes_max / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_sent_while_there_is_room() {
        use SlowPolicy::{Conflate, Disconnect, DropOldest};
        for (policy, waiting_bytes, sent) in [
            (Disconnect, 0, Sent::Yes),
            (Disconnect, 99, Sent::Yes),
            (Disconnect, 100, Sent::Gone),
            (DropOldest, 99, Sent::Yes),
            (DropOldest, 100, Sent::Later),
            (Conflate, 1000, Sent::Later),
        ] {
            assert_eq!(policy.decide(waiting_bytes, 100), sent, "{policy:?} {waiting_bytes}");
        }
        assert_eq!(SlowPolicy::pace(99, 100), Sent::Yes);
        assert_eq!(SlowPolicy::pace(100, 100), Sent::Later);
        assert!(SlowPolicy::may_catch_up(50, 100) && !SlowPolicy::may_catch_up(51, 100));
    }
}
