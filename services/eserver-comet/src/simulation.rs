//! Several shards on a turned clock, from a seed: publishers, subscribers that come, go, read too
//! slowly and come back, channels that end, and letters that overtake each other wherever they may.
//!
//! Clients read what is rendered, and nothing else. A model that knows every message checks that
//! each of them sees every channel without a gap and without a repetition, or is told with a reason
//! that is true; that each cursor says where they are; and that nothing is left when all have gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use crate::{
    Access, ChannelCount, ChannelName, ChannelSettings, Cursor, Data, Effects, Epoch, EventKind,
    Hub, Letters, Millis, Outgoing, Override, Policies, Position, Publication, ResetReason, Room,
    Secrets, Sent, Seq, Settings, Shards, SlowPolicy, Start, SubscriberId, Subscription, ToHub,
    ToRoom, Transport, What, render,
};

const SEEDS: u64 = 2_500;
/// What the channels do with slow readers follows from their names.
const CHANNELS: [&str; 7] =
    ["close/1", "close/2", "drop/1", "drop/2", "last/1", "last/2", "close/\"é"];
const CLIENTS: usize = 8;

#[test]
fn everybody_sees_every_message_once_in_order_or_is_told() {
    let seeds = match std::env::var("COMET_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    let mut seen = Seen::default();
    for seed in seeds.clone() {
        let run = std::panic::catch_unwind(|| World::new(seed).run());
        match run {
            Ok(counts) => seen.add(&counts),
            Err(panic) => {
                eprintln!("COMET_SEED={seed} shows it again");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{seen:?}");
    if seeds.end - seeds.start == SEEDS {
        // A simulation in which nothing happens proves nothing.
        for (what, count) in [
            ("messages", seen.messages / 100),
            ("resumptions", seen.resumed / 10),
            ("resets", seen.resets),
            ("skips", seen.skips),
            ("refusals", seen.refusals),
            ("polls", seen.polls / 10),
            ("noops", seen.noops),
            ("closings", seen.closed),
            ("members", seen.members),
        ] {
            assert!(count > 300, "hardly any {what}: {seen:?}");
        }
    }
}

/// What clients were told.
#[derive(Debug, Default)]
struct Seen {
    messages: u64,
    resumed: u64,
    resets: u64,
    skips: u64,
    refusals: u64,
    polls: u64,
    noops: u64,
    closed: u64,
    members: u64,
}

impl Seen {
    fn add(&mut self, other: &Seen) {
        self.messages += other.messages;
        self.resumed += other.resumed;
        self.resets += other.resets;
        self.skips += other.skips;
        self.refusals += other.refusals;
        self.polls += other.polls;
        self.noops += other.noops;
        self.closed += other.closed;
        self.members += other.members;
    }
}

struct World {
    random: fastrand::Rng,
    now: Millis,
    shards: Shards,
    hubs: Vec<Hub>,
    rooms: Vec<Room<usize>>,
    to_hubs: BTreeMap<(u16, u16), VecDeque<ToHub>>,
    to_rooms: BTreeMap<(u16, u16), VecDeque<ToRoom>>,
    clients: Vec<Client>,
    model: Model,
    published: u64,
}

/// All that was published.
struct Model {
    history_messages_max: u64,
    /// The messages of each life, and its channel.
    lives: BTreeMap<u64, (usize, Vec<String>)>,
    /// Lives that were closed or have expired.
    ended: BTreeSet<u64>,
    /// What was told of channels last: exists, is occupied, has this member.
    exists: BTreeSet<usize>,
    occupied: BTreeSet<usize>,
    members: BTreeSet<(usize, String)>,
    seen: Seen,
}

struct Client {
    shard: usize,
    transport: Transport,
    id: Option<SubscriberId>,
    channels: Vec<usize>,
    subject: Option<Arc<str>>,
    is_slow: bool,
    /// Channels that it was told to be closed or full since it subscribed.
    off: BTreeSet<usize>,
    /// Where it is, by channel.
    places: BTreeMap<usize, Position>,
    /// The last cursor it was told.
    cursor: Option<String>,
    /// For icomet's transports: the next seq, the noop counter, and the life the last message was of.
    seq: i32,
    noop: i32,
    life: Option<u64>,
}

fn name(channel: usize) -> ChannelName<'static> {
    ChannelName::new(CHANNELS[channel]).unwrap()
}

fn index(channel: &str) -> usize {
    CHANNELS.iter().position(|name| *name == channel).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let now = Millis::new(random.u64(0..1_000_000));
        let secrets = Secrets::from_seed(seed);
        let count = random.u16(1..4);
        let shards = Shards::new(count, secrets.names());
        let history_messages_max = random.usize(0..7);
        let channel = ChannelSettings {
            history_messages_max,
            idle_s: 3,
            poll_timeout_s: 4,
            subscribers_max: random.u32(2..8),
            announces_members: random.bool(),
            ..ChannelSettings::default()
        };
        let slow = |prefix: &str, slow| Override {
            prefix: prefix.into(),
            channel: ChannelSettings { slow, ..channel },
        };
        let overrides =
            vec![slow("drop/", SlowPolicy::DropOldest), slow("last/", SlowPolicy::Conflate)];
        let absence_grace_s = random.u32(0..3);
        let settings = Settings { channel, overrides, absence_grace_s, ..Settings::default() };
        let policies = Arc::new(Policies::new(settings));
        let channels = ChannelCount::default();
        let hub = |shard| {
            let (policies, secrets) = (Arc::clone(&policies), secrets.clone());
            let mut hub = Hub::new(now, shard, shards, policies, secrets, channels.clone());
            hub.watch_events(true);
            hub
        };
        let hubs = (0..count).map(hub).collect();
        let rooms = (0..count).map(|_| Room::new(now, shards, Arc::clone(&policies))).collect();
        let clients = (0..CLIENTS).map(|_| Client::new(&mut random, count)).collect();
        let model = Model {
            history_messages_max: history_messages_max as u64,
            lives: BTreeMap::new(),
            ended: BTreeSet::new(),
            exists: BTreeSet::new(),
            occupied: BTreeSet::new(),
            members: BTreeSet::new(),
            seen: Seen::default(),
        };
        let (to_hubs, to_rooms) = (BTreeMap::new(), BTreeMap::new());
        World { random, now, shards, hubs, rooms, to_hubs, to_rooms, clients, model, published: 0 }
    }

    fn run(mut self) -> Seen {
        for _ in 0..self.random.usize(50..300) {
            match self.random.u32(0..100) {
                0..25 => self.publish(),
                25..27 => self.broadcast(),
                27..45 => self.come_or_go(),
                45..80 => self.carry_some(),
                80..86 => self.change_pace(),
                86..90 => self.change_channels(),
                90..92 => self.close(),
                92..99 => self.pass(self.random.clone().u64(1..1500)),
                _ => self.pass(self.random.clone().u64(1500..9000)),
            }
            self.random.u8(..);
        }
        self.check_the_end();
        self.model.seen
    }

    fn publish(&mut self) {
        let channel = self.random.usize(0..CHANNELS.len());
        self.published += 1;
        let data = Data::text(&format!("{}\n\"{}", self.published, CHANNELS[channel]));
        let json = data.as_json().to_owned();
        let publication = Publication { data, event: None, idempotency_key: None };
        let owner = self.shards.owner(name(channel));
        let mut effects = Effects::default();
        let hub = &mut self.hubs[usize::from(owner)];
        let published = hub.publish(self.now, name(channel), publication, &mut effects).unwrap();
        self.model.append(channel, published.epoch, published.seq, json);
        self.post(owner, Letters::new(), effects);
    }

    fn broadcast(&mut self) {
        for owner in 0..self.shards.count() {
            self.published += 1;
            let data = Data::text(&self.published.to_string());
            let json = data.as_json().to_owned();
            let mut effects = Effects::default();
            let hub = &mut self.hubs[usize::from(owner)];
            let mut found = Vec::new();
            hub.list("", 0, u32::MAX, &mut found);
            let mut broadcast = Hub::broadcast(self.now, data);
            while !hub.go_on(self.now, &mut broadcast, 100, &mut effects) {}
            assert_eq!(broadcast.reached(), found.len());
            for info in found {
                let Position { epoch, next } = info.position;
                self.model.append(index(&info.name), epoch, next, json.clone());
            }
            self.post(owner, Letters::new(), effects);
        }
    }

    fn come_or_go(&mut self) {
        let at = self.random.usize(0..CLIENTS);
        if self.clients[at].id.is_some() {
            return self.disconnect(at);
        }
        if self.random.u32(0..8) == 0 {
            self.clients[at] = Client::new(&mut self.random, self.shards.count());
        }
        let client = &mut self.clients[at];
        client.shard = usize::from(self.random.u16(0..self.shards.count()));
        let known = client.cursor.as_ref().map(|cursor| cursor.parse::<Cursor>().unwrap());
        let mut channels = Vec::new();
        client.places.retain(|channel, _| client.channels.contains(channel));
        for channel in &client.channels {
            let position = known.as_ref().and_then(|cursor| cursor.position(name(*channel)));
            // Its last cursor is all that a client keeps.
            let start = match position {
                _ if client.transport.is_icomet() => Start::Icomet(client.seq),
                Some(position) => {
                    let place = client.places.entry(*channel).or_insert(position);
                    assert_eq!(*place, position);
                    self.model.seen.resumed += 1;
                    Start::At(position)
                }
                None => {
                    client.places.remove(channel);
                    if self.random.bool() { Start::Now } else { Start::All }
                }
            };
            channels.push((name(*channel), start));
        }
        let subscription = Subscription {
            handle: at,
            transport: client.transport,
            channels: &channels,
            access: Access::Token("".into()),
            noop: client.noop,
            subject: client.subject.clone(),
            ends_at: None,
        };
        let mut letters = Letters::new();
        let room = &mut self.rooms[client.shard];
        client.off.clear();
        client.id = Some(room.subscribe(self.now, subscription, &mut letters).unwrap());
        let shard = client.shard as u16;
        self.post(shard, letters, Effects::default());
    }

    fn disconnect(&mut self, at: usize) {
        let Some(id) = self.clients[at].id.take() else { return };
        let shard = self.clients[at].shard;
        let mut letters = Letters::new();
        self.rooms[shard].unsubscribe(id, &mut letters);
        self.post(shard as u16, letters, Effects::default());
    }

    fn change_pace(&mut self) {
        let at = self.random.usize(0..CLIENTS);
        let is_slow = !self.clients[at].is_slow;
        self.clients[at].is_slow = is_slow;
        if !is_slow {
            self.catch_up(at);
        }
    }

    fn catch_up(&mut self, at: usize) {
        if let Some(id) = self.clients[at].id {
            let shard = self.clients[at].shard;
            let mut letters = Letters::new();
            self.rooms[shard].catch_up(id, &mut letters);
            self.post(shard as u16, letters, Effects::default());
        }
    }

    /// A socket gets a channel more, or gives one up.
    fn change_channels(&mut self) {
        let at = self.random.usize(0..CLIENTS);
        let channel = self.random.usize(0..CHANNELS.len());
        let client = &mut self.clients[at];
        let (Some(id), Transport::Socket) = (client.id, client.transport) else { return };
        let mut letters = Letters::new();
        let room = &mut self.rooms[client.shard];
        let Some(id) = room.expand(self.now, id) else { return };
        client.id = Some(id);
        let has_it = client.channels.contains(&channel);
        if room.remove(id, name(channel), &mut letters) {
            assert!(has_it);
            client.channels.retain(|held| *held != channel);
            client.places.remove(&channel);
        } else if !has_it {
            client.channels.push(channel);
            client.places.remove(&channel);
            let access = Access::Token("".into());
            room.add(id, name(channel), Start::Now, &access, None, &mut letters).unwrap();
        }
        let shard = client.shard as u16;
        self.post(shard, letters, Effects::default());
    }

    fn close(&mut self) {
        let channel = self.random.usize(0..CHANNELS.len());
        let owner = self.shards.owner(name(channel));
        let mut effects = Effects::default();
        let hub = &mut self.hubs[usize::from(owner)];
        if let Some(info) = hub.info(name(channel)) {
            hub.close(name(channel), &mut effects).unwrap();
            self.model.ended.insert(info.position.epoch.get());
        }
        self.post(owner, Letters::new(), effects);
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now = self.now.plus(milliseconds);
        for shard in 0..self.shards.count() {
            let at = usize::from(shard);
            let (mut letters, mut effects) = (Letters::new(), Effects::default());
            let mut before = Vec::new();
            self.hubs[at].list("", 0, u32::MAX, &mut before);
            self.hubs[at].wake(self.now, &mut effects);
            for info in before {
                let ended = self.hubs[at].info(ChannelName::new(&info.name).unwrap()).is_none();
                assert!(!ended || info.subscribers == 0, "a channel with subscribers ended");
                if ended {
                    self.model.ended.insert(info.position.epoch.get());
                }
            }
            let (clients, model) = (&mut self.clients, &mut self.model);
            let mut tell = |outgoing: Outgoing<'_, usize>| hear(clients, model, &outgoing);
            self.rooms[at].wake(self.now, &mut letters, &mut tell);
            self.post(shard, letters, effects);
        }
    }

    fn carry_some(&mut self) {
        for _ in 0..self.random.usize(1..8) {
            self.carry_one();
        }
    }

    /// Carries one letter; between a pair of shards the oldest. False when there is none.
    fn carry_one(&mut self) -> bool {
        self.to_hubs.retain(|_, letters| !letters.is_empty());
        self.to_rooms.retain(|_, letters| !letters.is_empty());
        let pairs = self.to_hubs.len() + self.to_rooms.len();
        if pairs == 0 {
            return false;
        }
        let nth = self.random.usize(0..pairs);
        if let Some((&(from, to), letters)) = self.to_hubs.iter_mut().nth(nth) {
            let letter = letters.pop_front().unwrap();
            let mut effects = Effects::default();
            self.hubs[usize::from(to)].receive(self.now, from, letter, &mut effects);
            self.post(to, Letters::new(), effects);
        } else {
            let nth = nth - self.to_hubs.len();
            let (&(_, to), letters) = self.to_rooms.iter_mut().nth(nth).unwrap();
            let letter = letters.pop_front().unwrap();
            let mut letters = Letters::new();
            let (clients, model) = (&mut self.clients, &mut self.model);
            let mut tell = |outgoing: Outgoing<'_, usize>| hear(clients, model, &outgoing);
            self.rooms[usize::from(to)].receive(self.now, letter, &mut letters, &mut tell);
            self.post(to, letters, Effects::default());
        }
        true
    }

    fn post(&mut self, from: u16, letters: Letters, effects: Effects) {
        for (to, letter) in letters {
            self.to_hubs.entry((from, to)).or_default().push_back(letter);
        }
        for (to, letter) in effects.letters {
            self.to_rooms.entry((from, to)).or_default().push_back(letter);
        }
        for event in effects.events {
            self.model.note(index(&event.channel), event.what);
        }
    }

    fn check_the_end(&mut self) {
        while self.carry_one() {}
        for at in 0..CLIENTS {
            self.clients[at].is_slow = false;
            self.catch_up(at);
        }
        while self.carry_one() {}
        // Everybody is where their channels are.
        let (mut subscribers, mut seats) = (0, 0);
        for client in self.clients.iter().filter(|client| client.id.is_some()) {
            for channel in &client.channels {
                let owner = usize::from(self.shards.owner(name(*channel)));
                let now = self.hubs[owner].info(name(*channel)).map(|info| info.position);
                if client.transport.is_icomet() {
                    // It is not told of what cannot be had.
                    let now = now.unwrap();
                    let kept = self.model.kept_since(now.epoch, CHANNELS[*channel]);
                    let is_there = client.seq == now.next.wrapped();
                    assert!(is_there || (client.seq as u64) < kept);
                } else if let Some(place) = client.places.get(channel)
                    && !client.transport.is_poll()
                    && !client.off.contains(channel)
                {
                    assert_eq!(Some(*place), now, "{} {:?}", CHANNELS[*channel], client.transport);
                }
            }
        }
        for (hub, room) in self.hubs.iter().zip(&self.rooms) {
            let mut found = Vec::new();
            hub.list("", 0, u32::MAX, &mut found);
            let count: u64 = found.iter().map(|info| u64::from(info.subscribers)).sum();
            assert_eq!(count, hub.subscribers());
            subscribers += count;
            seats += room.subscriptions() as u64;
        }
        assert_eq!(subscribers, seats, "hubs and rooms do not agree");
        for at in 0..CLIENTS {
            self.disconnect(at);
        }
        while self.carry_one() {}
        for _ in 0..6 {
            self.pass(3_000);
            while self.carry_one() {}
        }
        assert!(self.hubs.iter().all(Hub::is_empty) && self.rooms.iter().all(Room::is_empty));
        assert!(self.model.exists.is_empty() && self.model.occupied.is_empty());
        assert!(self.model.members.is_empty());
    }
}

impl Client {
    fn new(random: &mut fastrand::Rng, shards: u16) -> Self {
        let transports = [
            Transport::IcometPoll,
            Transport::IcometStream,
            Transport::IcometSse,
            Transport::Poll,
            Transport::Stream,
            Transport::Sse,
            Transport::Socket,
        ];
        let transport = transports[random.usize(0..transports.len())];
        let count = if transport.is_icomet() { 1 } else { random.usize(1..4) };
        let mut channels: Vec<_> = (0..CHANNELS.len()).collect();
        random.shuffle(&mut channels);
        channels.truncate(count);
        let is_somebody = !transport.is_icomet() && random.bool();
        let subject = is_somebody.then(|| Arc::from(["ann", "bob"][random.usize(0..2)]));
        Client {
            shard: usize::from(random.u16(0..shards)),
            transport,
            id: None,
            channels,
            subject,
            is_slow: false,
            off: BTreeSet::new(),
            places: BTreeMap::new(),
            cursor: None,
            seq: 0,
            noop: random.i32(0..1000),
            life: None,
        }
    }
}

/// A client is told something, and reads it.
fn hear(clients: &mut [Client], model: &mut Model, outgoing: &Outgoing<'_, usize>) -> Sent {
    let client = &mut clients[outgoing.handle];
    assert_eq!(client.id, Some(outgoing.id), "who is gone hears nothing");
    assert_eq!(client.transport, outgoing.transport);
    if client.is_slow && !client.transport.is_poll() && !outgoing.ends {
        let is_live = matches!(outgoing.what, What::Message { .. } | What::Member { .. });
        if outgoing.channel.starts_with("close/") && is_live {
            client.id = None;
            return Sent::Gone;
        }
        if matches!(outgoing.what, What::Message { .. } | What::Missed { .. }) {
            return Sent::Later;
        }
    }
    if outgoing.ends {
        client.id = None;
    }
    let mut text = String::new();
    render::write(outgoing, &mut text);
    match client.transport {
        Transport::IcometPoll => {
            model.seen.polls += 1;
            match serde_json::from_str(&text).unwrap() {
                Value::Array(objects) => objects.iter().for_each(|o| client.read_icomet(model, o)),
                object => client.read_icomet(model, &object),
            }
        }
        Transport::IcometStream => {
            assert!(text.is_empty() || text.ends_with('\n'));
            for line in text.lines() {
                client.read_icomet(model, &serde_json::from_str(line).unwrap());
            }
        }
        Transport::IcometSse | Transport::IcometIframe => {
            for event in text.split_terminator("\n\n") {
                let json = event.strip_prefix("data: ").unwrap();
                client.read_icomet(model, &serde_json::from_str(json).unwrap());
            }
        }
        Transport::Poll => {
            model.seen.polls += 1;
            let answer: Value = serde_json::from_str(&text).unwrap();
            let cursor = answer["cursor"].as_str();
            let known = cursor.map(|cursor| cursor.parse::<Cursor>().unwrap());
            for object in answer["messages"].as_array().unwrap() {
                client.read(model, object, known.as_ref());
            }
            if let Some(cursor) = cursor {
                client.keep(cursor, true);
            }
        }
        Transport::Stream | Transport::Socket => {
            // What a socket has missed stands together here; its line makes messages of it.
            let is_socket = client.transport == Transport::Socket;
            assert!(is_socket || text.is_empty() || text.ends_with('\n'));
            for object in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
                let object = object.unwrap();
                let cursor = object["cursor"].as_str();
                let known = cursor.map(|cursor| cursor.parse().unwrap());
                client.read(model, &object, known.as_ref());
                if let Some(cursor) = cursor {
                    client.keep(cursor, false);
                }
            }
        }
        Transport::Sse => {
            for event in text.split_terminator("\n\n") {
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
                };
                let Some(data) = field("data: ") else {
                    assert_eq!(event, ":");
                    model.seen.noops += 1;
                    continue;
                };
                let object: Value = serde_json::from_str(data).unwrap();
                let kind = object["type"].as_str().unwrap();
                assert_eq!(field("event: ").unwrap_or("message"), kind);
                let known = field("id: ").map(|cursor| cursor.parse().unwrap());
                client.read(model, &object, known.as_ref());
                if let Some(cursor) = field("id: ") {
                    client.keep(cursor, false);
                }
            }
        }
    }
    Sent::Yes
}

impl Client {
    fn read(&mut self, model: &mut Model, object: &Value, cursor: Option<&Cursor>) {
        let kind = object["type"].as_str().unwrap();
        if kind == "ping" {
            model.seen.noops += 1;
            return;
        }
        let channel = index(object["channel"].as_str().unwrap());
        assert!(self.channels.contains(&channel));
        let at = cursor.and_then(|cursor| cursor.position(name(channel)));
        let offset = object["offset"].as_u64();
        let place = self.places.get(&channel).copied();
        match kind {
            "subscribed" => {
                let at = at.unwrap();
                assert_eq!(offset, Some(at.next.get() - 1));
                assert!(place.is_none_or(|place| place == at), "{place:?} {at:?}");
                self.places.insert(channel, at);
            }
            "message" | "broadcast" => {
                model.seen.messages += 1;
                let seq = Seq::new(offset.unwrap());
                let data = serde_json::to_string(&object["data"]).unwrap();
                let life = model.life_of(channel, seq, &data);
                // A poll whose channel was closed behind its messages has no cursor for it.
                let epoch = place.or(at).map_or(Epoch::new(life), |place| place.epoch);
                assert_eq!(epoch.get(), life);
                let place = place.unwrap_or(Position { epoch, next: seq });
                assert_eq!(place.next, seq, "a gap, or a repetition");
                self.places.insert(channel, Position { epoch, next: seq.next() });
            }
            "skipped" => {
                model.seen.skips += 1;
                let place = self.places.get_mut(&channel).unwrap();
                let count = object["count"].as_u64().unwrap();
                assert!(count > 0);
                place.next = Seq::new(place.next.get() + count);
            }
            "reset" => {
                model.seen.resets += 1;
                let place = place.expect("only who was somewhere can be reset");
                let reason = object["reason"].as_str().unwrap();
                let has_ended = model.ended.contains(&place.epoch.get());
                let kept = model.kept_since(place.epoch, CHANNELS[channel]);
                if reason == ResetReason::HistoryTrimmed.as_str() {
                    assert!(place.next.get() < kept, "{place:?} can be had");
                } else {
                    assert!(has_ended && reason != ResetReason::NeverWas.as_str(), "{reason}");
                }
                // A poll may have gathered more behind it; its cursor is that of the end, and has no
                // place for a channel that was closed there.
                self.places.remove(&channel);
                if let Some(at) = at {
                    let next = Seq::new(offset.unwrap()).next();
                    assert!(self.transport == Transport::Poll || at.next == next);
                    self.places.insert(channel, Position { next, ..at });
                }
            }
            "closed" => {
                model.seen.closed += 1;
                let place = self.places.get(&channel);
                assert!(place.is_none_or(|place| model.ended.contains(&place.epoch.get())));
                self.off.insert(channel);
                if self.transport == Transport::Socket {
                    self.channels.retain(|held| *held != channel);
                    self.places.remove(&channel);
                }
            }
            "error" => {
                model.seen.refusals += 1;
                assert_eq!(object["code"], "subscribers_full");
                self.off.insert(channel);
                if self.transport == Transport::Socket {
                    self.channels.retain(|held| *held != channel);
                    self.places.remove(&channel);
                }
            }
            "join" | "leave" => {
                model.seen.members += 1;
                assert!(["ann", "bob"].contains(&object["subject"].as_str().unwrap()));
            }
            _ => panic!("{object}"),
        }
    }

    /// A cursor says where the client is, in all of its channels.
    fn keep(&mut self, text: &str, is_first: bool) {
        let cursor: Cursor = text.parse().unwrap();
        for channel in &self.channels {
            let Some(position) = cursor.position(name(*channel)) else { continue };
            if matches!(cursor, Cursor::One(_)) {
                assert_eq!(self.channels.len(), 1);
            }
            match self.places.get(channel) {
                Some(place) => assert_eq!(*place, position, "{}", CHANNELS[*channel]),
                // A poll's first cursor is where it begins.
                None if is_first => _ = self.places.insert(*channel, position),
                None => {}
            }
        }
        self.cursor = Some(text.into());
    }

    fn read_icomet(&mut self, model: &mut Model, object: &Value) {
        let keys: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["type", "cname", "seq", "content"]);
        let channel = index(object["cname"].as_str().unwrap());
        assert_eq!(self.channels, [channel]);
        let seq = i32::try_from(object["seq"].as_i64().unwrap()).unwrap();
        match object["type"].as_str().unwrap() {
            "next_seq" => self.seq = seq,
            "noop" => {
                model.seen.noops += 1;
                assert_eq!(seq, self.noop);
                self.noop += i32::from(!self.transport.is_poll());
            }
            "data" | "broadcast" => {
                model.seen.messages += 1;
                let content = serde_json::to_string(&object["content"]).unwrap();
                let life = model.life_of(channel, Seq::new(u64::try_from(seq).unwrap()), &content);
                let before = self.life.replace(life);
                if before.is_none_or(|before| before == life) && seq != self.seq {
                    let kept = model.kept_since(Epoch::new(life), CHANNELS[channel]);
                    let is_trimmed = i64::from(self.seq) < kept as i64;
                    let may_skip = !CHANNELS[channel].starts_with("close/");
                    let is_new = before.is_none();
                    assert!(
                        seq > self.seq && (is_trimmed || may_skip) || is_new,
                        "{seq} came instead of {}",
                        self.seq
                    );
                }
                if let Some(before) = before.filter(|before| *before != life) {
                    assert!(model.ended.contains(&before), "it went to another life and back");
                }
                self.seq = seq + 1;
            }
            "close" => {
                model.seen.closed += 1;
                self.seq = 0;
                self.life = None;
            }
            "429" => {
                model.seen.refusals += 1;
                assert_eq!((seq, &object["content"]), (0, &"Too many subscribers".into()));
            }
            _ => panic!("{object}"),
        }
    }
}

impl Model {
    fn append(&mut self, channel: usize, epoch: Epoch, seq: Seq, json: String) {
        let (of, messages) = self.lives.entry(epoch.get()).or_insert_with(|| (channel, Vec::new()));
        messages.push(json);
        assert_eq!((*of, messages.len() as u64), (channel, seq.get()));
        assert!(!self.ended.contains(&epoch.get()), "a life has come back");
    }

    /// The life in which this was published.
    fn life_of(&self, channel: usize, seq: Seq, json: &str) -> u64 {
        let mut lives = self.lives.iter();
        let is_it = |(of, messages): &(usize, Vec<String>)| {
            let message = messages.get(usize::try_from(seq.get()).unwrap() - 1);
            *of == channel && message.is_some_and(|message| message == json)
        };
        *lives.find(|(_, life)| is_it(life)).expect("nobody published that").0
    }

    /// The number of the oldest message of a life that its history has.
    fn kept_since(&self, epoch: Epoch, channel: &str) -> u64 {
        let count = self.lives.get(&epoch.get()).map_or(0, |(_, messages)| messages.len() as u64);
        let kept = self.history_messages_max.max(u64::from(channel.starts_with("last/")));
        (count + 1).saturating_sub(kept).max(1)
    }

    /// What is told of channels alternates.
    fn note(&mut self, channel: usize, what: EventKind) {
        let is_news = match what {
            EventKind::StillThere => unreachable!("hubs do not say so"),
            EventKind::Created => self.exists.insert(channel),
            EventKind::Removed => self.exists.remove(&channel),
            EventKind::Occupied => self.occupied.insert(channel),
            EventKind::Vacated => self.occupied.remove(&channel),
            EventKind::MemberJoined(subject) => self.members.insert((channel, subject.to_string())),
            EventKind::MemberLeft(subject) => self.members.remove(&(channel, subject.to_string())),
        };
        assert!(is_news);
    }
}
