//! What publishing, delivering and subscribing cost, sockets and threads apart.
//!
//! `cargo run --release -p eserver-comet --example speed`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use eserver_comet::render::Rendered;
use eserver_comet::{
    Access, ChannelCount, ChannelName, Data, Effects, Grant, Hub, Letters, Millis, Policies,
    Publication, Room, Secrets, Sent, Settings, Shards, Start, SubscriberId, Subscription,
    Transport,
};

const ROUNDS: usize = 1_000_000;
/// As large as what a connection needs to know of an answer that is to come.
type Handle = [u32; 5];

struct Shard {
    now: Millis,
    hub: Hub,
    room: Room<Handle>,
    letters: Letters,
    effects: Effects,
    rendered: Rendered,
    sent_bytes: usize,
}

fn main() {
    let mut shard = Shard::new();
    report("publish, nobody listens", ROUNDS, || shard.publish("quiet"));

    let mut shard = Shard::new();
    for _ in 0..10_000 {
        shard.subscribe("crowd", Transport::Sse, Start::Now);
    }
    let deliveries = 300 * 10_000;
    report("deliver to one of 10,000 streams", deliveries, || shard.publish("crowd"));

    for channels in [1_000, 100_000] {
        let mut shard = Shard::new();
        let names: Vec<String> = (0..channels).map(|at| format!("channel-{at:06}")).collect();
        for name in &names {
            shard.subscribe(name, Transport::IcometPoll, Start::Icomet(1));
        }
        let mut seqs = vec![1; names.len()];
        let mut at = 0;
        report(&format!("publish, deliver, poll again: {channels} channels"), ROUNDS / 2, || {
            at = (at + 48_611) % names.len();
            shard.publish(&names[at]);
            seqs[at] += 1;
            shard.subscribe(&names[at], Transport::IcometPoll, Start::Icomet(seqs[at]));
        });
    }

    let mut shard = Shard::new();
    report("subscribe and unsubscribe", ROUNDS / 2, || {
        let id = shard.subscribe("other", Transport::Sse, Start::Now);
        shard.unsubscribe(id);
    });

    let secrets = Secrets::from_seed(1);
    let channels = vec!["news".into()];
    let token = Grant { channels, subscribe: true, ..Grant::default() }.sign(&secrets);
    report("verify a token", ROUNDS / 10, || {
        black_box(Grant::verify(&token, &secrets, 0).is_ok());
    });
}

fn report(what: &str, count: usize, mut work: impl FnMut()) {
    let calls = if what.starts_with("deliver") { count / 10_000 } else { count };
    let start = Instant::now();
    for _ in 0..calls {
        work();
    }
    println!("{:7.1} ns  {what}", start.elapsed().as_nanos() as f64 / count as f64);
}

impl Shard {
    fn new() -> Self {
        let now = Millis::new(0);
        let secrets = Secrets::from_seed(1);
        let shards = Shards::new(1, secrets.names());
        let policies = Arc::new(Policies::new(Settings::default()));
        let count = ChannelCount::default();
        Shard {
            now,
            hub: Hub::new(now, 0, shards, Arc::clone(&policies), secrets, count),
            room: Room::new(now, shards, policies),
            letters: Letters::new(),
            effects: Effects::default(),
            rendered: Rendered::default(),
            sent_bytes: 0,
        }
    }

    fn publish(&mut self, channel: &str) {
        let data = Data::text("thirty-two bytes of a message...");
        let publication = Publication { data, event: None, idempotency_key: None };
        let channel = ChannelName::new(channel).expect("a short name");
        let published = self.hub.publish(self.now, channel, publication, &mut self.effects);
        published.expect("there is room for channels");
        self.carry();
    }

    fn subscribe(&mut self, channel: &str, transport: Transport, start: Start) -> SubscriberId {
        let subscription = Subscription {
            handle: Handle::default(),
            transport,
            channels: &[(ChannelName::new(channel).expect("a short name"), start)],
            access: Access::Token("".into()),
            noop: 0,
            subject: None,
            ends_at: None,
        };
        let id = self.room.subscribe(self.now, subscription, &mut self.letters);
        self.carry();
        id.expect("it has one channel")
    }

    fn unsubscribe(&mut self, id: SubscriberId) {
        self.room.unsubscribe(id, &mut self.letters);
        self.carry();
    }

    fn carry(&mut self) {
        let Shard { now, hub, room, letters, effects, rendered, sent_bytes } = self;
        while !(letters.is_empty() && effects.letters.is_empty()) {
            for (_, letter) in letters.drain(..) {
                hub.receive(*now, 0, letter, effects);
            }
            for (_, letter) in effects.letters.drain(..) {
                room.receive(*now, letter, letters, &mut |outgoing| {
                    *sent_bytes += rendered.of(&outgoing).len();
                    Sent::Yes
                });
            }
        }
    }
}
