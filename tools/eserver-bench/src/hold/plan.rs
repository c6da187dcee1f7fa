//! [`HoldPlan`]: what is to be held, how fast it comes, and what is said to it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::hold::profile::Profile;
use crate::hold::report::PhaseKind;

/// Messages that a channel can be sent in one phase: each is a bit in a connection's record, and
/// two more bits are for the message to one channel and for the broadcast.
pub const MESSAGES_MAX: u32 = 60;

/// The most connections that one run opens.
pub const CONNECTIONS_MAX: usize = 4_000_000;

/// A run: open, look, publish, count, close.
#[derive(Debug, Clone)]
pub struct HoldPlan {
    /// Where subscribers connect.
    pub front: SocketAddr,
    /// Where messages are published; none if nothing is to be.
    pub admin: Option<SocketAddr>,
    /// What the server speaks.
    pub profile: Profile,
    /// Connections, at most [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// Channels they are spread over, each connection on one; 0 means one for each.
    pub channels: usize,
    /// What the names of channels begin with; a number follows.
    pub prefix: String,
    /// Connections begun in a second; none means as fast as the server takes them.
    pub ramp_per_s: Option<f64>,
    /// Connections that may be opening at the same time. More than the server's backlog, and the
    /// kernel drops some, which come again a second later.
    pub opening_max: usize,
    /// Numbers of connections at which memory is looked at; those above
    /// [`connections`](Self::connections) are left out, and that number itself is added.
    pub steps: Vec<usize>,
    /// How long the server is left alone at each step while its idle CPU time is measured, and how
    /// long it may take to give its memory back.
    pub settle: Duration,
    /// How long all are kept before anything is published.
    pub hold: Duration,
    /// Messages for each channel, 1 to [`MESSAGES_MAX`].
    pub messages: u32,
    /// What is published, in this order; a broadcast is left out where there is none.
    pub phases: Vec<PhaseKind>,
    /// The least length of a message's content, in bytes.
    pub content_bytes: usize,
    /// Connections to the admin port.
    pub publishers: usize,
    /// Requests that a publisher sends before it reads their answers.
    pub pipeline: usize,
    /// How often everybody comes, is published to, and leaves.
    pub rounds: u32,
    /// How long nothing may happen before it is taken that nothing will: no connection opens, no
    /// message arrives, no publication is answered.
    pub timeout: Duration,
    /// How long a thread rests after it has taken what was there, as a network card does that
    /// coalesces interrupts; arrivals are late by as much. While it rests the server need not wake
    /// it: on one machine the kernel does that in the sender's time, across a network it would not.
    pub coalesce: Duration,
    /// How long the server may take to give back what it had for everybody, once all have left. What
    /// a channel has, say, may be kept for a while longer than who was on it.
    pub memory_timeout: Duration,
    /// The server's process; none means the one that listens at [`front`](Self::front), if it can
    /// be found.
    pub server_pid: Option<u32>,
    /// The most descriptors that a thread's table may hold; none means as many as the system lets.
    pub descriptors_max: Option<u64>,
    /// Whether the server may be on another machine. Load without a bound to it belongs on one's
    /// own.
    pub allow_remote: bool,
}

impl HoldPlan {
    /// A plan with nothing unusual: every connection on a channel of its own, one message each.
    #[must_use]
    pub fn new(front: SocketAddr, admin: Option<SocketAddr>, connections: usize) -> Self {
        Self {
            front,
            admin,
            profile: Profile::default(),
            connections,
            channels: 0,
            prefix: "c".to_owned(),
            ramp_per_s: None,
            opening_max: 100,
            steps: vec![0, 100_000, 200_000, 500_000, 1_000_000],
            settle: Duration::from_secs(3),
            hold: Duration::ZERO,
            messages: 1,
            phases: vec![PhaseKind::OneChannel, PhaseKind::EachChannel, PhaseKind::Broadcast],
            content_bytes: 60,
            publishers: 2,
            pipeline: 32,
            rounds: 1,
            timeout: Duration::from_secs(10),
            coalesce: Duration::ZERO,
            memory_timeout: Duration::from_secs(60),
            server_pid: None,
            descriptors_max: None,
            allow_remote: false,
        }
    }

    /// The messages that one connection may be sent in a round.
    pub(crate) fn messages_in_a_round(&self) -> u32 {
        let of = |phase: &PhaseKind| match phase {
            PhaseKind::EachChannel => self.messages,
            PhaseKind::OneChannel | PhaseKind::Broadcast => 1,
        };
        self.phases.iter().map(of).fold(0, u32::saturating_add)
    }

    /// How many channels there are.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        if self.channels == 0 { self.connections } else { self.channels.min(self.connections) }
    }

    /// The steps in force, in order: without those above the whole, and with the whole.
    #[must_use]
    pub fn steps_in_force(&self) -> Vec<usize> {
        let within = |step: &usize| *step <= self.connections;
        let mut steps: Vec<usize> = self.steps.iter().copied().filter(within).collect();
        steps.extend([0, self.connections]);
        steps.sort_unstable();
        steps.dedup();
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_end_with_the_whole_and_begin_with_nothing() {
        let mut plan = HoldPlan::new("127.0.0.1:1".parse().unwrap(), None, 150_000);
        assert_eq!(plan.steps_in_force(), [0, 100_000, 150_000]);
        plan.steps = vec![];
        assert_eq!(plan.steps_in_force(), [0, 150_000]);
    }

    #[test]
    fn channels_are_one_each_or_as_many_as_asked_for() {
        let mut plan = HoldPlan::new("127.0.0.1:1".parse().unwrap(), None, 10);
        assert_eq!(plan.channel_count(), 10);
        plan.channels = 3;
        assert_eq!(plan.channel_count(), 3);
        plan.channels = 30;
        assert_eq!(plan.channel_count(), 10);
    }
}
