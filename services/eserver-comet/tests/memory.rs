//! What a waiting poll on a channel of its own costs, as the system sees it. The only test of its
//! process, since others would be counted, too.

use std::fs;
use std::sync::Arc;

use eserver_comet::{
    Access, ChannelCount, ChannelName, Effects, Hub, Millis, Policies, Room, Secrets, Sent,
    Settings, Shards, Start, Subscription, Transport,
};

const CHANNELS: usize = 100_000;
/// Of hub and room together, beyond the name of the channel, the handle included.
const BYTES_MAX: f64 = 160.0;
/// As large as what a connection needs to know of an answer that is to come.
type Handle = [u32; 5];

#[test]
fn a_waiting_poll_is_cheap_and_crowds_that_come_and_go_cost_nothing_more() {
    let start = Millis::new(0);
    let secrets = Secrets::from_seed(1);
    let shards = Shards::new(1, secrets.names());
    let policies = Arc::new(Policies::new(Settings::default()));
    let count = ChannelCount::default();
    let hub = Hub::new(start, 0, shards, Arc::clone(&policies), secrets, count);
    let room = Room::<Handle>::new(start, shards, policies);
    let mut shard =
        Shard { now: start, hub, room, letters: Vec::new(), effects: Effects::default() };
    // Touched beforehand: the names of subscribers are not counted.
    let mut ids = vec![eserver_comet::SubscriberId::new(0); CHANNELS];
    ids.clear();
    let mut crowds = Vec::new();
    let before = resident_bytes();
    for _ in 0..4 {
        let name_bytes: usize = (0..CHANNELS).map(|at| shard.enter(at, &mut ids)).sum();
        assert_eq!(shard.hub.subscribers(), CHANNELS as u64);
        assert_eq!(shard.room.subscriptions(), CHANNELS);
        let waiting = resident_bytes() - before - name_bytes as f64;
        crowds.push(waiting / CHANNELS as f64);
        shard.empty(&mut ids);
    }
    println!("{crowds:.1?} bytes beyond the name for a waiting poll on a channel of its own");
    assert!(crowds[0] <= BYTES_MAX, "{crowds:.1?} bytes each");
    assert!(crowds[3] <= crowds[0] * 1.1, "{crowds:.1?} bytes each: it grows");
}

struct Shard {
    now: Millis,
    hub: Hub,
    room: Room<Handle>,
    letters: eserver_comet::Letters,
    effects: Effects,
}

impl Shard {
    /// Has a poll wait on a channel of its own; how long the channel's name is.
    fn enter(&mut self, at: usize, ids: &mut Vec<eserver_comet::SubscriberId>) -> usize {
        let name = format!("channel-{at:06}");
        let channel = ChannelName::new(&name).expect("a short name");
        let subscription = Subscription {
            handle: Handle::default(),
            transport: Transport::IcometPoll,
            channels: &[(channel, Start::Icomet(1))],
            access: Access::Token("".into()),
            noop: 0,
            subject: None,
            ends_at: None,
        };
        let id = self.room.subscribe(self.now, subscription, &mut self.letters);
        ids.push(id.expect("it has one channel"));
        self.carry();
        name.len()
    }

    /// Ends all polls, and waits until their channels have ended.
    fn empty(&mut self, ids: &mut Vec<eserver_comet::SubscriberId>) {
        for id in ids.drain(..) {
            self.room.unsubscribe(id, &mut self.letters);
            self.carry();
        }
        while let Some(deadline) = self.hub.next_deadline() {
            self.now = self.now.max(deadline);
            self.hub.wake(self.now, &mut self.effects);
        }
        assert_eq!(self.hub.channels(), 0);
        assert_eq!((self.room.subscriptions(), self.room.channels()), (0, 0));
    }

    fn carry(&mut self) {
        for (_, letter) in self.letters.drain(..) {
            self.hub.receive(self.now, 0, letter, &mut self.effects);
        }
        for (_, letter) in self.effects.letters.drain(..) {
            self.room.receive(self.now, letter, &mut self.letters, &mut |_| Sent::Yes);
        }
    }
}

fn resident_bytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("since 4.5");
    let kilobytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok());
    kilobytes.expect("a number") * 1024.0
}
