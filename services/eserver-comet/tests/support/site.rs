//! [`Site`]: a comet server on free ports of this machine.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use eserver::{AllowList, Limits, Running, Server};
use eserver_comet::{Comet, Settings};

use super::client::{Client, Response, Subscriber};
use super::{PATIENCE, encoded, get};

/// A server and how it is reached.
pub struct Site {
    pub running: Running,
    pub comet: Comet,
    pub front: SocketAddr,
    pub admin: SocketAddr,
    pub shards: usize,
}

/// Does this to a server of one shard, and to one of three, whose letters travel.
pub fn everywhere(settings: &Settings, check: impl Fn(Site) + Sync) {
    thread::scope(|scope| {
        for shards in [1, 3] {
            let check = &check;
            // The name of the thread stands in what a failure prints.
            let thread = thread::Builder::new().name(format!("{shards} shards"));
            let work = move || check(Site::start(shards, settings));
            thread.spawn_scoped(scope, work).unwrap();
        }
    });
}

/// Waits until something is so.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        thread::sleep(Duration::from_millis(1));
    }
}

impl Site {
    pub fn start(shards: usize, settings: &Settings) -> Self {
        Self::start_with(shards, settings, Limits::default())
    }

    pub fn start_with(shards: usize, settings: &Settings, limits: Limits) -> Self {
        let comet = Comet::new(settings.clone(), None).unwrap();
        let running = Server::new()
            .shards(shards)
            .limits(limits)
            .listen("127.0.0.1:0", AllowList::loopback(), comet.front())
            .and_then(|server| server.listen("127.0.0.1:0", AllowList::loopback(), comet.admin()))
            .unwrap()
            .start()
            .unwrap();
        let addresses: Vec<_> = running.addresses().collect();
        Site { running, comet, front: addresses[0], admin: addresses[1], shards }
    }

    /// A connection to the public port.
    pub fn front(&self) -> Client {
        Client::connect(self.front)
    }

    /// A connection to the application's port.
    pub fn admin(&self) -> Client {
        Client::connect(self.admin)
    }

    /// Listens by a request to the public port. Its head has come, no more.
    #[track_caller]
    pub fn listen(&self, target: &str) -> Subscriber {
        let mut client = self.front();
        client.send(get(target));
        client.listen()
    }

    /// Listens, and is on its channel.
    #[track_caller]
    pub fn attend(&self, path: &str, channel: &str, seq: i64) -> Subscriber {
        let before = self.subscribers(channel);
        let subscriber = self.listen(&format!("{path}?cname={}&seq={seq}", encoded(channel)));
        self.wait_for_subscribers(channel, before + 1);
        subscriber
    }

    /// The body of the answer of a poll.
    #[track_caller]
    pub fn poll(&self, query: &str) -> String {
        let Response { head, body } = self.front().get(&format!("/sub?{query}"));
        assert_eq!(head.status, 200, "{body}");
        body
    }

    /// The body of a good answer of the application's port.
    #[track_caller]
    pub fn tell(&self, target: &str) -> String {
        let Response { head, body } = self.admin().get(target);
        assert_eq!(head.status, 200, "{target}: {body}");
        body
    }

    #[track_caller]
    pub fn push(&self, channel: &str, content: &str) {
        let target = format!("/push?cname={}&content={}", encoded(channel), encoded(content));
        assert_eq!(self.tell(&target), "{\"type\":\"ok\"}\n");
    }

    /// How many listen to a channel.
    #[track_caller]
    pub fn subscribers(&self, channel: &str) -> u64 {
        number_of("subscribers", &self.tell(&format!("/info?cname={}", encoded(channel))))
    }

    /// How many channels and subscriptions there are.
    #[track_caller]
    pub fn totals(&self) -> (u64, u64) {
        let info = self.tell("/info");
        (number_of("channels", &info), number_of("subscribers", &info))
    }

    #[track_caller]
    pub fn wait_for_subscribers(&self, channel: &str, count: u64) {
        eventually("that many listen", || self.subscribers(channel) == count);
    }

    /// Whether there is such a channel.
    #[track_caller]
    pub fn exists(&self, channel: &str) -> bool {
        self.tell(&format!("/check?cname={}", encoded(channel))) != "{}\n"
    }
}

fn number_of(key: &str, json: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    value[key].as_u64().unwrap_or_else(|| panic!("{key} in {json}"))
}
